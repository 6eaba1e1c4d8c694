"""Encode and decode identifiers, the data sets of C-FIND, C-GET and C-MOVE.

Used by the DIMSE node and by the folder node.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from struct import Struct, pack
from struct import error as StructError
from typing import TYPE_CHECKING

from adit_engine.elements import Buffer, Element, elements
from adit_engine.errors import InvalidInput
from adit_engine.values.attributes import find_by_keyword, find_by_tag
from adit_engine.values.record import Record, clean_text
from adit_engine.values.references import QueryLevel

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Keys = Mapping[str, str | tuple[str, ...]]
"""Values by keyword; several values are a tuple."""

_CHARACTER_SET = 0x00080005
_NUMBERS = {
    "US": Struct("<H"),
    "SS": Struct("<h"),
    "UL": Struct("<I"),
    "SL": Struct("<i"),
    "FL": Struct("<f"),
    "FD": Struct("<d"),
}
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ASCII_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"})
_SINGLE_VALUE_VRS = frozenset({"LT", "ST", "UT"})
_LONG_VRS = frozenset({"UC", "UN", "UR", "UT"})
_COMMON_CHARACTER_SETS = {
    "": "iso8859",
    "ISO_IR 6": "iso8859",
    "ISO_IR 100": "latin_1",
    "ISO_IR 192": "UTF8",
}
"""Python codecs, as pydicom names them; for other terms pydicom is loaded, which is slow."""
_DELIMITERS = {0x0A, 0x0C, 0x0D, 0x09, 0x5C, 0x5E, 0x3D}


def encode_identifier(identifier: "Keys | Dataset", explicit: bool) -> bytes:
    """Encode in little endian, in UTF-8 if ASCII is not sufficient.

    A Dataset is written by pydicom.
    """
    if not isinstance(identifier, Mapping):
        return _encode_dataset(identifier, explicit)
    texts = {k: v if isinstance(v, str) else "\\".join(v) for k, v in identifier.items()}
    if not all(text.isascii() for text in texts.values()):
        texts["SpecificCharacterSet"] = "ISO_IR 192"
    encoded = {}
    for keyword, text in texts.items():
        known = find_by_keyword(keyword)
        if known is None:
            raise InvalidInput("identifier.unknown-attribute", keyword=keyword)
        try:
            encoded[known[0]] = _encode_element(keyword, *known, text, explicit)
        except (ValueError, OverflowError, StructError):
            raise InvalidInput("identifier.invalid-value", keyword=keyword) from None
    return b"".join(encoded[tag] for tag in sorted(encoded))


def _encode_element(keyword: str, tag: int, vr: str, text: str, explicit: bool) -> bytes:
    if vr in _NUMBERS:
        number = float if vr in ("FL", "FD") else int
        value = b"".join(_NUMBERS[vr].pack(number(part)) for part in text.split("\\") if part)
    elif vr in _TEXT_VRS or vr in _ASCII_VRS or vr == "UR" or not text:
        value = text.encode()
    else:
        raise InvalidInput("identifier.unsupported-attribute", keyword=keyword, vr=vr)
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    group, number_in_group = tag >> 16, tag & 0xFFFF
    if not explicit:
        return pack("<HHI", group, number_in_group, len(value)) + value
    if vr in _LONG_VRS or vr in ("SQ", "OB", "OW"):
        return pack("<HH2sHI", group, number_in_group, vr.encode(), 0, len(value)) + value
    return pack("<HH2sH", group, number_in_group, vr.encode(), len(value)) + value


def _encode_dataset(identifier: "Dataset", explicit: bool) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    target = DicomBytesIO()
    target.is_little_endian = True
    target.is_implicit_VR = not explicit
    write_dataset(target, identifier)
    return target.getvalue()


def tags_of(keywords: Iterable[str]) -> frozenset[int]:
    """Return the tags to pass to `decode_record` as `only`.

    The character set is always among them.
    """
    known = (find_by_keyword(keyword) for keyword in keywords)
    return frozenset({_CHARACTER_SET, *(one[0] for one in known if one is not None)})


def decode_record(
    level: QueryLevel,
    data: Buffer,
    explicit: bool,
    fallback: str,
    only: frozenset[int] | None = None,
) -> Record:
    """Return a record of all texts and numbers. Raises Malformed.

    Sequences, private and unreadable values are omitted. `fallback` is the character set (such as
    ISO_IR 100) of a node that declares none; where it is empty, UTF-8 is tried and then Latin-1.
    `only` are the tags to read, None for all; nothing after the last of them is read.
    """
    values: dict[str, str | tuple[str, ...]] = {}
    encodings: tuple[str, ...] = ()
    last = 0xFFFFFFFF if only is None else max(only)
    for element in elements(data, explicit):
        if element.tag > last:
            break
        if only is not None and element.tag not in only:
            continue
        raw = bytes(data[element.value : element.value_end])
        if element.tag == _CHARACTER_SET:
            encodings = _python_encodings(raw)
        keyword, vr = _keyword_and_vr(element)
        if keyword and not element.undefined:
            value = _decode_value(raw, vr, encodings or _python_encodings(fallback.encode()))
            if value is not None:
                values[keyword] = value
    return Record(level, values)


def decode_uids(data: Buffer, explicit: bool, tag: int) -> tuple[str, ...]:
    """Return the UIDs of one element, such as Failed SOP Instance UID List.

    Raises Malformed.
    """
    for element in elements(data, explicit):
        if element.tag == tag:
            text = bytes(data[element.value : element.end]).decode("ascii", "replace")
            return tuple(uid for part in text.split("\\") if (uid := part.strip(" \0")))
    return ()


def is_character_set(term: str) -> bool:
    """Return whether Specific Character Set defines this term (PS3.3 C.12.1.1.2)."""
    return _python_encoding(term) is not None


def _keyword_and_vr(element: Element) -> tuple[str, str]:
    keyword, vr = find_by_tag(element.tag)
    return keyword, vr if element.vr in ("", "UN") else element.vr


def _decode_value(raw: bytes, vr: str, encodings: tuple[str, ...]) -> str | tuple[str, ...] | None:
    if vr in _ASCII_VRS and b"\\" not in raw:
        return clean_text(raw.decode("latin-1"))
    if vr in _NUMBERS:
        try:
            parts = [str(part[0]) for part in _NUMBERS[vr].iter_unpack(raw)]
        except StructError:
            return None
    elif vr in _TEXT_VRS:
        text = _decode_text(raw, encodings)
        parts = [text] if vr in _SINGLE_VALUE_VRS else text.split("\\")
    elif vr in _ASCII_VRS:
        parts = raw.decode("latin-1").split("\\")
    else:
        return None
    parts = [clean_text(part) for part in parts]
    return tuple(parts) if len(parts) > 1 else "".join(parts)


def _decode_text(raw: bytes, encodings: tuple[str, ...]) -> str:
    """Decode leniently: some archives declare one character set and use another.

    A wrong letter is better than no record.
    """
    if b"\x1b" in raw and encodings:
        import warnings

        from pydicom.charset import decode_bytes

        # The user cannot correct an escape sequence that no character set defines.
        with warnings.catch_warnings(action="ignore"):
            return decode_bytes(raw, list(encodings), _DELIMITERS)
    for encoding in (*encodings[:1], "utf-8"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


@lru_cache(maxsize=256)
def _python_encodings(raw: bytes) -> tuple[str, ...]:
    """Return Python codecs; none for a set that is absent, unknown, or plain ASCII only."""
    terms = [term.strip(" \0") for term in raw.decode("latin-1").split("\\")]
    known = [name for term in terms if (name := _python_encoding(term)) is not None]
    plain = [name for name in known if name != _COMMON_CHARACTER_SETS["ISO_IR 6"]]
    return tuple(known) if plain else ()


def _python_encoding(term: str) -> str | None:
    if term in _COMMON_CHARACTER_SETS:
        return _COMMON_CHARACTER_SETS[term]
    from pydicom.charset import python_encoding

    name: str | None = python_encoding.get(term)
    return name
