"""Order and continue recalls, record the confirmations of recipients, and warn of overdue ones.

Used by the pages and the scheduler. What is ordered here is carried out in `execution`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right, require
from adit.audit.trail import record
from adit.blocklist.models import BlockedPatient
from adit.jobs import encrypted_payload, states
from adit.jobs.models import Job, SeriesResult, Task, TaskState, TaskType
from adit.jobs.wakeup import wake_workers_on_commit
from adit.nodes.models import Node
from adit.notifications.models import NotificationKind
from adit.notifications.services import notify
from adit.projects.models import Project
from adit.projects.validators import validate_reason
from adit.recall import quarantined
from adit.recall.api_retrievals import ApiRetrieval
from adit.recall.models import (
    DONE_STATES,
    Recall,
    RecalledDelivery,
    RecallState,
    RecipientConfirmation,
)
from adit.recall.patient_deliveries import (
    PatientLedgers,
    PatientQuestion,
    PatientTasks,
    count_images,
    find_given_out,
    iter_images,
)
from adit.results.archives import is_archive
from adit.vault.cipher import DecryptionError
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

CONFIRM_DAYS = 14
MAX_CONFIRM_DAYS = 365
MAX_NOTE_LENGTH = 200

Subject = BlockedPatient | Job


@dataclass(frozen=True, slots=True)
class RecalledStudy:
    """A study to recall, with the number of images, and what happens to them."""

    job: int
    position: int
    images: int
    destination: Node | None
    project: Project | None
    step: str
    task: Task | None = None
    """None if the job was deleted."""
    former_destination: str = ""
    """The name of a destination that is not known any more."""


@dataclass(slots=True)
class RecallPreview:
    """What a recall would delete."""

    studies: list["RecalledStudy"] = field(default_factory=list)
    given_out: list[ApiRetrieval] = field(default_factory=list)
    """What the API gave out of the patient. Only its receivers can delete it."""
    quarantined: int = 0
    """Images in quarantine, which are deleted."""
    shared_jobs: list[int] = field(default_factory=list)
    """Jobs whose 7-Zip files also hold studies that are not recalled."""
    other_jobs: list[int] = field(default_factory=list)
    """Jobs that are not recalled, but delivered some of the same files."""
    unreadable: int = 0

    @property
    def is_empty(self) -> bool:
        return not (self.studies or self.given_out or self.quarantined)


def preview_recall(user: User, subject: Subject) -> RecallPreview:
    """Return what a recall would cover. Raises NotPermitted."""
    require(user, Right.MANAGE_BLOCK_LIST)
    studies, unreadable = _find_studies(subject)
    found = RecallPreview(studies, unreadable=unreadable)
    found.quarantined = len(quarantined.find_images(subject))
    if isinstance(subject, BlockedPatient):
        found.given_out = find_given_out(PatientQuestion.of_entry(subject))
    tasks = _tasks_of(studies)
    covered = {task.pk for task in tasks}
    for job in {task.job for task in tasks if is_archive(task.job.destination)}:
        others = _delivered_tasks().filter(job=job, recalled_at=None).exclude(pk__in=covered)
        if others.exists():
            found.shared_jobs.append(job.pk)
    found.other_jobs = sorted({task.job_id for task in _find_tasks_with_same_files(subject, tasks)})
    return found


def start_recall(
    user: User,
    subject: Subject,
    *,
    reason: str,
    confirm_by: date,
    deletes_shared_archives: bool,
) -> Recall:
    """Order the recall of all deliveries of a blocked patient, or of an ended job.

    A recall of the same subject that has not ended is returned instead of a second one. From now on
    its studies never run again. Raises NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_BLOCK_LIST)
    reason = validate_reason(reason)
    today = timezone.localdate()
    if not today <= confirm_by <= today + timedelta(days=MAX_CONFIRM_DAYS):
        raise InvalidInput("recall.date-invalid", limit=MAX_CONFIRM_DAYS)
    with transaction.atomic():
        _lock_subject(subject)
        about = {"entry": subject} if isinstance(subject, BlockedPatient) else {"job": subject}
        there = Recall.objects.filter(ended_at=None, **about).first()
        if there is not None:
            return there
        studies, _unreadable = _find_studies(subject)
        if not studies and not _has_other_images(subject):
            raise InvalidInput("recall.nothing-delivered")
        tasks = _tasks_of(studies)
        for pk in sorted({task.job_id for task in tasks}):
            states.lock_job(pk)
        now = timezone.now()
        recall = Recall.objects.create(
            **about,
            reason=reason,
            deletes_shared_archives=deletes_shared_archives,
            confirm_by=confirm_by,
            created_by=user,
            continued_by=user,
            quarantine_due_at=now,
        )
        Task.objects.filter(pk__in=[task.pk for task in tasks]).update(recalled_at=now)
        RecalledDelivery.objects.bulk_create(_make_delivery(recall, study) for study in studies)
        _create_confirmations(recall, studies)
        _add_receivers(recall)
        _notify_owners(recall, [*tasks, *_find_tasks_with_same_files(subject, tasks)])
        _record_start(user, recall, studies)
        wake_workers_on_commit()
    return recall


def continue_recall(user: User, recall: Recall) -> None:
    """Try what is not done again now, with the permission of this user. Raises NotPermitted."""
    require(user, Right.MANAGE_BLOCK_LIST)
    with transaction.atomic():
        rows = Recall.objects.filter(pk=recall.pk)
        rows.update(continued_by=user, quarantine_due_at=timezone.now())
        left = recall.deliveries.filter(destination__isnull=False).exclude(state__in=DONE_STATES)
        left.update(due_at=timezone.now())
        record("recall.continued", user=user, about=_about(recall), details={})
        wake_workers_on_commit()


def confirm_deletion(user: User, confirmation: RecipientConfirmation, note: str) -> None:
    """Record that a recipient confirmed the deletion. Raises NotPermitted, InvalidInput."""
    require(user, Right.MANAGE_BLOCK_LIST)
    note = note.strip()
    if not note or len(note) > MAX_NOTE_LENGTH:
        raise InvalidInput("recall.note-invalid", limit=MAX_NOTE_LENGTH)
    with transaction.atomic():
        locked = RecipientConfirmation.objects.select_for_update(no_key=True, of=("self",)).get(
            pk=confirmation.pk
        )
        if locked.confirmed_at is not None:
            raise InvalidInput("recall.confirmed-before")
        locked.confirmed_at, locked.confirmed_by, locked.note = timezone.now(), user, note
        locked.save(update_fields=["confirmed_at", "confirmed_by", "note"])
        details = {"project": locked.project.protocol_id if locked.project else ""}
        if locked.receiver is not None:
            details["receiver"] = locked.receiver.username
        else:
            place = locked.destination
            details["destination"] = place.name if place else locked.former_destination
        record("recall.confirmed", user=user, about=_about(locked.recall), details=details)
        end_if_done(locked.recall_id)


def end_if_done(pk: int) -> None:
    """End a recall if everything is deleted and every recipient has confirmed.

    What the recipients have to delete counts as done by their confirmation.
    """
    recall = Recall.objects.select_for_update(no_key=True, of=("self",)).get(pk=pk)
    if recall.ended_at is not None:
        return
    _add_receivers(recall)
    if recall.quarantine_checked_at is None:
        return
    left = recall.deliveries.exclude(state__in=DONE_STATES)
    if left.exclude(state=RecallState.TO_DELETE).exists():
        return
    if recall.confirmations.filter(confirmed_at=None).exists():
        return
    recall.ended_at = timezone.now()
    recall.save(update_fields=["ended_at"])
    record("recall.ended", about=_about(recall), details={})


def warn_of_overdue_recalls() -> None:
    """Notify those who manage the block list of confirmations that are overdue, once a week."""
    today = timezone.localdate()
    for recall in Recall.objects.filter(ended_at=None, confirm_by__lt=today):
        week = (today - recall.confirm_by).days // 7
        missing = recall.confirmations.filter(confirmed_at=None).count()
        message = Message("notification.recall-overdue", recall=recall.pk, count=missing)
        notify(
            managers(),
            NotificationKind.RECALL,
            message,
            reverse("recall", args=[recall.pk]),
            event=f"recall:{recall.pk}:{recall.confirm_by}:{week}",
            with_mail=True,
        )


def managers() -> list[User]:
    users = User.objects.filter(is_active=True)
    return [user for user in users if has_right(user, Right.MANAGE_BLOCK_LIST)]


def _make_delivery(recall: Recall, study: RecalledStudy) -> RecalledDelivery:
    delivery = RecalledDelivery(
        recall=recall,
        task=study.task,
        job_number=study.job,
        position=study.position,
        destination=study.destination,
        images=study.images,
        due_at=timezone.now(),
    )
    if study.destination is None:
        delivery.state, delivery.due_at = RecallState.TO_DELETE, None
        delivery.message = Message("recall.destination-unknown")
    return delivery


def _describe_step(destination: Node | None) -> str:
    if destination is None:
        return _("The destination is not known any more. The recipient must delete the images.")
    kind = destination.capabilities
    if kind.is_archive:
        return _("The 7-Zip file is deleted.")
    if kind.has_delivery_list:
        return _("The files are deleted.")
    return _("The administrator of the PACS gets a list.")


def _lock_subject(subject: Subject) -> None:
    if isinstance(subject, Job):
        job = states.lock_job(subject.pk)
        if job.state not in states.ENDED_JOBS:
            raise InvalidInput("recall.job-not-ended", job=job.pk)
        return
    entry = BlockedPatient.objects.select_for_update(no_key=True, of=("self",)).get(pk=subject.pk)
    if entry.ended_at is not None:
        raise InvalidInput("recall.entry-ended")


def _find_studies(subject: Subject) -> tuple[list[RecalledStudy], int]:
    """Return what to recall that no other recall covers, and how many studies cannot be read."""
    if isinstance(subject, Job):
        found = _delivered_tasks().filter(job=subject, recalled_at=None)
        related = found.select_related("source", "job__project", "job__destination")
        return [_describe_task(task) for task in related], 0
    question = PatientQuestion.of_entry(subject)
    tasks, deleted = PatientTasks(question), PatientLedgers(question)
    studies = [_describe_task(task) for task in tasks if task.recalled_at is None]
    covered = set(RecalledDelivery.objects.values_list("job_number", "position"))
    for part, delivery in deleted:
        ledger = part.ledger
        if (ledger.job, part.position) not in covered:
            place = _find_destination(delivery.destination, ledger.destination_kind)
            step, images = _describe_step(place), len(delivery.images)
            name = ledger.destination if place is None else ""
            study = (ledger.job, part.position, images, place, ledger.project, step, None, name)
            studies.append(RecalledStudy(*study))
    return studies, tasks.unreadable + deleted.unreadable


def _find_destination(pk: int | None, kind: str) -> Node | None:
    """Return the node to which a deleted job delivered. Old ledgers do not say which it was."""
    return Node.objects.filter(pk=pk, kind=kind).first() if pk is not None else None


def _has_other_images(subject: Subject) -> bool:
    """Return whether images are in quarantine, or those of a patient were given out by the API."""
    if quarantined.find_images(subject):
        return True
    if isinstance(subject, Job):
        return False
    return bool(find_given_out(PatientQuestion.of_entry(subject)))


def _describe_task(task: Task) -> RecalledStudy:
    job = task.job
    step = _describe_step(job.destination)
    images = count_images(task)
    return RecalledStudy(job.pk, task.position, images, job.destination, job.project, step, task)


def _tasks_of(studies: Iterable[RecalledStudy]) -> list[Task]:
    return [study.task for study in studies if study.task is not None]


def _delivered_tasks() -> QuerySet[Task]:
    items = SeriesResult.objects.filter(Q(delivered__gt=0) | Q(stored__gt=0))
    delivered = Q(pk__in=items.values("task")) | Q(state=TaskState.IN_PROGRESS)
    return Task.objects.filter(delivered, type=TaskType.ORDERED, job__destination__isnull=False)


def _find_tasks_with_same_files(subject: Subject, tasks: Iterable[Task]) -> list[Task]:
    """Return tasks of other jobs that delivered files of a recalled job to the same folder.

    Those of a recalled patient are recalled themselves.
    """
    if isinstance(subject, BlockedPatient) or subject.destination is None:
        return []
    if not subject.destination.capabilities.has_delivery_list:
        return []
    paths: dict[str, set[str]] = {}
    with suppress(DecryptionError):
        for task in tasks:
            paths.setdefault(_get_study_uid(task), set()).update(_get_paths(task))
    others = _delivered_tasks().filter(job__destination=subject.destination, recalled_at=None)
    related = others.exclude(job=subject).select_related("job__project", "job__owner")
    found = []
    for task in related.iterator(chunk_size=500):
        with suppress(DecryptionError):
            wanted = paths.get(_get_study_uid(task))
            if wanted and not wanted.isdisjoint(_get_paths(task)):
                found.append(task)
    return found


def _get_study_uid(task: Task) -> str:
    return str(encrypted_payload.open_task(task).payload.get("study_uid", ""))


def _get_paths(task: Task) -> set[str]:
    return {image.path for image in iter_images(task) if image.path}


def _create_confirmations(recall: Recall, studies: Iterable[RecalledStudy]) -> None:
    recipients = dict.fromkeys(
        (study.destination, study.former_destination, study.project) for study in studies
    )
    RecipientConfirmation.objects.bulk_create(
        RecipientConfirmation(
            recall=recall, destination=destination, former_destination=name, project=project
        )
        for destination, name, project in recipients
    )


def _add_receivers(recall: Recall) -> None:
    """Expect a confirmation of each user who got images through the API, until the recall ends."""
    if recall.entry is None:
        return
    given_out = find_given_out(PatientQuestion.of_entry(recall.entry))
    for receiver, project in {(one.user, one.project): None for one in given_out}:
        recall.confirmations.get_or_create(receiver=receiver, project=project)


def _notify_owners(recall: Recall, tasks: Iterable[Task]) -> None:
    for job in {task.job for task in tasks}:
        notify(
            [job.owner],
            NotificationKind.RECALL,
            Message("notification.images-recalled", job=job.pk),
            reverse("job", args=[job.pk]),
            event=f"recall:{recall.pk}:job:{job.pk}",
            with_mail=True,
        )


def _record_start(user: User, recall: Recall, studies: list[RecalledStudy]) -> None:
    jobs = sorted({study.job for study in studies})
    patient = (recall.entry.domain, recall.entry.patient_id) if recall.entry is not None else None
    details = {"studies": len(studies), "jobs": jobs}
    record("recall.started", user=user, about=_about(recall), details=details, patient=patient)
    for pk in jobs:
        record("job.recalled", user=user, about=f"job:{pk}", details={"recall": recall.pk})


def _about(recall: Recall) -> str:
    return f"recall:{recall.pk}"
