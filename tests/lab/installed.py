"""Control of an installation that runs in its own processes and folder.

If the tests run on PostgreSQL, the installation does too, in a separate database.
"""

import contextlib
import functools
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from lab.jobs import until
from lab.ports import free_port
from lab.prepared import copy_prepared

FIELD = str(Path(__file__).with_name("site_commands.py"))


@dataclass
class Installed:
    data: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = free_port()
        self._cluster = ""
        if "DATABASE_URL" not in self.settings:
            self._cluster = os.environ.get("ADIT_TEST_DATABASE", "")
        if self._cluster:
            self.settings["DATABASE_URL"] = new_database(self._cluster)

    @property
    def env(self) -> dict[str, str]:
        mine = {
            "ADIT_DATA": str(self.data),
            "PORT": str(self.port),
            "ADIT_RECEIVER_PORT": "0",
            "ADIT_ORDERS_WITHOUT_PROJECT": "true",
            **self.settings,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_"))}
        kept.pop("DATABASE_URL", None)
        return {**kept, **mine}

    def do(self, *arguments: str) -> str:
        """Run one command of site_commands.py and return its output."""
        done = subprocess.run(
            [sys.executable, FIELD, *arguments], env=self.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def prepare(self) -> None:
        """Create tables, a coordinator, and two folder nodes `from` and `to`."""
        if self._cluster:
            template = _template(self._cluster)
            copy_prepared(self.data, template)
            self.settings["DATABASE_URL"] = new_database(self._cluster, template)
        elif "DATABASE_URL" not in self.settings:
            copy_prepared(self.data)
        self.do("prepare")

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, FIELD, *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def adit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "adit.cli", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def ledger(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.do("ledger"))
        return told

    def rows(self, query: str) -> list[Any]:
        if "DATABASE_URL" in self.settings:
            with psycopg.connect(self.settings["DATABASE_URL"]) as base:
                return base.execute(query.encode()).fetchall()
        with contextlib.closing(sqlite3.connect(self.data / "adit.sqlite3", timeout=60)) as base:
            return base.execute(query).fetchall()

    def change(self, statement: str) -> None:
        """Execute SQL directly, without ADIT."""
        if "DATABASE_URL" in self.settings:
            with psycopg.connect(self.settings["DATABASE_URL"]) as base:
                base.execute(statement.encode())
            return
        with contextlib.closing(sqlite3.connect(self.data / "adit.sqlite3", timeout=60)) as base:
            base.execute(statement)
            base.commit()

    def delivered(self) -> dict[Path, int]:
        """Return the complete files at the destination with their inodes."""
        return {path: path.stat().st_ino for path in (self.data / "folders" / "to").rglob("*.dcm")}

    def freeze(self, pid: int) -> None:
        """Stop a process with SIGSTOP at a moment when it does not lock the database.

        A SQLite lock covers the whole file; PostgreSQL ends a session idle in a transaction.
        """
        os.kill(pid, signal.SIGSTOP)
        until_s = time.monotonic() + 60
        while not self._is_writable():
            assert time.monotonic() < until_s, "the database is locked by another process"
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)
            os.kill(pid, signal.SIGSTOP)

    def _is_writable(self) -> bool:
        if "DATABASE_URL" in self.settings:
            return True
        base = sqlite3.connect(self.data / "adit.sqlite3", timeout=2)
        with contextlib.closing(base), contextlib.suppress(sqlite3.OperationalError):
            base.execute("BEGIN IMMEDIATE")
            base.rollback()
            return True
        return False

    @contextlib.contextmanager
    def up(self) -> Iterator[subprocess.Popen[str]]:
        """Run `adit up` until the block ends; kill all its processes if it does not stop."""
        output = self.data / "up.log"
        with output.open("w") as file:
            popen = subprocess.Popen(
                [sys.executable, "-m", "adit.cli", "up"],
                env=self.env,
                stdout=file,
                stderr=file,
                text=True,
            )
        children: set[int] = set()
        try:
            until(lambda: popen.poll() is not None or "ready at" in output.read_text(), 250)
            assert popen.poll() is None, output.read_text()
            children = set(family_of(popen.pid))
            yield popen
        finally:
            children |= set(family_of(popen.pid))
            if popen.poll() is None:
                popen.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    popen.wait(30)
            if popen.poll() is None:
                popen.kill()
                popen.wait()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def running(self, *commands: str) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Run single processes until the block ends, as on separate machines."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self._running(command)) for command in commands]

    @contextlib.contextmanager
    def _running(self, command: str) -> Iterator[subprocess.Popen[bytes]]:
        argv = [sys.executable, "-m", "adit.cli", command]
        with (self.data / f"{command}.log").open("w") as log:
            process = subprocess.Popen(
                argv, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log(self) -> str:
        return (self.data / "up.log").read_text()


@functools.cache
def _template(cluster: str) -> str:
    return new_database(cluster)


def new_database(cluster: str, template: str = "template1") -> str:
    """Create a database, empty or as a copy of another, and return its URL."""
    name = f"installed_{secrets.token_hex(4)}"
    with psycopg.connect(cluster, autocommit=True) as base:
        copied = template.rpartition("/")[2]
        base.execute(f"CREATE DATABASE {name} TEMPLATE {copied}".encode())
    return f"{cluster.rpartition('/')[0]}/{name}"


def family_of(pid: int) -> list[int]:
    """Return the process IDs of all descendants of a process."""
    parents: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((place / "stat").read_text().rsplit(")", 1)[1].split()[1])
                parents.setdefault(parent, []).append(int(place.name))
    found, ask = [], [pid]
    while ask:
        children = parents.get(ask.pop(), [])
        found += children
        ask += children
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def runs(pid: int) -> str:
    """Return the command line of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
