"""Celery broker transport that keeps messages as small files in a folder of one machine.

A message is written under a temporary name and renamed, so that no incomplete message is read; it
is also taken by renaming, so that exactly one reader gets it. A reader that is killed in between
loses the message: that costs seconds, because messages only say that there is work. Used if
`ADIT_BROKER_URL` is `filesystem://`.
"""

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import virtual

STALE_S = 3600
_NAME = re.compile(r"[0-9]{20}-[0-9a-f]{32}\.(?P<queue>[A-Za-z0-9_-]+)\.msg")


class Channel(virtual.Channel):
    """The queue is part of the file name; exchanges are known to each process only."""

    supports_fanout = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = Path(self.connection.client.transport_options["folder"])
        for place in (self.waiting_folder, self.transit_folder):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()

    @property
    def waiting_folder(self) -> Path:
        return self.folder / "waiting"

    @property
    def transit_folder(self) -> Path:
        """The folder of messages that are being written or read."""
        return self.folder / "passing"

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}.{queue}.msg"
        temporary = self.transit_folder / name
        temporary.write_text(json.dumps(message))
        temporary.rename(self.waiting_folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for name in sorted(self._names(queue)):
            taken = self.transit_folder / f"{name}.{os.getpid()}"
            try:
                (self.waiting_folder / name).rename(taken)
            except FileNotFoundError:
                continue
            with contextlib.suppress(OSError, ValueError):
                message: dict[str, Any] = json.loads(taken.read_text())
                taken.unlink()
                return message
            taken.unlink(missing_ok=True)
        raise Empty

    def _size(self, queue: str) -> int:
        return sum(1 for _ in self._names(queue))

    def _purge(self, queue: str) -> int:
        names = list(self._names(queue))
        for name in names:
            (self.waiting_folder / name).unlink(missing_ok=True)
        return len(names)

    def _names(self, queue: str) -> Iterator[str]:
        for name in os.listdir(self.waiting_folder):
            match = _NAME.fullmatch(name)
            if match and match["queue"] == queue:
                yield name

    def _sweep(self) -> None:
        """Remove what a killed process left incomplete."""
        oldest = time.time() - STALE_S
        for path in self.transit_folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


class Transport(virtual.Transport):
    """Set in Celery's `broker_transport`, with `filesystem://` as the broker URL."""

    Channel = Channel
    driver_type = "filesystem"
    driver_name = "filesystem"
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic"])
    )

    def driver_version(self) -> str:
        return "1"
