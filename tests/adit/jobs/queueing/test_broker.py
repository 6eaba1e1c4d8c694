"""The file broker with concurrent and killed processes: each message is read whole and once."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from kombu import Connection, Queue
from lab import broker_consumer
from lab.jobs import until

from adit.config import broker_transport

POSTMAN = str(Path(broker_consumer.__file__))


def postman(folder: Path, role: str, queue: str, count: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, POSTMAN, str(folder), role, queue, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def connected(folder: Path) -> Connection:
    return Connection(
        "filesystem://localhost",
        transport="adit.config.broker_transport:Transport",
        transport_options={"folder": str(folder), "polling_interval": 0.02},
    )


def test_concurrent_readers_receive_each_message_once_and_complete(tmp_path: Path) -> None:
    readers = [postman(tmp_path, "read", "work", 10) for _ in range(3)]
    writers = [postman(tmp_path, "write", "work", 60) for _ in range(3)]
    for writer in writers:
        _, err = writer.communicate(timeout=250)
        assert writer.returncode == 0, err
    lines: list[str] = []
    for reader in readers:
        out, err = reader.communicate(timeout=250)
        assert reader.returncode == 0, err
        lines += out.splitlines()
    assert {line.split()[1] for line in lines} == {"20000"}
    numbers = Counter(int(line.split()[0]) for line in lines)
    assert numbers == Counter(dict.fromkeys(range(60), 3))
    assert not list((tmp_path / "waiting").iterdir())


def test_killed_writers_and_readers_do_not_affect_other_processes(tmp_path: Path) -> None:
    victims = [postman(tmp_path, "write", "work", 100_000) for _ in range(2)]
    victims += [postman(tmp_path, "read", "work", 60) for _ in range(2)]
    until(lambda: (tmp_path / "waiting").is_dir() and any((tmp_path / "waiting").iterdir()))
    time.sleep(0.5)  # kill them while they read and write
    for victim in victims:
        victim.kill()
        victim.communicate()
    postman(tmp_path, "write", "work", 50).communicate(timeout=250)
    reader = postman(tmp_path, "read", "work", 10)
    out, err = reader.communicate(timeout=250)
    assert reader.returncode == 0, err
    assert len(out.splitlines()) >= 50
    assert {line.split()[1] for line in out.splitlines()} == {"20000"}
    assert not list((tmp_path / "waiting").iterdir())


def test_a_queue_does_not_receive_messages_of_another_queue(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        connection.SimpleQueue(Queue("work", routing_key="work")).put({"n": 1})
        upkeep = connection.SimpleQueue(Queue("upkeep", routing_key="upkeep"))
        with pytest.raises(upkeep.Empty):
            upkeep.get(timeout=0.1)
        assert connection.SimpleQueue(Queue("work", routing_key="work")).qsize() == 1


def test_an_invalid_message_file_is_discarded(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        box = connection.SimpleQueue(Queue("work", routing_key="work"))
        box.put({"n": 1})
        (whole,) = (tmp_path / "waiting").iterdir()
        first = whole.name.replace(whole.name[:20], "0" * 20, 1)
        (tmp_path / "waiting" / first).write_text("{ half")
        assert box.get(timeout=20).payload == {"n": 1}
        assert not list((tmp_path / "passing").iterdir())


def test_stale_files_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "passing").mkdir(parents=True)
    old, new = tmp_path / "passing" / "old", tmp_path / "passing" / "new"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (time.time(), time.time() - broker_transport.STALE_S - 1))
    with connected(tmp_path) as connection:
        connection.SimpleQueue("work").qsize()
    assert not old.exists()
    assert new.exists()
