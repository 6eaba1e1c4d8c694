"""Key file: the trial keys of the command line, and the form in which a house exports one."""

import os
import secrets
import sys
from pathlib import Path

from adit_engine.errors import WrongInput
from adit_engine.pseudonymize.pseudonym import TrialKey


def trial_key(path: Path | None, trial: str) -> TrialKey:
    """The key in an exported file; without a path, one derived per trial from the user's own key.

    The user's own key is made on first use, readable by its owner alone; where it lies is said on
    standard error. Raises WrongInput for a file that holds no key.
    """
    if path is not None:
        return read_key(path)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    own = Path(base) / "adit" / "trial-keys.key"
    if make_key(own):
        print(f"adit-engine: a new key was made: {own}. Keep a copy of it.", file=sys.stderr)
    else:
        print(f"adit-engine: using the key in {own}", file=sys.stderr)
    # Here, as it takes long to load, and an exported file needs none of it.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret = HKDF(SHA256(), 32, None, f"adit trial {trial}".encode()).derive(read_key(own).secret)
    return TrialKey(secret)


def read_key(path: Path) -> TrialKey:
    """A key file holds 64 hex digits, and after a blank the generation where it is not 1."""
    try:
        digits, _, generation = path.read_text().strip().partition(" ")
        return TrialKey(bytes.fromhex(digits), int(generation or 1))
    except (OSError, ValueError, WrongInput):
        raise WrongInput(f"{path} holds no trial key (64 hex digits).") from None


def key_text(key: TrialKey) -> str:
    """What a key file holds."""
    return f"{key.secret.hex()} {key.generation}\n"


def make_key(path: Path) -> bool:
    """Makes a key file, readable by its owner alone. False when there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    return True
