"""Template tags for icons, state badges, progress bars, form fields and help buttons.

Used by the templates of all apps.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django import template
from django.forms import BoundField, Select
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from adit.messages import MessageCount, plain_message
from adit.pages import help as manual
from adit_engine.messages import Message

register = template.Library()

ICONS_AND_TONES = {
    "waiting_for_approval": ("hourglass", "info"),
    "waiting_for_owner": ("hourglass", "info"),
    "held": ("hourglass", "warn"),
    "pending": ("clock", "neutral"),
    "in_progress": ("refresh", "info"),
    "canceling": ("ban", "neutral"),
    "canceled": ("ban", "neutral"),
    "success": ("circle-check", "good"),
    "empty": ("circle-dashed", "neutral"),
    "warning": ("alert-triangle", "warn"),
    "failure": ("circle-x", "bad"),
    "open": ("plug-connected", "good"),
    "closed": ("lock", "neutral"),
    "resting": ("moon", "info"),
    "paused": ("player-pause", "warn"),
    "good": ("circle-check", "good"),
    "bad": ("circle-x", "bad"),
    "debug": ("info-circle", "neutral"),
    "info": ("info-circle", "info"),
    "error": ("circle-x", "bad"),
}
"""Icon and tone of each state, grade and message level."""

BAR_PARTS = ("delivered", "stored", "withheld", "skipped", "failed")


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Return an icon of the sprite.

    Without a label it is decorative and hidden from screen readers.
    """
    address = static("vendor/icons/icons.svg")
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="{}#{}"></use></svg>',
            label,
            address,
            name,
        )
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', address, name
    )


WIDGET_CLASSES = {
    "checkbox": "form-check-input",
    "radio": "form-check-input",
    "select": "form-select",
    "hidden": "",
}
"""CSS class by type of widget; all others are text fields."""


@register.filter
def widget(field: BoundField) -> SafeString:
    """Render the field with the CSS class that its type of widget needs."""
    given = field.field.widget
    name = "select" if isinstance(given, Select) else getattr(given, "input_type", "") or ""
    wanted = WIDGET_CLASSES.get(name, "form-control")
    had = given.attrs.get("class", "")
    return field.as_widget(attrs={"class": had if wanted in had else f"{had} {wanted}".strip()})


@register.filter
def tone(state: str) -> str:
    """Return the tone of a state: neutral, info, good, warn or bad."""
    return ICONS_AND_TONES.get(state, ("", "neutral"))[1]


@register.filter
def icon_of(state: str) -> str:
    return ICONS_AND_TONES.get(state, ("circle-dashed", ""))[0]


@register.inclusion_tag("components/state.html")
def state(value: Any, word: str = "") -> dict[str, str]:
    """Render a badge for the state of a job, task or node: icon, word and colour."""
    return {
        "value": str(value),
        "word": word or str(getattr(value, "label", "")) or str(value).replace("_", " "),
    }


@register.filter
def plain(message: Message | None) -> str:
    """Return the plain words of a message."""
    return "" if message is None else str(plain_message(message))


@register.inclusion_tag("components/reason.html")
def reason(message: Message) -> dict[str, Any]:
    """Render the plain words of a message; the DICOM detail is shown on a click."""
    words = plain_message(message)
    return {"plain": words, "details": [] if words == message else [message]}


@register.inclusion_tag("components/reason_items.html")
def reason_items(reasons: Iterable[MessageCount]) -> dict[str, Any]:
    """Render counted messages as list items. Those with the same plain words are one item."""
    groups: dict[str, tuple[int, list[Message]]] = {}
    for message, count in reasons:
        words = plain_message(message)
        total, details = groups.get(str(words), (0, []))
        more = [] if words == message else [message]
        groups[str(words)] = total + count, [*details, *more]
    return {"groups": [(words, *group) for words, group in groups.items()]}


@dataclass(frozen=True, slots=True)
class BarSegment:
    """One coloured segment of a bar, in thousandths of its length."""

    name: str
    start: int
    length: int


def _get_count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else getattr(counts, name, 0)
    return int(value or 0)


@register.inclusion_tag("components/progress.html")
def progress(counts: Any, live: bool = False, words: bool = True) -> dict[str, Any]:
    """Render a bar of delivered, stored, withheld, skipped and failed images.

    `counts` has these names as attributes or keys. If `expected` is None, the total is not known
    yet; with `live` the bar is then animated.
    """
    done = {name: _get_count(counts, name) for name in BAR_PARTS}
    expected = counts.get("expected") if isinstance(counts, dict) else counts.expected
    total = max(int(expected or 0), sum(done.values()))
    parts, at = [], 0
    for name, count in done.items():
        length = round(1000 * count / total) if total else 0
        # Small parts stay visible: a withheld image among thousands must be seen.
        length = max(length, 6) if count else 0
        length = min(length, 1000 - at)
        parts.append(BarSegment(name, at, length))
        at += length
    return {
        "parts": parts,
        "done": done,
        "sum": sum(done.values()),
        "expected": expected,
        "percent": min(100, int(100 * sum(done.values()) / total)) if total else 0,
        "is_unknown": live and expected is None,
        "words": words,
    }


@register.inclusion_tag("help/button.html", takes_context=True)
def help_button(context: template.Context, topic: str) -> dict[str, Any]:
    """Render a button that opens the topic as a dialog, or as a page without dialogs."""
    return {"topic": manual.get_topic(topic), "request": context.get("request")}


@register.inclusion_tag("components/nav_link.html", takes_context=True)
def nav_link(
    context: template.Context, address: str, word: str, symbol: str, but: str = ""
) -> dict[str, Any]:
    """Render a link of the top bar, marked if the current page is below it.

    Pages below one of the addresses in `but` do not count.
    """
    path = context["request"].path
    here = path == address if address == "/" else path.startswith(address)
    here = here and not any(path.startswith(other) for other in but.split())
    return {"address": address, "word": word, "symbol": symbol, "here": here}
