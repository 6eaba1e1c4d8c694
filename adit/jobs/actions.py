"""Actions: what people do with jobs, a function each; pages and API call the same ones."""

from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.rights import Refused, Right, may, require
from adit.audit import trail
from adit.jobs import archives, letters, lines, roads, rules, sealed, states
from adit.jobs.bell import ring_on_commit
from adit.jobs.kinds import KINDS
from adit.jobs.lists import may_act_on, may_see
from adit.jobs.models import Item, Job, JobState, Road, Stage, Task, TaskState
from adit.jobs.ordering import Ordered, needs_approval, prepared, size_of
from adit.nodes.models import Lane
from adit_engine.errors import WrongInput

T, J = TaskState, JobState
_GAPS = (T.FAILURE, T.WARNING, T.CANCELED)
_UNSTARTED = frozenset({J.WAITING_FOR_APPROVAL, J.WAITING_FOR_OWNER})
_CANCELABLE = frozenset({*_UNSTARTED, J.PENDING, J.IN_PROGRESS})


def create(
    user: User,
    kind: str,
    order: Any,
    *,
    key: str,
    mail: bool = False,
    archive_password: str = "",
    **wishes: Any,
) -> Job:
    """A job and its tasks. The same key of the same person gives the same job again.

    `mail`: tell its owner when it has ended. `archive_password`: that of an archive as destination,
    and else nothing. `wishes`: title, urgent. Raises Refused, WrongInput.
    """
    there = Job.objects.filter(owner=user, idempotency_key=key).first()
    if there is not None:
        return there
    ordered = prepared(user, kind, order, **wishes)
    ordered.job.mail_at_end = mail
    if archives.is_archive(ordered.job.destination):
        ordered.job.archive_password = archives.checked(archive_password)
    try:
        with transaction.atomic():
            return _made(user, ordered, key)
    except IntegrityError:
        there = Job.objects.filter(owner=user, idempotency_key=key).first()
        if there is None:
            raise
        return there


def approve(user: User, job: Job) -> None:
    """Lets a job start that is larger than one may order alone; never one's own."""

    def act(locked: Job) -> None:
        states.move(locked, J.PENDING, approved_by=user)
        letters.note_judged(locked, approved=True)

    _act(user, job, "approve", act)


def give_back(user: User, job: Job, reason: str) -> None:
    """Returns an order to its owner unstarted, with a reason."""

    def act(locked: Job) -> None:
        states.move_tasks(locked, locked.tasks.all(), T.CANCELED)
        states.move(locked, J.CANCELED, _("Not approved: %s") % reason)
        letters.note_judged(locked, approved=False)

    _act(user, job, "return", act, reason=reason)


def cancel(user: User, job: Job) -> None:
    """Ends what runs within 10 s, between instances; nothing new starts."""

    def act(locked: Job) -> None:
        waiting = locked.tasks.filter(state=T.PENDING)
        if locked.state in _UNSTARTED:
            states.move_tasks(locked, waiting, T.CANCELED)
            states.move(locked, J.CANCELED, _("Canceled before it was started."))
            return
        states.move(locked, J.CANCELING)
        states.move_tasks(locked, waiting, T.CANCELED)

    _act(user, job, "cancel", act)


def resume(user: User, job: Job) -> None:
    """Goes on with a canceled job; what was delivered stays delivered."""

    def act(locked: Job) -> None:
        if locked.approved_by_id is None and _is_large(locked):
            states.move(locked, J.WAITING_FOR_APPROVAL)
        states.move_tasks(locked, locked.tasks.filter(state=T.CANCELED), T.PENDING, **_FRESH)

    _act(user, job, "resume", act)


def retry_failed(user: User, job: Job) -> None:
    """Tries again what failed or has gaps, and only what is missing: the ledger stays."""

    def act(locked: Job) -> None:
        gaps = _workable(locked).filter(state__in=_GAPS)
        states.move_tasks(locked, gaps, T.PENDING, **_FRESH)

    _act(user, job, "retry", act)


def retry_withheld(user: User, job: Job) -> None:
    """Tries again what was withheld, under rules that came since; what was delivered stays."""

    def act(locked: Job) -> None:
        tasks = locked.tasks.filter(pk__in=rules.reopened(locked))
        states.move_tasks(locked, tasks, T.PENDING, **_FRESH)

    now = rules.now_of(Job.objects.filter(pk=job.pk).first() or job)
    _act(user, job, "retry_withheld", act, profile=now.profile, generation=now.generation)


def restart(user: User, job: Job) -> None:
    """From nothing: the ledger is emptied, and all is fetched and stored again."""

    def act(locked: Job) -> None:
        archives.forget(locked)
        Item.objects.filter(task__job=locked).delete()
        Task.objects.filter(job=locked).update(rules=[])
        states.move_tasks(locked, _workable(locked).exclude(state=T.PENDING), T.PENDING, **_FRESH)

    _act(user, job, "restart", act)


def make_urgent(user: User, job: Job) -> None:
    """Skips the allowed hours from now on, never the limit of connections.

    What was approved was another order: it has to be approved again.
    """

    def act(locked: Job) -> None:
        _void_approval(locked)
        Job.objects.filter(pk=locked.pk).update(urgent=True)
        Road.objects.filter(job=locked).update(waits_for="")

    _act(user, job, "urgent", act)


def delete(user: User, job: Job) -> None:
    """Forgets the job, its tasks and its ledger; the trail remembers that it was."""

    def act(locked: Job) -> None:
        archives.forget(locked)
        locked.delete()

    _act(user, job, "delete", act)


def retry_task(user: User, task: Task) -> None:
    """Tries one study again, and only what is missing of it."""

    def act(locked: Job) -> None:
        states.move_tasks(locked, locked.tasks.filter(pk=task.pk), T.PENDING, **_FRESH)

    _act_on_task(user, task, "retry", act)


def stop_task(user: User, task: Task) -> None:
    """Ends one study's transfer between instances; the worker sees it within seconds."""

    def act(locked: Job) -> None:
        row = locked.tasks.get(pk=task.pk)
        if row.state == T.PENDING:
            states.move_tasks(locked, locked.tasks.filter(pk=task.pk), T.CANCELED)
        else:
            Task.objects.filter(pk=task.pk).update(stop_asked=True)

    _act_on_task(user, task, "stop", act)


def reset_task(user: User, task: Task) -> None:
    """One study from nothing: its ledger is emptied, and all of it is fetched and stored again."""

    def act(locked: Job) -> None:
        Item.objects.filter(task=task.pk).delete()
        row = locked.tasks.filter(pk=task.pk)
        row.update(rules=[])
        states.move_tasks(locked, row, T.PENDING, **_FRESH)

    _act_on_task(user, task, "reset", act)


def delete_task(user: User, task: Task) -> None:
    """Takes one study out of the order; the trail remembers that it was there."""

    def act(locked: Job) -> None:
        locked.tasks.filter(pk=task.pk).delete()
        _void_approval(locked)
        states.derive(locked)

    _act_on_task(user, task, "delete", act)


def want_mail(user: User, job: Job) -> None:
    """The owner is told by mail when the job has ended."""

    def act(locked: Job) -> None:
        Job.objects.filter(pk=locked.pk).update(mail_at_end=True)

    _act(user, job, "mail", act)


def want_no_mail(user: User, job: Job) -> None:
    """The owner is not told by mail after all."""

    def act(locked: Job) -> None:
        Job.objects.filter(pk=locked.pk).update(mail_at_end=False)

    _act(user, job, "no_mail", act)


ACTIONS: Mapping[str, Callable[[User, Job], None]] = {
    "approve": approve,
    "cancel": cancel,
    "resume": resume,
    "retry": retry_failed,
    "retry_withheld": retry_withheld,
    "restart": restart,
    "urgent": make_urgent,
    "mail": want_mail,
    "no_mail": want_no_mail,
    "delete": delete,
}
"""Those that need nothing but the job, by the words that `allowed` speaks."""


def allowed(user: User, job: Job) -> frozenset[str]:
    """The actions that this person may do now: for buttons, and asked again by each action."""
    state = J(job.state)
    names = {name for name, rule in _RULES.items() if rule(user, job, state)}
    return frozenset(names if may_see(user, job) else ())


TASK_ACTIONS: Mapping[str, Callable[[User, Task], None]] = {
    "retry": retry_task,
    "stop": stop_task,
    "reset": reset_task,
    "delete": delete_task,
}


def allowed_on_task(user: User, task: Task) -> frozenset[str]:
    """What this person may do with one task now."""
    job, state = task.job, T(task.state)
    if not may_act_on(user, job) or job.state == J.CANCELING:
        return frozenset()
    names = set()
    is_waiting = job.state == J.WAITING_FOR_APPROVAL
    if state in states.LIVE_TASKS and not is_waiting:
        names.add("stop")
    if state in _GAPS and not is_waiting:
        names.add("retry")
    if state not in states.LIVE_TASKS and not is_waiting and user.is_staff:
        names.add("reset")
    is_running = job.state == J.IN_PROGRESS or state == T.IN_PROGRESS
    if not is_running and _studies(job).exclude(pk=task.pk).exists():
        names.add("delete")
    return frozenset(names)


_FRESH: Mapping[str, Any] = {
    "failures": 0,
    "not_before": None,
    "message": "",
    "stop_asked": False,
    "broke_rule": False,
    "ended_at": None,
}

_RULES: Mapping[str, Callable[[User, Job, JobState], bool]] = {
    "approve": lambda user, job, state: _may_judge(user, job, state),
    "return": lambda user, job, state: _may_judge(user, job, state),
    "cancel": lambda user, job, state: state in _CANCELABLE and may_act_on(user, job),
    "resume": lambda user, job, state: state == J.CANCELED and may_act_on(user, job),
    "retry": lambda user, job, state: (
        state in (J.WARNING, J.FAILURE, J.WAITING_FOR_OWNER)
        and may_act_on(user, job)
        and _has_gaps(job)
    ),
    "retry_withheld": lambda user, job, state: (
        state in (J.SUCCESS, J.WARNING, J.FAILURE)
        and may_act_on(user, job)
        and bool(rules.reopened(job))
    ),
    "restart": lambda user, job, state: (
        state in states.ENDED_JOBS and user.is_staff and may_act_on(user, job)
    ),
    "urgent": lambda user, job, state: (
        state in _CANCELABLE
        and not job.urgent
        and may(user, Right.BE_URGENT)
        and may(job.owner, Right.BE_URGENT)  # asked again when its nodes are opened
        and may_act_on(user, job)
        and not (job.approved_by_id and state == J.IN_PROGRESS)  # it would void the approval
    ),
    "mail": lambda user, job, state: _may_be_told(user, job, state) and not job.mail_at_end,
    "no_mail": lambda user, job, state: _may_be_told(user, job, state) and job.mail_at_end,
    "delete": lambda user, job, state: (
        state in states.ENDED_JOBS | _UNSTARTED and may_act_on(user, job)
    ),
}

_DONE: Mapping[str, frozenset[JobState]] = {
    "approve": frozenset({J.PENDING, J.IN_PROGRESS}),
    "return": frozenset({J.CANCELED}),
    "cancel": frozenset({J.CANCELING, J.CANCELED}),
    "resume": frozenset({J.PENDING, J.IN_PROGRESS, *_UNSTARTED}),
    "retry": frozenset({J.PENDING, J.IN_PROGRESS}),
    "retry_withheld": frozenset({J.PENDING, J.IN_PROGRESS}),
    "restart": frozenset({J.PENDING, J.IN_PROGRESS}),
    "urgent": frozenset(),
    "mail": frozenset(J),
    "no_mail": frozenset(J),
    "delete": frozenset(),
}
"""Where a job stands once the action was done: asking again changes nothing and is no error."""


def _made(user: User, ordered: Ordered, key: str) -> Job:
    job = ordered.job
    job.idempotency_key = key
    job.save()
    tasks = Task.objects.bulk_create(ordered.tasks(job))
    archives.lay_packing(job)
    roads.lay(job)
    by_position = {task.position: task for task in tasks}
    asked = ((by_position[position], rows) for position, rows in ordered.rows if rows)
    lines.make(sealed.box_of(job.trial), job, asked)
    trail.record(
        "job.created",
        user=user,
        about=f"job:{job.pk}",
        details={"kind": job.kind, "tasks": ordered.size, **ordered.facts},
    )
    if job.state == J.PENDING:
        ring_on_commit()
    elif job.state == J.WAITING_FOR_APPROVAL:
        letters.ask_approval(job)
    return job


def _void_approval(job: Job) -> None:
    """After a change: whoever approved has seen something else."""
    if job.approved_by_id is None:
        return
    if job.state == J.PENDING:
        states.move(job, J.WAITING_FOR_APPROVAL, approved_by=None)
    else:
        Job.objects.filter(pk=job.pk).update(approved_by=None)


def _act(user: User, job: Job, name: str, act: Callable[[Job], None], **details: Any) -> None:
    """Rights, lock, deed, trail, bell. What is done already is no error. Raises Refused."""
    with transaction.atomic():
        locked = Job.objects.select_for_update(of=("self",)).filter(pk=job.pk).first()
        if locked is None:
            return
        if name not in allowed(user, locked):
            if J(locked.state) in _DONE[name] and may_act_on(user, locked):
                return
            raise Refused(_refusal(user, locked, name))
        _require_password(locked, name)
        about = f"job:{locked.pk}"
        act(locked)
        _pack_again(locked, name)
        trail.record(f"job.{_PAST[name]}", user=user, about=about, details=details)
        ring_on_commit()
    if name != "delete":
        job.refresh_from_db()


def _act_on_task(user: User, task: Task, name: str, act: Callable[[Job], None]) -> None:
    with transaction.atomic():
        locked = Job.objects.select_for_update(of=("self",)).filter(pk=task.job_id).first()
        row = Task.objects.filter(pk=task.pk).select_related("job").first()
        if locked is None or row is None:
            return
        if name not in allowed_on_task(user, row):
            if _is_done(user, locked, row, name):
                return
            raise Refused(_task_refusal(user, locked, row, name))
        _require_password(locked, name)
        about, details = f"job:{locked.pk}", {"task": row.position}
        act(locked)
        _pack_again(locked, name)
        trail.record(f"task.{_PAST[name]}", user=user, about=about, details=details)
        ring_on_commit()
    if name != "delete":
        task.refresh_from_db()


def _is_done(user: User, job: Job, task: Task, name: str) -> bool:
    """Whether the task stands already where the action leads."""
    if not may_act_on(user, job):
        return False
    state = T(task.state)
    return (name == "stop" and state not in states.LIVE_TASKS) or (
        name in ("retry", "reset") and state in states.LIVE_TASKS
    )


def _task_refusal(user: User, job: Job, task: Task, name: str) -> str:
    if not may_act_on(user, job):
        return _("This is not your job: ask its owner, or staff.")
    if name == "reset" and not user.is_staff:
        return _("Only staff start a study from nothing. Retry fetches what is missing.")
    if name == "delete":
        if job.state == J.IN_PROGRESS or task.state == T.IN_PROGRESS:
            return _("The job is running: stop the study, or cancel the job first.")
        return _("It is the only study of this job: delete the job.")
    return _("The study is “%s” now: this cannot be done with it.") % task.get_state_display()


def _require_password(job: Job, name: str) -> None:
    """Raises WrongInput."""
    if archives.lacks_password(job, name):
        raise WrongInput(_("Give a new password for the 7-Zip file: the old one was not kept."))


def _pack_again(job: Job, name: str) -> None:
    """What is fetched anew goes into a file of its own."""
    if name in archives.ASKS_PASSWORD and archives.is_archive(job.destination):
        job.refresh_from_db()
        if archives.reopen(job):
            states.move_tasks(job, job.tasks.filter(is_packing=True), T.PENDING, **_FRESH)


_PAST: Mapping[str, str] = {
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


def _refusal(user: User, job: Job, name: str) -> str:
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
    return _("The job is “%s” now: this cannot be done with it.") % job.get_state_display()


def _may_judge(user: User, job: Job, state: JobState) -> bool:
    return (
        state is J.WAITING_FOR_APPROVAL
        and job.owner_id != user.pk
        and may(user, Right.APPROVE_JOBS)
    )


def _may_be_told(user: User, job: Job, state: JobState) -> bool:
    is_open = state not in states.ENDED_JOBS
    return settings.MAIL and is_open and job.owner_id == user.pk and bool(user.email)


def _has_gaps(job: Job) -> bool:
    return _workable(job).filter(state__in=_GAPS).exists()


def _workable(job: Job) -> QuerySet[Task]:
    """Without the tasks of a check that is over: what they found was started, or left."""
    begins_with = getattr(KINDS.get(job.kind), "stage", "")
    if begins_with != Stage.CHECK or job.stage == Stage.CHECK:
        return job.tasks.all()
    return job.tasks.exclude(lane=Lane.SEARCH)


def _is_large(job: Job) -> bool:
    return needs_approval(job.owner, size_of(job), job.kind, job.trial)


def _studies(job: Job) -> QuerySet[Task]:
    return job.tasks.exclude(lane=Lane.SEARCH).filter(is_packing=False)
