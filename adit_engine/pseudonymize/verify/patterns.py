"""Search patterns for names, IDs, places and dates in their possible spellings and encodings.

Used by the identifier collection and the search.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from adit_engine.pseudonymize.verify.stopwords import MODELS, NON_NAMES, VENDORS

NAME, ID, BIRTH, DATE = "verify-name", "verify-id", "verify-birth-date", "verify-date"
ADDRESS, INSTITUTION, DEVICE, TEXT = (
    "verify-address",
    "verify-institution",
    "verify-device",
    "verify-text",
)

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
GERMAN_TRANSLITERATION = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "æ": "ae"}
)
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_FIRST_WIDE_CHARACTER = "\u0e00"  # from Thai on, scripts without spaces between words


@dataclass(frozen=True, slots=True)
class IdentifierPattern:
    """`text` is lower case where ASCII. `loose`: also matches inside a longer word."""

    text: bytes
    code: str
    matches_inside_words: bool = False


def make_patterns(code: str, raw: bytes, codecs: tuple[str, ...]) -> Iterator[IdentifierPattern]:
    for text, codec in decode_candidates(raw, codecs):
        for word in _identifying_words(code, text):
            for variant in _variants(word):
                yield from _encode_patterns(variant, codec, code)
    if b"\x1b" in raw:
        for piece in re.split(rb"[=^\\]", raw):
            if len(piece) > 6:
                yield IdentifierPattern(piece.strip().lower(), code, matches_inside_words=True)


def _encode_patterns(text: str, codec: str, code: str) -> Iterator[IdentifierPattern]:
    if text.isascii():
        if len(text) > 1:
            yield IdentifierPattern(text.encode("ascii").lower(), code)
        return
    wide = max(text) >= _FIRST_WIDE_CHARACTER
    for name in {codec, "utf-8", "latin-1"}:
        try:
            data = text.encode(name).lower()
        except UnicodeEncodeError:
            continue
        if len(text) >= (2 if wide else 4):
            yield IdentifierPattern(data, code, matches_inside_words=True)
        elif len(data) < 4:
            yield IdentifierPattern(data, code)


def _variants(word: str) -> Iterator[str]:
    """Upper and lower case, composed and decomposed, and ASCII transliterations."""
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
            lower.translate(GERMAN_TRANSLITERATION),
            "".join(letter for letter in bare if not unicodedata.combining(letter)),
        )
    )


def _identifying_words(code: str, text: str) -> Iterable[str]:
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
            parts = split_name(group)
            for part in parts:
                yield part
                if _APOSTROPHE.search(part):
                    yield from (_APOSTROPHE.sub(mark, part) for mark in ("", " ", "'", "’", "`"))
            if len(parts) > 1 and max(len(part) for part in parts[:2]) < 4:
                first, second = parts[:2]
                for mark in ("^", " ", ", ", ",", "_", "-"):
                    yield first + mark + second
                    yield second + mark + first


def split_name(group: str) -> list[str]:
    """Return the words of a component group of a name, without titles or placeholders."""
    return [part for part in _SPLIT_NAME.split(group) if _is_identifying(part)]


def _is_identifying(word: str) -> bool:
    return bool(word) and word.lower().encode() not in NON_NAMES


def _id_words(text: str) -> Iterator[str]:
    for value in text.split("\\"):
        word = value.strip(" \0")
        bare = re.sub(r"[\s.\-/_:^]", "", word)
        if not _is_identifying(word) or not bare.strip("0"):
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
        if not words or words - NON_NAMES - VENDORS - MODELS:
            yield part
    digits = re.sub(r"\D", "", whole)
    if phone and len(digits) >= 6 and len(digits) * 2 > len(whole):
        yield digits


def parse_dates(value: bytes) -> list[bytes]:
    """Return each date of a DA or DT value as YYYYMMDD, without partial dates."""
    days = (day.strip().replace(b".", b"", 2)[:8] for day in re.split(rb"[\\-]", value))
    return [day for day in days if len(day) == 8 and day.isdigit()]


def date_spellings(day: str) -> Iterator[bytes]:
    """Yield common spellings of a day given as YYYYMMDD."""
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


def candidate_codecs(charset: bytes) -> tuple[str, ...]:
    """Return possible codecs of a value. Superfluous ones do no harm."""
    labels = [
        term.strip().replace(b"2022 IR", b"_IR").replace(b"ISO _", b"ISO_")
        for term in charset.split(b"\\")
    ]
    known = [_CODECS[label] for label in labels if label in _CODECS]
    return tuple(dict.fromkeys([*known, "utf-8", "latin-1"]))


def decode_candidates(raw: bytes, codecs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (text, codec) for every possible decoding of the bytes."""
    if raw.isascii() and b"\x1b" not in raw:
        yield raw.decode("ascii"), "ascii"
        return
    if _JAPANESE.search(raw):
        read = [*_decode(raw, ("iso2022_jp_2", "iso2022_jp_ext"))]
        if read:
            yield from read
            return
    data = _ESCAPE.sub(b"", raw)
    yield from _decode(data, (*codecs, "euc_kr", "gb18030"))
    if not [*_decode(data, codecs[:1])]:
        # The declared character set is wrong, so it may be any. The output is written in UTF-8.
        yield from ((text, "utf-8") for text, _ in _decode(data, _ANY_CODEC))


def _decode(data: bytes, codecs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for codec in codecs:
        try:
            yield data.decode(codec), codec
        except UnicodeDecodeError:
            continue


def contains_word(word: IdentifierPattern, text: bytes) -> bool:
    at = text.find(word.text)
    while at >= 0:
        if is_whole_word(word, text, at, (0, len(text))):
            return True
        at = text.find(word.text, at + 1)
    return False


def is_whole_word(word: IdentifierPattern, data: bytes, at: int, within: tuple[int, int]) -> bool:
    """Whether a match is a separate word within the bounds of its value.

    A word of letters ends at a digit, and a number of six digits or more ends at a letter. A
    shorter number must be separated from both, and must not be next to a decimal point or a UID
    component.
    """
    if word.matches_inside_words:
        return True
    end = at + len(word.text)
    before = data[at - 1 : at] if at > within[0] else b""
    after = data[end : end + 1] if end < within[1] else b""
    if _DIGITS.fullmatch(word.text):
        if before.isdigit() or after.isdigit():
            return False
        if len(word.text) >= 6:
            return True
        in_number = (before == b"." and data[max(at - 2, within[0]) : at - 1].isdigit()) or (
            after == b"." and data[end + 1 : min(end + 2, within[1])].isdigit()
        )
        return not (before.isalpha() or after.isalpha() or in_number)
    if word.text.isalpha():
        return not (before.isalpha() or after.isalpha())
    return not (before.isalnum() or after.isalnum())
