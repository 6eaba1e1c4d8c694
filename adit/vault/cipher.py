"""Box: seals values under one key, bound to where they belong; AES-256-GCM."""

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
"""Made once: json.dumps makes an encoder for each of ten thousand rows."""


class DecryptionError(Exception):
    """A sealed value does not open: another key, another place, or changed bytes."""


@dataclass(frozen=True)
class ValueCipher:
    """Seals under one 256-bit secret. `place` binds a value: it opens nowhere else."""

    secret: bytes = field(repr=False)

    def seal(self, value: Any, place: str) -> bytes:
        """Encrypts anything that JSON can hold."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = _encode_json(value).encode()
        return nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes | memoryview, place: str) -> Any:
        """Raises DecryptionError."""
        sealed = bytes(sealed)
        try:
            plain = self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode()
            )
        except (InvalidTag, ValueError):
            raise DecryptionError(
                f"A sealed value ({place}) does not open with this key."
            ) from None
        return json.loads(plain)

    def index(self, text: str, purpose: str) -> str:
        """A keyed hash by which a value can be looked up without being stored; 64 hex digits."""
        return hmac.digest(self._key(f"index {purpose}"), text.encode(), sha256).hex()

    @cached_property
    def _cipher(self) -> AESGCM:
        """Derived once: tables of ten thousand rows are opened at a time."""
        return AESGCM(self._key("seal"))

    def _key(self, purpose: str) -> bytes:
        return HKDF(SHA256(), 32, None, f"adit box {purpose}".encode()).derive(self.secret)
