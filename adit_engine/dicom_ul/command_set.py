"""Command: the short message before the data: what is wanted, or how it went (PS3.7 Annex E)."""

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct

from adit_engine.elements import Buffer
from adit_engine.errors import Malformed

Value = int | str


class Field(IntEnum):
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
    """The values of Command Field; an answer has the highest bit set beside."""

    STORE = 0x0001
    GET = 0x0010
    FIND = 0x0020
    MOVE = 0x0021
    ECHO = 0x0030
    EVENT_REPORT = 0x0100
    ACTION = 0x0130
    CANCEL = 0x0FFF


ANSWER = 0x8000
NO_DATA = 0x0101
WITH_DATA = 0x0001

_UIDS = frozenset(
    {Field.CLASS_UID, Field.INSTANCE_UID, Field.REQUESTED_CLASS, Field.REQUESTED_INSTANCE}
)
_WORDS = frozenset({Field.DESTINATION, Field.ORIGINATOR})
_NUMBERS = frozenset(Field) - _UIDS - _WORDS - {Field.OFFENDING, Field.COMMENT}
_KNOWN = {int(field): field for field in Field}
_HEAD = Struct("<HHI")
_SHORT = Struct("<H")


class Command:
    """One command set, by field. What a peer left out is None, so that nobody takes it for 0."""

    def __init__(self, values: Mapping[Field, Value]) -> None:
        self._values = values

    def number(self, field: Field) -> int | None:
        value = self._values.get(field)
        return value if isinstance(value, int) else None

    def text(self, field: Field) -> str:
        value = self._values.get(field)
        return value if isinstance(value, str) else ""

    @property
    def status(self) -> int | None:
        return self.number(Field.STATUS)

    @property
    def operation(self) -> int | None:
        return self.number(Field.OPERATION)

    @property
    def message_id(self) -> int:
        return self.number(Field.MESSAGE_ID) or 0

    @property
    def has_data(self) -> bool:
        """PS3.7 E.1: any value but 0101 means that a data set follows."""
        return self.number(Field.DATA_SET) not in (None, NO_DATA)

    def is_answer(self, operation: Operation, message_id: int) -> bool:
        return self.operation == operation | ANSWER and self.number(Field.ANSWERS_TO) == message_id

    def encode(self) -> bytes:
        """Implicit VR little endian, preceded by its group length (PS3.7 6.3.1)."""
        body = b"".join(_element(field, self._values[field]) for field in sorted(self._values))
        return _HEAD.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body

    @classmethod
    def decode(cls, data: Buffer) -> "Command":
        """Reads the known fields and steps over the others. Raises Malformed."""
        values: dict[Field, Value] = {}
        position, size = 0, len(data)
        while position < size:
            if position + 8 > size:
                raise Malformed(f"The command ends inside an element at byte {position}.")
            group, number, length = _HEAD.unpack_from(data, position)
            start, position = position + 8, position + 8 + length
            if group != 0 and Field.OPERATION in values:
                # Orthanc 1.12.7 writes the list of failed images here, where no data set belongs.
                break
            if group != 0 or position > size:
                raise Malformed(f"The command is broken at byte {start - 8}.")
            field = _KNOWN.get(number)
            if field in _NUMBERS and length == 2:
                (values[field],) = _SHORT.unpack_from(data, start)
            elif field is not None and field not in _NUMBERS:
                values[field] = bytes(data[start:position]).decode("ascii", "replace").strip(" \0")
        return cls(values)


def request(
    operation: Operation,
    message_id: int,
    class_uid: str,
    *,
    data: bool,
    instance_uid: str = "",
    destination: str = "",
) -> Command:
    """A request of medium priority. `destination` is the AE title to which a C-MOVE sends."""
    values: dict[Field, Value] = {
        Field.CLASS_UID: class_uid,
        Field.OPERATION: operation,
        Field.MESSAGE_ID: message_id,
        Field.DATA_SET: WITH_DATA if data else NO_DATA,
    }
    if operation is not Operation.ECHO:
        values[Field.PRIORITY] = 0
    if instance_uid:
        values[Field.INSTANCE_UID] = instance_uid
    if destination:
        values[Field.DESTINATION] = destination
    return Command(values)


def action(message_id: int, class_uid: str, instance_uid: str, action_type: int) -> Command:
    """An N-ACTION request; its data follow (PS3.7 10.3.4)."""
    return Command(
        {
            Field.REQUESTED_CLASS: class_uid,
            Field.OPERATION: Operation.ACTION,
            Field.MESSAGE_ID: message_id,
            Field.DATA_SET: WITH_DATA,
            Field.REQUESTED_INSTANCE: instance_uid,
            Field.ACTION_TYPE: action_type,
        }
    )


def cancel(message_id: int) -> Command:
    """Asks for the end of the operation that this message began (PS3.7 9.3.2.3)."""
    return Command(
        {
            Field.OPERATION: Operation.CANCEL,
            Field.ANSWERS_TO: message_id,
            Field.DATA_SET: NO_DATA,
        }
    )


def answer(to: Command, status: int) -> Command:
    """The answer to a C-STORE, C-ECHO or N-EVENT-REPORT request of the peer."""
    values: dict[Field, Value] = {
        Field.CLASS_UID: to.text(Field.CLASS_UID),
        Field.OPERATION: (to.operation or 0) | ANSWER,
        Field.ANSWERS_TO: to.message_id,
        Field.DATA_SET: NO_DATA,
        Field.STATUS: status,
    }
    if to.operation in (Operation.STORE, Operation.EVENT_REPORT):
        values[Field.INSTANCE_UID] = to.text(Field.INSTANCE_UID)
    event = to.number(Field.EVENT_TYPE)
    if to.operation == Operation.EVENT_REPORT and event is not None:
        values[Field.EVENT_TYPE] = event
    return Command(values)


def _element(field: Field, value: Value) -> bytes:
    if isinstance(value, int):
        raw = _SHORT.pack(value)
    else:
        raw = str(value).encode("ascii", "replace")
        if len(raw) % 2:
            raw += b"\0" if field in _UIDS else b" "
    return _HEAD.pack(0, field, len(raw)) + raw
