"""The pages are dead, and somebody at the machine keeps ADIT from a PACS: at once, or after the series."""

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

SERIES, IMAGES = 4, 80
KB_S = "10"
"""So slow that a series takes some ten seconds."""


@pytest.fixture
def installation(tmp_path: Path) -> Installed:
    made = Installed(tmp_path / "var", {"ADIT_WORKERS": "1"})
    made.do("prepare")
    made.do("fill", str(SERIES), str(IMAGES))
    made.do("pace", KB_S)
    return made


def kill_the_pages(installation: Installed, pid: int) -> None:
    until(lambda: is_serving(installation.port), 60)
    for one in [pid, *family_of(pid)]:
        os.kill(one, signal.SIGKILL)
    until(lambda: not is_serving(installation.port), 20)


def ordered_and_on_its_way(installation: Installed) -> None:
    installation.do("order")
    until(installation.delivered, 60)
    assert state(installation) == ("in_progress", 0)


def state(installation: Installed) -> tuple[str, int]:
    ((found, failures),) = installation.rows("select state, failures from jobs_task")
    return str(found), int(failures)


def test_all_is_stopped_within_ten_seconds_while_the_pages_are_dead(
    installation: Installed,
) -> None:
    with installation.running("web", "worker", "scheduler") as (web, _worker, _scheduler):
        kill_the_pages(installation, web.pid)
        ordered_and_on_its_way(installation)
        done = installation.adit("stop", "--all", "--reason", "fire")
        told_at = time.monotonic()
        assert (done.returncode, "2 stopped." in done.stderr) == (0, True), done.stderr
        until(lambda: state(installation) == ("pending", 0), 10)
        assert time.monotonic() - told_at < 10
        assert installation.rows("select count(*) from nodes_slot") == [(0,)]
        after = installation.delivered()
        assert len(after) < SERIES * IMAGES
        time.sleep(3)  # sweeps and rings come and go
        assert installation.delivered() == after, "nothing more is sent"
        assert state(installation) == ("pending", 0)
    ((message,),) = installation.rows("select cast(message as text) from jobs_task")
    told = Message.from_json(json.loads(message))
    assert told.code == "node-unavailable.stopped"
    assert told.values["reason"].startswith("fire (")


def test_a_pause_while_the_pages_are_dead_lets_the_series_finish(installation: Installed) -> None:
    with installation.running("web", "worker", "scheduler") as (web, _worker, _scheduler):
        kill_the_pages(installation, web.pid)
        ordered_and_on_its_way(installation)
        done = installation.adit("pause", "from", "--reason", "migration")
        assert (done.returncode, "from is paused." in done.stderr) == (0, True), done.stderr
        until(lambda: state(installation) == ("pending", 0), 60)
        assert installation.rows("select count(*) from nodes_slot") == [(0,)]
    series = installation.rows(
        "select delivered, is_final from jobs_seriesresult where delivered > 0"
    )
    assert len(series) < SERIES, "no series was begun after it"
    assert all((count, bool(final)) == (IMAGES, True) for count, final in series)
    assert len(installation.delivered()) == len(series) * IMAGES
