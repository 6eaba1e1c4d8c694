"""`adit stop` and `adit pause` work while the web server is down."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from lab.installed import Installed, family_of
from lab.jobs import until

from adit.cli import is_serving
from adit_engine.messages import Message

pytestmark = pytest.mark.timeout(900)

SERIES, IMAGES = 4, 80
KB_S = "5"
"""Transfer rate in KB/s at which a series takes about 20 seconds."""


@pytest.fixture
def installation(tmp_path: Path) -> Installed:
    made = Installed(tmp_path / "var", {"ADIT_WORKERS": "1"})
    made.prepare()
    made.do("fill", str(SERIES), str(IMAGES))
    made.do("pace", KB_S)
    return made


def kill_the_pages(installation: Installed, pid: int) -> None:
    until(lambda: is_serving(installation.port), 150)
    for one in [pid, *family_of(pid)]:
        os.kill(one, signal.SIGKILL)
    until(lambda: not is_serving(installation.port), 60)


def ordered_and_on_its_way(installation: Installed) -> None:
    installation.do("order")
    until(installation.delivered, 150)
    assert state(installation) == ("in_progress", 0)


def state(installation: Installed) -> tuple[str, int]:
    ((found, failures),) = installation.rows("select state, failures from jobs_task")
    return str(found), int(failures)


def test_stop_all_ends_transfers_without_the_web_server(
    installation: Installed,
) -> None:
    with installation.running("web", "worker", "scheduler") as (web, _worker, _scheduler):
        kill_the_pages(installation, web.pid)
        ordered_and_on_its_way(installation)
        done = installation.adit("stop", "--all", "--reason", "fire")
        assert (done.returncode, "2 stopped." in done.stderr) == (0, True), done.stderr
        until(lambda: state(installation) == ("pending", 0))
        assert installation.rows("select count(*) from nodes_slot") == [(0,)]
        after = installation.delivered()
        assert len(after) < SERIES * IMAGES
        time.sleep(3)  # time for several sweeps and wake-ups
        assert installation.delivered() == after, "images were sent after the stop"
        assert state(installation) == ("pending", 0)
    ((message,),) = installation.rows("select cast(message as text) from jobs_task")
    told = Message.from_json(json.loads(message))
    assert told.code == "node-unavailable.stopped"
    assert told.values["reason"].startswith("fire (")


def test_pause_lets_the_series_finish_without_the_web_server(installation: Installed) -> None:
    with installation.running("web", "worker", "scheduler") as (web, _worker, _scheduler):
        kill_the_pages(installation, web.pid)
        ordered_and_on_its_way(installation)
        done = installation.adit("pause", "from", "--reason", "migration")
        assert (done.returncode, "from is paused." in done.stderr) == (0, True), done.stderr
        until(lambda: state(installation) == ("pending", 0), 150)
        assert installation.rows("select count(*) from nodes_slot") == [(0,)]
    series = installation.rows(
        "select delivered, is_final from jobs_seriesresult where delivered > 0"
    )
    assert len(series) < SERIES, "a series was started after the pause"
    assert all((count, bool(final)) == (IMAGES, True) for count, final in series)
    assert len(installation.delivered()) == len(series) * IMAGES
