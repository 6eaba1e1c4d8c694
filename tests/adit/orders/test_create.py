"""Orders of selective transfers: permissions, pseudonyms, encrypted payloads, approval."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lab.ordering import make_request, order_job

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs import encrypted_payload
from adit.jobs.actions import allowed, perform
from adit.jobs.kinds.base import OrderRequest, SendAsIs
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.kinds.selective import Selective
from adit.jobs.models import Job, JobState, Task
from adit.nodes.models import Node
from adit.orders.service import place_order
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db


def picks(source: Node, count: int = 2, **values: str) -> tuple[PickedStudy, ...]:
    return tuple(
        PickedStudy.by_uid(source.pk, f"1.2.3.{n}", f"PAT-{n}", **values)
        for n in range(1, count + 1)
    )


@pytest.fixture
def order(source: Node, destination: Node) -> OrderRequest[PickedStudy]:
    return make_request("selective", picks(source), destination.pk)


def test_an_order_creates_a_job_with_one_task_per_study(
    coordinator: User, order: OrderRequest[PickedStudy]
) -> None:
    job = place_order(coordinator, replace(order, title="first"))[0]
    assert (job.state, job.title, job.tasks.count()) == (JobState.PENDING, "first", 2)
    assert AuditEvent.objects.get(action="job.created").details["tasks"] == 2


def test_patient_identifiers_are_stored_only_in_encrypted_payloads(
    coordinator: User, order: OrderRequest[PickedStudy]
) -> None:
    job = place_order(coordinator, replace(order, key="a"))[0]
    task = job.tasks.get(position=1)
    in_clear = repr(Job.objects.values().get()) + repr(list(Task.objects.values()))
    in_clear += repr(list(AuditEvent.objects.values_list("details", "about")))
    assert "PAT-1" not in in_clear
    assert "1.2.3.1" not in in_clear
    assert encrypted_payload.open_task(task).patient_id == "PAT-1"


def test_submitting_the_same_order_twice_creates_one_job(
    coordinator: User, order: OrderRequest[PickedStudy]
) -> None:
    first = place_order(coordinator, replace(order, key="a"))[0]
    again = place_order(coordinator, replace(order, key="a"))[0]
    other = place_order(coordinator, replace(order, key="b"))[0]
    assert first.pk == again.pk != other.pk
    assert Task.objects.filter(job=first).count() == 2


def test_pseudonyms_are_assigned_when_the_order_is_placed(
    coordinator: User, order: OrderRequest[PickedStudy]
) -> None:
    job = place_order(coordinator, replace(order, key="a"))[0]
    again = place_order(coordinator, replace(order, key="b"))[0]
    first, second = (
        [encrypted_payload.open_task(task).pseudonym for task in row.tasks.all()]
        for row in (job, again)
    )
    assert first == second
    assert len(set(first)) == 2
    assert all(first)


def test_a_pseudonym_of_another_patient_is_refused_with_its_position(
    coordinator: User, source: Node, destination: Node
) -> None:
    named = (PickedStudy.by_uid(source.pk, "1.2.3.1", "PAT-1", pseudonym="P1"),)
    order_job(coordinator, "selective", named, destination.pk)
    stolen = (
        PickedStudy.by_uid(source.pk, "1.2.3.5", "PAT-5"),
        PickedStudy.by_uid(source.pk, "1.2.3.2", "PAT-2", pseudonym="P1"),
    )
    with pytest.raises(InvalidInput, match="Study 2: P1 already belongs to another patient"):
        order_job(coordinator, "selective", stolen, destination.pk, key="b")
    assert Job.objects.count() == 1


def test_a_user_without_permission_cannot_place_an_order(
    stranger: User, order: OrderRequest[PickedStudy]
) -> None:
    with pytest.raises(NotPermitted, match="selective"):
        place_order(stranger, replace(order, key="a"))[0]
    assert not Job.objects.exists()


def test_source_and_destination_require_access(
    coordinator: User,
    order: OrderRequest[PickedStudy],
    make_node: Callable[..., Node],
    source: Node,
    destination: Node,
) -> None:
    hidden = make_node("Hidden PACS")
    with pytest.raises(NotPermitted, match="fetch from"):
        order_job(coordinator, "selective", picks(hidden), destination.pk)
    with pytest.raises(NotPermitted, match="send to"):
        order_job(coordinator, "selective", picks(source), hidden.pk)


def test_identified_data_require_a_permission_and_a_reason(
    coordinator: User, order: OrderRequest[PickedStudy]
) -> None:
    with pytest.raises(InvalidInput, match="why"):
        SendAsIs("  ")
    with pytest.raises(NotPermitted):
        place_order(coordinator, replace(order, change=SendAsIs("second opinion")))


def test_the_audit_trail_records_the_reason_for_identified_data(
    root: User, order: OrderRequest[PickedStudy]
) -> None:
    job = place_order(root, replace(order, change=SendAsIs("second opinion")))[0]
    assert job.order["change"] == "as_is"
    assert AuditEvent.objects.get(action="job.created").details["reason"] == "second opinion"
    assert encrypted_payload.open_task(job.tasks.get(position=1)).pseudonym == ""


def test_an_order_above_the_limit_waits_for_approval(
    coordinator: User, pacsadmin: User, source: Node, destination: Node
) -> None:
    job = order_job(coordinator, "selective", picks(source, 11), destination.pk)
    assert job.state == JobState.WAITING_FOR_APPROVAL
    assert "approve" not in allowed(coordinator, job)
    with pytest.raises(NotPermitted):
        perform(coordinator, job, "approve")
    perform(pacsadmin, job, "approve")
    assert (job.state, job.approved_by) == (JobState.PENDING, pacsadmin)


def test_a_user_cannot_approve_their_own_order(
    make_user: Callable[..., User], source: Node, destination: Node
) -> None:
    both = make_user("both", "Coordinators", "PACS administrators")
    job = order_job(both, "selective", picks(source, 11), destination.pk)
    with pytest.raises(NotPermitted, match="own order"):
        perform(both, job, "approve")


def test_a_returned_order_shows_the_reason_and_needs_approval_again(
    coordinator: User, pacsadmin: User, source: Node, destination: Node
) -> None:
    job = order_job(coordinator, "selective", picks(source, 11), destination.pk)
    perform(pacsadmin, job, "return", "too many at once")
    assert job.state == JobState.CANCELED
    assert str(job.message) == "Not approved. Reason: too many at once"
    perform(coordinator, job, "resume")
    assert job.state == JobState.WAITING_FOR_APPROVAL
    assert set(job.tasks.values_list("state", flat=True)) == {"pending"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"items": ()}, "Nothing is selected"),
        ({"items": (PickedStudy.by_uid(1, "1.2", ""),)}, "no patient ID"),
        (
            {"items": (PickedStudy.by_uid(1, "1.2", "A"), PickedStudy.by_uid(1, "1.2", "A"))},
            "selected twice",
        ),
        (
            {
                "items": (
                    PickedStudy.by_uid(1, "1.2", "A", pseudonym="X"),
                    PickedStudy.by_uid(1, "1.3", "A", pseudonym="Y"),
                )
            },
            "two different pseudonyms",
        ),
        (
            {
                "items": (
                    PickedStudy.by_uid(1, "1.2", "A", pseudonym="X"),
                    PickedStudy.by_uid(1, "1.3", "B", pseudonym="X"),
                )
            },
            "is used for two patients",
        ),
        ({"items": (PickedStudy.by_uid(2, "1.2", "A"),)}, "Source and destination are the same"),
    ],
)
def test_an_invalid_order_is_refused_with_a_specific_message(
    change: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidInput, match=why):
        Selective().plan(make_request("selective", change["items"], 2))
