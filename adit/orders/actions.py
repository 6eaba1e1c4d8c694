"""The actions that let a job or task wait, run, stop or run again."""

from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.accounts.permissions import Right, may
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
from adit.messages import as_message
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
        return as_message(
            _("Nobody approves an own order: ask somebody else with the right to approve.")
        )
    return None


def _owner_with_mail(request: ActionRequest) -> Message | None:
    user, job = request.user, request.job
    if settings.MAIL and job.owner_id == user.pk and user.is_active and user.email:
        return None
    return owner_or_staff(request) or explain_state(request)


def _not_awaiting_approval(request: ActionRequest) -> Message | None:
    return as_message(_("This job does not wait for approval."))


def _may_become_urgent(request: ActionRequest) -> Message | None:
    job = request.job
    if not may(job.owner, Right.BE_URGENT):  # checked again when its nodes are opened
        return as_message(_("Whoever ordered this job may not skip the allowed hours."))
    if job.approved_by_id and job.state == J.IN_PROGRESS:  # it would void the approval
        return as_message(_("The job runs as it was approved: cancel it, then make it urgent."))
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
    return (
        None
        if others.exists()
        else as_message(_("It is the only study of this job: delete the job."))
    )


def _running(request: ActionRequest) -> Message | None:
    return as_message(_("The job is running: stop the study, or cancel the job first."))


# What they do -------------------------------------------------------------------------------------


def _approve(request: ActionRequest) -> None:
    states.move_row(request.job, J.PENDING, approved_by=request.user)
    notifications.notify_approval_decision(request.job, approved=True)


def _return_order(request: ActionRequest) -> None:
    job = request.job
    states.move_tasks(job, job.tasks.all(), T.CANCELED)
    states.move_row(job, J.CANCELED, as_message(_("Not approved: %s") % request.reason))
    notifications.notify_approval_decision(job, approved=False)


def _cancel(request: ActionRequest) -> None:
    """Cancel a job: running tasks end within 10 s, between instances. No other task starts."""
    job = request.job
    waiting = job.tasks.filter(state__in=states.WAITING_TASKS)
    if job.state in states.UNSTARTED_JOBS:
        states.move_tasks(job, waiting, T.CANCELED)
        states.move_row(job, J.CANCELED, as_message(_("Canceled before it was started.")))
        return
    states.move_row(job, J.CANCELING)
    states.move_tasks(job, waiting, T.CANCELED)


def _resume(request: ActionRequest) -> None:
    job = request.job
    if job.approved_by_id is None and needs_approval(
        job.owner, get_order_size(job), job.kind, job.project
    ):
        states.move_row(job, J.WAITING_FOR_APPROVAL)
    tasks = job.tasks.filter(state=T.CANCELED)
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
        _row(request).update(stop_asked=True)


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
        success_message=_lazy("The job is approved."),
        tone="primary",
        icon="check",
        help=_lazy("For approvers: let it run. Nobody can approve their own order."),
    ),
    Action(
        name="return",
        label=_lazy("Return to its owner"),
        order=15,
        who=_anyone_but_owner,
        right=Right.APPROVE_JOBS,
        job_states=frozenset({J.WAITING_FOR_APPROVAL}),
        explain_state=_not_awaiting_approval,
        done=frozenset({J.CANCELED}),
        execute=_return_order,
        event="job.returned",
        event_label=_lazy("returned to its owner"),
        success_message=_lazy("The order is returned to its owner."),
        reason_prompt=ReasonPrompt(
            _lazy("Not approved? Say why:"),
            Message("job.no-return-reason"),
        ),
        url_name="job_return",
        help=_lazy("For approvers: return an order with a reason."),
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
        success_message=_lazy("The job goes on."),
        icon="player-play",
        help=_lazy("Continues a canceled job where it stopped."),
    ),
    Action(
        name="retry",
        label=_lazy("Try what is missing again"),
        order=30,
        job_states=frozenset({J.WARNING, J.FAILURE, J.WAITING_FOR_OWNER, J.HELD}),
        condition=_has_gaps,
        done=_STARTED,
        execute=archives.creates_archive_again(_retry),
        needs_password=True,
        event="job.retried",
        event_label=_lazy("what was missing is tried again"),
        success_message=_lazy("What is missing is tried again."),
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
        success_message=_lazy("The job is urgent now: it does not wait for the allowed hours."),
        help=_lazy(
            "The job no longer waits for the allowed hours. You need a permission. "
            "An approved job has to be approved again."
        ),
    ),
    Action(
        name="mail",
        label=_lazy("Mail me at the end"),
        order=60,
        who=_owner_with_mail,
        job_states=frozenset(J) - states.ENDED_JOBS,
        condition=_has_mail_off,
        done=frozenset(J),
        execute=_enable_mail,
        event="job.mail_wanted",
        event_label=_lazy("mail at the end is wanted"),
        success_message=_lazy("You will get a mail when the job has ended."),
        icon="mail",
        help=_lazy(
            "One mail when the job has ended. It contains the result and no patient data. "
            "Shown if your account has a mail address and ADIT has a mail server."
        ),
    ),
    Action(
        name="no_mail",
        label=_lazy("No mail at the end"),
        order=65,
        who=_owner_with_mail,
        job_states=frozenset(J) - states.ENDED_JOBS,
        condition=_has_mail_on,
        done=frozenset(J),
        execute=_disable_mail,
        event="job.mail_unwanted",
        event_label=_lazy("no mail at the end"),
        success_message=_lazy("You will get no mail when the job has ended."),
    ),
    Action(
        name="cancel",
        label=_lazy("Cancel the job"),
        order=70,
        job_states=_CANCELABLE,
        done=frozenset({J.CANCELING, J.CANCELED}),
        execute=_cancel,
        event="job.canceled",
        event_label=_lazy("canceled"),
        success_message=_lazy("The job is being canceled: nothing more will be sent."),
        confirmation=_lazy("Cancel this job? What was delivered stays where it is."),
        icon="ban",
        help=_lazy(
            "Stops within ten seconds, between two images. "
            "When the page shows canceled, nothing more is sent."
        ),
    ),
)

_TASK_ACTIONS = (
    Action(
        name="retry",
        label=_lazy("Try what is missing again"),
        order=10,
        job_states=frozenset(J) - {J.WAITING_FOR_APPROVAL, J.CANCELING},
        task_states=states.RETRYABLE_TASKS,
        done=states.LIVE_TASKS,
        execute=archives.creates_archive_again(_retry_task),
        needs_password=True,
        event="task.retried",
        event_label=_lazy("one part is tried again"),
        success_message=_lazy("What is missing is tried again."),
        icon="refresh",
    ),
    Action(
        name="stop",
        label=_lazy("Stop this study"),
        search_label=_lazy("Stop asking"),
        order=20,
        job_states=frozenset(J) - {J.WAITING_FOR_APPROVAL, J.CANCELING},
        task_states=states.OPEN_TASKS,
        done=states.ENDED_TASKS,
        execute=_stop_task,
        event="task.stopped",
        event_label=_lazy("one part is stopped"),
        success_message=_lazy("It is being stopped: nothing more of it will be done."),
        confirmation=_lazy("Stop this study? What was delivered stays where it is."),
        search_confirmation=_lazy("Stop asking? These rows stay without an answer."),
        icon="ban",
        help=_lazy("On the page of a part: stops that part; the others continue."),
    ),
    Action(
        name="delete",
        label=_lazy("Take it out of the job"),
        order=40,
        job_states=frozenset(J) - {J.IN_PROGRESS, J.CANCELING},
        task_states=frozenset(T) - {T.IN_PROGRESS},
        explain_state=_running,
        condition=_has_other_tasks,
        execute=_delete_task,
        event="task.deleted",
        event_label=_lazy("one part is taken out"),
        success_message=_lazy("It is taken out of the job."),
        confirmation=_lazy(
            "Take this study out of the job? What was delivered stays where it is; "
            "the list of it is forgotten."
        ),
        search_confirmation=_lazy("Take these rows out of the job? They stay without an answer."),
        tone="danger",
        icon="trash",
        help=_lazy(
            "On the page of a part, while the job is not running: the other parts stay. "
            "An approved job has to be approved again."
        ),
    ),
)
