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
from adit.spreadsheets.limits import CellPosition, SheetReadError
from adit.spreadsheets.table import (
    EMPTY_CELL,
    Cell,
    CellKind,
    SheetLine,
    SheetTable,
    UnreadableSheet,
)
from adit_engine.messages import Message

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
                Message.from_json(answer["refused"]), CellPosition(*answer["place"])
            )
        if not answer["lines"]:
            raise SheetReadError(Message("sheet.empty"))
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
        raise SheetReadError(Message("sheet.file-empty"))
    if data.startswith(_OLE):
        raise SheetReadError(Message("sheet.old-or-encrypted"))
    if data.startswith(_ZIP):
        if ending.endswith((".xlsm", ".xltm")):
            raise SheetReadError(Message("sheet.macros"))
        return "xlsx"
    if ending.endswith(_TEXT_ENDINGS):
        return "csv"
    if ending.endswith((".xlsx", ".xls", ".xlsb", ".xlsm", ".ods")):
        raise SheetReadError(Message("sheet.wrong-extension"))
    raise SheetReadError(Message("sheet.unsupported"))


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
        raise SheetReadError(Message("sheet.too-complex")) from None
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
