"""Public holidays by country and region as special days of nodes. Used by their page."""

from collections.abc import Collection
from datetime import date
from typing import Any

import holidays
from django.utils.translation import gettext as _

from adit.accounts.permissions import AnyUser
from adit.nodes import services
from adit.nodes.calendar.allowed_hours import MAX_WHY_LENGTH, parse_special_days
from adit.nodes.models import Node

LIKE_SUNDAY = "sun"


def list_countries() -> list[str]:
    """Return the ISO 3166 codes of the countries with two letters."""
    return sorted(code for code in holidays.list_supported_countries() if len(code) == 2)


def list_regions(country: str) -> list[str]:
    return list(holidays.list_supported_countries().get(country, []))


def list_holidays(country: str, region: str, year: int) -> list[tuple[date, str]]:
    """Return the holidays of a year with their names, in English where available.

    Raises NotImplementedError for an unknown country or region.
    """
    languages = holidays.list_localized_countries().get(country, [])
    language = next((one for one in ("en_US", "en_GB", "en") if one in languages), None)
    found = holidays.country_holidays(country, subdiv=region or None, years=year, language=language)
    return sorted((day, name) for day, name in found.items() if day.year == year)


def is_special(node: Node, day: date) -> bool:
    """Return whether the node already has hours of its own on this day."""
    rows = parse_special_days(node.special_days)
    return any(row.first_day <= day <= row.last_day for row in rows)


def add_holidays(user: AnyUser, node: Node, days: Collection[tuple[date, str]], hours: str) -> int:
    """Add the days that have no hours of their own yet; return their number.

    `hours` is closed or the weekday whose hours apply. Raises NotPermitted, InvalidInput.
    """
    rows: list[dict[str, Any]] = [
        {
            "from": day.isoformat(),
            "to": day.isoformat(),
            "as": hours,
            "why": (name or _("public holiday"))[:MAX_WHY_LENGTH],
        }
        for day, name in days
        if not is_special(node, day)
    ]
    if rows:
        node.special_days = [*node.special_days, *rows]
        services.save_node(user, node)
    return len(rows)
