"""Mapping: which column of a sheet is what; guessed, shown, corrected and remembered."""

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

from django.utils.translation import gettext as _

from adit.spreadsheets.columns import FIELDS, Field, SheetKind, guessed, is_ours, known, plain
from adit.spreadsheets.limits import MOST_ABOVE
from adit.spreadsheets.table import Line, Table, letters
from adit_engine.errors import InvalidInput

_NEEDED: Dictionary[SheetKind, tuple[frozenset[Field], ...]] = {
    SheetKind.QUERY: (
        frozenset({Field.PATIENT_ID}),
        frozenset({Field.ACCESSION}),
        frozenset({Field.PATIENT_NAME, Field.BIRTH_DATE}),
        frozenset({Field.FAMILY_NAME, Field.GIVEN_NAME, Field.BIRTH_DATE}),
    ),
    SheetKind.TRANSFER: (
        frozenset({Field.PATIENT_ID, Field.STUDY_UID}),
        frozenset({Field.ACCESSION}),
        frozenset({Field.PATIENT_ID, Field.STUDY_DATE, Field.MODALITY}),
    ),
}


@dataclass(frozen=True, slots=True)
class Mapping:
    """Columns are counted from 0. `header_line` is 0 for a sheet without headers.

    `doubts` are sentences for the step *which column is what*; without any it can be left out.
    """

    kind: SheetKind
    header_line: int
    places: tuple[tuple[Field, int], ...]
    headers: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns = [column for field, column in self.places]
        if len(set(columns)) < len(columns) or len(dict(self.places)) < len(columns):
            raise InvalidInput(_("Each column can be one thing, and each thing one column."))
        if any(field not in FIELDS[self.kind] for field, column in self.places):
            raise InvalidInput(_("A sheet of this kind has no such column."))
        if any(not 0 <= column < len(self.headers) for column in columns):
            raise InvalidInput(_("The sheet has no such column."))

    @property
    def sure(self) -> bool:
        return not self.doubts

    @property
    def own(self) -> tuple[int, ...]:
        """The user's own columns, which are kept: all that are nothing else, nor our answers."""
        taken = {column for field, column in self.places}
        return tuple(
            column
            for column, header in enumerate(self.headers)
            if column not in taken and not is_ours(header)
        )

    @property
    def own_headers(self) -> tuple[str, ...]:
        return tuple(self.name(column) for column in self.own)

    def place(self, field: Field) -> int | None:
        return dict(self.places).get(field)

    def name(self, column: int) -> str:
        """The header as it stands in the sheet, else the column's letter."""
        return self.headers[column].strip() or letters(column + 1)

    def enough(self) -> bool:
        """Whether the columns can answer any row at all."""
        return any(needed <= {f for f, c in self.places} for needed in _NEEDED[self.kind])

    @property
    def signature(self) -> str:
        """What sheets with the same headers in the same order have in common."""
        return "|".join(map(plain, self.headers))


def guess(table: Table, kind: SheetKind) -> Mapping:
    """By the line among the first twenty that has the most known headers."""
    lines = table.lines[:MOST_ABOVE]
    best = max(lines, key=lambda line: _score(line, kind))
    if _score(best, kind) == (0, 0):
        # Data can be taken for headers, so a sheet without a known one is shown to its owner.
        best = lines[0]
    return mapping_at(table, kind, best.number)


def mapping_at(table: Table, kind: SheetKind, header_line: int) -> Mapping:
    """The guess when the headers stand in this line; 0 = the sheet has none. Raises WrongInput."""
    if header_line == 0:
        return Mapping(kind, 0, (), ("",) * table.width, (_("The sheet has no headers."),))
    line = table.line(header_line)
    if line is None:
        raise InvalidInput(_("The sheet has no such line."))
    headers = line.texts(table.width)
    places, doubts = _places(headers, kind)
    if header_line != table.lines[0].number:
        doubts.insert(0, _("Line %(line)d was taken as the headers.") % {"line": header_line})
    mapping = Mapping(kind, header_line, tuple(places.items()), headers)
    if kind is SheetKind.QUERY:
        doubts += _unused_dates(headers, places)
    if not mapping.enough():
        doubts.append(_("Columns are missing, or their headers are not known."))
    return Mapping(kind, header_line, tuple(places.items()), headers, tuple(doubts))


def chosen(
    table: Table, kind: SheetKind, header_line: int, places: Dictionary[Field, int]
) -> Mapping:
    """What a person said; no doubts are left. Raises WrongInput."""
    if header_line == 0:
        return Mapping(kind, 0, tuple(places.items()), ("",) * table.width)
    line = table.line(header_line)
    if line is None:
        raise InvalidInput(_("The sheet has no such line."))
    return Mapping(kind, header_line, tuple(places.items()), line.texts(table.width))


def _score(line: Line, kind: SheetKind) -> tuple[int, int]:
    headers = [cell.text for cell in line.cells]
    return (
        len({field for text in headers if (field := known(text, kind))}),
        len({field for text in headers if (field := guessed(text, kind))}),
    )


def _unused_dates(headers: tuple[str, ...], places: Dictionary[Field, int]) -> list[str]:
    """A day that somebody may want to ask for. Our own exports tell days, and do not ask."""
    if {Field.FROM, Field.UNTIL} & set(places) or any(map(is_ours, headers)):
        return []
    return [
        _(
            "Column %(column)s (%(header)s) may be a study date. A batch query is limited by From "
            "and Until: say which of them it is, or keep it as your own column."
        )
        % {"column": letters(column + 1), "header": header.strip()}
        for column, header in enumerate(headers)
        if Field.STUDY_DATE
        in (known(header, SheetKind.TRANSFER), guessed(header, SheetKind.TRANSFER))
    ]


def _places(headers: tuple[str, ...], kind: SheetKind) -> tuple[dict[Field, int], list[str]]:
    places: dict[Field, int] = {}
    doubts: list[str] = []
    for column, header in enumerate(headers):
        if field := known(header, kind):
            if field in places:
                doubts.append(
                    _("Columns %(first)s and %(second)s both look like %(field)s.")
                    % {
                        "first": letters(places[field] + 1),
                        "second": letters(column + 1),
                        "field": field,
                    }
                )
            places.setdefault(field, column)
    for column, header in enumerate(headers):
        if (field := guessed(header, kind)) and field not in places and not known(header, kind):
            places[field] = column
            doubts.append(
                _("Column %(column)s (%(header)s) may be %(field)s.")
                % {"column": letters(column + 1), "header": header.strip(), "field": field}
            )
    return places, doubts
