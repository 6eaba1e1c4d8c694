"""A new kind of node or job needs one class and one entry in KINDS, and no other change."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from django.test import Client
from django.urls import reverse
from lab.jobs import put_study, shelf, work
from lab.node_pages import filled

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, create_order_rights, order_right
from adit.jobs.kinds import KINDS as JOB_KINDS
from adit.jobs.kinds.base import (
    Kind,
    OrderRequest,
    TaskContext,
    TaskOutput,
    TaskPlan,
    transfer_study,
)
from adit.jobs.models import Job, JobState
from adit.nodes.models import Node, NodeAccess
from adit.orders.service import place_order
from adit_engine.nodes import KINDS as NODE_KINDS
from adit_engine.nodes.base import NOT_OBSERVED, TrafficObserver, setting_field
from adit_engine.nodes.memory import MemoryNode

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class TapeSettings:
    shelf: str = setting_field("", "Tape library")
    domain: str = setting_field("", "Patient-ID domain")


class TapeNode(MemoryNode):
    """A memory node with a kind of its own."""

    Settings = TapeSettings
    is_for_tests = False

    def __init__(
        self, name: str, settings: TapeSettings, *, observer: TrafficObserver = NOT_OBSERVED
    ) -> None:
        self.name = name
        self._observer = observer
        self.held = self.shelves.setdefault(settings.shelf or name, {})


@dataclass(frozen=True, slots=True)
class StudiesOfPatient:
    patient_id: str = field(repr=False)
    studies: tuple[str, ...]


class WholePatient(Kind):
    """Transfer the given studies of one patient."""

    code: ClassVar[str] = "whole_patient"
    label: ClassVar[str] = "Whole patient"

    def plan(self, request: OrderRequest[StudiesOfPatient]) -> list[TaskPlan]:
        return [
            TaskPlan(
                source=request.sources[0],
                payload={"study_uid": uid, "patient_id": item.patient_id, "series_uids": []},
                patient_id=item.patient_id,
                title="Study",
            )
            for item in request.items
            for uid in item.studies
        ]

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        return transfer_study(payload, context)


@pytest.fixture
def tape_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NODE_KINDS, "tape_library", f"{__name__}:TapeNode")


@pytest.fixture
def whole_patient_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JOB_KINDS, WholePatient.code, WholePatient())


def page_of(user: User, url: str) -> str:
    client = Client()
    client.force_login(user)
    response = client.get(url)
    assert response.status_code == 200, url
    return response.content.decode()


def run_all(job: Job) -> None:
    while work() is not None:
        pass
    job.refresh_from_db()


def test_a_new_node_kind_can_be_created_shown_and_used_as_destination(
    tape_kind: None,
    order_studies: Callable[..., Job],
    coordinator: User,
    pacsadmin: User,
    groups: dict[str, Any],
) -> None:
    new_url = reverse("node_new_kind", args=["tape_library"])
    kinds_page = page_of(pacsadmin, reverse("node_new"))
    assert new_url in kinds_page
    assert "Tape library" in kinds_page
    assert "Tape library" in page_of(pacsadmin, new_url)
    client = Client()
    client.force_login(pacsadmin)
    typed = {"name": "Vault", "takes_images": "on", "settings-shelf": "tapes"}
    response = client.post(new_url, filled(client, new_url, **typed))
    assert response.status_code == 302
    node = Node.objects.get(name="Vault")
    assert (node.kind, node.settings["shelf"]) == ("tape_library", "tapes")
    Node.objects.update(is_open=True)
    NodeAccess.objects.create(
        group=groups["Coordinators"], node=node, may_read=True, may_write=True
    )
    assert "Vault" in page_of(coordinator, reverse("nodes"))
    assert "Vault" in page_of(coordinator, reverse("node", args=[node.pk]))

    job = order_studies("1", images=3, to=node)
    assert "Vault" in page_of(coordinator, reverse("job", args=[job.pk]))
    run_all(job)
    assert job.state == JobState.SUCCESS
    assert len(MemoryNode.shelves["tapes"]) == 3
    page_of(coordinator, reverse("job_task", args=[job.pk, 1]))
    page_of(coordinator, reverse("job_report", args=[job.pk]))


def test_a_new_job_kind_can_be_ordered_executed_and_shown(
    whole_patient_kind: None,
    coordinator: User,
    groups: dict[str, Any],
    source: Node,
    destination: Node,
) -> None:
    studies = tuple(put_study(source, study, images=2) for study in ("1", "2"))
    request = OrderRequest(
        kind=WholePatient.code,
        items=(StudiesOfPatient("PID-4711-0815", studies),),
        key="one",
        destinations=(destination.pk,),
        sources=(source.pk,),
    )
    with pytest.raises(NotPermitted, match="whole patient"):
        place_order(coordinator, request)

    create_order_rights(JOB_KINDS)
    right = order_right(WholePatient.code)
    permissions = groups["Coordinators"].permissions
    permissions.add(permissions.model.objects.get(codename=right))
    user = User.objects.get(pk=coordinator.pk)
    (job,) = place_order(user, request)
    assert job.tasks.count() == 2
    for url in (reverse("jobs"), reverse("jobs") + "?kind=whole_patient"):
        assert "Whole patient" in page_of(user, url)
    waiting = page_of(user, reverse("job", args=[job.pk]))
    assert "Whole patient, ordered by" in waiting
    assert reverse("job_action", args=[job.pk, "cancel"]) in waiting

    run_all(job)
    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 4
    ended = page_of(user, reverse("job", args=[job.pk]))
    assert "2 of 2 studies done" in ended
    assert reverse("job_report", args=[job.pk]) in ended
    page_of(user, reverse("job_task", args=[job.pk, 1]))
    page_of(user, reverse("job_report", args=[job.pk]))


def test_jobs_of_an_uninstalled_kind_are_still_shown(
    order_studies: Callable[..., Job], coordinator: User
) -> None:
    job = order_studies("1", images=1)
    run_all(job)
    Job.objects.update(kind="gone")
    assert "gone, ordered by" in page_of(coordinator, reverse("job", args=[job.pk]))
    assert "gone" in page_of(coordinator, reverse("jobs"))
