"""One made-up person, and all ways in which bytes can spell their identity.

Independent of the engine, its rules and its verification. Used by the modules of attacks.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from struct import pack

from deid_file import CT, ROOT, Header, header

FAMILY, GIVEN = "Quölfhäuser", "Xanthippe"
NAME = f"{FAMILY}^{GIVEN}"
PATIENT_ID = "KH-4711-0815"
NUMBER = 40_711_816
"""The patient's number in another register: eight digits, also as an integer of 4 or 8 bytes."""
BIRTH, STUDY = "19560412", "20240229"
ACCESSION = "ACX90210R7"
INSTITUTION = "Klinikum Hinterzartenau"
PHYSICIAN = "Grimmelshofer"
STREET = "Quellenweg 17, 79999 Hinterzartenau"
PHONE = "0049 7652 314159"
SERIAL = "SN-99-88-776Q"
STATION = "QCTRAUM3"
REMARK = "Xylophon player, asks for a call back"

MR, PET, SEG = f"{CT[:-1]}4", f"{CT[:-1]}128", f"{CT[:-1]}66.4"
ENHANCED_MR = f"{CT[:-1]}4.1"

PLAIN = {
    "given name": GIVEN, "patient id": PATIENT_ID, "number": str(NUMBER), "accession": ACCESSION,
    "institution": INSTITUTION, "physician": PHYSICIAN, "street": STREET, "phone": PHONE,
    "remark": REMARK,
}  # fmt: skip
DEVICE = {"serial": SERIAL, "station": STATION}

CODECS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "utf-32-le", "cp437", "utf-7")
_MONTHS = "January February March April May June July August September October November December"


@dataclass(frozen=True)
class Attack:
    """One file with an attack.

    `leaves`: True if the rules alone must clean it, False if it must be withheld.
    """

    kind: str
    name: str
    data: bytes
    leaves: bool | None = None


@dataclass(frozen=True)
class Trace:
    """A trace of the person; `needle` is in ASCII lower case."""

    what: str
    needle: bytes


def victim() -> Header:
    """Return the identity as in a correct header; part of every attack."""
    name = f"{FAMILY}^{GIVEN}".encode("latin-1")
    return {
        0x00080050: ("SH", ACCESSION.encode()),
        0x00080080: ("LO", INSTITUTION.encode()),
        0x00080081: ("ST", b"Rehgasse 3, 79999 Neustadt"),
        0x00080090: ("PN", f"{PHYSICIAN}^Baltasar".encode()),
        0x00081010: ("SH", STATION.encode()),
        0x00100010: ("PN", name),
        0x00100020: ("LO", PATIENT_ID.encode()),
        0x00100030: ("DA", BIRTH.encode()),
        0x00101000: ("LO", str(NUMBER).encode()),
        0x00101040: ("LO", STREET.encode()),
        0x00102154: ("SH", PHONE.encode()),
        0x00104000: ("LT", REMARK.encode()),
        0x00181000: ("LO", SERIAL.encode()),
    }


def base(sop_class: str = CT, **more: tuple[str, bytes]) -> Header:
    """Return a small image of the person. `more` as in t00100010=("PN", b"A^B")."""
    own = {int(name[1:], 16): value for name, value in more.items()}
    return header() | victim() | {0x00080016: ("UI", sop_class.encode())} | own


def names() -> Iterator[str]:
    """Yield spellings of the family name."""
    for form in ("NFC", "NFD"):
        yield unicodedata.normalize(form, FAMILY)
    yield FAMILY.translate({ord("ö"): "oe", ord("ä"): "ae"})
    yield "".join(c for c in unicodedata.normalize("NFD", FAMILY) if c.isascii())
    yield FAMILY.encode().decode("latin-1")  # UTF-8 labelled as Latin-1


def days(day: str) -> Iterator[str]:
    """Yield spellings of a date."""
    year, month, date = day[:4], day[4:6], day[6:]
    word = _MONTHS.split()[int(month) - 1]
    for mark in ("", "-", ".", "/", " ", "_"):
        yield mark.join((year, month, date))
        yield mark.join((date, month, year))
        yield mark.join((month, date, year))
    yield f"{int(date)}.{int(month)}.{year}"
    yield f"{int(month)}/{int(date)}/{year}"
    for short in (word, word[:3]):
        yield from (f"{int(date)} {short} {year}", f"{short} {int(date)}, {year}")
        yield f"{date}-{short}-{year}"


@cache
def traces(options: frozenset[str] = frozenset()) -> list[Trace]:
    """Return what no output may contain with these options of PS3.15."""
    words = [("family name", name) for name in names()] + list(PLAIN.items())
    if "113112" in options:
        words = [(what, word) for what, word in words if what not in ("institution", "street")]
    if "113109" not in options:
        words += DEVICE.items()
    found = {
        Trace(what, _encoded(cased, codec).lower())
        for (what, word), codec in product(words, CODECS)
        for cased in (word, word.upper(), word.lower(), word[::-1])
    }
    dates = [("birth date", BIRTH)] + ([] if "113106" in options else [("study date", STUDY)])
    for what, day in dates:
        found |= {Trace(what, text.lower().encode()) for text in days(day)}
        found |= {Trace(what, data.lower()) for data in numbers(int(day))}
    found |= {Trace("number", data.lower()) for data in numbers(NUMBER)}
    if "113110" not in options:
        found.add(Trace("UID", ROOT.encode()))
    return [trace for trace in found if len(trace.needle) >= 4]


def numbers(number: int) -> Iterator[bytes]:
    """Yield the number in bytes; not as a 4-byte float, which many numbers share."""
    yield from (pack(order + kind, number) for order in "<>" for kind in "Id")


def left_in(data: bytes, options: frozenset[str] = frozenset()) -> set[str]:
    """Return the traces found in these bytes, in any case or encoding."""
    low = data.lower()
    bare = re.sub(rb"\x1b[$()\-]{1,2}[@-Za-z]", b"", low)
    return {trace.what for trace in traces(options) if trace.needle in low or trace.needle in bare}


def _encoded(text: str, codec: str) -> bytes:
    return text.encode(codec, "ignore")
