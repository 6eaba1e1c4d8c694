"""Many: thousands of rows of one table, written at once and without an instance for each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection, connections
from django.db.models import Field, Model


def insert(
    model: type[Model],
    same: Mapping[str, Any],
    names: Sequence[str],
    each: Iterable[Sequence[Any]],
) -> None:
    """Rows that differ in `names` alone; `each` has their values, in that order.

    `same` is what all rows say. Names are those of columns, such as job_id. What neither names gets
    the model's default. For the caller's transaction.
    """
    fields = {field.attname: field for field in model._meta.local_concrete_fields}
    varying = [fields.pop(name) for name in names]
    line = connections[connection.alias]
    rest = [field for field in fields.values() if not field.primary_key]
    alike = [_kept(field, same.get(field.attname, field.get_default()), line) for field in rest]
    columns = ", ".join(f'"{field.column}"' for field in (*varying, *rest))
    marks = ", ".join(["%s"] * (len(varying) + len(rest)))
    table = model._meta.db_table
    sql = f'INSERT INTO "{table}" ({columns}) VALUES ({marks})'  # noqa: S608  names of the model
    # All are there before the first goes: making them may ask the database itself.
    rows = [
        [*(_kept(f, value, line) for f, value in zip(varying, values, strict=True)), *alike]
        for values in each
    ]
    with line.cursor() as cursor:
        cursor.executemany(sql, rows)


def _kept(field: "Field[Any, Any]", value: Any, line: Any) -> Any:
    """As the database takes it."""
    return field.get_db_prep_save(value, line)
