"""Backup and restore with the commands of docs/operate.md while a job runs: no image is sent twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from lab.installed import Installed
from lab.jobs import until

PAGE = Path(__file__).resolve().parents[4] / "docs" / "operate.md"
SERIES, IMAGES = 4, 60
MEANWHILE = 40
"""Number of images delivered between the backup and the loss of the installation."""
QUICK = {"ADIT_LEASE_S": "5", "ADIT_BEAT_S": "1", "ADIT_SWEEP_S": "1"}
STATE = "select state from jobs_job"


def steps(title: str) -> list[str]:
    """Return the commands of the code block in the page that starts with this comment."""
    lines = iter(PAGE.read_text().splitlines())
    found = []
    for line in lines:
        if line == f"    # {title}":
            for step in lines:
                if not step.startswith("    "):
                    break
                found.append(step.strip())
    assert found, f"no steps in the page for: {title}"
    return found


class Rehearsal:
    """An installation and its backup."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installed(folder / "var", QUICK)
        self.places = {name: folder / name.lower() for name in ("BACKUP", "SAFE")}
        for place in self.places.values():
            place.mkdir()
        self.form = "PostgreSQL" if "DATABASE_URL" in self.installation.settings else "one machine"

    def follow(self, title: str) -> str:
        """Run each step in a shell and return the combined output."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**self.installation.env, **{k: str(v) for k, v in self.places.items()}, "PATH": path}
        said = ""
        for step in steps(title):
            done = subprocess.run(
                ["bash", "-c", step], env=env, capture_output=True, text=True, timeout=200
            )
            assert done.returncode == 0, (step, done.stdout, done.stderr)
            said += done.stdout + done.stderr
        return said

    def lose_everything(self) -> None:
        """Delete all data except the source and destination folders."""
        for path in self.installation.data.iterdir():
            if path.name != "folders":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.form == "PostgreSQL":
            server, _, name = self.installation.settings["DATABASE_URL"].rpartition("/")
            with psycopg.connect(f"{server}/postgres", autocommit=True) as base:
                base.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
                base.execute(f"CREATE DATABASE {name}".encode())

    def stamps(self) -> dict[Path, tuple[int, int]]:
        return {
            path: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in (self.installation.data / "folders" / "to").rglob("*.dcm")
        }


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs sqlite3: apt install sqlite3")
@pytest.mark.skipif(shutil.which("pg_dump") is None, reason="needs pg_dump: apt install postgresql")
@pytest.mark.timeout(900)
def test_a_job_completes_after_a_restore_without_sending_images_twice(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path)
    installation = rehearsal.installation
    installation.prepare()
    installation.do("fill", str(SERIES), str(IMAGES))
    installation.do("pace", "10")
    with installation.up() as up:
        installation.do("order")
        until(lambda: len(installation.delivered()) > IMAGES, 200)
        rehearsal.follow(f"back up, {rehearsal.form}")
        known = len(installation.delivered())
        until(lambda: len(installation.delivered()) > known + MEANWHILE, 200)
        os.kill(up.pid, signal.SIGKILL)
        up.wait()
    assert installation.rows(STATE) == [("in_progress",)], (
        "the job finished before the processes were killed"
    )
    before = rehearsal.stamps()
    assert known + MEANWHILE < len(before) < SERIES * IMAGES

    rehearsal.lose_everything()
    rehearsal.follow(f"restore, {rehearsal.form}")
    said = rehearsal.follow("restore, both")

    assert "2 stopped." in said
    assert installation.ledger()["ledger"] < len(before), (
        "the restored ledger is not older than the delivered images"
    )
    with installation.up():
        until(lambda: installation.rows("select state from jobs_task") == [("pending",)], 150)
        time.sleep(3)  # time for several sweeps and wake-ups
        assert rehearsal.stamps() == before, "images were sent before the source was reopened"
        installation.do("reopen")
        until(lambda: installation.rows(STATE) == [("success",)], 250)
        told = installation.ledger()
    total = SERIES * IMAGES
    assert (told["expected"], told["delivered"], told["ledger"]) == (total, total, total)
    after = rehearsal.stamps()
    assert {path: after[path] for path in before} == before, (
        "images delivered before the restore have changed"
    )
    assert len(after) == total
    assert "intact" in installation.adit("manage", "audit", "verify").stdout


@pytest.mark.timeout(900)
def test_audit_verify_detects_a_changed_event(tmp_path: Path) -> None:
    """Control for the `audit verify` step above."""
    installation = Installed(tmp_path / "var")
    installation.prepare()
    installation.adit("stop", "--all")
    assert installation.adit("manage", "audit", "verify").returncode == 0
    installation.change(
        "update audit_auditevent set action = 'node.reopened' where action = 'node.stopped'"
    )
    assert installation.adit("manage", "audit", "verify").returncode != 0
