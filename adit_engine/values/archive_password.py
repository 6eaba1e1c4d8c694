"""Password rules for encrypted 7-Zip files, and a generator. Used by orders and the CLI."""

import re
from itertools import pairwise

from adit_engine.errors import InvalidInput

MIN_LENGTH = 12
MAX_LENGTH = 100
MIN_DISTINCT = 6
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""No characters that are easily confused when read aloud or copied by hand."""
_COMMON_WORDS = re.compile(
    "password|passwort|kennwort|geheim|secret|qwertz|qwerty|asdfgh|yxcvbn|zxcvbn|letmein|welcome|"
    "willkommen|admin|krankenhaus|hospital|klinik|dicom|adit|archive?|7zip|study|studie"
)


def validate_password(text: str) -> str:
    """Return the text unchanged if it is an acceptable password.

    Raises InvalidInput with the reason; the message never contains the text.
    """
    if len(text) < MIN_LENGTH:
        raise InvalidInput("archive-password.too-short", minimum=MIN_LENGTH)
    if len(text) > MAX_LENGTH:
        raise InvalidInput("archive-password.too-long", maximum=MAX_LENGTH)
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise InvalidInput("archive-password.characters")
    if _is_guessable(text.lower()):
        raise InvalidInput("archive-password.guessable")
    return text


def generate_password() -> str:
    """Return a new random password with about 99 bits of entropy."""
    import secrets  # slow to import and rarely needed

    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


def _is_guessable(text: str) -> bool:
    """Detect sequences of the alphabet or of one key, and what is left without common words."""
    text = _COMMON_WORDS.sub("", text)
    steps = [abs(ord(b) - ord(a)) <= 1 for a, b in pairwise(text)]
    return len(set(text)) < MIN_DISTINCT or sum(steps) > len(steps) // 2
