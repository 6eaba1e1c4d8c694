"""Search the output for patterns, and judge each match by its element. Used by the verifier."""

import re
import sys
from bisect import bisect_right
from collections import defaultdict
from pathlib import Path

from adit_engine.errors import InstanceWithheld
from adit_engine.messages import Message
from adit_engine.pseudonymize.verify.forbidden_elements import description_tags
from adit_engine.pseudonymize.verify.identifiers import PatternSet
from adit_engine.pseudonymize.verify.patterns import (
    ADDRESS,
    BIRTH,
    DATE,
    DEVICE,
    ID,
    INSTITUTION,
    NAME,
    TEXT,
    IdentifierPattern,
    contains_word,
    is_whole_word,
)
from adit_engine.pseudonymize.verify.reader import Region
from adit_engine.pseudonymize.verify.stopwords import MODELS, VENDORS, VOCABULARY

_WELL_KNOWN = Path(__file__).parents[1] / "tables" / "well_known_uids.tsv"
WELL_KNOWN_UIDS = frozenset(
    line for line in _WELL_KNOWN.read_bytes().splitlines() if not line.startswith(b"#")
)
"""PS3.6 Annex A. A test compares the table with that of pydicom, which is slow to import."""

_TEXT_VRS = frozenset(b"AE AS CS LO LT SH ST UC UR UT".split())
_NUMERIC_VRS = frozenset(b"AT FD FL OD OF OL OV SL SS SV UL US UV".split())
_BYTE_VRS = frozenset({b"OB", b"OW", b"UN"})
_SHORTEST_ARRAY, _LONG_WORD = 12, 6
_RETAIN_UIDS, _CLEAN_DESCRIPTORS = "113110", "113105"
# Minimum size of a numeric element to be searched: four bytes can hold a date.
_MIN_SEARCHED_BYTES: defaultdict[bytes, int] = defaultdict(lambda: sys.maxsize)
_MIN_SEARCHED_BYTES |= dict.fromkeys(_NUMERIC_VRS | _BYTE_VRS, 4) | dict.fromkeys(
    (b"US", b"SS"), _SHORTEST_ARRAY
)
_NUMBER = re.compile(rb"[-+ \d.e\\]*\Z")
_TIME = re.compile(rb"(?:\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?|\d\d:\d\d:\d\d(?:\.\d{1,6})?)\Z")
_PATIENT_ID, _CHARSET = 0x00100020, 0x00080005
_CODE_TAGS = frozenset({0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00181210, 0x00181160})
"""Codes with scheme, version and meaning, kernel, filter: terms of a vocabulary."""
_COUNTER_TAGS = frozenset({0x00209056, 0x00620005, 0x30060026})
_EQUIPMENT_TAGS = frozenset({0x00080070, 0x00081090, 0x00181020})

_LEAK_CODES = {
    NAME: "verify-name.found",
    ID: "verify-id.found",
    BIRTH: "verify-birth-date.found",
    DATE: "verify-date.found",
    ADDRESS: "verify-address.found",
    INSTITUTION: "verify-institution.found",
    DEVICE: "verify-device.found",
    TEXT: "verify-text.found",
}
_IN_PIXEL_DATA = Message("clause.verify.pixel-data")
_IN_OTHER_SPELLING = Message("clause.verify.other-spelling")


def leak_error(kind: str, tag: int) -> InstanceWithheld:
    """Return an error that names what was found and where, but never the value."""
    place = Message("clause.verify.element", tag=_format_tag(tag))
    return InstanceWithheld(_LEAK_CODES[kind], place=place)


def spelling_error(kind: str) -> InstanceWithheld:
    """Return the error for a name or number that was found in another spelling."""
    return InstanceWithheld(_LEAK_CODES[kind], place=_IN_OTHER_SPELLING)


def element_error(code: str, tag: int) -> InstanceWithheld:
    """Return the error with this code for an element that must not be in the output."""
    return InstanceWithheld(code, tag=_format_tag(tag))


def _format_tag(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def search_region(region: Region, patterns: PatternSet, options: frozenset[str]) -> None:
    """Search all bytes for patterns, and judge each match by its element.

    Raises InstanceWithheld.
    """
    keep_uids = _RETAIN_UIDS in options
    spared = description_tags() if _CLEAN_DESCRIPTORS in options else frozenset()
    low = region.data.lower()
    starts: list[int] = []
    for needle in _matching_patterns(low, patterns):
        at = low.find(needle.text)
        starts = starts or [element[2] for element in region.elements]
        while at >= 0:
            tag = _find_leaking_tag(region, low, starts, (needle, at), keep_uids)
            # A remark of harmless words may occur in a description; a remark is no name.
            if tag is not None and not (needle.code == TEXT and tag in spared):
                raise leak_error(needle.code, tag)
            at = low.find(needle.text, at + 1)
    if patterns.whole_values:
        _search_whole_values(region, low, patterns.whole_values)
    for tag, vr, begin, end, _ in region.elements:
        if end - begin >= _MIN_SEARCHED_BYTES[vr]:
            _search_numbers(tag, region.data[begin:end], patterns)


def _matching_patterns(low: bytes, patterns: PatternSet) -> list[IdentifierPattern]:
    present = [needle for needle in patterns.words if needle.text in low]
    for year, needles in patterns.by_year.items():
        if year in low:
            present += [needle for needle in needles if needle.text in low]
    return present


def _search_numbers(tag: int, data: bytes, patterns: PatternSet) -> None:
    """Search for long binary numbers, and for text stored in arrays of numbers."""
    for needle in patterns.binary:
        at = data.find(needle.text)
        if at >= 0 and not at % len(needle.text):
            raise leak_error(needle.code, tag)
    if len(data) >= _SHORTEST_ARRAY:
        _search_array(tag, data.lower(), patterns)


def _search_array(tag: int, low: bytes, patterns: PatternSet) -> None:
    """Search for text in an array: reversed, two bytes per letter, or with swapped byte pairs."""
    even = low[: len(low) & ~1]
    turned = bytearray(even)
    turned[::2], turned[1::2] = even[1::2], even[::2]
    for text in (low[::-1], low.replace(b"\0", b""), bytes(turned)):
        for needle in _matching_patterns(text, patterns):
            if len(needle.text) >= _LONG_WORD:
                raise leak_error(needle.code, tag)


def search_bytes(low: bytes, patterns: PatternSet) -> None:
    """Search the readable bytes of compressed pixels. Raises InstanceWithheld.

    The bytes next to a long word do not matter here.
    """
    for needle in _matching_patterns(low, patterns):
        if len(needle.text) >= _LONG_WORD or contains_word(needle, low):
            raise InstanceWithheld(_LEAK_CODES[needle.code], place=_IN_PIXEL_DATA)


def _find_leaking_tag(
    region: Region,
    low: bytes,
    starts: list[int],
    where: tuple[IdentifierPattern, int],
    keep_uids: bool,
) -> int | None:
    """Return the tag of the element if the match is a leak there, else None."""
    needle, at = where
    index = bisect_right(starts, at) - 1
    if index < 0:
        return None
    tag, vr, start, end, _ = region.elements[index]
    word = needle.text
    if at + len(word) > end:
        return None
    if vr in (b"IS", b"DS") and _NUMBER.match(low[start:end].strip(b"\0")):
        return tag if _contains_number(word, low[start:end]) else None
    # In binary data, the bytes next to a long word do not make it another word.
    alone = vr in _BYTE_VRS and len(word) >= _LONG_WORD
    if not (alone or is_whole_word(needle, low, at, (start, end))):
        return None
    if vr in (b"DA", b"DT"):
        proven = needle.code not in (BIRTH, DATE) and low[start:end].strip(b" \0") == word
    elif vr in (b"TM", b"UI"):
        proven = _is_leak_in_time_or_uid(vr, low[start:end], word, keep_uids)
    elif vr in _NUMERIC_VRS:
        proven = len(word) >= _LONG_WORD
    else:
        proven = not _is_term(tag, vr, word)
    return tag if proven else None


def _contains_number(word: bytes, numbers: bytes) -> bool:
    """Whether one of the numbers equals the word, in any notation."""
    if len(word) < _LONG_WORD or not word.isdigit():
        return False
    for text in numbers.split(b"\\"):
        try:
            if float(text.strip(b" \0") or b"0") == int(word):
                return True
        except ValueError:
            continue
    return False


def _is_leak_in_time_or_uid(vr: bytes, value: bytes, word: bytes, keep_uids: bool) -> bool:
    values = [part.strip(b" \0") for part in value.split(b"\\")]
    if vr == b"TM":
        return not all(_TIME.match(part) for part in values)
    return not keep_uids and any(
        len(word) >= _LONG_WORD and word in part.split(b".") and part not in WELL_KNOWN_UIDS
        for part in values
    )


def _is_term(tag: int, vr: bytes, word: bytes) -> bool:
    """Whether the word is a term, in an element that holds only terms."""
    if tag in _EQUIPMENT_TAGS:
        return word in VENDORS or word in MODELS
    return (vr == b"CS" or tag in _CODE_TAGS) and word in VOCABULARY


def _search_whole_values(region: Region, low: bytes, whole: dict[bytes, str]) -> None:
    for tag, vr, start, end, _ in region.elements:
        if vr not in _TEXT_VRS or start == end:
            continue
        value = low[start:end].strip(b" \0")
        for word in value.split(b"\\") if b"\\" in value else (value,):
            word = word.strip(b" \0")
            if word in whole and not _is_not_identifying(tag, vr, word):
                raise leak_error(whole[word], tag)


def _is_not_identifying(tag: int, vr: bytes, word: bytes) -> bool:
    if tag >> 16 == 0x0012 or tag in (_PATIENT_ID, _CHARSET):
        return True  # compared exactly with the expected values elsewhere
    if len(word) < 4 and (tag in _CODE_TAGS or (tag in _COUNTER_TAGS and word.isdigit())):
        return True
    return _is_term(tag, vr, word)
