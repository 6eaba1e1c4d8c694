"""Dates and times as users read them, in their language and the time zone of the site."""

from datetime import date, datetime

from django.utils import formats, timezone
from django.utils.translation import get_language


def format_date(day: date) -> str:
    # In English, 04/12/1956 is ambiguous: the order of day and month differs by country.
    if (get_language() or "en").startswith("en"):
        return day.isoformat()
    return formats.date_format(day, "SHORT_DATE_FORMAT")


def format_datetime(at: datetime) -> str:
    local = timezone.localtime(at)
    return f"{format_date(local.date())} {local:%H:%M}"
