"""Letters: what has to be mailed to whom; written with what they tell of, sent by mail.py."""

from collections.abc import Iterable

from django.conf import settings

from adit.accounts.models import User
from adit.accounts.rights import Right
from adit.jobs.models import Job, JobState, Letter
from adit.jobs.queueing.bell import call_postman

W = Letter.What


def note_end(job: Job, state: JobState) -> None:
    """To its owner, where wanted; of a failure also to those who look after ADIT.

    A job that never started is no news: who canceled it knows, who returned it has said why.
    """
    if job.mail_at_end and job.started_at is not None:
        _write(job, W.ENDED, [job.owner.email])
    if state == JobState.FAILURE:
        _write(job, W.FAILED, admins())


def ask_approval(job: Job) -> None:
    """To all who may approve it."""
    _write(job, W.ASKED, (user.email for user in approvers() if user.pk != job.owner_id))


def note_judged(job: Job, *, approved: bool) -> None:
    """To its owner: it was approved, or given back."""
    _write(job, W.APPROVED if approved else W.RETURNED, [job.owner.email])


def note_held(job: Job, deciders: Iterable[User]) -> None:
    """A study waits for a word about its patient: once a job, however many of them follow."""
    if not Letter.objects.filter(job=job, what=W.HELD).exists():
        _write(job, W.HELD, (user.email for user in deciders))


def approvers() -> list[User]:
    """Active people with the right to."""
    return holders(Right.APPROVE_JOBS)


def holders(right: Right) -> list[User]:
    """Active people who have it."""
    return list(User.objects.with_perm(f"accounts.{right}", backend=_BY_GROUPS))


def admins() -> list[str]:
    """Named in the settings, else superusers."""
    if settings.MAIL_ADMINS:
        return list(settings.MAIL_ADMINS)
    active = User.objects.filter(is_superuser=True, is_active=True)
    return list(active.values_list("email", flat=True))


_BY_GROUPS = "django.contrib.auth.backends.ModelBackend"


def _write(job: Job, what: Letter.What, addresses: Iterable[str]) -> None:
    """Under the job's lock, so that each round of a job has one number."""
    if not settings.MAIL:
        return
    wanted = sorted({address.strip() for address in addresses} - {""})
    number = 1 + Letter.objects.filter(job=job, what=what).values("number").distinct().count()
    Letter.objects.bulk_create(
        Letter(job=job, what=what, number=number, state=job.state, address=address)
        for address in wanted
    )
    if wanted:
        call_postman()
