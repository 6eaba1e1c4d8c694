"""Measure how fast images are fetched and sent over one and over several associations.

Used by the DIMSE node.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from adit_engine.errors import NodeError
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal, StoreResult
from adit_engine.values.instance import Instance
from adit_engine.values.references import InstanceRef

COUNTS = (1, 2, 4)
IMAGES_EACH = 32
"""Images fetched with each number of associations, each image once."""

WORTH_IT = 0.8
"""More associations are proposed if they take at most this share of the time of fewer ones."""

FetchOver = Callable[[Sequence[InstanceRef], int], Iterator[Instance]]
"""Fetches images over a number of associations."""


StoreOver = Callable[[Sequence[Instance], int], Iterator[StoreResult]]
"""Sends images over a number of associations."""


def measure_fetching(
    fetch: FetchOver, images: Sequence[InstanceRef], most: int, within_s: float
) -> Iterator[NodeFinding]:
    """Compare the numbers of associations up to `most`; propose the best. Raises Stopped.

    Ends after `within_s`, between two measurements.
    """
    counts = [count for count in COUNTS if count <= most]
    if len(counts) < 2:
        yield NodeFinding(Grade.GOOD, Message("test.connections-not-free"))
        return
    if len(images) < len(counts) * IMAGES_EACH:
        needed = len(counts) * IMAGES_EACH
        yield NodeFinding(Grade.GOOD, Message("test.connections-few-images", images=needed))
        return

    def attempt(number: int, count: int) -> int:
        part = images[number * IMAGES_EACH : (number + 1) * IMAGES_EACH]
        return sum(1 for _ in fetch(part, count))

    yield from _measure(counts, attempt, within_s, _FETCHING)


def measure_storing(
    store: StoreOver, images: Iterator[Instance], most: int, within_s: float
) -> Iterator[NodeFinding]:
    """Compare the numbers of associations for sending; propose the best. Raises Stopped.

    `images` yields as many as are needed; each is sent once. They stay at the node. Ends after
    `within_s`, between two measurements.
    """
    counts = [count for count in COUNTS if count <= most]
    if len(counts) < 2:
        yield NodeFinding(Grade.GOOD, Message("test.connections-not-free"))
        return
    parts = [list(islice(images, IMAGES_EACH)) for _ in counts]

    def attempt(number: int, count: int) -> int:
        for result in store(parts[number], count):
            if result.error is not None:
                raise _Refused(result.error)
        return IMAGES_EACH

    yield from _measure(counts, attempt, within_s, _SENDING)


class _Refused(Exception):
    def __init__(self, message: Message) -> None:
        self.message = message


@dataclass(frozen=True, slots=True)
class _Direction:
    """The setting that is measured, and the codes of its findings."""

    setting: str
    rates: str
    failed: str


_FETCHING = _Direction("retrieve_associations", "test.connections", "test.connections-failed")
_SENDING = _Direction(
    "store_associations", "test.sending-connections", "test.sending-connections-failed"
)


def _measure(
    counts: Sequence[int],
    attempt: Callable[[int, int], int],
    within_s: float,
    direction: _Direction,
) -> Iterator[NodeFinding]:
    began, taken = time.monotonic(), dict[int, float]()
    for number, count in enumerate(counts):
        started = time.monotonic()
        try:
            done = attempt(number, count)
        except (NodeError, _Refused) as error:
            failed = Message(direction.failed, count=count, reason=error.message)
            yield NodeFinding(Grade.WARNING, failed)
            break
        taken[count] = (time.monotonic() - started) / max(done, 1)
        if time.monotonic() > began + within_s:
            break
    if len(taken) > 1:
        yield _compare(taken, direction)


def _compare(taken: dict[int, float], direction: _Direction) -> NodeFinding:
    best = min(taken)
    for count in sorted(taken):
        if taken[count] <= WORTH_IT * taken[best]:
            best = count
    rates = ", ".join(f"{count}: {1 / max(s, 1e-6):.0f}" for count, s in sorted(taken.items()))
    proposal = SettingProposal(
        direction.setting,
        best,
        Message("proposal.retrieve-associations" if best > 1 else "proposal.one-connection"),
    )
    return NodeFinding(Grade.GOOD, Message(direction.rates, rates=rates), None, (proposal,))
