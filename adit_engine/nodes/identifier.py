"""Identifier: the data set of a search or retrieval: a query on its way out, a record coming in."""

from struct import Struct
from struct import error as StructError

from pydicom.charset import decode_bytes, python_encoding
from pydicom.datadict import dictionary_keyword, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from adit_engine.elements import Buffer, Element, elements
from adit_engine.record import Record
from adit_engine.reference import Level

_CHARACTER_SET = 0x00080005
_NUMBERS = {
    "US": Struct("<H"),
    "SS": Struct("<h"),
    "UL": Struct("<I"),
    "SL": Struct("<i"),
    "FL": Struct("<f"),
    "FD": Struct("<d"),
}
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_PLAIN = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})
_ONE_VALUE = frozenset({"LT", "ST", "UT"})
_DELIMITERS = {0x0A, 0x0C, 0x0D, 0x09, 0x5C, 0x5E, 0x3D}


def encode(identifier: Dataset, explicit: bool) -> bytes:
    """Little endian."""
    target = DicomBytesIO()
    target.is_little_endian = True
    target.is_implicit_VR = not explicit
    write_dataset(target, identifier)
    return target.getvalue()


def record(level: Level, data: Buffer, explicit: bool, fallback: str) -> Record:
    """A record of all texts and numbers; sequences, private and unreadable values are left out.

    `fallback` is the character set (such as ISO_IR 100) of a node that names none; where it is
    empty, UTF-8 is tried and then Latin-1. Raises Malformed.
    """
    values: dict[str, str | tuple[str, ...]] = {}
    encodings: tuple[str, ...] = ()
    for element in elements(data, explicit):
        raw = bytes(data[element.value : element.value_end])
        if element.tag == _CHARACTER_SET:
            encodings = _encodings(raw)
        keyword, vr = _keyword_and_vr(element)
        if keyword and not element.undefined:
            value = _value(raw, vr, encodings or _encodings(fallback.encode()))
            if value is not None:
                values[keyword] = value
    return Record(level, values)


def uids(data: Buffer, explicit: bool, tag: int) -> tuple[str, ...]:
    """The UIDs of one element, such as the Failed SOP Instance UID List. Raises Malformed."""
    for element in elements(data, explicit):
        if element.tag == tag:
            text = bytes(data[element.value : element.end]).decode("ascii", "replace")
            return tuple(uid for part in text.split("\\") if (uid := part.strip(" \0")))
    return ()


def is_character_set(term: str) -> bool:
    """Whether it is a defined term of Specific Character Set (PS3.3 C.12.1.1.2)."""
    return term in python_encoding


def _keyword_and_vr(element: Element) -> tuple[str, str]:
    if (element.tag >> 16) % 2:
        return "", ""
    try:
        keyword = dictionary_keyword(element.tag)
        vr = element.vr if element.vr not in ("", "UN") else dictionary_VR(element.tag)
    except KeyError:
        return "", ""
    return keyword, vr.partition(" ")[0]


def _value(raw: bytes, vr: str, encodings: tuple[str, ...]) -> str | tuple[str, ...] | None:
    if vr in _NUMBERS:
        try:
            parts = [str(part[0]) for part in _NUMBERS[vr].iter_unpack(raw)]
        except StructError:
            return None
    elif vr in _TEXT:
        text = _text(raw, encodings)
        parts = [text] if vr in _ONE_VALUE else text.split("\\")
    elif vr in _PLAIN:
        parts = raw.decode("latin-1").split("\\")
    else:
        return None
    parts = [part.strip(" \0") for part in parts]
    return tuple(parts) if len(parts) > 1 else "".join(parts)


def _text(raw: bytes, encodings: tuple[str, ...]) -> str:
    """Archives name a character set and answer in another one; a wrong letter beats no record."""
    if b"\x1b" in raw and encodings:
        return decode_bytes(raw, list(encodings), _DELIMITERS)
    for encoding in (*encodings[:1], "utf-8"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _encodings(raw: bytes) -> tuple[str, ...]:
    """Python's names; none for a set that is absent, unknown, or plain ASCII only."""
    terms = [term.strip(" \0") for term in raw.decode("latin-1").split("\\")]
    known = [python_encoding[term] for term in terms if term in python_encoding]
    plain = [name for name in known if name != python_encoding["ISO_IR 6"]]
    return tuple(known) if plain else ()
