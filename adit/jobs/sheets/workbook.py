"""Workbook: the cells of the first visible sheet of an .xlsx file."""

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from xml.etree import ElementTree

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from adit.jobs.sheets import limits, markup
from adit.jobs.sheets.markup import Place, plain
from adit.jobs.sheets.refusal import Refusal, gettext_noop

_BROKEN = gettext_noop(
    "The file is damaged or is no Excel workbook. Open it in Excel or LibreOffice and "
    "save it again as .xlsx."
)
_STYLES = "xl/styles.xml"
_SAFE_DIGITS = 15

Value = str | float | dict[str, str]
"""As JSON can hold it: {"date": …}, {"error": …}, {"no value": ""}, {"padded": …} and {"merged": …}
beside text and numbers."""


class Book:
    """Raises Refusal, when made, for all that is no plain workbook within the limits."""

    def __init__(self, data: bytes) -> None:
        self._archive = _opened(data)
        try:
            self._book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        except (CalamineError, OSError, ValueError) as error:
            raise Refusal(_BROKEN) from error
        self.visible = [
            sheet.name
            for sheet in self._book.sheets_metadata
            if sheet.visible is SheetVisibleEnum.Visible and sheet.typ is SheetTypeEnum.WorkSheet
        ]
        self.sheet = ""
        self.hidden: set[int] = set()
        """Lines of the sheet that a filter, or a person, has taken out of sight."""

    def lines(self) -> Iterator[tuple[int, list[Value]]]:
        """Of the first visible sheet that says anything; its name stands in `sheet` afterwards."""
        for name in self.visible:
            sheet = self._sheet(name)
            data = self._xml(name)
            odd = self._odd_cells(data)
            if sheet.end is not None or odd:
                self.sheet, self.hidden = name, markup.hidden(data)
                return _spread(_lines(sheet, odd, self._widths(data)), markup.merged(data))
        return iter(())

    def _sheet(self, name: str) -> CalamineSheet:
        try:
            return self._book.get_sheet_by_name(name)
        except (CalamineError, OSError, ValueError) as error:
            raise Refusal(_BROKEN) from error

    def _xml(self, name: str) -> bytes:
        try:
            return self._archive.read(self._part(name))
        except (KeyError, zipfile.BadZipFile, ElementTree.ParseError, NotImplementedError) as error:
            raise Refusal(_BROKEN) from error

    def _widths(self, data: bytes) -> dict[Place, int]:
        if _STYLES not in self._archive.namelist():
            return {}
        try:
            return markup.widths(data, self._archive.read(_STYLES))
        except (ElementTree.ParseError, ValueError, zipfile.BadZipFile):
            return {}

    def _odd_cells(self, data: bytes) -> Mapping[Place, Value]:
        try:
            return markup.odd_cells(data)
        except ElementTree.ParseError as error:
            raise Refusal(_BROKEN) from error

    def _part(self, name: str) -> str:
        """The file of a sheet within the workbook (ECMA-376 part 1, 18.2.19)."""
        names = {part.lower(): part for part in self._archive.namelist()}
        book = ElementTree.fromstring(self._archive.read(names["xl/workbook.xml"]))  # noqa: S314
        links = ElementTree.fromstring(  # noqa: S314
            self._archive.read(names["xl/_rels/workbook.xml.rels"])
        )
        targets = {link.get("Id"): link.get("Target", "") for link in links}
        for sheet in book.iter():
            if plain(sheet.tag) == "sheet" and sheet.get("name") == name:
                target = targets[_by_plain_name(sheet.attrib)["id"]]
                path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
                return names[path.lower()]
        raise KeyError(name)


def _opened(data: bytes) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Refusal(_BROKEN) from error
    names = [part.filename.lower() for part in archive.infolist()]
    if any(name.endswith("vbaproject.bin") for name in names):
        raise Refusal(gettext_noop("The workbook holds macros. Save it as .xlsx, without macros."))
    if "xl/workbook.bin" in names:
        raise Refusal(gettext_noop("This is a binary workbook (.xlsb). Save it as .xlsx."))
    if "xl/workbook.xml" not in names:
        raise Refusal(gettext_noop("This is no Excel workbook. Save the list as .xlsx or as CSV."))
    for part in archive.infolist():
        if part.file_size > max(
            limits.RATIO_FROM_BYTES, limits.MOST_RATIO * max(part.compress_size, 1)
        ):
            raise _bomb()
    if sum(part.file_size for part in archive.infolist()) > limits.MOST_UNPACKED_BYTES:
        raise _bomb()
    return archive


def _bomb() -> Refusal:
    return Refusal(
        gettext_noop(
            "Unpacked, the workbook has more than %(most)d MB or consists of little but "
            "repetition. Copy the list alone into a new workbook."
        ),
        most=limits.MOST_UNPACKED_BYTES // 1_000_000,
    )


def _lines(
    sheet: CalamineSheet, odd: Mapping[Place, Value], padded: Mapping[Place, int]
) -> Iterator[tuple[int, list[Value]]]:
    most = 2 * limits.MOST_ROWS
    end = max(sheet.end[0] + 1 if sheet.end else 0, max((line for line, column in odd), default=0))
    if end > most:
        raise limits.too_many_rows(end)
    rows: list[list[Any]] = sheet.to_python(skip_empty_area=False) if sheet.end else []
    marks: dict[int, dict[int, Value]] = {}
    for (line, column), value in odd.items():
        marks.setdefault(line, {})[column] = value
    widths: dict[int, dict[int, int]] = {}
    for (line, column), width in padded.items():
        widths.setdefault(line, {})[column] = width
    for number in range(1, end + 1):
        values: list[Value] = [_value(v) for v in rows[number - 1]] if number <= len(rows) else []
        for column, value in marks.get(number, {}).items():
            values.extend([""] * (column - len(values)))
            values[column - 1] = value
        for column, width in widths.get(number, {}).items():
            if column <= len(values):
                values[column - 1] = _padded(values[column - 1], width)
        while values and values[-1] == "":
            values.pop()
        if any(not isinstance(value, str) or value.strip() for value in values):
            limits.check_line(number, [v if isinstance(v, str) else "x" for v in values])
            yield number, values


def _value(value: Any) -> Value:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, datetime):
        return {"date": value.isoformat(" ")}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    return str(value)


def _spread(
    lines: Iterator[tuple[int, list[Value]]], merged: Mapping[int, Sequence[tuple[int, int]]]
) -> Iterator[tuple[int, list[Value]]]:
    """Fills what is merged down a column, in lines that say something else, too. `merged` has the
    last line of each, by its first line and with its column.
    """
    open_until: dict[int, tuple[int, Value]] = {}
    for number, values in lines:
        for column, (last, value) in open_until.items():
            if number <= last:
                values.extend([""] * (column - len(values)))
                values[column - 1] = values[column - 1] or {"merged": _said(value)}
        for column, last in merged.get(number, ()):
            if column <= len(values) and values[column - 1]:
                open_until[column] = (last, values[column - 1])
        yield number, values


def _said(value: Value) -> str:
    if isinstance(value, dict):
        return "".join(value.values()).removesuffix(" 00:00:00")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _padded(value: Value, width: int) -> Value:
    if isinstance(value, float) and value.is_integer() and 0 <= value < 10**_SAFE_DIGITS:
        return {"padded": f"{int(value):0{width}}"}
    return value


def _by_plain_name(attributes: Mapping[str, str]) -> dict[str, str]:
    return {plain(name): value for name, value in attributes.items()}
