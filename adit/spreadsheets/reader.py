"""Read an uploaded file as a table, in a subprocess with limits of time and memory.

Used by the uploads of orders.
"""

import json
import math
import re
import subprocess
import sys
from typing import Any, Protocol

from adit.spreadsheets import limits
from adit.spreadsheets.limits import CellPosition, SheetReadError, gettext_noop
from adit.spreadsheets.table import (
    EMPTY_CELL,
    Cell,
    CellKind,
    SheetLine,
    SheetTable,
    UnreadableSheet,
)

_ZIP = b"PK\x03\x04"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_TEXT_ENDINGS = (".csv", ".txt", ".tsv")
_MAX_NAME_LENGTH = 100


class ReadableFile(Protocol):
    """A binary file, opened or uploaded."""

    def read(self, size: int = ..., /) -> bytes: ...


def read_sheet(file: ReadableFile, name: str) -> SheetTable:
    """Read the whole file as a table.

    A subprocess with limits of time and memory parses it. Nothing is stored. Raises
    UnreadableSheet.
    """
    shown = get_display_name(name)
    try:
        data = file.read(limits.MAX_FILE_BYTES + 1)
        limits.check_size(len(data))
        answer = _run_reader(_detect_format(data, name), data)
        if "refused" in answer:
            raise SheetReadError(
                answer["refused"], CellPosition(*answer["place"]), **answer["values"]
            )
        if not answer["lines"]:
            raise SheetReadError(gettext_noop("The sheet is empty."))
    except SheetReadError as refusal:
        raise UnreadableSheet(shown, refusal) from None
    return SheetTable(
        shown,
        tuple(
            SheetLine(number, tuple(map(_make_cell, values))) for number, values in answer["lines"]
        ),
        answer["sheet"],
        tuple(answer["others"]),
        frozenset(answer["hidden"]),
    )


def get_display_name(name: str) -> str:
    """Return the file name without folders and control characters, shortened."""
    last = re.split(r"[/\\]", name)[-1]
    plain = "".join(c for c in last if c.isprintable()).strip()
    return plain[-_MAX_NAME_LENGTH:] or "sheet"


def _detect_format(data: bytes, name: str) -> str:
    """The first bytes of the file decide. Its name decides only where they are not conclusive."""
    ending = name.lower()
    if not data.strip():
        raise SheetReadError(gettext_noop("The file is empty."))
    if data.startswith(_OLE):
        raise SheetReadError(
            gettext_noop(
                "This is an old (.xls) or a password-protected workbook. "
                "Save it as .xlsx, without a password."
            )
        )
    if data.startswith(_ZIP):
        if ending.endswith((".xlsm", ".xltm")):
            raise SheetReadError(
                gettext_noop("Workbooks that may hold macros are not read. Save it as .xlsx.")
            )
        return "xlsx"
    if ending.endswith(_TEXT_ENDINGS):
        return "csv"
    if ending.endswith((".xlsx", ".xls", ".xlsb", ".xlsm", ".ods")):
        raise SheetReadError(
            gettext_noop(
                "The file is not what its name says. Open it in Excel or LibreOffice and "
                "save it again as .xlsx."
            )
        )
    raise SheetReadError(
        gettext_noop("Only .xlsx and .csv files are read. Save the list as one of them.")
    )


def _run_reader(form: str, data: bytes) -> dict[str, Any]:
    try:
        done = subprocess.run(  # noqa: S603 our own module, no word of the file on the command line
            [sys.executable, "-I", "-m", "adit.spreadsheets.subprocess_reader", form],
            input=data,
            capture_output=True,
            timeout=limits.MAX_SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        raise SheetReadError(
            gettext_noop(
                "The file needs too much time or memory to be read. Copy the list alone, without "
                "formatting, into a new workbook; or save it as CSV."
            )
        ) from None
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _make_cell(value: Any) -> Cell:
    if value == "":
        return EMPTY_CELL
    if isinstance(value, str):
        return Cell(value)
    if isinstance(value, float):
        return _make_number_cell(value)
    ((word, text),) = value.items()
    kind = CellKind(word)
    return Cell(text.removesuffix(" 00:00:00") if kind is CellKind.DATE else text, kind)


def _make_number_cell(value: float) -> Cell:
    if not math.isfinite(value):
        return Cell(str(value), CellKind.ERROR)
    whole = value.is_integer() and abs(value) < 1e22
    return Cell(str(int(value)) if whole else repr(value), CellKind.NUMBER)
