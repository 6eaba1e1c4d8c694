"""Numbers: the lengths and counts of a 7-Zip header, and the words that stand between them."""

import struct
from enum import IntEnum

from adit_engine.elements import Buffer
from adit_engine.errors import Malformed

SIGNATURE = b"7z\xbc\xaf\x27\x1c\x00\x04"
START_BYTES = 32
AES = b"\x06\xf1\x07\x01"
COPY = b"\x00"


class Word(IntEnum):
    """What follows in a header."""

    END = 0x00
    HEADER = 0x01
    MAIN_STREAMS = 0x04
    FILES = 0x05
    PACK_INFO = 0x06
    UNPACK_INFO = 0x07
    SUBSTREAMS = 0x08
    SIZE = 0x09
    CRC = 0x0A
    FOLDER = 0x0B
    UNPACK_SIZE = 0x0C
    NAMES = 0x11
    ENCODED_HEADER = 0x17


def number(value: int) -> bytes:
    """As few bytes as it takes: the first byte's leading ones say how many follow."""
    for extra in range(8):
        if value < 1 << (7 * (extra + 1)):
            first = (0xFF00 >> extra & 0xFF) | (value >> (8 * extra))
            return bytes((first,)) + (value & ((1 << (8 * extra)) - 1)).to_bytes(extra, "little")
    return b"\xff" + value.to_bytes(8, "little")


class Cursor:
    """Reads a header from its start to its end. Raises Malformed."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self._data) - self._at:
            raise Malformed("The archive's list of files ends too early.")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        first, mask, value = self.byte(), 0x80, 0
        for extra in range(8):
            if not first & mask:
                return value | (first & (mask - 1)) << (8 * extra)
            value |= self.byte() << (8 * extra)
            mask >>= 1
        return value

    def crc(self) -> int:
        (value,) = struct.unpack("<I", self.take(4))
        return int(value)

    def expect(self, word: Word) -> None:
        found = self.byte()
        if found != word:
            raise Malformed(f"The archive's list of files has {found} where {word} should stand.")
