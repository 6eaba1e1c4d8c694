"""Quarantine for unexpected images: no retrieval takes them from there, and its size is limited.

Filled by the receiver; shown and deleted on the pages of administrators.
"""

import json
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adit_engine.storage_scp.pending_moves import UnexpectedArrival
from adit_engine.storage_scp.spool import IncomingInstance, Spool

QUARANTINE_FOLDER = "_quarantine"

_NAME = re.compile(r"[0-9]{20}-[0-9]{6}")
_IMAGE, _NOTE = ".dcm", ".json"
_CACHE_S = 5.0


@dataclass(frozen=True, slots=True)
class QuarantinedInstance:
    """One image in quarantine. If its note was lost, only time and size are known."""

    name: str
    at: datetime
    size_bytes: int
    calling: str = ""
    address: str = ""
    class_uid: str = ""


class Quarantine:
    """A folder below a spool for at most `limit_bytes` of images; 0: accepts none.

    Used by the receiver's threads and, through another object, by the pages that list and delete.
    """

    def __init__(self, spool: Spool, limit_bytes: int) -> None:
        self.folder = spool.folder / QUARANTINE_FOLDER
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._used = 0
        self._counted_until = 0.0

    def add(self, incoming: IncomingInstance, unexpected: UnexpectedArrival) -> bool:
        """Move an image to the quarantine; return False if there is no space.

        Raises OSError.
        """
        if not self.limit_bytes:
            return False
        with self._lock:
            if time.monotonic() > self._counted_until:
                self._used = self.used_bytes()
                self._counted_until = time.monotonic() + _CACHE_S
            if self._used + incoming.size_bytes > self.limit_bytes:
                return False
            self._used += incoming.size_bytes
        self.folder.mkdir(exist_ok=True, mode=0o700)
        note = {
            "calling": unexpected.calling,
            "address": unexpected.address,
            "class_uid": unexpected.class_uid,
            "at": unexpected.at.isoformat(),
        }
        # The note first: without it, the sender of an image would be unknown.
        path = self.folder / (incoming.name + _NOTE)
        path.touch(mode=0o600)
        path.write_text(json.dumps(note))
        incoming.move_to(self.folder / (incoming.name + _IMAGE))
        return True

    def used_bytes(self) -> int:
        return sum(one.size_bytes for one in self._images())

    def is_empty(self) -> bool:
        return next(self.folder.glob(f"*{_IMAGE}"), None) is None

    def contents(self) -> list[QuarantinedInstance]:
        """Return all images, newest first."""
        return [self._read(one) for one in sorted(self._images(), key=_name_key, reverse=True)]

    def path_of(self, name: str) -> Path:
        """Return the path of the file of an image."""
        return self.folder / (name + _IMAGE)

    def remove(self, names: Iterable[str]) -> int:
        """Delete these images permanently; return how many still existed."""
        count = 0
        for name in names:
            if _NAME.fullmatch(name):
                with suppress(FileNotFoundError):
                    (self.folder / (name + _IMAGE)).unlink()
                    count += 1
                (self.folder / (name + _NOTE)).unlink(missing_ok=True)
        return count

    def _images(self) -> list[QuarantinedInstance]:
        found = []
        with suppress(FileNotFoundError):
            for path in self.folder.glob(f"*{_IMAGE}"):
                with suppress(FileNotFoundError):
                    state = path.stat()
                    at = datetime.fromtimestamp(state.st_mtime, UTC)
                    found.append(QuarantinedInstance(path.stem, at, state.st_size))
        return found

    def _read(self, image: QuarantinedInstance) -> QuarantinedInstance:
        try:
            note = json.loads((self.folder / (image.name + _NOTE)).read_text())
            at = datetime.fromisoformat(note["at"])
            who = {key: str(note[key]) for key in ("calling", "address", "class_uid")}
        except (OSError, ValueError, KeyError, TypeError):
            return image
        return QuarantinedInstance(image.name, at, image.size_bytes, **who)


def _name_key(image: QuarantinedInstance) -> str:
    return image.name
