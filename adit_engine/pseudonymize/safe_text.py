"""Decide which text and codes may stay: reviewed words, short numbers, standard schemes.

Used by the rules for descriptions and coded items.
"""

import re

from adit_engine.pseudonymize import actions
from adit_engine.pseudonymize.actions import KEEP_ACTIONS, Action, ActionContext, keep_codes
from adit_engine.pseudonymize.tables import code_schemes, code_words, safe_words

_TOKEN = re.compile(rb"[A-Za-z]+|[0-9]+")
_SEPARATORS = re.compile(rb"[ _./,+()*&<>:%-]*")
_MAX_DIGITS = 3
# A series of three numbers may be a date.
_NUMBER_SERIES = re.compile(rb"[0-9]+[^A-Za-z0-9]+[0-9]+[^A-Za-z0-9]+[0-9]")


def is_safe_text(value: bytes) -> bool:
    """Whether all words are in safe_words.tsv, and numbers are short and form no date."""
    text = value.strip(b" \0")
    if not text.isascii() or may_contain_date(text):
        return False
    return not _SEPARATORS.sub(b"", _TOKEN.sub(b"", text)) and all(
        len(token) <= _MAX_DIGITS if token.isdigit() else token.lower() in safe_words()
        for token in _TOKEN.findall(text)
    )


def may_contain_date(text: bytes) -> bool:
    return bool(_NUMBER_SERIES.search(text))


def split_words(name: bytes) -> frozenset[bytes]:
    """Return the words of a name, which no description may contain even if harmless."""
    return frozenset(token.lower() for token in _TOKEN.findall(name) if token.isalpha())


def _descriptor_action(vr: str) -> Action:
    legal = actions.KEEP_ACTIONS[vr]

    def keep(value: bytes, context: ActionContext) -> bytes | None:
        if not is_safe_text(value) or not context.patient_name_words.isdisjoint(split_words(value)):
            return None
        return legal(value, context)

    return keep


DESCRIPTOR_ACTIONS = {vr: _descriptor_action(vr) for vr in ("LO", "SH", "ST", "LT", "UT", "UC")}
"""The actions for free text under Clean Descriptors, by VR."""


_SCHEME_VERSION = re.compile(rb"[A-Za-z]{0,3}[0-9][0-9._-]{0,13}[A-Za-z]{0,2}")
_WORD = re.compile(rb"[A-Za-z]+")
_TERM_TOKEN = re.compile(rb"[A-Za-z0-9]+")
_NO_DIGIT = re.compile(rb"[^0-9]")
_LONG_WORD, _MAX_TERM_DIGITS = 4, 3
_TERM_SEPARATORS = re.compile(rb"[ _./,;+()*&<>:%^'\[\]{}=#?!\"-]*")

# Schemes whose codes are words or units. Longer words in their codes must be known.
_SCHEMES_WITH_WORDS = frozenset({b"DCM", b"UCUM"})

REMOVED_CODE = (b"REMOVED ", b"99ADIT", b"Removed ")
"""Code value, scheme and meaning of a required item whose code must be removed (PS3.3 8.8)."""

# The check digit of SNOMED CT (Verhoeff): the dihedral group of ten elements and its permutations.
_VERHOEFF_PRODUCTS = (
    *(b"0123456789", b"1234067895", b"2340178956", b"3401289567", b"4012395678"),
    *(b"5987604321", b"6598710432", b"7659821043", b"8765932104", b"9876543210"),
)
_VERHOEFF_PERMUTATIONS = (
    *(b"0123456789", b"1576283094", b"5803796142", b"8916043527"),
    *(b"9453126870", b"4286573901", b"2793806415", b"7046913258"),
)
_ZERO = ord("0")


def keep_scheme_version(value: bytes, context: object) -> bytes | None:
    """Keep Coding Scheme Version.

    Stricter than the action for text, since all versions look alike.
    """
    return value if _SCHEME_VERSION.fullmatch(value.strip(b" \0")) else None


def is_standard_code(value: bytes, scheme: bytes) -> bool:
    """Whether the scheme is in code_schemes.tsv and the value matches its pattern."""
    scheme, value = scheme.strip(b" \0"), value.strip(b" \0")
    pattern = code_schemes().get(scheme)
    if pattern is None or not pattern.fullmatch(value):
        return False
    if scheme == b"SCT":
        return _is_snomed_concept(value)
    return scheme not in _SCHEMES_WITH_WORDS or all(
        len(word) < _LONG_WORD or word.lower() in code_words() for word in _WORD.findall(value)
    )


def vocabulary_action(vr: str) -> Action:
    """Return an action that keeps text with known words and short numbers.

    The words must be of PS3.16 or reviewed, and none may occur in the patient's name.
    """
    legal = KEEP_ACTIONS[vr]

    def keep(value: bytes, context: ActionContext) -> bytes | None:
        return legal(value, context) if _is_vocabulary(value, context.patient_name_words) else None

    return keep


def keep_terms(value: bytes, context: ActionContext) -> bytes | None:
    """Keep CS values. Invalid characters or case are accepted if all words are known."""
    kept = keep_codes(value, context)
    if kept is not None:
        return kept
    terms = value.rstrip(b"\0 ").split(b"\\")
    known = all(
        len(term) <= 16 and _is_vocabulary(term, context.patient_name_words) for term in terms
    )
    return value if known else None


def _is_vocabulary(value: bytes, names: frozenset[bytes]) -> bool:
    text = value.strip(b" \0")
    if may_contain_date(text):
        return False
    known, safe = code_words(), safe_words()
    for token in _TERM_TOKEN.findall(text):
        if len(_NO_DIGIT.sub(b"", token)) > _MAX_TERM_DIGITS:
            return False
        for word in _WORD.findall(token.lower()):
            if (word not in known and word not in safe) or (len(word) > 1 and word in names):
                return False
    return not _TERM_SEPARATORS.sub(b"", _TERM_TOKEN.sub(b"", text))


def _is_snomed_concept(digits: bytes) -> bool:
    """Whether it is a SNOMED CT concept of the core or an extension, with a valid check digit."""
    if digits[-3:-1] not in (b"00", b"10"):
        return False
    check = _ZERO
    for at, digit in enumerate(reversed(digits)):
        check = _VERHOEFF_PRODUCTS[check - _ZERO][
            _VERHOEFF_PERMUTATIONS[at & 7][digit - _ZERO] - _ZERO
        ]
    return check == _ZERO
