"""Stop a command on SIGINT or SIGTERM between two images, and still report what was delivered.

Used by the subcommands that transfer.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from adit_engine.bounded_stream import Stop
from adit_engine.messages import Message

STOP_REASON = Message("cli.stopped")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal(stop: Stop) -> Iterator[Callable[[], int | None]]:
    """Set `stop` on a signal within the block; a second signal ends the process.

    Yields a function that returns the exit code of a stopped command (128 + signal number).
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def restore_handlers() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore_handlers()
        stop.set(STOP_REASON)  # before anything reads the exit code
        print(
            "adit-engine: stopping after the current image; repeat to stop immediately",
            file=sys.stderr,
        )

    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            # Processes started in the background ignore SIGINT.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle_signal)
    try:
        yield lambda: 128 + received[0] if received else None
    finally:
        restore_handlers()
