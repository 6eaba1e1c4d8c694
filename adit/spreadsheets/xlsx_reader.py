"""Read the cells of the first visible sheet of an .xlsx file that is not empty.

Values come from calamine; errors, number formats, merged cells and hidden lines from the XML. Used
by the reader subprocess.
"""

import io
import re
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

from adit.spreadsheets import limits
from adit.spreadsheets.limits import SheetReadError
from adit_engine.messages import Message

_SUSPECT = re.compile(rb"\bt=[\"']e[\"']|<(?:\w+:)?f[\s>/]")
_ROW = re.compile(rb"<(?:\w+:)?row\s([^>]*)>")
_HIDDEN = re.compile(rb"\bhidden=[\"'](?:1|true)[\"']")
_NUMBER = re.compile(rb"(?:^|\s)r=[\"'](\d{1,7})[\"']")
_PLACED = re.compile(rb"<(?:\w+:)?c\s([^>]*)>")
_STYLE = re.compile(rb"(?:^|\s)s=[\"'](\d{1,5})[\"']")
_NAME = re.compile(rb"(?:^|\s)r=[\"']([A-Z]{1,3}\d{1,7})[\"']")
_MERGE = re.compile(
    rb"<(?:\w+:)?mergeCell\s[^>]*ref=[\"']([A-Z]{1,3}\d{1,7}):([A-Z]{1,3}\d{1,7})[\"']"
)
_ZEROS = re.compile(r"0{2,64}(?=;|$)")
_CELL = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")

Position = tuple[int, int]
"""Line and column, counted from 1."""


def find_special_cells(data: bytes) -> dict[Position, dict[str, str]]:
    """Return the cells that calamine shows as empty: errors, formulas without a value."""
    return _parse_special_cells(data) if _SUSPECT.search(data) else {}


def find_hidden_lines(data: bytes) -> set[int]:
    """Return the lines that are hidden, by a filter or by hand."""
    rows = (row[1] for row in _ROW.finditer(data) if _HIDDEN.search(row[1]))
    return {int(number[1]) for row in rows if (number := _NUMBER.search(row))}


def find_merged_cells(data: bytes) -> dict[int, list[tuple[int, int]]]:
    """Return column and last line of cells merged down a column, by their first line."""
    found: dict[int, list[tuple[int, int]]] = {}
    for merge in _MERGE.finditer(data):
        (first, left), (last, right) = (
            _parse_position(end.decode(), 0, 0) for end in merge.groups()
        )
        if left == right and last > first:
            found.setdefault(first, []).append((left, last))
    return found


def find_padded_widths(data: bytes, styles: bytes) -> dict[Position, int]:
    """Return the number of digits of cells whose format pads numbers with zeros.

    An example of such a format is 00000000.
    """
    padding = _find_padding_styles(ElementTree.fromstring(styles))  # noqa: S314
    found: dict[Position, int] = {}
    for cell in _PLACED.finditer(data) if padding else ():
        style, name = _STYLE.search(cell[1]), _NAME.search(cell[1])
        if style and name and int(style[1]) in padding:
            found[_parse_position(name[1].decode(), 0, 0)] = padding[int(style[1])]
    return found


def _find_padding_styles(styles: ElementTree.Element) -> dict[int, int]:
    """Number of digits by style number (ECMA-376 part 1, 18.8.10 and 18.8.30)."""
    formats = [node for node in styles.iter() if get_local_name(node.tag) == "numFmt"]
    codes = {node.get("numFmtId"): node.get("formatCode", "") for node in formats}
    zeros = {key: len(found[0]) for key, code in codes.items() if (found := _ZEROS.match(code))}
    (cells,) = [node for node in styles if get_local_name(node.tag) == "cellXfs"]
    return {n: zeros[key] for n, one in enumerate(cells) if (key := one.get("numFmtId")) in zeros}


def _parse_special_cells(data: bytes) -> dict[Position, dict[str, str]]:
    found: dict[Position, dict[str, str]] = {}
    line = column = 0
    for event, node in ElementTree.iterparse(io.BytesIO(data), ("start", "end")):  # noqa: S314
        tag = get_local_name(node.tag)
        if event == "start" and tag == "row":
            line, column = int(node.get("r") or line + 1), 0
        elif event == "end" and tag == "c":
            line, column = _parse_position(node.get("r"), line, column + 1)
            inside = {get_local_name(child.tag): child.text or "" for child in node}
            if node.get("t") == "e":
                found[line, column] = {"error": inside.get("v", "")}
            elif "f" in inside and not inside.get("v") and node.get("t") != "str":
                # Excel writes an empty text as t="str"; openpyxl writes an empty value for a
                # formula without value.
                found[line, column] = {"no value": ""}
        elif event == "end" and tag == "row":
            node.clear()
    return found


def _parse_position(name: str | None, line: int, column: int) -> tuple[int, int]:
    said = _CELL.fullmatch(name or "")
    if said is None:
        return line, column
    number = 0
    for letter in said[1]:
        number = number * 26 + ord(letter) - 64
    return int(said[2]), number


def get_local_name(name: str) -> str:
    return name.rpartition("}")[2]


_DAMAGED = Message("sheet.damaged")
_STYLES = "xl/styles.xml"
_SAFE_DIGITS = 15

Value = str | float | dict[str, str]
"""A value that fits in JSON: a text, a number, or {"date": …}, {"error": …}, {"no value": ""},
{"padded": …} or {"merged": …}.
"""


class XlsxWorkbook:
    """An .xlsx file. The constructor raises SheetReadError if it cannot be read.

    This includes workbooks that exceed the limits, and those with macros.
    """

    def __init__(self, data: bytes) -> None:
        self._archive = _open_archive(data)
        try:
            self._book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        except (CalamineError, OSError, ValueError) as error:
            raise SheetReadError(_DAMAGED) from error
        self.visible = [
            sheet.name
            for sheet in self._book.sheets_metadata
            if sheet.visible is SheetVisibleEnum.Visible and sheet.typ is SheetTypeEnum.WorkSheet
        ]
        self.sheet = ""
        self.hidden: set[int] = set()
        """Lines of the sheet that are hidden, by a filter or by hand."""

    def lines(self) -> Iterator[tuple[int, list[Value]]]:
        """Return the lines of the first visible sheet that is not empty.

        Afterwards `sheet` holds its name and `hidden` its hidden lines.
        """
        for name in self.visible:
            sheet = self._sheet(name)
            data = self._xml(name)
            odd = self._odd_cells(data)
            if sheet.end is not None or odd:
                self.sheet, self.hidden = name, find_hidden_lines(data)
                return _fill_merged(
                    _read_lines(sheet, odd, self._widths(data)), find_merged_cells(data)
                )
        return iter(())

    def _sheet(self, name: str) -> CalamineSheet:
        try:
            return self._book.get_sheet_by_name(name)
        except (CalamineError, OSError, ValueError) as error:
            raise SheetReadError(_DAMAGED) from error

    def _xml(self, name: str) -> bytes:
        try:
            return self._archive.read(self._part(name))
        except (KeyError, zipfile.BadZipFile, ElementTree.ParseError, NotImplementedError) as error:
            raise SheetReadError(_DAMAGED) from error

    def _widths(self, data: bytes) -> dict[Position, int]:
        if _STYLES not in self._archive.namelist():
            return {}
        try:
            return find_padded_widths(data, self._archive.read(_STYLES))
        except (ElementTree.ParseError, ValueError, zipfile.BadZipFile):
            return {}

    def _odd_cells(self, data: bytes) -> Mapping[Position, Value]:
        try:
            return find_special_cells(data)
        except ElementTree.ParseError as error:
            raise SheetReadError(_DAMAGED) from error

    def _part(self, name: str) -> str:
        """The file name of a sheet within the workbook (ECMA-376 part 1, 18.2.19)."""
        names = {part.lower(): part for part in self._archive.namelist()}
        book = ElementTree.fromstring(self._archive.read(names["xl/workbook.xml"]))  # noqa: S314
        links = ElementTree.fromstring(  # noqa: S314
            self._archive.read(names["xl/_rels/workbook.xml.rels"])
        )
        targets = {link.get("Id"): link.get("Target", "") for link in links}
        for sheet in book.iter():
            if get_local_name(sheet.tag) == "sheet" and sheet.get("name") == name:
                target = targets[_by_local_name(sheet.attrib)["id"]]
                path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
                return names[path.lower()]
        raise KeyError(name)


def _open_archive(data: bytes) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise SheetReadError(_DAMAGED) from error
    names = [part.filename.lower() for part in archive.infolist()]
    if any(name.endswith("vbaproject.bin") for name in names):
        raise SheetReadError(Message("sheet.macros"))
    if "xl/workbook.bin" in names:
        raise SheetReadError(Message("sheet.binary-workbook"))
    if "xl/workbook.xml" not in names:
        raise SheetReadError(Message("sheet.not-excel"))
    for part in archive.infolist():
        if part.file_size > max(
            limits.RATIO_FROM_BYTES, limits.MAX_RATIO * max(part.compress_size, 1)
        ):
            raise _make_too_large()
    if sum(part.file_size for part in archive.infolist()) > limits.MAX_UNPACKED_BYTES:
        raise _make_too_large()
    return archive


def _make_too_large() -> SheetReadError:
    limit = limits.MAX_UNPACKED_BYTES // 1_000_000
    return SheetReadError(Message("sheet.unpacked-too-large", limit=limit))


def _read_lines(
    sheet: CalamineSheet, odd: Mapping[Position, Value], padded: Mapping[Position, int]
) -> Iterator[tuple[int, list[Value]]]:
    most = 2 * limits.MAX_ROWS
    end = max(sheet.end[0] + 1 if sheet.end else 0, max((line for line, column in odd), default=0))
    if end > most:
        raise limits.make_too_many_rows(end)
    rows: list[list[Any]] = sheet.to_python(skip_empty_area=False) if sheet.end else []
    marks: dict[int, dict[int, Value]] = {}
    for (line, column), value in odd.items():
        marks.setdefault(line, {})[column] = value
    widths: dict[int, dict[int, int]] = {}
    for (line, column), width in padded.items():
        widths.setdefault(line, {})[column] = width
    for number in range(1, end + 1):
        values: list[Value] = (
            [_convert_value(v) for v in rows[number - 1]] if number <= len(rows) else []
        )
        for column, value in marks.get(number, {}).items():
            values.extend([""] * (column - len(values)))
            values[column - 1] = value
        for column, width in widths.get(number, {}).items():
            if column <= len(values):
                values[column - 1] = _pad_number(values[column - 1], width)
        while values and values[-1] == "":
            values.pop()
        if any(not isinstance(value, str) or value.strip() for value in values):
            limits.check_line(number, [v if isinstance(v, str) else "x" for v in values])
            yield number, values


def _convert_value(value: Any) -> Value:
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


def _fill_merged(
    lines: Iterator[tuple[int, list[Value]]], merged: Mapping[int, Sequence[tuple[int, int]]]
) -> Iterator[tuple[int, list[Value]]]:
    """Copy the value of a cell that is merged down a column to the lines below it.

    Lines that are otherwise empty stay out. `merged` gives column and last line, by the first line.
    """
    open_until: dict[int, tuple[int, Value]] = {}
    for number, values in lines:
        for column, (last, value) in open_until.items():
            if number <= last:
                values.extend([""] * (column - len(values)))
                values[column - 1] = values[column - 1] or {"merged": _value_to_text(value)}
        for column, last in merged.get(number, ()):
            if column <= len(values) and values[column - 1]:
                open_until[column] = (last, values[column - 1])
        yield number, values


def _value_to_text(value: Value) -> str:
    if isinstance(value, dict):
        return "".join(value.values()).removesuffix(" 00:00:00")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _pad_number(value: Value, width: int) -> Value:
    if isinstance(value, float) and value.is_integer() and 0 <= value < 10**_SAFE_DIGITS:
        return {"padded": f"{int(value):0{width}}"}
    return value


def _by_local_name(attributes: Mapping[str, str]) -> dict[str, str]:
    return {get_local_name(name): value for name, value in attributes.items()}
