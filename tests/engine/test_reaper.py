"""Reaper: processes that tests start end with them, even if the tests are killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import reaper

SOME_TESTS = """
import subprocess, sys, time
from pathlib import Path
from lab.reaper import reaping

folder = Path(sys.argv[1])
with reaping() as remove:
    folder.mkdir()
    remove(folder)
    child = subprocess.Popen([sys.executable, "-c", HIDES], start_new_session=True)
    child.wait()
    while not (folder / "pid").exists():
        time.sleep(0.01)
    print((folder / "pid").read_text(), flush=True)
    time.sleep(600)
"""
HIDES = """
import os, time
if not os.fork():
    open({path!r} + ".new", "w").write(str(os.getpid()))
    os.rename({path!r} + ".new", {path!r})
    time.sleep(600)
"""


def test_processes_and_folders_of_killed_tests_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    hides = HIDES.format(path=str(folder / "pid"))
    tests = subprocess.Popen(
        [sys.executable, "-c", f"HIDES = {hides!r}\n{SOME_TESTS}", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**reaper.unmarked(), "PYTHONPATH": str(Path(reaper.__file__).parents[1])},
    )
    assert tests.stdout is not None
    pid = int(tests.stdout.readline())
    assert Path(f"/proc/{pid}").exists()

    tests.kill()
    tests.wait()
    tests.stdout.close()

    until = time.monotonic() + 90
    while Path(f"/proc/{pid}").exists() or folder.exists():
        assert time.monotonic() < until, "the process or the folder still exists"
        time.sleep(0.05)


def test_a_nested_reaper_restores_the_outer_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(reaper.MARK, "outer")

    with reaper.reaping():
        assert os.environ[reaper.MARK] != "outer"

    assert os.environ[reaper.MARK] == "outer"
