"""Letters: what has to be mailed to whom; written with what they tell of, sent by mail.py.
Mail: what letters about jobs say; nothing in them is about a patient."""

from collections.abc import Iterable

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right
from adit.jobs.models import Job, JobMail, JobState, state_label
from adit.jobs.wakeup import send_mail_on_commit
from adit.notifications.outbox import Outbox

MailReason = JobMail.Reason


def notify_ended(job: Job, state: JobState) -> None:
    """To its owner, where wanted; of a failure also to those who look after ADIT.

    A job that never started is no news: who canceled it knows, who returned it has said why.
    """
    if job.mail_at_end and job.started_at is not None:
        _create_mails(job, MailReason.ENDED, [job.owner.email])
    if state == JobState.FAILURE:
        _create_mails(job, MailReason.FAILED, admin_addresses())


def request_approval(job: Job) -> None:
    """To all who may approve it."""
    _create_mails(
        job, MailReason.ASKED, (user.email for user in approvers() if user.pk != job.owner_id)
    )


def notify_approval_decision(job: Job, *, approved: bool) -> None:
    """To its owner: it was approved, or given back."""
    _create_mails(job, MailReason.APPROVED if approved else MailReason.RETURNED, [job.owner.email])


def notify_patient_decision_needed(job: Job, deciders: Iterable[User]) -> None:
    """A study waits for a word about its patient: once a job, however many of them follow."""
    if not JobMail.objects.filter(job=job, what=MailReason.HELD).exists():
        _create_mails(job, MailReason.HELD, (user.email for user in deciders))


def approvers() -> list[User]:
    """Active people with the right to."""
    return users_with_right(Right.APPROVE_JOBS)


def users_with_right(right: Right) -> list[User]:
    """Active people who have it."""
    return list(User.objects.with_perm(f"accounts.{right}", backend=_BY_GROUPS))


def admin_addresses() -> list[str]:
    """Named in the settings, else superusers."""
    if settings.MAIL_ADMINS:
        return list(settings.MAIL_ADMINS)
    active = User.objects.filter(is_superuser=True, is_active=True)
    return list(active.values_list("email", flat=True))


_BY_GROUPS = "django.contrib.auth.backends.ModelBackend"


def _create_mails(job: Job, what: JobMail.Reason, addresses: Iterable[str]) -> None:
    """Under the job's lock, so that each round of a job has one number."""
    if not settings.MAIL:
        return
    wanted = sorted({address.strip() for address in addresses} - {""})
    number = 1 + JobMail.objects.filter(job=job, what=what).values("number").distinct().count()
    JobMail.objects.bulk_create(
        JobMail(job=job, what=what, number=number, state=job.state, address=address)
        for address in wanted
    )
    if wanted:
        send_mail_on_commit()


def send_due_mails() -> int:
    """Sends what is due; how many went out."""
    return JOB_OUTBOX.send()


def _message_id(letter: JobMail) -> str:
    return f"{letter.job_id}.{letter.what}.{letter.number}"


def _compose(letter: JobMail) -> tuple[str, str]:
    subject, first = _subject_and_sentence(letter)
    link = f"{settings.SITE_URL}{reverse('job', args=[letter.job_id])}"
    ending = _("Mails say nothing about patients: the page does, after signing in.")
    return subject, f"{first}\n\n{link}\n\n{ending}\n"


def _nothing_was_delivered(letter: JobMail) -> bool:
    """The job may be under way again since."""
    return letter.state == letter.job.state and letter.job.delivered_nothing


def _subject_and_sentence(letter: JobMail) -> tuple[str, str]:
    """Subject and first sentence. Titles and reasons are people's own words, so they stay here."""
    job, W = letter.job, JobMail.Reason
    words = {
        "n": job.pk,
        "state": state_label(letter.state, came_empty=_nothing_was_delivered(letter)),
        "who": job.owner.get_full_name() or job.owner.get_username(),
    }
    if letter.what == W.ASKED:
        return (
            _("job %(n)d waits for approval") % words,
            _("%(who)s has ordered a job that somebody else has to approve.") % words,
        )
    if letter.what == W.APPROVED:
        return _("job %(n)d is approved") % words, _("Your job %(n)d may start.") % words
    if letter.what == W.RETURNED:
        return (
            _("job %(n)d is returned to you") % words,
            _("Your job %(n)d was not approved. Its page says why.") % words,
        )
    if letter.what == W.HELD:
        return (
            _("job %(n)d waits for a decision about a patient") % words,
            _(
                "A patient of job %(n)d of %(who)s has another ID at the source now, as after "
                "patients were merged. Nothing of that study is sent before you, or somebody else "
                "who may, has said on its page whether it is the same person. Further studies of "
                "this job may wait for the same: Home counts them, and no other mail comes."
            )
            % words,
        )
    if letter.what == W.FAILED:
        return (
            _("job %(n)d has failed") % words,
            _("Job %(n)d of %(who)s has failed. Its page says why, and what to do next.") % words,
        )
    return (
        _("job %(n)d has ended: %(state)s") % words,
        _("Your job %(n)d has ended: %(state)s.") % words,
    )


JOB_OUTBOX = Outbox(JobMail, _compose, _message_id)
