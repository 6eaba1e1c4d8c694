"""Actions of users on jobs and tasks, one function each. Used by the pages and the REST API."""

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit import trail
from adit.jobs import notifications, states
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskGroup, TaskState, TaskType
from adit.jobs.wakeup import wake_workers_on_commit
from adit.orders import permissions
from adit.orders.service import get_order_size, needs_approval
from adit.results import applied_rules, archives
from adit_engine.errors import InvalidInput

T, J = TaskState, JobState


def approve(user: User, job: Job) -> None:
    """Approve a job that its owner may not order alone; never one's own job."""

    def act(locked: Job) -> None:
        states.move_row(locked, J.PENDING, approved_by=user)
        notifications.notify_approval_decision(locked, approved=True)

    _perform(user, job, "approve", act)


def reject_order(user: User, job: Job, reason: str) -> None:
    """Return an unstarted order to its owner, with a reason."""

    def act(locked: Job) -> None:
        states.move_tasks(locked, locked.tasks.all(), T.CANCELED)
        states.move_row(locked, J.CANCELED, _("Not approved: %s") % reason)
        notifications.notify_approval_decision(locked, approved=False)

    _perform(user, job, "return", act, reason=reason)


def cancel(user: User, job: Job) -> None:
    """Cancel a job: running tasks end within 10 s, between instances.

    No other task starts.
    """

    def act(locked: Job) -> None:
        waiting = locked.tasks.filter(state__in=states.WAITING_TASKS)
        if locked.state in permissions.UNSTARTED:
            states.move_tasks(locked, waiting, T.CANCELED)
            states.move_row(locked, J.CANCELED, _("Canceled before it was started."))
            return
        states.move_row(locked, J.CANCELING)
        states.move_tasks(locked, waiting, T.CANCELED)

    _perform(user, job, "cancel", act)


def resume(user: User, job: Job) -> None:
    """Resume a canceled job; delivered images stay delivered."""

    def act(locked: Job) -> None:
        if locked.approved_by_id is None and _needs_approval(locked):
            states.move_row(locked, J.WAITING_FOR_APPROVAL)
        states.move_tasks(
            locked, locked.tasks.filter(state=T.CANCELED), T.PENDING, **states.RESET_FIELDS
        )

    _perform(user, job, "resume", act)


def retry_failed(user: User, job: Job) -> None:
    """Retry tasks that failed or have gaps.

    The ledger stays: only missing images are sent.
    """

    def act(locked: Job) -> None:
        gaps = permissions.retryable_tasks(locked).filter(state__in=permissions.STATES_WITH_GAPS)
        states.move_tasks(locked, gaps, T.PENDING, **states.RESET_FIELDS)

    _perform(user, job, "retry", act)


def retry_withheld(user: User, job: Job) -> None:
    """Retry withheld images with the current rules; delivered images stay delivered."""

    def act(locked: Job) -> None:
        tasks = locked.tasks.filter(pk__in=applied_rules.tasks_judged_anew(locked))
        states.move_tasks(locked, tasks, T.PENDING, **states.RESET_FIELDS)

    now = applied_rules.current_rules(Job.objects.filter(pk=job.pk).first() or job)
    _perform(user, job, "retry_withheld", act, profile=now.profile, generation=now.generation)


def restart(user: User, job: Job) -> None:
    """Restart a job: clear the ledger, fetch and store all images again."""

    def act(locked: Job) -> None:
        archives.delete_job_files(locked)
        SeriesResult.objects.filter(task__job=locked).delete()
        Task.objects.filter(job=locked).update(rules=[])
        states.move_tasks(
            locked,
            permissions.retryable_tasks(locked).exclude(state=T.PENDING),
            T.PENDING,
            **states.RESET_FIELDS,
        )

    _perform(user, job, "restart", act)


def make_urgent(user: User, job: Job) -> None:
    """Make a job urgent: it ignores the allowed hours from now on.

    The limit of connections still applies. An approved job has to be approved again, since the
    order has changed.
    """

    def act(locked: Job) -> None:
        _revoke_approval(locked)
        Job.objects.filter(pk=locked.pk).update(urgent=True)
        TaskGroup.objects.filter(job=locked).update(wait_reason="")

    _perform(user, job, "urgent", act)


def delete(user: User, job: Job) -> None:
    """Delete a job, its tasks and its ledger; the audit trail keeps its events."""

    def act(locked: Job) -> None:
        archives.delete_job_files(locked)
        locked.delete()

    _perform(user, job, "delete", act)


def retry_task(user: User, task: Task) -> None:
    """Retry one study; only missing images are sent."""

    def act(locked: Job) -> None:
        states.move_tasks(locked, locked.tasks.filter(pk=task.pk), T.PENDING, **states.RESET_FIELDS)

    _perform_on_task(user, task, "retry", act)


def stop_task(user: User, task: Task) -> None:
    """Stop one task between instances; the worker notices it within seconds."""

    def act(locked: Job) -> None:
        row = locked.tasks.get(pk=task.pk)
        if row.state in states.WAITING_TASKS:
            states.move_tasks(locked, locked.tasks.filter(pk=task.pk), T.CANCELED)
        else:
            Task.objects.filter(pk=task.pk).update(stop_asked=True)

    _perform_on_task(user, task, "stop", act)


def reset_task(user: User, task: Task) -> None:
    """Restart one study: clear its ledger, fetch and store all images again."""

    def act(locked: Job) -> None:
        SeriesResult.objects.filter(task=task.pk).delete()
        row = locked.tasks.filter(pk=task.pk)
        row.update(rules=[])
        states.move_tasks(locked, row, T.PENDING, **states.RESET_FIELDS)

    _perform_on_task(user, task, "reset", act)


def delete_task(user: User, task: Task) -> None:
    """Remove one study from the order; the audit trail keeps its events."""

    def act(locked: Job) -> None:
        locked.tasks.filter(pk=task.pk).delete()
        _revoke_approval(locked)
        states.update_job_state(locked)

    _perform_on_task(user, task, "delete", act)


def enable_mail(user: User, job: Job) -> None:
    """Notify the owner by mail when the job has ended."""

    def act(locked: Job) -> None:
        Job.objects.filter(pk=locked.pk).update(mail_at_end=True)

    _perform(user, job, "mail", act)


def disable_mail(user: User, job: Job) -> None:
    """Do not notify the owner by mail."""

    def act(locked: Job) -> None:
        Job.objects.filter(pk=locked.pk).update(mail_at_end=False)

    _perform(user, job, "no_mail", act)


ACTIONS: Mapping[str, Callable[[User, Job], None]] = {
    "approve": approve,
    "cancel": cancel,
    "resume": resume,
    "retry": retry_failed,
    "retry_withheld": retry_withheld,
    "restart": restart,
    "urgent": make_urgent,
    "mail": enable_mail,
    "no_mail": disable_mail,
    "delete": delete,
}
"""The actions that need only the job, by the names of permissions.allowed_actions()."""


TASK_ACTIONS: Mapping[str, Callable[[User, Task], None]] = {
    "retry": retry_task,
    "stop": stop_task,
    "reset": reset_task,
    "delete": delete_task,
}


def _revoke_approval(job: Job) -> None:
    """Revoke the approval after a change: it applied to a different order."""
    if job.approved_by_id is None:
        return
    if job.state == J.PENDING:
        states.move_row(job, J.WAITING_FOR_APPROVAL, approved_by=None)
    else:
        Job.objects.filter(pk=job.pk).update(approved_by=None)


def _perform(user: User, job: Job, name: str, act: Callable[[Job], None], **details: Any) -> None:
    """Check permissions, lock, act, record, wake up workers. Raises NotPermitted.

    An action whose result is already there is no error.
    """
    with transaction.atomic():
        locked = Job.objects.select_for_update(of=("self",), no_key=True).filter(pk=job.pk).first()
        if locked is None:
            return
        if name not in permissions.allowed_actions(user, locked):
            if permissions.is_action_done(user, locked, name):
                return
            raise NotPermitted(permissions.explain_refusal(user, locked, name))
        _require_password(locked, name)
        about = f"job:{locked.pk}"
        act(locked)
        _reset_packing(locked, name)
        trail.record(f"job.{_EVENT_NAMES[name]}", user=user, about=about, details=details)
        wake_workers_on_commit()
    if name != "delete":
        job.refresh_from_db()


def _perform_on_task(user: User, task: Task, name: str, act: Callable[[Job], None]) -> None:
    with transaction.atomic():
        locked = (
            Job.objects.select_for_update(of=("self",), no_key=True).filter(pk=task.job_id).first()
        )
        row = Task.objects.filter(pk=task.pk).select_related("job").first()
        if locked is None or row is None:
            return
        if name not in permissions.allowed_task_actions(user, row):
            if permissions.is_task_action_done(user, locked, row, name):
                return
            raise NotPermitted(permissions.explain_task_refusal(user, locked, row, name))
        _require_password(locked, name)
        about, details = f"job:{locked.pk}", {"task": row.position}
        act(locked)
        _reset_packing(locked, name)
        trail.record(f"task.{_EVENT_NAMES[name]}", user=user, about=about, details=details)
        wake_workers_on_commit()
    if name != "delete":
        task.refresh_from_db()


def _require_password(job: Job, name: str) -> None:
    """Raise InvalidInput if the action needs a new password."""
    if archives.lacks_password(job, name):
        raise InvalidInput(_("Give a new password for the 7-Zip file: the old one was not kept."))


def _reset_packing(job: Job, name: str) -> None:
    """Reset the packing task: images that are fetched again go into a new file."""
    if name in archives.ACTIONS_NEEDING_PASSWORD and archives.is_archive(job.destination):
        job.refresh_from_db()
        if archives.reset_packing(job):
            states.move_tasks(
                job, job.tasks.filter(work=TaskType.PACK), T.PENDING, **states.RESET_FIELDS
            )


_EVENT_NAMES: Mapping[str, str] = {
    "approve": "approved",
    "return": "returned",
    "cancel": "canceled",
    "resume": "resumed",
    "retry": "retried",
    "retry_withheld": "withheld_retried",
    "restart": "restarted",
    "urgent": "made_urgent",
    "delete": "deleted",
    "mail": "mail_wanted",
    "no_mail": "mail_unwanted",
    "stop": "stopped",
    "reset": "reset",
}


def _needs_approval(job: Job) -> bool:
    return needs_approval(job.owner, get_order_size(job), job.kind, job.project)
