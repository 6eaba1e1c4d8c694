"""Derive pseudonyms, UIDs and date offsets from the key of a project; read and write key files.

All derivations are keyed; none depends on patient data alone. The command line loads keys from
files, in the format in which projects export them.
"""

import hmac
import os
import re
import sys
from base64 import b32encode
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from adit_engine.errors import InvalidInput

_PSEUDONYM = re.compile(r"[A-Za-z0-9_.-]{1,64}")

MIN_SHIFT_DAYS = 30
SHIFT_SPAN_DAYS = 3620


def validate_pseudonym(text: str) -> str:
    """Return the text if it is a valid pseudonym. Raises InvalidInput.

    Only characters that no character set of a data set can corrupt are allowed.
    """
    if not _PSEUDONYM.fullmatch(text):
        raise InvalidInput("pseudonym.invalid")
    return text


@dataclass(frozen=True)
class ProjectKey:
    """The 256-bit secret of one project. Everything derived from it never changes.

    `generation` changes with the profile of the project, so that one UID never has two contents.
    """

    secret: bytes = field(repr=False)
    generation: int = 1
    _keys: dict[str, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) != 32:
            raise InvalidInput("project-key.length")
        keys = {
            "uid": self._derive_key(f"uid {self.generation}"),
            "date": self._derive_key("date"),
            "pseudonym": self._derive_key("pseudonym"),
        }
        object.__setattr__(self, "_keys", keys)

    def uid(self, original: str) -> str:
        """Return a UID below 2.25 (PS3.5 B.2) that replaces `original` within the project."""
        return _derive_uid(self._keys["uid"], original)

    def date_offset_days(self, pseudonym: str) -> int:
        """Return the whole days to add to each date of this patient; always negative."""
        return _derive_date_offset(self._keys["date"], pseudonym)

    def generate_pseudonym(self, domain: str, patient_id: str) -> str:
        """Return the pseudonym of a patient in a patient ID domain.

        Raises InvalidInput without a patient ID.
        """
        if not patient_id.strip(" \0"):
            raise InvalidInput("pseudonym.no-patient-id")
        text = f"{domain}\0{patient_id.strip(' ' + chr(0))}"
        digest = hmac.digest(self._keys["pseudonym"], text.encode(), sha256)
        return "P" + b32encode(digest[:10]).decode("ascii")

    def _derive_key(self, purpose: str) -> bytes:
        """HKDF with SHA-256 and no salt (RFC 5869), for output of one block."""
        extracted = hmac.digest(bytes(32), self.secret, sha256)
        return hmac.digest(extracted, f"adit {purpose}".encode() + b"\x01", sha256)


# Cached: images of a series share most UIDs, and all images of a patient share one offset.


@lru_cache(maxsize=4096)
def _derive_uid(key: bytes, original: str) -> str:
    digest = bytearray(hmac.digest(key, original.encode(), sha256)[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest)}"


@lru_cache(maxsize=64)
def _derive_date_offset(key: bytes, pseudonym: str) -> int:
    digest = hmac.digest(key, pseudonym.encode(), sha256)
    return -(MIN_SHIFT_DAYS + int.from_bytes(digest[:8]) % SHIFT_SPAN_DAYS)


def load_project_key(path: Path | None, trial: str) -> ProjectKey:
    """Load the key in an exported file, or without a path derive one for the project.

    The derived key comes from the user's own key, which is created on first use, readable by its
    owner only. Its path is printed on standard error. Raises InvalidInput for a file without a key.
    """
    if path is not None:
        return read_key_file(path)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    own = Path(base) / "adit" / "trial-keys.key"
    if create_key_file(own):
        print(f"adit-engine: created the key {own}. Keep a backup of it.", file=sys.stderr)
    else:
        print(f"adit-engine: using the key in {own}", file=sys.stderr)
    # Imported here because it is slow to import, and an exported file does not need it.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret = HKDF(SHA256(), 32, None, f"adit trial {trial}".encode()).derive(
        read_key_file(own).secret
    )
    return ProjectKey(secret)


def read_key_file(path: Path) -> ProjectKey:
    """Read a key file: 64 hex digits, then a space and the generation if it is not 1.

    Raises InvalidInput.
    """
    try:
        digits, _, generation = path.read_text().strip().partition(" ")
        return ProjectKey(bytes.fromhex(digits), int(generation or 1))
    except (OSError, ValueError, InvalidInput):
        raise InvalidInput("project-key.file", path=str(path)) from None


def format_key(key: ProjectKey) -> str:
    """Return the content of a key file."""
    return f"{key.secret.hex()} {key.generation}\n"


def create_key_file(path: Path) -> bool:
    """Create a key file that only its owner can read. Return False if it exists."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(os.urandom(32).hex() + "\n")
    return True
