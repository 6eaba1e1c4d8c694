"""Streams between threads, bounded in bytes, that carry errors and stop requests.

Used wherever one thread receives instances and another consumes them.
"""

import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from adit_engine.errors import Stopped
from adit_engine.messages import Message
from adit_engine.values.instance import Instance

LIMIT_BYTES = 64 * 1024 * 1024
MAPPED_LIMIT_BYTES = 512 * 1024 * 1024
"""Limit for instances mapped from files: disks are limited as well."""

_POLL_S = 0.1
"""Interval at which waits check for a stop: a signal handler sets a Stop and takes no lock."""


class Stop:
    """A request to end the work. Checked between instances; also ends waits at once.

    `reason` is None until it is set. Safe to use from any thread and from a signal handler.
    """

    def __init__(self) -> None:
        self._set = threading.Event()
        self._actions: list[Callable[[], None]] = []
        self._reason_after_series: Message | None = None
        self.reason: Message | None = None

    def set(self, reason: Message) -> None:
        """Request the end; the first reason counts."""
        if self._set.is_set():
            return
        self.reason = reason
        self._set.set()
        for action in list(self._actions):
            action()

    def set_after_series(self, reason: Message | None) -> None:
        """Request the end after the current series; None withdraws the request."""
        self._reason_after_series = reason

    @property
    def is_set_after_series(self) -> bool:
        return self._reason_after_series is not None

    def is_set(self) -> bool:
        return self._set.is_set()

    def wait(self, timeout_s: float) -> bool:
        return self._set.wait(timeout_s)

    def add_callback(self, action: Callable[[], None]) -> None:
        """Call `action` when the stop is set; immediately if it is set already."""
        self._actions.append(action)
        if self._set.is_set():
            action()

    def check_after_series(self) -> None:
        """Check between two series: also raises Stopped after `set_soon`."""
        if self._reason_after_series is not None:
            self.set(self._reason_after_series)
        self.check()

    def check(self) -> None:
        """Raise Stopped with the reason if the stop is set."""
        if self._set.is_set() and self.reason is not None:
            raise Stopped(self.reason.code, **self.reason.values)


class BoundedStream(Iterator[Instance]):
    """A stream between a producing and a consuming thread.

    `put` waits while more than `limit_bytes` of memory are held, or more than `files_bytes` mapped
    from files. One instance is always accepted, whatever its size.
    """

    def __init__(
        self,
        limit_bytes: int = LIMIT_BYTES,
        stop: Stop | None = None,
        files_bytes: int = MAPPED_LIMIT_BYTES,
    ) -> None:
        self._limit = limit_bytes
        self._files_limit = files_bytes
        self._stop = stop
        self._held: deque[Instance] = deque()
        self._changed = threading.Condition()
        self.finished = False
        self._left = False
        self._error: BaseException | None = None
        self.held_bytes = self._held_in_files = 0

    def put(self, instance: Instance) -> None:
        """Add an instance. Raise Stopped if stopped, or if the consumer has closed."""
        size = memory_bytes(instance)
        in_files = instance.size_bytes - size
        with self._changed:
            while not self._left and self._has_no_space_for(size, in_files):
                self._wait()
            if self._left:
                raise Stopped("stream.closed")
            self._check_stop()
            self._held.append(instance)
            self.held_bytes += size
            self._held_in_files += in_files
            self._changed.notify_all()

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream.

        The error is raised in the consumer, after the instances put before it.
        """
        with self._changed:
            self.finished = True
            self._error = error
            self._changed.notify_all()

    def __next__(self) -> Instance:
        with self._changed:
            while not self._held and not self.finished and not self._left:
                self._wait()
            self._check_stop()
            if self._held and not self._left:
                instance = self._held.popleft()
                size = memory_bytes(instance)
                self.held_bytes -= size
                self._held_in_files -= instance.size_bytes - size
                self._changed.notify_all()
                return instance
            error, self._error = self._error, None
            if error is not None and not self._left:
                raise error
            raise StopIteration

    def close(self) -> None:
        """Close the consumer's side: drop what is held; the next `put` raises Stopped."""
        with self._changed:
            self._left = True
            self._held.clear()
            self.held_bytes = self._held_in_files = 0
            self._changed.notify_all()

    def _has_no_space_for(self, size: int, in_files: int) -> bool:
        held, in_held = self.held_bytes, self._held_in_files
        is_memory_full = held > 0 and held + size > self._limit
        return is_memory_full or (in_held > 0 and in_held + in_files > self._files_limit)

    def _wait(self) -> None:
        self._check_stop()
        self._changed.wait(_POLL_S)

    def _check_stop(self) -> None:
        if self._stop is not None:
            self._stop.check()


class ReadAhead(Iterator[Instance]):
    """The same instances, fetched ahead from `source` in a thread, up to a limit.

    The thread starts at once, and has ended when this iterator has, or after `close`. Errors of the
    source are raised here. `unblock` ends a wait inside the source at once (a node's `break_off`);
    it is called when the consumer leaves early. Without it the source's own deadline ends the wait.

    `afterwards` is called in the thread after the source has ended without an error, while the
    consumer continues; then only `close` waits for the thread. It must not raise.
    """

    def __init__(
        self,
        source: Iterator[Instance],
        *,
        unblock: Callable[[], None] | None = None,
        limit_bytes: int = LIMIT_BYTES,
        stop: Stop | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._stream = BoundedStream(limit_bytes, stop)
        self._unblock = unblock
        self._goes_on = on_end is not None
        arguments = (source, self._stream, on_end)
        self._thread = threading.Thread(
            target=_fill, args=arguments, name="read ahead", daemon=True
        )
        self._thread.start()

    def __next__(self) -> Instance:
        try:
            return next(self._stream)
        except StopIteration:
            if not self._goes_on:
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stream.close()
        if not self._stream.finished and self._unblock is not None:
            self._unblock()
        self._thread.join()


def memory_bytes(instance: Instance) -> int:
    """Return the memory used by an instance; buffers mapped from a file use none."""
    return sum(
        len(part)
        for part in instance.parts()
        if not (isinstance(part, memoryview) and isinstance(part.obj, mmap.mmap))
    )


def _fill(
    source: Iterator[Instance], stream: BoundedStream, on_end: Callable[[], None] | None
) -> None:
    """Run the source and always close it; its error goes to the consumer."""
    error: BaseException | None = None
    try:
        for instance in source:
            stream.put(instance)
    except BaseException as raised:  # noqa: BLE001 - raised again in the consumer
        error = raised
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            with suppress(Stopped):
                close()
        stream.finish(error)
    if error is None and on_end is not None:
        on_end()
