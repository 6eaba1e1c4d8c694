"""C-MOVE with all processes and real archives: concurrent projects, killed processes."""

import json
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import images
import pydicom
import pytest
from conftest import ROOT, adit_up, free_port, wait_until
from lab import peers
from lab.archive import Lying
from lab.lies import Sent, Site, holdings
from lab.prepared import copy_prepared
from lab.wire import Wire

from adit_engine.dicom_file import part10
from adit_engine.values.instance import Instance

PATIENT = images.PATIENT_ID
STUDIES = {f"{images.ROOT}.1": 2, f"{images.ROOT}.2": 1}
"""Number of series by Study Instance UID."""
TRIALS = ("LUNG", "HEART")
KILLS = 4
SOON = {
    "ADIT_LEASE_S": "3",
    "ADIT_BEAT_S": "1",
    "ADIT_SWEEP_S": "1",
    "ADIT_RETRY_PAUSES_S": "1",
    "ADIT_MAX_FAILURES": "20",
    "ADIT_WORKERS": "4",
    "ADIT_RECEPTION_LIVES_S": "8",
    "ADIT_RECEIVER_HOST": "127.0.0.1",
    # Associations are counted.
    "ADIT_ECHO_S": "0",
    "ADIT_ECHO_IN_USE_S": "0",
}
QUICK = {"connect_s": 3, "association_s": 5, "first_byte_s": 15, "no_progress_s": 10, "drain_s": 1}
ENDED = {"success", "warning", "failure"}
BYTES_PER_S = 1_000_000.0
"""Rate per connection of an archive, so that processes can be killed during a transfer."""


@dataclass
class Archive:
    """Port, AE title and, if logged, the images sent by an archive."""

    port: int
    called: str
    sent: list[Sent] = field(default_factory=list)


def instances(per_series: int) -> list[Instance]:
    return [
        part10.parse_file(images.ct(series, number, study=study))
        for study, count in STUDIES.items()
        for series in range(1, count + 1)
        for number in range(1, per_series + 1)
    ]


@contextmanager
def orthanc(folder: Path, receiver: int, held: list[Instance]) -> Iterator[Archive]:
    known = {"adit": ["ADIT", "127.0.0.1", receiver]}
    with peers.orthanc(folder, "PACS", DicomModalities=known) as one:
        list(one.node().store(held))
        yield Archive(one.port, "PACS")


@contextmanager
def dcmqrscp(folder: Path, receiver: int, held: list[Instance]) -> Iterator[Archive]:
    with peers.dcmqrscp(folder, f"ADIT = (ADIT, 127.0.0.1, {receiver})") as port:
        list(peers.node(port, "QR").store(held))
        yield Archive(port, "QR")


@contextmanager
def silent(folder: Path, receiver: int, held: list[Instance]) -> Iterator[Archive]:
    """Archive that sends no Move Originator in C-STORE requests."""
    shelf, scratch = folder / "shelf", folder / "scratch"
    for path in (shelf, scratch):
        path.mkdir(parents=True)
    for one in held:
        (shelf / f"{one.instance_uid}.dcm").write_bytes(b"".join(part10.file_parts(one)))
    site = Site("LAB", holdings(shelf), {"ADIT": ("127.0.0.1", receiver)})
    with Lying(site, scratch=scratch, sends_move_originator=False) as lab:
        yield Archive(lab.port, "LAB", lab.log.sent)


ARCHIVES = [
    pytest.param(orthanc, marks=peers.needs_orthanc),
    pytest.param(dcmqrscp, marks=peers.needs_dcmtk),
    silent,
]
Running = Callable[[Path, int, list[Instance]], Any]


@dataclass
class Installation:
    """A running installation with one destination folder per project."""

    data: Path
    env: dict[str, str]
    pid: int = 0

    def do(self, verb: str, **values: Any) -> Any:
        script = str(Path(__file__).with_name("moves.py"))
        return self.run(script, verb, json.dumps(values))

    def run(self, *words: str) -> Any:
        """Run a script and return its JSON output."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**self.env, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    def states(self) -> set[str]:
        return set(self.column("select state from jobs_job"))

    def column(self, query: str) -> list[str]:
        with closing(sqlite3.connect(self.data / "adit.sqlite3", timeout=60)) as base:
            return [value for (value,) in base.execute(query)]

    def order_all(self) -> None:
        """Order each study for each project."""
        pairs = [[study, project] for study in STUDIES for project in TRIALS]
        self.do("order", pairs=pairs, patient=PATIENT)

    def log(self) -> str:
        return (self.data / "up.log").read_text()

    def children(self, kind: str) -> list[int]:
        """PIDs of the processes of one kind that the supervisor started."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == self.pid and kind.encode() in words:
                found.append(int(folder.name))
        return found


@contextmanager
def installation(
    data: Path,
    archive: Archive,
    receiver: int,
    *,
    told: Mapping[str, str] | None = None,
    **more: Any,
) -> Iterator[Installation]:
    copy_prepared(data)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_", "DATA"))}
    port = free_port()
    mine = {"ADIT_DATA": str(data), "PORT": str(port), "ADIT_RECEIVER_PORT": str(receiver)}
    one = Installation(data, {**kept, **mine, **SOON, **(told or {})})
    node = {"host": "127.0.0.1", "port": archive.port, "called_ae_title": archive.called}
    one.do("make", **{**node, "retrieve": "move", **QUICK, **more})
    with adit_up(data / "up.log", one.env) as up:
        one.pid = up.pid
        yield one


def assert_each_has_its_own(one: Installation, held: list[Instance]) -> None:
    """Assert that each project's folder holds each image once, under the project's UIDs."""
    jobs = one.do("told")
    by_study = Counter(instance.in_header.ref.study_uid for instance in held)
    for project in TRIALS:
        mine = [job for job in jobs if job["project"] == project]
        assert [job["state"] for job in mine] == ["success"] * len(mine), mine
        expected = [uid for job in mine for uid in job["delivered"].values()]
        assert len(expected) == by_study.total()
        there = [pydicom.dcmread(path) for path in (one.data / "folders" / project).rglob("*.dcm")]
        assert sorted(ds.SOPInstanceUID for ds in there) == sorted(expected)
        assert {ds.ClinicalTrialProtocolID for ds in there} == {project}
        assert len({ds.PatientID for ds in there}) == 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize("running", ARCHIVES)
def test_concurrent_moves_deliver_each_image_once_per_project(
    running: Running, tmp_path: Path
) -> None:
    held, receiver = instances(40), free_port()
    with (
        running(tmp_path / "archive", receiver, held) as archive,
        installation(tmp_path / "data", archive, receiver) as one,
    ):
        one.order_all()
        wait_until(lambda: one.states() <= ENDED, "all jobs", 360)

        assert_each_has_its_own(one, held)
        assert list((one.data / "spool").glob("[0-9a-z]*")) == []


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("running", [ARCHIVES[0], silent])
def test_killing_receiver_and_workers_at_random_loses_no_image(
    running: Running, tmp_path: Path
) -> None:
    """Images confirmed with status 0000 are recovered from the spool or fetched again."""
    seed = int(os.environ.get("ADIT_LAB_SEED", "0")) or secrets.randbelow(2**31)
    rng, held, receiver = random.Random(seed), instances(80), free_port()
    with (
        Wire(receiver, 0, "rate", amount=BYTES_PER_S, forth=True) as slow,
        running(tmp_path / "archive", slow.port, held) as archive,
        installation(tmp_path / "data", archive, receiver) as one,
    ):
        one.order_all()
        killed = kill_at_random(one, rng)
        wait_until(lambda: one.states() <= ENDED, f"all jobs, seed {seed}", 480)

        assert set(killed) <= {"receiver", "worker"}
        assert len(killed) > 1, f"seed {seed}: the jobs finished before a process was killed"
        assert_each_has_its_own(one, held)
        told = {sent.instance_uid for sent in archive.sent if sent.status == 0}
        delivered = {uid for job in one.do("told") for uid in job["delivered"]}
        assert told <= delivered


def kill_at_random(one: Installation, rng: random.Random) -> list[str]:
    killed = []
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.3, 1.8))
        if one.states() <= ENDED:
            break
        kind = rng.choice(("receiver", "worker"))
        for pid in rng.sample(found := one.children(kind), min(len(found), 2)):
            os.kill(pid, signal.SIGKILL)
            killed.append(kind)
    return killed
