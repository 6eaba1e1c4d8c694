"""Handoff: turns pushed instances into a pulled stream, bounded in bytes; carries errors and stop."""

import threading
from collections.abc import Callable

from adit_engine.errors import Stopped


class Stop:
    """Somebody wants the work to end. Asked between instances; also ends waits at once.

    `reason` is a sentence for people. Safe to use from any thread and from a signal handler.
    """

    def __init__(self) -> None:
        self._set = threading.Event()
        self._actions: list[Callable[[], None]] = []
        self.reason = ""

    def set(self, reason: str) -> None:
        """Asks for the end; the first reason counts."""
        if self._set.is_set():
            return
        self.reason = reason
        self._set.set()
        for action in list(self._actions):
            action()

    def is_set(self) -> bool:
        return self._set.is_set()

    def wait(self, timeout_s: float) -> bool:
        return self._set.wait(timeout_s)

    def then(self, action: Callable[[], None]) -> None:
        """Calls `action` when set, at once if it is set already."""
        self._actions.append(action)
        if self._set.is_set():
            action()

    def check(self) -> None:
        """Raises Stopped with the reason."""
        if self._set.is_set():
            raise Stopped(self.reason)
