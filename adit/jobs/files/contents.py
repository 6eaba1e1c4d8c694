"""Contents: once a job has ended, a list of its images is laid into the folder, beside them."""

import logging
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from adit.accounts.rights import Refused
from adit.jobs import states
from adit.jobs.models import Job
from adit.jobs.provenance import outputs
from adit.nodes.connect import Purpose, open_node
from adit.vault.box import SealBroken
from adit_engine.errors import AditError

BUSY = timedelta(minutes=30)
"""So long nobody else begins a list that somebody writes."""
AGAIN = timedelta(minutes=5)
GIVEN_UP = timedelta(days=2)

log = logging.getLogger(__name__)


def due() -> QuerySet[Job]:
    """Ended jobs whose folder does not tell yet what came of them."""
    ended = Job.objects.filter(state__in=list(states.ENDED_JOBS), destination__kind="folder")
    return ended.filter(contents_at__lte=timezone.now())


def write_due() -> int:
    """Writes the lists that are due; how many. What fails is tried again for two days."""
    return sum(_written(pk) for pk in list(due().values_list("pk", flat=True)))


def _written(pk: int) -> bool:
    now = timezone.now()
    mine = Job.objects.filter(pk=pk, contents_at__lte=now)
    if mine.update(contents_at=now + BUSY) != 1:
        return False
    job = Job.objects.select_related("owner", "trial", "destination").get(pk=pk)
    again = None
    try:
        _write(job)
    except (Refused, SealBroken) as error:
        log.info("job %d: no list of its images (%s)", pk, type(error).__name__)
    except AditError as error:
        log.warning("job %d: its list of images is not written (%s)", pk, type(error).__name__)
        is_old = job.ended_at is None or job.ended_at < now - GIVEN_UP
        again = None if is_old else timezone.now() + AGAIN
    Job.objects.filter(pk=pk, contents_at=now + BUSY).update(contents_at=again)
    return again is None


def _write(job: Job) -> None:
    """Where nothing arrived there is nothing to list."""
    assert job.destination is not None, "what is due has a folder"
    if next(outputs.gathered(job), None) is None:
        return
    holder = f"contents:{job.pk}"
    place = open_node(job.owner, job.destination, Purpose.STORE, holder=holder, urgent=job.urgent)
    with place as node:
        node.list_contents(outputs.bundle(job, f"job-{job.pk}", outputs.gathered(job)))
