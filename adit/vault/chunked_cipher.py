"""Pieces: a long value sealed piece by piece; none can be swapped, left out, added or cut unnoticed.

AES-256-GCM under a key that is made for this one value, so that counting makes nonces that are
never used twice.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adit.vault.cipher import DecryptionError

SALT_BYTES = 16
TAG_BYTES = 16


class ChunkDecryptor:
    """All pieces of one value: how many there are, and the salt of their key, are told in clear."""

    def __init__(self, secret: bytes, place: str, salt: bytes, count: int) -> None:
        self.salt = salt
        self.count = count
        self._bound = place.encode() + b"\0" + salt + count.to_bytes(8, "big")
        key = HKDF(SHA256(), 32, salt, b"adit pieces " + place.encode()).derive(secret)
        self._cipher = AESGCM(key)

    def open(self, index: int, sealed: bytes | memoryview) -> bytes:
        """In any order. Raises DecryptionError."""
        try:
            return self._cipher.decrypt(_make_nonce(index), sealed, self._bound)
        except (InvalidTag, ValueError):
            raise DecryptionError(f"Piece {index + 1} of {self.count} does not open.") from None


class ChunkEncryptor(ChunkDecryptor):
    """Seals each piece once, in order; what was sealed is kept by the caller, or begun anew."""

    def __init__(self, secret: bytes, place: str, count: int) -> None:
        super().__init__(secret, place, os.urandom(SALT_BYTES), count)
        self.next_index = 0

    def seal(self, plain: bytes | memoryview) -> bytes:
        """The next piece. Raises ValueError when there are more than were announced."""
        index = self.next_index
        if index >= self.count:
            raise ValueError(f"Only {self.count} pieces were announced.")
        self.next_index += 1
        return self._cipher.encrypt(_make_nonce(index), plain, self._bound)


def _make_nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")
