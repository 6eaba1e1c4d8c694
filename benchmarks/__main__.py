"""The command behind `make bench`: data, two archives and a relay on temp storage, one table."""

import argparse
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path

from benchmarks import compare, cost, peers
from benchmarks.data import CT, MG, MR, Kind, Study
from benchmarks.delayed_network import delayed_port
from benchmarks.table import Figure, Line, NotYet, markdown
from benchmarks.works import Site, engine

_MEMORY = Path("/dev/shm")
_FULL = {CT: 400, MR: 1500, MG: 8}
_QUICK = {CT: 100, MR: 200, MG: 2}
DELAYS_S = (0.0025, 0.01)
"""Delays of each direction, as between buildings and between towns."""

ASSOCIATIONS = 4

NOT_YET: tuple[NotYet, ...] = ()

Lines = list[Line | Figure | NotYet]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; exit code 0 even if required programs are missing.

    That is reported, and not an error.
    """
    options = _parser().parse_args(arguments)
    absent = peers.missing()
    if absent:
        print(f"Nothing was compared. Install first: apt install {' '.join(absent)}")
        return 0
    counts: dict[Kind, int] = _QUICK if options.quick else _FULL
    rounds = options.rounds or (3 if options.quick else 5)
    places = [("tmpfs", _MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir()))]
    if options.disk:
        places.append(("disk", Path(options.disk)))
    print(_where(rounds))
    found: Lines = []
    try:
        engine_ready()
        if not options.delayed:
            found += _costs(places[0][1], quick=options.quick)
        for line in _delayed(*places[0], rounds, quick=options.quick):
            found.append(line)
        for name, base in () if options.delayed else places:
            for line in _compared(name, base, counts, rounds):
                found.append(line)
    finally:
        shutil.rmtree(peers.BYTE_CODE, ignore_errors=True)
        print("\n" + markdown([*found, *NOT_YET]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less data, three rounds")
    parser.add_argument("--rounds", type=int, help="how often each is timed; else 5")
    parser.add_argument(
        "--delayed", action="store_true", help="only the comparisons over a network with delays"
    )
    parser.add_argument(
        "--disk", nargs="?", const="/var/tmp", metavar="FOLDER", help="again, on a disk"
    )
    return parser


def _where(rounds: int) -> str:
    day = datetime.now(UTC).date().isoformat()
    machine = f"{cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return f"{day}; {machine}; medians of {rounds} interleaved rounds, whole commands"


def engine_ready() -> None:
    """Run once unmeasured, so that the byte code exists as in an installed program."""
    with tempfile.TemporaryDirectory() as folder:
        engine("find", "--from", folder)


@contextmanager
def _stage(base: Path, *, options: bool) -> Iterator[Callable[[Study], Site]]:
    """Start three archives below a temporary folder, which is removed when they end."""
    with tempfile.TemporaryDirectory(prefix="adit-bench-", dir=base) as temp, ExitStack() as stack:
        folder = Path(temp)
        source, relay, destination = (
            stack.enter_context(peers.orthanc(name, folder / name, options=options))
            for name in ("SOURCE", "RELAY", "DEST")
        )
        relay.knows(source)
        relay.knows(destination)
        port = peers.free_port()
        source.sends_to("ADIT", port)
        files, scratch = folder / "files", folder / "scratch"
        yield lambda study: Site(source, relay, destination, study, files, scratch, port)


def _delayed(place: str, base: Path, rounds: int, *, quick: bool) -> Iterator[Line | Figure]:
    """Yield comparisons over networks with delays; lazy as `_compared`."""
    with _stage(base, options=True) as site_of:
        direct = site_of(Study(MR, 200 if quick else 1500, series=10))
        direct.fill()
        for seconds in DELAYS_S:
            where = f"{place}, {seconds * 1000:g} ms each way"
            _say(f"{direct.study} on {where}")
            with ExitStack() as stack:

                def at(port: int, delay_s: float = seconds, stack: ExitStack = stack) -> int:
                    return stack.enter_context(delayed_port(port, delay_s))

                one = replace(
                    direct,
                    source=replace(direct.source, dicom_port=at(direct.source.dicom_port)),
                    destination=replace(
                        direct.destination, dicom_port=at(direct.destination.dicom_port)
                    ),
                    associations=1,
                )
                direct.source.sends_to("ADIT", at(direct.receiver_port))
                several = replace(one, associations=ASSOCIATIONS)
                yield from compare.delayed_lines(one, several, rounds, where)
                if not quick:
                    short = replace(several, study=Study(MR, 200, series=10))
                    short.fill()
                    yield from compare.short_series_lines(short, rounds, where)
                    direct.fill()
                if seconds == DELAYS_S[0]:
                    with ThreadPoolExecutor(1, initializer=compare.run_elsewhere) as pool:
                        port = pool.submit(at, direct.source.dicom_port).result()
                    far = replace(several, source=replace(direct.source, dicom_port=port))
                    yield from compare.second_client_lines(direct, far, rounds, where)
                    counts = (50, 200, 500) if quick else (100, 1000, 5000)

                    def far_of(study: Study, site: Site = several) -> Site:
                        return replace(site, study=study)

                    yield from cost.growth(far_of, counts, where)
                    direct.fill()


def _compared(place: str, base: Path, counts: dict[Kind, int], rounds: int) -> Iterator[Line]:
    """Yield comparisons; lazy, so that results are reported even if a later one fails."""
    with _stage(base, options=True) as site_of:
        for kind, count in counts.items():
            site = site_of(Study(kind, count))
            _say(f"{site.study} on {place}")
            site.fill()
            yield from compare.lines(site, rounds, place)
    with _stage(base, options=False) as site_of:
        site = site_of(Study(CT, min(counts[CT], 100)))
        _say(f"{site.study} on {place}, stock peers")
        site.fill()
        yield compare.stock_line(site, rounds, place)


def _costs(base: Path, *, quick: bool) -> Lines:
    counts = (50, 200, 500) if quick else (100, 1000, 5000)
    found: Lines = []
    with _stage(base, options=True) as site_of:
        _say("processor time and memory")
        site = site_of(Study(CT, 100 if quick else 400, number=5))
        site.fill()
        found += cost.in_memory(site.files.parent)
        found.append(cost.per_instance(site, 3))
        found += cost.growth(site_of, counts)
    return found


def _say(words: str) -> None:
    print(f"  {words} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
