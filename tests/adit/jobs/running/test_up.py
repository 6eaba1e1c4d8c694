"""`adit up` starts an installation in an empty folder and leaves no process when it stops."""

import json
import os
import signal
import socket
import sqlite3
import stat
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from lab.installed import Installed, family_of, is_alive, runs
from lab.jobs import until

from adit_engine.messages import Message

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def installation(tmp_path: Path) -> Installed:
    return Installed(tmp_path / "var")


def test_up_in_an_empty_folder_starts_and_stops_all_processes(
    installation: Installed,
) -> None:
    installation.data.parent.mkdir(exist_ok=True)
    installation.data.mkdir()
    with installation.up() as up:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{installation.port}/healthz", timeout=250
        ) as answer:
            assert answer.status == 200
        family = family_of(up.pid)
        commands = " ".join(runs(pid) for pid in family)
        for command in ("granian", "cli scheduler", "cli receiver", "cli worker"):
            assert command in commands
        until(lambda: _reported_roles(installation) == ALL_ROLES)
        second = installation.adit("up")
        assert second.returncode == 1
        assert (
            f"already uses the data folder {installation.data} (process {up.pid})" in second.stderr
        )
        up.terminate()
        assert up.wait(60) == 0
        assert not [runs(pid) for pid in family if is_alive(pid)]
    log = installation.log()
    assert "BACK IT UP" in log
    assert "create the first administrator" in log
    assert "/setup/" in log
    for key in ("master.key", "web.key"):
        assert stat.S_IMODE((installation.data / "keys" / key).stat().st_mode) == 0o600


ALL_ROLES = {"web", "worker", "scheduler"}
"""Without the receiver, which these installations do not have."""


def _reported_roles(installation: Installed) -> set[str]:
    return {role for (role,) in installation.rows("select role from monitoring_processsign")}


def test_all_processes_end_when_the_supervisor_is_killed(
    installation: Installed,
) -> None:
    installation.data.mkdir()
    with installation.up() as up:
        family = family_of(up.pid)
        os.kill(up.pid, signal.SIGKILL)
        up.wait()
        until(lambda: not any(is_alive(pid) for pid in family))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", installation.port))


def test_up_reports_a_port_in_use_with_the_next_step(installation: Installed) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", installation.port))
        other.listen()
        done = installation.adit("up")
    assert done.returncode == 1
    assert f"Port {installation.port} is in use" in done.stderr
    assert "PORT=8080" in done.stderr


def test_up_rejects_a_database_without_its_master_key(installation: Installed) -> None:
    installation.prepare()
    (installation.data / "keys" / "master.key").unlink()
    done = installation.adit("up")
    assert done.returncode == 1
    assert "Restore the key from the backup" in done.stderr
    assert not (installation.data / "keys" / "master.key").exists()


def test_up_rejects_a_master_key_that_does_not_match_the_database(installation: Installed) -> None:
    installation.prepare()
    (installation.data / "keys" / "master.key").write_text("ab" * 32)
    done = installation.adit("up")
    assert done.returncode == 1
    assert "is not the one" in done.stderr


def test_doctor_reports_a_missing_installation_and_passes_after_prepare(
    installation: Installed,
) -> None:
    done = installation.adit("doctor")
    assert done.returncode == 1
    assert "`adit up` creates it" in done.stdout
    installation.prepare()
    done = installation.adit("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "!!" not in done.stdout
    for part in ("data folder", "master key", "database", "tables", "broker", "time zone", "free"):
        assert f"ok  {part}" in done.stdout


def test_doctor_reports_open_files_and_the_next_start_closes_them(
    installation: Installed,
) -> None:
    if "DATABASE_URL" in installation.settings:
        pytest.skip("SQLite only: PostgreSQL has no files here")
    installation.prepare()
    database = installation.data / "adit.sqlite3"
    with closing(sqlite3.connect(database)) as reader:
        reader.execute("SELECT count(*) FROM django_migrations").fetchall()
        files = [database, *(Path(f"{database}{suffix}") for suffix in ("-wal", "-shm"))]
        assert [mode_of(path) for path in files] == [0o600] * 3
        installation.data.chmod(0o755)
        for path in files:
            path.chmod(0o664)

        said = installation.adit("doctor").stdout
        assert installation.adit("prepare").returncode == 0

        assert f"chmod 700 {installation.data}\n" in said
        assert all(f"chmod 600 {path}\n" in said for path in files)
        assert [mode_of(path) for path in (installation.data, *files)] == [0o700] + [0o600] * 3


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_stop_command_stops_a_node(installation: Installed) -> None:
    installation.prepare()
    assert installation.adit("stop", "nobody").returncode == 1
    done = installation.adit("stop", "from", "--reason", "migration")
    assert done.returncode == 0, done.stderr
    ((paused_at, reason),) = installation.rows(
        "select paused_at, pause_reason from nodes_node where name = 'from'"
    )
    assert paused_at is not None
    assert reason.startswith("migration (")
    installation.do("order")
    installation.do("claim-none")
    ((reason,),) = installation.rows("select cast(wait_reason as text) from jobs_taskgroup")
    message = str(Message.from_json(json.loads(reason)))
    assert message.startswith("from")
    assert "stopped" in message
    assert "migration (" in message


def test_the_stop_command_stops_all_nodes(installation: Installed) -> None:
    installation.prepare()
    for unclear in (("stop",), ("stop", "from", "--all")):
        done = installation.adit(*unclear)
        assert done.returncode == 1
        assert "or --all" in done.stderr
    done = installation.adit("stop", "--all", "--reason", "fire")
    assert (done.returncode, "2 stopped." in done.stderr + done.stdout) == (0, True)
    rows = installation.rows("select stopped_at, pause_reason from nodes_node")
    assert len(rows) == 2
    assert all(at is not None and reason.startswith("fire (") for at, reason in rows)
    ((events,),) = installation.rows(
        "select count(*) from audit_auditevent where action = 'node.stopped'"
    )
    assert events == 2


def test_an_unknown_time_zone_is_rejected_at_start(installation: Installed) -> None:
    installation.prepare()
    installation.settings["ADIT_TIME_ZONE"] = "Europe/Atlantis"
    for command in ("up", "worker", "doctor"):
        done = installation.adit(command)
        assert done.returncode == 1
        assert "ADIT_TIME_ZONE=Europe/Atlantis is not a time zone" in done.stderr


def test_a_lease_shorter_than_two_heartbeats_is_rejected_at_start(
    installation: Installed,
) -> None:
    installation.settings["ADIT_LEASE_S"] = "5"
    done = installation.adit("worker")
    assert done.returncode == 1
    assert "ADIT_LEASE_S=5 is too short for ADIT_BEAT_S=10" in done.stderr


def test_the_data_folder_is_accessible_to_its_owner_only(
    installation: Installed,
) -> None:
    installation.do("prepare")
    assert stat.S_IMODE(installation.data.stat().st_mode) == 0o700
