"""Password rules after NIST SP 800-63B: long, not common, not predictable. Used by the settings.

There are no rules about kinds of characters, and passwords do not expire.
"""

import re
from itertools import pairwise
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

MAX_LENGTH = 128
MIN_UNPREDICTABLE = 6
"""Number of characters that neither repeat nor continue those before them."""
_KEYBOARD_ROWS = ("qwertyuiop", "qwertzuiopü", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm")
_NEIGHBOURS = frozenset(
    pair
    for row in _KEYBOARD_ROWS
    for left, right in pairwise(row)
    for pair in (left + right, right + left)
)
_LOOKALIKES = str.maketrans("013457@$!", "oieastasi")
_EDGES = re.compile(r"^[\W\d_]+|[\W\d_]+$")


class MaximumLengthValidator:
    """Refuse passwords that take long to hash."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        if len(password) > MAX_LENGTH:
            raise ValidationError(
                _("This password is too long. It must have at most %(max)d characters."),
                code="password_too_long",
                params={"max": MAX_LENGTH},
            )

    def get_help_text(self) -> str:
        return _("Your password must have at most %(max)d characters.") % {"max": MAX_LENGTH}


class PredictabilityValidator:
    """Refuse repetitions such as abcabcabcabc and sequences such as 123456789012."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        text = _find_repeated_part(password[:MAX_LENGTH].lower())
        pairs = pairwise(text)
        if 1 + sum(not _continues(*pair) for pair in pairs) < MIN_UNPREDICTABLE:
            raise ValidationError(
                _(
                    "This password consists of repeated or consecutive characters. A sequence of "
                    "several words is easy to remember and hard to guess."
                ),
                code="password_predictable",
            )

    def get_help_text(self) -> str:
        return _("Your password must not consist of repeated or consecutive characters.")


class CommonPartValidator(CommonPasswordValidator):
    """Refuse common passwords also if they are repeated, extended by digits, or respelled."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        text = password[:MAX_LENGTH].lower().strip()
        for part in (text, _find_repeated_part(text)):
            bare = _EDGES.sub("", part)
            respelled = (bare.translate(_LOOKALIKES), _EDGES.sub("", part.translate(_LOOKALIKES)))
            if {part, bare, *respelled} & self.passwords:
                raise ValidationError(self.get_error_message(), code="password_too_common")

    def get_error_message(self) -> Any:
        return _(
            "This password is a common one, possibly with additional digits. A sequence of several "
            "words is easy to remember and hard to guess."
        )


def _find_repeated_part(text: str) -> str:
    """Return the part of which the text consists by repetition, or the text itself."""
    length = (text + text).find(text, 1)
    return text[:length] if 0 < length < len(text) else text


def _continues(left: str, right: str) -> bool:
    return abs(ord(left) - ord(right)) <= 1 or left + right in _NEIGHBOURS
