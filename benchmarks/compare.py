"""Time the engine and another tool in turns, each from a clean start, and check the results.

Used by `benchmarks.__main__`.
"""

import time
from collections.abc import Sequence

from benchmarks.table import Line, Promise
from benchmarks.works import (
    GET,
    GETSCU,
    LISTED,
    MOVE,
    MOVESCU,
    RELAY,
    SCRIPT,
    STORE,
    STORESCU,
    TRANSFER,
    Site,
    Work,
)

GET_PROMISE, STORE_PROMISE = Promise(1.2, 0.9), Promise(1.0, 0.75)
MOVE_PROMISE = Promise(1.0, 0.6)
RELAY_PROMISE, SCRIPT_PROMISE = Promise(1 / 3, 1 / 5), Promise(1 / 1.2, 1 / 1.6)
STOCK_PROMISE = Promise(1 / 10, 1 / 20)


def lines(site: Site, rounds: int, place: str) -> list[Line]:
    """Return every comparison that this site allows."""
    works = (GET, GETSCU, LISTED, MOVE, MOVESCU, STORE, STORESCU, TRANSFER, RELAY, SCRIPT)
    times = interleaved(works, site, rounds)
    data = f"{site.study}, {place}"
    pairs = (
        ("C-GET to folder / getscu", GET, GETSCU, GET_PROMISE),
        ("the same / findscu; getscu; findscu", GET, LISTED, GET_PROMISE),
        ("C-MOVE to folder / movescu", MOVE, MOVESCU, MOVE_PROMISE),
        ("C-STORE from folder / storescu", STORE, STORESCU, STORE_PROMISE),
        ("archive to archive / Orthanc relay", TRANSFER, RELAY, RELAY_PROMISE),
        ("archive to archive / getscu; dcmodify; storescu", TRANSFER, SCRIPT, SCRIPT_PROMISE),
    )
    return [
        Line(words, data, times[one.name], times[other.name], promise)
        for words, one, other, promise in pairs
    ]


def stock_line(site: Site, rounds: int, place: str) -> Line:
    """Compare with a relay of unmodified peers, without socket options."""
    times = interleaved((TRANSFER, RELAY), site, rounds)
    data = f"{site.study}, {place}"
    words = "archive to archive / Orthanc relay, stock peers"
    return Line(words, data, times[TRANSFER.name], times[RELAY.name], STOCK_PROMISE)


def interleaved(works: Sequence[Work], site: Site, rounds: int) -> dict[str, tuple[float, ...]]:
    """Return seconds per work, one value per round.

    Each round starts with another work, so that none is always last.
    """
    taken: dict[str, list[float]] = {work.name: [] for work in works}
    for number in range(rounds):
        first = number % len(works)
        for work in (*works[first:], *works[:first]):
            taken[work.name].append(timed(work, site))
    return {name: tuple(times) for name, times in taken.items()}


def timed(work: Work, site: Site) -> float:
    """Return the seconds of one work. Raise RuntimeError unless all images arrived."""
    site.clean()
    began = time.perf_counter()
    work.go(site)
    seconds = time.perf_counter() - began
    arrived = work.arrived(site)
    if arrived != site.study.count:
        raise RuntimeError(f"{work.name}: {arrived} of {site.study.count} images arrived.")
    return seconds
