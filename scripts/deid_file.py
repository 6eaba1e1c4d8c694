"""Write DICOM files element by element, so that they can contain anything.

Used by the modules of the corpus.
"""

from dataclasses import dataclass
from struct import pack
from zlib import compressobj

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
JPEG_LOSSLESS, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{end}" for end in (70, 80, 90))
RLE = "1.2.840.10008.1.2.5"

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.8.498.90210"
NAME = b"Zwoelfender^Roswitha"
TEXT = b"remark: Zwoelfender asks for a call"
LONG = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # noqa: SIM905

Header = dict[int, tuple[str, bytes]]


@dataclass(frozen=True)
class Planted:
    """A value that must not be in the file; with a `tag`: not in that element.

    A tag is given if the value is too short to prove anything by itself.
    """

    value: bytes
    tag: int = 0


@dataclass(frozen=True)
class Case:
    """A case. `kind` is the leak class; `data` a complete Part 10 file."""

    kind: str
    name: str
    data: bytes
    planted: tuple[Planted, ...]


PLANT = (Planted(b"zwoelfender"),)


def element(tag: int, vr: str, value: bytes, syntax: str = EXPLICIT) -> bytes:
    if len(value) & 1:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    order = ">" if syntax == BIG_ENDIAN else "<"
    group, number = tag >> 16, tag & 0xFFFF
    if syntax == IMPLICIT:
        return pack("<HHI", group, number, len(value)) + value
    if vr in LONG:
        return pack(order + "HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return pack(order + "HH2sH", group, number, vr.encode(), len(value)) + value


def items(*contents: bytes, syntax: str = EXPLICIT) -> bytes:
    order = ">" if syntax == BIG_ENDIAN else "<"
    return b"".join(pack(order + "HHI", 0xFFFE, 0xE000, len(one)) + one for one in contents)


def open_ended(tag: int, *contents: bytes, vr: str = "SQ", syntax: str = EXPLICIT) -> bytes:
    """Return a sequence of undefined length with items of undefined length."""
    head = pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, 0xFFFFFFFF)
    if syntax == IMPLICIT:
        head = pack("<HHI", tag >> 16, tag & 0xFFFF, 0xFFFFFFFF)
    begin, end = pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), pack("<HHI", 0xFFFE, 0xE00D, 0)
    return head + b"".join(begin + one + end for one in contents) + pack("<HHI", 0xFFFE, 0xE0DD, 0)


def header(**more: tuple[str, bytes]) -> Header:
    """Return a CT slice of 4 x 4 pixels. `more` as in t00100010=("PN", b"A^B")."""
    made: Header = {
        0x00080005: ("CS", b"ISO_IR 100"),
        0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        0x00080016: ("UI", CT.encode()),
        0x00080018: ("UI", f"{ROOT}.1.1.1".encode()),
        0x00080020: ("DA", b"20240229"),
        0x00080030: ("TM", b"101500"),
        0x00080060: ("CS", b"CT"),
        0x00080070: ("LO", b"Sample Devices"),
        0x0020000D: ("UI", f"{ROOT}.1".encode()),
        0x0020000E: ("UI", f"{ROOT}.1.1".encode()),
        0x00280301: ("CS", b"NO"),
    }
    numbers = {0x00280002: 1, 0x00280010: 4, 0x00280011: 4, 0x00280100: 16, 0x00280101: 12}
    for tag, number in (numbers | {0x00280102: 11, 0x00280103: 0}).items():
        made[tag] = ("US", pack("<H", number))
    made[0x00280004] = ("CS", b"MONOCHROME2")
    made[0x7FE00010] = ("OW", bytes(32))
    return made | {int(name[1:], 16): value for name, value in more.items()}


def file(
    made: Header, syntax: str = EXPLICIT, *, extra: bytes = b"", behind: bytes = b"", **parts: bytes
) -> bytes:
    """Return a Part 10 file; `extra` is before the pixel data, `behind` after them.

    `parts` may be preamble, meta and pixels.
    """
    inner = syntax if syntax in (IMPLICIT, BIG_ENDIAN) else EXPLICIT
    low = b"".join(element(t, *made[t], inner) for t in sorted(made) if t < 0x7FE00010)
    high = b"".join(element(t, *made[t], inner) for t in sorted(made) if t > 0x7FE00010)
    pixels = parts.get("pixels", b"")
    if not pixels and 0x7FE00010 in made:
        pixels = element(0x7FE00010, *made[0x7FE00010], inner)
    data = low + extra + pixels + high + behind
    if syntax == DEFLATED:
        packer = compressobj(wbits=-15)
        data = packer.compress(data) + packer.flush()
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", made[0x00080016][1])
    meta += element(0x00020003, "UI", made[0x00080018][1])
    meta += element(0x00020010, "UI", syntax.encode()) + parts.get("meta", b"")
    head = parts.get("preamble", bytes(128)) + b"DICM"
    return head + element(0x00020000, "UL", pack("<I", len(meta))) + meta + data


def encapsulated(*fragments: bytes, table: bytes = b"") -> bytes:
    head = pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    whole = [table, *(one + b"\0" * (len(one) & 1) for one in fragments)]
    return head + items(*whole) + pack("<HHI", 0xFFFE, 0xE0DD, 0)
