"""Processes are killed in the middle of a transfer; it completes by itself, each image once."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from lab.installed import Installed, family_of, is_alive, runs
from lab.jobs import until
from pydicom import dcmread

from adit.cli import is_serving

SERIES, IMAGES = 6, 70
SLOW_KB_S = 100
"""All images take eight seconds."""
QUICK = {"ADIT_LEASE_S": "3", "ADIT_BEAT_S": "1", "ADIT_SWEEP_S": "1"}


@pytest.fixture
def installation(tmp_path: Path) -> Installed:
    installed = Installed(tmp_path / "var", dict(QUICK))
    installed.do("prepare")
    installed.do("fill", str(SERIES), str(IMAGES))
    return installed


def worker_in_the_middle(installation: Installed) -> int:
    """Waits until a series is done and another one under way; the process that does it."""
    finals = "select count(*) from jobs_seriesresult where is_final"
    until(
        lambda: installation.rows(finals)[0][0] >= 2 and len(installation.delivered()) > 2 * IMAGES,
        60,
    )
    ((worker, state),) = installation.rows("select worker, state from jobs_task")
    assert state == "in_progress", "the transfer was over before it could be killed"
    return int(worker.rsplit(":", 1)[1])


def test_a_killed_worker_is_replaced_and_its_task_completes_by_itself(
    installation: Installed,
) -> None:
    installation.do("pace", str(SLOW_KB_S))
    with installation.up():
        installation.do("order")
        pid = worker_in_the_middle(installation)
        os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        finished = {
            row[0]
            for row in installation.rows("select number from jobs_seriesresult where is_final")
        }
        before = installation.delivered()
        installation.do("pace", "0")
        assert len(before) < SERIES * IMAGES
        state = "select state from jobs_job"
        until(lambda: installation.rows(state)[0][0] not in ("pending", "in_progress"), 60)
        assert time.monotonic() - killed_at < 45
        told = installation.ledger()
    assert told["job"] == "success", told
    assert told["attempt"] >= 2
    total = SERIES * IMAGES
    assert (told["expected"], told["delivered"], told["others"]) == (total, total, 0)
    assert told["ledger"] == total
    after = installation.delivered()
    uids = Counter(dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in after)
    assert len(uids) == total
    assert set(uids.values()) == {1}
    lists = {"contents-job-1.csv", "contents-job-1.json"}
    files = [path for path in (installation.data / "folders" / "to").rglob("*") if path.is_file()]
    left = [path.name for path in files if path.suffix != ".dcm" and path.name not in lists]
    assert not left, "nothing half-written is left"
    assert len(files) == total + len(lists)
    done = {path: inode for path, inode in before.items() if _series(path) in finished}
    assert done, "a finished series was there before the kill"
    assert {path: after[path] for path in done} == done, "what the ledger holds is not sent again"
    assert "ended (killed by SIGKILL)" in installation.log()


def test_a_stopped_installation_goes_on_where_it_was(installation: Installed) -> None:
    installation.do("pace", str(SLOW_KB_S))
    with installation.up() as up:
        installation.do("order")
        worker_in_the_middle(installation)
        asked = time.monotonic()
        up.terminate()
        assert up.wait(10) == 0
        assert time.monotonic() - asked < 10
    ((state, failures, lease),) = installation.rows(
        "select state, failures, lease_until from jobs_task"
    )
    assert (state, failures, lease) == ("pending", 0, None), "given back, without a failure"
    assert installation.rows("select count(*) from nodes_slot") == [(0,)]
    installation.do("pace", "0")
    with installation.up():
        until(lambda: installation.rows("select state from jobs_job")[0][0] == "success", 60)
        assert installation.ledger()["delivered"] == SERIES * IMAGES
    assert len(installation.delivered()) == SERIES * IMAGES


def test_a_lost_message_delays_a_job_until_the_next_sweep_only(installation: Installed) -> None:
    with installation.up():
        unheard = Installed(
            installation.data, {**installation.settings, "ADIT_BROKER_URL": "memory://"}
        )
        unheard.do("order")
        until(lambda: installation.rows("select state from jobs_job")[0][0] == "success", 60)


def test_a_killed_scheduler_and_web_server_are_replaced(installation: Installed) -> None:
    with installation.up() as up:
        old = [
            pid for pid in family_of(up.pid) if "scheduler" in runs(pid) or "granian" in runs(pid)
        ]
        assert len(old) == 3, "the web server has a process of its own below it"
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(is_alive(pid) for pid in old))
        Installed(installation.data, {**installation.settings, "ADIT_BROKER_URL": "memory://"}).do(
            "order"
        )
        until(lambda: installation.rows("select state from jobs_job")[0][0] == "success", 60)
        until(lambda: is_serving(installation.port), 20)


def _series(path: Path) -> int:
    return int(dcmread(path, stop_before_pixels=True).SeriesNumber)
