"""Refusal: why a file cannot be read as a sheet, and at which line and column.

Plain Python: the reading process imports this, and it starts quickly because it knows no Django.
"""

from dataclasses import dataclass


def gettext_noop(text: str) -> str:
    """Marks a sentence for translation; the parent process translates it."""
    return text


@dataclass(frozen=True, slots=True)
class Place:
    """A cell or a line, counted from 1 as a spreadsheet shows them; 0 = not known."""

    line: int = 0
    column: int = 0


class Refusal(Exception):
    """The sentence holds %-placeholders for `values`; neither ever holds what a cell says."""

    def __init__(self, sentence: str, place: Place | None = None, **values: str | int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.place = place or Place()
        self.values = values
