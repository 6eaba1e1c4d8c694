"""Each host raises its own alarms: a worker for its disks, the receiver for its certificate."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.certificates import Authority
from lab.installed import Installed
from lab.jobs import until
from lab.ports import free_port

import adit.messages  # noqa: F401 - registers the templates
from adit_engine.messages import Message

ALARMS = """select host, cast(text as text) from nodes_alarm
    where ended_at is null and cause = '{}' and subject = '{}'"""


@pytest.fixture
def installation(tmp_path: Path) -> Installed:
    installed = Installed(tmp_path / "var")
    installed.prepare()
    return installed


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A full disk of one megabyte."""
    path = tmp_path / "full"
    path.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if subprocess.run(made, capture_output=True).returncode:
        pytest.skip("needs root, to mount a disk that is full")
    try:
        with pytest.raises(OSError, match="No space"):
            (path / "all").write_bytes(b"x" * 2_000_000)
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True, timeout=250)


def test_a_worker_raises_an_alarm_for_a_full_disk_of_its_host(
    installation: Installed, full_disk: Path
) -> None:
    installation.settings["ADIT_GATHERED"] = str(full_disk)
    alarm = ALARMS.format("disk", "gathered")
    with installation.running("worker"):
        until(lambda: installation.rows(alarm), 150)
    ((machine, text),) = installation.rows(alarm)
    assert machine == socket.gethostname()
    message = Message.from_json(json.loads(text))
    assert (message.code, message.values["percent"]) == ("alarm.disk-almost-full", 0)


def test_the_receiver_raises_an_alarm_for_its_expiring_certificate(
    installation: Installed, tmp_path: Path
) -> None:
    certificate, key = Authority().issue(until_day=10).files(tmp_path, "receiver")
    installation.settings |= {
        "ADIT_RECEIVER_PORT": str(free_port()),
        "ADIT_RECEIVER_HOST": "127.0.0.1",
        "ADIT_RECEIVER_TLS_CERTIFICATE": str(certificate),
        "ADIT_RECEIVER_TLS_KEY": str(key),
    }
    alarm = ALARMS.format("certificate", "receiver:0")
    with installation.running("receiver"):
        until(lambda: installation.rows(alarm), 150)
    ((machine, text),) = installation.rows(alarm)
    assert machine == socket.gethostname()
    assert "Replace it by a renewed one before" in str(Message.from_json(json.loads(text)))
