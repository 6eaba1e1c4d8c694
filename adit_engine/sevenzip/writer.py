"""Writer: an encrypted 7-Zip archive, written from its first byte to its last in flat memory."""

import os
import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import BinaryIO
from zlib import crc32

from adit_engine.elements import Buffer
from adit_engine.sevenzip.cipher import BLOCK, Key
from adit_engine.sevenzip.numbers import AES, COPY, SIGNATURE, START_BYTES, Word, number

PIECE_BYTES = 256 * 1024


class Writer:
    """Call `add` for each file, then `close`. Until then the archive has no signature: a file that
    was cut off is never taken for an archive.
    """

    def __init__(self, file: BinaryIO, key: Key) -> None:
        self._file = file
        self._key = key
        self._names = bytearray()
        self._sizes = array("Q")
        self._crcs = array("I")
        self._vectors = bytearray()
        self._buffer = bytearray(PIECE_BYTES + BLOCK)
        file.write(bytes(START_BYTES))
        self.size_bytes = 0
        """Of the encrypted files so far."""

    @property
    def count(self) -> int:
        return len(self._sizes)

    def add(self, name: str, parts: Iterable[Buffer]) -> None:
        """One file, streamed. Folders in its name are divided by /. Raises OSError."""
        vector = os.urandom(BLOCK)
        size, crc = self._encrypt(parts, vector)
        self._names += name.encode("utf-16-le") + b"\0\0"
        self._sizes.append(size)
        self._crcs.append(crc)
        self._vectors += vector
        self.size_bytes += _padded(size)

    def close(self) -> None:
        """Writes the list of files, then the signature. Raises OSError."""
        header, vector = self._header(), os.urandom(BLOCK)
        size, crc = self._encrypt(_pieces(header), vector)
        outer = b"".join(
            (
                number(Word.ENCODED_HEADER),
                number(Word.PACK_INFO),
                number(self.size_bytes),
                number(1),
                number(Word.SIZE),
                number(_padded(size)),
                number(Word.END),
                number(Word.UNPACK_INFO),
                number(Word.FOLDER),
                number(1),
                b"\0",
                self._folder(vector),
                number(Word.UNPACK_SIZE),
                number(size) * 2,
                number(Word.CRC),
                b"\1",
                struct.pack("<I", crc),
                number(Word.END),
                number(Word.END),
            )
        )
        self._file.write(outer)
        start = struct.pack("<QQI", self.size_bytes + _padded(size), len(outer), crc32(outer))
        self._file.seek(0)
        self._file.write(SIGNATURE + struct.pack("<I", crc32(start)) + start)

    def _encrypt(self, parts: Iterable[Buffer], vector: bytes) -> tuple[int, int]:
        """Size and CRC of what went in; the last block is filled with zeros, as 7-Zip does."""
        cipher, buffer, size, crc = self._key.encryptor(vector), self._buffer, 0, 0
        for part in parts:
            for piece in _pieces(part):
                crc = crc32(piece, crc)
                size += len(piece)
                done = cipher.update_into(piece, buffer)
                self._file.write(memoryview(buffer)[:done])
        done = cipher.update_into(bytes(-size % BLOCK), buffer)
        self._file.write(memoryview(buffer)[:done])
        return size, crc

    def _header(self) -> bytearray:
        """The list of files; a few hundred bytes for each."""
        header = bytearray((Word.HEADER, Word.MAIN_STREAMS, Word.PACK_INFO))
        header += number(0) + number(self.count) + number(Word.SIZE)
        for size in self._sizes:
            header += number(_padded(size))
        header += bytes((Word.END, Word.UNPACK_INFO, Word.FOLDER)) + number(self.count) + b"\0"
        for index in range(self.count):
            header += self._folder(bytes(self._vectors[index * BLOCK : (index + 1) * BLOCK]))
        header += number(Word.UNPACK_SIZE)
        for size in self._sizes:
            header += number(size) * 2
        header += number(Word.CRC) + b"\1" + struct.pack(f"<{self.count}I", *self._crcs)
        header += bytes((Word.END, Word.SUBSTREAMS, Word.END, Word.END, Word.FILES))
        header += number(self.count) + number(Word.NAMES) + number(len(self._names) + 1) + b"\0"
        header += self._names
        header += bytes((Word.END, Word.END))
        return header

    def _folder(self, vector: bytes) -> bytes:
        """Two coders: AES (0), whose output goes into Copy (1)."""
        properties = self._key.properties(vector)
        aes = bytes((0x20 | len(AES),)) + AES + number(len(properties)) + properties
        copy = bytes((len(COPY),)) + COPY
        return number(2) + aes + copy + number(1) + number(0)


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _pieces(part: Buffer) -> Iterator[memoryview]:
    view = memoryview(part).cast("B")
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
