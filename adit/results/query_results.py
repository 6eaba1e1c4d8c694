"""Decrypt the results of a batch query; sort, filter, pick and export them.

Used by the results page.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.jobs.kinds.base import RowNote
from adit.jobs.models import Job, ResultLine, TaskState
from adit.results import sheet_rows
from adit.results.row_notes import note_messages
from adit.spreadsheets.columns import SheetField, SheetKind
from adit.spreadsheets.template import get_template_columns as template_columns
from adit.spreadsheets.writer import (
    QUERY_RESULT_COLUMNS,
    RESULT_FOUND,
    RESULT_LINE,
    RESULT_REASON,
    RESULT_SOURCE,
    RESULT_STEP,
)
from adit.vault.cipher import ValueCipher
from adit_engine.messages import Message

MASK = "•••"
_IDENTIFYING = frozenset(QUERY_RESULT_COLUMNS) - {
    "Pseudonym",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
    "SeriesNumber",
}
_ASKED = (
    SheetField.PATIENT_ID,
    SheetField.PATIENT_NAME,
    SheetField.BIRTH_DATE,
    SheetField.ACCESSION,
)


class QueryRowOutcome(StrEnum):
    """Outcome of a row. The values are those of the filter."""

    FOUND = "found"
    NOTHING = "nothing"
    FAILED = "failed"
    OPEN = "open"
    """Not queried yet."""
    INVALID = "invalid"
    """Not queried: the row has an error in the sheet."""
    EXCLUDED = "excluded"
    """Not queried: the user excluded the row, or it is an example of the template."""


OUTCOME_LABELS: Mapping[str, Any] = {
    QueryRowOutcome.FOUND: _lazy("found"),
    QueryRowOutcome.NOTHING: _lazy("not found"),
    QueryRowOutcome.FAILED: _lazy("failed"),
    QueryRowOutcome.OPEN: _lazy("not queried yet"),
    QueryRowOutcome.INVALID: _lazy("error"),
    QueryRowOutcome.EXCLUDED: _lazy("excluded"),
}


@dataclass(frozen=True, slots=True)
class QueryResultAccess:
    """Whether a user may see patients, and the columns that the owner's sheet added."""

    identified: bool
    own: bool
    pseudonyms: bool = False


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One line: a study or series that was found, or a row without a result."""

    pk: int
    line: int
    pseudonym: str
    user_cells: tuple[str, ...] = field(repr=False)
    requested: Mapping[str, str] = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    """Values of the record by DICOM keyword; empty if there is no result."""
    source: str = ""
    outcome: QueryRowOutcome = QueryRowOutcome.OPEN
    notes: tuple[RowNote, ...] = ()
    reason: Message | None = None
    """The message of a row that failed or waits."""
    finding: Message | None = None
    """What the upload found: an error, or the line that this row repeats."""

    def text(self, keyword: str) -> str:
        value = self.values.get(keyword, "")
        return value if isinstance(value, str) else "\\".join(value)

    @property
    def modalities(self) -> tuple[str, ...]:
        value = self.values.get("ModalitiesInStudy") or ()
        words = tuple(value.split("\\")) if isinstance(value, str) else tuple(value)
        return (self.text("Modality"),) if self.text("SeriesInstanceUID") else tuple(sorted(words))

    @property
    def patient(self) -> str:
        """Return the patient ID as found; without a result, as in the sheet."""
        return self.text("PatientID") or self.requested.get(SheetField.PATIENT_ID, "")

    @property
    def name(self) -> str:
        return self.text("PatientName") or self.requested.get(SheetField.PATIENT_NAME, "")

    @property
    def birth_date(self) -> str:
        return self.text("PatientBirthDate") or self.requested.get(SheetField.BIRTH_DATE, "")

    @property
    def day(self) -> str:
        return self.text("StudyDate")

    @property
    def description(self) -> str:
        return self.text("StudyDescription")

    @property
    def series_number(self) -> str:
        return self.text("SeriesNumber")

    @property
    def series_description(self) -> str:
        return self.text("SeriesDescription")

    @property
    def instances(self) -> int:
        level = "Series" if self.text("SeriesInstanceUID") else "Study"
        count = self.text(f"NumberOf{level}RelatedInstances")
        return int(count) if count.isdecimal() else 0

    def cell(self, column: str) -> str:
        """Return the value for this column of an export."""
        if column == "Pseudonym":
            return self.pseudonym
        if column == "ModalitiesInStudy":
            return "\\".join(self.modalities)
        if column == "NumberOfStudyRelatedInstances":
            return str(self.instances) if self.instances else ""
        if not self.values and column in _ASKED:
            return self.requested.get(column, "")
        return self.text(column)


def open_results(cipher: ValueCipher, rows: Iterable[ResultLine]) -> list[QueryResult]:
    """Decrypt lines that were read with their task and its source.

    Raises DecryptionError.
    """
    return [_open_result(cipher, row) for row in rows]


def result_lines(job: Job) -> QuerySet[ResultLine]:
    """Return all lines in the order of the sheet."""
    return (
        ResultLine.objects.filter(job=job)
        .select_related("task__source")
        .only(
            *("line", "number", "sealed", "is_found", "is_asked", "notes", "job_id"),
            *("task__state", "task__message", "task__source__name"),
        )
        .order_by("line", "task_id", "number")
    )


def _open_result(cipher: ValueCipher, row: ResultLine) -> QueryResult:
    content = cipher.open(row.sealed, sheet_rows.seal_context(row.job_id, row.line))
    outcome = _row_outcome(row)
    is_unanswered = outcome in (QueryRowOutcome.FAILED, QueryRowOutcome.OPEN)
    return replace(
        _make_result(row.pk, row.line, content),
        source=row.task.source.name if row.task and row.task.source else "",
        outcome=outcome,
        notes=tuple(RowNote(note) for note in row.notes if note != RowNote.NOTHING),
        reason=row.task.message if row.task and is_unanswered else None,
    )


def mask_invalid(result: QueryResult) -> QueryResult:
    """Return the result of an invalid row for users who may not see the uploaded rows.

    The column of the pseudonym may hold anything, even the name of the patient.
    """
    if result.outcome is not QueryRowOutcome.INVALID or not result.pseudonym:
        return result
    return replace(result, pseudonym=MASK)


def _make_result(pk: int, line: int, content: dict[str, Any]) -> QueryResult:
    studies = content["studies"]
    return QueryResult(
        pk=pk,
        line=line,
        pseudonym=content["pseudonym"],
        user_cells=tuple(content["own"]),
        requested=content["asked"],
        values=studies[0]["record"]["values"] if studies else {},
        finding=Message.from_json(content["finding"]) if content.get("finding") else None,
    )


def _row_outcome(row: ResultLine) -> QueryRowOutcome:
    if row.is_found:
        return QueryRowOutcome.FOUND
    if row.is_asked:
        return QueryRowOutcome.NOTHING
    if row.task is None:
        is_invalid = RowNote.INVALID in row.notes
        return QueryRowOutcome.INVALID if is_invalid else QueryRowOutcome.EXCLUDED
    is_over = row.task.state in (TaskState.FAILURE, TaskState.CANCELED)
    return QueryRowOutcome.FAILED if is_over else QueryRowOutcome.OPEN


# Sorting and filtering -----------------------------------------------------------------------

SORTS = {
    "patient": lambda r: (r.patient, r.line),
    "name": lambda r: (r.name.casefold(), r.line),
    "born": lambda r: (r.birth_date, r.line),
    "date": lambda r: (r.day, r.line),
    "modality": lambda r: (r.modalities, r.line),
    "description": lambda r: (r.text("StudyDescription").casefold(), r.line),
    "images": lambda r: (r.instances, r.line),
}
"""Sort keys by their names in URLs."""


def sort_and_search(
    cipher: ValueCipher, rows: QuerySet[ResultLine], sort: str, text: str, sees: QueryResultAccess
) -> list[int]:
    """Return the primary keys of the lines in which the user can see the text, sorted.

    `-date` sorts the newest first; rows without a result remain at the end. Raises DecryptionError.
    """
    results = list(_open_without_task(cipher, rows))
    if text:
        results = [result for result in results if _matches_text(result, text, sees)]
    key = SORTS.get(sort.removeprefix("-"))
    if key is not None:
        found = sorted((r for r in results if r.values), key=key, reverse=sort.startswith("-"))
        results = found + [r for r in results if not r.values]
    return [result.pk for result in results]


def _open_without_task(cipher: ValueCipher, rows: QuerySet[ResultLine]) -> Iterator[QueryResult]:
    """Decrypt lines without the data of their tasks."""
    for pk, job, line, sealed in rows.values_list("pk", "job_id", "line", "sealed"):
        content = cipher.open(sealed, sheet_rows.seal_context(job, line))
        yield _make_result(pk, line, content)


def _matches_text(result: QueryResult, text: str, sees: QueryResultAccess) -> bool:
    wanted = text.casefold().strip()
    return any(wanted in said.casefold() for said in _searchable_texts(result, sees))


def _searchable_texts(result: QueryResult, sees: QueryResultAccess) -> Iterator[str]:
    yield from (", ".join(result.modalities), str(result.line))
    if sees.pseudonyms:
        yield result.pseudonym
    if sees.own:
        yield from result.user_cells
    if sees.identified:
        yield from (result.patient, result.name, result.birth_date, result.day)
        yield from (result.text("StudyDescription"), result.text("SeriesDescription"))
        yield from (result.text("AccessionNumber"), result.requested.get(SheetField.ACCESSION, ""))


# Picking -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PickRule:
    """Which results of each row are picked.

    `most` limits their number: to the newest, or to those nearest to the date `near`.
    """

    limit: int | None = None
    near: date | None = None
    modalities: tuple[str, ...] = ()


def pick_results(results: Iterable[QueryResult], rule: PickRule) -> list[int]:
    """Return the primary keys of the results that the rule picks."""
    by_row: dict[int, list[QueryResult]] = {}
    for result in results:
        fits = not rule.modalities or not set(rule.modalities).isdisjoint(result.modalities)
        if result.values and fits:
            by_row.setdefault(result.line, []).append(result)
    return [r.pk for rows in by_row.values() for r in _in_preference(rows, rule)[: rule.limit]]


def _in_preference(rows: list[QueryResult], rule: PickRule) -> list[QueryResult]:
    newest = sorted(rows, key=lambda r: r.day + r.text("StudyTime"), reverse=True)
    near = rule.near
    if near is None:
        return newest
    return sorted(newest, key=lambda r: _days_between(near, r.day))


def _days_between(day: date, text: str) -> int:
    """A study without a date is further away than any other."""
    try:
        return abs((date(int(text[:4]), int(text[4:6]), int(text[6:8])) - day).days)
    except ValueError:
        return 1_000_000


# Tables --------------------------------------------------------------------------------------


def export_columns() -> tuple[str, ...]:
    """Return the columns of an export, without the user's own.

    They are those that a batch transfer reads, and our results.
    """
    ours = (RESULT_LINE, RESULT_SOURCE, RESULT_FOUND, RESULT_REASON, RESULT_STEP)
    return (*QUERY_RESULT_COLUMNS, *ours)


def own_headers(job: Job) -> tuple[str, ...]:
    return tuple(job.order.get("own_headers", ()))


def export_rows(
    job: Job,
    results: Iterable[QueryResult],
    sees: QueryResultAccess,
    only: Collection[int] | None = None,
) -> Iterator[tuple[str, ...]]:
    """Yield rows with the columns of `export_columns` and the user's own columns.

    `only` limits the results to these primary keys; rows without a result are always included.
    """
    own_blank = ("",) * len(own_headers(job))
    for result in results:
        if only is not None and result.values and result.pk not in only:
            continue
        yield (
            *(_visible_cell(result, column, sees) for column in QUERY_RESULT_COLUMNS),
            str(result.line),
            result.source,
            "yes" if result.values else "no",
            describe_notes(result),
            describe_step(result),
            *(result.user_cells if sees.own else own_blank),
        )


def unanswered_columns() -> tuple[str, ...]:
    """Return the columns of a sheet with the rows that have no result."""
    return tuple(str(field) for field in template_columns(SheetKind.QUERY))


def unanswered_rows(
    job: Job, results: Iterable[QueryResult], sees: QueryResultAccess
) -> Iterator[tuple[str, ...]]:
    """Yield the rows without a result as they were in the sheet.

    Only for users who may see the rows of the sheet.
    """
    seen: set[int] = set()
    for result in results:
        is_excluded = result.outcome is QueryRowOutcome.EXCLUDED
        if result.values or is_excluded or result.line in seen:
            continue
        seen.add(result.line)
        asked = {
            **result.requested,
            SheetField.PSEUDONYM: _visible_cell(result, SheetField.PSEUDONYM, sees),
        }
        yield (*(asked.get(column, "") for column in unanswered_columns()), *result.user_cells)


def _visible_cell(result: QueryResult, column: str, sees: QueryResultAccess) -> str:
    text = result.cell(column)
    if column == SheetField.PSEUDONYM:
        return MASK if text and not sees.pseudonyms else text
    return MASK if text and not sees.identified and column in _IDENTIFYING else text


def describe_notes(result: QueryResult) -> str:
    """Return why there is no result, or the notes on the result, as text."""
    messages = note_messages(result.notes)
    if result.outcome is QueryRowOutcome.NOTHING and RowNote.OTHER_PERSON not in result.notes:
        messages.insert(0, Message("row.not-found"))
    elif result.outcome is QueryRowOutcome.FAILED:
        messages.insert(0, result.reason or Message("row.not-queried"))
    elif result.outcome is QueryRowOutcome.OPEN:
        messages.insert(0, result.reason or Message("row.not-queried-yet"))
    if result.finding is not None:
        messages.append(result.finding)
    return " ".join(map(str, messages))


_STEPS = {
    QueryRowOutcome.NOTHING: "row-step.correct",
    QueryRowOutcome.FAILED: "row-step.retry",
    QueryRowOutcome.OPEN: "row-step.wait",
    QueryRowOutcome.INVALID: "row-step.correct-error",
    QueryRowOutcome.EXCLUDED: "row-step.upload-again",
}
_FOUND_STEPS = {
    RowNote.CAPPED: "row-step.narrow",
    RowNote.PATIENTS: "row-step.check-patients",
}


def describe_step(result: QueryResult) -> str:
    """Return what to do next, as text; empty for a certain result."""
    if result.outcome is not QueryRowOutcome.FOUND:
        return str(Message(_STEPS[result.outcome]))
    steps = (step for note, step in _FOUND_STEPS.items() if note in result.notes)
    return " ".join(str(Message(step)) for step in steps)


def count_outcomes(job: Job) -> dict[QueryRowOutcome, int]:
    """Count the rows of the sheet by outcome, with a small query for each."""
    every = ResultLine.objects.filter(job=job).order_by()
    over = (TaskState.FAILURE, TaskState.CANCELED)

    def rows(of: QuerySet[ResultLine]) -> int:
        return of.values("line").distinct().count()

    return {
        QueryRowOutcome.FOUND: rows(every.filter(is_found=True)),
        QueryRowOutcome.NOTHING: rows(every.filter(is_found=False, is_asked=True)),
        QueryRowOutcome.FAILED: rows(every.filter(is_asked=False, task__state__in=over)),
        QueryRowOutcome.OPEN: rows(_open_rows(every)),
        QueryRowOutcome.INVALID: rows(every.filter(_IS_INVALID)),
        QueryRowOutcome.EXCLUDED: rows(every.filter(_IS_EXCLUDED)),
    }


_IS_INVALID = Q(task=None, notes=[RowNote.INVALID.value])
_IS_EXCLUDED = Q(task=None, notes=[RowNote.LEFT_OUT.value])


def _open_rows(rows: QuerySet[ResultLine]) -> QuerySet[ResultLine]:
    over = (TaskState.FAILURE, TaskState.CANCELED)
    return rows.filter(is_asked=False).exclude(Q(task=None) | Q(task__state__in=over))


def summarize_outcomes(job: Job, results: Sequence[QueryResult]) -> Iterator[tuple[str, str | int]]:
    """Yield the totals of a query: rows by outcome, and the studies and images found. Lazy.

    A study that several rows found is counted once.
    """
    counts = count_outcomes(job)
    yield _("Rows"), sum(counts.values())
    for outcome, count in counts.items():
        if count:
            yield _("Rows: %(outcome)s") % {"outcome": OUTCOME_LABELS[outcome]}, count
    studies = {
        result.text("StudyInstanceUID"): result.text("NumberOfStudyRelatedInstances")
        for result in results
        if result.values
    }
    yield _("Studies"), len(studies)
    yield (
        _("Images, as the sources state"),
        sum(int(n) for n in studies.values() if n.isdecimal()),
    )


def filter_by_outcome(rows: QuerySet[ResultLine], outcome: str) -> QuerySet[ResultLine]:
    """Return the rows with this outcome; `note` are those with notes to check."""
    over = (TaskState.FAILURE, TaskState.CANCELED)
    if outcome == QueryRowOutcome.FOUND:
        return rows.filter(is_found=True)
    if outcome == QueryRowOutcome.NOTHING:
        return rows.filter(is_found=False, is_asked=True)
    if outcome == QueryRowOutcome.FAILED:
        return rows.filter(is_asked=False, task__state__in=over)
    if outcome == QueryRowOutcome.OPEN:
        return _open_rows(rows)
    if outcome == QueryRowOutcome.INVALID:
        return rows.filter(_IS_INVALID)
    if outcome == QueryRowOutcome.EXCLUDED:
        return rows.filter(_IS_EXCLUDED)
    if outcome == "note":
        return rows.exclude(Q(task=None) | Q(notes=[]) | Q(notes=[RowNote.NOTHING.value]))
    return rows
