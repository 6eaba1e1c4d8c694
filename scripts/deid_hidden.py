"""Attacks by location: personal data in every place of an object that can contain bytes.

Used by `deid_corpus`.
"""

from collections.abc import Iterator
from struct import pack

from deid_file import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ROOT,
    Header,
    element,
    file,
    items,
    open_ended,
)
from deid_victim import (
    ACCESSION,
    BIRTH,
    GIVEN,
    INSTITUTION,
    MR,
    NAME,
    NUMBER,
    PATIENT_ID,
    REMARK,
    STUDY,
    Attack,
    base,
)


def hidden() -> Iterator[Attack]:
    """Yield all attacks of this module."""
    for kind in (
        _vrs, _private, _shapes, _histories, _references, _containers, _classes,
        _syntaxes,
    ):  # fmt: skip
        yield from kind()


_ALL_VRS = """
    AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SS ST SV TM UC UI UL UN UR US UT
    UV
"""


def _vrs() -> Iterator[Attack]:
    """Every VR, on tags of the standard with another VR, on retired and on unknown tags."""
    name = NAME.encode("latin-1")
    tags = (
        0x00100010, 0x00081030, 0x00181020, 0x00180050, 0x00280010 + 0x3FF0, 0x00104000, 0x00200013,
        0x00080023, 0x00081140, 0x00321032, 0x00080001, 0x0018FFF0, 0x00224444, 0x7FE00020, 0x00204000,
    )  # fmt: skip
    for vr in _ALL_VRS.split():
        for tag in tags:
            for value in (name, name * 8):
                made = base() | {tag: (vr, value)}
                yield Attack("VR", f"{tag:08x} {vr} {len(value)}", file(made))
    inner = element(0x00100010, "PN", name) + element(0x00181020, "LO", GIVEN.encode())
    low = element(0x00100010, "PN", name, IMPLICIT)
    for tag in (0x00081140, 0x00082112, 0x00189346, 0x00091001, 0x00400275, 0x0018FFF0):
        for vr in ("UN", "OB", "OW", "UT", "LO"):
            for content in (items(inner), items(low, syntax=IMPLICIT), items(items(inner))):
                made = base() | {tag: (vr, content)}
                yield Attack("VR", f"items in {tag:08x} {vr}", file(made))
        for vr in ("SQ", "UN"):
            extra = open_ended(tag, inner if vr == "SQ" else low, vr=vr)
            yield Attack("VR", f"open items in {tag:08x} {vr}", _ordered(base(), tag, extra))
    part10 = file(base())
    for tag, vr in ((0x00420011, "OB"), (0x00880200, "OB"), (0x00091010, "OB"), (0x00281201, "OW")):
        yield Attack("VR", f"a whole file in {tag:08x}", file(base() | {tag: (vr, part10)}))


def _private() -> Iterator[Attack]:
    for creator, group, numbers_ in (
        (b"SIEMENS MR HEADER", 0x0019, (0x0C, 0x0D, 0x0E, 0x27)),
        (b"GEMS_ACQU_01", 0x0019, (0x23, 0x24, 0x27, 0x9E)),
        (b"GEMS_PARM_01", 0x0043, (0x39, 0x6F)),
        (b"Philips Imaging DD 001", 0x2001, (0x01, 0x03, 0x06, 0x6E, 0xC1)),
        (b"Philips MR Imaging DD 001", 0x2005, (0x0D, 0x0E)),
        (b"Philips PET Private Group", 0x7053, (0x00, 0x09)),
        (b"ELSCINT1", 0x00E1, (0x21, 0x50)),
    ):
        for number in numbers_:
            for vr in (
                "LO",
                "UN",
                "OB",
                "PN",
                "FL",
                "FD",
                "IS",
                "DS",
                "CS",
                "SQ",
                "UI",
                "DA",
                "LT",
            ):
                content = (
                    GIVEN.upper().encode()
                    if vr != "SQ"
                    else items(element(0x00100010, "PN", NAME.encode("latin-1")))
                )
                made = base(MR) | {group << 16 | 0x10: ("LO", creator)}
                made |= {group << 16 | 0x1000 | number: (vr, content)}
                yield Attack("private", f"{creator.decode()} {number:02x} {vr}", file(made))
        for label in (
            creator + b" ",
            creator.lower(),
            b"X\\" + creator,
            creator + b"\\" + GIVEN.encode(),
        ):
            made = base(MR) | {
                group << 16 | 0x10: ("LO", label),
                group << 16 | 0x1001: ("LO", GIVEN.encode()),
            }
            yield Attack("private", f"creator {label!r}", file(made))
    two = {0x00190010: ("LO", b"SIEMENS MR HEADER"), 0x00190011: ("LO", b"SIEMENS MR HEADER")}
    two |= {0x0019100D: ("CS", GIVEN.upper().encode()), 0x0019110D: ("CS", GIVEN.upper().encode())}
    yield Attack("private", "one creator twice", file(base(MR) | two))
    for place in (0x00081140, 0x00082112, 0x52009230, 0x00400275, 0x00091002):
        inner = element(0x00190010, "LO", b"SIEMENS MR HEADER") + element(
            0x0019100D, "CS", b"XANTHIPPE"
        )
        inner += element(0x00290010, "LO", GIVEN.encode()) + element(
            0x00291008, "OB", NAME.encode()
        )
        yield Attack("private", f"inside {place:08x}", file(base() | {place: ("SQ", items(inner))}))


def _shapes() -> Iterator[Attack]:
    name = element(0x00100010, "PN", NAME.encode("latin-1"))
    for depth in (10, 60, 70, 1000):
        for tag in (0x00081140, 0x00082112, 0x00091001, 0x0018FFF0):
            inner = name
            opened = name
            for _ in range(depth):
                inner = element(tag, "SQ", items(inner))
                opened = open_ended(tag, opened)
            yield Attack("shape", f"{depth} deep {tag:08x}", _ordered(base(), tag, inner))
            yield Attack("shape", f"{depth} deep and open {tag:08x}", _ordered(base(), tag, opened))
    for tag in (0x00081140, 0x00082112, 0x00189346, 0x00400275, 0x00091001):
        for content in (items(), items(b""), items(b"", b""), items(b"", name), items(name, b"")):
            made = base() | {tag: ("SQ", content)}
            yield Attack("shape", f"empty items {tag:08x} {len(content)}", file(made))
        yield Attack("shape", f"open {tag:08x}", _ordered(base(), tag, open_ended(tag)))
        yield Attack(
            "shape", f"open item {tag:08x}", _ordered(base(), tag, open_ended(tag, b"", name))
        )
    empty = {tag: (vr, b"") for tag, (vr, _) in base().items() if tag < 0x00280000 and tag not in (
        0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E)}  # fmt: skip
    yield Attack("shape", "all empty", file(base() | empty), leaves=True)
    for group in (0x0008, 0x0010, 0x0018, 0x0020, 0x0028, 0x0040):
        made = base() | {group << 16: ("UL", pack("<I", NUMBER))}
        yield Attack("shape", f"group length {group:04x}", file(made), leaves=True)
    for tag in (0x00100010, 0x00181020, 0x00200013):
        twice = element(tag, "LO", GIVEN.encode()) * 2
        yield Attack("shape", f"twice {tag:08x}", _ordered(base(), tag, twice))
    late = element(0x00081090, "LO", GIVEN.encode())
    yield Attack("shape", "out of order", file(base(), extra=late))


def _ordered(made: Header, tag: int, extra: bytes) -> bytes:
    """Return the file with raw bytes at the position of this tag."""
    marked = made | {tag: ("OB", b"<<here>>")}
    return file(marked).replace(element(tag, "OB", b"<<here>>"), extra)


def _histories() -> Iterator[Attack]:
    """Sequences that describe the history of an object, and repeat its patient."""
    name, number = NAME.encode("latin-1"), PATIENT_ID.encode()
    who = element(0x00080050, "SH", ACCESSION.encode()) + element(0x00100010, "PN", name)
    who += element(0x00100020, "LO", number) + element(0x00100030, "DA", BIRTH.encode())
    original = element(0x04000550, "SQ", items(who)) + element(0x04000562, "DT", STUDY.encode())
    equipment = element(0x00080080, "LO", INSTITUTION.encode()) + element(
        0x0018A002, "DT", STUDY.encode()
    )
    mac = element(0x04000005, "US", b"\1\0") + element(0x04000010, "UI", f"{ROOT}.1".encode())
    for tag, content in (
        (0x04000561, original), (0x04000550, who), (0x0018A001, equipment), (0x00400275, who),
        (0x00081120, who), (0x00101002, who), (0x00400555, who), (0x04000500, element(
            0x04000520, "OB", name * 4)), (0x4FFE0001, mac), (0xFFFAFFFA, mac + who),
        (0x00100024, who), (0x00080051, who), (0x00400039, who), (0x00081084, who),
        (0x00200027 + 0x1000, who), (0x5400FFF0, who), (0x54000100, who), (0x0040B020, who),
        (0x00700001, who), (0x00081199, who), (0x00081250, who), (0x00401010 + 0x1, who),
        (0x00380004, who), (0x00321064, who), (0x00120083, who), (0x00180026, who),
        (0x00540016, who), (0x00189506, who), (0x00409092, who), (0x00221615, who),
    ):  # fmt: skip
        for syntax in (EXPLICIT, IMPLICIT):
            if syntax == EXPLICIT:
                made = base() | {tag: ("SQ", items(content))}
                leaves = tag not in (0x00400555, 0x00540016, 0x00081250)
                yield Attack("history", f"{tag:08x}", file(made), leaves=leaves or None)


def _references() -> Iterator[Attack]:
    """UIDs of other objects in the sequences that refer to them, at several depths."""
    one = element(0x00081150, "UI", CT.encode()) + element(
        0x00081155, "UI", f"{ROOT}.8.{BIRTH}".encode()
    )
    series = element(0x0020000E, "UI", f"{ROOT}.8".encode()) + element(0x0008114A, "SQ", items(one))
    for tag in (
        0x00081140, 0x00082112, 0x00081110, 0x00081111, 0x00081120, 0x0008113A, 0x00089154,
        0x00089237, 0x00081115, 0x00880200, 0x00420013, 0x0040A730, 0x00640002, 0x00700308,
    ):  # fmt: skip
        for content in (
            one,
            series,
            element(0x00081199, "SQ", items(one)),
            element(tag, "SQ", items(one)),
        ):
            made = base() | {tag: ("SQ", items(content))}
            yield Attack("reference", f"{tag:08x} {len(content)}", file(made), leaves=True)


def _containers() -> Iterator[Attack]:
    name = NAME.encode("latin-1")
    tiff = b"II*\0\x08\0\0\0\1\0\x0e\1\2\0" + pack("<II", len(name), 26) + bytes(4) + name
    yield Attack(
        "container", "TIFF preamble", file(base(), preamble=tiff.ljust(128, b"\0")), leaves=True
    )
    for tag, vr in ((0x00020013, "SH"), (0x00020016, "AE"), (0x00020017, "AE"), (0x00020018, "AE")):
        data = file(base(), meta=element(tag, vr, GIVEN.encode()))
        yield Attack("container", f"meta {tag:08x}", data, leaves=True)
    private = element(0x00020100, "UI", f"{ROOT}.{BIRTH}".encode()) + element(
        0x00020102, "OB", name
    )
    yield Attack("container", "private meta", file(base(), meta=private), leaves=True)
    for behind in (name, bytes(64) + name, element(0xFFFCFFFC, "OB", name), b"\0" * 8):
        yield Attack("container", f"behind {len(behind)}", file(base(), behind=behind))
    yield Attack("container", "cut", file(base())[:-20], leaves=False)


def _classes() -> Iterator[Attack]:
    """Objects that are documents, sound, presentation states or unknown."""
    for sop_class in (
        "104.1", "104.2", "104.3", "88.11", "88.22", "88.33", "88.59", "88.67", "11.1", "11.2",
        "66", "66.1", "66.5", "67", "9.1.1", "9.4.1", "7", "7.1", "6", "6.1", "3", "3.1", "77.1.1",
        "77.1.1.1", "77.1.4.1", "77.1.6", "4.2", "4.3", "68.1", "2000.1",
    ):  # fmt: skip
        data = file(base(f"1.2.840.10008.5.1.4.1.1.{sop_class}"))
        yield Attack("class", sop_class, data, leaves=False)
    for sop_class in (
        "1.2.840.10008.1.3.10",
        "1.3.12.2.1107.5.9.1",
        "1.2.840.113619.4.30",
        "1.2.3",
    ):
        yield Attack("class", sop_class, file(base(sop_class)), leaves=False)
    for more in (
        {0x00280301: ("CS", b"YES")}, {0x00280302: ("CS", b"YES")}, {0x00080064: ("CS", b"WSD")},
        {0x00080008: ("CS", b"DERIVED\\SECONDARY\\SCREEN SAVE")}, {0x00280002: ("US", b"\3\0")},
        {0x00280301: ("CS", b"yes")}, {0x00280301: ("CS", b" YES")},
    ):  # fmt: skip
        yield Attack("class", f"says of itself {more}", file(base() | more), leaves=False)


def _syntaxes() -> Iterator[Attack]:
    name = NAME.encode("latin-1")
    for syntax in (IMPLICIT, DEFLATED, BIG_ENDIAN):
        inner = BIG_ENDIAN if syntax == BIG_ENDIAN else IMPLICIT if syntax == IMPLICIT else EXPLICIT
        who = element(0x00100010, "PN", name, inner) + element(
            0x00104000, "LT", REMARK.encode(), inner
        )
        made = base() | {
            0x00081140: ("SQ", items(who, syntax=inner)),
            0x00091001: ("LT", REMARK.encode()),
        }
        if syntax == BIG_ENDIAN:
            made = {t: (vr, v[::-1] if vr == "US" else v) for t, (vr, v) in made.items()}
        yield Attack("syntax", syntax, file(made, syntax), leaves=True)
        typed = made | {0x00081090: ("LO", GIVEN.encode())}
        yield Attack("syntax", f"typed in {syntax}", file(typed, syntax))
        behind = element(0xFFFCFFFC, "OB", name, inner)
        yield Attack("syntax", f"behind {syntax}", file(made, syntax, behind=behind), leaves=True)
    yield Attack("syntax", "behind the deflated", file(base(), DEFLATED) + name)
