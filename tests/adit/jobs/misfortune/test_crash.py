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
def house(tmp_path: Path) -> Installed:
    installed = Installed(tmp_path / "var", dict(QUICK))
    installed.do("prepare")
    installed.do("fill", str(SERIES), str(IMAGES))
    return installed


def worker_in_the_middle(house: Installed) -> int:
    """Waits until a series is done and another one under way; the process that does it."""
    finals = "select count(*) from jobs_seriesresult where is_final"
    until(lambda: house.rows(finals)[0][0] >= 2 and len(house.delivered()) > 2 * IMAGES, 60)
    ((worker, state),) = house.rows("select worker, state from jobs_task")
    assert state == "in_progress", "the transfer was over before it could be killed"
    return int(worker.rsplit(":", 1)[1])


def test_a_killed_worker_is_replaced_and_its_task_completes_by_itself(house: Installed) -> None:
    house.do("pace", str(SLOW_KB_S))
    with house.up():
        house.do("order")
        pid = worker_in_the_middle(house)
        os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        finished = {
            row[0] for row in house.rows("select number from jobs_seriesresult where is_final")
        }
        before = house.delivered()
        house.do("pace", "0")
        assert len(before) < SERIES * IMAGES
        state = "select state from jobs_job"
        until(lambda: house.rows(state)[0][0] not in ("pending", "in_progress"), 60)
        assert time.monotonic() - killed_at < 45
        told = house.ledger()
    assert told["job"] == "success", told
    assert told["attempt"] >= 2
    total = SERIES * IMAGES
    assert (told["expected"], told["delivered"], told["others"]) == (total, total, 0)
    assert told["ledger"] == total
    after = house.delivered()
    uids = Counter(dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in after)
    assert len(uids) == total
    assert set(uids.values()) == {1}
    lists = {"contents-job-1.csv", "contents-job-1.json"}
    files = [path for path in (house.data / "folders" / "to").rglob("*") if path.is_file()]
    left = [path.name for path in files if path.suffix != ".dcm" and path.name not in lists]
    assert not left, "nothing half-written is left"
    assert len(files) == total + len(lists)
    done = {path: inode for path, inode in before.items() if _series(path) in finished}
    assert done, "a finished series was there before the kill"
    assert {path: after[path] for path in done} == done, "what the ledger holds is not sent again"
    assert "ended (killed by SIGKILL)" in house.log()


def test_a_stopped_house_goes_on_where_it_was(house: Installed) -> None:
    house.do("pace", str(SLOW_KB_S))
    with house.up() as up:
        house.do("order")
        worker_in_the_middle(house)
        asked = time.monotonic()
        up.terminate()
        assert up.wait(10) == 0
        assert time.monotonic() - asked < 10
    ((state, failures, lease),) = house.rows("select state, failures, lease_until from jobs_task")
    assert (state, failures, lease) == ("pending", 0, None), "given back, without a failure"
    assert house.rows("select count(*) from nodes_slot") == [(0,)]
    house.do("pace", "0")
    with house.up():
        until(lambda: house.rows("select state from jobs_job")[0][0] == "success", 60)
        assert house.ledger()["delivered"] == SERIES * IMAGES
    assert len(house.delivered()) == SERIES * IMAGES


def test_a_lost_message_delays_a_job_until_the_next_sweep_only(house: Installed) -> None:
    with house.up():
        unheard = Installed(house.data, {**house.settings, "ADIT_BROKER_URL": "memory://"})
        unheard.do("order")
        until(lambda: house.rows("select state from jobs_job")[0][0] == "success", 60)


def test_a_killed_scheduler_and_web_server_are_replaced(house: Installed) -> None:
    with house.up() as up:
        old = [
            pid for pid in family_of(up.pid) if "scheduler" in runs(pid) or "granian" in runs(pid)
        ]
        assert len(old) == 3, "the web server has a process of its own below it"
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(is_alive(pid) for pid in old))
        Installed(house.data, {**house.settings, "ADIT_BROKER_URL": "memory://"}).do("order")
        until(lambda: house.rows("select state from jobs_job")[0][0] == "success", 60)
        until(lambda: is_serving(house.port), 20)


def _series(path: Path) -> int:
    return int(dcmread(path, stop_before_pixels=True).SeriesNumber)
