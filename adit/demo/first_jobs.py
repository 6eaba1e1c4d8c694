"""Place the first orders of the demo, through the same service as a user.

Used by `demo.run` and `demo.scenes`.
"""

import time
from collections.abc import Callable, Sequence
from datetime import date
from uuid import uuid4

from adit.accounts.models import User
from adit.demo.cast import PACS, RESEARCH_FOLDER, RESEARCH_PACS, TRIAL
from adit.jobs.kinds.base import OrderRequest
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.kinds.selective import Selective
from adit.jobs.models import Job
from adit.jobs.progress import ENDED_JOB_STATES
from adit.nodes import search
from adit.nodes.models import Node
from adit.orders.service import place_order
from adit.projects.models import Project
from adit_engine.errors import NotFound
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

DEADLINE_S = 120.0


def order(user: User, study_uid: str) -> list[Job]:
    """Order one study, pseudonymized, for both destinations: creates two jobs."""
    source = Node.objects.get(name=PACS)
    study = _found(user, source, study_uid)
    title = f"Demo: {study.study_description}"
    names = (RESEARCH_PACS, RESEARCH_FOLDER)
    return place(user, source, [study], names, key=uuid4().hex, title=title)


def order_ultrasound(user: User, study_uid: str) -> Job:
    """Order a study that is withheld until its device has been reviewed."""
    source = Node.objects.get(name=PACS)
    study = _found(user, source, study_uid)
    title = "Demo: ultrasound, withheld until reviewed"
    (job,) = place(user, source, [study], (RESEARCH_FOLDER,), key="demo-ultrasound", title=title)
    return job


def place(
    user: User,
    source: Node,
    studies: Sequence[Record],
    destinations: Sequence[str],
    *,
    key: str,
    title: str,
) -> list[Job]:
    """Order studies for the trial of the demo."""
    request = OrderRequest(
        kind=Selective.code,
        items=tuple(PickedStudy(source.pk, study) for study in studies),
        key=key,
        destinations=tuple(Node.objects.get(name=name).pk for name in destinations),
        project=Project.objects.get(protocol_id=TRIAL).pk,
        title=title,
    )
    return place_order(user, request)


def wait(jobs: list[Job], tend: Callable[[], bool]) -> bool:
    """Wait until all jobs have ended.

    Returns False at the deadline, or if `tend` returns False.
    """
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and tend():
        for job in jobs:
            job.refresh_from_db()
        if all(job.state in ENDED_JOB_STATES for job in jobs):
            return True
        time.sleep(0.2)
    return False


def _found(user: User, source: Node, study_uid: str) -> Record:
    query = Query(QueryLevel.STUDY, {"StudyInstanceUID": study_uid})
    result = search.search_studies(user, source, query)
    if not result.records:
        raise NotFound("demo.study-missing")
    return result.records[0]


def all_studies(user: User) -> list[Record]:
    """Return all studies in the demo PACS, always in the same order."""
    query = Query(QueryLevel.STUDY, {}, DateRange(date(1990, 1, 1), None))
    result = search.search_studies(user, Node.objects.get(name=PACS), query)
    return sorted(result.records, key=lambda study: study.study_uid)
