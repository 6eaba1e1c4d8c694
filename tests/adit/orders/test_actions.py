"""What people may do with jobs: own ones, others' ones, in each state; done twice changes nothing."""

import base64
import json
from collections.abc import Callable

import pytest
from django.conf import settings as conf
from lab.jobs import put_study, shelf, work
from pytest_django import Settings

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs import visibility
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


def test_each_state_offers_the_actions_that_make_sense_to_the_owner(
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


def test_anothers_job_is_neither_seen_nor_touched(
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
    assert not allowed(pacsadmin, job), "who sees all jobs does not thereby act on them"
    job.refresh_from_db()
    assert job.state == JobState.PENDING


def test_a_closed_account_acts_on_nothing(order_studies: Ordering, coordinator: User) -> None:
    job = order_studies("1", images=1)
    coordinator.is_active = False
    coordinator.save()
    with pytest.raises(NotPermitted):
        perform(coordinator, job, "cancel")
    assert not visibility.visible_jobs(coordinator).exists()


def test_what_is_done_already_is_no_error_and_leaves_one_line_in_the_trail(
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


def test_restart_is_for_staff_and_begins_from_nothing(
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


def test_a_deleted_job_is_gone_and_the_trail_remembers_it(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    with pytest.raises(NotPermitted, match="Cancel it first"):
        perform(coordinator, job, "delete")
    work()
    pk = job.pk
    perform(coordinator, job, "delete")
    assert not Job.objects.exists()
    assert not SeriesResult.objects.exists()
    assert AuditEvent.objects.filter(action="job.deleted", about=f"job:{pk}").exists()


def test_one_study_is_tried_again_by_itself(
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
    assert "1 of 1 images delivered. 1 study failed." in str(job.message)


def test_urgent_needs_the_right_of_who_ordered(
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


def test_what_passes_the_broker_says_nothing_but_that_there_is_work() -> None:
    waiting = conf.BROKER_DIR / "waiting"
    for path in waiting.iterdir() if waiting.is_dir() else ():
        path.unlink()
    wake_workers(1)
    (path,) = waiting.iterdir()
    message = json.loads(path.read_text())
    arguments, named, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, named) == ([], {})
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("()", "{}")


def test_a_change_of_what_was_approved_asks_for_approval_again(
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


def test_a_job_that_runs_as_approved_is_not_made_urgent(
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


def test_one_study_is_taken_out_of_a_job_and_the_last_one_is_not(
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


def test_staff_start_one_study_from_nothing(
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
