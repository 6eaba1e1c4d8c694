"""Command sets: the command part of DIMSE messages (PS3.7 Annex E).

Used by everything that sends or receives DIMSE messages.
"""

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct

from adit_engine.elements import Buffer
from adit_engine.errors import Malformed

FieldValue = int | str


class CommandField(IntEnum):
    """The element numbers of group 0000 that are read or written here (PS3.7 E.1)."""

    CLASS_UID = 0x0002
    REQUESTED_CLASS = 0x0003
    OPERATION = 0x0100
    MESSAGE_ID = 0x0110
    ANSWERS_TO = 0x0120
    DESTINATION = 0x0600
    PRIORITY = 0x0700
    DATA_SET = 0x0800
    STATUS = 0x0900
    OFFENDING = 0x0901
    COMMENT = 0x0902
    INSTANCE_UID = 0x1000
    REQUESTED_INSTANCE = 0x1001
    EVENT_TYPE = 0x1002
    ACTION_TYPE = 0x1008
    REMAINING = 0x1020
    COMPLETED = 0x1021
    FAILED = 0x1022
    WARNED = 0x1023
    ORIGINATOR = 0x1030
    ORIGINATOR_ID = 0x1031


class Operation(IntEnum):
    """The values of Command Field. A response has the highest bit set in addition."""

    STORE = 0x0001
    GET = 0x0010
    FIND = 0x0020
    MOVE = 0x0021
    ECHO = 0x0030
    EVENT_REPORT = 0x0100
    ACTION = 0x0130
    CANCEL = 0x0FFF


RESPONSE_BIT = 0x8000
NO_DATA = 0x0101
WITH_DATA = 0x0001

_UID_FIELDS = frozenset(
    {
        CommandField.CLASS_UID,
        CommandField.INSTANCE_UID,
        CommandField.REQUESTED_CLASS,
        CommandField.REQUESTED_INSTANCE,
    }
)
_TEXT_FIELDS = frozenset({CommandField.DESTINATION, CommandField.ORIGINATOR})
_NUMBER_FIELDS = (
    frozenset(CommandField)
    - _UID_FIELDS
    - _TEXT_FIELDS
    - {CommandField.OFFENDING, CommandField.COMMENT}
)
_FIELDS_BY_NUMBER = {int(field): field for field in CommandField}
_HEAD = Struct("<HHI")
_SHORT = Struct("<H")


class CommandSet:
    """One command set, by field. A field that the peer omitted is None, not 0."""

    def __init__(self, values: Mapping[CommandField, FieldValue]) -> None:
        self._values = values

    def number(self, field: CommandField) -> int | None:
        value = self._values.get(field)
        return value if isinstance(value, int) else None

    def text(self, field: CommandField) -> str:
        value = self._values.get(field)
        return value if isinstance(value, str) else ""

    @property
    def status(self) -> int | None:
        return self.number(CommandField.STATUS)

    @property
    def operation(self) -> int | None:
        return self.number(CommandField.OPERATION)

    @property
    def message_id(self) -> int:
        return self.number(CommandField.MESSAGE_ID) or 0

    @property
    def has_data(self) -> bool:
        """Whether a data set follows: any value but 0101H (PS3.7 E.1)."""
        return self.number(CommandField.DATA_SET) not in (None, NO_DATA)

    def is_response_to(self, operation: Operation, message_id: int) -> bool:
        return (
            self.operation == operation | RESPONSE_BIT
            and self.number(CommandField.ANSWERS_TO) == message_id
        )

    def encode(self) -> bytes:
        """Encode as implicit VR little endian, preceded by the group length (PS3.7 6.3.1)."""
        body = b"".join(_encode_field(field, self._values[field]) for field in sorted(self._values))
        return _HEAD.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body

    @classmethod
    def decode(cls, data: Buffer) -> "CommandSet":
        """Read the known fields and skip the others. Raises Malformed."""
        values: dict[CommandField, FieldValue] = {}
        position, size = 0, len(data)
        while position < size:
            if position + 8 > size:
                raise Malformed("command-set.truncated", offset=position)
            group, number, length = _HEAD.unpack_from(data, position)
            start, position = position + 8, position + 8 + length
            if group != 0 and CommandField.OPERATION in values:
                # Orthanc 1.12.7 writes the list of failed images here, where no data set belongs.
                break
            if group != 0 or position > size:
                raise Malformed("command-set.invalid", offset=start - 8)
            field = _FIELDS_BY_NUMBER.get(number)
            if field in _NUMBER_FIELDS and length == 2:
                (values[field],) = _SHORT.unpack_from(data, start)
            elif field is not None and field not in _NUMBER_FIELDS:
                values[field] = bytes(data[start:position]).decode("ascii", "replace").strip(" \0")
        return cls(values)


_MEDIUM, _LOW = 0, 2


def make_request(
    operation: Operation,
    message_id: int,
    class_uid: str,
    *,
    data: bool,
    instance_uid: str = "",
    destination: str = "",
) -> CommandSet:
    """Return a request; of low priority if it moves images, so that the peer serves others first.

    `destination` is the AE title to which a C-MOVE sends.
    """
    values: dict[CommandField, FieldValue] = {
        CommandField.CLASS_UID: class_uid,
        CommandField.OPERATION: operation,
        CommandField.MESSAGE_ID: message_id,
        CommandField.DATA_SET: WITH_DATA if data else NO_DATA,
    }
    if operation is not Operation.ECHO:
        values[CommandField.PRIORITY] = _MEDIUM if operation is Operation.FIND else _LOW
    if instance_uid:
        values[CommandField.INSTANCE_UID] = instance_uid
    if destination:
        values[CommandField.DESTINATION] = destination
    return CommandSet(values)


def make_action_request(
    message_id: int, class_uid: str, instance_uid: str, action_type: int
) -> CommandSet:
    """Return an N-ACTION request whose data set follows (PS3.7 10.3.4)."""
    return CommandSet(
        {
            CommandField.REQUESTED_CLASS: class_uid,
            CommandField.OPERATION: Operation.ACTION,
            CommandField.MESSAGE_ID: message_id,
            CommandField.DATA_SET: WITH_DATA,
            CommandField.REQUESTED_INSTANCE: instance_uid,
            CommandField.ACTION_TYPE: action_type,
        }
    )


def make_cancel_request(message_id: int) -> CommandSet:
    """Return a C-CANCEL request for the operation of this message ID (PS3.7 9.3.2.3)."""
    return CommandSet(
        {
            CommandField.OPERATION: Operation.CANCEL,
            CommandField.ANSWERS_TO: message_id,
            CommandField.DATA_SET: NO_DATA,
        }
    )


def make_response(to: CommandSet, status: int) -> CommandSet:
    """Return the response to a C-STORE, C-ECHO or N-EVENT-REPORT request of the peer."""
    values: dict[CommandField, FieldValue] = {
        CommandField.CLASS_UID: to.text(CommandField.CLASS_UID),
        CommandField.OPERATION: (to.operation or 0) | RESPONSE_BIT,
        CommandField.ANSWERS_TO: to.message_id,
        CommandField.DATA_SET: NO_DATA,
        CommandField.STATUS: status,
    }
    if to.operation in (Operation.STORE, Operation.EVENT_REPORT):
        values[CommandField.INSTANCE_UID] = to.text(CommandField.INSTANCE_UID)
    event = to.number(CommandField.EVENT_TYPE)
    if to.operation == Operation.EVENT_REPORT and event is not None:
        values[CommandField.EVENT_TYPE] = event
    return CommandSet(values)


def _encode_field(field: CommandField, value: FieldValue) -> bytes:
    if isinstance(value, int):
        raw = _SHORT.pack(value)
    else:
        raw = str(value).encode("ascii", "replace")
        if len(raw) % 2:
            raw += b"\0" if field in _UID_FIELDS else b" "
    return _HEAD.pack(0, field, len(raw)) + raw
