"""Write rows as CSV in which no spreadsheet finds a formula, and read such values back.

All fields are quoted. Some spreadsheets split a line at their own delimiter in spite of the quotes:
a German Excel at each semicolon. A text that would then begin like a formula gets an apostrophe,
at the start of the value and after each delimiter inside it. Used by all exports, and by the reader
of uploaded sheets.
"""

import re
from collections.abc import Iterable

_CELL_START = r"(\A|[,;\t\r\n])"
_FORMULA = r"(?=[\s\"']*[=+\-@＝＋－＠]|'*[\t\r\n])"
_UNSAFE = re.compile(_CELL_START + _FORMULA)
_ESCAPED = re.compile(_CELL_START + "'" + _FORMULA)


def format_csv_row(values: Iterable[object]) -> str:
    """Return one line of CSV with its line end; None becomes an empty field."""
    texts = ("" if value is None else escape_formulas(str(value)) for value in values)
    return ",".join('"' + text.replace('"', '""') + '"' for text in texts) + "\r\n"


def escape_formulas(text: str) -> str:
    """Put an apostrophe wherever a cell could begin with a formula.

    An apostrophe that is already there is kept: `unescape_formulas` returns the same text.
    """
    return _UNSAFE.sub(r"\1'", text)


def unescape_formulas(text: str) -> str:
    """Remove the apostrophes that `escape_formulas` adds."""
    return _ESCAPED.sub(r"\1", text)
