"""Reporting: an archive's report of what it keeps, read and answered (PS3.7 10.1.1, PS3.4 J.3.3)."""

from collections.abc import Callable

from adit_engine.commitment import (
    ALL_KEPT,
    COMMITMENT,
    MOST_REPORT_BYTES,
    SOME_FAILED,
    Receipt,
    Report,
)
from adit_engine.errors import Malformed
from adit_engine.instance import EXPLICIT_LE
from adit_engine.nodes import statuses
from adit_engine.nodes.body import Body
from adit_engine.nodes.command import Command, Field, Operation, answer
from adit_engine.nodes.conversation import Conversation

_STATUSES = {
    Receipt.TAKEN: statuses.SUCCESS,
    Receipt.UNKNOWN: statuses.INVALID_VALUE,
    Receipt.STRANGER: statuses.NOT_AUTHORISED,
    Receipt.NOT_NOW: statuses.PROCESSING_FAILURE,
}


def is_report(command: Command) -> bool:
    return command.operation == Operation.EVENT_REPORT and command.has_data


def take_report(
    conversation: Conversation,
    context_id: int,
    command: Command,
    take: Callable[[Report], Receipt],
) -> None:
    """Reads the data of a report whose command has come, hands it to `take`, and answers."""
    body = Body(MOST_REPORT_BYTES)
    try:
        conversation.receive_data(context_id, body)
        data = body.whole()
    except Malformed as error:
        raise conversation.fault("sent a report that is too large") from error
    finally:
        body.drop()
    class_uid, syntax = conversation.agreement.contexts[context_id]
    if class_uid != COMMITMENT:
        status = statuses.NO_SUCH_CLASS
    elif command.number(Field.EVENT_TYPE) not in (ALL_KEPT, SOME_FAILED):
        status = statuses.NO_SUCH_EVENT
    else:
        try:
            status = _STATUSES[take(Report.decode(data, syntax == EXPLICIT_LE))]
        except Malformed:
            status = statuses.INVALID_VALUE
    conversation.send(context_id, answer(command, status))
