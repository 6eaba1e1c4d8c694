"""Accept texts from packages that do not return messages yet. Removed when all of them do."""

import adit.messages  # noqa: F401 (registers the templates of the project)
from adit_engine.messages import Message


def as_message(told: object) -> Message | None:
    """Return a message unchanged, a text as a message, and None for an empty text."""
    if isinstance(told, Message):
        return told
    return Message("text", text=str(told)) if told else None
