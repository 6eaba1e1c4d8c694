"""A transfer whose processes are killed is resumed and delivers each image once."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from lab.installed import Installed, family_of, is_alive, runs
from lab.jobs import until
from pydicom import dcmread

from adit.cli import is_serving

pytestmark = pytest.mark.timeout(900)

SERIES, IMAGES = 6, 70
SLOW_KB_S = 40
"""Transfer rate in KB/s at which all images take about 20 seconds."""
LONG_LEASE = {"ADIT_LEASE_S": "3600"}
"""A lease that does not expire in a test: what is released here is released at once."""


@pytest.fixture
def installation(tmp_path: Path) -> Installed:
    installed = Installed(tmp_path / "var", {**LONG_LEASE, "ADIT_SWEEP_S": "1"})
    installed.prepare()
    installed.do("fill", str(SERIES), str(IMAGES))
    return installed


def worker_in_the_middle(installation: Installed) -> int:
    """Wait until some series are final and another one is running; return the PID of the worker."""
    finals = "select count(*) from jobs_seriesresult where is_final"
    until(
        lambda: installation.rows(finals)[0][0] >= 2 and len(installation.delivered()) > 2 * IMAGES,
        150,
    )
    ((worker, state),) = installation.rows("select worker, state from jobs_task")
    assert state == "in_progress", "the transfer finished before the worker could be killed"
    return int(worker.rsplit(":", 1)[1])


def test_a_killed_worker_is_replaced_and_its_task_completes(
    installation: Installed,
) -> None:
    installation.do("pace", str(SLOW_KB_S))
    with installation.up():
        installation.do("order")
        pid = worker_in_the_middle(installation)
        os.kill(pid, signal.SIGKILL)
        finished = {
            row[0]
            for row in installation.rows("select number from jobs_seriesresult where is_final")
        }
        before = installation.delivered()
        installation.do("pace", "0")
        assert len(before) < SERIES * IMAGES
        state = "select state from jobs_job"
        until(lambda: installation.rows(state)[0][0] not in ("pending", "in_progress"), 200)
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
    assert not left, "partially written files remain"
    assert len(files) == total + len(lists)
    done = {path: inode for path, inode in before.items() if _series(path) in finished}
    assert done, "no series was final before the kill"
    assert {path: after[path] for path in done} == done, "series in the ledger were sent again"
    assert "ended (killed by SIGKILL)" in installation.log()


def test_the_task_of_a_killed_worker_is_taken_up_before_its_lease_expires(tmp_path: Path) -> None:
    installation = Installed(tmp_path / "var", dict(LONG_LEASE))
    installation.prepare()
    installation.do("fill", "1", str(3 * IMAGES))
    installation.do("pace", "5")
    with installation.up():
        installation.do("order")
        until(installation.delivered, 150)
        ((worker,),) = installation.rows("select worker from jobs_task")
        os.kill(int(worker.rsplit(":", 1)[1]), signal.SIGKILL)
        held = "select state, attempt, failures from jobs_task"
        until(lambda: installation.rows(held) == [("in_progress", 2, 1)], 100)


def test_a_restarted_installation_resumes_the_task_without_a_failure(
    installation: Installed,
) -> None:
    installation.do("pace", str(SLOW_KB_S))
    with installation.up() as up:
        installation.do("order")
        worker_in_the_middle(installation)
        up.terminate()
        assert up.wait(60) == 0
    ((state, failures, lease),) = installation.rows(
        "select state, failures, lease_until from jobs_task"
    )
    assert (state, failures, lease) == ("pending", 0, None), (
        "the task was not released without a failure"
    )
    assert installation.rows("select count(*) from nodes_slot") == [(0,)]
    installation.do("pace", "0")
    with installation.up():
        until(lambda: installation.rows("select state from jobs_job")[0][0] == "success", 150)
        assert installation.ledger()["delivered"] == SERIES * IMAGES
    assert len(installation.delivered()) == SERIES * IMAGES


def test_a_lost_celery_message_delays_a_job_only_until_the_next_sweep(
    installation: Installed,
) -> None:
    with installation.up():
        unheard = Installed(
            installation.data, {**installation.settings, "ADIT_BROKER_URL": "memory://"}
        )
        unheard.do("order")
        until(lambda: installation.rows("select state from jobs_job")[0][0] == "success", 150)


def test_a_killed_scheduler_and_web_server_are_restarted(installation: Installed) -> None:
    with installation.up() as up:
        old = [
            pid for pid in family_of(up.pid) if "scheduler" in runs(pid) or "granian" in runs(pid)
        ]
        assert len(old) == 3, "expected the scheduler, the web server and its child process"
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(is_alive(pid) for pid in old))
        Installed(installation.data, {**installation.settings, "ADIT_BROKER_URL": "memory://"}).do(
            "order"
        )
        until(lambda: installation.rows("select state from jobs_job")[0][0] == "success", 150)
        until(lambda: is_serving(installation.port), 60)


def _series(path: Path) -> int:
    return int(dcmread(path, stop_before_pixels=True).SeriesNumber)
