"""Split a received image into encrypted messages and put them together again.

Used by `broker_sender` and `broker_receiver`. A message consists of version, salt, index and count
in clear, and one encrypted chunk. The chunks together contain a small head, which names the file in
the spool of the receiver, and then that file.
"""

import json
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adit.vault.chunked_cipher import SALT_BYTES, TAG_BYTES, ChunkDecryptor, ChunkEncryptor
from adit.vault.cipher import DecryptionError
from adit_engine.storage_scp.spool import parse_spooled
from adit_engine.values.instance import Instance

MESSAGE_BYTES = 4 * 1024 * 1024
"""Maximum size of a message. RabbitMQ 4 accepts up to 16 MiB."""

_VERSION = 1
_CLEAR_HEADER = struct.Struct(f">B{SALT_BYTES}sII")
_HEAD_LENGTH = struct.Struct(">H")
CHUNK_BYTES = MESSAGE_BYTES - _CLEAR_HEADER.size - TAG_BYTES


def seal_image(path: Path, token: str, secret: bytes) -> Iterator[bytes]:
    """Yield the messages of one image in the spool; a new key each time. Raise OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = json.dumps({"name": path.name, "size": size}).encode()
        piece = _HEAD_LENGTH.pack(len(head)) + head
        count = max(1, -(-(len(piece) + size) // CHUNK_BYTES))
        series = ChunkEncryptor(secret, _get_image_context(token), count)
        for index in range(count):
            piece += file.read(CHUNK_BYTES - len(piece))
            yield _CLEAR_HEADER.pack(_VERSION, series.salt, index, count) + series.seal(piece)
            piece = b""


class ImageAssembly:
    """The messages of one image, in any order and possibly repeated.

    An image of one message stays in memory; a larger one is written to an unnamed temporary file.
    """

    def __init__(self, series: ChunkDecryptor, folder: Path) -> None:
        self.name = ""
        """The name of its file in the spool, once known."""
        self._series = series
        self._missing = set(range(series.count))
        self._folder = folder
        self._file: int | None = None
        self._single = b""
        self._start = 0
        self._size = 0

    def add(self, index: int, piece: memoryview) -> bool:
        """Add a chunk; return whether the image is complete. Raise DecryptionError, OSError."""
        plain = self._series.open(index, piece)
        if index not in self._missing:
            return not self._missing
        if index == 0:
            self._read_head(plain)
        if self._series.count == 1:
            self._single = plain
        else:
            self._write(plain, index * CHUNK_BYTES)
        self._missing.discard(index)
        return not self._missing

    def content(self) -> memoryview:
        """Return the content of the spool file. Raise DecryptionError if its size is wrong."""
        view = memoryview(self._single)
        if self._file is not None:
            view = memoryview(mmap.mmap(self._file, 0, access=mmap.ACCESS_READ))
            self.close()
        content = view[self._start :]
        if len(content) != self._size:
            raise DecryptionError("The length of an image differs from its header.")
        return content

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read_head(self, plain: bytes) -> None:
        (length,) = _HEAD_LENGTH.unpack_from(plain)
        self._start = _HEAD_LENGTH.size + length
        head = json.loads(plain[_HEAD_LENGTH.size : self._start])
        self.name, self._size = head["name"], head["size"]

    def _write(self, plain: bytes, position: int) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=self._folder) as file:
                self._file = os.dup(file.fileno())
        view = memoryview(plain)
        while view:
            written = os.pwrite(self._file, view, position)
            view, position = view[written:], position + written


@dataclass(frozen=True, slots=True)
class UnpackedImage:
    """A complete image, and the name of the spool file that can be deleted now."""

    name: str
    instance: Instance


class ImageUnpacker:
    """All images of one C-MOVE. A message that cannot be decrypted is not for us and is dropped."""

    MOST = 16
    """Maximum number of incomplete images. The oldest is dropped and will be sent again."""

    def __init__(self, token: str, secret: bytes, folder: Path) -> None:
        self._place = _get_image_context(token)
        self._secret = secret
        self._folder = folder
        self._begun: dict[bytes, ImageAssembly] = {}
        self._done: set[bytes] = set()

    @property
    def has_partial_images(self) -> bool:
        """Whether an image has arrived in part."""
        return bool(self._begun)

    def add(self, message: bytes) -> UnpackedImage | None:
        """Return the image that this message completes. Raise DecryptionError, OSError."""
        if len(message) < _CLEAR_HEADER.size + TAG_BYTES:
            raise DecryptionError("A message is too short.")
        version, salt, index, count = _CLEAR_HEADER.unpack_from(message)
        if version != _VERSION or index >= count:
            raise DecryptionError("A message is not part of an image.")
        if salt in self._done:
            return None
        unpacking = self._begun.get(salt)
        if unpacking is None:
            unpacking = ImageAssembly(
                ChunkDecryptor(self._secret, self._place, salt, count), self._folder
            )
        if not unpacking.add(index, memoryview(message)[_CLEAR_HEADER.size :]):
            self._begin(salt, unpacking)
            return None
        self._drop(salt, unpacking.name)
        return UnpackedImage(unpacking.name, parse_spooled(unpacking.content()))

    def close(self) -> None:
        for unpacking in self._begun.values():
            unpacking.close()
        self._begun.clear()

    def _begin(self, salt: bytes, unpacking: ImageAssembly) -> None:
        """Called after decryption, so that foreign messages use no memory or disk."""
        self._begun[salt] = unpacking
        while len(self._begun) > self.MOST:
            self._begun.pop(next(iter(self._begun))).close()

    def _drop(self, whole: bytes, name: str) -> None:
        """Forget the completed image and incomplete earlier transmissions of the same image."""
        for salt, unpacking in list(self._begun.items()):
            if salt != whole and unpacking.name == name:
                unpacking.close()
                del self._begun[salt]
        self._begun.pop(whole, None)
        self._done.add(whole)


def get_receipt_context(token: str) -> str:
    """Return the place that a receipt of the worker is encrypted for."""
    return f"receipt {token}"


def _get_image_context(token: str) -> str:
    return f"parcel {token}"
