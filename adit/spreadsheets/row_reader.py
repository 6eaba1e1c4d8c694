"""Read the typed values of one row, with a finding for each invalid cell.

Also parses person names. Used by the checks of batch query and batch transfer rows.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from adit.spreadsheets.columns import SheetField
from adit.spreadsheets.mapping import ColumnMapping
from adit.spreadsheets.row_verdicts import RowFinding, RowVerdict
from adit.spreadsheets.table import EMPTY_CELL, Cell, CellKind, SheetLine
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.pseudonymize.visit import MAX_DESCRIPTION_LENGTH, MAX_ID_LENGTH, TrialVisit
from adit_engine.values.references import validate_uid

_TITLES = frozenset({"dr", "prof", "professor", "pd", "herr", "frau"})
_WITH_DOT = frozenset(
    {"priv", "doz", "dipl", "ing", "med", "dent", "rer", "nat", "phil", "univ", "habil", "mag"}
    | {"h", "c", "mr", "mrs", "ms", "jur", "pol", "vet"}
)
"""These are titles only with a dot: Ing and Med are given names too."""


@dataclass(frozen=True, slots=True)
class PersonName:
    """A name without titles and middle names, as DICOM queries need it.

    `given` is empty if only the family name is known.
    """

    family: str = field(repr=False)
    given: str = field(default="", repr=False)


def parse_person_name(text: str) -> PersonName:
    """Parse `Last, First` or `Last^First^Middle`.

    Raises InvalidInput.
    """
    # PS3.5 6.2: "=" separates the component groups of one name; the first that is not empty is
    # used.
    spelling = next((part for part in text.split("=") if part.strip(" ^")), "")
    plain = unicodedata.normalize("NFC", spelling).replace("，", ",").replace("、", ",")
    separator = "^" if "^" in plain else ","
    family, found, rest = plain.partition(separator)
    family = _strip_titles(family)
    if not family:
        raise InvalidInput("person-name.no-family-name")
    if not found and " " in family:
        raise InvalidInput("person-name.not-separated")
    return PersonName(family, get_first_given_name(rest.partition(separator)[0]))


def get_first_given_name(text: str) -> str:
    """Return the first given name without titles, with hyphens.

    `Dr. Karl-Heinz Josef` gives `Karl-Heinz`.
    """
    return _strip_titles(text).partition(" ")[0]


def _strip_titles(text: str) -> str:
    words = text.split()
    while len(words) > 1 and _is_title(words[0]):
        words.pop(0)
    return " ".join(words)


def _is_title(word: str) -> bool:
    parts = [part for part in re.split(r"[.-]", word.lower()) if part]
    titles = _TITLES | _WITH_DOT if word.endswith(".") else _TITLES
    return bool(parts) and all(part in titles for part in parts)


_SAFE_DIGITS = 15
"""Excel keeps fifteen digits of a number and replaces the others by zeros."""
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_ISO = re.compile(r"(\d{4})-?(\d{1,2})-?(\d{1,2})(?:[T ][\d:.]*)?")
_DAY_MONTH_YEAR = re.compile(r"(\d{1,2})\s*([./-])\s*(\d{1,2})\s*\2\s*(\d{4})(?: [\d:.]*)?")
_EARLIEST_YEAR = 1860
_SHORTENED = re.compile(r"\d[.,]\d+E\+\d+", re.IGNORECASE)
_SPLIT_MODALITIES = re.compile(r"[,;/\\|+&\s]+")
_CONJUNCTIONS = frozenset({"AND", "OR", "UND", "ODER"})
_MODALITY = re.compile(r"[A-Z0-9_]{1,16}")
_MODALITY_SYNONYMS = {"MRT": "MR", "MRI": "MR", "SONO": "US", "PET": "PT", "DSA": "XA"}
_MODALITY_LIST = (
    # PS3.3 C.7.3.1.1.1, and retired ones that archives still hold
    "CR CT MR NM PT US XA RF DX MG IO PX GM SM XC ES EPS ECG HD OP OPT OPM OPV OAM OCT OSS IVUS "
    "IVOCT SR DOC KO PR SEG REG RTIMAGE RTDOSE RTSTRUCT RTPLAN RTRECORD OT AU TG LS BI BMD BDUS "
    "ANN ASMT CTPROTOCOL DG DMS EEG EMG EOG FID LEN KER HC M3D PLAN PA POS RESP RWV SMR SRF STAIN "
    "TEXTUREMAP VA AR CFM RG ST VF DD AS CD CF CP CS DF DM DS EC FA FS LP MA MS OPR XAPROTOCOL"
)
_MODALITIES = frozenset(_MODALITY_LIST.split())


class DateOrder(StrEnum):
    """How 03/04/2026 is read. With dots the day always comes first."""

    DAY_FIRST = "day first"
    MONTH_FIRST = "month first"


class RowReader:
    """Reader of one line. An invalid cell adds to `findings` and is returned as empty."""

    def __init__(
        self, line: SheetLine, mapping: ColumnMapping, order: DateOrder = DateOrder.DAY_FIRST
    ) -> None:
        self.line = line
        self.findings: list[RowFinding] = []
        self._mapping = mapping
        self._columns = dict(mapping.columns)
        self._order = order

    def text(self, field: SheetField, most: int) -> str:
        """Return the text with trimmed ends; line breaks inside become spaces."""
        cell = self._cell(field)
        text = " ".join(_trim(cell.text).split())
        if not text:
            return ""
        return self._plain(field, text, most)

    def identifier(self, field: SheetField, most: int) -> str:
        """Return an exact identifier, without wildcards.

        A cell that the spreadsheet stores as a number or a date may have lost digits. It is
        checked, and refused or noted as a warning.
        """
        cell = self._cell(field)
        text = _trim(cell.text)
        if cell.kind is CellKind.NUMBER and not self._check_number(field, text):
            return ""
        if cell.kind is CellKind.PADDED:
            self.warn(field, Message("sheet-row.padded-number"))
        if cell.kind is CellKind.DATE:
            self.error(field, Message("sheet-row.date-cell"))
            return ""
        if any(c in text for c in "*?"):
            self.error(field, Message("sheet-row.wildcard"))
            return ""
        if _SHORTENED.fullmatch(text):
            self.error(field, Message("sheet-row.shortened-number"))
            return ""
        if text.startswith("'"):
            self.warn(field, Message("sheet-row.apostrophe"))
        return self._plain(field, text, most)

    def uid(self, field: SheetField) -> str:
        text = self.identifier(field, 64)
        if not text:
            return ""
        try:
            return validate_uid(text)
        except InvalidInput as error:
            self.error(field, error.message)
            return ""

    def pseudonym(self) -> str:
        text = self.identifier(SheetField.PSEUDONYM, 64)
        if not text:
            return ""
        try:
            return validate_pseudonym(text)
        except InvalidInput as error:
            self.error(SheetField.PSEUDONYM, error.message)
            return ""

    def visit(self) -> TrialVisit | None:
        name = self.text(SheetField.VISIT, MAX_ID_LENGTH)
        description = self.text(SheetField.VISIT_DESCRIPTION, MAX_DESCRIPTION_LENGTH)
        if name:
            try:
                return TrialVisit(name, description)
            except InvalidInput as error:
                self.error(SheetField.VISIT, error.message)
        elif description and not self.has(SheetField.VISIT):
            self.error(SheetField.VISIT_DESCRIPTION, Message("visit.no-id"))
        return None

    def check_pseudonym_differs(self, pseudonym: str, patient_id: str) -> None:
        """Report an error if the pseudonym is the patient ID.

        Leading zeros and case are ignored: such a pseudonym would not hide the patient.
        """
        if pseudonym and pseudonym.lstrip("0").casefold() == patient_id.lstrip("0").casefold():
            self.error(SheetField.PSEUDONYM, Message("pseudonym.is-patient-id"))

    def day(self, field: SheetField) -> date | None:
        """Return a date.

        Accepts a date cell, 2026-01-31, 20260131, 31.01.2026, or a date with / in the configured
        order.
        """
        cell = self._cell(field)
        text = _trim(cell.text)
        if not text:
            return None
        parts = self._day_parts(text)
        if parts is None:
            self.error(field, Message("sheet-row.no-date"))
            return None
        try:
            day = date(*parts)
        except ValueError:
            self.error(field, Message("sheet-row.no-such-day"))
            return None
        if day.year < _EARLIEST_YEAR:
            self.error(field, Message("sheet-row.year-too-early", year=_EARLIEST_YEAR))
            return None
        return day

    def number(self, field: SheetField, most: int) -> int | None:
        text = _trim(self._cell(field).text)
        if not text:
            return None
        if not re.fullmatch(r"\+?[0-9]{1,9}", text) or int(text) > most:
            self.error(field, Message("sheet-row.no-number", limit=most))
            return None
        return int(text)

    def modalities(self) -> tuple[str, ...]:
        """Return the modalities of the cell.

        They are separated by comma, semicolon, slash, backslash, plus or space.
        """
        text = _trim(self._cell(SheetField.MODALITY).text).upper()
        if not text:
            return ()
        said = [
            word for word in _SPLIT_MODALITIES.split(text) if word and word not in _CONJUNCTIONS
        ]
        if any(not _MODALITY.fullmatch(word) for word in said):
            self.error(SheetField.MODALITY, Message("sheet-row.no-modality"))
            return ()
        words = tuple(dict.fromkeys(_MODALITY_SYNONYMS.get(word, word) for word in said))
        if any(word in _MODALITY_SYNONYMS for word in said):
            self.warn(SheetField.MODALITY, Message("sheet-row.modality-read-as", modalities=words))
        if any(word not in _MODALITIES for word in words):
            self.warn(SheetField.MODALITY, Message("sheet-row.unknown-modality"))
        return words

    def has(self, field: SheetField) -> bool:
        """Return whether the cell is not empty, even if its content is invalid."""
        place = self._columns.get(field)
        return place is not None and not self.line.cell(place).empty

    def get_values(self) -> tuple[str, ...]:
        return tuple(self.line.cell(column).text for field, column in self._mapping.columns)

    def get_user_cells(self) -> tuple[str, ...]:
        return tuple(self.line.cell(column).text for column in self._mapping.own_columns)

    @property
    def failed(self) -> bool:
        return any(finding.verdict is RowVerdict.ERROR for finding in self.findings)

    def error(self, field: SheetField | None, message: Message) -> None:
        self._note(RowVerdict.ERROR, field, message)

    def warn(self, field: SheetField | None, message: Message) -> None:
        self._note(RowVerdict.WARNING, field, message)

    def leave_out(self, message: Message) -> None:
        self._note(RowVerdict.LEFT_OUT, None, message)

    def _note(self, verdict: RowVerdict, field: SheetField | None, message: Message) -> None:
        place = self._columns.get(field) if field is not None else None
        name = self._mapping.name(place) if place is not None else ""
        self.findings.append(RowFinding(verdict, message, (self.line.number,), name))

    def _cell(self, field: SheetField) -> Cell:
        place = self._columns.get(field)
        cell = EMPTY_CELL if place is None else self.line.cell(place)
        if cell.kind is CellKind.ERROR:
            self.error(field, Message("sheet-row.error-value"))
        elif cell.kind is CellKind.NO_VALUE:
            self.error(field, Message("sheet-row.formula-without-value"))
        else:
            if cell.kind is CellKind.MERGED:
                self.warn(field, Message("sheet-row.merged-cell"))
            return cell
        return EMPTY_CELL

    def _plain(self, field: SheetField, text: str, most: int) -> str:
        if "\\" in text or not (text.isprintable() or _has_no_control_characters(text)):
            self.error(field, Message("sheet-row.control-character"))
        elif len(text) > most:
            self.error(field, Message("sheet-row.too-long", limit=most))
        else:
            return text
        return ""

    def _check_number(self, field: SheetField, text: str) -> bool:
        if not text.isdecimal():
            self.error(field, Message("sheet-row.fraction"))
            return False
        if len(text) > _SAFE_DIGITS:
            self.error(field, Message("sheet-row.too-many-digits", limit=_SAFE_DIGITS))
            return False
        self.warn(field, Message("sheet-row.number-cell"))
        return True

    def _day_parts(self, text: str) -> tuple[int, int, int] | None:
        if found := _ISO.fullmatch(text):
            return int(found[1]), int(found[2]), int(found[3])
        if found := _DAY_MONTH_YEAR.fullmatch(text):
            first, second = int(found[1]), int(found[3])
            month_first = self._order is DateOrder.MONTH_FIRST and found[2] != "."
            day, month = (second, first) if month_first else (first, second)
            return int(found[4]), month, day
        return None


def _has_no_control_characters(text: str) -> bool:
    return not any(unicodedata.category(c) == "Cc" for c in text)


def _trim(text: str) -> str:
    """Remove spaces at both ends, non-breaking ones included, and invisible characters anywhere.

    Letters with diacritics become one character (NFC), as in PACS: some programs write two.
    """
    if text.isascii():
        return text.strip()
    text = unicodedata.normalize("NFC", text)
    return text.translate(_INVISIBLE).replace("\xa0", " ").replace("\u202f", " ").strip()
