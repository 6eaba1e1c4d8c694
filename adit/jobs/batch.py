"""Batch: from the checked rows of a sheet to its transfer: start, pilot, continue."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.rights import Refused
from adit.audit import trail
from adit.jobs import appraisal, archives, lines, roads, sealed, states
from adit.jobs.bell import ring_on_commit
from adit.jobs.kinds.base import Note, TaskPlan
from adit.jobs.kinds.batch_transfer import Ready, transfers
from adit.jobs.lines import Content
from adit.jobs.lists import may_act_on
from adit.jobs.models import Job, JobState, ResultLine, Stage, Task
from adit.jobs.ordering import AS_IS, needs_approval
from adit.nodes import access
from adit.nodes.models import Lane, Node
from adit.profiles import mapping, trials
from adit_engine.errors import AditError, WrongInput

Names = dict[tuple[str, str], str]
"""Pseudonyms by patient ID and given pseudonym."""


class Unfit(WrongInput):
    """Rows that cannot be started as they are, each with the sentence why."""

    def __init__(self, by_line: Mapping[int, str]) -> None:
        self.by_line = dict(by_line)
        said = [_("Line %(line)d: %(why)s") % {"line": k, "why": v} for k, v in by_line.items()]
        more = len(said) - 5
        rest = [_("And %(n)d more.") % {"n": more}] if more > 0 else []
        super().__init__(" ".join([*said[:5], *rest]))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the owner says at the start. `choices`: which of its studies a row means, from 0."""

    choices: Mapping[int, int] = field(default_factory=dict)
    left_out: Collection[int] = ()
    pilot: int = 0


@dataclass
class _Line:
    row: ResultLine
    content: Content


def start(user: User, job: Job, wishes: Wishes) -> None:
    """Makes the tasks of the transfer; goes on after a pilot. Asking twice changes nothing.

    Raises Refused, Unfit, WrongInput when no row is left to start.
    """
    names = _registered(user, job, wishes)
    with transaction.atomic():
        locked = Job.objects.select_for_update(of=("self",), no_key=True).get(pk=job.pk)
        if not may_act_on(user, locked):
            raise Refused(_("This is not your job: ask its owner, or staff."))
        if locked.state != JobState.WAITING_FOR_OWNER:
            if locked.stage == Stage.CHECK:
                raise Refused(_("The check is not done yet."))
            return
        was = locked.stage
        count = _started(locked, wishes, names)
        action = "job.started" if was == Stage.CHECK else "job.continued"
        trail.record(
            action,
            user=user,
            about=f"job:{locked.pk}",
            details={"tasks": count, "pilot": locked.stage == Stage.PILOT},
        )
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


def _starts_itself(job: Job) -> bool:
    odd = sum(not is_plain(row) for row in job.lines.only("is_found", "notes"))
    why = ""
    if odd:
        why = _("It did not start by itself: %(n)d rows want to be looked at.") % {"n": odd}
    else:
        try:
            start(job.owner, job, Wishes(pilot=job.order["pilot"]))
        except AditError as error:
            why = _("It did not start by itself. %(why)s") % {"why": error}
    if why:
        order = {**job.order, "starts_itself": False}
        Job.objects.filter(pk=job.pk, state=JobState.WAITING_FOR_OWNER).update(
            order=order, message=why
        )
    return not why


def _registered(user: User, job: Job, wishes: Wishes) -> Names:
    """Fixes the pseudonyms one by one, so that the start itself holds no lock for long.

    What is refused is left to the start, which says so with its lines.
    """
    row = Job.objects.get(pk=job.pk)
    source = Node.objects.filter(pk=row.order.get("source")).first()
    names: Names = {}
    if source is None or row.state != JobState.WAITING_FOR_OWNER or not may_act_on(user, row):
        return names
    ready = [one for line in _open_lines(row) if (one := _ready(row, line, source, wishes))]
    for plan in transfers(_now(row, ready, wishes)):
        key = (plan.patient_id, plan.pseudonym)
        if key not in names:
            with suppress(AditError):
                names[key] = _pseudonym(row, source, plan)
    return names


def _started(job: Job, wishes: Wishes, names: Names) -> int:
    open_lines = _open_lines(job)
    source = Node.objects.filter(pk=job.order["source"]).first()
    if source is None or not access.may_read(job.owner, source):
        raise Refused(_("You may not fetch from this PACS or folder any more: choose another."))
    if job.destination is None or not access.may_write(job.owner, job.destination):
        raise Refused(_("You may not send to this PACS or folder any more: choose another."))
    ready = [one for line in open_lines if (one := _ready(job, line, source, wishes))]
    now = _now(job, ready, wishes)
    _keep(job, open_lines)
    if not ready and job.stage == Stage.CHECK:
        raise WrongInput(
            _("No row is left to be started: none of them names one study for certain.")
        )
    tasks = _made(job, source, transfers(now), names)
    waits = job.stage == Stage.CHECK and needs_approval(job.owner, len(ready), job.kind, job.trial)
    job.stage = Stage.PILOT if len(now) < len(ready) else Stage.WHOLE
    facts = [line.row.facts for line in open_lines]
    known = set(job.order["announced"]) | set(appraisal.announced(facts))
    job.order = {**job.order, "announced": sorted(known), "starts_itself": False}
    job.save(update_fields=["stage", "order"])
    archives.lay_packing(job)
    roads.lay(job)
    if waits and job.approved_by_id is None:
        states.move(job, JobState.WAITING_FOR_APPROVAL)
    else:
        states.derive(job)
    return len(tasks)


def _open_lines(job: Job) -> list[_Line]:
    """Those that were found and not started yet."""
    box = sealed.box_of(job.trial)
    rows = job.lines.filter(task__lane=Lane.SEARCH, is_found=True).order_by("line")
    return [_Line(row, lines.opened(box, row)) for row in rows if Note.LEFT_OUT not in row.notes]


def _ready(job: Job, line: _Line, source: Node, wishes: Wishes) -> Ready | None:
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
    return Ready(
        row.line,
        source.pk,
        study.record,
        tuple(one.record.series_uid for one in picked),
        "" if job.order["change"] == AS_IS else content.pseudonym,
    )


def _now(job: Job, ready: Sequence[Ready], wishes: Wishes) -> Sequence[Ready]:
    """The rows of the pilot's studies, or all."""
    studies = list(dict.fromkeys(one.study.study_uid for one in ready))
    if job.stage != Stage.CHECK or not 0 < wishes.pilot < len(studies):
        return ready
    first = set(studies[: wishes.pilot])
    return [one for one in ready if one.study.study_uid in first]


def _keep(job: Job, open_lines: Sequence[_Line]) -> None:
    box = sealed.box_of(job.trial)
    for line in open_lines:
        line.row.sealed = lines.seal(box, job.pk, line.row.line, line.content)
    ResultLine.objects.bulk_update(
        [line.row for line in open_lines], ["sealed", "notes", "facts"], batch_size=200
    )


def _made(job: Job, source: Node, plans: Sequence[TaskPlan], names: Names) -> list[Task]:
    """Saved tasks; their lines go over to them. Raises Unfit."""
    last = job.tasks.aggregate(last=Max("position"))["last"] or 0
    trial = job.trial or trials.default_trial()
    troubles: dict[int, str] = {}
    tasks: list[Task] = []
    for position, plan in enumerate(plans, start=last + 1):
        try:
            known = names.get((plan.patient_id, plan.pseudonym))
            pseudonym = known or _pseudonym(job, source, plan)
        except AditError as error:
            troubles |= {row.line: str(error) for row in plan.rows}
            continue
        payload = sealed.seal_task(trial, job, position, plan, pseudonym)
        tasks.append(Task(job=job, position=position, source=source, payload=payload))
    if troubles:
        raise Unfit(troubles)
    tasks = Task.objects.bulk_create(tasks)
    roads.lay(job)
    for task, plan in zip(tasks, plans, strict=True):
        job.lines.filter(line__in=[row.line for row in plan.rows]).update(task=task)
    return tasks


def _pseudonym(job: Job, source: Node, plan: TaskPlan) -> str:
    """Fixed in the trial's registry before the first byte leaves. Raises Refused, WrongInput."""
    if job.order["change"] == AS_IS:
        return ""
    with transaction.atomic():
        return mapping.change_for(
            job.owner,
            job.trial,
            source,
            job.destination,
            plan.patient_id,
            pseudonym=plan.pseudonym,
        ).pseudonym
