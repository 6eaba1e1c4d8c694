"""Pattern: how a project's pseudonyms are numbered, such as LUNG-####.
Reason: why somebody did what must not be done without one; the trail keeps it."""

import re

from django.utils.translation import gettext as _

from adit_engine.errors import InvalidInput

_PATTERN = re.compile(r"([A-Za-z0-9_.-]*)(#+)([A-Za-z0-9_.-]*)")


def check_pattern(pattern: str) -> None:
    """Raises WrongInput."""
    _parts(pattern)


def numbered(pattern: str, number: int) -> str:
    """LUNG-#### and 7 make LUNG-0007; a number with more digits keeps them all."""
    before, digits, after = _parts(pattern)
    return f"{before}{number:0{len(digits)}d}{after}"


def _parts(pattern: str) -> tuple[str, str, str]:
    found = _PATTERN.fullmatch(pattern)
    if found is None or len(pattern) > 48:
        raise InvalidInput(
            _(
                "A pseudonym pattern has one run of # for the number, "
                "as in LUNG-####, and else letters, digits, dot, hyphen, underscore."
            )
        )
    return found[1], found[2], found[3]


LONGEST_REASON = 200


def checked_reason(reason: str) -> str:
    """What the trail keeps. Raises WrongInput."""
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise InvalidInput(
            _("Say why, in at most %(n)d characters; the reason is kept in the trail.")
            % {"n": LONGEST_REASON}
        )
    return reason
