"""Jobs that delivered images to a folder."""

from collections.abc import Callable

import pytest
from lab.jobs import PATIENT, put_study, work
from lab.ordering import order_job

from adit.accounts.models import User
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.results import deliveries


@pytest.fixture
def deliver(
    coordinator: User, source: Node, folder_node: Node, project: Project
) -> Callable[..., Job]:
    def order(*studies: str, patient: str = PATIENT) -> Job:
        picks = [
            PickedStudy.by_uid(source.pk, put_study(source, one, images=2), patient)
            for one in studies
        ]
        key = " ".join(studies)
        job = order_job(
            coordinator, "selective", picks, folder_node.pk, key=key, project=project.pk
        )
        while work() is not None:
            pass
        deliveries.write_due_lists()
        job.refresh_from_db()
        return job

    return order
