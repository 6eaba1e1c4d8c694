"""Pseudonym: how pseudonyms, UIDs and date offsets are derived: keyed, never from bare data.
Key file: the trial keys of the command line, and the form in which a house exports one."""

import hmac
import os
import re
import secrets
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
    """Raises WrongInput for anything that a data set's character set could damage."""
    if not _PSEUDONYM.fullmatch(text):
        raise InvalidInput(
            "A pseudonym has 1 to 64 characters: letters A-Z and a-z, digits, dot, hyphen, underscore."
        )
    return text


@dataclass(frozen=True)
class ProjectKey:
    """The 256-bit secret of one trial. Everything below follows from it and stays the same for ever.

    `generation` changes with the trial's profile, so that one UID never has two contents.
    """

    secret: bytes = field(repr=False)
    generation: int = 1
    _keys: dict[str, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) != 32:
            raise InvalidInput("A trial's key has 32 bytes.")
        keys = {
            "uid": self._derive_key(f"uid {self.generation}"),
            "date": self._derive_key("date"),
            "pseudonym": self._derive_key("pseudonym"),
        }
        object.__setattr__(self, "_keys", keys)

    def uid(self, original: str) -> str:
        """A UID below 2.25 (PS3.5 B.2) that stands for `original` within this trial."""
        return _derive_uid(self._keys["uid"], original)

    def date_offset_days(self, pseudonym: str) -> int:
        """Whole days to add to each date of this patient; always negative."""
        return _derive_date_offset(self._keys["date"], pseudonym)

    def generate_pseudonym(self, domain: str, patient_id: str) -> str:
        """A pseudonym for a patient of a patient-id domain. Raises WrongInput without an id."""
        if not patient_id.strip(" \0"):
            raise InvalidInput("Without a patient ID no pseudonym can be generated.")
        text = f"{domain}\0{patient_id.strip(' ' + chr(0))}"
        digest = hmac.digest(self._keys["pseudonym"], text.encode(), sha256)
        return "P" + b32encode(digest[:10]).decode("ascii")

    def _derive_key(self, purpose: str) -> bytes:
        """HKDF with SHA-256 and no salt (RFC 5869), of as many bytes as one block has."""
        extracted = hmac.digest(bytes(32), self.secret, sha256)
        return hmac.digest(extracted, f"adit {purpose}".encode() + b"\x01", sha256)


# The images of one series share most of their UIDs, and the whole patient one offset.


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
    """The key in an exported file; without a path, one derived per trial from the user's own key.

    The user's own key is made on first use, readable by its owner alone; where it lies is said on
    standard error. Raises WrongInput for a file that holds no key.
    """
    if path is not None:
        return read_key_file(path)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    own = Path(base) / "adit" / "trial-keys.key"
    if create_key_file(own):
        print(f"adit-engine: a new key was made: {own}. Keep a copy of it.", file=sys.stderr)
    else:
        print(f"adit-engine: using the key in {own}", file=sys.stderr)
    # Here, as it takes long to load, and an exported file needs none of it.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret = HKDF(SHA256(), 32, None, f"adit trial {trial}".encode()).derive(
        read_key_file(own).secret
    )
    return ProjectKey(secret)


def read_key_file(path: Path) -> ProjectKey:
    """A key file holds 64 hex digits, and after a blank the generation where it is not 1."""
    try:
        digits, _, generation = path.read_text().strip().partition(" ")
        return ProjectKey(bytes.fromhex(digits), int(generation or 1))
    except (OSError, ValueError, InvalidInput):
        raise InvalidInput(f"{path} holds no trial key (64 hex digits).") from None


def format_key(key: ProjectKey) -> str:
    """What a key file holds."""
    return f"{key.secret.hex()} {key.generation}\n"


def create_key_file(path: Path) -> bool:
    """Makes a key file, readable by its owner alone. False when there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    return True
