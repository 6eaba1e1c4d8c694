"""Pattern: how a trial's pseudonyms are numbered, such as LUNG-####."""

import re

from django.utils.translation import gettext as _

from adit_engine.errors import WrongInput

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
        raise WrongInput(
            _(
                "A pseudonym pattern has one run of # for the number, "
                "as in LUNG-####, and else letters, digits, dot, hyphen, underscore."
            )
        )
    return found[1], found[2], found[3]
