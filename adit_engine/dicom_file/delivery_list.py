"""The list of delivered images as CSV and JSON. Written beside the images."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TextIO

from adit_engine.csv_text import format_csv_row

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class DeliveryListLine:
    """One image. The UIDs are the new ones; `outcome` is a value of InstanceState.

    Path, size and SHA-256 describe the delivered file. They are empty if nothing was delivered.
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
    """Writes both formats line by line, so that memory use does not depend on the list size."""

    def __init__(self, as_csv: TextIO, as_json: TextIO) -> None:
        self._json, self._csv = as_json, as_csv
        self._csv.write(format_csv_row(COLUMNS))
        self._is_first = True

    def add(self, line: DeliveryListLine) -> None:
        values = {name: getattr(line, name) for name in COLUMNS}
        self._csv.write(format_csv_row(values.values()))
        self._json.write(("" if self._is_first else ",") + "\n" + json.dumps(values))
        self._is_first = False


@contextmanager
def open_delivery_list(
    as_csv: TextIO, as_json: TextIO, metadata: Mapping[str, str | int]
) -> Iterator[DeliveryListWriter]:
    """Write a list that is complete when the block ends without an error.

    `about` is written at the top of the JSON form.
    """
    head = json.dumps({"format": FORMAT_VERSION, **metadata})
    as_json.write(f'{head[:-1]}, "images": [')
    yield DeliveryListWriter(as_csv, as_json)
    as_json.write("\n]}\n")
