"""Footing: the services that this installation stands on, asked one by one, and how to mend them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from kombu.utils.url import url_to_parts

from adit.nodes.receiving import amqp

OLDEST = {"PostgreSQL": 15, "RabbitMQ": 4, "Redis": 7}
APART_S = 2.0
"""Leases and windows are told by several clocks: they may differ by so much."""
ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `next_step` is empty when it is as it should be."""

    what: str
    next_step: str = ""


def examine() -> Iterator[Finding]:
    """Database, tables, clock, broker, cache, zone. Touches nothing, waits some seconds at most."""
    database = _database()
    yield database
    if not database.next_step:
        yield _tables()
        if not settings.EMBEDDED:
            yield _clock()
    yield _broker()
    if settings.REDIS_URL:
        yield _redis()
    yield _zone()


def _database() -> Finding:
    if settings.EMBEDDED:
        return _asked("database (SQLite)", _sqlite_answers)
    name = f"database (PostgreSQL at {_place(settings.DATABASE_URL, 5432)})"
    try:
        connection.ensure_connection()
        version = connection.cursor().connection.info.server_version // 10000
    except Error as error:
        said = str(error)
        if "password authentication failed" in said or "no password supplied" in said:
            return Finding(name, "It refuses the user or password of DATABASE_URL.")
        if "does not exist" in said:
            return Finding(name, "There is no such database: create it (docs/operate.md).")
        return Finding(
            name, "Nobody answers there: does PostgreSQL run, and is DATABASE_URL right?"
        )
    return _recent("PostgreSQL", name, version)


def _sqlite_answers() -> str:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        (mode,) = cursor.fetchone()
    return "" if mode == "wal" else "It keeps no write-ahead log: put it on a local disk."


def _tables() -> Finding:
    def look() -> str:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        how = "`adit up` makes them" if settings.EMBEDDED else "`adit prepare` makes them"
        return f"{len(missing)} changes of tables are due: {how}." if missing else ""

    return _asked("tables", look)


def _clock() -> Finding:
    def look() -> str:
        before = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (theirs,) = cursor.fetchone()
        half_way = (time.monotonic() - before) / 2
        apart = abs((timezone.now() - theirs).total_seconds() - half_way)
        return (
            f"It is {apart:.0f} s away from the database's. Let one time server set both."
            if apart > APART_S
            else ""
        )

    return _asked("clock of this machine", look)


def _broker() -> Finding:
    url = settings.BROKER_URL
    if not url.startswith("amqp"):
        what = f"broker folder {settings.BROKER_DIR}"
        there = settings.BROKER_DIR.is_dir()
        return Finding(what, "" if there else "It does not exist yet: `adit up` makes it.")
    name = f"broker (RabbitMQ at {_place(url, 5672)})"
    try:
        version = amqp.version(url)
    except amqp.Away as error:
        if str(error) in ("AccessRefused", "NotAllowed"):
            step = "It refuses the user, password or virtual host of ADIT_BROKER_URL."
        else:
            step = "Nobody answers there: does RabbitMQ run, and is ADIT_BROKER_URL right?"
        return Finding(name, f"{step} Until then work starts late, and no image comes by C-MOVE.")
    return _recent("RabbitMQ", name, int(version.partition(".")[0] or 0))


def _redis() -> Finding:
    name = f"cache (Redis at {_place(settings.REDIS_URL, 6379)})"
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
        ) as client:
            version = str(client.info("server")["redis_version"])
    except redis.AuthenticationError:
        return Finding(name, "It refuses the password of ADIT_REDIS_URL.")
    except (redis.RedisError, OSError):
        return Finding(
            name,
            "Nobody answers there: does Redis run, and is ADIT_REDIS_URL right? It goes on "
            "without, slower.",
        )
    if not redis_has_password():
        return Finding(name, "It lets in everybody: give it a password (requirepass).")
    return _recent("Redis", name, int(version.partition(".")[0]))


def redis_has_password() -> bool:
    return bool(url_to_parts(settings.REDIS_URL)[4])


def _zone() -> Finding:
    what = f"time zone {settings.TIME_ZONE}"
    try:
        ZoneInfo(settings.TIME_ZONE)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return Finding(what, "There is none of this name. Write one like Europe/Berlin.")
    return Finding(what)


def _asked(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except Error as error:
        return Finding(what, f"The database does not answer ({type(error).__name__}).")


def _recent(program: str, what: str, version: int) -> Finding:
    if version < OLDEST[program]:
        return Finding(what, f"It is version {version}: ADIT needs {OLDEST[program]} or newer.")
    return Finding(f"{what}, version {version}")


def _place(url: str, port: int) -> str:
    """Where, without who and with which password."""
    _scheme, host, given, *_rest = url_to_parts(url)
    return f"{host}:{given or port}"
