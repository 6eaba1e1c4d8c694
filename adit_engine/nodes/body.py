"""Body: the data of one message while it comes in; small in memory, large in a nameless file."""

import mmap
from typing import BinaryIO

from adit_engine.elements import Buffer
from adit_engine.errors import Malformed
from adit_engine.part10 import MAPPED_FROM_BYTES


class Body:
    """Takes pieces, gives the whole once. The file has no name, so nothing is left behind.

    `limit_bytes` is for answers that have no reason to be large; None for images. `like_bytes` is
    the size of the one before: most images of a series are of one size, and to grow costs time.
    """

    def __init__(self, limit_bytes: int | None, like_bytes: int = 0) -> None:
        self._limit = limit_bytes
        self._memory = bytearray(min(like_bytes, MAPPED_FROM_BYTES))
        self._file: BinaryIO | None = None
        self.size_bytes = 0

    def add(self, piece: memoryview) -> None:
        """Raises Malformed beyond the limit, OSError when the temporary folder is full."""
        start = self.size_bytes
        self.size_bytes += len(piece)
        if self._limit is not None and self.size_bytes > self._limit:
            raise Malformed("An answer is larger than any answer needs to be.")
        if self._file is None and self.size_bytes > MAPPED_FROM_BYTES:
            import tempfile  # takes long to load, for what is seldom needed

            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whole() or drop()
            self._file.write(memoryview(self._memory)[:start])
            self._memory = bytearray()
        if self._file is None:
            self._put(start, piece)
        else:
            self._file.write(piece)

    def _put(self, start: int, piece: memoryview) -> None:
        if self.size_bytes <= len(self._memory):
            memoryview(self._memory)[start : self.size_bytes] = piece
        else:
            del self._memory[start:]
            self._memory += piece

    def whole(self) -> Buffer:
        """The bytes that came, mapped where they are large. Raises OSError."""
        if self._file is None:
            del self._memory[self.size_bytes :]
            return self._memory
        with self._file as file:
            file.flush()
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def drop(self) -> None:
        if self._file is not None:
            self._file.close()
