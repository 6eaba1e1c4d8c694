"""Services of the tests: several in parallel, killed and restarted, removed with the tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import amqp
import psycopg
import redis
from lab import services
from lab.services import USER, Service, needs_postgresql, needs_rabbitmq, needs_redis

HOLDER = """
import sys, time
from lab import services
with getattr(services, sys.argv[1])() as service:
    print(service.folder, service.__dict__["keeper"].pid, flush=True)
    time.sleep(600)
"""


def channel(broker: Service) -> amqp.Channel:
    address = f"127.0.0.1:{broker.port}"
    connection = amqp.Connection(address, USER, broker.password, virtual_host=USER)
    connection.connect()
    return connection.channel()


@needs_postgresql
def test_committed_data_survives_a_killed_postgresql() -> None:
    with services.postgresql() as base:
        with psycopg.connect(base.url) as connection:
            connection.execute("CREATE TABLE note (text TEXT)")
            connection.execute("INSERT INTO note VALUES ('kept')")
        base.kill()
        base.start()
        with psycopg.connect(base.url) as connection:
            assert connection.execute("SELECT text FROM note").fetchall() == [("kept",)]


@needs_redis
def test_acknowledged_data_survives_a_killed_redis() -> None:
    with services.redis() as store:
        with redis.Redis.from_url(store.url) as client:
            client.set("note", "kept")
        store.kill()
        store.start()
        with redis.Redis.from_url(store.url) as client:
            assert client.get("note") == b"kept"


@needs_rabbitmq
def test_two_brokers_run_in_parallel_and_are_independent() -> None:
    with services.rabbitmq() as one, services.rabbitmq() as other:
        assert one.port != other.port
        first = channel(one)
        first.queue_declare("letters", durable=True, auto_delete=False)
        first.confirm_select()
        first.basic_publish_confirm(amqp.Message(b"kept", delivery_mode=2), routing_key="letters")
        first.connection.close()
        one.kill()
        one.start()

        first, second = channel(one), channel(other)
        found = first.basic_get("letters", no_ack=True)
        assert found is not None
        assert found.body == b"kept"
        with contextlib.suppress(amqp.NotFound):
            second.queue_declare("letters", passive=True)
            raise AssertionError("the other broker has the queue, too")
        first.connection.close()
        second.connection.close()


@needs_redis
def test_a_killed_test_leaves_neither_process_nor_folder() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "redis"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(services.__file__).parents[1])},
    )
    assert holder.stdout is not None
    folder, keeper = holder.stdout.readline().split()
    assert Path(folder, "redis.conf").exists()

    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    until(lambda: not Path(folder).exists())
    until(lambda: not is_alive(int(keeper)))


def is_alive(pid: int) -> bool:
    """Return whether the process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
