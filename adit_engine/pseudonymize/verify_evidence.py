"""Evidence: what in the original tells who it is, spelled in the ways in which it could leak."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import pack, unpack

from adit_engine.pseudonymize.verify_reader import Content, not_understood
from adit_engine.pseudonymize.verify_words import MODELS, NOBODY, VENDORS

NAME, ID, BIRTH, DATE = "verify-name", "verify-id", "verify-birth-date", "verify-date"
ADDRESS, INSTITUTION, DEVICE, TEXT = (
    "verify-address",
    "verify-institution",
    "verify-device",
    "verify-text",
)

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
_KIND = {int(tag, 16): kind for kind, tags in _TAGS.items() for tag in tags.split()}
_BIRTH_DATE, _STUDY_ID, _CHARSET = 0x00100030, 0x00200010, 0x00080005
_EQUIPMENT = frozenset({0x00080070, 0x00081090})
_KIND_OF_VR = {b"PN": NAME, b"AE": DEVICE}
_BY_VR = frozenset({b"UI", b"DA", b"DT", *_KIND_OF_VR})

# At least 14 characters; its last digit may belong to the element that follows.
UID_LIKE = re.compile(rb"[0-2]\.\d(?=[\d.]{11})\d*(?:\.\d+)+")

_CODECS = {
    b"ISO_IR 100": "latin-1",
    b"ISO_IR 101": "iso8859-2",
    b"ISO_IR 109": "iso8859-3",
    b"ISO_IR 110": "iso8859-4",
    b"ISO_IR 144": "iso8859-5",
    b"ISO_IR 127": "iso8859-6",
    b"ISO_IR 126": "iso8859-7",
    b"ISO_IR 138": "iso8859-8",
    b"ISO_IR 148": "iso8859-9",
    b"ISO_IR 203": "iso8859-15",
    b"ISO_IR 13": "shift_jis",
    b"ISO_IR 166": "tis-620",
    b"ISO_IR 149": "euc_kr",
    b"ISO_IR 58": "gb18030",
    b"GB18030": "gb18030",
    b"GBK": "gb18030",
}
_ANY_CODEC = tuple(dict.fromkeys(_CODECS.values()))
_ESCAPE = re.compile(rb"\x1b(?:\$?[()\-][@-Z]|\$[@AB])")
_JAPANESE = re.compile(rb"\x1b(?:\$[@B]|\([IJ])")
_SPLIT_NAME = re.compile(r"[\s^=,;:.\\/()\[\]_\-\"&+*]+")
_APOSTROPHE = re.compile(r"['’`´]")
_SPLIT_PLACE = re.compile(r"[\r\n^;,|\\]+")
_DIGITS = re.compile(rb"\d+")
GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "æ": "ae"})
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_LONGEST_EVIDENCE = 1 << 16
_FIRST_WIDE_CHARACTER = "\u0e00"  # from Thai on, scripts that put no blank between words


@dataclass(frozen=True, slots=True)
class Needle:
    """`text` is in ASCII lower case. `loose`: found also inside a longer word."""

    text: bytes
    code: str
    loose: bool = False


@dataclass(slots=True)
class Found:
    """What one original holds, as raw values."""

    identity: set[tuple[str, bytes]] = field(default_factory=set)
    charset: bytes = b""
    equipment: bytes = b""
    uids: set[bytes] = field(default_factory=set)
    dates: set[bytes] = field(default_factory=set)
    birth_dates: set[bytes] = field(default_factory=set)
    kept: dict[int, set[bytes]] = field(default_factory=dict)
    top: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """`tokens` are searched everywhere; `by_year` only where the year stands; `whole` as values.

    `binary`: long numbers as a computer holds them, in the case in which they stand.
    """

    tokens: tuple[Needle, ...]
    by_year: dict[bytes, tuple[Needle, ...]]
    whole: dict[bytes, str]
    binary: tuple[Needle, ...]


def found_in(content: Content, keep: frozenset[int], top: frozenset[int]) -> Found:
    """Collects at every depth. Values of `keep` come as they are, of `top` from the top level."""
    found = Found()
    wanted = _WANTED | keep | top
    for region in content.regions:
        data = region.data
        for run in UID_LIKE.findall(data):
            found.uids.update((run, run[:-1]))
        for tag, vr, start, end, depth in region.elements:
            if tag in wanted or vr in _BY_VR:
                if start == end:
                    continue
                value = data[start:end]
                if not depth and tag in top:
                    found.top[tag] = value
                value = value.strip(b" \0")
                if tag in keep:
                    found.kept.setdefault(tag, set()).add(value.lower())
                if tag in _WANTED or vr in _BY_VR:
                    _collect(found, tag, vr, value)
    return found


_WANTED = frozenset({_BIRTH_DATE, _CHARSET, *_KIND}) | _EQUIPMENT


def _collect(found: Found, tag: int, vr: bytes, value: bytes) -> None:
    if len(value) > _LONGEST_EVIDENCE:
        # Of a remark only the whole is looked for, and no text of this length can stay.
        if vr in _KIND_OF_VR or _KIND.get(tag, TEXT) != TEXT:
            raise not_understood("a name or number in it is longer than any can be")
    elif tag in _KIND:
        if tag != _STUDY_ID or len(value) >= 4:
            found.identity.add((_KIND[tag], value))
    elif tag == _BIRTH_DATE:
        found.birth_dates.update(plain_dates(value))
    elif tag in _EQUIPMENT:
        found.equipment += b"\\" + value.lower()
    elif tag == _CHARSET:
        found.charset += b"\\" + value
    elif vr == b"UI":
        found.uids.update(uid.strip(b" \0") for uid in value.split(b"\\"))
    elif vr in (b"DA", b"DT"):
        found.dates.update(plain_dates(value))
    elif vr in _KIND_OF_VR:
        found.identity.add((_KIND_OF_VR[vr], value))


def plain_dates(value: bytes) -> list[bytes]:
    """Each date of a DA or DT value as YYYYMMDD; what is shorter than a day is left out."""
    days = (day.strip().replace(b".", b"", 2)[:8] for day in re.split(rb"[\\-]", value))
    return [day for day in days if len(day) == 8 and day.isdigit()]


def evidence(found: Found, stamps: bytes) -> Evidence:
    """`stamps`: our own words, in lower case; what stands among them proves nothing inside text."""
    codecs = codecs_of(found.charset)
    tokens: dict[bytes, Needle] = {}
    whole: dict[bytes, str] = {}
    for code, raw in found.identity:
        for needle in _needles(code, raw, codecs):
            if _names_equipment(code, needle.text, found.equipment):
                continue
            if len(needle.text) < 4 or is_token_in(needle, stamps):
                whole.setdefault(needle.text, code)
            else:
                tokens.setdefault(needle.text, needle)
    long_numbers = {
        Needle(text, needle.code)
        for needle in tokens.values()
        if needle.code == ID and _is_long_number(needle.text)
        for text in _in_bytes(int(needle.text))
    }
    by_year: dict[bytes, tuple[Needle, ...]] = {}
    for code, days in ((BIRTH, found.birth_dates), (DATE, found.dates - found.birth_dates)):
        for day in days:
            needles = tuple(Needle(text, code) for text in spelled(day.decode()))
            by_year[day[:4]] = by_year.get(day[:4], ()) + needles
            long_numbers |= {Needle(text, code) for text in _in_bytes(int(day))}
    return Evidence(tuple(tokens.values()), by_year, whole, tuple(long_numbers))


def _names_equipment(code: str, word: bytes, equipment: bytes) -> bool:
    """A station may be called as its model is, and a short word may be a part of the maker's name."""
    if code not in (DEVICE, INSTITUTION):
        return False
    whole = {value.strip(b" \0") for value in equipment.split(b"\\")}
    return (code == DEVICE and word in whole) or (len(word) < 6 and word in equipment)


def _is_long_number(text: bytes) -> bool:
    """Seven digits or more, and not a round number, as many settings are."""
    return len(text) >= 7 and text.isdigit() and len(text.rstrip(b"0")) > 3


def _in_bytes(number: int) -> Iterator[bytes]:
    """As UL or SL, FD, and FL where that can hold it to the last digit; either byte first."""
    for order in "<>":
        if number < 1 << 32:
            yield pack(order + "I", number)
        if number < 1 << 53:
            yield pack(order + "d", number)
            if unpack("<f", pack("<f", number)) == (number,):
                yield pack(order + "f", number)


def spelled(day: str) -> Iterator[bytes]:
    """A day as people write it, from YYYYMMDD."""
    year, month, date = day[:4], day[4:6], day[6:]
    yield day.encode()
    for mark in "-./ _":
        yield f"{year}{mark}{month}{mark}{date}".encode()
        yield f"{date}{mark}{month}{mark}{year}".encode()
        yield f"{month}{mark}{date}{mark}{year}".encode()
    short = f"{int(date)}.{int(month)}.{year}"
    if short != f"{date}.{month}.{year}":
        yield short.encode()
        yield f"{int(month)}/{int(date)}/{year}".encode()
        yield f"{int(date)}/{int(month)}/{year}".encode()
    if date + month != month + date:
        yield f"{date}{month}{year}".encode()
    yield f"{month}{date}{year}".encode()
    if "01" <= month <= "12":
        name = _MONTHS[int(month) - 1]
        for word in {name, name[:3]}:
            yield f"{int(date)} {word} {year}".encode()
            yield f"{date}-{word}-{year}".encode()
            yield f"{word} {int(date)}, {year}".encode()


def codecs_of(charset: bytes) -> tuple[str, ...]:
    """Candidates in which a value may be meant; more of them than needed does no harm."""
    labels = [
        term.strip().replace(b"2022 IR", b"_IR").replace(b"ISO _", b"ISO_")
        for term in charset.split(b"\\")
    ]
    known = [_CODECS[label] for label in labels if label in _CODECS]
    return tuple(dict.fromkeys([*known, "utf-8", "latin-1"]))


def texts(raw: bytes, codecs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(text, codec) for every way in which the bytes can be read."""
    if raw.isascii() and b"\x1b" not in raw:
        yield raw.decode("ascii"), "ascii"
        return
    if _JAPANESE.search(raw):
        read = [*_decoded(raw, ("iso2022_jp_2", "iso2022_jp_ext"))]
        if read:
            yield from read
            return
    data = _ESCAPE.sub(b"", raw)
    yield from _decoded(data, (*codecs, "euc_kr", "gb18030"))
    if not [*_decoded(data, codecs[:1])]:
        # The label is false, so it may be any other; what leaves is written in UTF-8.
        yield from ((text, "utf-8") for text, _ in _decoded(data, _ANY_CODEC))


def _decoded(data: bytes, codecs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for codec in codecs:
        try:
            yield data.decode(codec), codec
        except UnicodeDecodeError:
            continue


def _needles(code: str, raw: bytes, codecs: tuple[str, ...]) -> Iterator[Needle]:
    for text, codec in texts(raw, codecs):
        for word in _words(code, text):
            for variant in _variants(word):
                yield from _encoded(variant, codec, code)
    if b"\x1b" in raw:
        for piece in re.split(rb"[=^\\]", raw):
            if len(piece) > 6:
                yield Needle(piece.strip().lower(), code, loose=True)


def _encoded(text: str, codec: str, code: str) -> Iterator[Needle]:
    if text.isascii():
        if len(text) > 1:
            yield Needle(text.encode("ascii").lower(), code)
        return
    wide = max(text) >= _FIRST_WIDE_CHARACTER
    for name in {codec, "utf-8", "latin-1"}:
        try:
            data = text.encode(name).lower()
        except UnicodeEncodeError:
            continue
        if len(text) >= (2 if wide else 4):
            yield Needle(data, code, loose=True)
        elif len(data) < 4:
            yield Needle(data, code)


def _variants(word: str) -> Iterator[str]:
    """Upper and lower case, composed and decomposed, and without what ASCII cannot write."""
    yield word
    if word.isascii():
        return
    lower = word.lower()
    bare = unicodedata.normalize("NFKD", lower)
    yield from dict.fromkeys(
        (
            lower,
            word.upper(),
            word.title(),
            unicodedata.normalize("NFC", lower),
            unicodedata.normalize("NFD", lower),
            lower.translate(GERMAN),
            "".join(letter for letter in bare if not unicodedata.combining(letter)),
        )
    )


def _words(code: str, text: str) -> Iterable[str]:
    if code == NAME:
        return _name_words(text)
    if code == ID:
        return _id_words(text)
    if code == TEXT:
        return [" ".join(text.split())] if len(text) >= 10 else []
    return _place_words(text, phone=code == ADDRESS)


def _name_words(text: str) -> Iterator[str]:
    for name in text.split("\\"):
        for group in name.split("="):
            parts = name_parts(group)
            for part in parts:
                yield part
                if _APOSTROPHE.search(part):
                    yield from (_APOSTROPHE.sub(mark, part) for mark in ("", " ", "'", "’", "`"))
            if len(parts) > 1 and max(len(part) for part in parts[:2]) < 4:
                first, second = parts[:2]
                for mark in ("^", " ", ", ", ",", "_", "-"):
                    yield first + mark + second
                    yield second + mark + first


def name_parts(group: str) -> list[str]:
    """The words of one component group of a name, without titles and words for nobody."""
    return [part for part in _SPLIT_NAME.split(group) if _tells(part)]


def _tells(word: str) -> bool:
    return bool(word) and word.lower().encode() not in NOBODY


def _id_words(text: str) -> Iterator[str]:
    for value in text.split("\\"):
        word = value.strip(" \0")
        bare = re.sub(r"[\s.\-/_:^]", "", word)
        if not _tells(word) or not bare.strip("0"):
            continue
        yield word
        digits = re.sub(r"\D", "", bare)
        for other in (bare, bare.lstrip("0"), digits if len(digits) >= 7 else ""):
            if other != word and len(other) >= 6:
                yield other


def _place_words(text: str, *, phone: bool) -> Iterator[str]:
    whole = " ".join(text.split())
    parts = [whole, *(" ".join(part.split()) for part in _SPLIT_PLACE.split(text))]
    for part in dict.fromkeys(parts):
        if len(part) < (4 if any(map(str.isalpha, part)) else 6):
            continue
        words = set(re.findall(rb"[^\W\d]+", part.lower().encode()))
        if not words or words - NOBODY - VENDORS - MODELS:
            yield part
    digits = re.sub(r"\D", "", whole)
    if phone and len(digits) >= 6 and len(digits) * 2 > len(whole):
        yield digits


def is_token_in(needle: Needle, text: bytes) -> bool:
    at = text.find(needle.text)
    while at >= 0:
        if stands_alone(needle, text, at, (0, len(text))):
            return True
        at = text.find(needle.text, at + 1)
    return False


def stands_alone(needle: Needle, data: bytes, at: int, within: tuple[int, int]) -> bool:
    """Is the hit a word of its own, between the bounds of the value that it stands in?

    A word of letters ends where a digit begins, and a number of six digits or more where a letter
    does; a shorter number needs both, and no decimal point or UID component beside it.
    """
    if needle.loose:
        return True
    end = at + len(needle.text)
    before = data[at - 1 : at] if at > within[0] else b""
    after = data[end : end + 1] if end < within[1] else b""
    if _DIGITS.fullmatch(needle.text):
        if before.isdigit() or after.isdigit():
            return False
        if len(needle.text) >= 6:
            return True
        in_number = (before == b"." and data[max(at - 2, within[0]) : at - 1].isdigit()) or (
            after == b"." and data[end + 1 : min(end + 2, within[1])].isdigit()
        )
        return not (before.isalpha() or after.isalpha() or in_number)
    if needle.text.isalpha():
        return not (before.isalpha() or after.isalpha())
    return not (before.isalnum() or after.isalnum())
