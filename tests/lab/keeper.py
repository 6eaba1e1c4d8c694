"""Keeper: starts and stops one service for the tests, and cleans up after them.

It runs as a separate process and reads one command per line. At the end of its input, however the
tests ended, it kills all descendants of the service and removes its folder.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_BECOME_REAPER = 36  # prctl(2): orphans become our children and stay visible
STOP_WITHIN_S = 60.0


class Kept:
    """One service: its command, its user, and all its processes."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._main: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        order, user = self._order, self._order["user"]
        who = {"user": user, "group": user, "extra_groups": []} if user else {}
        with (Path(order["folder"]) / "service.log").open("ab") as log:
            for command in order["beside"]:
                self._begin(command, log, who)
            self._main = self._begin(order["command"], log, who)
        return "running"

    def _begin(self, command: list[str], log: Any, who: dict[str, Any]) -> subprocess.Popen[bytes]:
        order = self._order
        return subprocess.Popen(
            command,
            env=order["env"],
            cwd=order["folder"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **who,
        )

    def state(self) -> str:
        ended = self._main is None or self._main.poll() is not None
        return "ended" if ended else "running"

    def stop(self) -> str:
        """Stop the service as an administrator would, then kill what remains."""
        if self._main is not None and self._main.poll() is None:
            self._main.send_signal(self._order["stop_signal"])
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._main.wait(STOP_WITHIN_S)
        return self.kill()

    def kill(self) -> str:
        """Send SIGKILL to all processes until none is left."""
        until = time.monotonic() + STOP_WITHIN_S
        while family := descendants():
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._main is not None:
                self._main.poll()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if time.monotonic() > until:
                return "still running"
            time.sleep(0.005)
        self._main = None
        return "ended"

    def freeze(self) -> str:
        return self._signal_all(signal.SIGSTOP)

    def thaw(self) -> str:
        return self._signal_all(signal.SIGCONT)

    def _signal_all(self, which: signal.Signals) -> str:
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, which)
        return "running"


def descendants() -> list[int]:
    """Return the process IDs of all descendants of this process."""
    parents: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
                parents.setdefault(parent, []).append(int(place.name))
    found, ask = [], [os.getpid()]
    while ask:
        children = parents.get(ask.pop(), [])
        found += children
        ask += children
    return found


def main() -> None:
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_BECOME_REAPER, 1, 0, 0, 0)
    order = json.loads(sys.stdin.readline())
    kept = Kept(order)
    verbs = {
        verb.__name__: verb
        for verb in (kept.start, kept.stop, kept.kill, kept.state, kept.freeze, kept.thaw)
    }
    try:
        while word := sys.stdin.readline().strip():
            print(verbs[word](), flush=True)
    finally:
        kept.thaw()
        kept.kill()
        shutil.rmtree(order["folder"], ignore_errors=True)


if __name__ == "__main__":
    main()
