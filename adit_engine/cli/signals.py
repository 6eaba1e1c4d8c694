"""Interruption: Ctrl-C or a kind kill ends the work between two images; what came is told all the same."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from adit_engine.bounded_stream import Stop

STOP_REASON = "the command was stopped by whoever called it"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal(stop: Stop) -> Iterator[Callable[[], int | None]]:
    """Within the block a signal sets `stop`; a second one ends the process as usual.

    Gives how to ask for the exit code of a stopped command (128 + the signal's number).
    """
    heard: list[int] = []
    before: dict[int, Any] = {}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        put_back()
        stop.set(STOP_REASON)  # before anybody reads that it is so
        print(
            "adit-engine: stopping after the image in hand; once more ends it at once",
            file=sys.stderr,
        )

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            # What is started in the background has been told not to heed Ctrl-C.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, hear)
    try:
        yield lambda: 128 + heard[0] if heard else None
    finally:
        put_back()
