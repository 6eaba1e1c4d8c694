"""Bounded stream: nothing is lost, memory is limited, and no thread waits forever."""

import mmap
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from adit_engine.bounded_stream import BoundedStream, ReadAhead, Stop, memory_bytes
from adit_engine.errors import ConnectionLost, Stopped
from adit_engine.messages import Message
from adit_engine.values.instance import Instance

IN_TIME_S = 30.0


def instance(number: int, size: int = 100) -> Instance:
    return Instance("1.2", f"1.2.{number}", "1.2.840.10008.1.2", bytes(size))


def started(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(IN_TIME_S)
    return not thread.is_alive()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + IN_TIME_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_all_instances_arrive_in_order() -> None:
    handoff = BoundedStream(limit_bytes=250)

    def push() -> None:
        for number in range(50):
            handoff.put(instance(number))
        handoff.finish()

    thread = started(push)

    assert [one.instance_uid for one in handoff] == [f"1.2.{number}" for number in range(50)]
    assert ended(thread)


def test_put_blocks_while_the_limit_is_reached() -> None:
    handoff = BoundedStream(limit_bytes=250)
    put: list[int] = []

    def push() -> None:
        for number in range(5):
            handoff.put(instance(number))
            put.append(number)
        handoff.finish()

    thread = started(push)
    wait_until(lambda: len(put) == 2)
    thread.join(0.2)
    assert put == [0, 1]
    assert handoff.held_bytes == 200

    assert len(list(handoff)) == 5
    assert ended(thread)


def test_an_instance_larger_than_the_limit_passes() -> None:
    handoff = BoundedStream(limit_bytes=10)

    def push() -> None:
        handoff.put(instance(1, 1000))
        handoff.put(instance(2, 1000))
        handoff.finish()

    thread = started(push)

    assert len(list(handoff)) == 2
    assert ended(thread)


def test_memory_mapped_data_do_not_count_as_memory() -> None:
    mapped = Instance("1.2", "1.3", "1.2.840.10008.1.2", b"abc", (memoryview(mmap.mmap(-1, 4096)),))

    assert memory_bytes(mapped) == 3


def test_put_blocks_while_the_limit_of_mapped_bytes_is_reached() -> None:
    handoff, put = BoundedStream(files_bytes=10_000), []
    mapped = [in_a_file(number, size) for number, size in ((1, 4096), (2, 4096), (3, 40960))]

    def push() -> None:
        for one in mapped:
            handoff.put(one)
            put.append(one)
        handoff.finish()

    thread = started(push)
    wait_until(lambda: len(put) == 2)
    thread.join(0.2)
    assert len(put) == 2
    assert handoff.held_bytes == 0

    assert list(handoff) == mapped
    assert ended(thread)


def in_a_file(number: int, size: int) -> Instance:
    data = memoryview(mmap.mmap(-1, size))
    return Instance("1.2", f"1.2.{number}", "1.2.840.10008.1.2", data[:100], (data[100:],))


def test_an_error_is_raised_after_the_instances_before_it() -> None:
    handoff = BoundedStream()
    handoff.put(instance(1))
    handoff.finish(ConnectionLost("PACS1", "broke off"))

    assert next(handoff).instance_uid == "1.2.1"
    with pytest.raises(ConnectionLost):
        next(handoff)


def test_stop_wakes_producer_and_consumer() -> None:
    stop = Stop()
    full, empty = BoundedStream(limit_bytes=100, stop=stop), BoundedStream(stop=stop)
    full.put(instance(1))
    seen: list[str] = []

    def noted(action: Callable[[], object]) -> None:
        try:
            action()
        except Stopped as error:
            seen.append(str(error))

    threads = [
        started(lambda: noted(lambda: full.put(instance(2)))),
        started(lambda: noted(lambda: next(empty))),
    ]
    reason = Message("node.stopped", node="PACS1")
    stop.set(reason)

    assert all(ended(thread) for thread in threads)
    assert seen == [str(reason)] * 2


def test_closing_the_stream_stops_the_producer() -> None:
    handoff = BoundedStream(limit_bytes=100)
    handoff.put(instance(1))
    seen: list[Stopped] = []

    def push() -> None:
        try:
            handoff.put(instance(2))
        except Stopped as error:
            seen.append(error)

    thread = started(push)
    handoff.close()

    assert ended(thread)
    assert len(seen) == 1
    assert list(handoff) == []


def test_read_ahead_returns_all_instances_and_closes_its_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[Instance]:
        try:
            for number in range(20):
                yield instance(number)
        finally:
            closed.set()

    got = list(ReadAhead(source(), unblock=lambda: None, limit_bytes=300))

    assert len(got) == 20
    assert closed.is_set()


def test_read_ahead_raises_the_error_of_its_source() -> None:
    def source() -> Iterator[Instance]:
        yield instance(1)
        raise ConnectionLost("PACS1", "broke off")

    unblocked: list[bool] = []
    stream = ReadAhead(source(), unblock=lambda: unblocked.append(True))

    assert next(stream).instance_uid == "1.2.1"
    with pytest.raises(ConnectionLost):
        next(stream)
    assert unblocked == []


def test_closing_read_ahead_early_unblocks_its_source_and_ends_its_thread() -> None:
    before = threading.active_count()
    aborted = threading.Event()

    def source() -> Iterator[Instance]:
        yield instance(1)
        assert aborted.wait(IN_TIME_S)
        raise Stopped("node.stopped", node="PACS1")

    stream = ReadAhead(source(), unblock=aborted.set)
    next(stream)
    stream.close()  # type: ignore[attr-defined]

    assert aborted.is_set()
    assert threading.active_count() <= before


def test_only_close_waits_for_the_on_end_callback() -> None:
    allowed, done = threading.Event(), threading.Event()

    def afterwards() -> None:
        assert allowed.wait(IN_TIME_S)
        done.set()

    stream = ReadAhead(iter([instance(1)]), on_end=afterwards)

    assert len(list(stream)) == 1
    assert not done.is_set()
    allowed.set()
    stream.close()
    assert done.is_set()


def test_the_on_end_callback_is_not_called_after_an_error() -> None:
    def source() -> Iterator[Instance]:
        raise ConnectionLost("PACS1", "broke off")
        yield

    done: list[bool] = []
    stream = ReadAhead(source(), on_end=lambda: done.append(True))

    with pytest.raises(ConnectionLost):
        next(stream)
    assert done == []
