"""Buffers for the data of one incoming message: in memory, or in an unnamed file if large.

Used by `messages`, by Storage Commitment and by the multipart reader of DICOMweb.
"""

from collections import deque
from typing import BinaryIO

from adit_engine.dicom_file import temp_files
from adit_engine.dicom_file.part10 import MAPPED_FROM_BYTES
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed

POOL_BYTES = 128 * 1024 * 1024
_MAX_CHECKED_BLOCKS = 3


class BufferPool:
    """Memory blocks that are reused from image to image.

    A block is reused once nothing refers to it: new memory from the system costs more than filling
    it.
    """

    def __init__(self) -> None:
        self._blocks: deque[bytearray] = deque()
        self._size_bytes = 0

    def acquire(self) -> bytearray:
        """Return a block, as large as an earlier image if there was one.

        Most images are dropped in the order of their arrival, so the oldest blocks are checked.
        """
        like_bytes = len(self._blocks[-1]) if self._blocks else 0
        for _ in range(min(len(self._blocks), _MAX_CHECKED_BLOCKS)):
            if _is_free(self._blocks[0]):
                block = self._blocks.popleft()
                self._size_bytes -= len(block)
                return block
            self._blocks.rotate(-1)
        return bytearray(like_bytes)

    def release(self, block: bytearray) -> None:
        """Keep a block; it is reused once no view of it is left."""
        if block:
            self._blocks.append(block)
            self._size_bytes += len(block)
        while self._size_bytes > POOL_BYTES:
            self._size_bytes -= len(self._blocks.popleft())


def _is_free(block: bytearray) -> bool:
    """Python does not let a bytearray be resized while a view of it exists."""
    try:
        block.append(block.pop())
    except BufferError:
        return False
    return True


class MessageBuffer:
    """Receives fragments and returns the whole once. The file has no name, so none is left behind.

    `limit_bytes` is for responses that have no reason to be large; None for images, which use
    memory of `stock`.
    """

    def __init__(self, limit_bytes: int | None, pool: BufferPool | None = None) -> None:
        self._limit = limit_bytes
        self._pool = pool
        self._buffer = bytearray() if pool is None else pool.acquire()
        self._file: BinaryIO | None = None
        self.size_bytes = 0

    def add(self, piece: memoryview) -> None:
        """Append a fragment.

        Raises Malformed beyond the limit, OSError when the temporary folder is full.
        """
        start = self.size_bytes
        self.size_bytes += len(piece)
        if self._limit is not None and self.size_bytes > self._limit:
            raise Malformed("message-buffer.limit-exceeded")
        if self._file is None and self.size_bytes > MAPPED_FROM_BYTES:
            self._file = temp_files.open_unnamed()
            self._file.write(memoryview(self._buffer)[:start])
            self._buffer = bytearray()
        if self._file is None:
            self._put(start, piece)
        else:
            self._file.write(piece)

    def _put(self, start: int, piece: memoryview) -> None:
        if self.size_bytes <= len(self._buffer):
            memoryview(self._buffer)[start : self.size_bytes] = piece
        else:
            del self._buffer[start:]
            self._buffer += piece

    def get_content(self) -> Buffer:
        """Return the bytes received, memory-mapped if large. Raises OSError."""
        if self._file is None:
            del self._buffer[self.size_bytes :]
            if self._pool is not None:
                self._pool.release(self._buffer)
            return memoryview(self._buffer)
        with self._file as file:
            return temp_files.map_file(file)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
