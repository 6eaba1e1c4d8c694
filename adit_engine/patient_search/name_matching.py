"""Match family and given names in the spellings of archives, with umlauts or without.

Used by `patient_search.search`.
"""

import re
import unicodedata
from collections.abc import Iterator

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
        "von",
        "van",
        "de",
        "der",
        "zu",
    ]
)
_WORDS = re.compile(r"[\s\-.,']+")


def make_wildcard(family: str) -> str:
    """Return a C-FIND key that matches all spellings, and more; "" if nothing is left.

    `Müller` and `Mueller` both give `M*ller*`. The key has no letters outside of ASCII, so the
    archive does not need to support them.
    """
    family = unicodedata.normalize("NFKC", family.strip())
    lower = family.lower()
    plain = _AMBIGUOUS_SPELLING.sub(lambda found: "*" * len(found[0]), lower)
    if len(plain) != len(family):
        return ""
    kept = "".join(
        mark if mark == "*" else letter for mark, letter in zip(plain, family, strict=True)
    )
    kept = re.sub(r"\*+", "*", kept)
    return f"{kept.rstrip('*')}*" if kept.strip("*") else ""


def is_same_name(family: str, given: str, record: Record) -> bool:
    """Return whether a record's patient has this name, in any spelling.

    Ignores titles, middle names, case, accents and hyphens. An empty given name matches any.
    """
    asked_family, asked_given = _split_words(family), _split_words(given)
    return any(
        _without_titles(asked_family) == _without_titles(held_family)
        and _is_same_given_name(asked_given, held_given)
        for held_family, held_given in _component_groups(record.patient_name)
    )


def fold(text: str) -> str:
    """Return the text in lower case, without accents and with umlauts written out."""
    lower = unicodedata.normalize("NFKC", text).lower().translate(_TRANSLITERATION)
    parts = unicodedata.normalize("NFKD", lower)
    return "".join(part for part in parts if not unicodedata.combining(part))


def _component_groups(name: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield family and given names of each component group (PS3.5 6.2, VR PN)."""
    for group in name.split("="):
        family, found, rest = group.partition("^")
        if not found:
            family, _comma, rest = group.partition(",")
        yield _split_words(family), _split_words(rest.partition("^")[0])


def _split_words(text: str) -> list[str]:
    return [word for word in _WORDS.split(fold(text)) if word]


def _without_titles(words: list[str]) -> list[str]:
    """Remove titles and particles, unless nothing else is left."""
    return [word for word in words if word not in _TITLES] or words


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
