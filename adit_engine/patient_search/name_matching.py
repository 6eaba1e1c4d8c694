"""Match family and given names in the spellings of archives, with umlauts or accents or without.

Used by `patient_search.search` for rows of a sheet, and by `name_search` for a typed name.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from adit_engine.values.record import Record

_TRANSLITERATION = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "œ": "oe", "ø": "oe", "å": "aa"}
)
_AMBIGUOUS_SPELLING = re.compile(r"ae|oe|ue|ss|aa|[^a-z]+")
"""Parts that may be spelled differently, or use letters that the archive's character set lacks."""
_TITLES = frozenset(
    [
        "dr",
        "prof",
        "med",
        "dent",
        "phil",
        "nat",
        "rer",
        "habil",
        "hc",
        "priv",
        "doz",
        "pd",
        "dipl",
        "ing",
    ]
)
_PARTICLES = frozenset(["von", "van", "de", "der", "zu"])
_WORDS = re.compile(r"[\s\-.,']+")
_TYPED_WORDS = re.compile(r"[\s.,^]+")
_OFTEN_ACCENTED = frozenset("aceinouy")
_MIN_LETTERS = 3
"""Letters of the first name in a key that stay: fewer would match too many patients."""


def make_wildcard(name: str, *, accents: bool = True, is_first: bool = True) -> str:
    """Return a C-FIND key that matches all spellings, and more; "" if nothing is left.

    `Müller` and `Mueller` both give `M*ll*r*`. The key has no letters outside of ASCII, so the
    archive does not need to support them. With `accents`, letters that may have an accent in the
    archive are replaced, too, beginning at the end, as long as three letters are left, or one
    letter of a name that is not the first in the key.
    """
    name = unicodedata.normalize("NFKC", name.strip())
    plain = _AMBIGUOUS_SPELLING.sub(lambda found: "*" * len(found[0]), name.lower())
    if len(plain) != len(name):
        return ""
    marks = list(plain)
    letters = sum(mark != "*" for mark in marks)
    least = _MIN_LETTERS if is_first else 1
    for at in range(len(marks) - 1, 0 if is_first else -1, -1):
        if accents and letters > least and marks[at] in _OFTEN_ACCENTED:
            marks[at] = "*"
            letters -= 1
    kept = "".join(
        mark if mark == "*" else letter for mark, letter in zip(marks, name, strict=True)
    )
    kept = re.sub(r"\*+", "*", kept)
    return f"{kept.rstrip('*')}*" if kept.strip("*") else ""


@dataclass(frozen=True, slots=True)
class TypedName:
    """The name of a patient as typed into a search field: Last, First or First Last, or a part.

    The family name may be incomplete at its end, and so may the given name. * and ? are wildcards.
    """

    text: str = field(repr=False)

    @property
    def _has_wildcards(self) -> bool:
        return "*" in self.text or "?" in self.text

    @property
    def _is_ordered(self) -> bool:
        return "," in self.text or "^" in self.text

    def wildcards(self) -> tuple[str, ...]:
        """Return C-FIND keys, at most six, which together match all spellings, and more.

        Each is given as usually written and in capitals, for archives that match case-sensitively.
        For a name of one word the first keys match more precisely than the others. Without letters
        of the Latin alphabet, the only key is the text.
        """
        keys: list[str] = []
        is_mixed = self.text != self.text.lower() and self.text != self.text.upper()
        spellings = (self.text if is_mixed else _capitalize(self.text), self.text.upper())
        if self._has_wildcards:
            # A letter after a wildcard may begin a word, in upper case, or not.
            any_case = re.sub(r"(?<=[*?])\w", "*", spellings[0])
            keys = [make_wildcard(text) for text in (any_case, *spellings)]
        else:
            by_spelling = [_typed_words(text) for text in spellings]
            if len(by_spelling[0]) == 1:
                keys = [make_wildcard("".join(words), accents=False) for words in by_spelling]
            orders = 1 if self._is_ordered else min(len(by_spelling[0]), 3)
            for order in range(orders):
                keys += [_join_wildcards(_rotate(words, order)) for words in by_spelling]
        found = tuple(key for key in dict.fromkeys(keys) if key)
        return found or (self.text if self._has_wildcards else f"{self.text}*",)

    def matches(self, name: str) -> bool:
        """Return whether a name in DICOM format is this one, in any spelling and order."""
        if self._has_wildcards:
            return any(self._matches_pattern(group) for group in name.split("="))
        return any(
            _begins(family, asked_family) and _begins_given(given, asked_given)
            for family, given in _component_groups(name, all_given=True)
            for asked_family, asked_given in self._readings()
        )

    def _matches_pattern(self, group: str) -> bool:
        held, asked = (_TYPED_WORDS.sub(" ", text).strip() for text in (group, self.text))
        return any(
            fnmatch.fnmatchcase(form(held), pattern)
            for form in (fold, _strip_accents)
            for pattern in _end_at_word(form(asked).replace("[", "[[]"))
        )

    def _readings(self) -> Iterator[tuple[list[str], list[str]]]:
        """Yield family and given names for each way to read the text."""
        if self._is_ordered:
            family, _separator, given = self.text.replace(",", "^").partition("^")
            yield _split_words(family), _split_words(given.replace("^", " "))
            return
        words = _without_titles(_split_words(self.text))
        for at in range(1, len(words) + 1):
            yield words[:at], words[at:]
            if at < len(words):
                yield words[at:], words[:at]


def is_same_name(family: str, given: str, record: Record) -> bool:
    """Return whether a record's patient has this name, in any spelling.

    Ignores titles, middle names, case, accents, hyphens, and whether family and given name are
    interchanged. An empty given name matches any.
    """
    asked = _split_words(family), _split_words(given)
    orders = (asked, asked[::-1]) if asked[1] else (asked,)
    return any(
        _without_titles(asked_family) == _without_titles(held_family)
        and _is_same_given_name(asked_given, held_given)
        for held_family, held_given in _component_groups(record.patient_name)
        for asked_family, asked_given in orders
    )


def fold(text: str) -> str:
    """Return the text in lower case, without accents and with umlauts written out."""
    lower = unicodedata.normalize("NFKC", text).lower().translate(_TRANSLITERATION)
    return _strip_accents(lower)


def _strip_accents(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.lower())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _capitalize(text: str) -> str:
    """Return the text with a capital letter at the start of each word."""
    return re.sub(r"(?<![\w*?])\w", lambda found: found[0].upper(), text.lower())


def _typed_words(text: str) -> list[str]:
    """Return the words without academic titles, hyphens kept."""
    words = [word for word in _TYPED_WORDS.split(text) if word]
    return [word for word in words if fold(word) not in _TITLES] or words


def _rotate(words: Sequence[str], order: int) -> Sequence[str]:
    """Return the words as typed (0), with the last one first (1), or the first one last (2)."""
    return (words, [*words[-1:], *words[:-1]], [*words[1:], *words[:1]])[order]


def _join_wildcards(words: Sequence[str]) -> str:
    keys = (make_wildcard(word, is_first=at == 0) for at, word in enumerate(words))
    return re.sub(r"\*+", "*", "".join(keys))


def _begins(stored: list[str], queried: list[str]) -> bool:
    held, asked = ("".join(_without_titles(words)) for words in (stored, queried))
    return held.startswith(asked)


def _begins_given(stored: list[str], queried: list[str]) -> bool:
    """Return whether one of the given names, or several in a row, begin as asked."""
    return not queried or any(_begins(stored[at:], queried) for at in range(len(stored)))


def _end_at_word(pattern: str) -> tuple[str, ...]:
    return (pattern,) if pattern.endswith(("*", "?")) else (pattern, f"{pattern} *")


def _component_groups(
    name: str, *, all_given: bool = False
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield family and given names of each component group (PS3.5 6.2, VR PN)."""
    for group in name.split("="):
        family, found, rest = group.partition("^")
        if not found:
            family, _comma, rest = group.partition(",")
        if all_given:
            yield _split_words(family), _split_words(" ".join(rest.split("^")[:2]))
        else:
            yield _split_words(family), _split_words(rest.partition("^")[0])


def _split_words(text: str) -> list[str]:
    return [word for word in _WORDS.split(fold(text)) if word]


def _without_titles(words: list[str]) -> list[str]:
    """Remove titles and particles, unless nothing else is left."""
    return [word for word in words if word not in _TITLES | _PARTICLES] or words


def _is_same_given_name(queried: list[str], stored: list[str]) -> bool:
    """Return whether the given names match: Karl-Heinz is Karl Heinz Josef, and is Karl."""
    queried, stored = _without_titles(queried), _without_titles(stored)
    return not queried or (
        bool(stored) and queried[0] == stored[0] and _have_same_middle_names(queried, stored)
    )


def _have_same_middle_names(queried: list[str], stored: list[str]) -> bool:
    return all(one == other for one, other in zip(queried[1:], stored[1:], strict=False)) or (
        len(queried) == 1 or len(stored) == 1
    )
