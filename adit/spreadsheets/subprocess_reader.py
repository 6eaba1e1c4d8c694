"""Read one file in a subprocess, within limits of time and memory. Started by the reader.

Usage: python -m adit.spreadsheets.subprocess_reader xlsx|csv. The file is read from stdin, JSON is
written to stdout.
"""

import json
import resource
import sys
from collections.abc import Iterable
from typing import Any

from adit.spreadsheets import limits
from adit.spreadsheets.limits import SheetReadError


def main(form: str) -> None:
    _set_limits()
    try:
        answer = _read_file(form, sys.stdin.buffer.read())
    except SheetReadError as refusal:
        place = refusal.position
        answer = {"refused": refusal.message.to_json(), "place": [place.line, place.column]}
    sys.stdout.write(json.dumps(answer))


def _set_limits() -> None:
    most = limits.MAX_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.MAX_SECONDS, limits.MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read_file(form: str, data: bytes) -> dict[str, Any]:
    # Import only the reader that is needed, so that the process starts quickly.
    if form == "xlsx":
        from adit.spreadsheets.xlsx_reader import XlsxWorkbook

        book = XlsxWorkbook(data)
        lines = _collect_lines(book.lines())
        others = [name for name in book.visible if name != book.sheet]
        hidden = sorted(book.hidden)
        return {"lines": lines, "sheet": book.sheet, "others": others, "hidden": hidden}
    from adit.spreadsheets import csv_reader

    return {
        "lines": _collect_lines(csv_reader.read_lines(data)),
        "sheet": "",
        "others": [],
        "hidden": [],
    }


def _collect_lines(lines: Iterable[tuple[int, list[Any]]]) -> list[tuple[int, list[Any]]]:
    kept = []
    for number, values in lines:
        kept.append((number, values))
        limits.check_count(len(kept), number)
    return kept


if __name__ == "__main__":
    main(sys.argv[1])
