"""Find rows of a batch transfer whose pseudonym contradicts another row or the project.

Used by the worker at the end of a check, and by the start of a transfer.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from django.db.models.functions import Lower

from adit.jobs import encrypted_payload, states
from adit.jobs.kinds.base import RowNote
from adit.jobs.models import Job, ResultLine, Task, TaskType
from adit.nodes.access import get_domain
from adit.nodes.models import Lane, Node
from adit.projects import pseudonyms, services
from adit.projects.models import Patient, Project
from adit.results import sheet_rows
from adit.results.sheet_rows import RowContent
from adit.spreadsheets.row_verdicts import format_line_numbers
from adit_engine.messages import Message

LOOKUP_BATCH = 500
"""Values per SQL statement."""


@dataclass(frozen=True, slots=True)
class RowPatient:
    """The patient of a row, as the source names the patient, and the pseudonym in the list."""

    line: int
    source: Node
    patient_id: str = field(repr=False)
    pseudonym: str = ""


def find_conflicts(project: Project, rows: Sequence[RowPatient]) -> dict[int, Message]:
    """Return the reason for each line whose pseudonym cannot be used, without naming it."""
    found: dict[int, Message] = {}
    owner = _find_patients(project, rows)
    given = [row for row in rows if row.pseudonym]
    for row in rows:
        if not row.patient_id.strip(" \0") and not row.pseudonym:
            found[row.line] = Message("pseudonym.needed-without-patient-id")
        elif row.pseudonym and pseudonyms.hides_nothing(row.pseudonym, row.patient_id):
            found[row.line] = Message("pseudonym.is-patient-id")
    for group in _find_groups(given, owner, lambda row: row.pseudonym):
        _add(found, group, Message("sheet-row.patient-with-pseudonyms"))
    for group in _find_groups(given, lambda row: row.pseudonym.casefold(), owner):
        _add(found, group, Message("sheet-row.pseudonym-of-patients"))
    taken = _find_by_pseudonym(project, {row.pseudonym for row in given})
    for row in given:
        there, holder = owner(row), taken.get(row.pseudonym.lower())
        if isinstance(there, Patient) and there.pseudonym != row.pseudonym:
            found.setdefault(
                row.line, Message("pseudonym.patient-has-other", project=project.protocol_id)
            )
        elif holder is not None and holder != there:
            found.setdefault(row.line, Message("row.pseudonym-taken", project=project.protocol_id))
    return found


def note_conflicts(job: Job) -> None:
    """Note the conflicts of the checked rows of a locked job; notes of earlier ones are removed."""
    if job.is_as_is:
        return
    cipher = encrypted_payload.get_cipher(job.project)
    checked = job.lines.filter(task__lane=Lane.SEARCH, is_found=True).defer("facts")
    opened = [(row, sheet_rows.open_row(cipher, row)) for row in checked]
    sources = dict(checked.values_list("line", "task__source"))
    nodes = Node.objects.in_bulk({pk for pk in sources.values() if pk is not None})
    patients = [
        RowPatient(
            row.line,
            nodes[sources[row.line]],
            content.study.record.patient_id,
            content.pseudonym,
        )
        for row, content in opened
        if content.study is not None and sources[row.line] in nodes
    ]
    conflicts = find_conflicts(job.project or services.default_project(), patients)
    changed = []
    for row, content in opened:
        after = apply_conflict(row, content, conflicts.get(row.line))
        if after != content:
            row.sealed = sheet_rows.seal_row(cipher, job.pk, row.line, after)
            changed.append(row)
    ResultLine.objects.bulk_update(changed, ["notes", "sealed"], batch_size=LOOKUP_BATCH)


def note_conflicts_after_check(task: Task) -> None:
    """Note the conflicts if this is the last task of a check. The caller ends it afterwards."""
    is_check = task.type == TaskType.ORDERED and task.lane == Lane.SEARCH
    if not is_check or not task.job.capabilities.has_transfer_rows:
        return
    job = states.lock_job(task.job_id)
    others = job.tasks.filter(state__in=states.LIVE_TASKS).exclude(pk=task.pk)
    if not others.exists():
        note_conflicts(job)


def apply_conflict(row: ResultLine, content: RowContent, conflict: Message | None) -> RowContent:
    """Set the note of the row, and return its content with the reason."""
    noted = RowNote.PSEUDONYM in row.notes
    if conflict is None and not noted:
        return content
    row.notes = [note for note in row.notes if note != RowNote.PSEUDONYM]
    if conflict is not None:
        row.notes.append(RowNote.PSEUDONYM.value)
    return replace(content, reason=conflict)


def _find_patients(
    project: Project, rows: Iterable[RowPatient]
) -> Callable[[RowPatient], Hashable]:
    """Return what identifies the patient of a row: a registered patient, else a keyed hash."""
    keys = {(get_domain(row.source), row.patient_id): "" for row in rows if row.patient_id}
    for domain, patient_id in keys:
        keys[domain, patient_id] = pseudonyms.get_patient_index(project, domain, patient_id)
    registered = pseudonyms.find_patients(project, set(keys.values()))

    def identify(row: RowPatient) -> Hashable:
        index = keys.get((get_domain(row.source), row.patient_id))
        return registered.get(index, index) if index else f"without ID: {row.pseudonym}"

    return identify


def _find_by_pseudonym(project: Project, names: Iterable[str]) -> Mapping[str, Patient]:
    """Return the registered patients with these pseudonyms, by pseudonym in lower case."""
    wanted = sorted({name.lower() for name in names})
    found: dict[str, Patient] = {}
    for at in range(0, len(wanted), LOOKUP_BATCH):
        patients = project.patients.annotate(lower=Lower("pseudonym")).filter(
            lower__in=wanted[at : at + LOOKUP_BATCH]
        )
        found |= {patient.pseudonym.lower(): patient for patient in patients}
    return found


def _find_groups(
    rows: Iterable[RowPatient],
    key: Callable[[RowPatient], Hashable],
    value: Callable[[RowPatient], Hashable],
) -> Iterator[list[RowPatient]]:
    """Yield the rows of each key that has several values."""
    groups: dict[Hashable, list[RowPatient]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return (group for group in groups.values() if len({value(row) for row in group}) > 1)


def _add(found: dict[int, Message], rows: Sequence[RowPatient], message: Message) -> None:
    for row in rows:
        others = format_line_numbers([other.line for other in rows if other.line != row.line])
        found.setdefault(
            row.line, Message("sheet-row.with-other-lines", finding=message, lines=others)
        )
