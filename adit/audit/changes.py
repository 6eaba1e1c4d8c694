"""Find which fields of an object a change gave other values. Used where such objects are saved.

The result goes into the details of an audit event and is shown as the history of the object.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import models

Changes = dict[str, dict[str, Any]]
"""For each changed field its values: {"from": …, "to": …}."""


def read_fields(row: models.Model, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of fields as JSON data, without those that hold secrets or patients.

    Encrypted, binary and file fields and passwords are left out. Rows of relations are named.
    """
    values = {}
    for name in names:
        field = row._meta.get_field(name)
        if isinstance(field, models.BinaryField | models.FileField) or name == "password":
            continue
        if isinstance(field, models.ManyToManyField):
            values[name] = sorted(str(one) for one in getattr(row, name).all()) if row.pk else []
        else:
            values[name] = make_value(getattr(row, name))
    return values


def make_value(value: Any) -> Any:
    """Return a value as JSON data; of a row its name."""
    if isinstance(value, list | tuple):
        return [make_value(one) for one in value]
    if isinstance(value, dict):
        return {str(name): make_value(one) for name, one in value.items()}
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def compare_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Return the values that differ, in the order of `after`; a missing value counts as None."""
    return {
        name: {"from": before.get(name), "to": after.get(name)}
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    }
