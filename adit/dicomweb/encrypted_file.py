"""A temporary file whose content is encrypted under a key that exists only in memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adit.dicomweb.pieces import cut
from adit_engine.dicom_file import temp_files
from adit_engine.elements import Buffer

CHUNK_BYTES = 256 * 1024
_TAG_BYTES = 16
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """Where a record is in the file. `first_chunk` is the nonce of its first chunk."""

    position: int
    first_chunk: int
    size_bytes: int


class EncryptedFile:
    """Records in an unnamed file, encrypted in chunks (AES-GCM), so that any part can be read.

    File and key are gone when the object is released, or when the process ends in any way.
    """

    def __init__(self) -> None:
        """Raise OSError."""
        self._file = temp_files.open_unnamed()
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._chunks = 0
        self.size_bytes = 0

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    @property
    def free_disk_bytes(self) -> int:
        status = os.fstatvfs(self._file.fileno())
        return status.f_bavail * status.f_frsize

    def append(self, *buffers: Buffer) -> StoredRecord:
        """Write the buffers as one record. Raise OSError."""
        stored = StoredRecord(self.size_bytes, self._chunks, sum(map(len, buffers)))
        for chunk in cut(buffers, CHUNK_BYTES):
            nonce = self._chunks.to_bytes(_NONCE_BYTES, "big")
            self._chunks += 1
            sealed = memoryview(self._cipher.encrypt(nonce, chunk, None))
            while sealed:
                written = os.pwrite(self._file.fileno(), sealed, self.size_bytes)
                self.size_bytes += written
                sealed = sealed[written:]
        return stored

    def read(self, stored: StoredRecord, start: int = 0, stop: int | None = None) -> bytes:
        """Return a part of a record; only the chunks are decrypted that contain it."""
        end = stored.size_bytes if stop is None else min(stop, stored.size_bytes)
        if start >= end:
            return b""
        first = start // CHUNK_BYTES
        whole = b"".join(self._read_chunks(stored, first, (end - 1) // CHUNK_BYTES))
        return whole[start - first * CHUNK_BYTES : end - first * CHUNK_BYTES]

    def _read_chunks(self, stored: StoredRecord, first: int, last: int) -> Iterator[bytes]:
        for number in range(first, last + 1):
            size = min(CHUNK_BYTES, stored.size_bytes - number * CHUNK_BYTES) + _TAG_BYTES
            position = stored.position + number * (CHUNK_BYTES + _TAG_BYTES)
            sealed = os.pread(self._file.fileno(), size, position)
            nonce = (stored.first_chunk + number).to_bytes(_NONCE_BYTES, "big")
            yield self._cipher.decrypt(nonce, sealed, None)
