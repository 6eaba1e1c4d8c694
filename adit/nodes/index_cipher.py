"""Encrypt the indexes of source folders under the master key. Used by the app configuration."""

from functools import cached_property

from adit.vault.cipher import DecryptionError
from adit.vault.master_key import master_cipher


class VaultIndexCipher:
    """Implements the IndexCipher of the engine's folder index."""

    def seal(self, plain: bytes, context: str) -> bytes:
        return master_cipher().seal_bytes(plain, context)

    def open(self, sealed: bytes, context: str) -> bytes:
        try:
            return master_cipher().open_bytes(sealed, context)
        except DecryptionError as error:
            raise ValueError(str(error)) from None

    def name_key(self) -> bytes:
        return self._name_key

    @cached_property
    def _name_key(self) -> bytes:
        return bytes.fromhex(master_cipher().index("", "names of a folder index"))
