"""Association limit, rate limit, stop and pause, measured by proxies in front of the archive."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import images
import pytest
from conftest import ROOT, free_port, wait_until
from lab import peers
from lab.counting_proxy import AssociationCounts, CountingProxy
from test_moves import ENDED, PATIENT, Archive, Installation, installation

from adit_engine.dicom_file import part10
from adit_engine.rate_limit import BURST_S

LIMIT = 2
STUDIES = 5
SLOWLY_S = 0.02
"""Delay in seconds before each chunk of an answer, so that transfers overlap."""

pytestmark = peers.needs_orthanc


@contextmanager
def measured(
    folder: Path, receiver: int, per_series: int, studies: int, series: int = 1
) -> Iterator[tuple]:
    """Run Orthanc and our receiver behind counting proxies; yield the archive and the counts."""
    counts = AssociationCounts()
    with CountingProxy(receiver, counts, SLOWLY_S) as back:
        known = {"adit": ["ADIT", "127.0.0.1", back.port]}
        with peers.orthanc(folder, "PACS", DicomModalities=known) as one:
            held = [
                part10.parse_file(images.ct(row, number, study=f"{images.ROOT}.{study}"))
                for study in range(1, studies + 1)
                for row in range(1, series + 1)
                for number in range(1, per_series + 1)
            ]
            list(one.node().store(held))
            with CountingProxy(one.port, counts, SLOWLY_S) as front:
                yield Archive(front.port, "PACS"), counts


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["get", "move"])
def test_workers_together_never_exceed_the_association_limit(way: str, tmp_path: Path) -> None:
    receiver = free_port()
    with (
        measured(tmp_path / "pacs", receiver, 6, STUDIES) as (archive, counts),
        installation(tmp_path / "data", archive, receiver, retrieve=way, limit=LIMIT) as one,
    ):
        pairs = [
            [f"{images.ROOT}.{n}", t] for n in range(1, STUDIES + 1) for t in ("LUNG", "HEART")
        ]
        # Searches of orders use a limit of their own, and so do echoes.
        with frozen_workers(one):
            one.do("order", pairs=pairs, patient=PATIENT)
            ordered = counts.clock()
        wait_until(lambda: one.states() <= ENDED, "all jobs", 400)

        assert one.states() == {"success"}
        assert len(one.children("worker")) > LIMIT, "too few workers to exceed the limit"
        retrievals = [one for one in counts.spans if one.begun > ordered and not one.is_echo]
        assert max(span.beside for span in retrievals) == LIMIT


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["get", "move"])
def test_two_concurrent_transfers_together_respect_the_rate_limit(way: str, tmp_path: Path) -> None:
    receiver, rate_kb_s, per_series = free_port(), 200, 40
    with (
        measured(tmp_path / "pacs", receiver, per_series, 2) as (archive, counts),
        installation(
            tmp_path / "data", archive, receiver, retrieve=way, limit=4, rate_kb_s=rate_kb_s
        ) as one,
    ):
        pairs = [[f"{images.ROOT}.{n}", "LUNG"] for n in (1, 2)]
        one.do("order", pairs=pairs, patient=PATIENT)
        wait_until(lambda: one.states() <= ENDED, "all jobs", 300)

        assert one.states() == {"success"}
        sizes = [len(images.ct(1, number)) for number in range(1, per_series + 1)]
        least_s = 2 * sum(sizes) / rate_kb_s / 1000 - 2 * BURST_S
        began, ended = counts.spans[0].begun, max(span.ended or span.begun for span in counts.spans)
        assert (ended - began).total_seconds() >= least_s


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["get", "move"])
def test_adit_stop_ends_all_associations(way: str, tmp_path: Path) -> None:
    receiver = free_port()
    with (
        measured(tmp_path / "pacs", receiver, 300, 2) as (archive, counts),
        installation(tmp_path / "data", archive, receiver, retrieve=way, limit=4) as one,
    ):
        pairs = [[f"{images.ROOT}.{n}", "LUNG"] for n in (1, 2)]
        one.do("order", pairs=pairs, patient=PATIENT)
        wait_until(
            lambda: len(list((one.data / "folders" / "LUNG").rglob("*.dcm"))) > 10, "images", 180
        )
        assert counts.open >= 2

        stopped = adit(one, "stop", "PACS", "--reason", "fire")

        assert stopped.returncode == 0, stopped.stderr
        # Until each worker has noticed the stop, one that is between two associations opens the next.
        wait_until(lambda: one.column("select count(*) from nodes_slot") == [0], "no slot", 60)
        wait_until(lambda: not counts.open, "all associations cut", 60)
        assert not one.states() & ENDED
        before = opened_by_adit(archive, counts)
        wait_until(lambda: "fire" in waits(one), "the reason told to who waits", 60)
        assert opened_by_adit(archive, counts) == before, "a new association was opened"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["get", "move"])
def test_adit_pause_finishes_current_series_and_starts_no_other(way: str, tmp_path: Path) -> None:
    receiver, in_series, rows = free_port(), 60, 4
    with (
        measured(tmp_path / "pacs", receiver, in_series, 1, rows) as (archive, counts),
        installation(tmp_path / "data", archive, receiver, retrieve=way, limit=2) as one,
    ):

        def arrived() -> Counter[Path]:
            return Counter(path.parent for path in (one.data / "folders" / "LUNG").rglob("*.dcm"))

        one.do("order", pairs=[[f"{images.ROOT}.1", "LUNG"]], patient=PATIENT)
        wait_until(lambda: arrived().total() > 0, "images", 180)
        paused = adit(one, "pause", "PACS", "--reason", "moving")
        assert paused.returncode == 0, paused.stderr
        assert not one.states() & ENDED, "the jobs finished before the pause"

        wait_until(
            lambda: all(word in waits(one) for word in ("paused", "moving")),
            "the reason told to who waits",
            120,
        )
        wait_until(lambda: not counts.open, "the end of all associations", 60)
        before = opened_by_adit(archive, counts)
        came = arrived()
        assert set(came.values()) == {in_series}, "a series is incomplete"
        assert len(came) < rows, "all series were transferred"
        wait_until(lambda: one.column("select count(*) from nodes_slot") == [0], "no slot", 60)
        assert opened_by_adit(archive, counts) == before, "a new association was opened"


@contextmanager
def frozen_workers(one: Installation) -> Iterator[None]:
    workers = one.children("worker")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


def opened_by_adit(archive: Archive, counts: AssociationCounts) -> int:
    """Count the associations with the archive; it may still try some of a C-MOVE with us."""
    return sum(span.port == archive.port for span in counts.spans)


def adit(one: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adit.cli", *arguments],
        cwd=ROOT,
        env=one.env,
        capture_output=True,
        text=True,
        timeout=300,
    )


def waits(one: Installation) -> str:
    """The stored messages of all tasks, as JSON."""
    said = (
        "select coalesce(cast(grp.wait_reason as text), '') || coalesce(cast(task.message as text), '') "
        "from jobs_task task "
        "left join jobs_taskgroup grp on grp.id = task.group_id"
    )
    return " ".join(one.column(said))
