"""PostgreSQL, RabbitMQ and Redis for tests, each on its own free ports.

    with rabbitmq() as broker:
        ... broker.url ...
        broker.kill(); broker.start()

They run without systemd, as the user of their package if we are root, in temporary folders that are
removed even if the test process is killed. Settings favor speed; confirmed data survive `kill`
(SIGKILL of all processes), but not a power failure.
"""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.ports import LOOPBACK, free_port
from lab.reaper import unmarked

READY_WITHIN_S = 60.0
USER = "adit"

_PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
_LOOK_S = 0.05


@dataclass
class Service:
    """A running service; after `stop` or `kill`, `start` restarts it with the same data."""

    name: str
    folder: Path
    port: int
    password: str
    url: str
    command: list[str]
    answers: Callable[["Service"], bool]
    user: str = ""
    env: dict[str, str] = field(default_factory=dict)
    beside: list[list[str]] = field(default_factory=list)
    """Commands of auxiliary processes."""
    stop_signal: int = signal.SIGTERM

    def start(self) -> None:
        """Start and wait until it responds. Raises RuntimeError with its log otherwise."""
        self._say("start")
        self.await_ready()

    def await_ready(self, within_s: float = READY_WITHIN_S) -> None:
        until = time.monotonic() + within_s
        while not self.answers(self):
            if time.monotonic() > until or self._say("state") == "ended":
                raise RuntimeError(f"{self.name} did not start:\n{self.log()[-3000:]}")
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Stop it gracefully, as an administrator would."""
        self._say("stop")

    def kill(self) -> None:
        """Send SIGKILL to all its processes."""
        self._say("kill")

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Suspend it: connections stay open but it no longer responds."""
        self._say("freeze")

    def thaw(self) -> None:
        self._say("thaw")

    def log(self) -> str:
        return (self.folder / "service.log").read_text(errors="replace")

    def _say(self, word: str) -> str:
        keeper = self.__dict__["keeper"]
        keeper.stdin.write(word + "\n")
        keeper.stdin.flush()
        answer = keeper.stdout.readline().strip()
        if not answer or answer == "still running":
            raise RuntimeError(f"the keeper of {self.name} could not {word} it")
        return str(answer)

    @contextmanager
    def kept(self) -> Iterator["Service"]:
        """Run until the block ends; a keeper process cleans up."""
        order = {
            "folder": str(self.folder),
            "command": self.command,
            "beside": self.beside,
            "user": self.user,
            "env": {"PATH": _PLACES, "LC_ALL": "C.UTF-8", "HOME": str(self.folder), **self.env},
            "stop_signal": int(self.stop_signal),
        }
        keeper = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("keeper.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=unmarked(),
            start_new_session=True,
        )
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        self.__dict__["keeper"] = keeper
        try:
            keeper.stdin.write(json.dumps(order) + "\n")
            self.start()
            yield self
        finally:
            keeper.stdin.close()
            keeper.wait(30)
            keeper.stdout.close()


# PostgreSQL, RabbitMQ, Redis ---------------------------------------------------------------


@contextmanager
def postgresql(**settings: str) -> Iterator[Service]:
    """Run a cluster with one empty database, whose owner may create others.

    Settings are those of postgresql.conf: fsync="on" as in production.
    """
    programs = postgresql_folder()
    assert programs is not None
    with _folder("postgres") as (folder, user):
        port, password = free_port(), secrets.token_hex(8)
        data, word = folder / "data", folder / "password"
        _write(word, password, user)
        _run(
            [f"{programs}/initdb", "-D", str(data), "-U", USER, "-A", "scram-sha-256"]
            + ["--pwfile", str(word), "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            user,
            folder,
        )
        lines = {
            "listen_addresses": LOOPBACK,
            "port": port,
            "unix_socket_directories": folder,
            # Confirmed data survive SIGKILL; only a power failure would lose them.
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 60,
            "shared_buffers": "64MB",
            **settings,
        }
        options = [part for name, value in lines.items() for part in ("-c", f"{name}={value}")]
        yield from _running(
            Service(
                "PostgreSQL",
                folder,
                port,
                password,
                f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/postgres",
                [f"{programs}/postgres", "-D", str(data), *options],
                _postgresql_answers,
                user,
                stop_signal=signal.SIGINT,
            )
        )


@contextmanager
def rabbitmq(**settings: object) -> Iterator[Service]:
    """Run a broker with its own node name and port mapper, without plugins.

    `settings` are lines of its configuration, with dots written as two underscores.
    """
    server = rabbitmq_server()
    assert server is not None
    with _folder("rabbitmq") as (folder, user):
        port, mapper, distribution = free_port(), free_port(), free_port()
        password, name = secrets.token_hex(8), f"adit{secrets.token_hex(4)}@localhost"
        lines = {
            "listeners.tcp.1": f"{LOOPBACK}:{port}",
            "default_user": USER,
            "default_pass": password,
            "default_vhost": USER,
            "disk_free_limit.absolute": "50MB",
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "warning",
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        _write(
            folder / "rabbitmq.conf",
            "".join(f"{key} = {value}\n" for key, value in lines.items()),
            user,
        )
        _write(folder / "plugins", "[].\n", user)
        _write(folder / "nothing", "", user)
        env = {
            # The script then execs the broker, which receives signals directly.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": name,
            "RABBITMQ_CONF_ENV_FILE": str(folder / "nothing"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+sbwt none +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": LOOPBACK,
        }
        yield from _running(
            Service(
                "RabbitMQ",
                folder,
                port,
                password,
                f"amqp://{USER}:{password}@{LOOPBACK}:{port}/{USER}",
                [server],
                _rabbitmq_answers,
                user,
                env,
                # The broker itself would start it as a daemon that survives the broker.
                [["epmd", "-port", str(mapper), "-address", LOOPBACK]],
            )
        )


@contextmanager
def redis() -> Iterator[Service]:
    """Run Redis with a password and an append-only file: confirmed data survive a kill."""
    server = redis_server()
    assert server is not None
    with _folder("redis") as (folder, user):
        port, password = free_port(), secrets.token_hex(8)
        lines = (
            f"bind {LOOPBACK}\nport {port}\nrequirepass {password}\ndir {folder}\n"
            'save ""\nappendonly yes\nappendfsync no\ndaemonize no\n'
        )
        _write(folder / "redis.conf", lines, user)
        yield from _running(
            Service(
                "Redis",
                folder,
                port,
                password,
                f"redis://:{password}@{LOOPBACK}:{port}/0",
                [server, str(folder / "redis.conf")],
                _redis_answers,
                user,
            )
        )


# Programs ------------------------------------------------------------------------------------


def postgresql_folder() -> str | None:
    """Return the folder with the programs of the newest PostgreSQL on this machine."""
    found = sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")),
        key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0,
    )
    if found:
        return str(found[-1])
    server = shutil.which("postgres")
    return str(Path(server).parent) if server and shutil.which("initdb") else None


def rabbitmq_server() -> str | None:
    # The wrapper of Debian in the path requires its own user and service; this one does not.
    return shutil.which("rabbitmq-server", path=f"/usr/lib/rabbitmq/bin:{os.environ['PATH']}")


def redis_server() -> str | None:
    return shutil.which("redis-server", path=f"{os.environ['PATH']}:{_PLACES}")


needs_postgresql = pytest.mark.skipif(
    postgresql_folder() is None, reason="needs PostgreSQL: apt install postgresql"
)
needs_rabbitmq = pytest.mark.skipif(
    rabbitmq_server() is None, reason="needs RabbitMQ: apt install rabbitmq-server"
)
needs_redis = pytest.mark.skipif(
    redis_server() is None, reason="needs Redis: apt install redis-server"
)


# Fixtures: `from lab.services import …` in a conftest ------------------------------------------


@pytest.fixture(scope="session")
def postgresql_service() -> Iterator[Service]:
    """One PostgreSQL server for the whole test run."""
    if postgresql_folder() is None:
        pytest.skip("needs PostgreSQL: apt install postgresql")
    with postgresql() as service:
        yield service


@pytest.fixture(scope="session")
def rabbitmq_service() -> Iterator[Service]:
    """One RabbitMQ server for the whole test run."""
    if rabbitmq_server() is None:
        pytest.skip("needs RabbitMQ: apt install rabbitmq-server")
    with rabbitmq() as service:
        yield service


@pytest.fixture(scope="session")
def redis_service() -> Iterator[Service]:
    """One Redis server for the whole test run."""
    if redis_server() is None:
        pytest.skip("needs Redis: apt install redis-server")
    with redis() as service:
        yield service


# Details -------------------------------------------------------------------------------------


def _running(service: Service) -> Iterator[Service]:
    with service.kept():
        yield service


@contextmanager
def _folder(package_user: str) -> Iterator[tuple[Path, str]]:
    """Yield a temporary folder and its owner; the owner is empty unless we are root."""
    folder = Path(tempfile.mkdtemp(prefix="adit-service-"))
    user = _user(package_user)
    if user:
        shutil.chown(folder, user)
    try:
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user(package_user: str) -> str:
    """Return the user of a service if we are root; empty for the current user."""
    if os.geteuid() != 0:
        return ""
    for name in (package_user, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("There is no user that could run a service.")


def _write(path: Path, text: str, user: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    if user:
        shutil.chown(path, user)


def _run(command: list[str], user: str, folder: Path) -> None:
    who: dict[str, object] = {"user": user, "extra_groups": []} if user else {}
    done = subprocess.run(  # type: ignore[call-overload]
        command, cwd=folder, capture_output=True, text=True, timeout=READY_WITHIN_S, **who
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}:\n{done.stdout}{done.stderr}")


def _postgresql_answers(service: Service) -> bool:
    import psycopg

    try:
        psycopg.connect(service.url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _rabbitmq_answers(service: Service) -> bool:
    import amqp

    host = f"{LOOPBACK}:{service.port}"
    connection = amqp.Connection(
        host, USER, service.password, virtual_host=USER, connect_timeout=2, read_timeout=5
    )
    try:
        connection.connect()
    except (OSError, amqp.AMQPError):
        return False
    finally:
        connection.collect()
    return True


def _redis_answers(service: Service) -> bool:
    try:
        with socket.create_connection((LOOPBACK, service.port), timeout=2) as line:
            line.sendall(f"AUTH {service.password}\r\nPING\r\n".encode())
            heard = b""
            while b"PONG" not in heard:
                more = line.recv(4096)
                if not more or b"LOADING" in more:
                    return False
                heard += more
    except OSError:
        return False
    return True
