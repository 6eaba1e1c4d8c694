"""Search results stored on the server, so that a form needs only the number of a row.

Used by the pages of the selective transfer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adit.accounts.models import User
from adit.numbers import parse_number
from adit.orders import drafts
from adit_engine.messages import Message
from adit_engine.values.record import Record


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """One study at one node. `series` is None until it was queried."""

    node_id: int
    node: str
    domain: str
    study: Record
    series: tuple[Record, ...] | None = None
    is_expanded: bool = False
    error: Message | None = None
    """Why its series could not be listed."""

    def to_json(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "node": self.node,
            "domain": self.domain,
            "study": self.study.to_json(),
            "series": None if self.series is None else [r.to_json() for r in self.series],
            "is_open": self.is_expanded,
            "trouble": None if self.error is None else self.error.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "FoundStudy":
        series, trouble = data["series"], data["trouble"]
        return cls(
            node_id=data["node_id"],
            node=data["node"],
            domain=data["domain"],
            study=Record.from_json(data["study"]),
            series=None if series is None else tuple(Record.from_json(r) for r in series),
            is_expanded=data["is_open"],
            error=None if trouble is None else Message.from_json(trouble),
        )


@dataclass(frozen=True, slots=True)
class StoredSearch:
    """One search and its results.

    `typed` are the search fields as entered; `rows` is None before the first search.
    """

    key: str
    form_data: Mapping[str, list[str]] = field(default_factory=dict, repr=False)
    rows: tuple[FoundStudy, ...] | None = None
    notes: tuple[Message, ...] = ()
    """Messages about nodes that failed."""
    hints: tuple[Message, ...] = ()
    """Messages about nodes that have more matches than are shown."""
    ticked: frozenset[str] = frozenset()
    """"3" for the fourth study, "3.0" for its first series."""

    @classmethod
    def load(cls, user: User, key: str) -> "StoredSearch | None":
        data = drafts.load_draft(user, key) if drafts.is_key(key) else None
        if not isinstance(data, dict) or "rows" not in data:
            return None
        rows = data["rows"]
        return cls(
            key=key,
            form_data=data["typed"],
            rows=None if rows is None else tuple(FoundStudy.from_json(row) for row in rows),
            notes=tuple(map(Message.from_json, data["notes"])),
            hints=tuple(map(Message.from_json, data["hints"])),
            ticked=frozenset(data["ticked"]),
        )

    def save(self, user: User) -> None:
        content = {
            "typed": dict(self.form_data),
            "rows": None if self.rows is None else [row.to_json() for row in self.rows],
            "notes": [note.to_json() for note in self.notes],
            "hints": [hint.to_json() for hint in self.hints],
            "ticked": sorted(self.ticked),
        }
        drafts.save_draft(user, self.key, content)

    def row(self, text: str) -> FoundStudy | None:
        """Return the row with this number; None if there is no such row."""
        rows = self.rows or ()
        position = parse_number(text, len(rows) - 1)
        return None if position is None else rows[position]

    def with_row(self, position: int, row: FoundStudy) -> "StoredSearch":
        rows = list(self.rows or ())
        rows[position] = row
        return replace(self, rows=tuple(rows))

    def with_ticks(self, ticked: frozenset[str]) -> "StoredSearch":
        return replace(self, ticked=ticked)


def sort_studies(rows: list[FoundStudy], *, by_name: bool) -> tuple[FoundStudy, ...]:
    """Sort by patient, the newest study first.

    `by_name` only for users who see the names: otherwise the order would tell something of them.
    """
    newest_first = sorted(
        rows, key=lambda row: row.study.text("StudyDate") + row.study.study_time, reverse=True
    )
    return tuple(
        sorted(
            newest_first,
            key=lambda row: (
                row.study.patient_name.casefold() if by_name else "",
                row.study.patient_id,
            ),
        )
    )
