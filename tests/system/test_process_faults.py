"""Random process faults on one machine and on a cluster; an auditor checks the result."""

import json
import os
import random
import secrets
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import images
import psycopg
import pytest
from cluster import Cluster, cluster, needs_services, start_all
from conftest import free_port
from lab.archive import Lying
from lab.lies import Site, holdings
from lab.wire import Wire
from process_faults import Harm, ProcessFaults, frozen
from test_moves import Archive, Installation, installation

from adit_engine.dicom_file import part10

KILLS = int(os.environ.get("ADIT_CHAOS_KILLS", "8"))
STUDIES = max(4, KILLS)
IMAGES = 25
AT_ONCE = 4
"""Number of studies ordered at a time, each for two projects."""
TRIALS = ("LUNG", "HEART")
BYTES_PER_S = 500_000.0
FOUR = {"retrieve_associations": 4, "store_associations": 4}
"""Up to four associations of one transfer at once, in each direction."""
LIMIT = 16
ENDED = {"success", "warning", "failure", "canceled"}
RECOVERS_WITHIN_S = 90
MOVES = str(Path(__file__).with_name("moves.py"))
AUDIT_DATA = str(Path(__file__).with_name("audit_data.py"))


@dataclass
class Ground:
    """One kind of installation under test, with its faults and access to its state."""

    run: Callable[..., str]
    rows: Callable[[str], list[tuple[Any, ...]]]
    tend: Callable[[], None]
    harms: dict[str, Harm]
    log: Callable[[], str]


@dataclass
class Archives:
    """The source, and the settings of all nodes: one project by C-MOVE into a folder, one by C-GET
    into a PACS."""

    source: Archive
    settings: dict[str, Any]


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Folder with the studies of the source, one series each."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for study in studies():
        for number in range(1, IMAGES + 1):
            one = part10.parse_file(images.ct(1, number, study=study))
            (folder / f"{one.instance_uid}.dcm").write_bytes(b"".join(part10.file_parts(one)))
    return folder


def studies() -> list[str]:
    return [f"{images.ROOT}.{number}" for number in range(1, STUDIES + 1)]


@contextmanager
def archives(shelf: Path, kept: Path, scratch: Path, receiver: int) -> Iterator[Archives]:
    """Archive that sends slowly, so that processes can be killed during a transfer; and a PACS."""
    scratch.mkdir()
    kept.mkdir()
    with Wire(receiver, 0, "rate", amount=BYTES_PER_S, forth=True) as slow:
        site = Site("LAB", holdings(shelf), {"ADIT": ("127.0.0.1", slow.port)})
        with (
            Lying(site, scratch=scratch) as lab,
            Lying(Site("KEEPER", holdings(kept)), scratch=scratch) as keeper,
            Wire(lab.port, 0, "rate", amount=BYTES_PER_S) as slow_lab,
        ):
            here = {"host": "127.0.0.1", **PATIENCE, **FOUR}
            source = {**here, "port": slow_lab.port, "called_ae_title": "LAB", "retrieve": "get"}
            destination = {**here, "port": keeper.port, "called_ae_title": "KEEPER"}
            heart = {"source": source, "destination": destination}
            told = {**FOUR, "limit": LIMIT, "heart": heart}
            yield Archives(Archive(lab.port, "LAB", lab.log.sent), told)


@contextmanager
def embedded(folder: Path, shelf: Path, kept: Path) -> Iterator[Ground]:
    receiver = free_port()
    with (
        archives(shelf, kept, folder / "scratch", receiver) as lab,
        installation(
            folder / "data",
            lab.source,
            receiver,
            told={"ADIT_MAX_FAILURES": "100"},
            **lab.settings,
        ) as one,
    ):

        def rows(query: str) -> list[tuple[Any, ...]]:
            with closing(sqlite3.connect(one.data / "adit.sqlite3", timeout=60)) as base:
                return base.execute(query).fetchall()

        def run(script: str, *words: str) -> str:
            return json.dumps(one.run(script, *words))

        harms = {kind: _killing(one, kind) for kind in ("receiver", "worker", "scheduler", "web")}
        harms["worker, frozen"] = frozen(lambda how: _signal(one, "worker", how))
        yield Ground(run, rows, lambda: None, harms, one.log)


@contextmanager
def distributed(folder: Path, shelf: Path, kept: Path) -> Iterator[Ground]:
    with (
        cluster(folder / "cluster", workers=3) as one,
        archives(shelf, kept, folder / "scratch", one.receiver_port) as lab,
    ):
        source = lab.source
        node = {"host": "127.0.0.1", "port": source.port, "called_ae_title": source.called}
        made = {**node, "retrieve": "move", **PATIENCE, **lab.settings}
        one.run("web", MOVES, "make", json.dumps(made))
        start_all(one, workers=3)

        def rows(query: str) -> list[tuple[Any, ...]]:
            with closing(psycopg.connect(one.services["postgresql"].url)) as base:
                return base.execute(query.encode()).fetchall()

        yield Ground(one.run_on_web, rows, one.tend, _harms(one), one.log)


PATIENCE = {"connect_s": 3, "association_s": 5, "first_byte_s": 15, "no_progress_s": 10}


def _harms(one: Cluster) -> dict[str, Harm]:
    harms: dict[str, Harm] = {
        name: (lambda name=name: one.kill(name))  # type: ignore[misc]
        for name in ("web", "scheduler", "receiver", "worker-1", "worker-2", "worker-3")
    }
    harms["worker-1, frozen"] = frozen(lambda how: one.kill("worker-1", how))
    for name in ("rabbitmq", "redis", "postgresql"):
        harms[name] = _restarting(one, name)
    harms["redis, flushed"] = lambda: _flush(one)
    return harms


def _restarting(one: Cluster, name: str) -> Harm:
    def restart() -> None:
        one.services[name].kill()
        one.services[name].start()

    return restart


def _flush(one: Cluster) -> None:
    import redis

    with redis.Redis.from_url(one.services["redis"].url) as client:
        client.flushall()


def _killing(one: Installation, kind: str) -> Harm:
    return lambda: _signal(one, kind, signal.SIGKILL)


def _signal(one: Installation, kind: str, how: signal.Signals) -> None:
    """Send SIGCONT to all processes of a kind, any other signal to one of them."""
    pids = one.children(kind)
    for pid in pids if how == signal.SIGCONT else pids[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, how)


FORMS = [embedded, pytest.param(distributed, marks=needs_services)]


@pytest.mark.timeout(900 + 25 * KILLS)
@pytest.mark.parametrize("form", FORMS)
def test_each_task_ends_exactly_once_when_processes_are_killed_at_random(
    form: Any, shelf: Path, tmp_path: Path
) -> None:
    seed = int(os.environ.get("ADIT_CHAOS_SEED", "1")) or secrets.randbelow(2**31)
    ordered: list[str] = []
    kept = tmp_path / "kept"
    with form(tmp_path, shelf, kept) as ground:

        def keep_busy() -> None:
            ground.tend()
            with suppress(psycopg.Error, sqlite3.Error):
                waiting = [state for (state,) in states(ground) if state not in ENDED]
                if len(waiting) <= AT_ONCE and len(ordered) < STUDIES:
                    lot = studies()[len(ordered) : len(ordered) + AT_ONCE]
                    pairs = [[study, project] for study in lot for project in TRIALS]
                    given = {"pairs": pairs, "patient": images.PATIENT_ID}
                    ground.run(MOVES, "order", json.dumps(given))
                    ordered.extend(lot)

        process_faults = ProcessFaults(ground.harms, keep_busy, random.Random(seed))
        keep_busy()
        process_faults.do(KILLS)
        seconds = recovery(ground)
        wait_for(ground, lambda: {state for (state,) in states(ground)} <= ENDED, seed, 800)
        told = json.loads(ground.run(AUDIT_DATA, str(shelf), str(kept)))
    jobs = len(ordered) * len(TRIALS)
    print(
        f"{form.__name__}: seed {seed}, {dict(process_faults.done)}, back in {seconds:.0f} s, {told}"
    )
    assert told["violations"] == {}, (seed, told["found"])
    assert told["jobs"] == {"success": jobs}, (seed, told)
    assert (told["tasks"], told["ended"], told["ended_twice"]) == (jobs, jobs, []), (seed, told)
    assert told["delivered"] == jobs * IMAGES
    assert told["complete"] == jobs
    assert told["slots"] == 0
    assert told["trail"], "the audit trail is broken"
    assert seconds < RECOVERS_WITHIN_S
    assert sum(process_faults.done.values()) == KILLS


def states(ground: Ground) -> list[tuple[Any, ...]]:
    return ground.rows("select state from jobs_job")


def recovery(ground: Ground) -> float:
    """Seconds from the last fault until a task ends or a new attempt starts."""
    begun = time.monotonic()
    before = progress(ground, within_s=60)

    def goes_on() -> bool:
        now = progress(ground, within_s=1)
        return now != before or now["open"] == 0

    wait_for(ground, goes_on, 0, 2 * RECOVERS_WITHIN_S)
    return time.monotonic() - begun


def progress(ground: Ground, within_s: float) -> Counter[str]:
    until = time.monotonic() + within_s
    while True:
        try:
            ((attempts, ended, left),) = ground.rows(
                "select coalesce(sum(attempt), 0), sum(case when ended_at is null then 0 else 1 end),"
                " sum(case when ended_at is null then 1 else 0 end) from jobs_task"
            )
        except (psycopg.Error, sqlite3.Error):
            if time.monotonic() > until:
                return Counter(away=1, open=1)
            ground.tend()
            time.sleep(0.2)
            continue
        return Counter(attempts=attempts, ended=ended or 0, open=left or 0)


def wait_for(ground: Ground, happened: Callable[[], bool], seed: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        ground.tend()
        with suppress(psycopg.Error, sqlite3.Error):
            if happened():
                return
        assert time.monotonic() < deadline, (seed, ground.log()[-5000:])
        time.sleep(0.2)
