"""How hard an archive is used, and how soon a stop is felt, measured at the archive's door."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import images
import pytest
from conftest import ROOT, free_port, wait_until

sys.path.append(str(ROOT / "tests" / "engine" / "nodes"))

import peers
from lab.gauge import Gauge, Tally
from test_moves import ENDED, PATIENT, Archive, House, house

from adit_engine import part10

LIMIT = 2
STUDIES = 5
SLOWLY_S = 0.02
"""Before each piece of an answer, so that transfers overlap."""

pytestmark = peers.needs_orthanc


@contextmanager
def measured(folder: Path, receiver: int, per_study: int, studies: int) -> Iterator[tuple]:
    """Orthanc behind a gauge, with another one before our receiver; what both saw together."""
    tally = Tally()
    with Gauge(receiver, tally, SLOWLY_S) as back:
        known = {"adit": ["ADIT", "127.0.0.1", back.port]}
        with peers.orthanc(folder, "PACS", DicomModalities=known) as one:
            held = [
                part10.parse(images.ct(1, number, study=f"{images.ROOT}.{study}"))
                for study in range(1, studies + 1)
                for number in range(1, per_study + 1)
            ]
            list(one.node().store(held))
            with Gauge(one.port, tally, SLOWLY_S) as front:
                yield Archive(front.port, "PACS"), tally


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["get", "move"])
def test_workers_never_hold_more_associations_than_the_limit(way: str, tmp_path: Path) -> None:
    receiver = free_port()
    with (
        measured(tmp_path / "pacs", receiver, 6, STUDIES) as (archive, tally),
        house(tmp_path / "data", archive, receiver, retrieve=way, limit=LIMIT) as one,
    ):
        pairs = [
            [f"{images.ROOT}.{n}", t] for n in range(1, STUDIES + 1) for t in ("LUNG", "HEART")
        ]
        one.do("order", pairs=pairs, patient=PATIENT)
        wait_until(lambda: one.states() <= ENDED, "all jobs", 200)

        assert one.states() == {"success"}
        assert len(one.children("worker")) > LIMIT, "more could have been held"
        assert tally.most == LIMIT


@pytest.mark.timeout(200)
@pytest.mark.parametrize("way", ["get", "move"])
def test_a_stop_from_the_machine_ends_all_associations_within_ten_seconds(
    way: str, tmp_path: Path
) -> None:
    receiver = free_port()
    with (
        measured(tmp_path / "pacs", receiver, 300, 2) as (archive, tally),
        house(tmp_path / "data", archive, receiver, retrieve=way, limit=4) as one,
    ):
        pairs = [[f"{images.ROOT}.{n}", "LUNG"] for n in (1, 2)]
        one.do("order", pairs=pairs, patient=PATIENT)
        wait_until(lambda: len(list((one.data / "LUNG").rglob("*.dcm"))) > 10, "images", 60)
        assert tally.open >= 2

        stopped = adit(one, "stop", "PACS", "--reason", "fire")
        told_at = time.monotonic()

        assert stopped.returncode == 0, stopped.stderr
        wait_until(lambda: not tally.open, "all associations cut", 10)
        assert tally.last_at - told_at < 10
        assert not one.states() & ENDED
        before = len(tally.spans)
        wait_until(lambda: "fire" in waits(one), "the reason told to who waits", 30)
        assert len(tally.spans) == before, "nothing new begins"


def adit(one: House, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adit.cli", *arguments],
        cwd=ROOT,
        env=one.env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def waits(one: House) -> str:
    said = (
        "select coalesce(road.waits_for, '') || task.message from jobs_task task "
        "left join jobs_road road on road.id = task.road_id"
    )
    return " ".join(one.column(said))
