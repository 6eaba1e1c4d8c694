"""Which jobs and tasks a user may see or act on. Used by pages, actions and the API."""

from django.db.models import Q, QuerySet

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.jobs.models import Job, Task
from adit.projects import services


def visible_jobs(user: User) -> QuerySet[Job]:
    """Return the jobs that a user may see; pages answer 404 for all others.

    These are the user's own jobs and those of the user's projects, or all with the permission.
    """
    if not user.is_active:
        return Job.objects.none()
    if has_right(user, Right.SEE_ALL_JOBS) or has_right(user, Right.APPROVE_JOBS):
        return Job.objects.all()
    mine = services.member_projects(user).values("pk")
    return Job.objects.filter(Q(owner=user) | Q(project__in=mine))


def visible_tasks(user: User) -> QuerySet[Task]:
    return Task.objects.filter(job__in=visible_jobs(user))


def may_see(user: User, job: Job) -> bool:
    return visible_jobs(user).filter(pk=job.pk).exists()


def may_act_on(user: User, job: Job) -> bool:
    """Return whether the user may act on the job.

    Users may act on their own jobs, staff on all jobs with the permission to see them.
    """
    if not user.is_active:
        return False
    return job.owner_id == user.pk or (user.is_staff and has_right(user, Right.SEE_ALL_JOBS))
