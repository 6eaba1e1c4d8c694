"""Contents: the list that lies beside delivered images: what each file is, as csv and as json."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TextIO

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class DeliveryListLine:
    """One image. UIDs are those under which it went out; `outcome` is the word of a State.

    Path, size and sha256 are the file's as it lies there; empty where nothing was delivered.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    outcome: str
    reason: str = ""
    path: str = ""
    size_bytes: int | None = None
    sha256: str = ""


COLUMNS = tuple(field.name for field in fields(DeliveryListLine))


class DeliveryListWriter:
    """Written line by line, both forms at once, so that any number of images takes no memory."""

    def __init__(self, as_csv: TextIO, as_json: TextIO) -> None:
        import csv  # takes long to load, and few commands write such a list

        self._json = as_json
        self._rows = csv.writer(as_csv, lineterminator="\r\n")
        self._rows.writerow(COLUMNS)
        self._is_first = True

    def add(self, line: DeliveryListLine) -> None:
        values = {name: getattr(line, name) for name in COLUMNS}
        self._rows.writerow(_escape_formula(value) for value in values.values())
        self._json.write(("" if self._is_first else ",") + "\n" + json.dumps(values))
        self._is_first = False


@contextmanager
def open_delivery_list(
    as_csv: TextIO, as_json: TextIO, about: Mapping[str, str | int]
) -> Iterator[DeliveryListWriter]:
    """Whole when the block has ended well. `about` stands at the top of the json form."""
    head = json.dumps({"format": FORMAT_VERSION, **about})
    as_json.write(f'{head[:-1]}, "images": [')
    yield DeliveryListWriter(as_csv, as_json)
    as_json.write("\n]}\n")


def _escape_formula(value: object) -> str:
    """No spreadsheet takes it for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
