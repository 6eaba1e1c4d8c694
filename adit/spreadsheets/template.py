"""Template: an empty sheet of each kind, with text columns and two examples."""

import io
from collections.abc import Mapping as Dictionary

from adit.spreadsheets.columns import FIELDS, Field, SheetKind
from adit.spreadsheets.mapping import Mapping
from adit.spreadsheets.table import Line
from adit.spreadsheets.writer import csv_chunks, write_xlsx

_SPLIT_NAMES = frozenset({Field.FAMILY_NAME, Field.GIVEN_NAME})
_EXAMPLES: Dictionary[SheetKind, tuple[Dictionary[Field, str], ...]] = {
    SheetKind.QUERY: (
        {
            Field.PATIENT_ID: "0001234-EXAMPLE",
            Field.FROM: "2024-01-01",
            Field.UNTIL: "2024-12-31",
            Field.MODALITY: "CT, MR",
            Field.STUDY_DESCRIPTION: "*thorax*",
            Field.PSEUDONYM: "EXAMPLE-001",
        },
        {
            Field.PATIENT_NAME: "Example, Erika",
            Field.BIRTH_DATE: "1964-08-12",
            Field.MODALITY: "MR",
            Field.SERIES_DESCRIPTION: "t1*",
            Field.PSEUDONYM: "EXAMPLE-002",
        },
    ),
    SheetKind.TRANSFER: (
        {
            Field.PATIENT_ID: "0001234-EXAMPLE",
            Field.STUDY_UID: "1.2.826.0.1.3680043.8.498.1",
            Field.PSEUDONYM: "EXAMPLE-001",
        },
        {
            Field.PATIENT_ID: "0005678-EXAMPLE",
            Field.STUDY_DATE: "2024-03-15",
            Field.DAYS: "2",
            Field.MODALITY: "CT",
            Field.PSEUDONYM: "EXAMPLE-002",
        },
    ),
}


def columns(kind: SheetKind) -> tuple[Field, ...]:
    """The template's columns; what can be said in two ways stands there in one."""
    return tuple(field for field in FIELDS[kind] if field not in _SPLIT_NAMES)


def examples(kind: SheetKind) -> tuple[tuple[str, ...], ...]:
    """Two rows, beside `columns`. Left in an upload, they are left out."""
    return tuple(tuple(row.get(field, "") for field in columns(kind)) for row in _EXAMPLES[kind])


def template_xlsx(kind: SheetKind) -> bytes:
    target = io.BytesIO()
    write_xlsx(columns(kind), examples(kind), target)
    return target.getvalue()


def template_csv(kind: SheetKind) -> bytes:
    return b"".join(csv_chunks(columns(kind), examples(kind)))


def is_example(mapping: Mapping, line: Line) -> bool:
    """Whether the line says what an example does, and nothing else in known columns."""
    said = {
        field: text for field, column in mapping.places if (text := line.cell(column).text.strip())
    }
    return bool(said) and any(said == dict(row) for row in _EXAMPLES[mapping.kind])
