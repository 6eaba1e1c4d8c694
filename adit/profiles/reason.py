"""Reason: why somebody did what must not be done without one; the trail keeps it."""

from django.utils.translation import gettext as _

from adit_engine.errors import WrongInput

LONGEST_REASON = 200


def checked_reason(reason: str) -> str:
    """What the trail keeps. Raises WrongInput."""
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise WrongInput(
            _("Say why, in at most %(n)d characters; the reason is kept in the trail.")
            % {"n": LONGEST_REASON}
        )
    return reason
