"""Write encrypted 7-Zip files and read them back with py7zr, as streams and in constant memory.

Members are stored uncompressed in one solid block, encrypted with AES-256, as is the list of their
names. py7zr is slow to import: import this module only where an archive is built. Used by
`sevenzip_builder`.
"""

import io
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import PosixPath
from stat import S_IFREG
from types import SimpleNamespace
from typing import Any, BinaryIO
from zlib import crc32

import py7zr.compressor
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from py7zr import (
    FILTER_COPY,
    FILTER_CRYPTO_AES256_SHA256,
    PasswordRequired,
    Py7zIO,
    SevenZipFile,
    WriterFactory,
)
from py7zr.exceptions import ArchiveError

from adit_engine.elements import Buffer
from adit_engine.errors import InvalidInput, Malformed

_FILTERS = [{"id": FILTER_COPY}, {"id": FILTER_CRYPTO_AES256_SHA256}]
_MEMBER_MODE = S_IFREG | 0o644
_READ_ERRORS = (
    *(ArchiveError, PasswordRequired),
    *(AssertionError, EOFError, LookupError, OverflowError, TypeError, ValueError),
)
"""What py7zr raises for a wrong password or damaged bytes."""


class _OpenSslAes:
    """AES for py7zr in place of pycryptodomex, which takes 1.8 to 3 times as long."""

    MODE_CBC = "CBC"

    @staticmethod
    def new(key: bytes, mode: str, iv: bytes) -> SimpleNamespace:
        cipher = Cipher(AES256(key), CBC(iv))
        encryptor, decryptor = cipher.encryptor(), cipher.decryptor()
        return SimpleNamespace(encrypt=encryptor.update, decrypt=decryptor.update)


py7zr.compressor.AES = _OpenSslAes  # type: ignore[attr-defined,assignment]


class Checksum:
    """SHA-256 over the names and contents of all members, in archive order."""

    def __init__(self) -> None:
        self._hash = sha256()

    def add(self, name: str, content_sha256: bytes) -> None:
        self._hash.update(name.encode() + b"\0" + content_sha256)

    def digest(self) -> bytes:
        return self._hash.digest()


class SevenZipWriter:
    """Call `add` for each member, then `close`. Without `close` the file is not an archive.

    `file` is opened for reading and writing, and the caller closes it. Raises OSError.
    """

    def __init__(self, file: BinaryIO, password: str) -> None:
        self._archive = _Archive(
            file, "w", filters=_FILTERS, password=password, header_encryption=True
        )
        self._source = _HashedSource()
        self.checksum = Checksum()

    def add(self, name: str, pieces: Iterable[Buffer]) -> bytes:
        """Stream one member into the archive and return the SHA-256 of its content."""
        self._source.begin(pieces)
        self._archive.write(self._source, name)
        digest = self._source.sha256.digest()
        self.checksum.add(name, digest)
        return digest

    def close(self) -> None:
        """Write the list of members and the signature."""
        self._archive.close()


def read_checksum(file: BinaryIO, password: str, received: Callable[[int], None]) -> bytes:
    """Decrypt all members and return the checksum over their names and contents.

    `received` is called with the number of bytes of each piece; what it raises ends the reading.
    Raises InvalidInput, Malformed, OSError.
    """
    try:
        archive = SevenZipFile(file, password=password)
    except _READ_ERRORS:
        raise InvalidInput("archive.cannot-open") from None
    sink = _HashingSink(archive.getnames(), received)
    try:
        # Nothing is extracted to the path. py7zr checks names against it; a member written by
        # mistake would fail there.
        archive.extractall(os.devnull, factory=sink)
    except _READ_ERRORS:
        raise Malformed("archive.damaged") from None
    return sink.checksum.digest()


class _HashedSource(PosixPath):
    """Pieces of data in the form of a path, which is the only input that py7zr streams.

    One object serves all members, as py7zr keeps the path of each until the archive is closed.
    """

    _pieces: Iterator[Buffer]
    _time: int

    def begin(self, pieces: Iterable[Buffer]) -> None:
        self._pieces = iter(pieces)
        self._time = int(time.time())
        self.sha256 = sha256()

    def read(self, size: int) -> bytes:
        piece = bytes(next(self._pieces, b""))
        self.sha256.update(piece)
        return piece

    def open(self, *args: Any, **options: Any) -> AbstractContextManager["_HashedSource"]:  # type: ignore[override]
        return nullcontext(self)

    def lstat(self) -> os.stat_result:
        """Mode and time of a member; py7zr counts the size itself."""
        return os.stat_result((_MEMBER_MODE, 0, 0, 1, 0, 0, 0, *(self._time,) * 3))

    def is_symlink(self) -> bool:
        return False

    def is_dir(self, **options: Any) -> bool:
        return False

    def is_file(self, **options: Any) -> bool:
        return True


class _HashingSink(WriterFactory, Py7zIO):
    """Receives the members one after the other and keeps only their checksum."""

    def __init__(self, names: Iterable[str], received: Callable[[int], None]) -> None:
        self._names = iter(names)
        self._received = received
        self._member = sha256()
        self.checksum = Checksum()

    def create(self, filename: str) -> Py7zIO:
        self._member = sha256()
        return self

    def write(self, s: bytes | bytearray) -> int:
        self._received(len(s))
        self._member.update(s)
        return len(s)

    def close(self) -> None:
        self.checksum.add(next(self._names), self._member.digest())

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def flush(self) -> None:
        pass

    def size(self) -> int:
        return 0


class _Archive(SevenZipFile):
    """Writes the CRC of the list of members, which py7zr 1.1.4 leaves out (`UnpackInfo.write`).

    Without it no program notices a damaged name.
    """

    def _write_header(self) -> None:
        super()._write_header()  # type: ignore[no-untyped-call]
        _, _, list_crc = self.header.write(io.BytesIO(), 0, encoded=False)
        position = self.afterheader + self.sig_header.nextheaderofs
        self.fp.seek(position)
        header = self.fp.read(self.sig_header.nextheadersize)
        # 7zFormat.txt, "Coders Info": CRC (0x0A), all defined (1), before the two END bytes.
        header = header[:-2] + struct.pack("<BBI", 0x0A, 1, list_crc) + header[-2:]
        self.fp.seek(position)
        self.fp.write(header)
        self.sig_header.calccrc(len(header), crc32(header))
        self.sig_header.write(self.fp)
