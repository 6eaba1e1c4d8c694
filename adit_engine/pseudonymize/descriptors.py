"""Descriptors: a description stays when it is made of reviewed words and short numbers, else it goes."""

import re

from adit_engine.pseudonymize import actions
from adit_engine.pseudonymize.actions import Action, Work
from adit_engine.pseudonymize.tables import safe_words

_TOKEN = re.compile(rb"[A-Za-z]+|[0-9]+")
_BETWEEN = re.compile(rb"[ _./,+()*&<>:%-]*")
_LONGEST_NUMBER = 3
# Three numbers in a row can be a date.
_ROW = re.compile(rb"[0-9]+[^A-Za-z0-9]+[0-9]+[^A-Za-z0-9]+[0-9]")


def is_harmless(value: bytes) -> bool:
    """Whether each word is in safe_words.tsv, each number short, and no row of them a date."""
    text = value.strip(b" \0")
    if not text.isascii() or is_row_of_numbers(text):
        return False
    return not _BETWEEN.sub(b"", _TOKEN.sub(b"", text)) and all(
        len(token) <= _LONGEST_NUMBER if token.isdigit() else token.lower() in safe_words()
        for token in _TOKEN.findall(text)
    )


def is_row_of_numbers(text: bytes) -> bool:
    return bool(_ROW.search(text))


def words(name: bytes) -> frozenset[bytes]:
    """What a description may not say of a patient of this name, though the words are harmless."""
    return frozenset(token.lower() for token in _TOKEN.findall(name) if token.isalpha())


def _keeper(vr: str) -> Action:
    legal = actions.KEEPERS[vr]

    def keep(value: bytes, work: Work) -> bytes | None:
        if not is_harmless(value) or not work.names.isdisjoint(words(value)):
            return None
        return legal(value, work)

    return keep


KEEPERS = {vr: _keeper(vr) for vr in ("LO", "SH", "ST", "LT", "UT", "UC")}
"""The actions for free text under Clean Descriptors, by VR."""
