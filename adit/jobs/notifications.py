"""Create notifications and mails about jobs. Used by states, actions and the scheduler.

Both are created in the transaction of the change that they report; the outbox sends the mails.
Neither contains patient data.
"""

from collections.abc import Iterable

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, administrators
from adit.jobs.models import DeliveredCounts, Job, JobMail, JobState, state_label
from adit.jobs.wakeup import send_mail_on_commit
from adit.notifications.models import NotificationKind as Kind
from adit.notifications.outbox import Outbox
from adit.notifications.services import notify, select_mailed
from adit_engine.messages import Message

MailReason = JobMail.Reason


def notify_ended(job: Job, state: JobState) -> None:
    """Notify the owner, if wanted, and the administrators of a failure.

    A job that never started is not reported: the user who canceled it knows, and the approver who
    returned it has given a reason.
    """
    if job.started_at is not None:
        _notify_owner_of_end(job, state)
    if state == JobState.FAILURE:
        others = [user for user in administrators() if user.pk != job.owner_id]
        message = Message("notification.other-job-failed", job=job.pk, user=_owner_name(job))
        notify(others, Kind.OTHER_JOB_FAILED, message, _job_link(job))
        _create_mails(job, MailReason.FAILED, admin_addresses())


def _notify_owner_of_end(job: Job, state: JobState) -> None:
    has_failed = state == JobState.FAILURE
    kind = Kind.JOB_FAILED if has_failed else Kind.JOB_FINISHED
    code = "notification.job-failed" if has_failed else "notification.job-finished"
    notify([job.owner], kind, Message(code, job=job.pk), _job_link(job))
    if job.mail_at_end or select_mailed([job.owner], kind):
        _create_mails(job, MailReason.ENDED, [job.owner.email])


def request_approval(job: Job) -> None:
    """Notify all users who may approve the job, except its owner."""
    others = [user for user in approvers() if user.pk != job.owner_id]
    message = Message("notification.approval-asked", job=job.pk, user=_owner_name(job))
    notify(others, Kind.APPROVAL_ASKED, message, _job_link(job))
    mailed = select_mailed(others, Kind.APPROVAL_ASKED)
    _create_mails(job, MailReason.ASKED, (user.email for user in mailed))


def notify_approval_decision(job: Job, *, approved: bool) -> None:
    """Notify the owner that the job was approved or returned."""
    code = "notification.approved" if approved else "notification.returned"
    notify([job.owner], Kind.APPROVAL_DECIDED, Message(code, job=job.pk), _job_link(job))
    mailed = select_mailed([job.owner], Kind.APPROVAL_DECIDED)
    reason = MailReason.APPROVED if approved else MailReason.RETURNED
    _create_mails(job, reason, (user.email for user in mailed))


def notify_start_needed(job: Job) -> None:
    """Notify the owner that the check has ended and the job waits for its start."""
    message = Message("notification.start-needed", job=job.pk)
    notify([job.owner], Kind.START_NEEDED, message, _job_link(job), with_mail=True)


def notify_images_released(jobs: Iterable[Job]) -> None:
    """Notify the owners that a reviewer has released or masked withheld images."""
    for job in jobs:
        message = Message("notification.images-released", job=job.pk)
        notify([job.owner], Kind.IMAGES_RELEASED, message, _job_link(job), with_mail=True)


def notify_patient_decision_needed(job: Job, deciders: Iterable[User]) -> None:
    """Notify once per job that studies wait for a decision about their patient."""
    users = list(deciders)
    message = Message("notification.patient-confirmation", job=job.pk, user=_owner_name(job))
    event = f"job:{job.pk}:patient"
    notify(users, Kind.PATIENT_CONFIRMATION, message, _job_link(job), event=event)
    if not JobMail.objects.filter(job=job, reason=MailReason.HELD).exists():
        mailed = select_mailed(users, Kind.PATIENT_CONFIRMATION)
        _create_mails(job, MailReason.HELD, (user.email for user in mailed))


def approvers() -> list[User]:
    """Return the active users who may approve jobs."""
    return users_with_right(Right.APPROVE_JOBS)


def users_with_right(right: Right) -> list[User]:
    """Return the active users who have this permission."""
    return list(User.objects.with_perm(f"accounts.{right}", backend=_BY_GROUPS))


def admin_addresses() -> list[str]:
    """Return the addresses from the settings, or else those of the administrators."""
    if settings.MAIL_ADMINS:
        return list(settings.MAIL_ADMINS)
    mailed = select_mailed(list(administrators()), Kind.OTHER_JOB_FAILED)
    return [user.email for user in mailed]


def _job_link(job: Job) -> str:
    return reverse("job", args=[job.pk])


def _owner_name(job: Job) -> str:
    return job.owner.get_full_name() or job.owner.get_username()


_BY_GROUPS = "django.contrib.auth.backends.ModelBackend"


def _create_mails(job: Job, reason: JobMail.Reason, addresses: Iterable[str]) -> None:
    """Create mails. The caller holds the job's lock, so that each event gets one number."""
    if not settings.MAIL:
        return
    wanted = sorted({address.strip() for address in addresses} - {""})
    number = 1 + JobMail.objects.filter(job=job, reason=reason).values("number").distinct().count()
    JobMail.objects.bulk_create(
        JobMail(job=job, reason=reason, number=number, state=job.state, address=address)
        for address in wanted
    )
    if wanted:
        send_mail_on_commit()


def send_due_mails() -> int:
    """Send the mails that are due; return how many were sent."""
    return JOB_OUTBOX.send()


def _message_id(mail: JobMail) -> str:
    return f"{mail.job_id}.{mail.reason}.{mail.number}"


def _compose(mail: JobMail) -> tuple[str, str]:
    subject, first = _subject_and_sentence(mail)
    link = f"{settings.SITE_URL}{_job_link(mail.job)}"
    ending = _("Mails contain no patient data. Sign in and open the page for details.")
    return subject, f"{first}\n\n{link}\n\n{ending}\n"


def _get_delivered_counts(mail: JobMail) -> DeliveredCounts:
    """What the job delivered; nothing if it is running again since the mail."""
    return mail.job.delivered_counts if mail.state == mail.job.state else DeliveredCounts()


def _subject_and_sentence(mail: JobMail) -> tuple[str, str]:
    """Subject and first sentence. Titles and reasons are free text of users and not included."""
    job, W = mail.job, JobMail.Reason
    words = {
        "n": job.pk,
        "state": state_label(mail.state, _get_delivered_counts(mail)),
        "who": _owner_name(job),
    }
    if mail.reason == W.ASKED:
        return (
            _("job %(n)d is waiting for approval") % words,
            _("%(who)s has ordered a job that needs your approval or that of another approver.")
            % words,
        )
    if mail.reason == W.APPROVED:
        return (
            _("job %(n)d is approved") % words,
            _("Your job %(n)d starts automatically.") % words,
        )
    if mail.reason == W.RETURNED:
        return (
            _("job %(n)d is returned to you") % words,
            _("Your job %(n)d was not approved. The reason is on its page.") % words,
        )
    if mail.reason == W.HELD:
        return (
            _("job %(n)d: confirm a changed patient ID") % words,
            _(
                "The source now lists a study of job %(n)d of %(who)s under another patient ID, "
                "for example after a merge of patients. The study is not sent until you or another "
                "authorized user confirms on its page that it is the same patient. Further studies "
                "of this job may need the same decision. The start page shows their number; no "
                "further mail is sent."
            )
            % words,
        )
    if mail.reason == W.FAILED:
        return (
            _("job %(n)d has failed") % words,
            _("Job %(n)d of %(who)s has failed. The reason and the next steps are on its page.")
            % words,
        )
    return (
        _("job %(n)d is finished: %(state)s") % words,
        _("Your job %(n)d is finished: %(state)s.") % words,
    )


JOB_OUTBOX = Outbox(JobMail, _compose, _message_id)
