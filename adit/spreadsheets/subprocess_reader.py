"""Child: reads one file in a process of its own, within limits of time and memory.

Usage: python -m adit.spreadsheets.subprocess_reader xlsx|csv; the file comes by stdin, JSON leaves by stdout.
"""

import json
import resource
import sys
from collections.abc import Iterable
from typing import Any

from adit.spreadsheets import limits
from adit.spreadsheets.limits import Refusal


def main(form: str) -> None:
    _limit()
    try:
        answer = _read(form, sys.stdin.buffer.read())
    except Refusal as refusal:
        place = refusal.place
        answer = {
            "refused": refusal.sentence,
            "values": refusal.values,
            "place": [place.line, place.column],
        }
    sys.stdout.write(json.dumps(answer))


def _limit() -> None:
    most = limits.MOST_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.MOST_SECONDS, limits.MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(form: str, data: bytes) -> dict[str, Any]:
    # Each reader is imported by the process that needs it: that is what starts quickly.
    if form == "xlsx":
        from adit.spreadsheets.xlsx_reader import Book

        book = Book(data)
        lines = _counted(book.lines())
        others = [name for name in book.visible if name != book.sheet]
        hidden = sorted(book.hidden)
        return {"lines": lines, "sheet": book.sheet, "others": others, "hidden": hidden}
    from adit.spreadsheets import csv_reader

    return {"lines": _counted(csv_reader.lines(data)), "sheet": "", "others": [], "hidden": []}


def _counted(lines: Iterable[tuple[int, list[Any]]]) -> list[tuple[int, list[Any]]]:
    kept = []
    for number, values in lines:
        kept.append((number, values))
        limits.check_count(len(kept), number)
    return kept


if __name__ == "__main__":
    main(sys.argv[1])
