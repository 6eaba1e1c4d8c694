"""Markup: what a sheet's XML says and its values do not: errors, formats, what is merged or hidden."""

import io
import re
from xml.etree import ElementTree

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

Place = tuple[int, int]
"""Line and column, counted from 1."""


def odd_cells(data: bytes) -> dict[Place, dict[str, str]]:
    """Cells that calamine shows as empty: errors, and formulas without a value."""
    return _odd_cells(data) if _SUSPECT.search(data) else {}


def hidden(data: bytes) -> set[int]:
    """Lines that a filter, or a person, has taken out of sight."""
    rows = (row[1] for row in _ROW.finditer(data) if _HIDDEN.search(row[1]))
    return {int(number[1]) for row in rows if (number := _NUMBER.search(row))}


def merged(data: bytes) -> dict[int, list[tuple[int, int]]]:
    """Column and last line of what is merged down a column, by its first line."""
    found: dict[int, list[tuple[int, int]]] = {}
    for merge in _MERGE.finditer(data):
        (first, left), (last, right) = (_place(end.decode(), 0, 0) for end in merge.groups())
        if left == right and last > first:
            found.setdefault(first, []).append((left, last))
    return found


def widths(data: bytes, styles: bytes) -> dict[Place, int]:
    """How many digits are shown of cells whose format pads them with zeros, such as 00000000."""
    padding = _padding_styles(ElementTree.fromstring(styles))  # noqa: S314
    found: dict[Place, int] = {}
    for cell in _PLACED.finditer(data) if padding else ():
        style, name = _STYLE.search(cell[1]), _NAME.search(cell[1])
        if style and name and int(style[1]) in padding:
            found[_place(name[1].decode(), 0, 0)] = padding[int(style[1])]
    return found


def _padding_styles(styles: ElementTree.Element) -> dict[int, int]:
    """Number of digits by the number of the style (ECMA-376 part 1, 18.8.10 and 18.8.30)."""
    formats = [node for node in styles.iter() if plain(node.tag) == "numFmt"]
    codes = {node.get("numFmtId"): node.get("formatCode", "") for node in formats}
    zeros = {key: len(found[0]) for key, code in codes.items() if (found := _ZEROS.match(code))}
    (cells,) = [node for node in styles if plain(node.tag) == "cellXfs"]
    return {n: zeros[key] for n, one in enumerate(cells) if (key := one.get("numFmtId")) in zeros}


def _odd_cells(data: bytes) -> dict[Place, dict[str, str]]:
    found: dict[Place, dict[str, str]] = {}
    line = column = 0
    for event, node in ElementTree.iterparse(io.BytesIO(data), ("start", "end")):  # noqa: S314
        tag = plain(node.tag)
        if event == "start" and tag == "row":
            line, column = int(node.get("r") or line + 1), 0
        elif event == "end" and tag == "c":
            line, column = _place(node.get("r"), line, column + 1)
            inside = {plain(child.tag): child.text or "" for child in node}
            if node.get("t") == "e":
                found[line, column] = {"error": inside.get("v", "")}
            elif "f" in inside and not inside.get("v") and node.get("t") != "str":
                # Excel writes an empty text as t="str"; openpyxl writes an empty value for none.
                found[line, column] = {"no value": ""}
        elif event == "end" and tag == "row":
            node.clear()
    return found


def _place(name: str | None, line: int, column: int) -> tuple[int, int]:
    said = _CELL.fullmatch(name or "")
    if said is None:
        return line, column
    number = 0
    for letter in said[1]:
        number = number * 26 + ord(letter) - 64
    return int(said[2]), number


def plain(name: str) -> str:
    return name.rpartition("}")[2]
