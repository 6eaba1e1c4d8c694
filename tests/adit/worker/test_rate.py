"""The rate limit of a node applies to transfers."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import samples
from lab.archive import plain_archive
from lab.jobs import PATIENT, work
from lab.ordering import order_job

from adit.accounts.models import User
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import TaskState
from adit.nodes.models import Lane, Node, NodeDailyUsage

pytestmark = pytest.mark.django_db(transaction=True)

RATE_KB_S = 500
SIDE, IMAGES = 512, 4
SIZE = SIDE * SIDE * 2 * IMAGES


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[int]:
    """Port of a PACS with a study of 2 MB."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(1, IMAGES + 1):
        image = samples.ct(number, Rows=SIDE, Columns=SIDE, PixelData=bytes(SIDE * SIDE * 2))
        (folder / f"{number}.dcm").write_bytes(samples.file_bytes(image))
    with plain_archive("PACS", folder) as one:
        yield one.port


def test_a_transfer_does_not_exceed_the_rate_limit_of_its_source(
    archive: int, source: Node, destination: Node, coordinator: User
) -> None:
    place = {"host": "127.0.0.1", "port": archive, "called_ae_title": "PACS", "retrieve": "get"}
    source.kind, source.settings, source.rate_kb_s = "dimse", place, RATE_KB_S
    source.save()
    picks = (PickedStudy.by_uid(source.pk, f"{samples.ROOT}.1", PATIENT),)
    order_job(coordinator, "selective", picks, destination.pk)
    began = time.monotonic()

    task = work()

    assert task is not None
    assert task.state == TaskState.SUCCESS
    least_s = SIZE / (RATE_KB_S * 1000) - 0.5
    assert time.monotonic() - began >= least_s
    sent = NodeDailyUsage.objects.filter(lane=Lane.RETRIEVE)
    assert sent.get(node=source).size_bytes >= SIZE
    for node in (source, destination):
        assert sent.get(node=node).images == IMAGES
