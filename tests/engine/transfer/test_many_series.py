"""Many short series use few associations, never more at once than the nodes allow."""

import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from lab import peers, receiving
from lab.archive import Lying
from lab.association import Association, Ended, Message
from lab.counting_proxy import AssociationCounts, CountingProxy
from lab.lies import Site, holdings
from lab.samples import ROOT, ct, file_bytes, instance
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_ul import association, kept_association
from adit_engine.dicom_ul.association import OpenAssociations
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.errors import ConnectionLost, Stopped
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dimse.association_probe import MR_IMAGE
from adit_engine.nodes.dimse.c_find import STUDY_ROOT
from adit_engine.nodes.dimse.c_get import UNCOMPRESSED
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.outcome import Completeness, SeriesOutcome
from adit_engine.values.query import Query
from adit_engine.values.references import SeriesRef, StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

SERIES = 6
STORE_RESPONSE = 0x8001
FIND, FIND_RESPONSE = 0x0020, 0x8020
PENDING = 0xFF00


def outcomes(
    source: DimseNode, destination: DimseNode | MemoryNode, patient_id: str
) -> list[Completeness]:
    order = StudyRequest(StudyRef(f"{ROOT}.1"), patient_id)
    told = transfer(order, source, destination, AsIs(), {}, Stop())
    return [one.completeness for one in told if isinstance(one, SeriesOutcome)]


@pytest.mark.parametrize(
    ("proof", "most"), [("find", 1), ("find", 2), ("none", 2), ("commitment", 1)]
)
def test_series_share_associations_within_the_limit(
    orthancs: tuple[peers.Orthanc, peers.Orthanc], most: int, proof: str
) -> None:
    one, two = orthancs
    sent = [
        instance(ct(n, series=str(s), **({"SOPClassUID": MR_IMAGE} if s == 4 else {})))
        for s in range(1, SERIES + 1)
        for n in range(20 * s, 20 * s + 3)
    ]
    assert all(stored.is_stored for stored in one.node().store(sent))
    at_source, at_destination = AssociationCounts(), AssociationCounts()
    with (
        CountingProxy(one.port, at_source) as near,
        CountingProxy(two.port, at_destination) as far,
        closing(peers.node(near.port, one.called, retrieve_associations=most)) as source,
        closing(
            peers.node(far.port, two.called, store_associations=most, proof=proof, commitment_s=0.3)
        ) as destination,
    ):
        done = outcomes(source, destination, str(ct().PatientID))

        assert done == [Completeness.COMPLETE] * SERIES
        assert two.count() == len(sent)
        assert (at_source.open, at_destination.open) == (0, 0)
        # A search, and the retrievals with what was known of the study by then: a CT series
        # first, and later one of another SOP class.
        assert len(at_source.spans) == 3
        if proof != "commitment":
            # The series of another SOP class needs an association of its own.
            assert len(at_destination.spans) == 3
        assert at_source.most <= most
        assert at_destination.most == 1


class Faulty(Lying):
    """Fails at its second retrieval, or after the first."""

    fault = ""
    retrievals = 0

    def _retrieve(self, association: Association, message: Message) -> None:
        self.retrievals += 1
        if self.retrievals == 2 and self.fault == "drops the request":
            raise Ended("dropped")
        if self.retrievals == 2 and self.fault == "never answers":
            self._ending.wait()
            raise Ended("over")
        super()._retrieve(association, message)
        if self.retrievals == 1 and self.fault == "closes the idle association":
            raise Ended("closed")

    def _send(self, *arguments: Any) -> bool:
        if self.retrievals == 2 and self.fault == "drops it after an image" and self.log.sent[3:]:
            raise Ended("dropped")
        return super()._send(*arguments)


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    with receiving.receiving(tmp_path) as one:
        yield one
        assert one.spool.tokens() == []


@pytest.mark.parametrize("method", ["get", "move"])
@pytest.mark.parametrize(
    ("fault", "opened"),
    [
        ("", 2),
        ("closes the idle association", 4),
        ("drops the request", 3),
        ("never answers", None),
        ("drops it after an image", None),
    ],
)
def test_retrievals_over_a_kept_association_lose_and_double_nothing_when_it_fails(
    tmp_path: Path, received: receiving.Received, method: str, fault: str, opened: int | None
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    for series in (1, 2, 3):
        for number in (1, 2, 3):
            image = ct(10 * series + number, series=str(series))
            (held / f"{series}-{number}.dcm").write_bytes(file_bytes(image))
    site = Site("PACS", holdings(held), {"ADIT": ("127.0.0.1", received.port)})
    counts, destination = AssociationCounts(), MemoryNode("there", MemorySettings())
    with Faulty(site, scratch=tmp_path) as archive, CountingProxy(archive.port, counts) as proxy:
        archive.fault = fault
        times = {"first_byte_s": 1.0} if fault == "never answers" else {}
        settings: dict[str, Any] = {"retrieve": method, "drain_s": 0.5, **times}
        node = peers.node(proxy.port, "PACS", received.reception, **settings)
        with closing(node):
            if fault == "drops it after an image":
                with pytest.raises(ConnectionLost):
                    outcomes(node, destination, str(ct().PatientID))
                assert archive.retrievals == 2
            else:
                done = outcomes(node, destination, str(ct().PatientID))
                assert done == [Completeness.COMPLETE] * 3
                assert set(Counter(one.instance_uid for one in archive.log.sent).values()) == {1}
        peers.wait_until(lambda: counts.open == 0, "all associations were ended")

    assert counts.most == 1
    if opened is not None:
        # The search before the first retrieval has one of its own.
        assert len(counts.spans) == opened


def test_a_fetch_that_is_cancelled_ends_its_association_and_the_node_remains_usable(
    tmp_path: Path,
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    for number in range(1, 41):
        (held / f"{number}.dcm").write_bytes(file_bytes(ct(number)))
    counts = AssociationCounts()
    with (
        Lying(Site("PACS", holdings(held)), scratch=tmp_path) as archive,
        CountingProxy(archive.port, counts) as proxy,
        closing(peers.node(proxy.port, "PACS", retrieve="get")) as node,
        node.share_association(),
    ):
        series = SeriesRef(f"{ROOT}.1", f"{ROOT}.1.1")
        fetched = node.fetch([series])
        next(fetched)
        node.cancel_fetches()
        with pytest.raises(Stopped):
            list(fetched)
        peers.wait_until(lambda: counts.open == 0, "the association was ended")
        assert len(list(node.fetch([series]))) == 40
        assert list(node.find(Query.instances_of(series)))
        assert counts.open == 1


def test_a_study_of_a_thousand_series_can_share_one_association(archive: peers.Orthanc) -> None:
    counts = AssociationCounts()
    contexts = [PresentationContext(STUDY_ROOT, UNCOMPRESSED)]
    with CountingProxy(archive.port, counts) as proxy:
        node = peers.node(proxy.port, archive.called)
        associations = OpenAssociations(node.settings.peer("PACS"))
        with associations.kept.keep():
            for _ in range(2000):
                with associations.reuse(contexts):
                    pass
        assert (len(counts.spans), counts.open) == (1, 0)


def test_idle_associations_are_released_when_the_node_may_use_fewer(archive: peers.Orthanc) -> None:
    counts = AssociationCounts()
    contexts = [PresentationContext(STUDY_ROOT, UNCOMPRESSED)]
    with CountingProxy(archive.port, counts) as proxy:
        associations = OpenAssociations(
            peers.node(proxy.port, archive.called).settings.peer("PACS")
        )
        kept = associations.kept
        with kept.keep():
            kept.get_limit = lambda: 3
            with ExitStack() as together:
                for _ in range(4):
                    together.enter_context(associations.reuse(contexts))
            assert (len(counts.spans), counts.open) == (4, 3)
            kept.get_limit = lambda: 1
            with associations.reuse(contexts):
                assert counts.open == 3
            peers.wait_until(lambda: counts.open == 1, "the others were released")
        peers.wait_until(lambda: counts.open == 0, "the last one was released")


def test_the_end_of_a_shared_association_has_a_deadline_whatever_the_peer_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(association, "RELEASE_S", 0.5)

    def script(talk: peers.Talk) -> None:
        talk.accept()
        answer(talk, talk.hear())
        talk.pdu()  # the request to release
        while not ended.wait(0.01):
            talk.raw(talk.wrap(4, struct.pack(">IBB", 2 + 4000, 1, 0) + bytes(4000)))

    ended = threading.Event()
    with peers.Scripted(script) as peer:
        node = peers.node(peer.port, proof="none", no_progress_s=5.0)
        node.rate_limiter.rate_bytes_s = 1000
        sharing = threading.Thread(target=share_once, args=(node,), daemon=True)
        sharing.start()
        sharing.join(30)
        is_over = not sharing.is_alive()
        ended.set()
        node.close()
    assert is_over


def share_once(node: DimseNode) -> None:
    with node.share_association():
        store(node, 1)


def answer(talk: peers.Talk, command: dict[int, bytes]) -> None:
    """Report success for a C-STORE."""
    uid = command[0x0002].rstrip(b"\0").decode()
    (number,) = struct.unpack("<H", command[0x0110])
    talk.say(
        talk.context(uid),
        {0x0002: uid, 0x0100: STORE_RESPONSE, 0x0120: number, 0x0900: 0},
    )


def answer_until_gone(talk: peers.Talk) -> None:
    while True:
        answer(talk, talk.hear())


def close_idle(talk: peers.Talk) -> None:
    talk.close()


def abort_idle(talk: peers.Talk) -> None:
    talk.raw(talk.wrap(7, bytes(4)))
    talk.close()


def drop_next(talk: peers.Talk) -> None:
    talk.hear()
    talk.close()


def stall_next(talk: peers.Talk) -> None:
    talk.hear()


def store(node: DimseNode, number: int) -> list[StoreResult]:
    return list(node.store([instance(ct(number, series=str(number)))]))


@pytest.mark.parametrize("fault", [close_idle, abort_idle, drop_next, stall_next])
def test_a_kept_association_that_fails_is_replaced_without_loss(
    fault: Callable[[peers.Talk], None],
) -> None:
    is_idle = fault in (close_idle, abort_idle)

    def script(talk: peers.Talk) -> None:
        talk.accept()
        if talk.number == 0 or (talk.number == 1 and is_idle):
            answer(talk, talk.hear())
            fault(talk)
            failed.append(talk.number)
        elif talk.number == 1 and fault is drop_next:
            # The loss of a new association is still retried once.
            drop_next(talk)
        else:
            answer_until_gone(talk)

    failed: list[int] = []
    with (
        peers.Scripted(script) as peer,
        closing(peers.node(peer.port, proof="none", no_progress_s=0.5)) as node,
        node.share_association(),
    ):
        for number in range(4):
            if is_idle:
                ended = min(number, 2)
                peers.wait_until(lambda: len(failed) == ended, "the peer has ended it")  # noqa: B023
            assert [one.is_stored for one in store(node, number + 1)] == [True]
    # The peer may end an idle association at any time. After a stall none is kept any more.
    assert len(peer.talks) == (4 if fault is stall_next else 3)


def test_an_idle_association_is_released_after_a_short_time_and_by_an_abort(
    archive: peers.Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = AssociationCounts()
    with (
        CountingProxy(archive.port, counts) as proxy,
        closing(peers.node(proxy.port, archive.called)) as node,
        node.share_association(),
    ):
        monkeypatch.setattr(kept_association, "KEPT_S", 0.1)
        store(node, 1)
        peers.wait_until(lambda: counts.open == 0, "the idle association was released")
        monkeypatch.setattr(kept_association, "KEPT_S", 60.0)
        store(node, 2)
        assert counts.open == 1
        node.abort()
        peers.wait_until(lambda: counts.open == 0, "the idle association was aborted")


@pytest.mark.parametrize("refusal", [0, 0xC001])
def test_images_listed_only_after_the_end_of_the_association_are_proven(refusal: int) -> None:
    filed: list[bytes] = []

    def script(talk: peers.Talk) -> None:
        talk.accept()
        received: list[bytes] = []
        try:
            while True:
                command = talk.hear()
                if command[0x0100] != struct.pack("<H", FIND):
                    received.append(command[0x1000].rstrip(b"\0"))
                    answer(talk, command)
                    continue
                find_class = command[0x0002].rstrip(b"\0").decode()
                context = talk.context(find_class)
                (number,) = struct.unpack("<H", command[0x0110])
                said = {0x0002: find_class, 0x0100: FIND_RESPONSE, 0x0120: number}
                for uid in filed:
                    talk.say(context, {**said, 0x0900: PENDING}, listed(uid.decode()))
                talk.say(context, {**said, 0x0900: refusal if received else 0})
        finally:
            filed.extend(received)

    with (
        peers.Scripted(script) as peer,
        closing(peers.node(peer.port)) as node,
        node.share_association(),
    ):
        for number in (1, 2, 3):
            stored = store(node, number)
            assert list(node.confirm(stored)) == [stored[0].ref.instance_uid]


def listed(uid: str) -> bytes:
    """Encode a match in Explicit VR Little Endian."""
    number = uid.rsplit(".", 1)[-1]
    image = ct(int(number), series=number)
    found = Dataset()
    found.QueryRetrieveLevel = "IMAGE"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        found[keyword] = image[keyword]
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, found)
    return buffer.getvalue()
