"""Time the engine and another tool in turns, each from a clean start, and check the results.

Used by `benchmarks.__main__`.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import mean

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


def short_series_lines(far: Site, rounds: int, place: str) -> list[Line]:
    """Return the comparisons for a study of short series, over several associations."""
    pairs = (("C-GET", GET, GETSCU), ("C-MOVE", MOVE, MOVESCU), ("C-STORE", STORE, STORESCU))
    times = interleaved([work for _, *both in pairs for work in both], far, rounds)
    data = f"{far.study}, {place}"
    return [
        Line(
            f"{words}, {far.associations} associations / {other.name}",
            data,
            times[one.name],
            times[other.name],
            Promise(1.0, 0.6),
        )
        for words, one, other in pairs
    ]


def second_client_lines(near: Site, far: Site, rounds: int, place: str) -> list[Line]:
    """Compare searches of a second client beside a fetch over several associations with none.

    Orthanc serves four associations at once (DicomThreadsCount), and others wait. So three are
    fetched over, which leaves one, and four, beside four getscu at once. The fetches are over a
    network with delays, the second client is beside the archive. Each value is the mean of a round.

    "elsewhere": engine and getscu run when no other process wants the processors, as if they had
    their own. The network between `far` and the archive must run so as well.
    """
    three = replace(far, associations=3)
    cases = {
        "a C-GET, 3 associations, engine elsewhere": (GET, three, True),
        "a C-GET, 3 associations": (GET, three, False),
        "a C-GET, 4 associations, engine elsewhere": (GET, far, True),
        "4 getscu at once, elsewhere": (SEVERAL_GETSCU, far, True),
    }
    means: dict[str, list[float]] = {words: [] for words in cases}
    alone = []
    for _ in range(rounds):
        alone.append(mean(_timed_search(near) for _ in range(40)))
        for words, (work, site, is_elsewhere) in cases.items():
            site.clean()
            with ThreadPoolExecutor(1, initializer=run_elsewhere if is_elsewhere else None) as pool:
                fetch = pool.submit(work.go, site)
                times = []
                while not fetch.done():
                    times.append(_timed_search(near))
                fetch.result()
            means[words].append(mean(times))
    return [
        Line(
            f"C-FIND of a second client beside {words} / alone",
            f"{far.study}, {place}",
            tuple(values),
            tuple(alone),
            Promise(1.2, 1.05),
        )
        for words, values in means.items()
    ]


def run_elsewhere() -> None:
    """Let this thread, and what it starts, use only processor time that nobody else wants."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


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
