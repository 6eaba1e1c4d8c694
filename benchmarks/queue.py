"""The queue's numbers: `python -m benchmarks.queue [--quick] [--form FORM] [--only NAME]`.

Claims and ends a second by eight processes, a claim and the pages beside 100,000 waiting tasks, how
long an order waits for an idle worker, and what an installation takes that has nothing to do; in
both forms: embedded (SQLite, messages in a folder) and distributed (PostgreSQL that waits for the
disk, RabbitMQ). All on folders and servers of its own, which are removed afterwards.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROCESSES = 8
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Number:
    what: str
    found: float
    unit: str
    limit: float | None = None
    """None: no target, for comparison only."""
    at_most: bool = True

    def line(self) -> str:
        found = f"| {self.what} | {self.found:.4g} {self.unit} |"
        if self.limit is None:
            return f"{found} | |"
        is_met = self.found <= self.limit if self.at_most else self.found >= self.limit
        bound = f"at {'most' if self.at_most else 'least'} {self.limit:g} {self.unit}"
        return f"{found} {bound} | {'met' if is_met else '**missed**'} |"


@dataclass
class Field:
    """An installation in a folder of its own."""

    data: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_"))}
        kept.pop("DATABASE_URL", None)
        own = {"ADIT_DATA": str(self.data), "ADIT_RECEIVER_PORT": "0", "PORT": str(_free_port())}
        return {**kept, **own, **self.settings}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.queue_field", *arguments],
            env=self.env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def do(self, *arguments: str) -> Any:
        return told_by(self.begin(*arguments))

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "adit.cli", "up"],
            env=self.env,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "ready at" in line:
                    break
            else:
                raise RuntimeError("`adit up` did not come up")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    load = os.getloadavg()[0]
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {load:.1f}, ")
    print(f"Python {platform.python_version()}\n")
    print("| form | what | found | limit | |\n|---|---|---|---|---|")
    for form in FORMS:
        if options.form in ("", form):
            with FORMS[form]() as place:
                place.do("prepare")
                for name, measure in MEASURES.items():
                    if options.only in ("", name):
                        for number in measure(place, options):
                            print(f"| {form} {number.line()}", flush=True)
    return 0


@contextmanager
def embedded() -> Iterator[Field]:
    with tempfile.TemporaryDirectory(prefix="adit-bench-") as folder:
        yield Field(Path(folder) / "var")


@contextmanager
def distributed() -> Iterator[Field]:
    from lab.services import postgresql, rabbitmq

    with (
        postgresql(fsync="on", full_page_writes="on") as base,
        rabbitmq() as broker,
        tempfile.TemporaryDirectory(prefix="adit-bench-") as folder,
    ):
        urls = {"DATABASE_URL": base.url, "ADIT_BROKER_URL": broker.url}
        yield Field(Path(folder) / "var", urls)


FORMS = {"embedded": embedded, "distributed": distributed}


def throughput(place: Field, options: argparse.Namespace) -> Iterator[Number]:
    """Each task is claimed and finished on its own, in two transactions."""
    rate, cpu_ms = _rate(place, options, "claim-all")
    least = 60
    yield Number("claimed and finished, 8 processes", rate, "a second", least, at_most=False)
    yield Number("processor of our process for one claim and its end", cpu_ms, "ms")


def throughput_beside(place: Field, options: argparse.Namespace) -> Iterator[Number]:
    place.do("backlog", "100000", "closed")
    rate, _ = _rate(place, options, "claim-all")
    yield Number("the same beside 100,000 waiting tasks", rate, "a second", 60, at_most=False)
    place.do("clear")


def lots(place: Field, options: argparse.Namespace) -> Iterator[Number]:
    """Measure small searches, which are claimed in lots.

    One transaction ends up to 64 and claims as many.
    """
    rate, cpu_ms = _rate(place, options, "claim-lots")
    yield Number("the same by lots of 64, as small searches are", rate, "a second")
    yield Number("processor of our process for one of a lot", cpu_ms, "ms")


def _rate(place: Field, options: argparse.Namespace, command: str) -> tuple[float, float]:
    """Measure processes that start at the same moment, as the best of three rounds.

    Returns tasks per second, and our processor time per task in milliseconds.
    """
    tasks, rounds = (1000 if options.quick else 4000), []
    for _ in range(1 if options.quick else 3):
        place.do("backlog", str(tasks), "from")
        at = str(time.time() + (8 if options.quick else 15))
        claimers = [place.begin(command, f"process {n}", at) for n in range(PROCESSES)]
        told = [told_by(claimer) for claimer in claimers]
        count = sum(one["count"] for one in told)
        if count != tasks:
            raise RuntimeError(f"{count} claims of {tasks} tasks")
        begun, ended = min(one["begun"] for one in told), max(one["ended"] for one in told)
        cpu_ms = 1000 * sum(one["cpu_s"] for one in told) / tasks
        rounds.append((tasks / (ended - begun), cpu_ms))
    return max(rounds)


def backlog(place: Field, options: argparse.Namespace) -> Iterator[Number]:
    """Measure with waiting tasks, half of them for a closed node."""
    tasks = 10_000 if options.quick else 100_000
    place.do("backlog", str(tasks // 2), "closed")
    place.do("backlog", str(tasks // 2), "from")
    claims = place.do("claim-some", "200")
    yield Number(f"a claim beside {tasks:,} tasks, median", claims["median"], "ms", 20)
    yield Number("the same, the slowest of 200", claims["most"], "ms")
    yield Number("the same, the first of a process", claims["first"], "ms")
    for name, median in place.do("page").items():
        yield Number(f"page: {name}, beside them", median, "ms", 200)
    place.do("clear")


def wake_up(place: Field, options: argparse.Namespace) -> Iterator[Number]:
    """Measure from the commit of an order to the claim by an idle worker."""
    limit = 50 if place.settings else 200
    with place.up():
        time.sleep(5)
        waits = place.do("wake-ups", "5" if options.quick else "20")
    yield Number("wake-up of an idle worker, median", statistics.median(waits), "ms", limit)
    yield Number("wake-up of an idle worker, slowest", max(waits), "ms", limit)


def idle(place: Field, options: argparse.Namespace) -> Iterator[Number]:
    """Measure all processes of `adit up` together; shared memory is counted once."""
    lasts = 30 if options.quick else 60
    with place.up() as up:
        time.sleep(15)
        family = _family(up.pid)
        before = sum(_cpu_s(pid) for pid in family)
        time.sleep(lasts)
        spent = sum(_cpu_s(pid) for pid in family) - before
        yield Number("idle: processor", 100 * spent / lasts, "% of a core", 2)
        yield Number("idle: memory", sum(_pss_mb(pid) for pid in family), "MB", 500)


MEASURES = {
    "throughput": throughput,
    "throughput-beside": throughput_beside,
    "lots": lots,
    "backlog": backlog,
    "wake-up": wake_up,
    "idle": idle,
}


def told_by(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=900)
    if process.returncode or "locked" in err:
        raise RuntimeError(err[-2000:])
    return json.loads(out.splitlines()[-1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--form", default="", choices=["", *FORMS], help="one of them")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", default="", choices=["", *MEASURES], help="one of them")
    return parser


def _family(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(place.name))
    found, ask = [pid], [pid]
    while ask:
        children = parents.get(ask.pop(), [])
        found += children
        ask += children
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests")]
    sys.exit(main())
