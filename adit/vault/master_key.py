"""Load the master key, which encrypts project keys and secret columns. Used by fields and apps.

The key is in a file outside the database.
"""

from functools import lru_cache
from pathlib import Path

from django.conf import settings

from adit.vault.cipher import ValueCipher


class KeyMissing(Exception):
    """There is no usable master key. The process must not start; the text names the file."""


def master_cipher() -> ValueCipher:
    """Return the cipher of this installation. Raise KeyMissing."""
    return _load_cipher(settings.KEY_FILE)


@lru_cache(maxsize=4)
def _load_cipher(path: Path) -> ValueCipher:
    try:
        secret = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        secret = b""
    if len(secret) != 32:
        raise KeyMissing(
            f"{path} contains no master key (64 hex digits). Restore the key from the backup: "
            "without it encrypted values of this database cannot be read."
        )
    return ValueCipher(secret)
