"""Lists: which jobs a person may see, and which are the person's to act on."""

from collections.abc import Iterable

from django.db.models import Q, QuerySet

from adit.accounts.models import User
from adit.accounts.permissions import Right, may
from adit.jobs import encrypted_payload
from adit.jobs.models import Job, Task
from adit.vault.cipher import DecryptionError


def visible_jobs(user: User) -> QuerySet[Job]:
    """Own ones, those of projects whose member one is, or all with the right. Nobody else's: 404."""
    if not user.is_active:
        return Job.objects.none()
    if may(user, Right.SEE_ALL_JOBS) or may(user, Right.APPROVE_JOBS):
        return Job.objects.all()
    groups = user.groups.all()
    of_my_projects = Q(project__is_default=False, project__members__in=groups)
    return Job.objects.filter(Q(owner=user) | of_my_projects).distinct()


def visible_tasks(user: User) -> QuerySet[Task]:
    return Task.objects.filter(job__in=visible_jobs(user))


def task_titles(user: User, tasks: Iterable[Task]) -> list[str]:
    """What each task's study is called, without a patient; its number for who may not see."""
    may_read = may(user, Right.SEE_IDENTIFIED)
    return [
        _task_title(task) if may_read or task.job.owner_id == user.pk else str(task)
        for task in tasks
    ]


def _task_title(task: Task) -> str:
    try:
        return encrypted_payload.open_task(task).title
    except DecryptionError:
        return str(task)


def may_see(user: User, job: Job) -> bool:
    return visible_jobs(user).filter(pk=job.pk).exists()


def may_act_on(user: User, job: Job) -> bool:
    """One's own, or anybody's for staff who see all jobs."""
    if not user.is_active:
        return False
    return job.owner_id == user.pk or (user.is_staff and may(user, Right.SEE_ALL_JOBS))
