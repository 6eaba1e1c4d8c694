"""Cipher: AES-256 under a key that is made from a password, as 7-Zip makes it."""

import os
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher as Primitive
from cryptography.hazmat.primitives.ciphers import CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC

from adit_engine.errors import Malformed

BLOCK = 16
POWER = 19
"""The password is hashed so often, as a power of two; 7-Zip itself uses this."""
_MOST_POWER = 24
_AT_ONCE = 4096


@dataclass(frozen=True)
class Key:
    """Made once for an archive, since it takes a fraction of a second: on purpose."""

    salt: bytes
    power: int
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, salt: bytes | None = None, power: int = POWER) -> "Key":
        """A new one, with a fresh salt, where none is given."""
        salt = os.urandom(BLOCK) if salt is None else salt
        if power > _MOST_POWER:
            raise Malformed("The archive asks for more work on its password than is sensible.")
        digest, start = sha256(), salt + password.encode("utf-16-le")
        for first in range(0, 1 << power, _AT_ONCE):
            counts = range(first, min(first + _AT_ONCE, 1 << power))
            digest.update(b"".join(start + count.to_bytes(8, "little") for count in counts))
        return cls(salt, power, digest.digest())

    def properties(self, vector: bytes) -> bytes:
        """What stands beside the encrypted bytes: power, salt and initialization vector."""
        has_salt, has_vector = bool(self.salt), bool(vector)
        sizes = max(len(self.salt) - 1, 0) << 4 | max(len(vector) - 1, 0)
        first = self.power | has_salt << 7 | has_vector << 6
        return bytes((first, sizes)) + self.salt + vector

    def encryptor(self, vector: bytes) -> CipherContext:
        return self._primitive(vector).encryptor()

    def decryptor(self, vector: bytes) -> CipherContext:
        return self._primitive(vector).decryptor()

    def _primitive(self, vector: bytes) -> Primitive[Any]:
        return Primitive(AES256(self.secret), CBC(vector))


@dataclass(frozen=True, slots=True)
class Properties:
    """As they stand in an archive."""

    power: int
    salt: bytes
    vector: bytes

    @classmethod
    def of(cls, data: bytes) -> "Properties":
        """Raises Malformed."""
        if len(data) < 2:
            raise Malformed("The archive does not say how it was encrypted.")
        salt_size = (data[0] >> 7) + (data[1] >> 4)
        vector_size = (data[0] >> 6 & 1) + (data[1] & 0x0F)
        if len(data) != 2 + salt_size + vector_size:
            raise Malformed("The archive does not say how it was encrypted.")
        salt, vector = data[2 : 2 + salt_size], data[2 + salt_size :]
        return cls(data[0] & 0x3F, salt, vector)
