"""The kind "batch query": search for the patients of a sheet, row by row, without transfer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from adit.jobs.kinds.base import (
    Kind,
    OrderRequest,
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

    sheet_row: SheetRow
    patient_query: PatientQuery = field(repr=False)


class BatchQuery(Kind):
    code: ClassVar[str] = "batch_query"
    label: ClassVar[str] = "Batch query"
    is_batched: ClassVar[bool] = True
    sends_images: ClassVar[bool] = False
    has_result_table: ClassVar[bool] = True
    limit_setting: ClassVar[str] = "MAX_QUERY_ROWS"

    def plan(self, request: OrderRequest[BatchQueryRow]) -> list[TaskPlan]:
        """Return one task per query and source; rows with the same query share a task.

        Raises InvalidInput if the order contradicts itself.
        """
        if not request.items:
            raise InvalidInput("batch-query.no-row")
        if len(request.items) > MAX_ROWS:
            raise InvalidInput("batch-query.many-rows", limit=MAX_ROWS)
        if not request.sources:
            raise InvalidInput("batch-query.no-source")
        if len(set(request.sources)) > MAX_SOURCES:
            raise InvalidInput("batch-query.many-sources", limit=MAX_SOURCES)
        if request.destinations:
            raise InvalidInput("batch-query.has-destination")
        groups: dict[tuple[str, ...], list[BatchQueryRow]] = {}
        for row in request.items:
            groups.setdefault(row.patient_query.key, []).append(row)
        return [
            _plan_task(source, rows)
            for source in dict.fromkeys(request.sources)
            for rows in groups.values()
        ]

    def facts(self, request: OrderRequest[BatchQueryRow]) -> dict[str, Any]:
        return {
            "own_headers": list(request.sheet.own_headers),
            "next_destinations": list(request.sheet.next_destinations),
        }

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        asked = payload["questions"]
        questions = [PatientQuery.from_json(one["question"]) for one in asked]
        answers = PatientSearch(context.source, context.stop).search(questions)
        for one, answer in zip(asked, answers, strict=True):
            yield RowMatches(one["line"], answer.records, _row_notes(answer))


def _plan_task(source: int, rows: list[BatchQueryRow]) -> TaskPlan:
    questions = [
        {"line": row.sheet_row.line, "question": row.patient_query.to_json()} for row in rows
    ]
    lines = ", ".join(str(row.sheet_row.line) for row in rows)
    return TaskPlan(
        source=source,
        payload={"questions": questions},
        patient_id=rows[0].patient_query.person.patient_id,
        title=f"Line {lines}" if len(rows) == 1 else f"Lines {lines}",
        searches=True,
        rows=tuple(row.sheet_row for row in rows),
    )


def _row_notes(answer: PatientQueryResult) -> tuple[RowNote, ...]:
    said = {
        RowNote.NOTHING: not answer.records,
        RowNote.OTHER_PERSON: answer.other_person,
        RowNote.CAPPED: answer.is_capped,
        RowNote.PATIENTS: answer.patients > 1,
        RowNote.NOT_ASKED: answer.is_relaxed,
    }
    return tuple(note for note, is_so in said.items() if is_so)
