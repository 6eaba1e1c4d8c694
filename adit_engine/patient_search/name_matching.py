"""Spelling: a family and a given name as archives may write them, with umlauts or without."""

import re
import unicodedata
from collections.abc import Iterator

from adit_engine.values.record import Record

_TRANSLITERATION = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "œ": "oe", "ø": "oe", "å": "aa"}
)
_AMBIGUOUS_SPELLING = re.compile(r"ae|oe|ue|ss|aa|[^a-z]+")
"""What may be spelled otherwise, or in letters that the archive's character set lacks."""
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
    """A C-FIND key in plain letters that finds all spellings, and more; empty: nothing to go by.

    `Müller` and `Mueller` both give `M*ller*`. Asked so, no archive has to know our letters.
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
    """Whether a record's person bears this name, in any of its spellings and letters.

    Titles and middle names do not count, nor case, accents and hyphens. No given name: any.
    """
    asked_family, asked_given = _split_words(family), _split_words(given)
    return any(
        _without_titles(asked_family) == _without_titles(held_family)
        and _is_same_given_name(asked_given, held_given)
        for held_family, held_given in _component_groups(record.patient_name)
    )


def fold(text: str) -> str:
    """Without case and accents; umlauts are written out."""
    lower = unicodedata.normalize("NFKC", text).lower().translate(_TRANSLITERATION)
    parts = unicodedata.normalize("NFKD", lower)
    return "".join(part for part in parts if not unicodedata.combining(part))


def _component_groups(name: str) -> Iterator[tuple[list[str], list[str]]]:
    """Family and given names of each component group (PS3.5 6.2, VR PN)."""
    for group in name.split("="):
        family, found, rest = group.partition("^")
        if not found:
            family, _comma, rest = group.partition(",")
        yield _split_words(family), _split_words(rest.partition("^")[0])


def _split_words(text: str) -> list[str]:
    return [word for word in _WORDS.split(fold(text)) if word]


def _without_titles(words: list[str]) -> list[str]:
    """Without titles and particles, unless there is nothing else."""
    return [word for word in words if word not in _TITLES] or words


def _is_same_given_name(asked: list[str], held: list[str]) -> bool:
    """The first given name is the same: Karl-Heinz is Karl Heinz Josef, and is Karl."""
    asked, held = _without_titles(asked), _without_titles(held)
    return not asked or (
        bool(held) and asked[0] == held[0] and _have_same_middle_names(asked, held)
    )


def _have_same_middle_names(asked: list[str], held: list[str]) -> bool:
    return all(one == other for one, other in zip(asked[1:], held[1:], strict=False)) or (
        len(asked) == 1 or len(held) == 1
    )
