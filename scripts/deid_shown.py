"""Attacks by image: personal data in pixels, look-up tables, colour profiles and streams.

Used by `deid_corpus`.
"""

from collections.abc import Iterator
from struct import pack

from deid_file import CT, Header, element, encapsulated, file, items
from deid_victim import GIVEN, SEG, Attack, base
from deid_victim import NAME as WHOLE_NAME

NAME = WHOLE_NAME.encode("latin-1")
WIDE = WHOLE_NAME.encode("utf-16-le")


def shown() -> Iterator[Attack]:
    """Yield all attacks of this module."""
    for kind in (_tables, _behind, _beside, _streams, _syntaxes):
        yield from kind()


def radiographs() -> Iterator[Attack]:
    """Yield a name in the pixels of each class whose header proves nothing."""
    ends = ("1", "1.1", "1.1.1", "1.2", "1.2.1", "13.1.3", "12.1", "12.1.1", "12.2", "12.2.1", "20")
    for end in ends:
        for said in (b"NO", b"YES", b""):
            made = base(f"{CT[:-1]}{end}", t00280301=("CS", said))
            made[0x7FE00010] = ("OW", NAME.ljust(32)[:32])
            yield Attack(
                "pixels", f"radiograph {end}, {said.decode() or 'nothing'} said", file(made)
            )


def _tables() -> Iterator[Attack]:
    """Look-up tables and profiles, which are bytes and are kept."""
    for text in (NAME, WIDE, WIDE[1:] + b"\0", NAME[::-1]):
        table, exact = text.ljust(256, b"\0"), bytes(8) + text
        for what, size, data in (("in a", 128, table), ("behind a", 4, exact)):
            lut = element(0x00283002, "US", pack("<3H", size, 0, 16))
            lut += element(0x00283004, "LO", b"HU") + element(0x00283006, "OW", data)
            for tag in (0x00283000, 0x00283010):
                made = base() | {tag: ("SQ", items(lut))}
                yield Attack("table", f"{what} LUT {tag:08x}", file(made))
            palette: Header = {0x00281101 + n: ("US", pack("<3H", size, 0, 16)) for n in range(3)}
            palette |= {0x00281201 + n: ("OW", data) for n in range(3)}
            made = base() | palette | {0x00280004: ("CS", b"PALETTE COLOR")}
            yield Attack("table", f"{what} palette", file(made))
        yield Attack("table", "colour profile", file(base(t00282000=("OB", text))))
        pointer: Header = {0x00280009: ("AT", text[:16]), 0x00280008: ("IS", b"1")}
        yield Attack("table", "frame pointer", file(base() | pointer))
        others: Header = dict.fromkeys((1442840608, 6684694, 1409290256), ("OF", text))
        yield Attack("table", "waveform, spectrum, surface", file(base() | others), leaves=True)


def _behind() -> Iterator[Attack]:
    for vr in ("OW", "OB", "UN"):
        made = base() | {0x7FE00010: (vr, bytes(32) + NAME)}
        yield Attack("pixels", f"behind, {vr}", file(made))
    for what, sop_class, bits, size in (("8 bits", CT, 8, 16), ("one bit", SEG, 1, 2)):
        made = base(sop_class) | {0x7FE00010: ("OB", bytes(size) + NAME)}
        for tag, number in ((0x00280100, bits), (0x00280101, bits), (0x00280102, bits - 1)):
            made[tag] = ("US", pack("<H", number))
        yield Attack("pixels", f"behind {what}", file(made), leaves=True)
    floats = base(f"{CT[:-1]}30")
    for tag in (0x7FE00010, 0x00280101, 0x00280102, 0x00280103):
        del floats[tag]
    for tag, vr, bits in ((0x7FE00008, "OF", 32), (0x7FE00009, "OD", 64)):
        made = floats | {0x00280100: ("US", pack("<H", bits)), tag: (vr, bytes(2 * bits) + NAME)}
        yield Attack("pixels", f"behind floats of {bits}", file(made), leaves=True)


def _beside() -> Iterator[Attack]:
    for group in range(0x6000, 0x6020, 2):
        overlay: Header = {
            group << 16 | 0x0010: ("US", b"\4\0"),
            group << 16 | 0x3000: ("OW", NAME),
        }
        overlay |= {group << 16 | low: ("LO", NAME) for low in (0x0022, 0x1500, 0x4000)}
        yield Attack("pixels", f"overlay {group:04x}", file(base() | overlay), leaves=True)
    words = pack("<16H", *(0x1000 * (letter & 0xF) for letter in NAME[:16]))
    yield Attack("pixels", "spare bits", file(base(t7fe00010=("OW", words))), leaves=True)
    odd: Header = {0x60010010: ("LO", GIVEN.encode()), 0x60011000: ("LO", NAME)}
    odd[0x50010010] = ("LO", NAME)
    yield Attack("pixels", "odd repeating groups", file(base() | odd), leaves=True)
    icon = element(0x00280010, "US", b"\4\0") + element(0x7FE00010, "OB", NAME)
    for tag in (0x00880200, 0x00880201, 0x00091002):
        made = base() | {tag: ("SQ", items(icon))}
        yield Attack("pixels", f"icon {tag:08x}", file(made), leaves=True)


def _streams() -> Iterator[Attack]:
    scan = b"\xff\xda\0\x08\1\1\0\1\0\0\x12\x34\x56"
    sized = b"\xff\xc3\0\x0b\x0c\0\4\0\4\1\1\x11\0"
    image = b"\xff\xd8" + sized + scan + b"\xff\xd9"
    field = b"\0\x43\3" + NAME.ljust(64)
    for what, stream in (
        ("in the scan", image[:-2] + NAME + image[-2:]),
        ("in a table", b"\xff\xd8\xff\xdb" + field + image[2:]),
        ("in a code table", b"\xff\xd8\xff\xc4" + field + image[2:]),
        ("in APP1", b"\xff\xd8\xff\xe1" + field + image[2:]),
        ("in APP14", b"\xff\xd8\xff\xee\0\x48Adobe" + field[2:] + image[2:]),
        ("two images", image + b"\xff\xd8\xff\xfe" + field + image[2:]),
        ("late comment", image[:-2] + b"\xff\xfe" + field + image[-2:]),
    ):
        for more, fragments in (("", (stream,)), (", fragments", (stream, b"", NAME))):
            data = file(base(), "1.2.840.10008.1.2.4.70", pixels=encapsulated(*fragments))
            yield Attack("pixels", f"JPEG: {what}{more}", data)


def _syntaxes() -> Iterator[Attack]:
    """Video, references to a server, and future transfer syntaxes: they are not examined."""
    for end in ("4.100", "4.102", "4.107", "4.110", "4.94", "8.1", "4.112", "6.1", "4.999", "7.1"):
        data = file(base(), f"1.2.840.10008.1.2.{end}", pixels=encapsulated(NAME))
        yield Attack("pixels", f"syntax {end}", data, leaves=False)
