"""Reader: opens an archive as Writer makes it, and gives its files back one by one, decrypted."""

import struct
from array import array
from collections.abc import Iterator
from typing import BinaryIO
from zlib import crc32

from adit_engine.errors import Malformed, WrongInput
from adit_engine.sevenzip.cipher import BLOCK, Key, Properties
from adit_engine.sevenzip.numbers import AES, COPY, SIGNATURE, START_BYTES, Cursor, Word

PIECE_BYTES = 256 * 1024


class Reader:
    """Reads the list of files at once, the files when asked. `file` stays the caller's.

    Raises WrongInput for a wrong password, Malformed for what is not whole, OSError.
    """

    def __init__(self, file: BinaryIO, password: str) -> None:
        self._file = file
        self._password = password
        self._keys: dict[tuple[bytes, int], Key] = {}
        self._names = b""
        """In UTF-16, each ended by two zeros."""
        self._buffer = bytearray(PIECE_BYTES + BLOCK)
        self._packed = array("Q")
        self._sizes = array("Q")
        self._crcs = array("I")
        self._vectors = bytearray()
        self._salted: list[tuple[bytes, int]] = []
        """Salt and power of each file; mostly one value, held once."""
        self._read_header()

    def files(self) -> Iterator[tuple[str, Iterator[memoryview]]]:
        """Name and content of each, in order; take the content before the next name.

        Its end raises Malformed where the checksum does not fit.
        """
        position = START_BYTES
        for index, name in enumerate(self._each_name()):
            yield name, self._content(index, position)
            position += self._packed[index]

    def _each_name(self) -> Iterator[str]:
        start = at = 0
        while (end := self._names.find(b"\0\0", at)) >= 0:
            at = end + 1
            if (end - start) % 2 == 0:
                yield self._names[start:end].decode("utf-16-le", "replace")
                start = at = end + 2

    def _content(self, index: int, position: int) -> Iterator[memoryview]:
        size, crc = self._sizes[index], 0
        secret = self._secret(index)
        for piece in self._decrypted(secret, position, size):
            crc = crc32(piece, crc)
            yield piece
        if crc != self._crcs[index]:
            raise Malformed("A file of the archive is damaged: its checksum does not fit.")

    def _decrypted(self, secret: Properties, position: int, size: int) -> Iterator[memoryview]:
        """Pieces lie in one buffer: each is valid until the next."""
        cipher = self._key(secret).decryptor(secret.vector)
        self._file.seek(position)
        left = size
        while left:
            piece = self._file.read(min(PIECE_BYTES, left + -left % BLOCK))
            if not piece or len(piece) % BLOCK:
                raise Malformed("The archive ends too early.")
            done = cipher.update_into(piece, self._buffer)
            taken = min(done, left)
            yield memoryview(self._buffer)[:taken]
            left -= taken

    def _secret(self, index: int) -> Properties:
        salt, power = self._salted[index]
        return Properties(power, salt, bytes(self._vectors[index * BLOCK : (index + 1) * BLOCK]))

    def _key(self, secret: Properties) -> Key:
        name = (secret.salt, secret.power)
        if name not in self._keys:
            self._keys[name] = Key.of(self._password, *name)
        return self._keys[name]

    # The list of files -------------------------------------------------------------------------

    def _read_header(self) -> None:
        start = self._file.read(START_BYTES)
        if len(start) < START_BYTES or start[:6] != SIGNATURE[:6]:
            raise Malformed("This is not a 7-Zip archive, or it was never finished.")
        if struct.unpack("<I", start[8:12])[0] != crc32(start[12:]):
            raise Malformed("The archive's first bytes are damaged.")
        offset, size, crc = struct.unpack("<QQI", start[12:])
        self._file.seek(START_BYTES + offset)
        outer = self._file.read(size)
        if len(outer) != size or crc32(outer) != crc:
            raise Malformed("The archive's end is damaged or missing.")
        cursor = Cursor(outer)
        cursor.expect(Word.ENCODED_HEADER)
        position = self._read_streams(cursor)
        cursor.expect(Word.END)
        if len(self._sizes) != 1:
            raise Malformed("The archive's list of files is not where it should be.")
        secret, length, check = self._secret(0), self._sizes.pop(), self._crcs.pop()
        self._packed.pop()
        self._salted.pop()
        self._vectors.clear()
        header = bytearray()
        for piece in self._decrypted(secret, START_BYTES + position, length):
            header += piece
        if crc32(header) != check:
            raise WrongInput("This password does not open the archive.")
        self._read_list(Cursor(header))

    def _read_list(self, cursor: Cursor) -> None:
        cursor.expect(Word.HEADER)
        cursor.expect(Word.MAIN_STREAMS)
        if self._read_streams(cursor):
            raise Malformed("The archive's files do not begin where they should.")
        cursor.expect(Word.SUBSTREAMS)
        cursor.expect(Word.END)
        cursor.expect(Word.END)
        cursor.expect(Word.FILES)
        count = cursor.number()
        cursor.expect(Word.NAMES)
        self._names = bytes(cursor.take(cursor.number())[1:])
        cursor.expect(Word.END)
        cursor.expect(Word.END)
        if not count == sum(1 for _ in self._each_name()) == len(self._sizes):
            raise Malformed("The archive has more names than files, or fewer.")

    def _read_streams(self, cursor: Cursor) -> int:
        """Sizes, checksums and vectors; where the first stream begins after the first bytes."""
        cursor.expect(Word.PACK_INFO)
        position, count = cursor.number(), cursor.number()
        cursor.expect(Word.SIZE)
        self._packed.extend(cursor.number() for _ in range(count))
        cursor.expect(Word.END)
        cursor.expect(Word.UNPACK_INFO)
        cursor.expect(Word.FOLDER)
        if cursor.number() != count or cursor.byte():
            raise Malformed("The archive's files are joined in a way that ADIT does not make.")
        for _ in range(count):
            secret = _read_folder(cursor)
            name = (secret.salt, secret.power)
            is_same = self._salted and self._salted[-1] == name
            self._salted.append(self._salted[-1] if is_same else name)
            self._vectors += secret.vector.ljust(BLOCK, b"\0")
        cursor.expect(Word.UNPACK_SIZE)
        for _ in range(count):
            size = cursor.number()
            if cursor.number() != size:
                raise Malformed("The archive is compressed, which ADIT does not do.")
            self._sizes.append(size)
        cursor.expect(Word.CRC)
        if cursor.byte() != 1:
            raise Malformed("A file of the archive has no checksum.")
        self._crcs.extend(cursor.crc() for _ in range(count))
        cursor.expect(Word.END)
        return position


def _read_folder(cursor: Cursor) -> Properties:
    """AES, then Copy, and nothing else."""
    if cursor.number() != 2 or bytes(cursor.take(5)) != bytes((0x20 | len(AES),)) + AES:
        raise Malformed("The archive is not encrypted as ADIT does it.")
    properties = Properties.of(bytes(cursor.take(cursor.number())))
    if bytes(cursor.take(2)) != bytes((len(COPY),)) + COPY or bytes(cursor.take(2)) != b"\1\0":
        raise Malformed("The archive is compressed, which ADIT does not do.")
    return properties
