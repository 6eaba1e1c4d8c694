"""Pattern: how a project's pseudonyms are numbered, such as LUNG-####.
Reason: why somebody did what must not be done without one; the trail keeps it."""

import re

from django.utils.translation import gettext as _

from adit_engine.errors import InvalidInput

_PATTERN = re.compile(r"([A-Za-z0-9_.-]*)(#+)([A-Za-z0-9_.-]*)")


def validate_pattern(pattern: str) -> None:
    """Raises WrongInput."""
    _split_pattern(pattern)


def format_pseudonym(pattern: str, number: int) -> str:
    """LUNG-#### and 7 make LUNG-0007; a number with more digits keeps them all."""
    before, digits, after = _split_pattern(pattern)
    return f"{before}{number:0{len(digits)}d}{after}"


def _split_pattern(pattern: str) -> tuple[str, str, str]:
    found = _PATTERN.fullmatch(pattern)
    if found is None or len(pattern) > 48:
        raise InvalidInput(
            _(
                "A pseudonym pattern has one run of # for the number, "
                "as in LUNG-####, and else letters, digits, dot, hyphen, underscore."
            )
        )
    return found[1], found[2], found[3]


MAX_REASON_LENGTH = 200


def validate_reason(reason: str) -> str:
    """What the trail keeps. Raises WrongInput."""
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON_LENGTH:
        raise InvalidInput(
            _("Say why, in at most %(n)d characters; the reason is kept in the trail.")
            % {"n": MAX_REASON_LENGTH}
        )
    return reason
