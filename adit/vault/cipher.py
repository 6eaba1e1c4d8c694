"""Encrypt values under one key with AES-256-GCM, bound to their place. Used by many apps."""

import hmac
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12
_encode_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
"""Created once: json.dumps creates an encoder for each of ten thousand rows."""


class DecryptionError(Exception):
    """An encrypted value cannot be decrypted: another key, another place, or changed bytes."""


@dataclass(frozen=True)
class ValueCipher:
    """A cipher under one 256-bit secret. A value decrypts only with the `place` it was sealed for.

    `place` is authenticated, not encrypted: the associated data of AES-GCM.
    """

    secret: bytes = field(repr=False)

    def seal(self, value: Any, context: str) -> bytes:
        """Encrypt any value that JSON can hold."""
        return self.seal_bytes(_encode_json(value).encode(), context)

    def open(self, sealed: bytes | memoryview, context: str) -> Any:
        """Decrypt a value. Raise DecryptionError."""
        return json.loads(self.open_bytes(sealed, context))

    def seal_bytes(self, plain: bytes, context: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open_bytes(self, sealed: bytes | memoryview, context: str) -> bytes:
        """Decrypt bytes. Raise DecryptionError."""
        sealed = bytes(sealed)
        try:
            return self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode()
            )
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"An encrypted value ({context}) cannot be decrypted with this key."
            ) from None

    def index(self, text: str, purpose: str) -> str:
        """Return a keyed hash (64 hex digits) to look up a value that is not stored in clear."""
        return hmac.digest(self._key(f"index {purpose}"), text.encode(), sha256).hex()

    @cached_property
    def _cipher(self) -> AESGCM:
        """Derived once: tables of ten thousand rows are decrypted at a time."""
        return AESGCM(self._key("seal"))

    @cached_property
    def _keys(self) -> dict[str, bytes]:
        """Derived keys by purpose: each takes longer than the hash that is made with it."""
        return {}

    def _key(self, purpose: str) -> bytes:
        if purpose not in self._keys:
            kdf = HKDF(SHA256(), 32, None, f"adit box {purpose}".encode())
            self._keys[purpose] = kdf.derive(self.secret)
        return self._keys[purpose]
