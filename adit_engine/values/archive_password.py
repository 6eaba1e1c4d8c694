"""Password: what one of an encrypted 7-Zip file must be, and a proposal for one."""

import re
from itertools import pairwise

from adit_engine.errors import InvalidInput

MIN_LENGTH = 12
MAX_LENGTH = 100
MIN_DISTINCT = 6
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Those that nobody takes for another one when they are read out or copied by hand."""
_COMMON_WORDS = re.compile(
    "password|passwort|kennwort|geheim|secret|qwertz|qwerty|asdfgh|yxcvbn|zxcvbn|letmein|welcome|"
    "willkommen|admin|krankenhaus|hospital|klinik|dicom|adit|archive?|7zip|study|studie"
)


def validate_password(text: str) -> str:
    """The same text. Raises WrongInput with what is wrong with it, never with the text."""
    if len(text) < MIN_LENGTH:
        raise InvalidInput(f"The password needs at least {MIN_LENGTH} characters: make it longer.")
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"The password may have {MAX_LENGTH} characters: make it shorter.")
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise InvalidInput(
            "The password may hold letters without accents, digits and signs, and no blank at its "
            "ends: others are typed differently on other computers."
        )
    if _is_guessable(text.lower()):
        raise InvalidInput(
            "The password is too easy to guess: use several words that do not belong together, or "
            "the one that is proposed."
        )
    return text


def generate_password() -> str:
    """A fresh one each time, of about 99 bits."""
    import secrets  # takes long to load, and is seldom needed

    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


def _is_guessable(text: str) -> bool:
    """Rows of the alphabet or of one key, and what is left beside well-known words."""
    text = _COMMON_WORDS.sub("", text)
    steps = [abs(ord(b) - ord(a)) <= 1 for a, b in pairwise(text)]
    return len(set(text)) < MIN_DISTINCT or sum(steps) > len(steps) // 2
