"""Validate pseudonym patterns such as LUNG-####, and the reasons in the audit trail.

Used by projects, jobs, review and results.
"""

import re

from adit_engine.errors import InvalidInput

MAX_PATTERN_LENGTH = 48
_PATTERN = re.compile(r"([A-Za-z0-9_.-]*)(#+)([A-Za-z0-9_.-]*)")


def validate_pattern(pattern: str) -> None:
    """Raise InvalidInput if the pattern is invalid."""
    _split_pattern(pattern)


def format_pseudonym(pattern: str, number: int) -> str:
    """Return the pseudonym: LUNG-#### and 7 give LUNG-0007.

    A number with more digits than the pattern keeps all of them.
    """
    before, digits, after = _split_pattern(pattern)
    return f"{before}{number:0{len(digits)}d}{after}"


def _split_pattern(pattern: str) -> tuple[str, str, str]:
    found = _PATTERN.fullmatch(pattern)
    if found is None or len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidInput("pseudonym-pattern.invalid", limit=MAX_PATTERN_LENGTH)
    return found[1], found[2], found[3]


MAX_REASON_LENGTH = 200


def validate_reason(reason: str) -> str:
    """Return the reason as the audit trail keeps it.

    Raises InvalidInput.
    """
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON_LENGTH:
        raise InvalidInput("reason.invalid", limit=MAX_REASON_LENGTH)
    return reason
