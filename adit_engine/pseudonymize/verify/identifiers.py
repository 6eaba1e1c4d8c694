"""Collect identifying values of the original and build search patterns. Used by the verifier."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import pack, unpack

from adit_engine.errors import InstanceWithheld
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
    candidate_codecs,
    contains_word,
    date_spellings,
    make_patterns,
    parse_dates,
)
from adit_engine.pseudonymize.verify.reader import DatasetContent

_TAGS = {
    NAME: """00100010 00101001 00101005 00101060 00102297 00080090 0008009C 00081048 00081050
        00081060 00081070 00321032 00401010 00402008""",
    ID: """00100020 00101000 00080050 00200010 00401001 00400009 00400253 00380010 00380060
        00402016 00402017 00101050 00101090 0040050A 40080040 40080200""",
    ADDRESS: """00101040 00102154 00102155 00080092 00080094 00401102 00401103 00401104 00402010
        00402011""",
    INSTITUTION: """00080080 00080081 00081040 00102299 00380300 00380400 0038001E 00100021
        00321033 00400243 00401005 00402009 00404036""",
    DEVICE: """00081010 00181000 00181004 00181005 00181007 00181008 0018700A 00080054 00080055
        00400001 00400010 00400241 00400242 00321021 300A00B2 30080105""",
    TEXT: """00104000 001021B0 00204000 00324000 00401400 00084000 00102180 00384000 00402400""",
}
_CODE_BY_TAG = {int(tag, 16): kind for kind, tags in _TAGS.items() for tag in tags.split()}
_BIRTH_DATE, _STUDY_ID, _CHARSET = 0x00100030, 0x00200010, 0x00080005
_EQUIPMENT_TAGS = frozenset({0x00080070, 0x00081090})
_CODE_BY_VR = {b"PN": NAME, b"AE": DEVICE}
_COLLECTED_VRS = frozenset({b"UI", b"DA", b"DT", *_CODE_BY_VR})

_UID_LIKE = re.compile(rb"[0-2]\.\d(?=[\d.]{11})\d*(?:\.\d+)+")
_SHORTEST_UID = 14
_DIGITS_AND_DOTS = bytes(c if c in b"0123456789." else 0x20 for c in range(256))

_MAX_VALUE_BYTES = 1 << 16


@dataclass(slots=True)
class OriginalIdentifiers:
    """Identifying values of one original, as raw bytes."""

    identity: set[tuple[str, bytes]] = field(default_factory=set)
    charset: bytes = b""
    equipment: bytes = b""
    uids: set[bytes] = field(default_factory=set)
    dates: set[bytes] = field(default_factory=set)
    birth_dates: set[bytes] = field(default_factory=set)
    values_by_tag: dict[int, set[bytes]] = field(default_factory=dict)
    top_level: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PatternSet:
    """Patterns to search for.

    `tokens` are searched everywhere, `by_year` only if the year occurs, `whole` as whole values.
    `binary` are long numbers in binary form, searched without changing case.
    """

    words: tuple[IdentifierPattern, ...]
    by_year: dict[bytes, tuple[IdentifierPattern, ...]]
    whole_values: dict[bytes, str]
    binary: tuple[IdentifierPattern, ...]


def find_uids(data: bytes) -> list[bytes]:
    """Find byte sequences that look like UIDs, anywhere in the data.

    The last digit of a match may belong to the next element.
    """
    # Most bytes are no digits. Splitting at those first takes half the time of a plain search.
    numbers = data.translate(_DIGITS_AND_DOTS).split()
    return [uid for run in numbers if len(run) >= _SHORTEST_UID for uid in _UID_LIKE.findall(run)]


def collect_identifiers(
    content: DatasetContent, keep: frozenset[int], top: frozenset[int]
) -> OriginalIdentifiers:
    """Collect identifying values at every depth.

    Also collects values of the tags in `keep` at every depth, and of those in `top` at the top
    level.
    """
    found = OriginalIdentifiers()
    wanted = _COLLECTED_TAGS | keep | top
    for region in content.regions:
        data = region.data
        for run in find_uids(data):
            found.uids.update((run, run[:-1]))
        for tag, vr, start, end, depth in region.elements:
            if tag in wanted or vr in _COLLECTED_VRS:
                if start == end:
                    continue
                value = data[start:end]
                if not depth and tag in top:
                    found.top_level[tag] = value
                value = value.strip(b" \0")
                if tag in keep:
                    found.values_by_tag.setdefault(tag, set()).add(value.lower())
                if tag in _COLLECTED_TAGS or vr in _COLLECTED_VRS:
                    _collect(found, tag, vr, value)
    return found


_COLLECTED_TAGS = frozenset({_BIRTH_DATE, _CHARSET, *_CODE_BY_TAG}) | _EQUIPMENT_TAGS


def _collect(found: OriginalIdentifiers, tag: int, vr: bytes, value: bytes) -> None:
    if len(value) > _MAX_VALUE_BYTES:
        # Remarks are searched for as a whole, and no text of this length can stay in the output.
        if vr in _CODE_BY_VR or _CODE_BY_TAG.get(tag, TEXT) != TEXT:
            raise InstanceWithheld("verify-not-understood.value-too-long")
    elif tag in _CODE_BY_TAG:
        if tag != _STUDY_ID or len(value) >= 4:
            found.identity.add((_CODE_BY_TAG[tag], value))
    elif tag == _BIRTH_DATE:
        found.birth_dates.update(parse_dates(value))
    elif tag in _EQUIPMENT_TAGS:
        found.equipment += b"\\" + value.lower()
    elif tag == _CHARSET:
        found.charset += b"\\" + value
    elif vr == b"UI":
        found.uids.update(uid.strip(b" \0") for uid in value.split(b"\\"))
    elif vr in (b"DA", b"DT"):
        found.dates.update(parse_dates(value))
    elif vr in _CODE_BY_VR:
        found.identity.add((_CODE_BY_VR[vr], value))


def build_patterns(found: OriginalIdentifiers, stamps: bytes) -> PatternSet:
    """Build the search patterns.

    `stamps` is the text that ADIT writes itself, in lower case. Patterns that occur in it are
    searched for as whole values only, since a match inside text would prove nothing.
    """
    codecs = candidate_codecs(found.charset)
    tokens: dict[bytes, IdentifierPattern] = {}
    whole: dict[bytes, str] = {}
    for code, raw in found.identity:
        for needle in make_patterns(code, raw, codecs):
            if _names_equipment(code, needle.text, found.equipment):
                continue
            if len(needle.text) < 4 or contains_word(needle, stamps):
                whole.setdefault(needle.text, code)
            else:
                tokens.setdefault(needle.text, needle)
    long_numbers = {
        IdentifierPattern(text, needle.code)
        for needle in tokens.values()
        if needle.code == ID and _is_long_number(needle.text)
        for text in _binary_forms(int(needle.text))
    }
    by_year: dict[bytes, tuple[IdentifierPattern, ...]] = {}
    for code, days in ((BIRTH, found.birth_dates), (DATE, found.dates - found.birth_dates)):
        for day in days:
            needles = tuple(IdentifierPattern(text, code) for text in date_spellings(day.decode()))
            by_year[day[:4]] = by_year.get(day[:4], ()) + needles
            long_numbers |= {IdentifierPattern(text, code) for text in _binary_forms(int(day))}
    return PatternSet(tuple(tokens.values()), by_year, whole, tuple(long_numbers))


def _names_equipment(code: str, word: bytes, equipment: bytes) -> bool:
    """A station may be named like its model, and the manufacturer's name contain a short word."""
    if code not in (DEVICE, INSTITUTION):
        return False
    whole = {value.strip(b" \0") for value in equipment.split(b"\\")}
    return (code == DEVICE and word in whole) or (len(word) < 6 and word in equipment)


def _is_long_number(text: bytes) -> bool:
    """Seven digits or more, and not a round number, as many settings are."""
    return len(text) >= 7 and text.isdigit() and len(text.rstrip(b"0")) > 3


def _binary_forms(number: int) -> Iterator[bytes]:
    """As UL or SL, FD, and FL if it can represent the number exactly; in both byte orders."""
    for order in "<>":
        if number < 1 << 32:
            yield pack(order + "I", number)
        if number < 1 << 53:
            yield pack(order + "d", number)
            if unpack("<f", pack("<f", number)) == (number,):
                yield pack(order + "f", number)
