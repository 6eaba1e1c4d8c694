"""Several associations at one node: each image once, whatever the node makes of them."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lab.association
import pytest
from lab import crowded_archive, receiving
from lab.association import Association
from lab.counting_proxy import AssociationCounts, CountingProxy
from lab.crowded_archive import Crowded, Manner
from lab.leaks import nothing_left
from lab.lies import Kind, Lie, Part, Site, holdings
from lab.orders import shelf
from lab.peers import wait_until
from lab.samples import ROOT, ct, instance

from adit_engine.bounded_stream import Stop
from adit_engine.cli.main import main
from adit_engine.dicom_ul import association, kept_association
from adit_engine.errors import AditError, InvalidInput, Stopped
from adit_engine.messages import Message
from adit_engine.nodes.base import StoreResult, TrafficObserver
from adit_engine.nodes.diagnostics import parallel_probe
from adit_engine.nodes.dimse import parallel_retrieve
from adit_engine.nodes.dimse.association_limits import AssociationLimits
from adit_engine.nodes.dimse.c_get import RetrieveRequest
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import Completeness, SeriesLedger, SeriesOutcome, SourceListing
from adit_engine.values.query import Query
from adit_engine.values.references import SeriesRef, StudyRef

COUNT = 60
STUDY, SERIES = StudyRef(f"{ROOT}.1"), SeriesRef(f"{ROOT}.1", f"{ROOT}.1.1")
ORDER = StudyRequest(STUDY, "PID-4711-0815")


def images(series: str = "1", count: int = COUNT) -> list[Instance]:
    return [instance(ct(number, series=series)) for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return shelf(tmp_path_factory.mktemp("held") / "held", images() + images("2"))


def archive(held: Any, manner: Manner, folder: Path, limit: int = 8, **more: Any) -> Crowded:
    peers = more.pop("peers", {})
    return Crowded(Site("PACS", held, peers), manner, limit, scratch=folder, **more)


def node(peer: Crowded, received: Any = None, **settings: Any) -> DimseNode:
    values: dict[str, Any] = {"retrieve_associations": 4, "store_associations": 4}
    times = dict.fromkeys(("connect_s", "association_s", "first_byte_s", "no_progress_s"), 60.0)
    values |= {"retrieve": "get", "drain_s": 0.5, **times, **settings}
    values.setdefault("port", peer.port)
    made = DimseSettings("PACS", "127.0.0.1", **values)
    return DimseNode("Archive", made, received)


def transferred(source: DimseNode, stop: Stop | None = None) -> tuple[list[SeriesOutcome], Any]:
    destination = MemoryNode("Memory", MemorySettings())
    destination.held.clear()
    told = list(transfer(ORDER, source, destination, AsIs(), {}, stop or Stop()))
    return [one for one in told if isinstance(one, SeriesOutcome)], destination


def assert_all_arrived(outcomes: list[SeriesOutcome], destination: Any) -> None:
    assert [one.completeness for one in outcomes] == [Completeness.COMPLETE] * 2
    assert [one.delivered for one in outcomes] == [COUNT] * 2
    assert len(destination.held) == 2 * COUNT


# Fetching ---------------------------------------------------------------------------------------


def test_the_images_of_a_series_are_shared_out_and_each_is_sent_once(
    held: Any, tmp_path: Path
) -> None:
    with archive(held, Manner.SERVE, tmp_path) as peer, nothing_left(), closing(node(peer)) as one:
        assert_all_arrived(*transferred(one))

    assert peer.most == 4
    assert set(Counter(sent.instance_uid for sent in peer.log.sent).values()) == {1}
    assert one.learned.retrieve.most is None
    assert one.learned.retrieve.is_proven


SHORT, MANY = 12, 20


LONG_S = 0.03
"""The archive's time for an image, which exceeds by far what a busy machine adds to it."""


@pytest.mark.parametrize(
    ("manner", "limit", "image_s", "learned"),
    [(Manner.SERVE, 8, LONG_S, None), (Manner.LOCK, 1, 0.005, 1)],
)
def test_the_pace_of_associations_is_compared_across_short_series(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manner: Manner,
    limit: int,
    image_s: float,
    learned: int | None,
) -> None:
    monkeypatch.setattr(crowded_archive, "IMAGE_S", image_s)
    monkeypatch.setattr(kept_association, "KEPT_S", 60.0)
    series = [images(str(number), SHORT) for number in range(1, MANY + 1)]
    held = shelf(tmp_path / "held", [one for each in series for one in each])
    with archive(held, manner, tmp_path, limit) as peer, closing(node(peer)) as one:
        outcomes, destination = transferred(one)

    assert [outcome.delivered for outcome in outcomes] == [SHORT] * MANY
    assert len(destination.held) == SHORT * MANY
    assert set(Counter(sent.instance_uid for sent in peer.log.sent).values()) == {1}
    assert one.learned.retrieve.most == learned
    assert one.learned.retrieve.is_proven is (learned is None)


def test_the_first_short_series_is_requested_whole_and_the_next_one_is_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = images("1", 8) + images("2", 8)
    held, used = shelf(tmp_path / "held", short), []

    def await_others() -> None:
        if len(peer.log.sent) >= 10:
            wait_until(lambda: peer.most == 4, "four associations are open")

    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        monkeypatch.setattr(peer, "_take_time", await_others)
        list(one.find(Query.series_of(STUDY)))
        for series in ("1", "2"):
            ref = SeriesRef(STUDY.study_uid, f"{STUDY.study_uid}.{series}")
            list(one.find(Query.instances_of(ref)))
            wait_until(lambda: peer.is_idle, "the archive has noticed the end")
            peer.most = 0
            assert len(list(one.fetch([ref]))) == 8
            used.append(peer.most)

    assert used == [1, 4]


def test_a_series_of_larger_images_is_not_mistaken_for_slower_associations() -> None:
    found = []
    for size_bytes, seconds in ((50, 0.1), (1, 0.01), (1, 0.002)):
        learned = AssociationLimits().retrieve
        learned.pace.add(1, 8 * 0.005, 8, 8)
        learned.pace.add(4, 40 * seconds, 40, 40 * size_bytes)
        found.append((learned.compare_pace(), learned.is_proven, learned.most))
        assert learned.single_images_left == (0 if learned.is_proven else 8)

    assert found == [(False, False, None), (True, False, 1), (False, True, None)]


class Countless(Crowded):
    """Does not say how many images a series has, which is optional."""

    def cut_list(self, level: Any, found: Any) -> Any:
        found = super().cut_list(level, found)
        for values in found:
            values.pop("NumberOfSeriesRelatedInstances", None)
        return found


@pytest.mark.parametrize("kind", [Crowded, Countless])
def test_no_image_is_missing_where_the_archive_lists_only_some_of_them(
    held: Any, tmp_path: Path, kind: type[Crowded]
) -> None:
    lies = [Lie(Kind.CAP, at=40, times=99, on=Part.FIND)]
    site = Site("PACS", held, {})
    with kind(site, Manner.SERVE, 8, lies, scratch=tmp_path) as peer, closing(node(peer)) as one:
        _, destination = transferred(one)

    assert len(destination.held) == 2 * COUNT


@pytest.mark.parametrize("method", ["get", "move"])
def test_the_series_of_a_study_are_fetched_over_the_same_associations(
    held: Any, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_association, "KEPT_S", 60.0)
    counts = AssociationCounts()
    with receiving.receiving(tmp_path) as received:
        route = {"ADIT": ("127.0.0.1", received.port)}
        with (
            archive(held, Manner.SERVE, tmp_path, peers=route) as peer,
            CountingProxy(peer.port, counts) as proxy,
            closing(node(peer, received.reception, port=proxy.port, retrieve=method)) as one,
        ):
            assert_all_arrived(*transferred(one))
            wait_until(lambda: counts.open == 0, "all associations were released")

    # One for the search before the first series, then four for images and lists.
    assert (len(counts.spans), counts.most) == (5, 4)
    assert set(Counter(sent.instance_uid for sent in peer.log.sent).values()) == {1}


@pytest.mark.parametrize(
    ("manner", "limit", "learned", "reason"),
    [
        (Manner.REJECT, 1, 1, "association-limit.busy"),
        (Manner.LOCK, 1, 1, "association-limit.slower"),
        (Manner.DIE, 1, 1, "association-limit.lost"),
        (Manner.MIX, 8, 1, "association-limit.mixed"),
        (Manner.WHOLE, 8, 1, "association-limit.mixed"),
    ],
)
def test_an_archive_that_copes_badly_with_several_associations_gets_fewer(
    held: Any, tmp_path: Path, manner: Manner, limit: int, learned: int, reason: str
) -> None:
    with archive(held, manner, tmp_path, limit) as peer, closing(node(peer)) as one:
        with nothing_left():
            assert_all_arrived(*transferred(one))
        assert one.learned.retrieve.most == learned
        assert one.learned.retrieve.reason == Message(reason)

        peer.most = 0
        assert_all_arrived(*transferred(one))
        assert peer.most <= max(learned, 1)


def test_associations_that_wait_for_the_first_one_cost_no_time(held: Any, tmp_path: Path) -> None:
    with archive(held, Manner.QUEUE, tmp_path, 1) as peer, closing(node(peer)) as one:
        began = time.monotonic()
        assert_all_arrived(*transferred(one))

    assert time.monotonic() - began < 30
    assert peer.most == 1


def test_an_archive_that_sends_nothing_is_not_asked_for_every_block(
    held: Any, tmp_path: Path
) -> None:
    lies = [Lie(Kind.NOTHING, times=99, on=Part.GET)]
    with archive(held, Manner.SERVE, tmp_path, lies=lies) as peer, closing(node(peer)) as one:
        outcomes, _ = transferred(one)

    assert [outcome.failed for outcome in outcomes] == [COUNT] * 2
    assert peer.log.lies[Kind.NOTHING] < COUNT
    assert one.learned.retrieve.is_suspended
    assert one.learned.retrieve.most is None, "it may be a passing fault"


def test_a_stop_ends_all_associations_at_once(held: Any, tmp_path: Path) -> None:
    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        stop = Stop()
        stop.add_callback(one.abort)
        threading.Timer(0.15, stop.set, (Message("node.stopped", node="Archive"),)).start()
        began = time.monotonic()
        with nothing_left(), pytest.raises(Stopped):
            transferred(one, stop)

    assert time.monotonic() - began < 30
    assert one.learned.retrieve.most is None


@pytest.mark.parametrize("direction", ["retrieve", "store"])
def test_a_node_that_becomes_slow_goes_on_with_one_association(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    held = shelf(tmp_path / "held", images())
    monkeypatch.setattr(parallel_retrieve, "MIN_BLOCK", 1)
    monkeypatch.setattr(parallel_retrieve, "MAX_BLOCK", 2)
    open_associations: list[int] = []

    def become_slow() -> None:
        open_associations.append(peer._present)
        if len(open_associations) == COUNT // 3:
            getattr(one.learned, direction).is_slow = True
        time.sleep(0.01)

    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        monkeypatch.setattr(peer, "_take_time", become_slow)
        if direction == "retrieve":
            list(one.find(Query.series_of(STUDY)))
            list(one.find(Query.instances_of(SERIES)))
            assert len(list(one.fetch([SERIES]))) == COUNT
        else:
            assert len(list(one.store(images("3")))) == COUNT

    copies = peer.log.sent if direction == "retrieve" else peer.log.stored
    assert set(Counter(one.instance_uid for one in copies).values()) == {1}
    assert max(open_associations) > 1
    assert set(open_associations[-5:]) == {1}


def test_a_fetch_that_is_left_early_ends_its_associations(held: Any, tmp_path: Path) -> None:
    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        transferred(one)
        with nothing_left():
            fetched = one.fetch([SERIES])
            for _ in range(20):
                next(fetched)
            fetched.close()  # type: ignore[attr-defined]
        assert len(list(one.fetch([SERIES]))) == COUNT


def test_an_archive_that_ends_in_the_middle_of_a_fetch_keeps_its_associations(
    held: Any, tmp_path: Path
) -> None:
    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        list(one.find(Query.series_of(STUDY)))
        list(one.find(Query.instances_of(SERIES)))
        fetched = one.fetch([SERIES])
        for _ in range(40):
            next(fetched)
        assert peer.most == 4
        for connection in tuple(peer._open):
            connection.shutdown(socket.SHUT_RDWR)
        assert len(list(fetched)) == COUNT - 40

    assert one.learned.retrieve.most is None


def test_only_what_an_earlier_attempt_has_not_delivered_is_fetched(
    held: Any, tmp_path: Path
) -> None:
    destination = MemoryNode("Memory", MemorySettings())
    destination.held.clear()
    ledgers: dict[str, SeriesLedger] = {}
    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        told = transfer(ORDER, one, destination, AsIs(), {}, Stop())
        for number, event in enumerate(told):
            if isinstance(event, SourceListing):
                ledgers[event.ref.series_uid] = SeriesLedger(event.ref, event.expected)
            elif not isinstance(event, SeriesOutcome):
                ledgers[event.ref.series_uid].add(event)
            if number > COUNT + 80:
                break
        told.close()  # type: ignore[attr-defined]
        done = sum(len(ledger.delivered_entries()) for ledger in ledgers.values())
        wait_until(lambda: peer.is_idle, "the archive has noticed the end")
        peer.log.sent.clear()
        list(transfer(ORDER, one, destination, AsIs(), ledgers, Stop()))

    assert 0 < done < 2 * COUNT
    assert len(peer.log.sent) == 2 * COUNT - done
    assert len(destination.held) == 2 * COUNT


@pytest.mark.parametrize("sends_move_originator", [True, False])
def test_parallel_moves_bring_each_image_once(
    held: Any, tmp_path: Path, sends_move_originator: bool
) -> None:
    with receiving.receiving(tmp_path) as received:
        peers = {"ADIT": ("127.0.0.1", received.port)}
        with (
            archive(
                held,
                Manner.SERVE,
                tmp_path,
                peers=peers,
                sends_move_originator=sends_move_originator,
            ) as peer,
            nothing_left(),
            closing(node(peer, received.reception, retrieve="move")) as one,
        ):
            assert_all_arrived(*transferred(one))
        assert received.spool.tokens() == []

    # The archive may still count an association that has just ended.
    assert peer.most == 4 if sends_move_originator else peer.most <= 2
    assert set(Counter(sent.instance_uid for sent in peer.log.sent).values()) == {1}


class Answers(TrafficObserver):
    """Keeps the times until first images."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def retrieval_answered(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.mark.parametrize("method", ["get", "move"])
@pytest.mark.parametrize("associations", [1, 4])
def test_the_time_until_the_first_image_is_reported_once_per_fetch(
    held: Any, tmp_path: Path, method: str, associations: int
) -> None:
    answers = Answers()
    with receiving.receiving(tmp_path) as received:
        peers = {"ADIT": ("127.0.0.1", received.port)}
        with archive(held, Manner.SERVE, tmp_path, peers=peers) as peer:
            settings = node(
                peer, received.reception, retrieve=method, retrieve_associations=associations
            ).settings
            one = DimseNode("Archive", settings, received.reception, observer=answers)
            with closing(one):
                list(one.find(Query.instances_of(SERIES)))
                peer.first_s = 0.3
                assert len(list(one.fetch([SERIES]))) == COUNT
                list(one.fetch([SERIES]))
                assert one.measure_echo() > 0

    assert len(answers.seconds) == 2
    assert answers.seconds[0] >= 0.3


def test_our_own_rate_limit_is_not_taken_for_a_slow_archive(tmp_path: Path) -> None:
    held = shelf(tmp_path / "held", [instance(ct(1, PixelData=bytes(500_000)))])
    answers = Answers()
    with receiving.receiving(tmp_path) as received:
        peers = {"ADIT": ("127.0.0.1", received.port)}
        with archive(held, Manner.SERVE, tmp_path, peers=peers) as peer:
            settings = node(peer, received.reception, retrieve="move").settings
            one = DimseNode("Archive", settings, received.reception, observer=answers)
            one.rate_limiter.rate_bytes_s = 200_000
            with closing(one):
                began = time.monotonic()
                assert len(list(one.fetch([SERIES]))) == 1
                fetch_s = time.monotonic() - began

    assert sum(answers.seconds) < fetch_s - 2


def test_an_archive_that_is_slower_than_usual_gets_one_association_for_a_while(
    held: Any, tmp_path: Path
) -> None:
    used = []
    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        list(one.find(Query.series_of(STUDY)))
        list(one.find(Query.instances_of(SERIES)))
        for peer.first_s in (0, 0, 0, 1.5, 0):
            wait_until(lambda: peer.is_idle, "the archive has noticed the end")
            peer.most = 0
            assert len(list(one.fetch([SERIES]))) == COUNT
            used.append(peer.most)

    assert used == [4, 4, 4, 1, 4]
    assert one.learned.retrieve.most is None


class Stuck:
    """A retrieval that sends one image and then ignores the request to stop."""

    uids = tuple(f"{ROOT}.1.1.{number}" for number in range(1, COUNT + 1))

    def __init__(self, going_on: threading.Event) -> None:
        self.going_on = going_on
        self.is_aborted = False

    def known_images(self, _request: Any) -> Any:
        return self.uids, frozenset({"1.2.840.10008.5.1.4.1.1.2"})

    def block_images(self, blocks: Iterator[Any], *_more: Any) -> Iterator[Instance]:
        next(blocks)
        yield images(count=1)[0]
        self.going_on.wait()

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.is_aborted = True


def test_an_association_that_does_not_end_is_aborted_and_delays_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel_retrieve, "ENDS_WITHIN_S", 0.2)
    going_on = threading.Event()
    made: list[Stuck] = []

    def make() -> Any:
        made.append(Stuck(going_on))
        return made[-1]

    fetching = parallel_retrieve.ParallelRetrieval(make, 2, AssociationLimits().retrieve)
    fetched = fetching.images([RetrieveRequest(STUDY.study_uid, SERIES.series_uid)])
    next(fetched)
    try:
        fetched.close()  # type: ignore[attr-defined]
        assert [one.is_aborted for one in made[1:]] == [True]
    finally:
        going_on.set()


# Sending ----------------------------------------------------------------------------------------


def stored(
    peer: Crowded, count: int = COUNT, **settings: Any
) -> tuple[list[StoreResult], DimseNode]:
    with closing(node(peer, **settings)) as one:
        return list(one.store(images(count=count))), one


def assert_stored_once(results: Iterable[StoreResult], peer: Crowded) -> None:
    uids = [one.instance_uid for one in images()]
    assert [one.ref.instance_uid for one in results if one.is_stored] == uids
    assert {sent.instance_uid for sent in peer.log.stored} == set(uids)


@pytest.fixture
def empty(tmp_path: Path) -> Any:
    (tmp_path / "kept").mkdir()
    return holdings(tmp_path / "kept")


def test_one_stream_is_stored_over_four_associations_in_order(empty: Any, tmp_path: Path) -> None:
    with archive(empty, Manner.SERVE, tmp_path) as peer, nothing_left():
        results, one = stored(peer)

    assert_stored_once(results, peer)
    assert peer.most == 4
    assert len(peer.log.stored) == COUNT
    assert one.learned.store.most is None


@pytest.mark.parametrize(
    ("manner", "limit", "learned", "reason"),
    [
        (Manner.REJECT, 1, 1, "association-limit.busy"),
        (Manner.REJECT, 2, 2, "association-limit.busy"),
        (Manner.LOCK, 1, 1, "association-limit.slower"),
    ],
)
def test_a_destination_that_copes_badly_with_several_associations_gets_fewer(
    empty: Any, tmp_path: Path, manner: Manner, limit: int, learned: int, reason: str
) -> None:
    with archive(empty, manner, tmp_path, limit) as peer, nothing_left():
        results, one = stored(peer)

    assert_stored_once(results, peer)
    assert one.learned.store.most == learned
    assert one.learned.store.reason == Message(reason)


def test_a_destination_that_drops_all_associations_at_the_second_gets_every_image(
    empty: Any, tmp_path: Path
) -> None:
    with archive(empty, Manner.DIE, tmp_path, 1) as peer, nothing_left():
        results, one = stored(peer)

    assert_stored_once(results, peer)
    assert one.learned.store.most == 1


class Selective(Crowded):
    """Accepts no images over any association but the first."""

    accepted = 0

    def _choose(self, proposal: Any) -> Any:
        self.accepted += 1
        chosen = super()._choose(proposal)
        return chosen if self.accepted == 1 else dict.fromkeys(chosen, 3)


def test_an_association_over_which_no_images_are_accepted_is_not_used(
    empty: Any, tmp_path: Path
) -> None:
    site = Site("PACS", empty, {})
    with Selective(site, Manner.SERVE, scratch=tmp_path) as peer, nothing_left():
        results, one = stored(peer)

    assert peer.accepted > 1
    assert_stored_once(results, peer)
    assert one.learned.store.most == 1


class SilentAfterFirst(Crowded):
    """Responds to the association only that stored the first image."""

    first: Association | None = None

    def _store(self, association: Association, message: Any) -> None:
        self.first = self.first or association
        if association is not self.first:
            self._ending.wait()
        super()._store(association, message)


def test_the_first_association_takes_over_from_one_that_does_not_respond(
    empty: Any, tmp_path: Path
) -> None:
    site = Site("PACS", empty, {})
    with SilentAfterFirst(site, Manner.SERVE, scratch=tmp_path) as peer:
        results, one = stored(peer, no_progress_s=1.0)

    assert_stored_once(results, peer)
    assert one.learned.store.most == 1


def test_a_limit_that_is_lowered_while_images_are_sent_loses_none(
    empty: Any, tmp_path: Path
) -> None:
    def mixed(peer: Crowded) -> Iterator[Instance]:
        yield from images(count=COUNT // 2)
        peer._limit = 1
        for number in range(COUNT // 2, COUNT):
            yield instance(ct(number + 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))

    with archive(empty, Manner.REJECT, tmp_path) as peer, closing(node(peer)) as one:
        results = list(one.store(mixed(peer)))

    assert_stored_once(results, peer)
    assert one.learned.store.most == 1


def test_several_series_are_stored_over_the_same_associations(
    empty: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_association, "KEPT_S", 60.0)
    counts = AssociationCounts()
    with (
        archive(empty, Manner.SERVE, tmp_path) as peer,
        CountingProxy(peer.port, counts) as proxy,
        closing(node(peer, port=proxy.port)) as one,
    ):
        with one.share_association():
            for series in ("1", "2", "3"):
                sent = [instance(ct(number, series=series)) for number in _numbers(series)]
                assert all(result.is_stored for result in one.store(sent))
                assert counts.open == 4
        wait_until(lambda: counts.open == 0, "all associations were released")

    assert (len(counts.spans), counts.most) == (4, 4)
    assert len(peer.log.stored) == 3 * COUNT


def test_the_pace_of_sending_is_compared_across_short_series(
    empty: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowded_archive, "IMAGE_S", LONG_S)
    monkeypatch.setattr(kept_association, "KEPT_S", 60.0)
    with (
        archive(empty, Manner.SERVE, tmp_path) as peer,
        closing(node(peer)) as one,
        one.share_association(),
    ):
        for series in range(MANY):
            sent = [instance(ct(100 * series + number)) for number in range(SHORT)]
            assert all(result.is_stored for result in one.store(sent))

    assert len(peer.log.stored) == SHORT * MANY
    assert one.learned.store.is_proven


def _numbers(series: str) -> range:
    return range(100 * int(series), 100 * int(series) + COUNT)


def test_kept_associations_are_released_together(
    empty: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_requested = threading.Barrier(4)
    answer = lab.association._write_pdu

    def answer_together(connection: Any, kind: int, body: bytes) -> None:
        if kind == lab.association._RELEASE_RP:
            all_requested.wait(60)
        answer(connection, kind, body)

    monkeypatch.setattr(kept_association, "KEPT_S", 60.0)
    monkeypatch.setattr(association, "RELEASE_S", 60.0)
    monkeypatch.setattr(lab.association, "_write_pdu", answer_together)
    with (
        archive(empty, Manner.SERVE, tmp_path) as peer,
        closing(node(peer)) as one,
        one.share_association(),
    ):
        list(one.store(images()))
        assert peer.most == 4

    assert not all_requested.broken


@pytest.mark.parametrize("count", [1, 4])
def test_a_proof_between_two_images_needs_no_association_of_its_own(
    empty: Any, tmp_path: Path, count: int
) -> None:
    counts, proven, results = AssociationCounts(), list[str](), list[StoreResult]()
    with archive(empty, Manner.SERVE, tmp_path) as peer, CountingProxy(peer.port, counts) as proxy:
        settings = {"port": proxy.port, "store_associations": count}
        with closing(node(peer, **settings)) as one:
            for number, result in enumerate(one.store(images())):
                results.append(result)
                if number == COUNT // 2:
                    proven += [str(uid) for uid in one.confirm(results)]

    assert set(proven) == {one.ref.instance_uid for one in results[: COUNT // 2 + 1]}
    assert_stored_once(results, peer)
    assert counts.most == count


def test_a_failing_source_gets_a_result_for_each_image_sent(empty: Any, tmp_path: Path) -> None:
    def broken() -> Iterator[Instance]:
        yield from images()
        raise InvalidInput("cli.folder-without-path")

    results: list[StoreResult] = []
    with (
        archive(empty, Manner.SERVE, tmp_path) as peer,
        closing(node(peer)) as one,
        pytest.raises(AditError),
    ):
        results.extend(one.store(broken()))

    assert_stored_once(results, peer)


def test_a_slow_destination_is_not_mistaken_for_a_slow_source(held: Any, tmp_path: Path) -> None:
    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        transferred(one)
        one.learned = AssociationLimits()
        for _ in one.fetch([SERIES]):
            time.sleep(0.015)

    assert one.learned.retrieve.most is None


@pytest.mark.parametrize("setting", ["retrieve_associations", "store_associations"])
@pytest.mark.parametrize("count", [0, 9])
def test_one_to_eight_associations_can_be_set(setting: str, count: int) -> None:
    with pytest.raises(InvalidInput, match="enter a number from 1 to 8"):
        DimseSettings("PACS", "127.0.0.1", 104, **{setting: count})  # type: ignore[arg-type]


# Measuring --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manner", "most", "proposed", "code"),
    [
        (Manner.SERVE, 4, 4, "test.connections"),
        (Manner.LOCK, 4, 1, "test.connections"),
        (Manner.SERVE, 1, None, "test.connections-not-free"),
        (Manner.REJECT, 4, None, "test.connections"),
    ],
)
def test_the_test_proposes_the_number_of_connections_that_was_faster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manner: Manner,
    most: int,
    proposed: int | None,
    code: str,
) -> None:
    monkeypatch.setattr(crowded_archive, "IMAGE_S", 0.04 if manner is Manner.SERVE else 0.005)
    long = shelf(tmp_path / "long", images(count=3 * parallel_probe.IMAGES_EACH) + images("2", 3))
    limit = 8 if manner is Manner.SERVE else 1
    with archive(long, manner, tmp_path, limit) as peer, closing(node(peer)) as one:
        image = images("2", 1)[0].in_header.ref
        (finding,) = one.measure_fetching(image, most=most, within_s=20)

    assert finding.what.code == code
    assert peer.most <= most
    if proposed is not None:
        assert [one.value for one in finding.proposals] == [proposed]
    assert one.learned.retrieve.most is None, "a measurement is a proposal only"


def test_a_short_series_is_not_measured(held: Any, tmp_path: Path) -> None:
    with archive(held, Manner.SERVE, tmp_path) as peer, closing(node(peer)) as one:
        (finding,) = one.measure_fetching(images()[0].in_header.ref, most=4, within_s=20)

    assert finding.what == Message("test.connections-few-images", images=96)
    assert peer.log.sent == []


@pytest.mark.parametrize(
    ("limit", "proposed", "codes"),
    [
        (8, 4, ["test.sending-connections"]),
        (0, None, ["test.sending-connections-failed"]),
    ],
)
def test_sending_is_measured_with_the_same_artificial_images_each_time(
    empty: Any, tmp_path: Path, limit: int, proposed: int | None, codes: list[str]
) -> None:
    with archive(empty, Manner.REJECT, tmp_path, limit) as peer, closing(node(peer)) as one:
        findings = list(one.measure_storing(most=4, within_s=60))
        first = {sent.instance_uid for sent in peer.log.stored}
        if limit:
            list(one.measure_storing(most=4, within_s=60))

    assert [finding.what.code for finding in findings] == codes
    assert {sent.instance_uid for sent in peer.log.stored} == first
    assert len(first) == (3 * parallel_probe.IMAGES_EACH if limit else 0)
    assert {one.setting for finding in findings for one in finding.proposals} == (
        {"store_associations"} if proposed else set()
    )
    assert peer.most <= 4


# The command line -------------------------------------------------------------------------------


def test_the_command_line_fetches_and_sends_over_the_associations_of_its_urls(
    held: Any,
    empty: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with (
        archive(held, Manner.SERVE, tmp_path) as source,
        archive(empty, Manner.SERVE, tmp_path) as keeper,
    ):
        places = [
            *("--from", f"dimse://PACS@127.0.0.1:{source.port}?retrieve_associations=4"),
            *("--to", f"dimse://PACS@127.0.0.1:{keeper.port}?store_associations=3"),
        ]
        code = main(["transfer", *places, "--study", STUDY.study_uid, "--as-is", "--json"])
        told = json.loads(capsys.readouterr().out)
        wrong = main(["transfer", *(one.replace("=4", "=9") for one in places), "--all", "--as-is"])

    assert (code, told["delivered"], told["failed"]) == (0, 2 * COUNT, 0)
    assert (source.most, keeper.most) == (4, 3)
    assert wrong == 64
    assert "Connections for fetching: enter a number from 1 to 8" in capsys.readouterr().err
