"""Rate limit: the rate is not exceeded, and a wait ends when the work is stopped."""

import threading
import time

from adit_engine.rate_limit import BURST_S, RateLimiter


def never() -> bool:
    return False


def test_without_a_rate_limit_nothing_is_delayed() -> None:
    assert RateLimiter().throttle(10**9, never) == 0


def test_the_transfer_rate_does_not_exceed_the_limit() -> None:
    pace, began = RateLimiter(100_000), time.monotonic()

    for _ in range(10):
        pace.throttle(10_000, never)

    assert time.monotonic() - began >= 1 - BURST_S - 0.01


def test_concurrent_transfers_of_a_node_share_its_rate_limit() -> None:
    pace, began = RateLimiter(100_000), time.monotonic()
    threads = [threading.Thread(target=pace.throttle, args=(30_000, never)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert time.monotonic() - began >= 1.2 - BURST_S - 0.01


def test_idle_time_accumulates_no_more_than_the_burst() -> None:
    pace = RateLimiter(1000)
    time.sleep(2 * BURST_S)

    assert pace.throttle(1000, lambda: True) >= 1 - BURST_S - 0.01


def test_a_throttled_wait_ends_when_the_work_is_stopped() -> None:
    over, began = threading.Event(), time.monotonic()
    threading.Timer(0.2, over.set).start()

    RateLimiter(1).throttle(10**6, over.is_set)

    assert time.monotonic() - began < 30
