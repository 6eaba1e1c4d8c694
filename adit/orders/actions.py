"""The actions that let a job or task wait, run, stop or run again."""

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _lazy

from adit.accounts.permissions import Right, has_right
from adit.jobs import notifications, progress, states
from adit.jobs.actions import (
    Action,
    ActionRequest,
    ReasonPrompt,
    explain_state,
    owner_or_staff,
    register,
)
from adit.jobs.models import Job, JobState, Task, TaskGroup, TaskState
from adit.orders.service import get_order_size, needs_approval
from adit.results import archives
from adit_engine.messages import Message

T, J = TaskState, JobState
_CANCELABLE = frozenset({*states.UNSTARTED_JOBS, J.PENDING, J.IN_PROGRESS, J.HELD})
_STARTED = frozenset({J.PENDING, J.IN_PROGRESS})


def _revoke_approval(job: Job) -> None:
    """Revoke the approval after a change: it applied to a different order."""
    if job.approved_by_id is None:
        return
    if job.state == J.PENDING:
        states.move_row(job, J.WAITING_FOR_APPROVAL, approved_by=None)
    else:
        Job.objects.filter(pk=job.pk).update(approved_by=None)


# Who may, and under which conditions ---------------------------------------------------------------


def _anyone_but_owner(request: ActionRequest) -> Message | None:
    if request.job.owner_id == request.user.pk:
        return Message("approval.own-order")
    return None


def _owner_with_mail(request: ActionRequest) -> Message | None:
    user, job = request.user, request.job
    if settings.MAIL and job.owner_id == user.pk and user.is_active and user.email:
        return None
    return owner_or_staff(request) or explain_state(request)


def _not_awaiting_approval(request: ActionRequest) -> Message | None:
    return Message("approval.not-awaited")


def _may_become_urgent(request: ActionRequest) -> Message | None:
    job = request.job
    if not has_right(job.owner, Right.BE_URGENT):  # checked again when its nodes are opened
        return Message("urgent.owner-not-permitted")
    if job.approved_by_id and job.state == J.IN_PROGRESS:  # it would void the approval
        return Message("urgent.approved-and-running")
    return explain_state(request) if job.urgent else None


def _has_gaps(request: ActionRequest) -> Message | None:
    gaps = progress.retryable_tasks(request.job).filter(state__in=states.RETRYABLE_TASKS)
    return None if gaps.exists() else explain_state(request)


def _has_mail_off(request: ActionRequest) -> Message | None:
    return explain_state(request) if request.job.mail_at_end else None


def _has_mail_on(request: ActionRequest) -> Message | None:
    return None if request.job.mail_at_end else explain_state(request)


def _has_other_tasks(request: ActionRequest) -> Message | None:
    assert request.task is not None
    others = progress.transfer_tasks(request.job).exclude(pk=request.task.pk)
    return None if others.exists() else Message("remove.only-study")


def _may_be_removed(request: ActionRequest) -> Message | None:
    assert request.task is not None
    if request.task.items.filter(Q(delivered__gt=0) | Q(stored__gt=0)).exists():
        return Message("remove.images-stored")
    return _has_other_tasks(request)


def _running(request: ActionRequest) -> Message | None:
    return Message("remove.job-running")


# What they do -------------------------------------------------------------------------------------


def _approve(request: ActionRequest) -> None:
    states.move_row(request.job, J.PENDING, approved_by=request.user)
    notifications.notify_approval_decision(request.job, approved=True)


def _return_order(request: ActionRequest) -> None:
    job = request.job
    states.move_tasks(job, job.tasks.all(), T.CANCELED)
    reason = Message("approval.refused", reason=request.reason)
    states.move_row(job, J.CANCELED, reason)
    notifications.notify_approval_decision(job, approved=False)


def _cancel(request: ActionRequest) -> None:
    """Cancel a job: running tasks end within 10 s, between instances. No other task starts."""
    job = request.job
    waiting = job.tasks.filter(state__in=states.WAITING_TASKS)
    if job.state in states.UNSTARTED_JOBS:
        states.move_tasks(job, waiting, T.CANCELED)
        reason = Message("cancel.before-start")
        states.move_row(job, J.CANCELED, reason)
        return
    states.move_row(job, J.CANCELING)
    states.move_tasks(job, waiting, T.CANCELED)


def _resume(request: ActionRequest) -> None:
    job = request.job
    if job.approved_by_id is None and needs_approval(
        job.owner, get_order_size(job), job.kind, job.project
    ):
        states.move_row(job, J.WAITING_FOR_APPROVAL)
    tasks = job.tasks.filter(state=T.CANCELED, recalled_at=None)
    states.move_tasks(job, tasks, T.PENDING, **states.RESET_FIELDS)


def _retry(request: ActionRequest) -> None:
    """Retry tasks that failed or have gaps. The ledger stays: only missing images are sent."""
    tasks = progress.retryable_tasks(request.job).filter(state__in=states.RETRYABLE_TASKS)
    states.move_tasks(request.job, tasks, T.PENDING, **states.RESET_FIELDS)


def _make_urgent(request: ActionRequest) -> None:
    """Ignore the allowed hours from now on. The limit of connections still applies."""
    job = request.job
    _revoke_approval(job)
    Job.objects.filter(pk=job.pk).update(urgent=True)
    TaskGroup.objects.filter(job=job).update(wait_reason=None)


def _enable_mail(request: ActionRequest) -> None:
    Job.objects.filter(pk=request.job.pk).update(mail_at_end=True)


def _disable_mail(request: ActionRequest) -> None:
    Job.objects.filter(pk=request.job.pk).update(mail_at_end=False)


def _retry_task(request: ActionRequest) -> None:
    states.move_tasks(request.job, _row(request), T.PENDING, **states.RESET_FIELDS)


def _stop_task(request: ActionRequest) -> None:
    """Stop a task between instances; the worker notices it within seconds."""
    assert request.task is not None
    if request.task.state in states.WAITING_TASKS:
        states.move_tasks(request.job, _row(request), T.CANCELED)
    else:
        _row(request).update(stop_requested=True)


def _delete_task(request: ActionRequest) -> None:
    _row(request).delete()
    _revoke_approval(request.job)
    states.update_job_state(request.job)


def _row(request: ActionRequest) -> QuerySet[Task]:
    assert request.task is not None
    return Task.objects.filter(pk=request.task.pk)


# The table ----------------------------------------------------------------------------------------


def register_actions() -> None:
    """Add the actions of this app to the table. Called when the apps are ready."""
    register(*_JOB_ACTIONS, *_TASK_ACTIONS)


_JOB_ACTIONS = (
    Action(
        name="approve",
        label=_lazy("Approve"),
        order=10,
        who=_anyone_but_owner,
        right=Right.APPROVE_JOBS,
        job_states=frozenset({J.WAITING_FOR_APPROVAL}),
        explain_state=_not_awaiting_approval,
        done=_STARTED,
        execute=_approve,
        event="job.approved",
        event_label=_lazy("approved"),
        success_message=_lazy("The job was approved."),
        tone="primary",
        icon="check",
        help=_lazy("For approvers: start the job. Nobody can approve their own order."),
    ),
    Action(
        name="return",
        label=_lazy("Return to owner"),
        order=15,
        who=_anyone_but_owner,
        right=Right.APPROVE_JOBS,
        job_states=frozenset({J.WAITING_FOR_APPROVAL}),
        explain_state=_not_awaiting_approval,
        done=frozenset({J.CANCELED}),
        execute=_return_order,
        event="job.returned",
        event_label=_lazy("returned to the owner"),
        success_message=_lazy("The order was returned to its owner."),
        reason_prompt=ReasonPrompt(
            _lazy("Reason for not approving the order:"),
            Message("job.no-return-reason"),
        ),
        url_name="job_return",
        help=_lazy("For approvers: refuse the order with a reason, which its owner can read."),
    ),
    Action(
        name="resume",
        label=_lazy("Resume"),
        order=20,
        job_states=frozenset({J.CANCELED}),
        done=_STARTED | states.UNSTARTED_JOBS,
        execute=archives.creates_archive_again(_resume),
        needs_password=True,
        event="job.resumed",
        event_label=_lazy("resumed"),
        success_message=_lazy("The job continues."),
        icon="player-play",
        help=_lazy("Continues a canceled job where it stopped."),
    ),
    Action(
        name="retry",
        label=_lazy("Retry missing images"),
        order=30,
        job_states=frozenset({J.WARNING, J.FAILURE, J.WAITING_FOR_OWNER, J.HELD}),
        condition=_has_gaps,
        done=_STARTED,
        execute=archives.creates_archive_again(_retry),
        needs_password=True,
        event="job.retried",
        event_label=_lazy("missing images retried"),
        success_message=_lazy("Missing images are retried."),
        icon="refresh",
        help=_lazy(
            "Only images that failed or disappeared are fetched and sent again. "
            "Withheld images stay withheld."
        ),
    ),
    Action(
        name="urgent",
        label=_lazy("Make urgent"),
        order=50,
        right=Right.BE_URGENT,
        job_states=_CANCELABLE,
        condition=_may_become_urgent,
        execute=_make_urgent,
        event="job.made_urgent",
        event_label=_lazy("made urgent"),
        success_message=_lazy("The job is now urgent and ignores the allowed hours."),
        help=_lazy(
            "The job ignores the allowed hours. This requires a permission. "
            "An approved job has to be approved again."
        ),
    ),
    Action(
        name="mail",
        label=_lazy("Mail me when finished"),
        order=60,
        who=_owner_with_mail,
        job_states=frozenset(J) - states.ENDED_JOBS,
        condition=_has_mail_off,
        done=frozenset(J),
        execute=_enable_mail,
        event="job.mail_wanted",
        event_label=_lazy("mail requested"),
        success_message=_lazy("You will receive a mail when the job has finished."),
        icon="mail",
        help=_lazy(
            "One mail when the job has finished. It contains the result and no patient data. "
            "Shown if your account has a mail address and ADIT has a mail server."
        ),
    ),
    Action(
        name="no_mail",
        label=_lazy("Do not mail me"),
        order=65,
        who=_owner_with_mail,
        job_states=frozenset(J) - states.ENDED_JOBS,
        condition=_has_mail_on,
        done=frozenset(J),
        execute=_disable_mail,
        event="job.mail_unwanted",
        event_label=_lazy("mail no longer requested"),
        success_message=_lazy("You will not receive a mail when the job has finished."),
    ),
    Action(
        name="cancel",
        label=_lazy("Cancel job"),
        order=70,
        job_states=_CANCELABLE,
        done=frozenset({J.CANCELING, J.CANCELED}),
        execute=_cancel,
        event="job.canceled",
        event_label=_lazy("canceled"),
        success_message=_lazy("The job is being canceled. No more images will be sent."),
        confirmation=_lazy("Cancel this job? Delivered images stay at the destination."),
        icon="ban",
        help=_lazy(
            "Stops within ten seconds, between two images. "
            "When the page shows “canceled”, no more images are sent."
        ),
    ),
)

_TASK_ACTIONS = (
    Action(
        name="retry",
        label=_lazy("Retry missing images"),
        order=10,
        job_states=frozenset(J) - {J.WAITING_FOR_APPROVAL, J.CANCELING},
        task_states=states.RETRYABLE_TASKS,
        done=states.LIVE_TASKS,
        execute=archives.creates_archive_again(_retry_task),
        needs_password=True,
        event="task.retried",
        event_label=_lazy("one task retried"),
        success_message=_lazy("Missing images are retried."),
        icon="refresh",
    ),
    Action(
        name="stop",
        label=_lazy("Stop this study"),
        search_label=_lazy("Stop this query"),
        order=20,
        job_states=frozenset(J) - {J.WAITING_FOR_APPROVAL, J.CANCELING},
        task_states=states.OPEN_TASKS,
        done=states.ENDED_TASKS,
        execute=_stop_task,
        event="task.stopped",
        event_label=_lazy("one task stopped"),
        success_message=_lazy("It is being stopped."),
        confirmation=_lazy("Stop this study? Delivered images stay at the destination."),
        search_confirmation=_lazy("Stop this query? Its rows stay without a result."),
        icon="ban",
        help=_lazy("On the page of a task: stops this task; the other tasks continue."),
    ),
    Action(
        name="delete",
        label=_lazy("Remove from job"),
        order=40,
        job_states=frozenset(J) - {J.IN_PROGRESS, J.CANCELING},
        task_states=frozenset(T) - {T.IN_PROGRESS},
        explain_state=_running,
        condition=_may_be_removed,
        execute=_delete_task,
        event="task.deleted",
        event_label=_lazy("one task removed"),
        success_message=_lazy("It was removed from the job."),
        confirmation=_lazy("Remove this study from the job?"),
        search_confirmation=_lazy("Remove these rows from the job? They stay without a result."),
        tone="danger",
        icon="trash",
        help=_lazy(
            "On the page of a task that sent no image, while the job is not running: the other "
            "tasks stay. "
            "An approved job has to be approved again."
        ),
    ),
)
