"""Pace: bytes travel as quickly as was agreed on, and a wait for that ends when the work does."""

import threading
import time

from adit_engine.rate_limit import BURST_S, RateLimiter


def never() -> bool:
    return False


def test_without_a_rate_nothing_waits() -> None:
    assert RateLimiter().throttle(10**9, never) == 0


def test_bytes_take_the_time_that_the_rate_gives_them() -> None:
    pace, began = RateLimiter(100_000), time.monotonic()

    for _ in range(10):
        pace.throttle(10_000, never)

    assert time.monotonic() - began >= 1 - BURST_S - 0.01


def test_lines_of_one_node_share_its_rate() -> None:
    pace, began = RateLimiter(100_000), time.monotonic()
    threads = [threading.Thread(target=pace.throttle, args=(30_000, never)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert time.monotonic() - began >= 1.2 - BURST_S - 0.01


def test_a_rest_saves_up_no_more_than_a_moment() -> None:
    pace = RateLimiter(1000)
    time.sleep(2 * BURST_S)

    assert pace.throttle(1000, lambda: True) >= 1 - BURST_S - 0.01


def test_a_wait_ends_when_the_work_does() -> None:
    over, began = threading.Event(), time.monotonic()
    threading.Timer(0.2, over.set).start()

    RateLimiter(1).throttle(10**6, over.is_set)

    assert time.monotonic() - began < 5
