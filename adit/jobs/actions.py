"""The table of actions on jobs and tasks, and `perform`, which executes one of them.

Buttons, refusals, POST endpoints, the timeline and the help page are made from this table.
adit.orders, adit.results and adit.review register their actions when the apps are ready.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.utils.functional import Promise

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, explain_missing_right, has_right
from adit.audit import trail
from adit.jobs.models import Job, JobState, Task, TaskState
from adit.jobs.visibility import may_act_on
from adit.jobs.wakeup import wake_workers_on_commit
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

Text = str | Promise

MAX_REASON_LENGTH = 200


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """One user, and the job or task that an action is about. `task` is None for job actions."""

    user: User
    job: Job
    task: Task | None = None
    reason: str = ""


Execute = Callable[[ActionRequest], Mapping[str, Any] | None]
Rule = Callable[[ActionRequest], Message | None]
"""Returns why the user may not perform the action, or None."""


def owner_or_staff(request: ActionRequest) -> Message | None:
    """Allow the owner, and staff with the permission to see all jobs."""
    if may_act_on(request.user, request.job):
        return None
    return Message("job.not-yours")


def no_condition(request: ActionRequest) -> Message | None:
    return None


def explain_state(request: ActionRequest) -> Message | None:
    """Return the message that the current state does not allow the action."""
    if request.task is None:
        return Message("job.wrong-state", state=request.job.state_text)
    return Message("task.wrong-state", state=request.task.state_text)


@dataclass(frozen=True, slots=True)
class ReasonPrompt:
    """How a page asks for the reason of an action. `missing` is the error without one."""

    label: Text
    missing: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action. Actions with `task_states` apply to tasks, all others to jobs."""

    name: str
    label: Text
    order: int
    """The position among the buttons."""
    execute: Execute
    """Act on the locked job in a transaction; the result is added to the audit event."""
    event: str
    """The action in the audit trail."""
    event_label: Text
    success_message: Text
    job_states: frozenset[JobState]
    task_states: frozenset[TaskState] | None = None
    done: frozenset[str] = frozenset()
    """States, of the task or else of the job, in which repeating the action is no error."""
    who: Rule = owner_or_staff
    right: Right | None = None
    """A permission that the user needs in addition."""
    condition: Rule = no_condition
    explain_state: Rule = explain_state
    """Why the current state does not allow the action."""
    reason_prompt: ReasonPrompt | None = None
    is_for_archived: bool = False
    """The action applies to archived jobs, on which all others are refused."""
    needs_password: bool = False
    """A job to a 7-Zip destination needs a new password first."""
    confirmation: Text = ""
    """The question to ask before; none if empty."""
    search_label: Text = ""
    """The label for a task that only searches, if it differs."""
    search_confirmation: Text = ""
    url_name: str = ""
    """The name of the URL of an action on jobs, if it has one of its own."""
    has_page: bool = False
    """That URL is a page which asks for confirmation: the button is a link to it."""
    tone: str = ""
    """primary or danger; empty for a plain button."""
    icon: str = ""
    help: Text = ""
    """What the action does, for the help page."""

    @property
    def is_for_tasks(self) -> bool:
        return self.task_states is not None

    @property
    def needs_reason(self) -> bool:
        return self.reason_prompt is not None

    def explain_refusal(self, request: ActionRequest) -> Message | None:
        """Return why the user may not perform the action now, or None."""
        why = self.who(request)
        if why is None and self.right is not None and not has_right(request.user, self.right):
            why = explain_missing_right(self.right)
        if why is None and request.job.archived_at is not None and not self.is_for_archived:
            why = Message("job.archived")
        if why is None and request.task is not None and request.task.recalled_at is not None:
            why = Message("recall.study-recalled")
        if why is None and not self._fits_states(request):
            why = self.explain_state(request)
        return why or self.condition(request)

    def is_done(self, request: ActionRequest) -> bool:
        """Return whether the state is already the one to which the action leads."""
        state = request.job.state if request.task is None else request.task.state
        return state in self.done and may_act_on(request.user, request.job)

    def _fits_states(self, request: ActionRequest) -> bool:
        fits = request.job.state in self.job_states
        if self.task_states is None or request.task is None:
            return fits
        return fits and request.task.state in self.task_states


_JOB_ACTIONS: dict[str, Action] = {}
_TASK_ACTIONS: dict[str, Action] = {}


def register(*actions: Action) -> None:
    """Add actions to the table. Raises ValueError if a name is taken."""
    for action in actions:
        table = _TASK_ACTIONS if action.is_for_tasks else _JOB_ACTIONS
        if table.get(action.name, action) is not action:
            raise ValueError(f"The action {action.name} is registered twice.")
        table[action.name] = action


def job_actions() -> dict[str, Action]:
    """Return the actions on jobs by name, in the order of the buttons."""
    return dict(sorted(_JOB_ACTIONS.items(), key=lambda item: item[1].order))


def task_actions() -> dict[str, Action]:
    """Return the actions on tasks by name, in the order of the buttons."""
    return dict(sorted(_TASK_ACTIONS.items(), key=lambda item: item[1].order))


def get(target: Job | Task, name: str) -> Action:
    """Return the action with this name on a job or on a task. Raises KeyError."""
    return (_TASK_ACTIONS if isinstance(target, Task) else _JOB_ACTIONS)[name]


def find_event_label(event: str) -> str:
    """Return the label of an audit event that an action records; empty if there is none."""
    both = (*_JOB_ACTIONS.values(), *_TASK_ACTIONS.values())
    return next((str(action.event_label) for action in both if action.event == event), "")


def allowed(user: User, target: Job | Task) -> dict[str, Action]:
    """Return what the user may do with a job or a task now, in the order of the buttons."""
    request, table = _make_request(user, target)
    return {name: each for name, each in table.items() if not each.explain_refusal(request)}


def perform(
    user: User,
    target: Job | Task,
    name: str,
    reason: str = "",
    *,
    on_behalf_of: User | None = None,
) -> None:
    """Check permission and state, lock, execute, record, wake up workers.

    `on_behalf_of` is whose permissions count, if not the user's; the caller has checked that the
    user may act for this person. An action whose result is already there is no error. Raises
    NotPermitted, InvalidInput.
    """
    action = get(target, name)
    with transaction.atomic():
        request = _lock(on_behalf_of or user, target, reason)
        if request is None:
            return
        why = action.explain_refusal(request)
        if why:
            if action.is_done(request):
                return
            raise NotPermitted(why.code, **why.values)
        if action.reason_prompt is not None and not reason:
            missing = action.reason_prompt.missing
            raise InvalidInput(missing.code, **missing.values)
        about = f"job:{request.job.pk}"
        details: dict[str, Any] = {"reason": reason} if action.needs_reason else {}
        if request.task is not None:
            details["task"] = request.task.position
        details |= action.execute(request) or {}
        trail.record(action.event, user=user, about=about, details=details)
        wake_workers_on_commit()
    with suppress(ObjectDoesNotExist):
        target.refresh_from_db()


def _make_request(user: User, target: Job | Task) -> tuple[ActionRequest, dict[str, Action]]:
    if isinstance(target, Task):
        return ActionRequest(user, target.job, target), task_actions()
    return ActionRequest(user, target), job_actions()


def _lock(user: User, target: Job | Task, reason: str) -> ActionRequest | None:
    """Lock the job and read the task anew; None if one of them is gone."""
    task = None
    pk = target.pk
    if isinstance(target, Task):
        pk = target.job_id
    job = Job.objects.select_for_update(of=("self",), no_key=True).filter(pk=pk).first()
    if job is None:
        return None
    if isinstance(target, Task):
        task = Task.objects.filter(pk=target.pk).first()
        if task is None:
            return None
    return ActionRequest(user, job, task, reason)
