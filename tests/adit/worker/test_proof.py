"""A job says how it was proven that its images are kept, and what no report names is not delivered."""

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

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]
SILENT = Lie(Kind.NOTHING, 0, 99, Part.COMMIT)
LOSES_ONE = Lie(Kind.FORGET, 1, 1, Part.STORE)


@contextmanager
def pacs(destination: Node, folder: Path, *lies: Lie, **values: Any) -> Iterator[Lying]:
    """The destination is such an archive, which reports on the association on which it was asked."""
    (folder / "kept").mkdir()
    with Lying(Site("PACS", holdings(folder / "kept")), lies, scratch=folder) as archive:
        destination.kind = "dimse"
        given = {"called_ae_title": "PACS", "host": "127.0.0.1", "port": archive.port}
        destination.settings = {**given, "commitment_s": 1.0, **values}
        destination.save()
        yield archive


def test_a_job_is_complete_by_the_reports_of_its_pacs(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, proof="commitment") as archive:
        task = work()

    assert task is not None
    assert (task.state, str(task.message)) == (TaskState.SUCCESS, "All 3 images delivered.")
    assert set(archive.log.reports) == {0}


def test_an_image_that_its_pacs_does_not_keep_is_missing(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, LOSES_ONE, proof="commitment"):
        task = work()

    assert task is not None
    assert task.state == TaskState.WARNING
    assert "2 of 3 images delivered." in str(task.message)
    assert "not stored: no such image (0112)" in str(task.message)


def test_a_job_that_was_proven_by_a_search_instead_is_complete_and_says_so(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, SILENT, proof="commitment"):
        task = work()

    assert task is not None
    assert task.state == TaskState.SUCCESS
    assert "All 3 images delivered. Storage was verified by a query" in str(task.message)
    assert "sent no Storage Commitment report within 1 s" in str(
        SeriesResult.objects.get().remarks[0]
    )
    assert SeriesResult.objects.get().notes == []


def test_a_job_says_that_nobody_asked_whether_its_images_are_kept(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    order_studies("1")
    with pacs(destination, tmp_path, proof="none"):
        task = work()

    assert task is not None
    assert task.state == TaskState.SUCCESS
    assert "Storage was not verified, since the check is disabled" in str(task.message)
