"""PersonName: family and first given name, as sheets write them and as DICOM asks for them."""

import re
import unicodedata
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from adit_engine.errors import WrongInput

_TITLES = frozenset({"dr", "prof", "professor", "pd", "herr", "frau"})
_WITH_DOT = frozenset(
    {"priv", "doz", "dipl", "ing", "med", "dent", "rer", "nat", "phil", "univ", "habil", "mag"}
    | {"h", "c", "mr", "mrs", "ms", "jur", "pol", "vet"}
)
"""Titles only with a dot: Ing and Med are given names too."""


@dataclass(frozen=True, slots=True)
class PersonName:
    """Without titles and middle names. `given` is empty when only a family name is known."""

    family: str = field(repr=False)
    given: str = field(default="", repr=False)


def person_name(text: str) -> PersonName:
    """From `Last, First` or `Last^First^Middle`. Raises WrongInput."""
    # PS3.5 6.2: "=" parts the spellings of one name; the first that says anything is taken.
    spelling = next((part for part in text.split("=") if part.strip(" ^")), "")
    plain = unicodedata.normalize("NFC", spelling).replace("，", ",").replace("、", ",")
    separator = "^" if "^" in plain else ","
    family, found, rest = plain.partition(separator)
    family = _without_titles(family)
    if not family:
        raise WrongInput(_("The family name is missing: write Last, First."))
    if not found and " " in family:
        raise WrongInput(_("Family and given name cannot be told apart: write Last, First."))
    return PersonName(family, first_given(rest.partition(separator)[0]))


def first_given(text: str) -> str:
    """The first given name, hyphens kept: Dr. Karl-Heinz Josef is Karl-Heinz."""
    return _without_titles(text).partition(" ")[0]


def _without_titles(text: str) -> str:
    words = text.split()
    while len(words) > 1 and _is_title(words[0]):
        words.pop(0)
    return " ".join(words)


def _is_title(word: str) -> bool:
    parts = [part for part in re.split(r"[.-]", word.lower()) if part]
    titles = _TITLES | _WITH_DOT if word.endswith(".") else _TITLES
    return bool(parts) and all(part in titles for part in parts)
