"""Signs: whether all that ADIT stands on answers just now: database, tables, broker, cache, disk."""

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor

from adit.nodes.receiving import amqp

WITHIN_S = 4.0
"""Who asks gets an answer within so long, whatever is frozen."""
ENOUGH_BYTES = 2_000_000_000
_MARK = "sign-of-life"


class Bad(Exception):
    """What is wrong, in few words that name no secret."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One part, and what is wrong with it; nothing where it answers as it should."""

    part: str
    trouble: str = ""

    @property
    def is_good(self) -> bool:
        return not self.trouble


def all_signs() -> list[Sign]:
    """One for each part, in a fixed order, asked at the same time."""
    asked = {part: _asking.submit(_asked, look) for part, look in PARTS.items()}
    wait(asked.values(), WITHIN_S)
    return [Sign(part, _trouble(answer)) for part, answer in asked.items()]


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _tables() -> None:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise Bad(f"{len(missing)} changes of tables are due")


def _broker() -> None:
    if settings.BROKER_URL.startswith("amqp"):
        try:
            amqp.version(settings.BROKER_URL)
        except amqp.Away as error:
            raise Bad(f"away ({error})") from None
    elif not os.access(settings.BROKER_DIR, os.W_OK):
        raise Bad("its folder cannot be written")


def _cache() -> None:
    if not settings.REDIS_URL:
        cache.get(_MARK)
        return
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2
    ) as client:
        client.ping()


def _disk() -> None:
    for place in {settings.DATA_DIR, settings.SPOOL_DIR}:
        if place.is_dir() and shutil.disk_usage(place).free < ENOUGH_BYTES:
            raise Bad("less than 2 GB are free")


PARTS: Mapping[str, Callable[[], None]] = {
    "database": _database,
    "tables": _tables,
    "broker": _broker,
    "cache": _cache,
    "disk": _disk,
}

_asking = ThreadPoolExecutor(2 * len(PARTS), thread_name_prefix="sign")
"""What hangs takes up threads; when all of them hang, that is an answer, too."""


def _asked(look: Callable[[], None]) -> None:
    try:
        look()
    finally:
        connection.close()


def _trouble(answer: "Future[None]") -> str:
    if not answer.done():
        answer.cancel()
        return f"no answer within {WITHIN_S:g} s"
    error = answer.exception()
    if error is None:
        return ""
    if isinstance(error, Bad):
        return str(error)
    if isinstance(error, (Error, redis.RedisError, OSError)):
        return f"away ({type(error).__name__})"
    return type(error).__name__
