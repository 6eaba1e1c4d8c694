"""Messages of the notes on rows."""

import pytest

from adit.jobs.kinds.base import RowNote
from adit.message_templates import TEMPLATES
from adit.results.row_notes import note_messages


@pytest.mark.parametrize("note", RowNote)
def test_each_note_has_a_message_that_is_a_sentence(note: RowNote) -> None:
    (message,) = note_messages([note.value])

    assert message.code in TEMPLATES
    assert str(message).endswith(".")


def test_notes_keep_their_order() -> None:
    codes = [one.code for one in note_messages([RowNote.SEVERAL, RowNote.PATIENTS])]

    assert codes == ["row.several-studies", "row.several-patients"]
