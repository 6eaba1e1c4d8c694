"""Which actions a user may perform on a job or task now, and why not.

Used by buttons, and again by each action.
"""

from collections.abc import Callable, Mapping

from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, may, require
from adit.jobs import states
from adit.jobs.kinds import KINDS
from adit.jobs.models import Job, JobStage, JobState, Task, TaskState, TaskType
from adit.jobs.visibility import may_act_on, may_see
from adit.nodes.models import Lane
from adit.results import applied_rules

T, J = TaskState, JobState
STATES_WITH_GAPS = (T.FAILURE, T.WARNING, T.CANCELED)
UNSTARTED = frozenset({J.WAITING_FOR_APPROVAL, J.WAITING_FOR_OWNER})
_CANCELABLE = frozenset({*UNSTARTED, J.PENDING, J.IN_PROGRESS, J.HELD})


def allowed_actions(user: User, job: Job) -> frozenset[str]:
    """Return the actions that the user may perform on the job now."""
    state = J(job.state)
    names = {name for name, rule in _RULES.items() if rule(user, job, state)}
    return frozenset(names if may_see(user, job) else ())


def allowed_task_actions(user: User, task: Task) -> frozenset[str]:
    """Return the actions that the user may perform on the task now."""
    job, state = task.job, T(task.state)
    if not may_act_on(user, job) or job.state == J.CANCELING:
        return frozenset()
    names = set()
    is_waiting = job.state == J.WAITING_FOR_APPROVAL
    if state in states.OPEN_TASKS and not is_waiting:
        names.add("stop")
    if state in STATES_WITH_GAPS and not is_waiting:
        names.add("retry")
    if state not in states.OPEN_TASKS and not is_waiting and user.is_staff:
        names.add("reset")
    is_running = job.state == J.IN_PROGRESS or state == T.IN_PROGRESS
    if not is_running and _transfer_tasks(job).exclude(pk=task.pk).exists():
        names.add("delete")
    return frozenset(names)


def is_action_done(user: User, job: Job, name: str) -> bool:
    """Return whether the job is already in the state to which the action leads."""
    return J(job.state) in _DONE_STATES[name] and may_act_on(user, job)


def is_task_action_done(user: User, job: Job, task: Task, name: str) -> bool:
    """Return whether the task is already in the state to which the action leads."""
    if not may_act_on(user, job):
        return False
    state = T(task.state)
    return (name == "stop" and state not in states.OPEN_TASKS) or (
        name in ("retry", "reset") and state in states.LIVE_TASKS
    )


def explain_task_refusal(user: User, job: Job, task: Task, name: str) -> str:
    """Return why the user may not perform the action on the task."""
    if not may_act_on(user, job):
        return _("This is not your job: ask its owner, or staff.")
    if name == "reset" and not user.is_staff:
        return _("Only staff start a study from nothing. Retry fetches what is missing.")
    if name == "delete":
        if job.state == J.IN_PROGRESS or task.state == T.IN_PROGRESS:
            return _("The job is running: stop the study, or cancel the job first.")
        return _("It is the only study of this job: delete the job.")
    return _("The study is “%s” now: this cannot be done with it.") % task.state_words


def explain_refusal(user: User, job: Job, name: str) -> str:
    """Return why the user may not perform the action on the job. Raises NotPermitted."""
    if name in ("approve", "return"):
        if job.owner_id == user.pk:
            return _("Nobody approves an own order: ask somebody else with the right to approve.")
        require(user, Right.APPROVE_JOBS)
        return _("This job does not wait for approval.")
    if not may_act_on(user, job):
        return _("This is not your job: ask its owner, or staff.")
    if name == "urgent":
        require(user, Right.BE_URGENT)
        if not may(job.owner, Right.BE_URGENT):
            return _("Whoever ordered this job may not skip the allowed hours.")
        if job.approved_by_id and job.state == J.IN_PROGRESS:
            return _("The job runs as it was approved: cancel it, then make it urgent.")
    if name == "retry_withheld" and job.state in states.ENDED_JOBS:
        return _("Nothing was withheld that other rules would judge anew by now.")
    if name == "restart" and not user.is_staff:
        return _("Only staff restart a job from nothing. Retry fetches what is missing.")
    if name == "delete":
        return _("The job is not finished: cancel it first.")
    return _("The job is “%s” now: this cannot be done with it.") % job.state_words


def retryable_tasks(job: Job) -> QuerySet[Task]:
    """Return the tasks that can be retried.

    Excluded are the start task, and the check once the transfer has started.
    """
    begins_with = getattr(KINDS.get(job.kind), "stage", "")
    tasks = job.tasks.exclude(work=TaskType.START)
    if begins_with != JobStage.CHECK or job.stage == JobStage.CHECK:
        return tasks
    return tasks.exclude(lane=Lane.SEARCH)


_RULES: Mapping[str, Callable[[User, Job, JobState], bool]] = {
    "approve": lambda user, job, state: _may_approve(user, job, state),
    "return": lambda user, job, state: _may_approve(user, job, state),
    "cancel": lambda user, job, state: state in _CANCELABLE and may_act_on(user, job),
    "resume": lambda user, job, state: state == J.CANCELED and may_act_on(user, job),
    "retry": lambda user, job, state: (
        state in (J.WARNING, J.FAILURE, J.WAITING_FOR_OWNER, J.HELD)
        and may_act_on(user, job)
        and _has_gaps(job)
    ),
    "retry_withheld": lambda user, job, state: (
        state in (J.SUCCESS, J.WARNING, J.FAILURE)
        and may_act_on(user, job)
        and bool(applied_rules.tasks_judged_anew(job))
    ),
    "restart": lambda user, job, state: (
        state in states.ENDED_JOBS and user.is_staff and may_act_on(user, job)
    ),
    "urgent": lambda user, job, state: (
        state in _CANCELABLE
        and not job.urgent
        and may(user, Right.BE_URGENT)
        and may(job.owner, Right.BE_URGENT)  # checked again when its nodes are opened
        and may_act_on(user, job)
        and not (job.approved_by_id and state == J.IN_PROGRESS)  # it would void the approval
    ),
    "mail": lambda user, job, state: _may_be_mailed(user, job, state) and not job.mail_at_end,
    "no_mail": lambda user, job, state: _may_be_mailed(user, job, state) and job.mail_at_end,
    "delete": lambda user, job, state: (
        state in states.ENDED_JOBS | UNSTARTED and may_act_on(user, job)
    ),
}

_DONE_STATES: Mapping[str, frozenset[JobState]] = {
    "approve": frozenset({J.PENDING, J.IN_PROGRESS}),
    "return": frozenset({J.CANCELED}),
    "cancel": frozenset({J.CANCELING, J.CANCELED}),
    "resume": frozenset({J.PENDING, J.IN_PROGRESS, *UNSTARTED}),
    "retry": frozenset({J.PENDING, J.IN_PROGRESS}),
    "retry_withheld": frozenset({J.PENDING, J.IN_PROGRESS}),
    "restart": frozenset({J.PENDING, J.IN_PROGRESS}),
    "urgent": frozenset(),
    "mail": frozenset(J),
    "no_mail": frozenset(J),
    "delete": frozenset(),
}
"""The states after each action: repeating it there changes nothing and is no error."""


def _may_approve(user: User, job: Job, state: JobState) -> bool:
    return (
        state is J.WAITING_FOR_APPROVAL
        and job.owner_id != user.pk
        and may(user, Right.APPROVE_JOBS)
    )


def _may_be_mailed(user: User, job: Job, state: JobState) -> bool:
    is_open = state not in states.ENDED_JOBS
    return settings.MAIL and is_open and job.owner_id == user.pk and bool(user.email)


def _has_gaps(job: Job) -> bool:
    return retryable_tasks(job).filter(state__in=STATES_WITH_GAPS).exists()


def _transfer_tasks(job: Job) -> QuerySet[Task]:
    return job.tasks.exclude(lane=Lane.SEARCH).filter(work=TaskType.KIND)
