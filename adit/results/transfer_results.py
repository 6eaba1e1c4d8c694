"""The outcome of each row of a batch transfer, and the result sheet.

The result sheet has the rows as uploaded, with their outcomes. Used by the batch transfer pages.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from django.utils.translation import gettext as _

from adit.jobs import encrypted_payload, progress
from adit.jobs.disclosure import Disclosure, shows_pseudonyms
from adit.jobs.kinds.base import RowNote
from adit.jobs.models import (
    NOTHING_DELIVERED,
    Job,
    JobStage,
    JobState,
    ResultLine,
    SeriesResult,
    Task,
    TaskState,
    state_label,
)
from adit.jobs.progress import ImageCounts
from adit.nodes.models import Lane, Node
from adit.results import archives, sheet_rows
from adit.results.next_steps import get_transfer_step
from adit.results.query_results import MASK
from adit.results.row_notes import note_messages
from adit.results.sheet_rows import RowContent
from adit.spreadsheets.columns import SheetField, SheetKind
from adit.spreadsheets.template import get_template_columns
from adit.spreadsheets.writer import (
    RESULT_LINE,
    RESULT_OUTCOME,
    RESULT_REASON,
    RESULT_STEP,
    add_own_columns,
)
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.messages import Message

SERIES_UID = "SeriesInstanceUID"

_FAILING_NOTES = frozenset(
    {RowNote.NOTHING, RowNote.OTHER_PERSON, RowNote.SERIES_GONE, RowNote.NO_ANSWER}
)


@dataclass(frozen=True, slots=True)
class TransferRowResult:
    """The outcome of one row.

    `state` is a state of a badge, `word` its text. Counts are None before a transfer. `content` is
    None if the key of the project is destroyed.
    """

    line: int
    state: str
    label: str
    reason: str = ""
    counts: ImageCounts | None = None
    task: Task | None = None
    content: RowContent | None = field(default=None, repr=False)
    generated: str = ""
    """The pseudonym that ADIT generated; empty for users who may not see it."""
    path: str = ""
    """The folder as users see it, or the name of the destination."""
    is_hidden: bool = False
    """Whether the user may not see the pseudonym."""
    step: Message | None = None
    """What to do next; None if all images were delivered."""
    source: str = ""
    """If there are several sources: the one with the study, or the one that is being queried; empty
    if none has it.
    """
    is_invalid: bool = False
    """The row has an error in the sheet."""

    @property
    def needs_attention(self) -> bool:
        """Return whether the row is neither delivered, nor excluded, nor in progress."""
        is_left_out = self.state == "canceled" and self.task is None
        return self.state in ("failure", "warning", "canceled") and not is_left_out


def get_row_results(
    job: Job, rows: Sequence[ResultLine], *, places: bool = False
) -> list[TransferRowResult]:
    """Return the outcomes in the order of `rows`, which are read with their tasks.

    `places` also reads the ledgers, which takes longer.
    """
    box = encrypted_payload.get_cipher(job.project)
    contents = {row.pk: _open_content(box, row) for row in rows}
    sent = [row for row in rows if row.task is not None and row.task.lane != Lane.SEARCH]
    by_task = progress.count_images_by_task({row.task for row in sent if row.task is not None})
    asked = {row.pk: (row, _requested_series(contents[row.pk])) for row in sent}
    arrived = _DeliveryLocations(box, job, asked) if places else None
    found = []
    for row in rows:
        content = contents[row.pk]
        if row.task is None or row.task.lane == Lane.SEARCH:
            answer = _check_result(job, row, content)
            found.append(replace(answer, source=_source_name(job, row)))
            continue
        series = _requested_series(content)
        counts = by_task.get(row.task.pk, ImageCounts())
        if series:
            counts = progress.count_images(_series_results(box, row.task, series))
        answer = _transfer_result(
            job, box, row, content, counts, arrived.place(row, series) if arrived else ""
        )
        found.append(replace(answer, source=_source_name(job, row)))
    return found


def as_disclosed(job: Job, answer: TransferRowResult, disclosure: Disclosure) -> TransferRowResult:
    """Return the outcome without what the user may not see.

    This is the pseudonym, and the folder that is named by it or by the patient.
    """
    content = answer.content
    if content is None:
        return answer
    if answer.is_invalid and not disclosure.rows:
        # The column of the pseudonym may hold anything, even the name of the patient.
        return replace(answer, content=replace(content, pseudonym="", requested={}))
    if content.pseudonym and not disclosure.given:
        # Masked instead of empty: if the sheet is uploaded again, the patient must not silently get
        # another pseudonym.
        content = replace(
            content,
            pseudonym=MASK,
            requested={**content.requested, str(SheetField.PSEUDONYM): MASK},
        )
        answer = replace(answer, content=content, is_hidden=True)
    elif answer.generated and not disclosure.generated:
        answer = replace(answer, generated="", is_hidden=True)
    node = job.destination
    is_folder = node is not None and not archives.is_archive(node) and answer.path != node.name
    hides_folder = not disclosure.rows if job.is_as_is else answer.is_hidden
    if not (answer.path and is_folder and hides_folder):
        return answer
    words = _("%(node)s (folder not shown: its name identifies the patient)")
    if not job.is_as_is:
        words = _("%(node)s (folder not shown: its name is the pseudonym)")
    return replace(answer, path=words % {"node": node})


def _requested_series(content: RowContent | None) -> str:
    """The series UID of the row; empty for the whole study."""
    return content.requested.get(SERIES_UID, "") if content else ""


def has_several_sources(job: Job) -> bool:
    """Return whether several sources were chosen, which are queried in turn."""
    return bool(job.order.get("further"))


def _source_name(job: Job, row: ResultLine) -> str:
    is_nowhere = row.is_asked and row.notes == [RowNote.NOTHING.value]
    if row.task is None or row.task.source is None or is_nowhere or not has_several_sources(job):
        return ""
    return row.task.source.name


def describe_row_notes(row: ResultLine, content: RowContent | None) -> str:
    """Return the notes on a row, the errors of its sheet and source, and skipped series, as text."""
    messages = note_messages(row.notes)
    if content is not None:
        messages += [one for one in (content.reason, content.finding) if one is not None]
    there = row.facts.get("there", 0)
    if there and RowNote.DELIVERED not in row.notes:
        messages.append(Message("row.series-delivered-before", count=there))
    return " ".join(map(str, messages))


def _check_result(job: Job, row: ResultLine, content: RowContent | None) -> TransferRowResult:
    """A row that has no transfer task yet, or gets none."""
    state, word = _check_state(job, row, content)
    why = describe_row_notes(row, content)
    if row.task is not None and not row.is_asked and row.task.state == TaskState.FAILURE:
        why = str(row.task.message or "")
    is_invalid = RowNote.INVALID in row.notes
    step = get_transfer_step(job, row, has_withheld=False)
    return TransferRowResult(
        row.line, state, str(word), why, content=content, is_invalid=is_invalid, step=step
    )


def _check_state(job: Job, row: ResultLine, content: RowContent | None) -> tuple[str, Any]:
    notes = set(row.notes)
    if RowNote.LEFT_OUT in notes:
        return "canceled", _("excluded")
    if row.task is None:
        return "failure", _("error")
    if not row.is_asked:
        if row.task.state in (TaskState.FAILURE, TaskState.CANCELED):
            return "failure", _("not queried")
        return "pending", _("not queried yet")
    if RowNote.BLOCKED in notes:
        return "failure", _("patient is blocked")
    if RowNote.DELIVERED in notes:
        return "success", _("delivered before")
    if RowNote.PSEUDONYM in notes:
        return "failure", _("pseudonym conflict")
    if not row.is_found or notes & _FAILING_NOTES:
        return "failure", _("not found") if RowNote.PATIENTS not in notes else _("two patients")
    if content is not None and content.chosen is None:
        return "warning", _("several studies")
    if job.stage == JobStage.WHOLE:
        return "failure", _("not started")
    waits = job.stage == JobStage.PILOT
    return "good", _("waiting for the pilot") if waits else _("found")


def _transfer_result(
    job: Job,
    cipher: ValueCipher,
    row: ResultLine,
    content: RowContent | None,
    counts: ImageCounts,
    place: str,
) -> TransferRowResult:
    task = row.task
    assert task is not None, "the row has a transfer task"
    generated = ""
    if content is not None and not content.pseudonym:
        generated = encrypted_payload.open_task(task, cipher).pseudonym
    parts = (task.message, describe_row_notes(row, content))
    why = " ".join(str(part) for part in parts if part)
    if task.state == TaskState.PENDING and job.state == JobState.WAITING_FOR_APPROVAL:
        why = str(Message("row.waiting-for-approval"))
    ended = counts.at_end
    word = state_label(task.state, ended)
    is_empty = task.state == TaskState.SUCCESS and ended.is_nothing
    shown = NOTHING_DELIVERED if is_empty else task.state
    step = get_transfer_step(job, row, has_withheld=ended.withheld > 0)
    return TransferRowResult(
        row.line, shown, word, why, counts, task, content, generated, place, step=step
    )


def _series_results(cipher: ValueCipher, task: Task, series_uid: str) -> Any:
    items = SeriesResult.objects.filter(task=task)
    return (
        items.filter(index=encrypted_payload.series_index(cipher, task, series_uid))
        if series_uid
        else items
    )


class _DeliveryLocations:
    """The folders with the images of some rows: two queries for all rows, one ledger for each."""

    def __init__(
        self, cipher: ValueCipher, job: Job, wanted: Mapping[int, tuple[ResultLine, str]]
    ) -> None:
        self._job, self._cipher = job, cipher
        self._files: str | None = None
        tasks = {row.task_id for row, _series in wanted.values()}
        rows = SeriesResult.objects.filter(task__in=tasks, delivered__gt=0).values_list(
            "task_id", "index", "pk"
        )
        first: dict[tuple[int | None, str], int] = {}
        for task, index, pk in rows:
            first.setdefault((task, ""), pk)
            first[task, index] = pk
        self._item_of = {
            line: first.get((row.task_id, self._index(row, series)))
            for line, (row, series) in wanted.items()
        }
        self._items = SeriesResult.objects.in_bulk({pk for pk in self._item_of.values() if pk})

    def _index(self, row: ResultLine, series_uid: str) -> str:
        if row.task is None or not series_uid:
            return ""
        return encrypted_payload.series_index(self._cipher, row.task, series_uid)

    def place(self, row: ResultLine, series_uid: str) -> str:
        node = self._job.destination
        item = self._items.get(self._item_of.get(row.pk) or 0)
        if node is None or item is None:
            return ""
        entries = (
            encrypted_payload.open_series(item, self._cipher).manifest.delivered_entries().values()
        )
        path = next((entry.path for entry in entries if entry.path), "")
        if path and archives.is_archive(node):
            return self._names()
        if path:
            folder = PurePosixPath(path).parent
            return displayed_path(node, folder if series_uid else folder.parent)
        return node.name

    def _names(self) -> str:
        if self._files is None:
            built = self._job.archives.filter(removed_at=None).order_by("pk")
            self._files = ", ".join(built.values_list("name", flat=True))
        return self._files


def displayed_path(node: Node, below: PurePosixPath) -> str:
    r"""Return the path as users see it.

    For example \\server\share\LUNG\LUNG-0001, if the folder is displayed in this way.
    """
    base = str(node.settings.get("shown_path") or node.settings.get("path") or node.name)
    mark = "\\" if "\\" in base else "/"
    return base.rstrip("\\/") + mark + mark.join(below.parts)


def _open_content(cipher: ValueCipher, row: ResultLine) -> RowContent | None:
    try:
        return sheet_rows.open_row(cipher, row)
    except DecryptionError:
        return None


def transfer_lines(job: Job) -> Any:
    return job.lines.select_related("task__source").order_by("line")


COUNTS = ("expected", "delivered", "withheld", "failed", "skipped")
SOURCE = "ADIT source"
PLACE = "ADIT place"
GENERATED = "ADIT pseudonym"
ROWS_PER_QUERY = 200


def result_columns(job: Job, sees: Disclosure) -> tuple[str, ...]:
    """Return the columns of the result sheet."""
    ours = [RESULT_LINE, RESULT_OUTCOME, RESULT_REASON, RESULT_STEP]
    ours += [f"ADIT {name}" for name in COUNTS]
    ours += [SOURCE, PLACE] if has_several_sources(job) else [PLACE]
    if shows_pseudonyms(job, sees):
        ours.append(GENERATED)
    own = job.order.get("own_headers", []) if sees.rows else []
    return add_own_columns((*get_template_columns(SheetKind.TRANSFER), *ours), own)


def result_rows(job: Job, sees: Disclosure) -> Iterator[Sequence[str]]:
    """Yield one row for each row of the sheet, in its order. Lazy."""
    for answer in _all_row_results(job, sees):
        yield result_cells(job, answer, sees)


def result_cells(job: Job, answer: TransferRowResult, sees: Disclosure) -> list[str]:
    """Return the cells of one row in the order of `result_columns`.

    The answer is that of `as_disclosed`.
    """
    given = [*_requested_cells(answer, sees), *_result_cells(answer)]
    given += [answer.source, answer.path] if has_several_sources(job) else [answer.path]
    if shows_pseudonyms(job, sees):
        given.append(answer.generated)
    return [*given, *_user_cells(job, answer, sees)]


def failed_columns(job: Job) -> tuple[str, ...]:
    return add_own_columns(
        get_template_columns(SheetKind.TRANSFER), job.order.get("own_headers", [])
    )


def failed_rows(job: Job, sees: Disclosure) -> Iterator[Sequence[str]]:
    """Yield the rows that need attention, without our columns.

    They can be corrected and uploaded again.
    """
    for answer in _all_row_results(job, sees):
        if answer.needs_attention and answer.content is not None:
            yield [*_requested_cells(answer, sees), *_user_cells(job, answer, sees)]


def _all_row_results(job: Job, sees: Disclosure) -> Iterator[TransferRowResult]:
    every = list(transfer_lines(job))
    for at in range(0, len(every), ROWS_PER_QUERY):
        for answer in get_row_results(job, every[at : at + ROWS_PER_QUERY], places=True):
            yield as_disclosed(job, answer, sees)


def _requested_cells(answer: TransferRowResult, sees: Disclosure) -> list[str]:
    """The columns of the template. A study that the check found has its UID here."""
    asked = dict(answer.content.requested) if answer.content else {}
    if not sees.rows:
        asked = {name: asked.get(name, "") for name in ("Pseudonym", "Visit", "VisitDescription")}
    elif answer.content and answer.content.study is not None:
        study = answer.content.study.record
        asked = {"PatientID": study.patient_id, **asked, "StudyInstanceUID": study.study_uid}
    return [asked.get(str(column), "") for column in get_template_columns(SheetKind.TRANSFER)]


def _result_cells(answer: TransferRowResult) -> list[str]:
    counts = answer.counts
    numbers = [getattr(counts, name) if counts else None for name in COUNTS]
    said = ["" if number is None else str(number) for number in numbers]
    step = "" if answer.step is None else str(answer.step)
    return [str(answer.line), str(answer.label), answer.reason, step, *said]


def _user_cells(job: Job, answer: TransferRowResult, sees: Disclosure) -> list[str]:
    if not sees.rows:
        return []
    width = len(job.order.get("own_headers", []))
    own = list(answer.content.user_cells) if answer.content else []
    return (own + [""] * width)[:width]
