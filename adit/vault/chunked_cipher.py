"""Encrypt a long value in chunks. Used to send received images through the broker.

A chunk that was swapped, left out, added or truncated is detected. AES-256-GCM under a key that is
derived for this one value, so a counter gives nonces that are never used twice.
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
    """Decrypts the chunks of one value. The chunk count and the salt of the key are not secret."""

    def __init__(self, secret: bytes, context: str, salt: bytes, count: int) -> None:
        self.salt = salt
        self.count = count
        self._bound = context.encode() + b"\0" + salt + count.to_bytes(8, "big")
        key = HKDF(SHA256(), 32, salt, b"adit pieces " + context.encode()).derive(secret)
        self._cipher = AESGCM(key)

    def open(self, index: int, sealed: bytes | memoryview) -> bytes:
        """Decrypt one chunk; the order is free. Raise DecryptionError."""
        try:
            return self._cipher.decrypt(_make_nonce(index), sealed, self._bound)
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"Chunk {index + 1} of {self.count} cannot be decrypted."
            ) from None


class ChunkEncryptor(ChunkDecryptor):
    """Encrypts each chunk once, in order. To send a value again, create a new encryptor."""

    def __init__(self, secret: bytes, context: str, count: int) -> None:
        super().__init__(secret, context, os.urandom(SALT_BYTES), count)
        self.next_index = 0

    def seal(self, plain: bytes | memoryview) -> bytes:
        """Encrypt the next chunk. Raise ValueError after `count` chunks."""
        index = self.next_index
        if index >= self.count:
            raise ValueError(f"All {self.count} chunks are encrypted already.")
        self.next_index += 1
        return self._cipher.encrypt(_make_nonce(index), plain, self._bound)


def _make_nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")
