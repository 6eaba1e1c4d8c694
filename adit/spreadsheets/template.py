"""Templates: an empty sheet of each kind, with text columns and two examples.

Used by the template download, and by the row checks to skip the examples.
"""

import io
from collections.abc import Mapping as Dictionary

from adit.spreadsheets.columns import FIELDS, SheetField, SheetKind
from adit.spreadsheets.mapping import ColumnMapping
from adit.spreadsheets.table import SheetLine
from adit.table_files import stream_csv, write_xlsx

_SPLIT_NAMES = frozenset({SheetField.FAMILY_NAME, SheetField.GIVEN_NAME})
_ADDED_LATER = frozenset({SheetField.VISIT, SheetField.VISIT_DESCRIPTION})
"""Columns that older templates do not have."""
_EXAMPLES: Dictionary[SheetKind, tuple[Dictionary[SheetField, str], ...]] = {
    SheetKind.QUERY: (
        {
            SheetField.PATIENT_ID: "0001234-EXAMPLE",
            SheetField.FROM: "2024-01-01",
            SheetField.UNTIL: "2024-12-31",
            SheetField.MODALITY: "CT, MR",
            SheetField.STUDY_DESCRIPTION: "*thorax*",
            SheetField.PSEUDONYM: "EXAMPLE-001",
        },
        {
            SheetField.PATIENT_NAME: "Example, Erika",
            SheetField.BIRTH_DATE: "1964-08-12",
            SheetField.MODALITY: "MR",
            SheetField.SERIES_DESCRIPTION: "t1*",
            SheetField.PSEUDONYM: "EXAMPLE-002",
        },
    ),
    SheetKind.TRANSFER: (
        {
            SheetField.PATIENT_ID: "0001234-EXAMPLE",
            SheetField.STUDY_UID: "1.2.826.0.1.3680043.8.498.1",
            SheetField.PSEUDONYM: "EXAMPLE-001",
            SheetField.VISIT: "V1",
            SheetField.VISIT_DESCRIPTION: "Baseline",
        },
        {
            SheetField.PATIENT_ID: "0005678-EXAMPLE",
            SheetField.STUDY_DATE: "2024-03-15",
            SheetField.DAYS: "2",
            SheetField.MODALITY: "CT",
            SheetField.PSEUDONYM: "EXAMPLE-002",
        },
    ),
    SheetKind.CONSENT: (
        {
            SheetField.PATIENT_ID: "0001234-EXAMPLE",
            SheetField.DOMAIN: "EXAMPLE",
            SheetField.MODALITY: "CT, MR",
            SheetField.VALID_UNTIL: "2030-12-31",
        },
        {
            SheetField.PATIENT_ID: "0005678-EXAMPLE",
            SheetField.DOMAIN: "EXAMPLE",
            SheetField.WITHDRAWN_ON: "2024-03-15",
        },
    ),
}


def get_template_columns(kind: SheetKind) -> tuple[SheetField, ...]:
    """Return the columns of the template, without alternatives for the same value."""
    return tuple(field for field in FIELDS[kind] if field not in _SPLIT_NAMES)


def get_template_examples(kind: SheetKind) -> tuple[tuple[str, ...], ...]:
    """Return two example rows, in the order of `get_template_columns`.

    If they remain in an upload, they are left out.
    """
    return tuple(
        tuple(row.get(field, "") for field in get_template_columns(kind)) for row in _EXAMPLES[kind]
    )


def make_template_xlsx(kind: SheetKind) -> bytes:
    target = io.BytesIO()
    write_xlsx(get_template_columns(kind), get_template_examples(kind), target)
    return target.getvalue()


def make_template_csv(kind: SheetKind) -> bytes:
    return b"".join(stream_csv(get_template_columns(kind), get_template_examples(kind)))


def is_example(mapping: ColumnMapping, line: SheetLine) -> bool:
    """Return whether the line equals an example in all mapped columns."""
    said = {
        field: text for field, column in mapping.columns if (text := line.cell(column).text.strip())
    }
    mapped = {field for field, _column in mapping.columns}
    examples = [
        {field: text for field, text in row.items() if field in mapped or field not in _ADDED_LATER}
        for row in _EXAMPLES[mapping.kind]
    ]
    return bool(said) and said in examples
