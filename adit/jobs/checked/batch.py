"""Batch: a sheet that was checked is started, by its owner or by itself, and goes on after a pilot."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from adit.accounts.models import User
from adit.accounts.rights import Refused
from adit.jobs import sealed, states
from adit.jobs.kinds.base import Note, TaskPlan
from adit.jobs.lists import may_act_on
from adit.jobs.models import Job, JobState, ResultLine, Stage, Task, TaskState, Work
from adit.jobs.queueing import roads
from adit.jobs.queueing.bell import ring_on_commit
from adit.nodes.models import Lane
from adit.profiles import trials
from adit_engine.errors import AditError

FIRST = 0
"""The position of the start, before all that has a number on pages."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the owner says at the start. `choices`: which of its studies a row means, from 0."""

    choices: Mapping[int, int] = field(default_factory=dict)
    left_out: Collection[int] = ()
    pilot: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "choices": {str(line): which for line, which in self.choices.items()},
            "left_out": sorted(self.left_out),
            "pilot": self.pilot,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Wishes":
        choices = {int(line): which for line, which in data["choices"].items()}
        return cls(choices, frozenset(data["left_out"]), data["pilot"])


def start(user: User, job: Job, wishes: Wishes) -> None:
    """Has a worker start it, or go on after a pilot. Asking twice changes nothing. Raises Refused.

    What keeps it from being started is said once the worker has seen it: then it waits for its
    owner again, as if nothing had been.
    """
    with transaction.atomic():
        locked = states.locked(job.pk)
        if not may_act_on(user, locked):
            raise Refused(_("This is not your job: ask its owner, or staff."))
        if locked.state != JobState.WAITING_FOR_OWNER:
            if locked.stage == Stage.CHECK and not _is_on_its_way(locked):
                raise Refused(_("The check is not done yet."))
            return
        _lay(locked, {"by": user.pk, **wishes.to_json()})
        ring_on_commit()
    job.refresh_from_db()


def start_by_themselves() -> int:
    """Starts what was ticked to start where each row has exactly one hit; how many jobs."""
    waiting = Job.objects.filter(
        state=JobState.WAITING_FOR_OWNER, stage=Stage.CHECK, order__starts_itself=True
    )
    return sum(_starts_itself(job) for job in waiting.select_related("owner"))


def is_plain(row: ResultLine) -> bool:
    """Whether the row means exactly one study, for certain."""
    return row.is_found and set(row.notes) <= {Note.DELIVERED}


def last_wishes(job: Job) -> Wishes | None:
    """Of a start that came to nothing, so that nobody has to type them again. Raises SealBroken."""
    task = Task.objects.filter(job=job, work=Work.START, state=TaskState.FAILURE).first()
    return None if task is None else Wishes.from_json(sealed.open_task(task).payload)


def _is_on_its_way(job: Job) -> bool:
    live = Task.objects.filter(job=job, work=Work.START, state__in=states.LIVE_TASKS)
    return live.exists()


def _lay(job: Job, payload: Mapping[str, Any]) -> None:
    """One start a job: the next one, after a pilot or a refusal, is the same task again."""
    plan = TaskPlan(source=0, payload=payload, title=_("Start"), searches=True)
    trial = job.trial or trials.default_trial()
    content = sealed.seal_task(trial, job, FIRST, plan, "")
    there = Task.objects.filter(job=job, work=Work.START)
    if there.update(payload=content):
        states.move_tasks(job, there, TaskState.PENDING, **states.AFRESH)
        return
    Task.objects.create(job=job, position=FIRST, work=Work.START, lane=Lane.SEARCH, payload=content)
    roads.assign_groups(job)
    states.derive(job)


def _starts_itself(job: Job) -> bool:
    """Asks once: whatever comes of it, from then on it waits for its owner."""
    odd = sum(not is_plain(row) for row in job.lines.only("is_found", "notes"))
    why = ""
    if odd:
        why = ngettext(
            "It did not start by itself: %(n)d row wants to be looked at.",
            "It did not start by itself: %(n)d rows want to be looked at.",
            odd,
        ) % {"n": odd}
    order = {**job.order, "starts_itself": False}
    with transaction.atomic():
        waiting = Job.objects.filter(pk=job.pk, state=JobState.WAITING_FOR_OWNER)
        if not why:
            try:
                waiting.update(order=order)
                start(job.owner, job, Wishes(pilot=job.order["pilot"]))
            except AditError as error:
                why = _("It did not start by itself. %(why)s") % {"why": error}
        if why:
            waiting.update(order=order, message=why)
    return not why
