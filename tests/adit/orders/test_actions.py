"""Actions on jobs: permissions, states, jobs of other users, repeated actions."""

import base64
import json
from collections.abc import Callable

import pytest
from django.conf import settings as conf
from django.test import Client
from django.urls import reverse
from lab.jobs import put_study, shelf, work
from pytest_django import Settings

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs import queue, visibility
from adit.jobs.actions import allowed, job_actions, perform
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState
from adit.jobs.wakeup import wake_workers
from adit.nodes.models import Node
from adit_engine.nodes.memory import MemoryNode

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]


def in_state(job: Job, state: JobState) -> Job:
    Job.objects.filter(pk=job.pk).update(state=state)
    job.refresh_from_db()
    return job


def test_each_job_state_allows_the_owner_a_fixed_set_of_actions(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    Task.objects.update(state=TaskState.WARNING)
    offered = {state: set(allowed(coordinator, in_state(job, state))) for state in JobState}
    assert offered == {
        JobState.WAITING_FOR_APPROVAL: {"cancel", "delete"},
        JobState.WAITING_FOR_OWNER: {"cancel", "retry", "delete"},
        JobState.PENDING: {"cancel"},
        JobState.IN_PROGRESS: {"cancel"},
        JobState.HELD: {"cancel", "retry"},
        JobState.CANCELING: set(),
        JobState.CANCELED: {"resume", "delete"},
        JobState.SUCCESS: {"delete"},
        JobState.WARNING: {"retry", "delete"},
        JobState.FAILURE: {"retry", "delete"},
    }


def test_a_user_can_neither_see_nor_change_another_users_job(
    order_studies: Ordering, make_user: Callable[..., User], pacsadmin: User
) -> None:
    job = order_studies("1", images=1)
    other = make_user("other", "Coordinators")
    assert not visibility.visible_jobs(other).exists()
    assert not allowed(other, job)
    for name in job_actions():
        with pytest.raises(NotPermitted):
            perform(other, job, name, "a reason")
    assert visibility.visible_jobs(pacsadmin).get() == job
    assert not allowed(pacsadmin, job), "seeing all jobs does not allow actions on them"
    job.refresh_from_db()
    assert job.state == JobState.PENDING


def test_an_inactive_user_sees_no_jobs_and_can_perform_no_action(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    coordinator.is_active = False
    coordinator.save()
    with pytest.raises(NotPermitted):
        perform(coordinator, job, "cancel")
    assert not visibility.visible_jobs(coordinator).exists()


def test_a_repeated_action_is_no_error_and_is_audited_once(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    for _ in range(2):
        perform(coordinator, job, "cancel")
    for _ in range(2):
        perform(coordinator, job, "resume")
    told = list(AuditEvent.objects.filter(about=f"job:{job.pk}").values_list("action", flat=True))
    assert told == ["job.created", "job.canceled", "job.resumed"]
    assert job.state == JobState.PENDING
    assert work() is not None


def test_only_staff_can_restart_a_job_and_its_results_are_deleted(
    order_studies: Ordering, coordinator: User, root: User, destination: Node
) -> None:
    job = order_studies("1", images=2)
    work()
    with pytest.raises(NotPermitted, match="Only staff"):
        perform(coordinator, job, "restart")
    shelf(destination).clear()
    perform(root, job, "restart")
    assert job.state == JobState.PENDING
    assert not SeriesResult.objects.exists()
    work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 2


def test_a_deleted_job_is_removed_and_recorded_in_the_audit_trail(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    with pytest.raises(NotPermitted, match="Cancel it first"):
        perform(coordinator, job, "delete")
    perform(coordinator, job, "cancel")
    with pytest.raises(NotPermitted, match="Delete the job instead"):
        perform(coordinator, job, "archive")
    pk = job.pk
    perform(coordinator, job, "delete")
    assert not Job.objects.exists()
    assert not SeriesResult.objects.exists()
    assert AuditEvent.objects.filter(action="job.deleted", about=f"job:{pk}").exists()


def test_a_job_that_sent_images_is_archived_instead_of_deleted(
    order_studies: Ordering, coordinator: User, root: User, source: Node, client: Client
) -> None:
    job = order_studies("1", "2", images=1)
    MemoryNode.shelves[source.name].popitem()
    work()
    work()
    job.refresh_from_db()
    listed, kept = reverse("jobs"), list(SeriesResult.objects.values_list("sealed"))
    client.force_login(coordinator)
    with pytest.raises(NotPermitted, match="Archive the job instead"):
        perform(coordinator, job, "delete")
    with pytest.raises(NotPermitted, match="stays in the job"):
        perform(coordinator, job.tasks.get(state=TaskState.SUCCESS), "delete")
    assert set(allowed(coordinator, job)) == {"retry", "archive"}

    client.post(reverse("job_action", args=[job.pk, "archive"]))

    job.refresh_from_db()
    assert set(allowed(coordinator, job)) == {"unarchive"}
    assert not allowed(coordinator, job.tasks.get(state=TaskState.FAILURE))
    with pytest.raises(NotPermitted, match="Unarchive it first"):
        perform(coordinator, job, "retry")
    link = reverse("job", args=[job.pk])
    assert link not in client.get(listed).content.decode()
    assert link not in client.get(reverse("home")).content.decode()
    assert link in client.get(f"{listed}?archived=only").content.decode()
    assert "This job was archived on" in client.get(link).content.decode()
    assert list(SeriesResult.objects.values_list("sealed")) == kept

    client.post(reverse("job_action", args=[job.pk, "unarchive"]))
    assert link in client.get(listed).content.decode()
    assert link not in client.get(f"{listed}?archived=only").content.decode()
    told = AuditEvent.objects.filter(about=f"job:{job.pk}", user=coordinator)
    changes = told.filter(action__contains="archived").values_list("action", flat=True)
    assert list(changes) == ["job.archived", "job.unarchived"]

    job.refresh_from_db()
    perform(root, job, "restart")
    perform(coordinator, job, "cancel")
    assert "delete" not in allowed(coordinator, job), "a restart does not forget what was sent"


@pytest.mark.parametrize("state", [JobState.IN_PROGRESS, JobState.CANCELING])
def test_a_job_whose_worker_was_lost_may_have_sent_images(
    order_studies: Ordering, coordinator: User, state: JobState
) -> None:
    job = order_studies("1", images=1)
    assert queue.claim("lost") is not None
    in_state(job, state)

    queue.release_tasks_of("lost")

    job.refresh_from_db()
    assert job.may_have_stored


def test_a_single_study_can_be_retried(
    order_studies: Ordering, coordinator: User, source: Node
) -> None:
    job = order_studies("1", "2", images=1)
    MemoryNode.shelves[source.name].clear()
    work()
    work()
    job.refresh_from_db()
    assert job.state == JobState.FAILURE
    put_study(source, "2", images=1)
    second = job.tasks.get(position=2)
    assert set(allowed(coordinator, second)) == {"retry", "delete"}
    perform(coordinator, second, "retry")
    work()
    job.refresh_from_db()
    states = list(job.tasks.values_list("state", flat=True))
    assert (job.state, states) == (JobState.WARNING, [TaskState.FAILURE, TaskState.SUCCESS])
    assert "1 of 1 image delivered. 1 study failed." in str(job.message)


def test_an_urgent_job_requires_the_permission_of_its_owner(
    order_studies: Ordering, coordinator: User, root: User, make_user: Callable[..., User]
) -> None:
    job = order_studies("1", images=1)
    with pytest.raises(NotPermitted):
        perform(coordinator, job, "urgent")
    with pytest.raises(NotPermitted, match="does not have the permission for urgent jobs"):
        perform(root, job, "urgent")
    quick = make_user("quick", "Coordinators", "PACS administrators")
    own = order_studies("2", images=1, user=quick)
    perform(quick, own, "urgent")
    own.refresh_from_db()
    assert own.urgent


def test_a_wakeup_message_in_the_broker_has_no_arguments() -> None:
    waiting = conf.BROKER_DIR / "waiting"
    for path in waiting.iterdir() if waiting.is_dir() else ():
        path.unlink()
    wake_workers(1)
    (path,) = waiting.iterdir()
    message = json.loads(path.read_text())
    arguments, named, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, named) == ([], {})
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("()", "{}")


def test_changing_an_approved_job_requires_a_new_approval(
    order_studies: Ordering, make_user: Callable[..., User], pacsadmin: User, settings: Settings
) -> None:
    settings.MAX_STUDIES_PER_JOB = 1
    owner = make_user("quick", "Coordinators", "PACS administrators")
    job = order_studies("1", "2", "3", images=1, user=owner)
    with pytest.raises(NotPermitted, match="own order"):
        perform(owner, job, "approve")
    perform(pacsadmin, job, "approve")
    assert (job.state, job.approved_by) == (JobState.PENDING, pacsadmin)
    perform(owner, job, "urgent")
    assert (job.state, job.approved_by) == (JobState.WAITING_FOR_APPROVAL, None)
    assert work() is None
    perform(pacsadmin, job, "approve")
    perform(owner, job.tasks.get(position=2), "delete")
    job.refresh_from_db()
    assert (job.state, job.approved_by) == (JobState.WAITING_FOR_APPROVAL, None)
    perform(pacsadmin, job, "approve")
    work()
    job.refresh_from_db()
    assert job.state == JobState.IN_PROGRESS
    assert job.approved_by == pacsadmin


def test_a_running_approved_job_cannot_be_made_urgent(
    order_studies: Ordering, make_user: Callable[..., User], pacsadmin: User, settings: Settings
) -> None:
    settings.MAX_STUDIES_PER_JOB = 1
    owner = make_user("quick", "Coordinators", "PACS administrators")
    job = order_studies("1", "2", images=1, user=owner)
    perform(pacsadmin, job, "approve")
    work()
    job.refresh_from_db()
    with pytest.raises(NotPermitted, match="running as approved"):
        perform(owner, job, "urgent")


def test_every_study_except_the_last_can_be_deleted_from_a_job(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1", "2", images=1)
    first = job.tasks.get(position=1)
    for _ in range(2):
        perform(coordinator, first, "delete")
    with pytest.raises(NotPermitted, match="Delete the job instead"):
        perform(coordinator, job.tasks.get(), "delete")
    work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert AuditEvent.objects.filter(action="task.deleted").count() == 1


def test_only_staff_can_reset_a_single_study(
    order_studies: Ordering, coordinator: User, root: User, destination: Node
) -> None:
    job = order_studies("1", "2", images=1)
    work()
    work()
    first = job.tasks.get(position=1)
    with pytest.raises(NotPermitted, match="Only staff"):
        perform(coordinator, first, "reset")
    for _ in range(2):
        perform(root, first, "reset")
    assert not first.items.exists()
    work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert AuditEvent.objects.filter(action="task.reset").count() == 1
