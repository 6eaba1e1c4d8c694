"""Template filters that format DICOM values for display, and mask them where needed."""

import math
from datetime import datetime

from django import template

from adit.dates import format_date, format_datetime
from adit.jobs import progress
from adit_engine.values.record import Record

register = template.Library()

MASK = "•••"


@register.filter
def person_name(text: str) -> str:
    """Format a person name (PS3.5 6.2.1.2).

    `Yamada^Tarou=山田^太郎` becomes `Yamada, Tarou (山田 太郎)`.
    """
    groups = [
        _join_components(group, " " if i else ", ") for i, group in enumerate(text.split("=")[:2])
    ]
    first, other = [*groups, ""][:2]
    if not first:
        return other
    return f"{first} ({other})" if other else first


def _join_components(group: str, comma: str) -> str:
    last, *others = [part.strip() for part in group.split("^")]
    rest = " ".join(part for part in others if part)
    return f"{last}{comma}{rest}" if last and rest else last or rest


@register.filter
def dicom_date(text: str) -> str:
    """Format a date such as 20260131 in the reader's locale; other text is unchanged."""
    try:
        day = datetime.strptime(text.strip().replace(".", ""), "%Y%m%d").date()  # noqa: DTZ007
    except ValueError:
        return text
    return format_date(day)


@register.filter
def local_datetime(at: datetime | None) -> str:
    """Format day and time in the reader's time zone."""
    return "" if at is None else format_datetime(at)


@register.filter
def text_of(record: Record, keyword: str) -> str:
    """Return one value of a record by its DICOM keyword."""
    return record.text(keyword)


@register.filter
def masked(text: str, sees: bool) -> str:
    """Return the text, or a mask of constant length if the user may not see it."""
    return text if sees or not text else MASK


@register.filter
def size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else progress.format_size(size_bytes)


@register.filter
def percent_of(part: int, whole: int | None) -> int:
    """Return whole percent, at least 1 if `part` is not zero."""
    return 0 if not part or not whole else max(1, math.floor(100 * part / whole))
