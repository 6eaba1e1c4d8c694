"""Redis cache, shared by all machines. Without Redis everything works, a little slower.

Values are JSON: Django's own cache would unpickle, and thus execute, whatever is in Redis. While
Redis is unavailable each process has a local cache, so that sign-ins are still throttled.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from django.core.cache.backends import redis as djangos
from django.core.cache.backends.locmem import LocMemCache
from redis import BlockingConnectionPool, RedisError

TIMEOUT_S = 1.0
RETRY_AFTER_S = 5.0
"""Pause after a failure of Redis, so that pages do not wait for it repeatedly."""
MAX_CONNECTIONS = 20

log = logging.getLogger(__name__)


class JsonSerializer:
    """Values as JSON text; other content was not written by us and counts as absent."""

    def dumps(self, value: Any) -> Any:
        return value if type(value) is int else json.dumps(value)

    def loads(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            return None


def _with_fallback(name: str) -> Callable[..., Any]:
    """Return the operation: by Redis or, while it is unavailable, by the local cache."""

    def operate(self: "RedisCache", *args: Any, **kwargs: Any) -> Any:
        if time.monotonic() >= RedisCache.paused_until:
            try:
                return getattr(djangos.RedisCache, name)(self, *args, **kwargs)
            except (RedisError, OSError) as error:
                self.pause(error)
        return getattr(self.local, name)(*args, **kwargs)

    operate.__name__ = name
    return operate


class RedisCache(djangos.RedisCache):
    paused_until = 0.0
    """Shared by all threads of this process, each of which has its own cache object."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {
            "serializer": JsonSerializer,
            "pool_class": BlockingConnectionPool,
            "max_connections": MAX_CONNECTIONS,
            "timeout": TIMEOUT_S,
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "health_check_interval": 30,
        }
        super().__init__(server, {**params, "OPTIONS": options})
        self.local = LocMemCache("redis-fallback", params)

    def pause(self, error: Exception) -> None:
        RedisCache.paused_until = time.monotonic() + RETRY_AFTER_S
        # The text may contain the address; the type is sufficient.
        log.warning("Redis is unavailable (%s): using a local cache", type(error).__name__)

    add = _with_fallback("add")
    get = _with_fallback("get")
    set = _with_fallback("set")
    touch = _with_fallback("touch")
    delete = _with_fallback("delete")
    get_many = _with_fallback("get_many")
    set_many = _with_fallback("set_many")
    delete_many = _with_fallback("delete_many")
    has_key = _with_fallback("has_key")
    incr = _with_fallback("incr")
    clear = _with_fallback("clear")
