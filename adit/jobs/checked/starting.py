"""Starting: the task that makes the tasks of a transfer out of the checked rows of a sheet.

All that takes long comes first and changes nothing but the registry of pseudonyms; then one
transaction, under the task's fence, writes it all. Killed in between, it is as if nothing had been.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.rights import Refused
from adit.audit import trail
from adit.jobs import queue, sealed, states
from adit.jobs.checked import appraisal
from adit.jobs.checked.batch import Wishes
from adit.jobs.files import archives, quota
from adit.jobs.kinds.base import Note, TaskPlan
from adit.jobs.kinds.batch_transfer import Ready, transfers
from adit.jobs.lease import Lease
from adit.jobs.models import Job, JobState, ResultLine, Stage, Task, TaskState
from adit.jobs.ordering import needs_approval
from adit.jobs.queueing import roads
from adit.jobs.queueing.bell import ring_on_commit
from adit.jobs.rows import lines
from adit.jobs.rows.lines import Content
from adit.nodes import access
from adit.nodes.models import Lane, Node
from adit.profiles import mapping, trials
from adit.profiles.source import is_asked
from adit.vault.box import Box
from adit_engine.errors import AditError, WrongInput

Who = tuple[int, str, str]
"""A patient as a source speaks of them, and the pseudonym that was given."""

TELL_EVERY_S = 1.0
NAMES_AT_ONCE = 50
"""So few that nobody waits long for the registry, so many that the disk is waited for seldom."""
AT_ONCE = 500
"""So many rows go into one statement."""


class Unfit(WrongInput):
    """Rows that cannot be started as they are, each with the sentence why."""

    def __init__(self, by_line: Mapping[int, str]) -> None:
        self.by_line = dict(by_line)
        said = [_("Line %(line)d: %(why)s") % {"line": k, "why": v} for k, v in by_line.items()]
        more = len(said) - 5
        rest = [_("And %(n)d more.") % {"n": more}] if more > 0 else []
        super().__init__(" ".join([*said[:5], *rest]))


@dataclass
class _Line:
    row: ResultLine
    content: Content


@dataclass(frozen=True, slots=True)
class Made:
    """All that will be written, in memory."""

    by: int
    """Who asked for the start."""
    was: Stage
    stage: Stage
    waits_for_approval: bool
    announced: tuple[str, ...]
    lines: Sequence[_Line] = field(repr=False)
    tasks: Sequence[tuple[Task, TaskPlan]] = field(repr=False)

    def carry_out(self, task: Task) -> None:
        """Writes it down and ends the task. Raises states.Overtaken."""
        with transaction.atomic():
            job = states.locked(task.job_id)
            job.stage = self.stage
            known = {*job.order["announced"], *self.announced}
            job.order = {**job.order, "announced": sorted(known)}
            job.save(update_fields=["stage", "order"])
            _write(job, self)
            archives.lay_packing(job)
            roads.assign_groups(job)
            if self.waits_for_approval and job.approved_by_id is None:
                states.move(job, JobState.WAITING_FOR_APPROVAL)
            queue.finish(task, TaskState.SUCCESS, "")
            trail.record(
                "job.started" if self.was == Stage.CHECK else "job.continued",
                user=User.objects.filter(pk=self.by).first(),
                about=f"job:{job.pk}",
                details={"tasks": len(self.tasks), "pilot": self.stage == Stage.PILOT},
            )
            ring_on_commit()


def made(task: Task, lease: Lease) -> Made:
    """What a start comes to. Raises Refused, Unfit, WrongInput, Stopped, SealBroken."""
    return _Start(task, lease).made()


class _Start:
    """The work on one start: rows, then pseudonyms, then tasks; says how far it is."""

    def __init__(self, task: Task, lease: Lease) -> None:
        self._task, self._job, self._lease = task, task.job, lease
        self._trial = self._job.trial or trials.default_trial()
        self._box: Box = sealed.box_of(self._trial)
        self._told_at = time.monotonic()

    def made(self) -> Made:
        job = self._job
        payload = sealed.open_task(self._task, self._box).payload
        wishes = Wishes.from_json(payload)
        self._require_nodes()
        rows = self._open_lines()
        ready = self._ready_rows(rows, wishes)
        now = _now(job, ready, wishes)
        if not ready and job.stage == Stage.CHECK:
            raise WrongInput(
                _("No row is left to be started: none of them names one study for certain.")
            )
        self._require_room(rows, now)
        plans = transfers(now)
        tasks = self._tasks(plans, self._names(plans))
        waits = job.stage == Stage.CHECK and needs_approval(
            job.owner, len(ready), job.kind, job.trial
        )
        return Made(
            by=payload["by"],
            was=Stage(job.stage),
            stage=Stage.PILOT if len(now) < len(ready) else Stage.WHOLE,
            waits_for_approval=waits,
            announced=appraisal.announced(line.row.facts for line in rows),
            lines=rows,
            tasks=tasks,
        )

    def _require_nodes(self) -> None:
        job = self._job
        found = job.lines.filter(task__lane=Lane.SEARCH, is_found=True)
        used = set(found.order_by().values_list("task__source", flat=True).distinct())
        self._sources = Node.objects.in_bulk(used - {None})
        if None in used or any(
            not access.may_read(job.owner, node) for node in self._sources.values()
        ):
            raise Refused(_("You may not fetch from this PACS or folder any more: choose another."))
        if job.destination is None or not access.may_write(job.owner, job.destination):
            raise Refused(_("You may not send to this PACS or folder any more: choose another."))
        for node in self._sources.values():
            mapping.require_trial(job.owner, self._trial, node, job.destination)

    def _require_room(self, rows: Sequence[_Line], now: Sequence[Ready]) -> None:
        """Raises WrongInput."""
        assert self._job.destination is not None, "a transfer has a destination"
        of_line = {line.row.line: line.row.facts["bytes"] for line in rows if line.row.facts}
        sizes = {(one.study.study_uid, one.series_uids): of_line[one.line] for one in now}
        why = quota.why_no_room(self._job.destination, sum(sizes.values()))
        if why:
            raise WrongInput(why)

    def _open_lines(self) -> list[_Line]:
        """Those that were found and not started yet."""
        found = self._job.lines.filter(task__lane=Lane.SEARCH, is_found=True)
        rows = found.select_related("task").order_by("line")
        wanted = [row for row in rows if Note.LEFT_OUT not in row.notes]
        return [_Line(row, lines.opened(self._box, row)) for row in wanted]

    def _ready_rows(self, rows: Sequence[_Line], wishes: Wishes) -> list[Ready]:
        ready: list[Ready] = []
        for number, line in enumerate(rows, start=1):
            self._go_on(_("Looking at row %(n)d of %(all)d."), number, len(rows))
            one = _ready(self._job, line, wishes)
            if one is not None:
                ready.append(one)
            line.row.sealed = lines.seal(self._box, self._job.pk, line.row.line, line.content)
        return ready

    def _names(self, plans: Sequence[TaskPlan]) -> dict[Who, str]:
        """Pseudonyms, fixed in the registry. Raises Unfit."""
        wanted = list(dict.fromkeys(map(_who, plans)))
        if self._job.is_as_is:
            return dict.fromkeys(wanted, "")
        names: dict[Who, str] = {}
        refused: dict[Who, str] = {}
        for at in range(0, len(wanted), NAMES_AT_ONCE):
            self._go_on(_("Pseudonyms: patient %(n)d of %(all)d."), at + 1, len(wanted))
            # A trust centre is asked outside of any transaction.
            with nullcontext() if is_asked(self._trial) else transaction.atomic():
                for who in wanted[at : at + NAMES_AT_ONCE]:
                    try:
                        names[who] = self._name(*who)
                    except AditError as error:
                        refused[who] = str(error)
        if refused:
            bad = [plan for plan in plans if _who(plan) in refused]
            raise Unfit({row.line: refused[_who(plan)] for plan in bad for row in plan.rows})
        return names

    def _name(self, source: int, patient_id: str, given: str) -> str:
        return mapping.registered(
            self._job.owner, self._trial, self._sources[source], patient_id, pseudonym=given
        )

    def _tasks(
        self, plans: Sequence[TaskPlan], names: Mapping[Who, str]
    ) -> list[tuple[Task, TaskPlan]]:
        job = self._job
        last = job.tasks.aggregate(last=Max("position"))["last"] or 0
        found = []
        for position, plan in enumerate(plans, start=last + 1):
            self._go_on(_("Preparing study %(n)d of %(all)d."), position - last, len(plans))
            name = names[_who(plan)]
            payload = sealed.seal_task(self._trial, job, position, plan, name, box=self._box)
            source = self._sources[plan.source]
            found.append((Task(job=job, position=position, source=source, payload=payload), plan))
        return found

    def _go_on(self, text: str, number: int, of: int) -> None:
        """Raises Stopped."""
        self._lease.stop.check()
        self._lease.progress()
        if time.monotonic() - self._told_at > TELL_EVERY_S:
            self._told_at = time.monotonic()
            queue.set_progress_message(self._task, text % {"n": number, "all": of})


def _who(plan: TaskPlan) -> Who:
    return plan.source, plan.patient_id, plan.pseudonym


def _ready(job: Job, line: _Line, wishes: Wishes) -> Ready | None:
    """Notes on the line why it does not come along, and what was chosen."""
    row, content = line.row, line.content
    if row.line in wishes.left_out:
        row.notes = [*row.notes, Note.LEFT_OUT.value]
        return None
    chosen = wishes.choices.get(row.line, content.chosen)
    if chosen is None or not 0 <= chosen < len(content.studies):
        return None
    if chosen != content.chosen:
        line.content = content = replace(content, chosen=chosen)
    study = content.studies[chosen]
    row.facts = appraisal.facts_of(job, [study])
    parts = appraisal.coming(job, study)
    if parts.there and not parts.new:
        row.notes = sorted({*row.notes, Note.DELIVERED.value})
        return None
    picked = parts.new if parts.there or "SeriesInstanceUID" in content.asked else ()
    assert row.task.source_id is not None, "what was found was found somewhere"
    return Ready(
        row.line,
        row.task.source_id,
        study.record,
        tuple(one.record.series_uid for one in picked),
        "" if job.is_as_is else content.pseudonym,
    )


def _now(job: Job, ready: Sequence[Ready], wishes: Wishes) -> Sequence[Ready]:
    """The rows of the pilot's studies, or all."""
    studies = list(dict.fromkeys(one.study.study_uid for one in ready))
    if job.stage != Stage.CHECK or not 0 < wishes.pilot < len(studies):
        return ready
    first = set(studies[: wishes.pilot])
    return [one for one in ready if one.study.study_uid in first]


def _write(job: Job, made: Made) -> None:
    """New tasks, and the lines that go over to them."""
    Task.objects.bulk_create([task for task, _plan in made.tasks], batch_size=AT_ONCE)
    answers = {row.line: task for task, plan in made.tasks for row in plan.rows}
    rows: list[Any] = [line.row for line in made.lines]
    for row in rows:
        if row.line in answers:
            row.task = answers[row.line]
    ResultLine.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["task", "sealed", "notes", "facts"],
        batch_size=AT_ONCE,
    )
