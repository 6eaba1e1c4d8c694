"""Verification's search: evidence in what was made, and if it proves anything where it stands."""

import re
from bisect import bisect_right
from pathlib import Path

from adit_engine.errors import Withhold
from adit_engine.pseudonymize.verify_evidence import (
    ADDRESS,
    BIRTH,
    DATE,
    DEVICE,
    ID,
    INSTITUTION,
    NAME,
    TEXT,
    Evidence,
    Needle,
    is_token_in,
    stands_alone,
)
from adit_engine.pseudonymize.verify_reader import Region
from adit_engine.pseudonymize.verify_words import MODELS, VENDORS, VOCABULARY

_WELL_KNOWN = Path(__file__).parent / "tables" / "well_known_uids.tsv"
WELL_KNOWN_UIDS = frozenset(
    line for line in _WELL_KNOWN.read_bytes().splitlines() if not line.startswith(b"#")
)
"""PS3.6 Annex A; a test holds the table against pydicom's, which takes long to load."""

_PRINTED = frozenset(b"AE AS CS LO LT SH ST UC UR UT".split())
_NUMBERS = frozenset(b"AT FD FL OD OF OL OV SL SS SV UL US UV".split())
_BYTES = frozenset({b"OB", b"OW", b"UN"})
_NUMBER = re.compile(rb"[-+ \d.e\\]*\Z")
_CLOCK = re.compile(rb"(?:\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?|\d\d:\d\d:\d\d(?:\.\d{1,6})?)\Z")
_PATIENT_ID, _CHARSET = 0x00100020, 0x00080005
_CODED = frozenset({0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00181210, 0x00181160})
"""Codes with scheme, version and meaning, kernel, filter: terms of a vocabulary."""
_COUNTERS = frozenset({0x00209056, 0x00620005, 0x30060026})
_EQUIPMENT = frozenset({0x00080070, 0x00081090, 0x00181020})

_SAID = {
    NAME: "A part of a person's name",
    ID: "An identifying number",
    BIRTH: "The birth date",
    DATE: "An original date",
    ADDRESS: "An address or telephone number",
    INSTITUTION: "The name of an institution",
    DEVICE: "The name or number of a device",
    TEXT: "A remark about the patient",
}


def hit(code: str, what: str, tag: int) -> Withhold:
    """What was found, and where. Never the value."""
    where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return Withhold(code, f"{what} stands in {where} of what was about to leave.")


def search(region: Region, proof: Evidence, *, keep_uids: bool) -> None:
    """Looks for evidence in all bytes, then asks of each hit in which element it stands."""
    low = region.data.lower()
    starts: list[int] = []
    for needle in _present(low, proof):
        at = low.find(needle.text)
        starts = starts or [element[2] for element in region.elements]
        while at >= 0:
            tag = _proven_tag(region, low, starts, (needle, at), keep_uids)
            if tag is not None:
                raise hit(needle.code, _SAID[needle.code], tag)
            at = low.find(needle.text, at + 1)
    if proof.whole:
        _search_whole(region, low, proof.whole)


def _present(low: bytes, proof: Evidence) -> list[Needle]:
    present = [needle for needle in proof.tokens if needle.text in low]
    for year, needles in proof.by_year.items():
        if year in low:
            present += [needle for needle in needles if needle.text in low]
    return present


def search_bytes(low: bytes, proof: Evidence) -> None:
    for needle in _present(low, proof):
        if is_token_in(needle, low):
            raise Withhold(needle.code, f"{_SAID[needle.code]} stands among the pixel data.")


def _proven_tag(
    region: Region, low: bytes, starts: list[int], where: tuple[Needle, int], keep_uids: bool
) -> int | None:
    """The tag of the element in which the hit proves something; None where it proves nothing."""
    needle, at = where
    index = bisect_right(starts, at) - 1
    if index < 0:
        return None
    tag, vr, start, end, _ = region.elements[index]
    word = needle.text
    # Among bytes that are no text, what stands beside a long word does not make it another one.
    alone = vr in _BYTES and len(word) >= 6
    if at + len(word) > end or not (alone or stands_alone(needle, low, at, (start, end))):
        return None
    if vr in (b"DA", b"DT"):
        proven = needle.code not in (BIRTH, DATE) and low[start:end].strip(b" \0") == word
    elif vr in (b"IS", b"DS"):
        values = [value.strip(b" \0+") for value in low[start:end].split(b"\\")]
        proven = not _NUMBER.match(low[start:end].strip(b"\0")) or (
            len(word) >= 6 and word in values
        )
    elif vr in (b"TM", b"UI"):
        proven = _in_plain_form(vr, low[start:end], word, keep_uids)
    elif vr in _NUMBERS:
        proven = len(word) >= 6
    else:
        proven = not _is_term(tag, vr, word)
    return tag if proven else None


def _in_plain_form(vr: bytes, value: bytes, word: bytes, keep_uids: bool) -> bool:
    values = [part.strip(b" \0") for part in value.split(b"\\")]
    if vr == b"TM":
        return not all(_CLOCK.match(part) for part in values)
    return not keep_uids and any(
        len(word) >= 6 and word in part.split(b".") and part not in WELL_KNOWN_UIDS
        for part in values
    )


def _is_term(tag: int, vr: bytes, word: bytes) -> bool:
    """Does the word belong to the vocabulary of an element that holds nothing else?"""
    if tag in _EQUIPMENT:
        return word in VENDORS or word in MODELS
    return (vr == b"CS" or tag in _CODED) and word in VOCABULARY


def _search_whole(region: Region, low: bytes, whole: dict[bytes, str]) -> None:
    for tag, vr, start, end, _ in region.elements:
        if vr not in _PRINTED or start == end:
            continue
        value = low[start:end].strip(b" \0")
        for word in value.split(b"\\") if b"\\" in value else (value,):
            word = word.strip(b" \0")
            if word in whole and not _tells_nothing(tag, vr, word):
                raise hit(whole[word], _SAID[whole[word]], tag)


def _tells_nothing(tag: int, vr: bytes, word: bytes) -> bool:
    if tag >> 16 == 0x0012 or tag in (_PATIENT_ID, _CHARSET):
        return True  # compared with what must stand there, to the letter
    if len(word) < 4 and (tag in _CODED or (tag in _COUNTERS and word.isdigit())):
        return True
    return _is_term(tag, vr, word)
