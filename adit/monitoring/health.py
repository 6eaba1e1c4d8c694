"""Check whether database, tables, broker, cache and disk are available.

Used by the health and metrics views.
"""

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

DEADLINE_S = 4.0
"""Time limit for the answer, even if a service does not respond."""
MIN_FREE_BYTES = 2_000_000_000
_CACHE_KEY = "sign-of-life"


class CheckFailed(Exception):
    """The problem, in a few words that name no secret."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service and its problem; the problem is empty if the service works."""

    name: str
    problem: str = ""

    @property
    def is_good(self) -> bool:
        return not self.problem


def check_readiness() -> list[ServiceStatus]:
    """Check all services at the same time; return one status each, in a fixed order."""
    asked = {part: _executor.submit(_run_check, look) for part, look in CHECKS.items()}
    wait(asked.values(), DEADLINE_S)
    return [ServiceStatus(part, _describe_problem(answer)) for part, answer in asked.items()]


def _check_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _check_migrations() -> None:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise CheckFailed(f"{len(missing)} migrations are missing")


def _check_broker() -> None:
    if settings.BROKER_URL.startswith("amqp"):
        try:
            amqp.get_broker_version(settings.BROKER_URL)
        except amqp.BrokerUnavailable as error:
            raise CheckFailed(f"unavailable ({error})") from None
    elif not os.access(settings.BROKER_DIR, os.W_OK):
        raise CheckFailed("its folder is not writable")


def _check_cache() -> None:
    if not settings.REDIS_URL:
        cache.get(_CACHE_KEY)
        return
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2
    ) as client:
        client.ping()


def _check_disk() -> None:
    for place in {settings.DATA_DIR, settings.SPOOL_DIR}:
        if place.is_dir() and shutil.disk_usage(place).free < MIN_FREE_BYTES:
            raise CheckFailed("less than 2 GB free")


CHECKS: Mapping[str, Callable[[], None]] = {
    "database": _check_database,
    "tables": _check_migrations,
    "broker": _check_broker,
    "cache": _check_cache,
    "disk": _check_disk,
}

_executor = ThreadPoolExecutor(2 * len(CHECKS), thread_name_prefix="sign")
"""Checks that hang occupy threads; when all threads hang, that is reported as well."""


def _run_check(check: Callable[[], None]) -> None:
    try:
        check()
    finally:
        connection.close()


def _describe_problem(answer: "Future[None]") -> str:
    if not answer.done():
        answer.cancel()
        return f"no answer within {DEADLINE_S:g} s"
    error = answer.exception()
    if error is None:
        return ""
    if isinstance(error, CheckFailed):
        return str(error)
    if isinstance(error, (Error, redis.RedisError, OSError)):
        return f"unavailable ({type(error).__name__})"
    return type(error).__name__
