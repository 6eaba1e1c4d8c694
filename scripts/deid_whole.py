"""One object of each admitted class, with every attribute of its IOD, at every depth."""

import json
from collections.abc import Iterator
from struct import pack

from deid_file import EXPLICIT, ROOT, Header, element, file, header, items
from deid_rows import TABLES, classes
from pydicom.datadict import dictionary_VM, dictionary_VR

_VALUES = {
    "AE": b"STATION", "AS": b"045Y", "AT": pack("<HH", 0x0020, 0x9056), "CS": b"NO",
    "DA": b"20240229", "DS": b"1.5", "DT": b"20240229101500", "FD": pack("<d", 1.5),
    "FL": pack("<f", 1.5), "IS": b"1", "OB": b"\0\1", "OD": bytes(8), "OF": bytes(4),
    "OL": bytes(4), "OV": bytes(8), "OW": b"\0\1", "SL": bytes(4), "SS": b"\1\0", "SV": bytes(8),
    "TM": b"101500", "UI": f"{ROOT}.8.8".encode(), "UL": b"\1\0\0\0",
    "UR": b"http://some.example", "US": b"\1\0", "UV": bytes(8),
}  # fmt: skip
_BINARY = frozenset({"AT", "FD", "FL", "SL", "SS", "UL", "US", "SV", "UV"})
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_DEEPEST = 4
_CODE = ((0x00080100, "SH", b"T-A0100"), (0x00080102, "SH", b"SRT"), (0x00080104, "LO", b"Brain"))
# Attributes with which an object must be withheld, or whose value depends on others.
_LEFT_OUT = frozenset(
    {0x00080064, 0x00281199, 0x00287FE0, 0x00282000, 0x00283000, 0x00280006, 0x00280009}
    | {0x00281040, 0x00280120, 0x00280121, 0x00280034, 0x00280030, 0x00181164, 0x00281090}
    | set(range(0x00281100, 0x00281300))
)
_IMAGE = frozenset(range(0x00280002, 0x00280104))


def whole_objects() -> Iterator[tuple[str, bytes]]:
    """Yield name and file of each object."""
    for sop_class, iod in classes():
        levels = json.loads((TABLES / f"iod-{iod}.json").read_text(encoding="utf-8"))
        top = levels["levels"][levels["about"]["top"]]
        made = _level(levels["levels"], top, 0) | _image(sop_class, iod, top)
        yield f"{iod} {sop_class}", file(made, EXPLICIT)


def _image(sop_class: str, iod: str, top: dict[str, object]) -> Header:
    """Return the attributes that make it an image, if it is one."""
    made = header(t00080016=("UI", sop_class.encode()))
    if "00280010" not in top:
        return {tag: value for tag, value in made.items() if tag >> 16 not in (0x28, 0x7FE0)}
    bits = 1 if iod == "segmentation" else 16
    if bits == 1:
        for tag, number in ((0x00280100, 1), (0x00280101, 1), (0x00280102, 0)):
            made[tag] = ("US", pack("<H", number))
        made[0x7FE00010] = ("OB", b"\x0f\0")
    if "00280008" in top:
        made[0x00280008] = ("IS", b"1")
    made[0x00280302] = ("CS", b"NO")
    return made


def _level(levels: list[dict[str, object]], cells: dict[str, object], depth: int) -> Header:
    made: Header = {}
    for text, cell in cells.items():
        tag = int(text, 16)
        if tag in _LEFT_OUT or tag >= 0x7FE00000 or tag >> 16 in (0x5000, 0x6000) or tag in _IMAGE:
            continue
        vr = dictionary_VR(tag).split(" or ")[0]
        if vr != "SQ":
            made[tag] = (vr, _value(tag, vr))
        elif isinstance(cell, list) and depth < _DEEPEST:
            made[tag] = ("SQ", items(_item(levels, levels[cell[1]], depth + 1)))
    return made


def _item(levels: list[dict[str, object]], cells: dict[str, object], depth: int) -> bytes:
    made = _level(levels, cells, depth)
    if "00080104" in cells:
        made = {tag: value for tag, value in made.items() if not 0x00080100 <= tag <= 0x00080123}
        made |= {tag: (vr, value) for tag, vr, value in _CODE}
    return b"".join(element(tag, *made[tag]) for tag in sorted(made))


def _value(tag: int, vr: str) -> bytes:
    """Return the minimum number of values of this attribute."""
    least = dictionary_VM(tag).partition("-")[0]
    count = int(least) if least.isdigit() else 1
    one = b"t%08xq" % tag if vr in _TEXT else _VALUES[vr]
    return one * count if vr in _BINARY else b"\\".join([one] * count)
