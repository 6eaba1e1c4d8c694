"""Special: dated exceptions from a weekly calendar, such as a holiday or a migration.

They are a list such as
    {"from": "2026-06-12", "to": "2026-06-14", "as": "closed", "why": "migration"}
`to` may be left out: one day. `as` is closed, or the weekday whose hours these days have. Closed
days are closed from midnight to midnight, for every lane.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext as _

from adit_engine.errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOSED = "closed"
LONGEST_DAYS = 366
LONGEST_WHY = 80
_KEYS = frozenset({"from", "to", "as", "why"})


@dataclass(frozen=True, slots=True)
class Special:
    """From the first to the last day: closed, or as on that weekday (Monday is 0)."""

    first: date
    last: date
    weekday: int | None
    why: str = ""

    @classmethod
    def read(cls, row: Any) -> "Special":
        """Raises WrongInput."""
        if not isinstance(row, Mapping) or not set(row) <= _KEYS:
            raise InvalidInput(_("A special day has from, as, and perhaps to and why."))
        first = _date(row.get("from"))
        last = _date(row["to"]) if row.get("to") else first
        if not 0 <= (last - first).days < LONGEST_DAYS:
            raise InvalidInput(_("Special days end on or after the day they begin, within a year."))
        like, why = row.get("as"), row.get("why", "")
        if like != CLOSED and like not in DAYS:
            raise InvalidInput(_("A special day is closed, or as a weekday, such as sun."))
        if not isinstance(why, str) or len(why) > LONGEST_WHY:
            raise InvalidInput(_("Say in at most %d characters why.") % LONGEST_WHY)
        return cls(first, last, None if like == CLOSED else DAYS.index(like), why)

    @property
    def row(self) -> dict[str, str]:
        like = CLOSED if self.weekday is None else DAYS[self.weekday]
        return {
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "as": like,
            "why": self.why,
        }


def read(rows: Any) -> tuple[Special, ...]:
    """In order of time. Raises WrongInput, also where two say something of one day."""
    if not isinstance(rows, list):
        raise InvalidInput(_("The special days are a list."))
    found = sorted((Special.read(row) for row in rows), key=lambda one: one.first)
    for one, other in pairwise(found):
        if other.first <= one.last:
            raise InvalidInput(
                _("Two rows speak of %(day)s. Let one of them end before.") % {"day": other.first}
            )
    return tuple(found)


def on(specials: Iterable[Special], day: date) -> Special | None:
    return next((one for one in specials if one.first <= day <= one.last), None)


def day_name(weekday: int) -> str:
    """Monday is 0."""
    return str(WEEKDAYS[weekday])


def _date(text: Any) -> date:
    try:
        return date.fromisoformat(text)
    except (ValueError, TypeError):
        raise InvalidInput(_("Write days like 2026-12-24.")) from None
