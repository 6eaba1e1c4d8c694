"""Objects made to leak: a person's data in every place where a DICOM object can hide them.

Each case is one file with a list of what was planted in it. All names and numbers are invented.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from zlib import compressobj

import jpeg_ls
import numpy as np
import openjpeg

TABLES = Path(__file__).resolve().parent.parent / "adit_engine" / "pseudonymize" / "tables"

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
JPEG_LOSSLESS, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{end}" for end in (70, 80, 90))
RLE = "1.2.840.10008.1.2.5"

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.8.498.90210"
WORD = "Zwoelfender"
NAME = b"Zwoelfender^Roswitha"
TEXT = b"remark: Zwoelfender asks for a call"
LONG = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # noqa: SIM905

Header = dict[int, tuple[str, bytes]]


@dataclass(frozen=True)
class Planted:
    """`value` must not stand anywhere in the file; with a `tag`: not as the value of that element.

    A tag is given where the value is too short to prove anything by itself.
    """

    value: bytes
    tag: int = 0


@dataclass(frozen=True)
class Case:
    """`kind` is the leak class; `data` a whole Part 10 file."""

    kind: str
    name: str
    data: bytes
    planted: tuple[Planted, ...]


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
    """A sequence of undefined length, and so its items."""
    head = pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, 0xFFFFFFFF)
    if syntax == IMPLICIT:
        head = pack("<HHI", tag >> 16, tag & 0xFFFF, 0xFFFFFFFF)
    begin, end = pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), pack("<HHI", 0xFFFE, 0xE00D, 0)
    return head + b"".join(begin + one + end for one in contents) + pack("<HHI", 0xFFFE, 0xE0DD, 0)


def header(**more: tuple[str, bytes]) -> Header:
    """A CT slice of 4 x 4 pixels. `more` as in t00100010=("PN", b"A^B")."""
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
    """`extra` stands before the pixel data, `behind` behind it; parts: preamble, meta, pixels."""
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


# Rows of Table E.1-1 ------------------------------------------------------------------------------

# A place for items that many IODs know: Referenced Image, purpose of reference, equivalent code.
_NEST = (0x00081140, 0x0040A170, 0x00080121)
_OWN = (0x00080018, 0x0020000D, 0x0020000E)
_VALUES = {
    "AE": b"ZWOELFENDER",
    "AS": b"067Y",
    "CS": b"ZWOELFENDER",
    "DA": b"19560412",
    "DS": b"4711.08151",
    "DT": b"19560412101500.123456",
    "IS": b"471108151",
    "PN": NAME,
    "SH": b"Zwoelfender 1",
    "UI": f"{ROOT}.4711.4711".encode(),
    "UR": b"http://zwoelfender.example/4711",
    "US": pack("<H", 0x4711),
}
_SHORT = frozenset({"AS", "US"})


def rows() -> list[tuple[int, str]]:
    """Tag and VR of every row that names an attribute."""
    found = []
    for line in (TABLES / "confidentiality.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            tag, vr, *_ = line.split("\t")
            found.append((int(tag, 16), (vr or "UN").split("/")[0]))
    return found


def row_cases(every: int = 1) -> Iterator[Case]:
    """Each row at depth 0, 1, 3 and in a private sequence; `every` n-th row, for a short run."""
    for tag, vr in rows()[::every]:
        for syntax in (EXPLICIT, IMPLICIT):
            value, planted = _planted(tag, vr, syntax)
            name = f"{tag:08x} {'explicit' if syntax == EXPLICIT else 'implicit'}"
            for depth in (0, 1, 3):
                made = header() | _at_depth(tag, vr, value, depth, syntax)
                yield Case("row", f"{name} depth {depth}", file(made, syntax), planted)
            inside = items(element(tag, vr, value, syntax), syntax=syntax)
            made = header() | {0x00090010: ("LO", b"ZWOELF"), 0x00091001: ("SQ", inside)}
            creator = Planted(b"ZWOELF")
            yield Case("row", f"{name} private", file(made, syntax), (*planted, creator))


def class_cases(every: int = 1) -> Iterator[Case]:
    """Every class: a part of the rows at the top and inside the sequences that its IOD opens."""
    for turn, (sop_class, iod) in enumerate(classes()):
        for tag, vr in rows()[turn % 5 :: 5 * every]:
            value, planted = _planted(tag, vr, EXPLICIT)
            holder = _holder(iod, element(tag, vr, value))
            front = _of_class(sop_class, iod)
            for name, more in (("top", {tag: (vr, value)}), ("inside", holder)):
                if more and not (name == "top" and tag in _OWN):
                    yield Case("class", f"{iod} {tag:08x} {name}", file(front | more), planted)


def classes() -> list[tuple[str, str]]:
    """SOP class UID and IOD of all that may leave without a pixel rule."""
    lines = (TABLES / "admission.tsv").read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(uid, iod) for uid, iod, _, asks, _ in cells if "rule" not in asks.split()]


def _of_class(sop_class: str, iod: str) -> Header:
    made = header(t00080016=("UI", sop_class.encode()))
    if iod in ("rt-plan", "rt-ion-plan", "rt-structure-set"):
        made = {tag: value for tag, value in made.items() if tag >> 16 not in (0x28, 0x7FE0)}
    return made


def _holder(iod: str, content: bytes) -> Header:
    """The content inside a sequence that matters in this IOD."""
    if "enhanced" in iod or iod in ("segmentation", "parametric-map", "breast-tomosynthesis-image"):
        groups = element(0x00209111, "SQ", items(content))
        place = 0x52009230
    else:
        groups = content
        place = {
            "rt-plan": 0x300A00B0, "rt-ion-plan": 0x300A03A2, "rt-structure-set": 0x30060020,
            "rt-dose": 0x300C0002, "rt-image": 0x30020030, "nuclear-medicine-image": 0x00540012,
            "positron-emission-tomography-image": 0x00540016,
        }.get(iod, 0x00081140)  # fmt: skip
    return {place: ("SQ", items(groups))}


def _planted(tag: int, vr: str, syntax: str) -> tuple[bytes, tuple[Planted, ...]]:
    if vr == "SQ":
        inner = element(0x00080050, "SH", b"ZWACC4711", syntax)
        inner += element(0x00080018, "UI", _VALUES["UI"], syntax)
        inner += element(0x00100010, "PN", NAME, syntax) + element(0x00104000, "LT", TEXT, syntax)
        words = (b"ZWACC4711", _VALUES["UI"], NAME, TEXT)
        return items(inner, syntax=syntax), tuple(Planted(word) for word in words)
    value = _VALUES.get(vr, TEXT)
    return value, () if vr == "TM" else (Planted(value, tag if vr in _SHORT else 0),)


def _at_depth(tag: int, vr: str, value: bytes, depth: int, syntax: str) -> Header:
    content = element(tag, vr, value, syntax)
    for place in reversed(_NEST[1 : max(depth, 1)]):
        content = element(place, "SQ", items(content, syntax=syntax), syntax)
    return {_NEST[0]: ("SQ", items(content, syntax=syntax))} if depth else {tag: (vr, value)}


# Leak classes -------------------------------------------------------------------------------------

_PLANT = (Planted(b"zwoelfender"),)


def leak_cases() -> Iterator[Case]:
    for kind in (_groups, _containers, _nested, _private, _wrong, _texts, _charsets, _pixels):
        yield from kind()
    yield from _streams()
    yield from _syntaxes()


def _groups() -> Iterator[Case]:
    for group in (0x5000, 0x5002, 0x501E, 0x6000, 0x6002, 0x601E):
        for syntax in (EXPLICIT, IMPLICIT):
            made = header()
            for low, vr in ((0x0022, "LO"), (0x1500, "LO"), (0x3000, "OW"), (0x4000, "LT")):
                made[group << 16 | low] = (vr, NAME)
            kind = "overlay" if group & 0xF000 == 0x6000 else "curve"
            yield Case(kind, f"{group:04x} {syntax}", file(made, syntax), _PLANT)
    made = header(t00041130=("CS", b"ZWOELFENDER"), t00080000=("UL", b"ZWOE"))
    planted = (*_PLANT, Planted(b"ZWOE", 0x00080000))
    yield Case("group", "directory and group length", file(made), planted)


def _containers() -> Iterator[Case]:
    yield Case("preamble", "text", file(header(), preamble=NAME.ljust(128)), _PLANT)
    for tag, vr in ((0x00020016, "AE"), (0x00020017, "AE"), (0x00020018, "AE"), (0x00020026, "UR")):
        meta = element(tag, vr, b"ZWOELFENDER")
        yield Case("file meta", f"{tag:08x}", file(header(), meta=meta), _PLANT)
    meta = element(0x00020100, "UI", b"1.2.3") + element(0x00020102, "OB", NAME)
    yield Case("file meta", "private information", file(header(), meta=meta), _PLANT)
    for syntax in (EXPLICIT, IMPLICIT):
        behind = element(0x7FE10010, "LO", b"ZWOELF", syntax)
        behind += element(0x7FE11001, "LO", NAME, syntax)
        inside = items(element(0x00100010, "PN", NAME, syntax), syntax=syntax)
        behind += element(0xFFFAFFFA, "SQ", inside, syntax)
        behind += element(0xFFFCFFFC, "OB", NAME, syntax)
        yield Case("behind", f"groups {syntax}", file(header(), syntax, behind=behind), _PLANT)
        late = element(0x00104000, "LT", TEXT, syntax) + element(0x00100010, "PN", NAME, syntax)
        yield Case("behind", f"order {syntax}", file(header(), syntax, behind=late), _PLANT)
    yield Case("behind", "bytes", file(header(), behind=NAME), _PLANT)


def _nested() -> Iterator[Case]:
    name = element(0x00100010, "PN", NAME) + element(0x00104000, "LT", TEXT)
    for tag in (0x00081110, 0x00081115, 0x00081140, 0x00082112, 0x00082218, 0x00400275, 0x00400555,
                0x00189346, 0x00540016, 0x52009229, 0x00409096, 0x00081250):  # fmt: skip
        for content in (element(tag, "SQ", items(name)), open_ended(tag, name)):
            deep = element(0x00081140, "SQ", items(content)) if tag != 0x00081140 else content
            for place, extra in (("top", content), ("inside", deep)):
                made = {t: e for t, e in header().items() if t != 0x00080018 or tag > 0x00080018}
                whole = file({**made, **header()}, extra=extra)
                yield Case("nested", f"{tag:08x} {place}", whole, _PLANT)
    icon = element(0x00280010, "US", b"\4\0") + element(0x7FE00010, "OB", NAME)
    yield Case("icon", "top", file(header(t00880200=("SQ", items(icon)))), _PLANT)
    inner = items(element(0x00880200, "SQ", items(icon)))
    yield Case("icon", "in a reference", file(header(t00081140=("SQ", inner))), _PLANT)
    inner = items(element(0x00081155, "UI", ROOT.encode()) + element(0x7FE00010, "OW", NAME))
    yield Case("icon", "bare pixels", file(header(t00081140=("SQ", inner))), _PLANT)


def _private() -> Iterator[Case]:
    blocks = (
        b"SIEMENS CSA HEADER",
        b"SIEMENS MR HEADER",
        b"GEMS_ACQU_01",
        b"Philips Imaging DD 001",
    )
    for group in (0x0009, 0x0019, 0x0029, 0x2001, 0x7053):
        for creator in blocks:
            for syntax in (EXPLICIT, IMPLICIT):
                made = header()
                made[group << 16 | 0x10] = ("LO", creator)
                for low, vr in ((0x100C, "IS"), (0x1001, "PN"), (0x1010, "OB"), (0x10F1, "LO")):
                    made[group << 16 | low] = (vr, NAME)
                name = f"{group:04x} {creator.decode()} {syntax}"
                yield Case("private", name, file(made, syntax), _PLANT)
    inner = element(0x00090010, "LO", b"ZWOELFENDER") + element(0x00091001, "LT", TEXT)
    for content in (element(0x00091001, "SQ", items(inner)), open_ended(0x00091001, inner)):
        holder = element(0x00090010, "LO", b"X") + content
        made = header(t00081140=("SQ", items(holder)))
        yield Case("private", "nested", file(made), _PLANT)
    unknown = open_ended(0x00091001, element(0x00100010, "PN", NAME, IMPLICIT), vr="UN")
    made = header(t00081140=("SQ", items(element(0x00090010, "LO", b"X") + unknown)))
    yield Case("private", "UN", file(made), _PLANT)


def _wrong() -> Iterator[Case]:
    """Values that are not what their VR says, and VRs that are not the attribute's."""
    for vr in ("LO", "UN", "OB", "CS", "UI", "DA", "UT"):
        made = header(t00100010=(vr, NAME), t00080090=(vr, NAME), t00081030=(vr, TEXT))
        yield Case("wrong VR", vr, file(made), _PLANT)
    for tag, vr in ((0x00180050, "DS"), (0x00200013, "IS"), (0x00180015, "CS"), (0x0020000E, "UI"),
                    (0x00080021, "DA"), (0x00080031, "TM"), (0x0008002A, "DT"), (0x00080060, "CS"),
                    (0x00200052, "UI"), (0x00181160, "SH"), (0x00080201, "SH")):  # fmt: skip
        yield Case("wrong value", f"{tag:08x}", file(header() | {tag: (vr, NAME)}), _PLANT)
    for syntax in (EXPLICIT, IMPLICIT):
        inner = element(0x00100010, "PN", NAME, syntax)
        made = header(t00081140=("UN", items(inner, syntax=syntax)))
        yield Case("UN", f"defined {syntax}", file(made, syntax), _PLANT)
        made = header(t00402016=("UN", NAME), t00104000=("UN", TEXT))
        yield Case("UN", f"text {syntax}", file(made, syntax), _PLANT)
    inner = element(0x00100010, "PN", NAME, IMPLICIT)
    low = {tag: value for tag, value in header().items() if tag < 0x00081140}
    front = b"".join(element(tag, *low[tag]) for tag in sorted(low))
    rest = {tag: value for tag, value in header().items() if tag not in low}
    unknown = front + open_ended(0x00081140, inner, vr="UN")
    data = unknown + b"".join(element(tag, *rest[tag]) for tag in sorted(rest))
    shell = file(header())
    yield Case("UN", "undefined", shell[: shell.index(front)] + data, _PLANT)
    unknown = element(0x00092001, "LO", NAME) + element(0x0011FFFF, "LT", TEXT)
    yield Case("private", "without creator", file(header(), extra=unknown), _PLANT)
    code = element(0x00080100, "SH", b"ZW1") + element(0x00080102, "SH", b"99HOSPITAL")
    code += element(0x00080104, "LO", b"as Zwoelfender asked")
    yield Case("code", "private scheme", file(header(t00081140=("SQ", items(code)))), _PLANT)
    made = header(t00081032=("SQ", items(code)), t00082218=("SQ", items(code)))
    yield Case("code", "procedure", file(made), _PLANT)


def _texts() -> Iterator[Case]:
    """An identity typed into elements that may stay: what only a search in the result can find."""
    made = header(t00100010=("PN", NAME), t00100020=("LO", b"4711-0815"))
    for tag, vr, text in (
        (0x00080070, "LO", b"Zwoelfender"), (0x00081090, "LO", b"Roswitha 1"),
        (0x00181160, "SH", b"ZWOELFENDER"), (0x00180015, "CS", b"ZWOELFENDER"),
        (0x00181210, "SH", b"Zwoelfender"), (0x00181020, "LO", b"4711-0815"),
        (0x00080008, "CS", b"ORIGINAL\\PRIMARY\\ZWOELFENDER"), (0x00185100, "CS", b"ROSWITHA"),
    ):  # fmt: skip
        value = text.rpartition(b"\\")[2].split(b" ")[0]
        yield Case("typed in", f"{tag:08x}", file(made | {tag: (vr, text)}), (Planted(value),))


def _charsets() -> Iterator[Case]:
    samples = [
        (b"ISO_IR 100", "latin-1", "Zwölfenderß^Jörg"),
        (b"ISO_IR 101", "iso8859-2", "Żołądkiewicz^Łucja"),
        (b"ISO_IR 144", "iso8859-5", "Люкceмбypг^Яна"),
        (b"ISO_IR 126", "iso8859-7", "Διονυσιος^Ιασων"),
        (b"ISO_IR 192", "utf-8", "Zwölfender^Østergård"),
        (b"GB18030", "gb18030", "王小东山^丽丽"),
        (b"ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (b"\\ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (b"\\ISO 2022 IR 149", "korean", "Hong^Gildong=洪^吉洞=홍^길동"),
        (b"ISO_IR 100", "utf-8", "Müllerßohn^Ödön"),
        (b"ISO_IR 192", "latin-1", "Müllerßohn^Ödön"),
        (b"ISO_IR 6", "shift_jis", "表示ソ能^太郎"),
    ]
    # Kanji whose second byte is a backslash or a caret in ISO 2022.
    tricky = [c for c in map(chr, range(0x4E00, 0x6000)) if _has_mark(c)][:6]
    samples += [
        (b"\\ISO 2022 IR 87", "iso2022_jp", f"{tricky[0]}{tricky[1]}^{tricky[2]}{tricky[3]}"),
        (b"\\ISO 2022 IR 87", "iso2022_jp", f"{tricky[4]}{tricky[1]}{tricky[5]}"),
    ]
    for number, (term, codec, text) in enumerate(samples):
        raw = _as_korean(text) if codec == "korean" else text.encode(codec)
        parts = [part for group in text.split("=") for part in group.split("^")]
        words = {part.encode("utf-8") for part in parts if not part.isascii()}
        words |= {_as_korean(part) if codec == "korean" else part.encode(codec) for part in parts}
        planted = tuple(Planted(word) for word in sorted(words) if len(word) > 3)
        made = header(
            t00080005=("CS", term), t00100010=("PN", raw), t00104000=("LT", raw),
            t0008103e=("LO", raw), t00081080=("LO", raw), t00400275=("SQ", items(
                element(0x00321060, "LO", raw))),
        )  # fmt: skip
        yield Case("charset", f"{term.decode()} {number}", file(made), planted)
        made[0x00081090] = ("LO", raw)  # an element that may stay
        yield Case("charset", f"{term.decode()} {number} kept", file(made), planted)


def _has_mark(kanji: str) -> bool:
    try:
        inner = kanji.encode("iso2022_jp")[3:-3]
    except UnicodeEncodeError:
        return False
    return b"\\" in inner or b"^" in inner


def _as_korean(text: str) -> bytes:
    """Each stretch of Korean announces itself anew, as it must behind a caret (PS3.5 6.1.2.5.3)."""
    return b"=".join(
        b"^".join(
            part.encode() if part.isascii() else b"\x1b$)C" + part.encode("euc_kr")
            for part in group.split("^")
        )
        for group in text.split("=")
    )


# Pixels -------------------------------------------------------------------------------------------


def _pixels() -> Iterator[Case]:
    made = header(t7fe00010=("OW", bytes(32) + NAME))
    yield Case("behind pixels", "native", file(made), _PLANT)
    words = [0x1000 * (letter & 0xF) for letter in NAME[:16]]
    made = header(t7fe00010=("OW", pack("<16H", *words)))
    yield Case("spare bits", "native", file(made), (Planted(pack("<16H", *words)),))
    made = header(t60000102=("US", pack("<H", 3)), t60000022=("LO", NAME))
    yield Case("spare bits", "inside the image", file(made), _PLANT)
    made = header(t7fe00001=("OV", NAME), t7fe00002=("OV", NAME))
    yield Case("behind pixels", "offset tables", file(made), _PLANT)


def encapsulated(*fragments: bytes, table: bytes = b"") -> bytes:
    head = pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    whole = [table, *(one + b"\0" * (len(one) & 1) for one in fragments)]
    return head + items(*whole) + pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _segment(code: int, content: bytes) -> bytes:
    return pack(">BBH", 0xFF, code, len(content) + 2) + content


def _streams() -> Iterator[Case]:
    frame = pack(">BHHB3s", 12, 4, 4, 1, b"\1\x11\0")
    scan = _segment(0xDA, b"\1\1\0\1\0\0") + b"\x12\x34\x56"
    start, end = b"\xff\xd8", b"\xff\xd9"
    sized = _segment(0xC3, frame)
    for name, stream in (
        ("comment", start + _segment(0xFE, NAME) + sized + scan + end),
        ("Exif", start + _segment(0xE1, b"Exif\0" + NAME) + sized + scan + end),
        ("APP0", start + _segment(0xE0, b"JFIF\0" + NAME) + sized + scan + end),
        ("late comment", start + sized + scan + _segment(0xFE, NAME) + end),
        ("behind the end", start + sized + scan + end + NAME),
        ("between segments", start + NAME + sized + scan + end),
    ):
        yield _stream("JPEG stream", name, JPEG_LOSSLESS, stream)
    yield _stream("JPEG stream", "offset table", JPEG_LOSSLESS, start + sized + scan + end, NAME)
    image = np.arange(16, dtype="<u2").reshape(4, 4) * 200
    plain = bytes(jpeg_ls.encode(image))
    for name, stream in (
        ("comment", plain[:2] + _segment(0xFE, NAME) + plain[2:]),
        ("APP", plain[:2] + _segment(0xE5, NAME) + plain[2:]),
        ("behind the end", plain + NAME),
    ):
        yield _stream("JPEG-LS stream", name, JPEG_LS, stream)
    image = np.arange(4096, dtype="<u2").reshape(64, 64)  # 4 x 4 has too little to be halved
    code = bytes(openjpeg.encode(image, photometric_interpretation=2, use_mct=False))
    size = 2 + int.from_bytes(code[4:6]) + 2
    comment = _segment(0x64, b"\0\1" + NAME)
    tile = code.index(b"\xff\x90")
    longer = int.from_bytes(code[tile + 6 : tile + 10]) + len(comment)
    in_tile = code[: tile + 6] + longer.to_bytes(4) + code[tile + 10 : tile + 12] + comment
    for name, stream in (
        ("comment", code[:size] + comment + code[size:]),
        ("tile comment", in_tile + code[tile + 12 :]),
        ("behind the end", code + NAME),
        ("boxes", b"\0\0\0\x0cjP  \r\n\x87\n" + NAME + code),
    ):
        yield _stream("JPEG 2000 stream", name, JPEG_2000, stream)
    runs = bytes([256 - 15, 0])
    plain = pack("<16I", 2, 64, 66, *[0] * 13) + runs + runs
    gap = pack("<16I", 2, 64, 66 + len(NAME), *[0] * 13) + runs + NAME + runs
    for name, stream in (("behind the end", plain + NAME), ("between segments", gap)):
        yield _stream("RLE stream", name, RLE, stream)
    held = pack("<16I", 2, 64, 66, *[0] * 13)[:-24] + NAME.ljust(24) + runs + runs
    yield _stream("RLE stream", "header", RLE, held)


def _stream(kind: str, name: str, syntax: str, stream: bytes, table: bytes = b"") -> Case:
    pixels = encapsulated(stream, table=table)
    made = header()
    if syntax == JPEG_2000:
        made |= {tag: ("US", pack("<H", 64)) for tag in (0x00280010, 0x00280011)}
    return Case(kind, name, file(made, syntax, pixels=pixels), _PLANT)


def _syntaxes() -> Iterator[Case]:
    for syntax, kind in ((DEFLATED, "deflated"), (BIG_ENDIAN, "big endian")):
        made = header(
            t00100010=("PN", NAME), t00104000=("LT", TEXT), t00090010=("LO", b"ZWOELFENDER"),
            t00091001=("LT", TEXT), t60004000=("LT", TEXT),
        )  # fmt: skip
        inner = element(0x00100010, "PN", NAME, syntax if syntax == BIG_ENDIAN else EXPLICIT)
        made[0x00081140] = ("SQ", items(inner, syntax=syntax))
        if syntax == BIG_ENDIAN:
            made = {t: (vr, v[::-1] if vr == "US" else v) for t, (vr, v) in made.items()}
        yield Case(kind, "all places", file(made, syntax), _PLANT)
        behind = element(0xFFFCFFFC, "OB", NAME, syntax)
        yield Case(kind, "behind pixels", file(made, syntax, behind=behind), _PLANT)
