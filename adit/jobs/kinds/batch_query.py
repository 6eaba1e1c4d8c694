"""The kind "batch query": search for the patients of a sheet, row by row, without transfer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from adit.jobs.kinds.base import (
    Kind,
    OrderedChange,
    Pseudonymize,
    RowMatches,
    RowNote,
    SheetRow,
    TaskContext,
    TaskOutput,
    TaskPlan,
)
from adit_engine.errors import InvalidInput
from adit_engine.patient_search.search import PatientQuery, PatientQueryResult, PatientSearch

MAX_ROWS = 10_000
MAX_SOURCES = 5


@dataclass(frozen=True, slots=True)
class BatchQueryRow:
    """One line of the sheet: the query, and the user's values to return with the result."""

    sheet: SheetRow
    question: PatientQuery = field(repr=False)


@dataclass(frozen=True, slots=True)
class BatchQueryOrder:
    """An order of a batch query: each row is sent to each source.

    Sources are primary keys of nodes. Raises InvalidInput.
    """

    rows: tuple[BatchQueryRow, ...] = field(repr=False)
    sources: tuple[int, ...]
    project: int | None = None
    own_headers: tuple[str, ...] = ()
    """The headers of the user's own columns, which are returned with the results."""
    destination: None = None
    change: OrderedChange = field(default=Pseudonymize())
    """Unused: no images are sent."""
    announced: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise InvalidInput("No row is left to ask for: tick at least one.")
        if len(self.rows) > MAX_ROWS:
            raise InvalidInput(f"At most {MAX_ROWS} rows fit into one query: split the sheet.")
        if not self.sources:
            raise InvalidInput("Tick at least one PACS or folder to ask.")
        if len(set(self.sources)) > MAX_SOURCES:
            raise InvalidInput(f"At most {MAX_SOURCES} PACS or folders in one query.")

    @property
    def facts(self) -> dict[str, Any]:
        """The part of the order that may be stored unencrypted."""
        return {"own_headers": list(self.own_headers)}


class BatchQuery(Kind):
    word: ClassVar[str] = "batch_query"
    label: ClassVar[str] = "Batch query"
    in_a_row: ClassVar[bool] = True
    sends_images: ClassVar[bool] = False
    has_result_table: ClassVar[bool] = True
    limit_setting: ClassVar[str] = "MAX_QUERY_ROWS"

    def plan(self, order: BatchQueryOrder) -> list[TaskPlan]:
        """Return one task per query and source; rows with the same query share a task."""
        groups: dict[tuple[str, ...], list[BatchQueryRow]] = {}
        for row in order.rows:
            groups.setdefault(row.question.key, []).append(row)
        return [
            _plan_task(source, rows)
            for source in dict.fromkeys(order.sources)
            for rows in groups.values()
        ]

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        asked = payload["questions"]
        questions = [PatientQuery.from_json(one["question"]) for one in asked]
        answers = PatientSearch(context.source, context.stop).answers(questions)
        for one, answer in zip(asked, answers, strict=True):
            yield RowMatches(one["line"], answer.records, _row_notes(answer))


def _plan_task(source: int, rows: list[BatchQueryRow]) -> TaskPlan:
    questions = [{"line": row.sheet.line, "question": row.question.to_json()} for row in rows]
    lines = ", ".join(str(row.sheet.line) for row in rows)
    return TaskPlan(
        source=source,
        payload={"questions": questions},
        patient_id=rows[0].question.person.patient_id,
        title=f"Line {lines}" if len(rows) == 1 else f"Lines {lines}",
        searches=True,
        rows=tuple(row.sheet for row in rows),
    )


def _row_notes(answer: PatientQueryResult) -> tuple[RowNote, ...]:
    said = {
        RowNote.NOTHING: not answer.records,
        RowNote.OTHER_PERSON: answer.other_person,
        RowNote.CAPPED: answer.is_capped,
        RowNote.PATIENTS: answer.patients > 1,
        RowNote.NOT_ASKED: answer.is_loose,
    }
    return tuple(note for note, is_so in said.items() if is_so)
