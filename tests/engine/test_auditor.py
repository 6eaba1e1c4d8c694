"""Tests of the auditor: correct records pass, and falsified ones are detected."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from lab import auditor as audits
from lab.auditor import Auditor, Expected, Kept, Ledger
from lab.lies import Kind, Sent
from lab.orders import CHANGES, PATIENTS, change_for, images
from lab.samples import ROOT

from adit_engine.bounded_stream import Stop
from adit_engine.messages import Message
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.parameters import AsIs, Change
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.outcome import InstanceEvent, InstanceState, SeriesOutcome
from adit_engine.values.references import StudyRef


@dataclass
class Books:
    """The records of a successful order, to be falsified by a test."""

    truth: dict[str, Expected]
    ledger: Ledger
    kept: dict[str, Kept]
    sent: list[list[Sent]] = field(default_factory=list)

    def violations(self) -> set[str]:
        auditor = Auditor()
        auditor.audit(self.truth, self.ledger, [self.kept], self.sent)
        assert auditor.violations.total() == len(auditor.found)
        return set(auditor.violations)

    @property
    def first(self) -> str:
        return min(self.truth)

    def event(self, uid: str) -> InstanceEvent:
        return next(
            told
            for told in self.ledger.attempts[-1]
            if isinstance(told, InstanceEvent)
            and told.ref.instance_uid == uid
            and told.state is InstanceState.DELIVERED
        )


def keep_books(tmp_path: Path, change: Change, keeper: type[MemoryNode] = MemoryNode) -> Books:
    source, destination = (
        kind(name, MemorySettings(shelf=f"{tmp_path}/{name}"))
        for kind, name in ((MemoryNode, "A"), (keeper, "B"))
    )
    everything = images()
    source.held.update({one.instance_uid: one for one in everything})
    order, ledger = StudyRequest(StudyRef(f"{ROOT}.1"), PATIENTS["1"]), Ledger()
    ledger.begin()
    for told in transfer(order, source, destination, change, {}, Stop()):
        ledger.flush(told)
    there = {
        uid: Kept(one.sha256(), one.in_header.patient_id, one.in_header.ref.study_uid)
        for uid, one in destination.held.items()
    }
    for name in "AB":
        del MemoryNode.shelves[f"{tmp_path}/{name}"]
    return Books(audits.expectations(everything, order.study, change), ledger, there)


@pytest.mark.parametrize("change", CHANGES[:2])
def test_correct_records_have_no_violation(tmp_path: Path, change: Change) -> None:
    assert keep_books(tmp_path, change).violations() == set()


class Forgets(MemoryNode):
    """Confirms an image that it has lost."""

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
        del self.held[stored[0].ref.instance_uid]
        return (one.ref.instance_uid for one in stored)


def test_a_destination_that_confirms_a_lost_image_is_detected(tmp_path: Path) -> None:
    books = keep_books(tmp_path, AsIs(), Forgets)

    assert books.violations() == {audits.NOT_HELD, audits.FALSE_COMPLETE}


def _lose(books: Books) -> None:
    del books.kept[books.truth[books.first].uid]


def _exchange(books: Books) -> None:
    uid = books.truth[books.first].uid
    books.kept[uid] = replace(books.kept[uid], sha256="0" * 64)


def _mix_up_patients(books: Books) -> None:
    uid = books.truth[books.first].uid
    books.kept[uid] = replace(books.kept[uid], patient_id=b"SOMEBODY")


def _misroute(books: Books) -> None:
    books.kept["1.2.3"] = Kept("0" * 64, b"", f"{ROOT}.2")


def _tell_twice(books: Books) -> None:
    books.ledger.flush(books.event(books.first))


def _tell_of_others(books: Books) -> None:
    event = books.event(books.first)
    books.ledger.flush(replace(event, ref=replace(event.ref, instance_uid="1.2.3")))


def _add_wrongly(books: Books) -> None:
    told = books.ledger.attempts[-1]
    last = told.pop()
    assert isinstance(last, SeriesOutcome)
    told.append(replace(last, delivered=last.delivered + 1))


def _forget_a_failure(books: Books) -> None:
    """Report the outcome as complete although the ledger contains a failure."""
    event = books.event(books.first)
    told = books.ledger.attempts[-1]
    outcomes = [
        one for one in told if isinstance(one, SeriesOutcome) and one.ref == event.ref.series
    ]
    books.ledger.manifests[event.ref.series_uid].add(
        replace(event, state=InstanceState.FAILED, reason=Message("not-kept.not-listed"))
    )
    told.remove(outcomes[-1])
    books.ledger.flush(outcomes[-1])


def _send_twins(books: Books) -> None:
    contents = ((books.truth[books.first].sha256, None), ("0" * 64, Kind.TWIN))
    books.sent = [[Sent(books.first, digest, kind, 0) for digest, kind in contents]]


@pytest.mark.parametrize(
    ("doctor", "kinds"),
    [
        (_lose, {audits.NOT_HELD, audits.FALSE_COMPLETE}),
        (_exchange, {audits.OTHER_CONTENT}),
        (_mix_up_patients, {audits.FOREIGN}),
        (_misroute, {audits.MISROUTED}),
        (_tell_twice, {audits.TWICE}),
        (_tell_of_others, {audits.UNNAMED, audits.SUMS}),
        (_add_wrongly, {audits.SUMS}),
        (_forget_a_failure, {audits.FALSE_COMPLETE, audits.SUMS}),
        (_send_twins, {audits.TWINS}),
    ],
)
def test_falsified_records_are_detected(
    tmp_path: Path, doctor: Callable[[Books], None], kinds: set[str]
) -> None:
    books = keep_books(tmp_path, change_for("LUNG"))

    doctor(books)

    assert books.violations() == kinds
