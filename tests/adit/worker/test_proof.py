"""Verification of storage: by Storage Commitment, by a query instead, or disabled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab.archive import Lying
from lab.jobs import work
from lab.lies import Kind, Lie, Part, Site, holdings

from adit.jobs.models import Job, SeriesResult, TaskState
from adit.nodes.models import Node
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]
SILENT = Lie(Kind.NOTHING, 0, 99, Part.COMMIT)
LOSES_ONE = Lie(Kind.FORGET, 1, 1, Part.STORE)


@contextmanager
def pacs(destination: Node, folder: Path, *lies: Lie, **values: Any) -> Iterator[Lying]:
    """Make the destination a test PACS that sends N-EVENT-REPORT on the requesting association."""
    (folder / "kept").mkdir()
    with Lying(Site("PACS", holdings(folder / "kept")), lies, scratch=folder) as archive:
        destination.kind = "dimse"
        given = {"called_ae_title": "PACS", "host": "127.0.0.1", "port": archive.port}
        destination.settings = {**given, "commitment_s": 1.0, **values}
        destination.save()
        yield archive


def test_a_job_is_complete_if_storage_commitment_confirms_all_images(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, proof="commitment") as archive:
        task = work()

    assert task is not None
    assert (task.state, str(task.message)) == (TaskState.SUCCESS, "All 3 images delivered.")
    assert set(archive.log.reports) == {0}


def test_an_image_that_storage_commitment_reports_as_failed_is_missing(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, LOSES_ONE, proof="commitment"):
        task = work()

    assert task is not None
    assert task.state == TaskState.WARNING
    assert "2 of 3 images delivered." in str(task.message)
    ((reason, images),) = SeriesResult.objects.get().reasons
    assert (reason.code, images) == ("not-kept.reported", 1)
    assert "no such image (0112)" in str(task.message)


def test_a_job_verified_by_query_instead_is_complete_with_a_remark(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, SILENT, proof="commitment"):
        task = work()

    assert task is not None
    assert task.state == TaskState.SUCCESS
    result = SeriesResult.objects.get()
    assert [remark.code for remark in result.remarks] == ["proof.by-query"]
    assert result.notes == []
    assert str(task.message) == f"All 3 images delivered. {result.remarks[0]}"
    assert "within 1 s" in str(task.message)


def test_a_job_without_verification_of_storage_has_a_remark(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, proof="none"):
        task = work()

    assert task is not None
    assert task.state == TaskState.SUCCESS
    assert SeriesResult.objects.get().remarks == [Message("proof.disabled")]
    assert "Storage was not verified" in str(task.message)
