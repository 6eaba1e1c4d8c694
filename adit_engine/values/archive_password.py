"""Password: what one of an encrypted 7-Zip file must be, and a proposal for one."""

import re
from itertools import pairwise

from adit_engine.errors import WrongInput

SHORTEST = 12
LONGEST = 100
LEAST_DIFFERENT = 6
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Those that nobody takes for another one when they are read out or copied by hand."""
_KNOWN = re.compile(
    "password|passwort|kennwort|geheim|secret|qwertz|qwerty|asdfgh|yxcvbn|zxcvbn|letmein|welcome|"
    "willkommen|admin|krankenhaus|hospital|klinik|dicom|adit|archive?|7zip|study|studie"
)


def checked_password(text: str) -> str:
    """The same text. Raises WrongInput with what is wrong with it, never with the text."""
    if len(text) < SHORTEST:
        raise WrongInput(f"The password needs at least {SHORTEST} characters: make it longer.")
    if len(text) > LONGEST:
        raise WrongInput(f"The password may have {LONGEST} characters: make it shorter.")
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise WrongInput(
            "The password may hold letters without accents, digits and signs, and no blank at its "
            "ends: others are typed differently on other computers."
        )
    if _is_guessed(text.lower()):
        raise WrongInput(
            "The password is too easy to guess: use several words that do not belong together, or "
            "the one that is proposed."
        )
    return text


def proposed_password() -> str:
    """A fresh one each time, of about 99 bits."""
    import secrets  # takes long to load, and is seldom needed

    groups = ("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


def _is_guessed(text: str) -> bool:
    """Rows of the alphabet or of one key, and what is left beside well-known words."""
    text = _KNOWN.sub("", text)
    steps = [abs(ord(b) - ord(a)) <= 1 for a, b in pairwise(text)]
    return len(set(text)) < LEAST_DIFFERENT or sum(steps) > len(steps) // 2
