"""Map the columns of a sheet to the columns that ADIT knows.

The mapping is guessed, or chosen by the user. Used by the row checks and the uploads of orders.
"""

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

from adit.spreadsheets.columns import (
    FIELDS,
    SheetField,
    SheetKind,
    guess_header,
    is_result_header,
    match_header,
    normalize_header,
)
from adit.spreadsheets.limits import MAX_HEADER_LINE
from adit.spreadsheets.table import SheetLine, SheetTable, column_letters
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

_REQUIRED_FIELDS: Dictionary[SheetKind, tuple[frozenset[SheetField], ...]] = {
    SheetKind.QUERY: (
        frozenset({SheetField.PATIENT_ID}),
        frozenset({SheetField.ACCESSION}),
        frozenset({SheetField.PATIENT_NAME, SheetField.BIRTH_DATE}),
        frozenset({SheetField.FAMILY_NAME, SheetField.GIVEN_NAME, SheetField.BIRTH_DATE}),
    ),
    SheetKind.TRANSFER: (
        frozenset({SheetField.PATIENT_ID, SheetField.STUDY_UID}),
        frozenset({SheetField.ACCESSION}),
        frozenset({SheetField.PATIENT_ID, SheetField.STUDY_DATE, SheetField.MODALITY}),
    ),
    SheetKind.CONSENT: (frozenset({SheetField.PATIENT_ID}),),
}


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which column of a sheet holds which field.

    Columns are counted from 0. `header_line` is 0 for a sheet without headers. `doubts` are
    shown to the user in the column mapping step; if there are none, that step can be skipped.
    """

    kind: SheetKind
    header_line: int
    columns: tuple[tuple[SheetField, int], ...]
    headers: tuple[str, ...] = ()
    doubts: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        columns = [column for field, column in self.columns]
        if len(set(columns)) < len(columns) or len(dict(self.columns)) < len(columns):
            raise InvalidInput("sheet.column-mapped-twice")
        if any(field not in FIELDS[self.kind] for field, column in self.columns):
            raise InvalidInput("sheet.unknown-field")
        if any(not 0 <= column < len(self.headers) for column in columns):
            raise InvalidInput("sheet.no-such-column")

    @property
    def is_certain(self) -> bool:
        return not self.doubts

    @property
    def own_columns(self) -> tuple[int, ...]:
        """Return the user's own columns, which are kept.

        These are all columns that are neither mapped nor results of an earlier export.
        """
        taken = {column for field, column in self.columns}
        return tuple(
            column
            for column, header in enumerate(self.headers)
            if column not in taken and not is_result_header(header)
        )

    @property
    def own_headers(self) -> tuple[str, ...]:
        return tuple(self.name(column) for column in self.own_columns)

    def get_column(self, field: SheetField) -> int | None:
        return dict(self.columns).get(field)

    def name(self, column: int) -> str:
        """Return the header as in the sheet, or the letter of the column if there is none."""
        return self.headers[column].strip() or column_letters(column + 1)

    def enough(self) -> bool:
        """Return whether the mapped columns are sufficient for a row of this kind."""
        return any(needed <= {f for f, c in self.columns} for needed in _REQUIRED_FIELDS[self.kind])

    @property
    def signature(self) -> str:
        """Return a key that is equal for sheets with the same headers in the same order."""
        return "|".join(map(normalize_header, self.headers))


def guess_mapping(table: SheetTable, kind: SheetKind) -> ColumnMapping:
    """Guess the mapping from the line with most known headers.

    Only the first twenty lines that are not empty are searched.
    """
    lines = table.lines[:MAX_HEADER_LINE]
    best = max(lines, key=lambda line: _count_known_headers(line, kind))
    if _count_known_headers(best, kind) == (0, 0):
        # Data could be mistaken for headers, so a sheet without a known header is shown to the
        # user.
        best = lines[0]
    return guess_mapping_at(table, kind, best.number)


def guess_mapping_at(table: SheetTable, kind: SheetKind, header_line: int) -> ColumnMapping:
    """Guess the mapping with the headers in this line; 0 means no headers.

    Raises InvalidInput.
    """
    if header_line == 0:
        return ColumnMapping(kind, 0, (), ("",) * table.width, (Message("sheet.no-headers"),))
    line = table.line(header_line)
    if line is None:
        raise InvalidInput("sheet.no-such-line", line=header_line)
    headers = line.texts(table.width)
    places, doubts = _assign_columns(headers, kind)
    if header_line != table.lines[0].number:
        doubts.insert(0, Message("sheet.headers-in-line", line=header_line))
    mapping = ColumnMapping(kind, header_line, tuple(places.items()), headers)
    if kind is SheetKind.QUERY:
        doubts += _doubt_unused_dates(headers, places)
    if not mapping.enough():
        doubts.append(Message("sheet.columns-missing"))
    return ColumnMapping(kind, header_line, tuple(places.items()), headers, tuple(doubts))


def make_mapping(
    table: SheetTable, kind: SheetKind, header_line: int, columns: Dictionary[SheetField, int]
) -> ColumnMapping:
    """Return the mapping that the user chose; it has no doubts.

    Raises InvalidInput.
    """
    if header_line == 0:
        return ColumnMapping(kind, 0, tuple(columns.items()), ("",) * table.width)
    line = table.line(header_line)
    if line is None:
        raise InvalidInput("sheet.no-such-line", line=header_line)
    return ColumnMapping(kind, header_line, tuple(columns.items()), line.texts(table.width))


def _count_known_headers(line: SheetLine, kind: SheetKind) -> tuple[int, int]:
    headers = [cell.text for cell in line.cells]
    return (
        len({field for text in headers if (field := match_header(text, kind))}),
        len({field for text in headers if (field := guess_header(text, kind))}),
    )


def _doubt_unused_dates(
    headers: tuple[str, ...], columns: Dictionary[SheetField, int]
) -> list[Message]:
    """A date column that the user may want to query by. Our own exports contain study dates that
    are not meant as a query.
    """
    if {SheetField.FROM, SheetField.UNTIL} & set(columns) or any(map(is_result_header, headers)):
        return []
    return [
        Message(
            "sheet.column-may-be-study-date",
            column=column_letters(column + 1),
            header=header.strip(),
        )
        for column, header in enumerate(headers)
        if SheetField.STUDY_DATE
        in (match_header(header, SheetKind.TRANSFER), guess_header(header, SheetKind.TRANSFER))
    ]


def _assign_columns(
    headers: tuple[str, ...], kind: SheetKind
) -> tuple[dict[SheetField, int], list[Message]]:
    places: dict[SheetField, int] = {}
    doubts: list[Message] = []
    for column, header in enumerate(headers):
        if field := match_header(header, kind):
            if field in places:
                doubts.append(
                    Message(
                        "sheet.columns-alike",
                        first=column_letters(places[field] + 1),
                        second=column_letters(column + 1),
                        field=field.value,
                    )
                )
            places.setdefault(field, column)
    for column, header in enumerate(headers):
        if (
            (field := guess_header(header, kind))
            and field not in places
            and not match_header(header, kind)
        ):
            places[field] = column
            doubts.append(
                Message(
                    "sheet.column-may-be",
                    column=column_letters(column + 1),
                    header=header.strip(),
                    field=field.value,
                )
            )
    return places, doubts
