"""Images received by C-MOVE respect the rate limit of their source, without false timeouts."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace as but
from pathlib import Path

import pytest
from lab import peers, receiving
from lab.peers import register
from lab.receiving import never, sending
from lab.samples import ROOT, ct, instance

from adit_engine.errors import ConnectionLost
from adit_engine.rate_limit import BURST_S
from adit_engine.storage_scp.pending_moves import AllowedSender
from adit_engine.values.instance import Instance
from adit_engine.values.references import StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

STUDY, OTHER = f"{ROOT}.1", f"{ROOT}.2"
KEPT, REFUSED = 0, 0x0124
SLOW = 1.0
"""Bytes per second: so slow that no image is complete before the test ends."""


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    with receiving.receiving(tmp_path, "PACS") as one:
        yield one


def image(number: int, side: int = 100, study: str = "1") -> Instance:
    """An image with 2 * side * side bytes of pixel data."""
    pixels = bytes(2 * side * side)
    return instance(ct(number, study=study, Rows=side, Columns=side, PixelData=pixels))


def wait_until(happened: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


class Pushing(threading.Thread):
    """Sends images in its own thread; `answers` are the C-STORE statuses."""

    def __init__(self, port: int, *images: Instance, title: str = "PACS") -> None:
        super().__init__()
        self._port, self._images, self._title = port, images, title
        self.answers: list[int | None] = []

    def run(self) -> None:
        with sending(self._port, *self._images, title=self._title) as archive:
            for one in self._images:
                self.answers.append(archive.store(one))


def least_s(sent: list[Instance], rate: float) -> float:
    return sum(one.size_bytes for one in sent) / rate - BURST_S - 0.01


def test_the_rate_limit_applies_from_the_first_byte(received: receiving.Received) -> None:
    sent, rate = [image(number) for number in range(1, 6)], 100_000.0
    with received.reception.expect(receiving.wanted(STUDY, rate_bytes_s=rate), never):
        began = time.monotonic()
        with sending(received.port, *sent) as archive:
            assert [archive.store(one) for one in sent] == [KEPT] * 5

        assert time.monotonic() - began >= least_s(sent, rate)


def test_all_associations_of_a_source_share_its_rate_limit(received: receiving.Received) -> None:
    """Two senders with different AE titles, each for its own move."""
    rate, mine, others = 100_000.0, [image(1), image(2)], [image(3, study="2"), image(4, study="2")]
    wanted = receiving.wanted(STUDY, rate_bytes_s=rate)
    second = AllowedSender("STORE2", receiving.HERE)
    wanted = but(wanted, allowed_senders=(*wanted.allowed_senders, second))
    with (
        received.reception.expect(wanted, never),
        received.reception.expect(but(wanted, study_uid=OTHER), never),
    ):
        began = time.monotonic()
        one = Pushing(received.port, *mine)
        two = Pushing(received.port, *others, title="STORE2")
        for each in (one, two):
            each.start()
        for each in (one, two):
            each.join(60)

        assert one.answers == two.answers == [KEPT, KEPT]
        assert time.monotonic() - began >= least_s(mine + others, rate)


def test_images_of_other_sources_are_not_throttled(received: receiving.Received) -> None:
    slow, quick = image(1), image(2, study="2")
    theirs = but(receiving.wanted(OTHER, title="OTHER"), source="PACS2")
    with (
        received.reception.expect(receiving.wanted(STUDY, rate_bytes_s=SLOW), never),
        received.reception.expect(theirs, never),
    ):
        waiting = Pushing(received.port, slow)
        waiting.start()
        wait_until(lambda: is_held_back(received))

        with sending(received.port, quick, title="OTHER") as archive:
            assert archive.store(quick) == KEPT

        assert not waiting.answers
    waiting.join(60)


def is_held_back(received: receiving.Received) -> bool:
    return any(received.spool.is_throttled(token) for token in received.spool.tokens())


def test_a_throttled_image_is_refused_at_once_when_its_move_has_ended(
    received: receiving.Received,
) -> None:
    late = Pushing(received.port, image(1, side=1000))
    with received.reception.expect(receiving.wanted(STUDY, rate_bytes_s=SLOW), never):
        late.start()
        wait_until(lambda: is_held_back(received))

    late.join(60)
    assert late.answers == [REFUSED]


def test_late_images_of_an_ended_move_respect_the_rate_limit(
    received: receiving.Received,
) -> None:
    rate, (first, *late) = 100_000.0, [image(number) for number in range(1, 6)]
    with sending(received.port, first) as archive:
        with received.reception.expect(receiving.wanted(STUDY, rate_bytes_s=rate), never):
            assert archive.store(first) == KEPT
        began = time.monotonic()

        assert [archive.store(one) for one in late] == [REFUSED] * 4

    assert time.monotonic() - began >= least_s(late, rate)


def test_an_abandoned_image_does_not_delay_the_next_move(
    received: receiving.Received,
) -> None:
    abandoned, rate = image(1, side=2000), 50_000.0
    late = Pushing(received.port, abandoned)
    with received.reception.expect(receiving.wanted(STUDY, rate_bytes_s=rate), never):
        late.start()
        wait_until(lambda: is_held_back(received))
    late.join(60)
    began = time.monotonic()

    with (
        received.reception.expect(receiving.wanted(STUDY, rate_bytes_s=rate), never),
        sending(received.port, image(2, side=10)) as archive,
    ):
        assert archive.store(image(2, side=10)) == KEPT

    assert time.monotonic() - began < abandoned.size_bytes / rate / 3


def test_a_receiver_that_stops_closes_throttled_connections(tmp_path: Path) -> None:
    wanted = receiving.wanted(STUDY, rate_bytes_s=SLOW)
    with receiving.receiving(tmp_path) as received, received.reception.expect(wanted, never):
        waiting = Broken(received.port, image(1))
        waiting.start()
        wait_until(lambda: is_held_back(received))

        received.receiver.stop()
    waiting.join(60)
    assert waiting.is_cut


class Broken(Pushing):
    """A sender that expects the connection to be closed."""

    is_cut = False

    def run(self) -> None:
        try:
            super().run()
        except ConnectionLost:
            self.is_cut = True


def test_a_throttled_archive_does_not_time_out(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    """The transfer exceeds all time limits, and incomplete images are not visible as progress."""
    register(archive, received.port)
    sent, rate = [image(number, side=300) for number in (1, 2)], 40_000.0
    list(archive.node().store(sent))
    hasty = {"retrieve": "move", "drain_s": 2.0, "no_progress_s": 2.0, "first_byte_s": 2.0}
    node = peers.node(archive.port, archive.called, received.reception, **hasty, total_s=2.0)
    node.rate_limiter.rate_bytes_s = rate
    began = time.monotonic()

    fetched = list(node.fetch([StudyRef(STUDY)]))

    assert sorted(one.sha256() for one in fetched) == sorted(one.sha256() for one in sent)
    assert time.monotonic() - began >= least_s(sent, rate)
