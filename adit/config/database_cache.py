"""Cache in a database table, shared by all processes, for installations without Redis.

Values are JSON: Django's own cache would unpickle, and thus execute, whatever is in the table.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.db import BaseDatabaseCache
from django.db import connection
from django.utils import timezone

_UPSERT = (
    "INSERT INTO {table} (cache_key, value, expires) VALUES (%s, %s, %s) ON CONFLICT (cache_key) "
    "DO UPDATE SET value = excluded.value, expires = excluded.expires"
)
_FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


class DatabaseCache(BaseDatabaseCache):
    """A cache in the table made by `createcachetable`; `sweep` removes expired entries."""

    def __init__(self, table: str, params: dict[str, Any]) -> None:
        super().__init__(table, params)
        self.quoted = connection.ops.quote_name(table)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        rows = self._rows(
            "SELECT value FROM {table} WHERE cache_key = %s AND expires > %s",
            [self.make_and_validate_key(key, version=version), _to_database_time(timezone.now())],
        )
        try:
            return json.loads(rows[0][0]) if rows else default
        except ValueError:
            return default

    def set(
        self,
        key: str,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        self._put(key, value, timeout, version, "")

    def add(
        self,
        key: str,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        return self._put(key, value, timeout, version, "WHERE {table}.expires <= %s") == 1

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        changed = self._execute(
            "UPDATE {table} SET expires = %s WHERE cache_key = %s AND expires > %s",
            [
                self._expiry_time(timeout),
                self.make_and_validate_key(key, version=version),
                _to_database_time(timezone.now()),
            ],
        )
        return changed == 1

    def delete(self, key: str, version: int | None = None) -> bool:
        name = self.make_and_validate_key(key, version=version)
        return self._execute("DELETE FROM {table} WHERE cache_key = %s", [name]) == 1

    def has_key(self, key: str, version: int | None = None) -> bool:
        found = self._rows(
            "SELECT 1 FROM {table} WHERE cache_key = %s AND expires > %s",
            [self.make_and_validate_key(key, version=version), _to_database_time(timezone.now())],
        )
        return bool(found)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Increment a value atomically. Raise ValueError if the key does not exist."""
        rows = self._rows(
            "UPDATE {table} SET value = CAST(CAST(value AS INTEGER) + %s AS TEXT)"
            " WHERE cache_key = %s AND expires > %s RETURNING value",
            [
                delta,
                self.make_and_validate_key(key, version=version),
                _to_database_time(timezone.now()),
            ],
        )
        if not rows:
            raise ValueError(f"there is no key {key}")
        return int(rows[0][0])

    def clear(self) -> None:
        self._execute("DELETE FROM {table}", [])

    def sweep(self) -> int:
        """Remove expired entries; return their number."""
        return self._execute(
            "DELETE FROM {table} WHERE expires <= %s", [_to_database_time(timezone.now())]
        )

    def _put(self, key: str, value: Any, timeout: Any, version: int | None, unless: str) -> int:
        name = self.make_and_validate_key(key, version=version)
        command = f"{_UPSERT} {unless}"
        values = [name, json.dumps(value), self._expiry_time(timeout)]
        return self._execute(
            command, [*values, _to_database_time(timezone.now())] if unless else values
        )

    def _expiry_time(self, timeout: Any) -> Any:
        seconds = self.get_backend_timeout(timeout)
        end = _FOREVER if seconds is None else datetime.fromtimestamp(seconds, UTC)
        return _to_database_time(end)

    def _execute(self, command: str, values: Sequence[Any]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(self._named(command), values)
            return int(cursor.rowcount)

    def _rows(self, command: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(self._named(command), values)
            return list(cursor.fetchall())

    def _named(self, command: str) -> str:
        return command.format(table=self.quoted)


def _to_database_time(at: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(at)
