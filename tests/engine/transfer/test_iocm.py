"""Rejection notes (IHE IOCM): rejected images are skipped, and the ledger says why."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from lab import receiving
from lab.archive import plain_archive
from lab.key_objects import (
    OF_INTEREST,
    QUALITY,
    RETENTION,
    SAFETY,
    WORKLIST,
    key_object,
)
from lab.samples import ROOT, instance
from pydicom.dataset import Dataset
from test_transfer import STUDY, fill, node, outcomes, pseudonymized, run, two_series

from adit_engine.dicom_file import part10
from adit_engine.errors import ConnectionLost, Malformed, NodeRefused, TimedOut
from adit_engine.messages import Message
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.transfer.iocm import RejectionNote
from adit_engine.transfer.study import StudyRequest
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import Completeness, InstanceState
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, QueryLevel, Ref
from adit_engine.values.selection import Selection

BAD = f"{ROOT}.1.1.2", f"{ROOT}.1.1.4"
NOTE = f"{ROOT}.1.9.1"
TIMES = {"connect_s": 30.0, "association_s": 30.0, "first_byte_s": 30.0, "no_progress_s": 30.0}


def study(*notes: Dataset) -> list[Instance]:
    return [*two_series(), *(instance(one) for one in notes)]


# Notes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize(
    ("title", "words"),
    [
        (QUALITY, "quality"),
        (SAFETY, "patient safety"),
        (WORKLIST, "worklist"),
        (RETENTION, "retention"),
    ],
)
def test_a_rejection_note_gives_the_reason_and_the_rejected_images(
    title: str, words: str, explicit: bool
) -> None:
    note = RejectionNote.from_instance(instance(key_object(title, BAD), explicit=explicit))

    assert note is not None
    assert words in str(note.reason)
    assert note.rejects == set(BAD)


def test_images_in_the_evidence_or_in_the_content_alone_are_rejected() -> None:
    for keyword in ("ContentSequence", "CurrentRequestedProcedureEvidenceSequence"):
        note = RejectionNote.from_instance(instance(key_object(QUALITY, BAD, **{keyword: None})))
        assert note is not None
        assert note.rejects == set(BAD)


def test_a_key_object_with_another_title_or_scheme_rejects_nothing() -> None:
    elsewhere = key_object(QUALITY, BAD)
    elsewhere.ConceptNameCodeSequence[0].CodingSchemeDesignator = "99LOCAL"

    assert RejectionNote.from_instance(instance(key_object(OF_INTEREST, BAD))) is None
    assert RejectionNote.from_instance(instance(elsewhere)) is None


@pytest.mark.parametrize(
    "broken",
    [
        key_object(QUALITY, BAD, ConceptNameCodeSequence=None),
        key_object(QUALITY, []),
    ],
)
def test_a_note_without_title_or_images_is_malformed(broken: Dataset) -> None:
    with pytest.raises(Malformed) as caught:
        RejectionNote.from_instance(instance(broken))

    assert caught.value.message.code in ("key-object.no-title", "key-object.no-images")


# Transfer ---------------------------------------------------------------------------------------


def _memory(folder: Path, stack: ExitStack, held: list[Instance]) -> Any:
    return node("A", *held)


def _folder(folder: Path, stack: ExitStack, held: list[Instance]) -> Any:
    return FolderNode("A", FolderSettings(path=str(_files(folder, held)), reserve_mb=0))


def _dimse(route: str) -> Callable[[Path, ExitStack, list[Instance]], Any]:
    def made(folder: Path, stack: ExitStack, held: list[Instance]) -> Any:
        received = stack.enter_context(receiving.receiving(folder))
        known = {"ADIT": ("127.0.0.1", received.port)}
        archive = stack.enter_context(plain_archive("DEMO", _files(folder, held), known))
        settings = DimseSettings(
            called_ae_title="DEMO", host="127.0.0.1", port=archive.port, retrieve=route, **TIMES
        )
        return stack.enter_context(closing(DimseNode("A", settings, received.reception)))

    return made


def _files(folder: Path, held: list[Instance]) -> Path:
    files = folder / "files"
    files.mkdir()
    for one in held:
        (files / f"{one.instance_uid}.dcm").write_bytes(b"".join(part10.file_parts(one)))
    return files


SOURCES = {"memory": _memory, "folder": _folder, "get": _dimse("get"), "move": _dimse("move")}


@pytest.fixture(params=SOURCES)
def source(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[list[Instance]], Any]]:
    """Return a function that creates a source of each kind with the given instances."""
    with ExitStack() as stack:
        yield lambda held: SOURCES[request.param](tmp_path, stack, held)


def test_rejected_images_and_their_note_are_skipped_with_the_reason(
    source: Callable[[list[Instance]], Any],
) -> None:
    destination = node("B")

    told, manifests, error = run(source(study(key_object(SAFETY, BAD))), destination)

    assert error is None
    assert not {*BAD, NOTE} & destination.held.keys()
    assert len(destination.held) == 8
    entries = manifests[f"{ROOT}.1.1"].entries
    assert {entries[uid].state for uid in BAD} == {InstanceState.SKIPPED}
    reason = entries[BAD[0]].reason
    assert reason == Message("rejected", why=Message("clause.rejected-for-patient-safety"))
    assert "rejected at the source for patient safety reasons" in str(reason)
    note = manifests[f"{ROOT}.1.9"].entries[NOTE]
    assert note.reason is not None
    assert (note.state, note.reason.code) == (InstanceState.SKIPPED, "rejection-note")
    verdicts = {one.ref.series_uid[-1]: one.completeness for one in outcomes(told)}
    assert verdicts == {
        "1": Completeness.PARTIAL,
        "2": Completeness.COMPLETE,
        "9": Completeness.PARTIAL,
    }


def test_a_note_in_an_unselected_series_is_applied() -> None:
    destination = node("B")
    order = StudyRequest(STUDY, "PID-4711-0815", Selection((f"{ROOT}.1.1",)))

    run(node("A", *study(key_object(QUALITY, BAD))), destination, order=order)

    assert len(destination.held) == 3
    assert not set(BAD) & destination.held.keys()


def test_two_notes_are_combined_and_other_key_objects_are_delivered() -> None:
    notes = [key_object(QUALITY, BAD[:1]), key_object(WORKLIST, BAD[1:], 2)]
    flagged = key_object(OF_INTEREST, [f"{ROOT}.1.1.1"], 3)
    destination = node("B")

    run(node("A", *study(*notes, flagged)), destination)

    assert not set(BAD) & destination.held.keys()
    assert f"{ROOT}.1.9.3" in destination.held
    assert len(destination.held) == 9


def test_a_completely_rejected_series_is_not_fetched() -> None:
    class Counting(MemoryNode):
        def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
            asked.extend(refs)
            return super().fetch(refs, patient_id=patient_id)

    asked: list[Ref] = []
    everything = [f"{ROOT}.1.1.{n}" for n in range(1, 6)]
    made = fill(Counting("A", MemorySettings()), *study(key_object(RETENTION, everything)))

    told, _, _ = run(made, node("B"))

    series = {ref.series_uid for ref in asked if not isinstance(ref, InstanceRef)}
    assert series == {f"{ROOT}.1.2"}
    assert (outcomes(told)[0].expected, outcomes(told)[0].skipped) == (5, 5)


class Asked(MemoryNode):
    """Counts queries and retrievals."""

    finds = 0
    fetches = 0

    def find(self, query: Query) -> FindResults:
        self.finds += 1
        return super().find(query)

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        self.fetches += 1
        return super().fetch(refs, patient_id=patient_id)


def test_a_study_without_key_objects_causes_no_additional_request() -> None:
    made = fill(Asked("A", MemorySettings()), *two_series())

    run(made, node("B"))

    # Queries: series twice, images of each series before and after. One fetch per series.
    assert (made.finds, made.fetches) == (6, 2)


class Mute(MemoryNode):
    """Does not return its key objects; the response instead can be set."""

    answer: Exception | None = None
    tries = 0

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        if all(ref.series_uid.endswith(".9") for ref in refs):
            self.tries += 1
            if self.answer is not None:
                raise self.answer
            return iter(())
        return super().fetch(refs, patient_id=patient_id)


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        (None, 1),
        (NodeRefused("A", "does not give these away."), 1),
        (TimedOut("A", "did not answer."), 1),
        (ConnectionLost("A", "hung up."), 3),
    ],
)
def test_no_series_is_complete_if_a_rejection_note_is_unavailable(
    answer: Exception | None, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adit_engine.bounded_stream.Stop.wait", lambda self, timeout_s: False)
    made = fill(Mute("A", MemorySettings()), *study(key_object(QUALITY, BAD)))
    made.answer = answer
    order = StudyRequest(STUDY, "PID-4711-0815", Selection(modalities=("CT",)))

    told, _, error = run(made, node("B"), order=order)

    assert error is None
    assert made.tries == tries
    came = [one for one in outcomes(told) if not one.skip_reason]
    assert [(one.delivered, one.completeness) for one in came] == [(5, Completeness.PARTIAL)] * 2
    assert all(one.notes[0] == Message("rejections.unreadable") for one in came)


def test_no_series_is_complete_if_a_note_in_a_folder_is_truncated(tmp_path: Path) -> None:
    files = _files(tmp_path, study(key_object(QUALITY, BAD)))
    path = files / f"{NOTE}.dcm"
    path.write_bytes(path.read_bytes()[:-7])
    made = FolderNode("A", FolderSettings(path=str(files), reserve_mb=0))

    told, _, _ = run(made, node("B"))

    assert Completeness.COMPLETE not in {one.completeness for one in outcomes(told)}


def test_a_note_added_during_the_transfer_reports_images_already_sent() -> None:
    class Rejecting(MemoryNode):
        """Adds a note after a series was fetched."""

        def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
            yield from super().fetch(refs, patient_id=patient_id)
            late = instance(key_object(SAFETY, BAD))
            self.held[late.instance_uid] = late

    destination = node("B")

    told, _, _ = run(fill(Rejecting("A", MemorySettings()), *two_series()), destination)

    assert NOTE not in destination.held
    noted = [note for one in outcomes(told) for note in one.notes]
    assert Message("rejections.sent-before", images=2) in noted


def test_a_note_listed_with_another_modality_is_detected_when_fetched() -> None:
    odd = key_object(QUALITY, BAD, Modality="OT")
    destination = node("B")

    told, manifests, _ = run(node("A", *study(odd)), destination)

    assert NOTE not in destination.held
    reason = manifests[f"{ROOT}.1.9"].entries[NOTE].reason
    assert reason is not None
    assert reason.code == "rejection-note"
    noted = [note.code for one in outcomes(told) for note in one.notes]
    assert "rejections.sent-before" in noted


class Terse(MemoryNode):
    """Omits the modality of series and the class of images, and caps lists of images."""

    def find(self, query: Query) -> FindResults:
        records = list(super().find(query))
        for record in records:
            record.values["Modality"] = ""  # type: ignore[index]
        cap = 3 if query.level is QueryLevel.IMAGE else None
        return FindResults(iter(records[:cap]), cap)


def test_rejected_images_are_skipped_even_if_the_image_list_is_capped() -> None:
    destination = node("B")

    told, _, _ = run(
        fill(Terse("A", MemorySettings()), *study(key_object(QUALITY, BAD))), destination
    )

    assert not {*BAD, NOTE} & destination.held.keys()
    assert len(destination.held) == 8
    assert [one.completeness for one in outcomes(told)][:2] == [Completeness.UNVERIFIABLE] * 2


def test_a_note_is_applied_and_skipped_in_a_pseudonymized_transfer() -> None:
    _, manifests, _ = run(node("A", *study(key_object(QUALITY, BAD))), node("B"), pseudonymized())

    assert manifests[f"{ROOT}.1.9"].entries[NOTE].state is InstanceState.SKIPPED
    assert manifests[f"{ROOT}.1.1"].entries[BAD[0]].state is InstanceState.SKIPPED
