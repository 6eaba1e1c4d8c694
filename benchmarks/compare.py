"""Time the engine and another tool in turns, each from a clean start, and check the results.

Used by `benchmarks.__main__`.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.table import Line, Promise
from benchmarks.works import (
    GET,
    GETSCU,
    LISTED,
    MOVE,
    MOVESCU,
    RELAY,
    SCRIPT,
    SEVERAL_GETSCU,
    STORE,
    STORESCU,
    TRANSFER,
    Site,
    Work,
    search_by_findscu,
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


def delayed_lines(near: Site, far: Site, rounds: int, place: str) -> list[Line]:
    """Return the comparisons over a network with delays, for which `far` has several associations.

    `near` is the same site with one association each.
    """
    works = (GET, GETSCU, STORE, STORESCU, TRANSFER, SCRIPT, MOVE, MOVESCU)
    times = interleaved(works, far, rounds)
    single = interleaved((GET, LISTED), near, rounds)
    data, four = f"{far.study}, {place}", f"{far.associations} associations"
    return [
        *(
            Line(f"{words}, {four} / {other.name}", data, times[one.name], times[other.name], most)
            for words, one, other, most in (
                ("C-GET", GET, GETSCU, Promise(0.45, 0.3)),
                ("C-STORE", STORE, STORESCU, Promise(0.4, 0.3)),
                ("archive to archive, pseudonymized", TRANSFER, SCRIPT, Promise(0.3, 0.2)),
                ("C-MOVE", MOVE, MOVESCU, Promise(0.5, 0.35)),
            )
        ),
        Line(
            "C-GET, one association / findscu; getscu; findscu",
            data,
            single[GET.name],
            single[LISTED.name],
            Promise(1.1, 0.95),
        ),
    ]


def second_client_lines(near: Site, far: Site, rounds: int, place: str) -> list[Line]:
    """Compare searches of a second client beside a fetch over several associations with none.

    The second line is beside as many getscu at once, which shows what the archive itself costs. The
    fetches are over a network with delays, the second client is beside the archive.
    """
    times: dict[str, list[float]] = {"alone": [], GET.name: [], SEVERAL_GETSCU.name: []}
    for _ in range(rounds):
        times["alone"] += [_timed_search(near) for _ in range(20)]
        for work in (GET, SEVERAL_GETSCU):
            far.clean()
            with ThreadPoolExecutor(1) as pool:
                fetch = pool.submit(work.go, far)
                while not fetch.done():
                    times[work.name].append(_timed_search(near))
                fetch.result()
    words, data = "C-FIND of a second client beside", f"{far.study}, {place}"
    alone, beside, getscu = (tuple(values) for values in times.values())
    promise = Promise(1.2, 1.05)
    return [
        Line(
            f"{words} a C-GET, {far.associations} associations / alone",
            data,
            beside,
            alone,
            promise,
        ),
        Line(f"{words} {far.associations} getscu at once / alone", data, getscu, alone, promise),
    ]


def _timed_search(site: Site) -> float:
    began = time.perf_counter()
    search_by_findscu(site)
    return time.perf_counter() - began


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
