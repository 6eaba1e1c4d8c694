"""Messages as data: a code, values, and a template that makes the sentence.

Errors, outcomes, findings and waits carry a `Message`, and the project stores its code and values.
The sentence is made by `render` where it is shown. All codes: docs/messages.md.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from adit_engine.message_templates import TEMPLATES, Plural, Template

MessageValue = "str | int | float | Message | tuple[MessageValue, ...]"

JOINED = "joined"
"""Code of a message that consists of other messages, its value `parts`."""


@dataclass(frozen=True, init=False)
class Message:
    """A code and the values for its template. Equal if code and values are equal.

    A value may be a message itself, or a tuple of values, shown with commas. Values never identify
    a patient. The part of the code before the first dot is its category, by which messages are
    counted: "pixel-stream.undecodable" counts as "pixel-stream".
    """

    code: str
    values: Mapping[str, Any]

    def __init__(self, code: str, /, **values: Any) -> None:
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "values", values)

    def __str__(self) -> str:
        return render(self)

    def __hash__(self) -> int:
        return hash((self.code, frozenset(self.values.items())))

    @property
    def category(self) -> str:
        return self.code.partition(".")[0]

    def to_json(self) -> dict[str, Any]:
        """Return {"code": ..., "values": {...}}; a message as a value is returned the same way."""
        values = {name: _value_to_json(value) for name, value in self.values.items()}
        return {"code": self.code, "values": values}

    def to_report(self) -> dict[str, Any]:
        """Return to_json() and the sentence as "text", for reports and other programs."""
        return {**self.to_json(), "text": str(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = {name: _value_from_json(value) for name, value in data["values"].items()}
        return cls(data["code"], **values)


def join_messages(messages: Iterable[Message]) -> Message | None:
    """Combine several messages into one that shows their sentences in this order."""
    parts = tuple(messages)
    if len(parts) > 1:
        return Message(JOINED, parts=parts)
    return parts[0] if parts else None


def _value_to_json(value: Any) -> Any:
    if isinstance(value, Message):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_value_to_json(one) for one in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _value_from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return Message.from_json(value)
    if isinstance(value, list):
        return tuple(_value_from_json(one) for one in value)
    return value


class _Translation(NamedTuple):
    gettext: Callable[[str], str]
    ngettext: Callable[[str, str, int], str]


def _choose_english(singular: str, plural: str, number: int) -> str:
    return singular if number == 1 else plural


_translation = _Translation(str, _choose_english)
_templates: dict[str, Template] = dict(TEMPLATES)


def register_templates(
    templates: Mapping[str, Template],
    gettext: Callable[[str], str],
    ngettext: Callable[[str, str, int], str],
) -> None:
    """Add templates, and translate all templates with these functions from now on."""
    global _translation
    _templates.update(templates)
    _translation = _Translation(gettext, ngettext)


def render(message: Message) -> str:
    """Return the sentence of a message in the current language.

    Never fails: an unknown code, such as one of another release, is shown as it is.
    """
    if message.code == JOINED:
        return " ".join(render(part) for part in message.values.get("parts", ()))
    template = _templates.get(message.code)
    if template is None:
        values = _show(tuple(message.values.values()))
        return f"{message.code} ({values})" if values else message.code
    if isinstance(template, Plural):
        number = int(message.values.get(template.count, 0))
        text = _translation.ngettext(template.singular, template.plural, number)
    else:
        text = _translation.gettext(template)
    return text.format_map(_ShownValues(message.values))


class _ShownValues(dict[str, str]):
    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__({name: _show(value) for name, value in values.items()})

    def __missing__(self, name: str) -> str:
        return "?"


def _show(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_show(one) for one in value)
    return str(value)
