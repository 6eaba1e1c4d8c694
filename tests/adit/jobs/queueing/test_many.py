"""Rows that are written by thousands are such as Django would have written one by one."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError
from django.forms.models import model_to_dict

from adit import many
from adit.jobs.models import Job, ResultLine, Task
from adit.nodes.models import Lane

pytestmark = pytest.mark.django_db


def values_of(row: Task | ResultLine) -> dict[str, object]:
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    sealed = {name: bytes(value) for name, value in values.items() if isinstance(value, memoryview)}
    return {**values, **sealed, **model_to_dict(row, ["notes", "facts", "rules"])}


def test_tasks_and_their_lines(order_studies: Callable[..., Job]) -> None:
    job = order_studies("1", images=1)
    node = job.tasks.get().source
    one = Task.objects.create(job=job, position=7, source=node, lane=Lane.SEARCH, payload=b"\0x")
    ResultLine.objects.create(job=job, task=one, line=3, sealed=b"\0s")
    expected = [values_of(Task.objects.get(pk=one.pk)), values_of(ResultLine.objects.get())]
    one.delete()

    assert node is not None
    names = ("position", "source_id", "lane", "payload")
    many.insert(Task, {"job_id": job.pk}, names, [(7, node.pk, Lane.SEARCH, b"\0x")])
    made = Task.objects.get(job=job, position=7)
    row = (made.pk, 3, b"\0s")
    many.insert(ResultLine, {"job_id": job.pk}, ("task_id", "line", "sealed"), [row])

    found = [values_of(made), values_of(ResultLine.objects.get())]
    expected[0]["id"], expected[1]["id"], expected[1]["task_id"] = made.pk, found[1]["id"], made.pk
    assert found == expected


def test_none_of_them_is_no_error_and_one_that_is_there_is(
    order_studies: Callable[..., Job],
) -> None:
    job = order_studies("1", images=1)
    names = ("position", "payload")
    many.insert(Task, {"job_id": job.pk}, names, [])

    with pytest.raises(IntegrityError):
        many.insert(Task, {"job_id": job.pk}, names, [(2, b""), (1, b"")])
