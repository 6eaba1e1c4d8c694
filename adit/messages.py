"""Messages in the database, and their translation by Django. Used by the models of all apps."""

from typing import Any

from django.db import models
from django.db.models.expressions import Combinable
from django.utils.translation import gettext, ngettext

from adit.message_templates import TEMPLATES
from adit_engine.messages import Message, register_templates

register_templates(TEMPLATES, gettext, ngettext)


class MessageField(models.JSONField):
    """Stores the code and the values of a message; NULL if there is none.

    Its text is made in the language of the reader: `{{ task.message }}` in a template, `str()`
    elsewhere.
    """

    # Read by the Django plugin of mypy.
    _pyi_private_set_type: Message | Combinable | None
    _pyi_private_get_type: Message | None

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"null": True, "blank": True, "editable": False, **options})

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Message | None:
        data = super().from_db_value(value, expression, connection)
        return None if data is None else Message.from_json(data)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        data = value.to_json() if isinstance(value, Message) else value
        return super().get_db_prep_value(data, connection, prepared)


MessageCount = tuple[Message, int]


def plain_message(message: Message) -> Message:
    """Return a message in words for users without knowledge of DICOM.

    These are the templates "plain.CODE" and "plain.CATEGORY". Messages that are values of the
    message are replaced, too. Without such a template the result equals the message.
    """
    for code in (f"plain.{message.code}", f"plain.{message.category}"):
        if code in TEMPLATES:
            return Message(code, **message.values)
    return Message(message.code, **{name: _plain(one) for name, one in message.values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return plain_message(value)
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


class MessageListField(models.JSONField):
    """Stores a list of messages, or of pairs of a message and a count."""

    # Read by the Django plugin of mypy.
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"default": list, "editable": False, **options})

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        data = super().from_db_value(value, expression, connection)
        return None if data is None else [_entry_from_json(entry) for entry in data]

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        data = [_entry_to_json(entry) for entry in value] if isinstance(value, list) else value
        return super().get_db_prep_value(data, connection, prepared)


def _entry_to_json(entry: Message | MessageCount) -> Any:
    if isinstance(entry, Message):
        return entry.to_json()
    message, count = entry
    return [message.to_json(), count]


def _entry_from_json(entry: Any) -> Message | MessageCount:
    if isinstance(entry, dict):
        return Message.from_json(entry)
    message, count = entry
    return Message.from_json(message), count
