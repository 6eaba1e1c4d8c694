"""The head of the audit trail in a file of the data folder, outside the database. Used by `trail`.

Whoever changes only the database can restore an old state of it, but not this file.
"""

import json
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from adit.vault.master_key import master_cipher

FILE_NAME = "audit-head.json"


class KeptHeadUnreadable(Exception):
    """The file exists, but it is not one that this installation wrote."""


@dataclass(frozen=True, slots=True)
class KeptHead:
    """Number of events and hash of the last one on a day."""

    count: int
    hash: str
    day: date


def read_kept_head() -> KeptHead | None:
    """Return the head in the file; None if there is no file. Raise KeptHeadUnreadable."""
    try:
        content = json.loads(_path().read_text())
        kept = KeptHead(
            int(content["count"]), str(content["hash"]), date.fromisoformat(content["day"])
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise KeptHeadUnreadable from None
    if content.get("signature") != _sign(kept):
        raise KeptHeadUnreadable
    return kept


def write_kept_head(count: int, last: str) -> None:
    """Replace the file atomically. Only its owner can read it."""
    kept = KeptHead(count, last, timezone.localdate())
    content = {
        "count": count,
        "hash": last,
        "day": kept.day.isoformat(),
        "signature": _sign(kept),
    }
    draft = _path().with_name(f".{FILE_NAME}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(_path())


def _path() -> Path:
    return settings.DATA_DIR / FILE_NAME


def _sign(kept: KeptHead) -> str:
    return master_cipher().index(f"{kept.count} {kept.hash} {kept.day}", "trail kept head")
