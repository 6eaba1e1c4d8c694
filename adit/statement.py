"""Statement: SQL for what is asked so often that Django's putting it together would cost the most.

Tables and columns are named after the models, so that a renamed field is an error at the first use.
The text is the same for SQLite and PostgreSQL, but for the locks that only PostgreSQL knows.

    WAITING = Statement(
        "SELECT count(*) FROM {task} WHERE {task.state} = {T.PENDING} AND {task.job} = %s",
        task=Task, T=TaskState,
    )
    WAITING.rows(12)
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.models import Field, Model, TextChoices

with suppress(ImportError):  # only where PostgreSQL is the database
    from psycopg import Cursor

M = TypeVar("M", bound=Model)


class Names:
    """`{task}` is the table, `{task.state}` the name of a column."""

    def __init__(self, model: type[Model]) -> None:
        self._model = model

    def __getattr__(self, name: str) -> str:
        return f'"{_field(self._model, name).column}"'

    def __str__(self) -> str:
        return f'"{self._model._meta.db_table}"'


class Columns(Generic[M]):
    """Some columns of a model, in the text `{these}`, and the instances that they make.

    They come in the model's order, as Django wants to read them.
    """

    def __init__(self, model: type[M], *names: str, alias: str = "") -> None:
        self._model = model
        wanted = {_field(model, name) for name in names}
        self._fields = [field for field in model._meta.concrete_fields if field in wanted]
        self._alias = alias

    def __str__(self) -> str:
        of = f"{self._alias}." if self._alias else ""
        return ", ".join(f'{of}"{field.column}"' for field in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def read(self, row: Sequence[Any]) -> M:
        """What is missing is read when it is asked for."""
        values = list(row)
        for place, (converters, column) in self._converters.items():
            for convert in converters:
                values[place] = convert(values[place], column, connection)
        return self._model.from_db(connection.alias, self._attributes, values)

    @cached_property
    def _attributes(self) -> list[str]:
        return [field.attname for field in self._fields]

    @cached_property
    def _converters(self) -> dict[int, Any]:
        table = self._model._meta.db_table
        compiler = self._model._default_manager.all().query.get_compiler(connection.alias)
        found: dict[int, Any] = compiler.get_converters([f.get_col(table) for f in self._fields])
        return found


class States:
    """`{T.PENDING}` is its value, quoted."""

    def __init__(self, states: type[TextChoices]) -> None:
        self._states = states

    def __getattr__(self, name: str) -> str:
        return f"'{self._states[name].value}'"


class Lock:
    """`{lock:OF t}`: no other transaction changes these rows until this one ends.

    SQLite's transactions are alone from their beginning.
    """

    def __format__(self, what: str) -> str:
        return f"FOR NO KEY UPDATE {what}" if connection.features.has_select_for_update else ""


Named = type[Model] | type[TextChoices] | Columns[Any] | str


class Statement:
    """Names are models, columns, states, or pieces of text with such names, in this order."""

    def __init__(self, text: str, **names: Named) -> None:
        self._text = text
        self._named = names

    @cached_property
    def is_answered(self) -> bool:
        """By rows."""
        return "RETURNING" in self.sql or self.sql.lstrip().startswith(("SELECT", "WITH"))

    @cached_property
    def sql(self) -> str:
        names: dict[str, Any] = {"lock": Lock()}
        for name, what in self._named.items():
            if isinstance(what, str):
                names[name] = what.format(**names)
            elif isinstance(what, Columns):
                names[name] = what
            else:
                names[name] = Names(what) if issubclass(what, Model) else States(what)
        return self._text.format(**names)

    def of(self, *values: Any) -> "Asked":
        return Asked(self, values)

    def rows(self, *values: Any) -> list[tuple[Any, ...]]:
        """Asked alone."""
        asked = self.of(*values)
        ask(asked)
        return asked.rows


@dataclass(slots=True)
class Asked:
    """A statement with its values and, once it was asked, what came of it."""

    statement: Statement
    values: tuple[Any, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    count: int = 0
    """How many rows it has changed or found."""

    def take(self, cursor: Any) -> None:
        self.rows = cursor.fetchall() if self.statement.is_answered else []
        self.count = cursor.rowcount


def ask(*together: Asked) -> None:
    """One after the other. To PostgreSQL they travel together, and so do their answers: locks are
    held for fewer journeys. It also keeps what it has read, and does not read them anew each time.
    """
    if connection.vendor == "postgresql":
        _send(together)
        return
    with connection.cursor() as cursor:
        for asked in together:
            cursor.execute(asked.statement.sql, _adapted(asked.values))
            asked.take(cursor)


def _send(together: Sequence[Asked]) -> None:
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    line: Any = connection.connection
    with connection.wrap_database_errors:
        with line.pipeline():
            cursors = [Cursor(line) for _asked in together]
            for cursor, asked in zip(cursors, together, strict=True):
                cursor.execute(asked.statement.sql, _adapted(asked.values))
        for cursor, asked in zip(cursors, together, strict=True):
            asked.take(cursor)


def _field(model: type[Model], name: str) -> "Field[Any, Any]":
    found = model._meta.get_field(name)
    assert isinstance(found, Field), f"{name} is no column of {model._meta.label}"
    return found


def _adapted(values: Sequence[Any]) -> list[Any]:
    return [_ADAPT[type(value)](value) if type(value) in _ADAPT else value for value in values]


_ADAPT: Mapping[type, Callable[[Any], Any]] = {
    datetime: lambda at: connection.ops.adapt_datetimefield_value(at),
    date: lambda day: connection.ops.adapt_datefield_value(day),
}
