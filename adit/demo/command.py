"""Command: the short message that says what is wanted, or how it went (PS3.7 Annex E)."""

from collections.abc import Mapping
from struct import Struct, unpack
from typing import Final

AFFECTED_CLASS: Final = 0x00000002
FIELD: Final = 0x00000100
MESSAGE_ID: Final = 0x00000110
RESPONDED_TO: Final = 0x00000120
DESTINATION: Final = 0x00000600
PRIORITY: Final = 0x00000700
DATA_SET: Final = 0x00000800
STATUS: Final = 0x00000900
COMMENT: Final = 0x00000902
AFFECTED_INSTANCE: Final = 0x00001000
REMAINING: Final = 0x00001020
COMPLETED: Final = 0x00001021
FAILED: Final = 0x00001022
WARNED: Final = 0x00001023
ORIGINATOR: Final = 0x00001030
ORIGINATOR_MESSAGE_ID: Final = 0x00001031

STORE: Final = 0x0001
GET: Final = 0x0010
FIND: Final = 0x0020
MOVE: Final = 0x0021
ECHO: Final = 0x0030
CANCEL: Final = 0x0FFF
RESPONSE: Final = 0x8000
NO_DATA_SET: Final = 0x0101

_NUMBERS = frozenset(
    {
        FIELD,
        MESSAGE_ID,
        RESPONDED_TO,
        PRIORITY,
        DATA_SET,
        STATUS,
        REMAINING,
        COMPLETED,
        FAILED,
        WARNED,
        ORIGINATOR_MESSAGE_ID,
    }
)
_UIDS = frozenset({AFFECTED_CLASS, AFFECTED_INSTANCE})
_HEAD = Struct("<HHI")
_NUMBER = Struct("<HHIH")

Command = Mapping[int, int | str]


def encode(command: Command) -> bytes:
    """Implicit VR little endian, with the group length that PS3.7 6.3.1 asks for."""
    body = b"".join(_element(tag, command[tag]) for tag in sorted(command))
    return _HEAD.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def decode(data: bytes | bytearray) -> dict[int, int | str]:
    """Raises ValueError or struct.error for bytes that are no command set."""
    command: dict[int, int | str] = {}
    position = 0
    while position < len(data):
        group, number, length = _HEAD.unpack_from(data, position)
        position += 8
        raw = bytes(data[position : position + length])
        position += length
        tag = (group << 16) | number
        if tag in _NUMBERS:
            (command[tag],) = unpack("<H", raw)
        elif tag != 0:
            command[tag] = raw.decode("latin-1").strip(" \0")
    return command


def number(command: Command, tag: int) -> int:
    return int(command.get(tag, 0))


def text(command: Command, tag: int) -> str:
    return str(command.get(tag, ""))


def _element(tag: int, value: int | str) -> bytes:
    if isinstance(value, int):
        return _NUMBER.pack(tag >> 16, tag & 0xFFFF, 2, value)
    raw = value.encode("ascii", "replace")
    if len(raw) % 2:
        raw += b"\0" if tag in _UIDS else b" "
    return _HEAD.pack(tag >> 16, tag & 0xFFFF, len(raw)) + raw
