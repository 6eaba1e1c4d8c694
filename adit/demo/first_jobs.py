"""Place the first orders of the demo, through the same service as a user.

Used by `demo.run` and `demo.scenes`.
"""

import time
from collections.abc import Callable, Iterator
from datetime import date
from uuid import uuid4

from adit.accounts.models import User
from adit.demo.cast import PACS, RESEARCH_FOLDER, RESEARCH_PACS, TRIAL
from adit.jobs.kinds.selective import OrderedStudy, SelectiveOrder, StudyLabels
from adit.jobs.models import Job
from adit.jobs.progress import ENDED_JOB_STATES
from adit.nodes import search
from adit.nodes.models import Node
from adit.orders import actions
from adit.projects.models import Project
from adit_engine.errors import NotFound
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, SeriesRef, StudyRef

DEADLINE_S = 120.0


def order(user: User, study_uid: str) -> list[Job]:
    """Order one study, pseudonymized, for both destinations: creates two jobs."""
    source = Node.objects.get(name=PACS)
    study = _found(user, source, study_uid)
    announced = _announced(user, source, study)
    project = Project.objects.get(protocol_id=TRIAL)
    jobs = []
    for name in (RESEARCH_PACS, RESEARCH_FOLDER):
        destination = Node.objects.get(name=name)
        wanted = SelectiveOrder(
            picks=(pick_of(source, study),),
            destination=destination.pk,
            project=project.pk,
            announced=announced,
        )
        title = f"Demo: {study.study_description} to {name}"
        jobs.append(actions.create_job(user, "selective", wanted, key=uuid4().hex, title=title))
    return jobs


def order_ultrasound(user: User, study_uid: str) -> Job:
    """Order a study that is withheld until its device has been reviewed."""
    source = Node.objects.get(name=PACS)
    study = _found(user, source, study_uid)
    wanted = SelectiveOrder(
        picks=(pick_of(source, study),),
        destination=Node.objects.get(name=RESEARCH_FOLDER).pk,
        project=Project.objects.get(protocol_id=TRIAL).pk,
        announced=_announced(user, source, study),
    )
    title = "Demo: ultrasound, withheld until it is reviewed"
    return actions.create_job(user, "selective", wanted, key="demo-ultrasound", title=title)


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
        raise NotFound("The demo PACS lost its first study: delete its folder and start again.")
    return result.records[0]


def all_studies(user: User) -> list[Record]:
    """Return all studies in the demo PACS, always in the same order."""
    query = Query(QueryLevel.STUDY, {}, DateRange(date(1990, 1, 1), None))
    result = search.search_studies(user, Node.objects.get(name=PACS), query)
    return sorted(result.records, key=lambda study: study.study_uid)


def _announced(user: User, source: Node, study: Record) -> tuple[str, ...]:
    """Return the codes of what will be withheld for its SOP class, as shown in a summary."""
    return tuple(sorted({why[0] for why in _refusals(user, source, study)}))


def _refusals(user: User, source: Node, study: Record) -> Iterator[tuple[str, str]]:
    profile = ConfidentialityProfile.default()
    ref = StudyRef(study.study_uid)
    for series in search.list_series(user, source, ref, study.patient_id):
        below = SeriesRef(study.study_uid, series.series_uid)
        for uid in search.count_sop_classes(user, source, below, study.patient_id):
            why = admission.sop_class_refusal(uid, profile)
            if why is not None:
                yield why


def pick_of(source: Node, study: Record) -> OrderedStudy:
    birth = study.patient_birth_date
    return OrderedStudy(
        source=source.pk,
        study_uid=study.study_uid,
        patient_id=study.patient_id,
        labels=StudyLabels(
            patient_name=study.patient_name,
            birth_date=birth.isoformat() if birth else "",
            study_date=study.study_date.isoformat() if study.study_date else "",
            study_description=study.study_description,
            modalities=", ".join(study.modalities),
            accession_number=study.accession_number,
        ),
    )
