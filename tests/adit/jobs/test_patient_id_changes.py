"""Changed patient IDs: the study is held until an authorized user has confirmed or rejected the change."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.mail import EmailMessage
from django.db import transaction
from django.test import Client
from django.urls import reverse
from lab.jobs import PATIENT, put_study, shelf, work
from lab.ordering import order_job
from pytest_django import Settings

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs import (
    encrypted_payload,
    notifications,
    patient_id_changes,
    queue,
    states,
    task_groups,
)
from adit.jobs.actions import allowed, perform
from adit.jobs.kinds.base import SendAsIs
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState, Task, TaskState, TaskType
from adit.nodes.models import Node, Slot
from adit.projects import pseudonyms
from adit.projects.models import Project
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db(transaction=True)

NOW, THIRD = "NEW-canary-77", "THIRD-canary-99"
WHY = "letter of the archive of 27 November"


@pytest.fixture
def steward(groups: Any) -> User:
    """A user who may confirm changed IDs, see identified data and see all jobs."""
    user = User.objects.create_user("steward", password="a long enough password")
    rights = ("confirm_patients", "see_identified", "see_all_jobs")
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def order(
    coordinator: User, source: Node, destination: Node, project: Project
) -> Iterator[Callable[..., Job]]:
    def ordered(*studies: str, **more: Any) -> Job:
        picks = tuple(
            PickedStudy.by_uid(source.pk, put_study(source, study), PATIENT) for study in studies
        )
        more = {"project": project.pk, **more}
        return order_job(coordinator, "selective", picks, destination.pk, **more)

    return ordered


def merged(source: Node, study: str = "1", patient: str = NOW, images: int = 3) -> None:
    put_study(source, study, images=images, PatientID=patient)


def run_all(job: Job) -> Job:
    while work() is not None:
        pass
    return Job.objects.get(pk=job.pk)


def test_a_study_with_a_changed_patient_id_is_held_while_other_studies_run(
    order: Callable[..., Job], source: Node, destination: Node
) -> None:
    job = order("1", "2")
    merged(source)
    job = run_all(job)

    assert job.state == JobState.HELD
    assert "another patient ID for 1 study" in str(job.message)
    task = job.tasks.get(position=1)
    assert (task.state, task.failures, task.lease_until) == (TaskState.HELD, 0, None)
    assert job.tasks.get(position=2).state == TaskState.SUCCESS
    assert len(shelf(destination)) == 3
    assert not Slot.objects.exists()
    told = f"{job.message}{task.message}{[e.details for e in AuditEvent.objects.all()]}{job.order}"
    assert NOW not in told
    assert NOW.encode() not in bytes(task.payload)


def test_users_who_may_decide_get_one_mail_per_job_without_patient_data(
    order: Callable[..., Job],
    source: Node,
    steward: User,
    coordinator: User,
    root: User,
    settings: Settings,
    mailoutbox: list[EmailMessage],
) -> None:
    settings.MAIL, settings.SITE_URL = True, "https://adit.hospital.example"
    blind = User.objects.create_user("blind")
    blind.user_permissions.set(Permission.objects.filter(codename="confirm_patients"))
    for user in (steward, coordinator, blind):
        User.objects.filter(pk=user.pk).update(email=f"{user.username}@hospital.example")
    User.objects.filter(pk=root.pk).update(email="", is_active=False)
    job = order("1", "2", "3")
    merged(source, "1")
    merged(source, "2")
    run_all(job)
    notifications.send_due_mails()

    (letter,) = mailoutbox
    assert letter.to == ["steward@hospital.example"]
    assert letter.subject == f"ADIT: job {job.pk}: confirm a changed patient ID"
    assert f"https://adit.hospital.example/jobs/{job.pk}/" in str(letter.body)
    for secret in (PATIENT, NOW, "1.2."):
        assert secret not in str(letter.message())

    patient_id_changes.confirm_patient(steward, job.tasks.get(position=1), WHY)
    merged(source, "1", patient=THIRD)
    assert run_all(job).state == JobState.HELD
    assert notifications.send_due_mails() == 0


def test_a_confirmed_study_is_delivered_with_the_same_pseudonym(
    order: Callable[..., Job], source: Node, destination: Node, steward: User, project: Project
) -> None:
    job = order("1")
    merged(source)
    task = run_all(job).tasks.get()
    pseudonym = encrypted_payload.open_task(task).pseudonym
    patient_id_changes.confirm_patient(steward, task, WHY)
    patient_id_changes.confirm_patient(steward, task, WHY)

    job = run_all(job)
    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 3
    assert pseudonyms.find_pseudonym(project, "PACS1", NOW) == pseudonym
    assert project.patients.count() == 1
    said = AuditEvent.objects.filter(action="task.patient_confirmed")
    assert {(e.user, e.details["reason"]) for e in said} == {(steward, WHY)}
    assert len({e.patient_index for e in said}) == said.count() == 2
    parts = [b"".join(image.parts()) for image in shelf(destination).values()]
    assert not any(b"canary" in part or PATIENT.encode() in part for part in parts)


def test_a_rejected_study_fails_and_is_held_again_after_a_retry(
    order: Callable[..., Job], source: Node, destination: Node, steward: User
) -> None:
    job = order("1")
    merged(source)
    patient_id_changes.reject_patient(steward, run_all(job).tasks.get(), WHY)
    job = run_all(job)
    assert job.state == JobState.FAILURE
    assert (
        str(job.tasks.get().message) == f"The changed patient ID was not confirmed. Reason: {WHY}"
    )
    assert not shelf(destination)
    assert AuditEvent.objects.filter(action="task.patient_refused", user=steward).count() == 2
    perform(job.owner, job, "retry")
    assert run_all(job).state == JobState.HELD


def test_a_confirmation_applies_only_to_the_confirmed_patient_id(
    order: Callable[..., Job], source: Node, destination: Node, steward: User
) -> None:
    job = order("1")
    merged(source)
    patient_id_changes.confirm_patient(steward, run_all(job).tasks.get(), WHY)
    merged(source, patient=THIRD)
    job = run_all(job)
    assert job.state == JobState.HELD
    assert patient_id_changes.get_patient_ids(job.tasks.get()).found == THIRD
    assert not shelf(destination)


def test_an_image_of_a_third_patient_fails_a_confirmed_study(
    order: Callable[..., Job], source: Node, destination: Node, steward: User
) -> None:
    job = order("1")
    merged(source)
    task = run_all(job).tasks.get()
    merged(source, patient=THIRD, images=3)
    merged(source, patient=NOW, images=2)
    patient_id_changes.confirm_patient(steward, task, WHY)
    job = run_all(job)
    task.refresh_from_db()
    assert (job.state, task.state, task.has_broken_rule) == (
        JobState.FAILURE,
        TaskState.FAILURE,
        True,
    )
    assert len(shelf(destination)) == 2, "an image of the other patient was sent"


def test_an_id_with_another_pseudonym_cannot_be_confirmed(
    order: Callable[..., Job], source: Node, destination: Node, steward: User, project: Project
) -> None:
    pseudonyms.get_or_create_pseudonym(project, "PACS1", NOW)
    job = order("1")
    merged(source)
    task = run_all(job).tasks.get()
    with pytest.raises(pseudonyms.PseudonymConflict) as refused:
        patient_id_changes.confirm_patient(steward, task, WHY)
    assert refused.value.message.code == "pseudonym.both-ids-have-one"
    assert Job.objects.get().state == JobState.HELD
    assert not shelf(destination)


def test_an_identified_transfer_with_a_changed_patient_id_is_held_as_well(
    order: Callable[..., Job],
    source: Node,
    destination: Node,
    steward: User,
    coordinator: User,
    project: Project,
) -> None:
    right = Permission.objects.get(codename="transfer_identified")
    coordinator.user_permissions.add(right)
    job = order("1", change=SendAsIs("clinical second opinion"))
    merged(source)
    task = run_all(job).tasks.get()
    assert task.state == TaskState.HELD
    patient_id_changes.confirm_patient(steward, task, WHY)
    assert run_all(job).state == JobState.SUCCESS
    assert not project.patients.exists()
    assert len(shelf(destination)) == 3


def test_a_decision_requires_both_permissions_and_a_reason(
    order: Callable[..., Job], source: Node, steward: User, coordinator: User
) -> None:
    job = order("1")
    merged(source)
    task = run_all(job).tasks.get()
    with pytest.raises(NotPermitted):
        patient_id_changes.confirm_patient(coordinator, task, WHY)
    with pytest.raises(InvalidInput):
        patient_id_changes.confirm_patient(steward, task, "  ")
    steward.user_permissions.remove(Permission.objects.get(codename="see_identified"))
    with pytest.raises(NotPermitted):
        patient_id_changes.reject_patient(User.objects.get(pk=steward.pk), task, WHY)
    assert Task.objects.get().state == TaskState.HELD


def test_a_held_study_can_be_stopped_canceled_and_resumed(
    order: Callable[..., Job], source: Node, steward: User
) -> None:
    job = order("1", "2")
    merged(source)
    merged(source, "2")
    job = run_all(job)
    perform(job.owner, job.tasks.get(position=1), "stop")
    assert job.tasks.get(position=1).state == TaskState.CANCELED
    assert "cancel" in allowed(job.owner, job)
    perform(job.owner, job, "cancel")
    assert Job.objects.get().state == JobState.CANCELED
    perform(job.owner, job, "resume")
    assert run_all(job).state == JobState.HELD


def test_the_study_page_shows_both_ids_if_permitted_and_takes_the_decision(
    order: Callable[..., Job], source: Node, destination: Node, steward: User, pacsadmin: User
) -> None:
    job = order("1")
    merged(source)
    job = run_all(job)
    address = reverse("job_task", args=[job.pk, 1])
    decide = reverse("job_task_decide", args=[job.pk, 1])
    pages = {}
    for user in (steward, pacsadmin, job.owner):
        client = Client()
        client.force_login(user)
        pages[user] = client.get(address).content.decode()
        assert "Is this the same patient?" in pages[user]
    assert NOW in pages[steward]
    assert PATIENT in pages[steward]
    assert decide in pages[steward]
    assert NOW not in pages[pacsadmin]
    assert NOW in pages[job.owner]
    assert decide not in pages[job.owner]

    client = Client()
    client.force_login(steward)
    assert "1 study waiting for your decision" in client.get("/").content.decode()
    said = client.post(decide, {"do": "confirm", "reason": ""}, follow=True).content.decode()
    assert "Enter a reason" in said
    said = client.post(decide, {"do": "confirm", "reason": WHY}, follow=True).content.decode()
    assert "Confirmed. The study continues." in said
    assert "Is this the same patient?" not in said
    assert run_all(job).state == JobState.SUCCESS
    assert len(shelf(destination)) == 3


def test_a_7_zip_task_is_not_claimed_while_a_study_is_held(
    order: Callable[..., Job], source: Node
) -> None:
    job = order("1")
    merged(source)
    job = run_all(job)
    Task.objects.create(job=job, position=2, type=TaskType.PACK, payload=b"")
    task_groups.assign_groups(job)
    with transaction.atomic():
        states.update_job_state(states.lock_job(job.pk))
    assert Job.objects.get().state == JobState.HELD
    assert queue.claim("test") is None
    Job.objects.update(state=JobState.IN_PROGRESS)
    assert queue.claim("test") is None, "claimed although a study is held"
