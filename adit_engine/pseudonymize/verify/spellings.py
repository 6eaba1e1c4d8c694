"""Search text of the output for other spellings of names, numbers and dates.

Text is compared without punctuation and spaces, forwards and backwards, so that hyphens, prefixes,
endings or separated letters hide nothing. Used by the verifier.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote_to_bytes

from adit_engine.pseudonymize.verify.identifiers import OriginalIdentifiers
from adit_engine.pseudonymize.verify.patterns import (
    ADDRESS,
    BIRTH,
    DATE,
    DEVICE,
    GERMAN_TRANSLITERATION,
    ID,
    INSTITUTION,
    NAME,
    IdentifierPattern,
    candidate_codecs,
    contains_word,
    decode_candidates,
    split_name,
)
from adit_engine.pseudonymize.verify.reader import Region
from adit_engine.pseudonymize.verify.stopwords import (
    MODELS,
    NON_NAMES,
    PLACE_WORDS,
    VENDORS,
    VOCABULARY,
)

_TEXT_VRS = frozenset(b"AE AS CS LO LT SH ST UC UR UT".split())
_VALUE_SEPARATOR = b"\x01"  # between two values; occurs in no text
_PUNCTUATION = bytes(c for c in range(128) if not chr(c).isalnum() and c != _VALUE_SEPARATOR[0])
_NOT_LETTERS = re.compile(r"[\W_]+")
_WORDS = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d+")
_WORD_TABLE = Path(__file__).parents[1] / "tables" / "safe_words.tsv"
_VOCABULARY_BYTES = b" ".join(VOCABULARY | VENDORS | MODELS | NON_NAMES) + _WORD_TABLE.read_bytes()
# Shorter words occur inside others by chance.
_LONG_NAME, _PREFIX_LENGTH, _SHORT_PAIR = 6, 8, 5
_LONG_NUMBER, _LONG_CODE, _LONG_PLACE, _LONG_LINE = 7, 6, 7, 10
_PATIENT_NAME, _PATIENT_ID, _CHARSET = 0x00100010, 0x00100020, 0x00080005

_MONTHS = (
    "january jan januar jän jänner", "february feb februar", "march mar märz mrz",
    "april apr", "may mai", "june jun juni", "july jul juli", "august aug",
    "september sep sept", "october oct oktober okt", "november nov", "december dec dezember dez",
)  # fmt: skip


@dataclass(slots=True)
class Spellings:
    """`folded` is searched in text without punctuation, `tokens` as words of the text itself."""

    folded: tuple[tuple[bytes, str], ...]
    words: tuple[IdentifierPattern, ...]
    short_dates: re.Pattern[bytes] | None
    _clean: bytes = b""

    def find_code(self, region: Region) -> str | None:
        """Return the code of the first match, or None.

        Text equal to that of the previous clean image is not searched again.
        """
        said = _collect_text(region)
        if said == self._clean or not said:
            return None
        for form in _text_forms(said):
            plain = form.translate(None, _PUNCTUATION)
            for text in (plain, plain[::-1]):
                for needle, code in self.folded:
                    if needle in text:
                        return code
            for token in self.words:
                if contains_word(token, form):
                    return token.code
            if self.short_dates is not None and self.short_dates.search(form):
                return BIRTH
        self._clean = said
        return None


def build_spellings(
    found: OriginalIdentifiers, stamps: bytes, left: Iterable[bytes] = ()
) -> Spellings:
    """Build the spellings to search for.

    Text in `stamps`, which ADIT writes itself (in lower case), and values `left` in the output by
    the profile are no leaks.
    """
    codecs = candidate_codecs(found.charset)
    told = [
        stamps,
        *(
            data
            for raw in left
            for text, _ in decode_candidates(raw, codecs)
            for data in _fold_word(text)
        ),
    ]
    own = b"\n".join(told)
    own_folded = own.translate(None, _PUNCTUATION)
    folded: dict[bytes, str] = {}
    tokens: dict[bytes, IdentifierPattern] = {}
    for code, data, alone in _identifier_forms(found, codecs):
        needle = IdentifierPattern(data, code)
        if not alone and data not in own_folded:
            folded.setdefault(data, code)
        elif alone and not contains_word(needle, own):
            tokens.setdefault(data, needle)
    for code, days in ((BIRTH, found.birth_dates), (DATE, found.dates - found.birth_dates)):
        for day in map(bytes.decode, days):
            folded.update((data, code) for word in _date_forms(day) for data in _fold_word(word))
    return Spellings(
        tuple(folded.items()),
        tuple(tokens.values()),
        _short_date_pattern(map(bytes.decode, found.birth_dates)),
    )


def _identifier_forms(
    found: OriginalIdentifiers, codecs: tuple[str, ...]
) -> Iterator[tuple[str, bytes, bool]]:
    """Yield (code, bytes, as a separate word only) for all identifying values."""
    for code, raw in found.identity:
        for text, _ in decode_candidates(raw, codecs):
            for value in text.split("\\"):
                for alone, word in _value_forms(code, value):
                    for data in _fold_word(word):
                        yield code, data, alone


def _collect_text(region: Region) -> bytes:
    """Join all text in lower case, except where pseudonym and project must be named."""
    data = region.data
    return _VALUE_SEPARATOR.join(
        [
            data[start:end]
            for tag, vr, start, end, _ in region.elements
            if vr in _TEXT_VRS
            and start != end
            and tag >> 16 != 0x0012
            and tag not in (_PATIENT_NAME, _PATIENT_ID, _CHARSET)
        ]
    ).lower()


def _text_forms(said: bytes) -> Iterator[bytes]:
    """Yield the text in ASCII, with both transliterations of umlauts, and without web escapes."""
    yield from _fold_text(said)
    if b"%" in said or b"&" in said:
        from html import unescape  # slow to import and rarely needed

        plain = unescape(unquote_to_bytes(said).decode("utf-8", "replace"))
        yield from _fold_text(plain.lower().encode())


def _fold_text(said: bytes) -> Iterator[bytes]:
    if said.isascii():
        yield said
        return
    text = unicodedata.normalize("NFKC", said.decode("utf-8", "replace")).lower()
    yield from dict.fromkeys(form.encode() for form in _to_ascii(text))


def _to_ascii(lower: str) -> Iterator[str]:
    for text in (lower.translate(GERMAN_TRANSLITERATION), lower):
        bare = unicodedata.normalize("NFKD", text)
        yield "".join(letter for letter in bare if not unicodedata.combining(letter))


def _fold_word(word: str) -> Iterator[bytes]:
    composed = unicodedata.normalize("NFC", word.lower())
    yield from dict.fromkeys(form.encode() for form in _to_ascii(composed))


def _value_forms(code: str, value: str) -> Iterator[tuple[bool, str]]:
    """Yield (as a separate word only, word) for each spelling of a value."""
    if code == NAME:
        yield from _name_forms(value)
        return
    plain = _NOT_LETTERS.sub("", value)
    digits = "".join(_DIGITS.findall(plain))
    if code == ID:
        if (digits != plain and len(plain) >= _LONG_CODE) or len(plain) >= _LONG_NUMBER:
            yield False, plain
        if len(digits) >= _LONG_NUMBER and len(digits.strip("0")) > 3:
            yield False, digits
    elif code == DEVICE:
        if len(plain) >= _LONG_CODE and len(digits) >= 4:
            yield False, plain
    elif code in (ADDRESS, INSTITUTION):
        yield from _place_forms(code, value, plain, digits)


def _name_forms(value: str) -> Iterator[tuple[bool, str]]:
    for group in value.split("="):
        parts = split_name(group)
        for part in parts:
            plain = _NOT_LETTERS.sub("", part)
            if len(plain) >= _LONG_NAME and not _is_known(plain):
                beginning = plain[:_PREFIX_LENGTH]
                yield False, plain if _is_known(beginning) else beginning
        for first, second in pairwise(parts):
            for pair in (first + second, second + first):
                if len(pair) >= _LONG_NAME and not _is_known(pair):
                    yield False, pair
            for pair in (second[0] + first, first + second[0]):
                if len(pair) >= _SHORT_PAIR and not _is_known(pair):
                    yield True, pair


def _place_forms(code: str, value: str, plain: str, digits: str) -> Iterator[tuple[bool, str]]:
    words = [word for word in _WORDS.findall(value) if not _is_place_word(word)]
    if len(plain) >= _LONG_LINE and words:
        yield False, plain
    for word in words:
        if len(word) >= _LONG_PLACE:
            yield False, word
    if code == ADDRESS:
        if "@" in value:
            local = value.rpartition("@")[0].rpartition(":")[2].strip()
            yield True, local
        if len(digits) >= _LONG_NUMBER and len(digits) * 2 > len(plain):
            yield False, digits[-_LONG_NUMBER:]
        yield from ((True, number) for number in _DIGITS.findall(value) if len(number) == 5)


def _is_known(word: str) -> bool:
    """Whether it is part of a word that the standard or a manufacturer uses."""
    return any(form in _VOCABULARY_BYTES for form in _fold_word(word))


def _is_place_word(word: str) -> bool:
    return _is_known(word) or any(form in PLACE_WORDS for form in _fold_word(word))


def _date_forms(day: str) -> Iterator[str]:
    """Spellings of a day given as YYYYMMDD, without separators and with the full year."""
    year, month, date = day[:4], day[4:6], day[6:]
    short, short_month = date.lstrip("0"), month.lstrip("0")
    for d, m in ((date, month), (short, short_month)):
        if len(d + m) >= 3:
            yield from (d + m + year, m + d + year, year + m + d)
    if "01" <= month <= "12":
        for word in _MONTHS[int(month) - 1].split():
            for number in {date, short}:
                yield from (number + word + year, word + number + year, year + word + number)
            yield from (f"{short}{end}{word}{year}" for end in ("st", "nd", "rd", "th", "thof"))
            yield from (f"{word}{short}{end}{year}" for end in ("st", "nd", "rd", "th"))
            if len(word) == 3:
                yield short.zfill(2) + word + year[2:]


def _short_date_pattern(birth_dates: Iterable[str]) -> re.Pattern[bytes] | None:
    """Matches these days with a two-digit year, but not parts of longer numbers or versions."""
    short = {re.escape(word) for day in birth_dates for word in _short_date_forms(day)}
    if not short:
        return None
    return re.compile(rf"(?<![a-z0-9.])(?:{'|'.join(sorted(short))})(?![a-z0-9]|[./-]\d)".encode())


def _short_date_forms(day: str) -> Iterator[str]:
    year, month, date = day[2:4], day[4:6], day[6:]
    for *two, last in ((date, month, year), (month, date, year), (year, month, date)):
        for mark in ("", *"./-_ "):
            yield mark.join((*two, last))
            if mark:
                yield mark.join((*(part.lstrip("0") for part in two), last))
