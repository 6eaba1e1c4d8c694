"""The messages of the notes on rows, for queries and transfers."""

from collections.abc import Iterable, Mapping

from adit.jobs.kinds.base import RowNote
from adit_engine.messages import Message

_CODES: Mapping[RowNote, str] = {
    RowNote.NOTHING: "row.not-found",
    RowNote.CAPPED: "row.more-results",
    RowNote.PATIENTS: "row.several-patients",
    RowNote.OTHER_PERSON: "row.different-patient",
    RowNote.NOT_ASKED: "row.filtered-by-adit",
    RowNote.SEVERAL: "row.several-studies",
    RowNote.SERIES_GONE: "row.series-missing",
    RowNote.NO_ANSWER: "row.source-failed",
    RowNote.DELIVERED: "row.delivered-before",
    RowNote.LEFT_OUT: "row.excluded",
    RowNote.INVALID: "row.invalid",
    RowNote.PSEUDONYM: "row.pseudonym-conflict",
    RowNote.BLOCKED: "row.blocked",
}


def note_messages(notes: Iterable[str]) -> list[Message]:
    """Return the message of each note, in this order."""
    return [Message(_CODES[RowNote(note)]) for note in notes]
