"""Start a checked batch transfer, by its owner or automatically, and continue it after a pilot.

A start task, executed by the worker, creates the transfer tasks from the checked rows. All long
work comes first and changes only the registry of pseudonyms. Then one transaction, under the
fence of the task, writes everything: a process killed before leaves no partial start.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit import trail
from adit.blocklist import blocking
from adit.jobs import encrypted_payload, queue, states, task_groups
from adit.jobs.kinds.base import RowNote, TaskPlan
from adit.jobs.kinds.batch_transfer import ReadyRow, plan_transfers
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.lease import Lease
from adit.jobs.models import (
    START_POSITION,
    Job,
    JobStage,
    JobState,
    ResultLine,
    Task,
    TaskState,
    TaskType,
)
from adit.jobs.visibility import may_act_on
from adit.jobs.wakeup import wake_workers_on_commit
from adit.nodes import access
from adit.nodes.models import Lane, Node
from adit.orders import transfer_preview
from adit.orders.pseudonym_conflicts import (
    RowPatient,
    apply_conflict,
    find_conflicts,
    note_conflicts,
)
from adit.orders.service import needs_approval
from adit.projects import pseudonyms, services
from adit.projects.trust_centre import uses_trust_centre
from adit.results import archives, sheet_rows, storage_quota
from adit.results.check_summary import count_studies, sum_bytes
from adit.results.sheet_rows import RowContent
from adit.spreadsheets.row_verdicts import format_line_numbers
from adit.vault.cipher import ValueCipher
from adit_engine.errors import AditError, InvalidInput
from adit_engine.messages import Message, join_messages


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The options of a start.

    `choices`: by line, the index (from 0) of the study that the row means.
    """

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
    def from_json(cls, data: Mapping[str, Any]) -> "StartOptions":
        choices = {int(line): which for line, which in data["choices"].items()}
        return cls(choices, frozenset(data["left_out"]), data["pilot"])


def request_start(user: User, job: Job, options: StartOptions) -> None:
    """Request that a worker starts a job, or continues it after a pilot.

    Requesting twice changes nothing. If the worker finds that the job cannot start, the job waits
    for its owner again, unchanged, with the reason. Raises NotPermitted.
    """
    with transaction.atomic():
        locked = states.lock_job(job.pk)
        if not may_act_on(user, locked):
            raise NotPermitted("job.not-yours")
        if locked.state != JobState.WAITING_FOR_OWNER:
            if locked.stage == JobStage.CHECK and not _is_starting(locked):
                raise NotPermitted("start.check-not-finished")
            return
        _insert_start_task(locked, {"by": user.pk, **options.to_json()})
        wake_workers_on_commit()
    job.refresh_from_db()


def start_automatically() -> int:
    """Start jobs that are set to start automatically; return how many started.

    A job starts only if each row has exactly one match, or if it is to start without the others.
    """
    waiting = Job.objects.filter(
        state=JobState.WAITING_FOR_OWNER, stage=JobStage.CHECK, order__starts_itself=True
    )
    return sum(_start_automatically_or_wait(job) for job in waiting.select_related("owner"))


def has_single_study(row: ResultLine) -> bool:
    """Return whether the row matches exactly one study, without doubt."""
    return row.is_found and set(row.notes) <= {RowNote.DELIVERED}


def failed_start_options(job: Job) -> StartOptions | None:
    """Return the options of a failed start, to be shown again.

    Raises DecryptionError.
    """
    task = Task.objects.filter(job=job, type=TaskType.START, state=TaskState.FAILURE).first()
    return (
        None if task is None else StartOptions.from_json(encrypted_payload.open_task(task).payload)
    )


def _is_starting(job: Job) -> bool:
    live = Task.objects.filter(job=job, type=TaskType.START, state__in=states.LIVE_TASKS)
    return live.exists()


def _insert_start_task(job: Job, payload: Mapping[str, Any]) -> None:
    """Insert the start task, or reset it: a job has one, used again after a pilot or a refusal."""
    plan = TaskPlan(source=0, payload=payload, title=_("Start"), searches=True)
    project = job.project or services.default_project()
    content = encrypted_payload.seal_task(project, job, START_POSITION, plan, "")
    there = Task.objects.filter(job=job, type=TaskType.START)
    if there.update(payload=content):
        states.move_tasks(job, there, TaskState.PENDING, **states.RESET_FIELDS)
        return
    Task.objects.create(
        job=job, position=START_POSITION, type=TaskType.START, lane=Lane.SEARCH, payload=content
    )
    task_groups.assign_groups(job)
    states.update_job_state(job)


def _start_automatically_or_wait(job: Job) -> bool:
    """Try the automatic start once; from then on the job waits for its owner in any case."""
    with transaction.atomic():
        note_conflicts(states.lock_job(job.pk))
    odd = sum(
        not has_single_study(row) for row in job.lines.exclude(task=None).only("is_found", "notes")
    )
    starts = not odd or job.order.get("starts_with_gaps")
    why = None if starts else Message("start.rows-to-check", count=odd)
    order = {**job.order, "starts_itself": False}
    with transaction.atomic():
        waiting = Job.objects.filter(pk=job.pk, state=JobState.WAITING_FOR_OWNER)
        if why is None:
            try:
                waiting.update(order=order)
                request_start(job.owner, job, StartOptions(pilot=job.order["pilot"]))
            except AditError as error:
                why = Message("start.not-automatic", reason=error.message)
        if why is not None:
            waiting.update(order=order, message=why)
    return why is None


SourcePatient = tuple[int, str, str]
"""Source, patient ID at the source, and given pseudonym."""

PROGRESS_EVERY_S = 1.0
PSEUDONYMS_PER_TRANSACTION = 50
"""Few enough to lock the registry only briefly, many enough to save commits."""
INSERT_BATCH = 500
"""Rows per SQL statement."""
MAX_ROWS_NAMED = 5
"""Refused rows that a message names."""


class InvalidRows(InvalidInput):
    """Rows that cannot be started, each with the reason."""

    def __init__(self, by_line: Mapping[int, Message]) -> None:
        self.by_line = dict(by_line)
        rows = [
            Message("start.row-refused", line=line, reason=reason)
            for line, reason in by_line.items()
        ]
        shown, more = rows[:MAX_ROWS_NAMED], len(rows) - MAX_ROWS_NAMED
        if more > 0:
            shown.append(Message("start.more-rows-refused", count=more))
        super().__init__("start.rows-refused", rows=join_messages(shown))


@dataclass
class _OpenRow:
    row: ResultLine
    content: RowContent


@dataclass(frozen=True, slots=True)
class PreparedStart:
    """Everything that a start will write, in memory."""

    started_by: int
    """The primary key of the user who requested the start."""
    previous_stage: JobStage
    stage: JobStage
    waits_for_approval: bool
    announced: tuple[str, ...]
    totals: Mapping[str, Any]
    """The size of the whole order, for its approver; see service._totals()."""
    lines: Sequence[_OpenRow] = field(repr=False)
    tasks: Sequence[tuple[Task, TaskPlan]] = field(repr=False)

    def commit(self, task: Task) -> None:
        """Store the start and end the task. Raises StaleRow."""
        with transaction.atomic():
            job = states.lock_job(task.job_id)
            job.stage = self.stage
            known = {*job.order["announced"], *self.announced}
            job.order = {**job.order, "announced": sorted(known)}
            if self.previous_stage == JobStage.CHECK:
                job.order["totals"] = dict(self.totals)
            job.save(update_fields=["stage", "order"])
            _write_start(job, self)
            archives.insert_packing_task(job)
            task_groups.assign_groups(job)
            if self.waits_for_approval and job.approved_by_id is None:
                states.move_row(job, JobState.WAITING_FOR_APPROVAL)
            queue.finish(task, TaskState.SUCCESS, None)
            trail.record(
                "job.started" if self.previous_stage == JobStage.CHECK else "job.continued",
                user=User.objects.filter(pk=self.started_by).first(),
                about=f"job:{job.pk}",
                details={"tasks": len(self.tasks), "pilot": self.stage == JobStage.PILOT},
            )
            wake_workers_on_commit()


def prepare_start(task: Task, lease: Lease) -> PreparedStart:
    """Prepare a start. Apart from pseudonyms, nothing is written.

    Raises NotPermitted, InvalidRows, InvalidInput, Stopped, DecryptionError.
    """
    return _StartPreparation(task, lease).prepare()


class _StartPreparation:
    """Prepares one start: rows, then pseudonyms, then tasks; reports its progress."""

    def __init__(self, task: Task, lease: Lease) -> None:
        self._task, self._job, self._lease = task, task.job, lease
        self._project = self._job.project or services.default_project()
        self._cipher: ValueCipher = encrypted_payload.get_cipher(self._project)
        self._reported_at = time.monotonic()

    def prepare(self) -> PreparedStart:
        job = self._job
        payload = encrypted_payload.open_task(self._task, self._cipher).payload
        wishes = StartOptions.from_json(payload)
        self._require_nodes()
        rows = self._open_lines()
        ready = self._without_conflicts(rows, self._ready_rows(rows, wishes))
        now = _rows_to_start(job, ready, wishes)
        if not ready and job.stage == JobStage.CHECK:
            raise InvalidInput("start.no-row-left")
        _require_one_visit_per_study(ready)
        self._require_space(rows, now)
        plans = plan_transfers(now)
        names = self._assign_pseudonyms(plans, rows)
        tasks = self._tasks([plan for plan in plans if _get_patient_key(plan) in names], names)
        if not tasks and job.stage == JobStage.CHECK:
            raise InvalidInput("start.no-row-left")
        waits = job.stage == JobStage.CHECK and needs_approval(
            job.owner, count_studies(_facts_of(rows, ready)), job.kind, job.project
        )
        return PreparedStart(
            started_by=payload["by"],
            previous_stage=JobStage(job.stage),
            stage=JobStage.PILOT if len(now) < len(ready) else JobStage.WHOLE,
            waits_for_approval=waits,
            announced=transfer_preview.announced_codes(line.row.facts for line in rows),
            totals=_sum_totals(rows, ready),
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
            raise NotPermitted("order.source-not-permitted")
        if job.destination is None or not access.may_write(job.owner, job.destination):
            raise NotPermitted("order.destination-not-permitted")
        if self._project.is_default and services.needs_project(True, job.is_as_is):
            raise NotPermitted("order.project-required")
        for node in self._sources.values():
            pseudonyms.require_project(job.owner, self._project, node, job.destination)

    def _require_space(self, rows: Sequence[_OpenRow], now: Sequence[ReadyRow]) -> None:
        """Raise InvalidInput if the destination has too little space."""
        assert self._job.destination is not None, "a transfer has a destination"
        size = sum_bytes(_facts_of(rows, now))
        why = storage_quota.explain_no_space(self._job.destination, size)
        if why is not None:
            raise InvalidInput(why.code, **why.values)

    def _open_lines(self) -> list[_OpenRow]:
        """The rows that were found and not started yet."""
        found = self._job.lines.filter(task__lane=Lane.SEARCH, is_found=True)
        rows = found.select_related("task").order_by("line")
        wanted = [row for row in rows if RowNote.LEFT_OUT not in row.notes]
        return [_OpenRow(row, sheet_rows.open_row(self._cipher, row)) for row in wanted]

    def _ready_rows(self, rows: Sequence[_OpenRow], options: StartOptions) -> list[ReadyRow]:
        ready: list[ReadyRow] = []
        for number, line in enumerate(rows, start=1):
            self._report_progress("start.preparing-rows", number, len(rows))
            line.content = apply_conflict(line.row, line.content, None)
            one = _make_ready(self._job, line, options, self._cipher)
            if one is not None and not self._note_block(line, one):
                ready.append(one)
            self._seal(line)
        return ready

    def _note_block(self, line: _OpenRow, one: ReadyRow) -> bool:
        """Note a patient who was blocked since the check; return whether the patient is blocked."""
        domain = access.get_domain(self._sources[one.pick.source])
        study = one.pick.study
        why = blocking.explain_refusal(self._project, domain, study.patient_id, study.modalities)
        if why is None:
            if RowNote.BLOCKED in line.row.notes:  # the entry has ended
                line.row.notes, line.content = [], replace(line.content, reason=None)
            return False
        line.row.notes = [RowNote.BLOCKED.value]
        line.content = replace(line.content, reason=why)
        return True

    def _seal(self, line: _OpenRow) -> None:
        row = line.row
        row.sealed = sheet_rows.seal_row(self._cipher, self._job.pk, row.line, line.content)

    def _without_conflicts(
        self, rows: Sequence[_OpenRow], ready: Sequence[ReadyRow]
    ) -> list[ReadyRow]:
        """Return the rows whose pseudonyms are possible; note the conflicts of the others."""
        if self._job.is_as_is:
            return list(ready)
        patients = [
            RowPatient(
                one.line,
                self._sources[one.pick.source],
                one.pick.study.patient_id,
                one.pick.pseudonym,
            )
            for one in ready
        ]
        conflicts = find_conflicts(self._project, patients)
        self._note_conflicts(rows, conflicts)
        return [one for one in ready if one.line not in conflicts]

    def _note_conflicts(self, rows: Sequence[_OpenRow], conflicts: Mapping[int, Message]) -> None:
        for line in rows:
            if conflict := conflicts.get(line.row.line):
                line.content = apply_conflict(line.row, line.content, conflict)
                self._seal(line)

    def _assign_pseudonyms(
        self, plans: Sequence[TaskPlan], rows: Sequence[_OpenRow]
    ) -> dict[SourcePatient, str]:
        """Register the pseudonyms; rows with a conflict that arose meanwhile are noted.

        Raises InvalidRows.
        """
        # Given pseudonyms come first: no other may be generated for the same patient.
        wanted = sorted(dict.fromkeys(map(_get_patient_key, plans)), key=lambda who: not who[2])
        if self._job.is_as_is:
            return dict.fromkeys(wanted, "")
        names: dict[SourcePatient, str] = {}
        refused: dict[SourcePatient, Message] = {}
        conflicts: dict[SourcePatient, Message] = {}
        for at in range(0, len(wanted), PSEUDONYMS_PER_TRANSACTION):
            self._report_progress("start.registering-pseudonyms", at + 1, len(wanted))
            # A trust centre is queried outside of any transaction.
            with nullcontext() if uses_trust_centre(self._project) else transaction.atomic():
                for who in wanted[at : at + PSEUDONYMS_PER_TRANSACTION]:
                    try:
                        names[who] = self._assign_pseudonym(*who)
                    except pseudonyms.PseudonymConflict:
                        conflicts[who] = Message(
                            "row.pseudonym-changed", project=self._project.protocol_id
                        )
                    except AditError as error:
                        refused[who] = error.message
        if refused:
            raise InvalidRows(_reasons_by_line(plans, refused))
        self._note_conflicts(rows, _reasons_by_line(plans, conflicts))
        return names

    def _assign_pseudonym(self, source: int, patient_id: str, given: str) -> str:
        return pseudonyms.register_pseudonym(
            self._job.owner, self._project, self._sources[source], patient_id, pseudonym=given
        )

    def _tasks(
        self, plans: Sequence[TaskPlan], names: Mapping[SourcePatient, str]
    ) -> list[tuple[Task, TaskPlan]]:
        job = self._job
        last = job.tasks.aggregate(last=Max("position"))["last"] or 0
        found = []
        for position, plan in enumerate(plans, start=last + 1):
            self._report_progress("start.preparing-studies", position - last, len(plans))
            name = names[_get_patient_key(plan)]
            payload = encrypted_payload.seal_task(
                self._project, job, position, plan, name, cipher=self._cipher
            )
            source = self._sources[plan.source]
            found.append((Task(job=job, position=position, source=source, payload=payload), plan))
        return found

    def _report_progress(self, code: str, number: int, total: int) -> None:
        """Report progress. Raises Stopped."""
        self._lease.stop.check()
        self._lease.touch()
        if time.monotonic() - self._reported_at > PROGRESS_EVERY_S:
            self._reported_at = time.monotonic()
            progress = Message(code, number=number, total=total)
            queue.set_progress_message(self._task, progress)


def _get_patient_key(plan: TaskPlan) -> SourcePatient:
    return plan.source, plan.patient_id, plan.pseudonym


def _reasons_by_line(
    plans: Iterable[TaskPlan], reasons: Mapping[SourcePatient, Message]
) -> dict[int, Message]:
    bad = [plan for plan in plans if _get_patient_key(plan) in reasons]
    return {row.line: reasons[_get_patient_key(plan)] for plan in bad for row in plan.rows}


def _facts_of(rows: Iterable[_OpenRow], ready: Iterable[ReadyRow]) -> list[Mapping[str, Any]]:
    lines = {one.line for one in ready}
    return [line.row.facts for line in rows if line.row.line in lines]


def _make_ready(
    job: Job, line: _OpenRow, options: StartOptions, cipher: ValueCipher
) -> ReadyRow | None:
    """Return the row to transfer, or None; store the choice or the reason in the line."""
    row, content = line.row, line.content
    if row.line in options.left_out:
        row.notes = [RowNote.LEFT_OUT.value]
        return None
    chosen = options.choices.get(row.line, content.chosen)
    if chosen is None or not 0 <= chosen < len(content.studies):
        return None
    if chosen != content.chosen:
        line.content = content = replace(content, chosen=chosen)
    study = content.studies[chosen]
    facts = transfer_preview.preview_facts(job, [study])
    row.facts = sheet_rows.add_study_keys(cipher, row, content, facts)
    parts = transfer_preview.plan_series(job, study)
    if parts.delivered and not parts.to_send:
        row.notes = [RowNote.DELIVERED.value]
        return None
    picked = parts.to_send if parts.delivered or "SeriesInstanceUID" in content.requested else ()
    assert row.task is not None, "the row was checked"
    assert row.task.source_id is not None, "what was found was found somewhere"
    pick = PickedStudy(
        row.task.source_id,
        study.record,
        tuple(one.record.series_uid for one in picked),
        "" if job.is_as_is else content.pseudonym,
        visit=None if job.is_as_is else content.visit,
        left_out=parts.left_out,
    )
    return ReadyRow(row.line, pick)


def _require_one_visit_per_study(ready: Sequence[ReadyRow]) -> None:
    """Raise InvalidRows. The sheet cannot show this where rows name a study in different ways."""
    by_study: dict[tuple[int, str], list[ReadyRow]] = {}
    for one in ready:
        by_study.setdefault((one.pick.source, one.pick.study.study_uid), []).append(one)
    refused: dict[int, Message] = {}
    for rows in by_study.values():
        named = [one for one in rows if one.pick.visit is not None]
        if len({one.pick.visit for one in named}) > 1:
            lines = format_line_numbers([one.line for one in named])
            refused |= dict.fromkeys(
                (one.line for one in named), Message("start.study-with-visits", lines=lines)
            )
    if refused:
        raise InvalidRows(refused)


def _sum_totals(rows: Sequence[_OpenRow], ready: Sequence[ReadyRow]) -> dict[str, Any]:
    of_line = {line.row.line: line.row.facts for line in rows}
    # Rows may name the same study.
    facts = {(one.pick.study.study_uid, one.pick.series_uids): of_line[one.line] for one in ready}
    images = [one["images"] for one in facts.values()]
    return {
        "patients": len({(one.pick.source, one.pick.study.patient_id) for one in ready}),
        "studies": len({study for study, _series in facts}),
        "images": None if None in images else sum(images),
        "bytes": sum(one["bytes"] for one in facts.values()),
    }


def _rows_to_start(
    job: Job, ready: Sequence[ReadyRow], options: StartOptions
) -> Sequence[ReadyRow]:
    """The rows of the studies of the pilot, or all rows."""
    studies = list(dict.fromkeys(one.pick.study.study_uid for one in ready))
    if job.stage != JobStage.CHECK or not 0 < options.pilot < len(studies):
        return ready
    first = set(studies[: options.pilot])
    return [one for one in ready if one.pick.study.study_uid in first]


def _write_start(job: Job, prepared: PreparedStart) -> None:
    """Insert the new tasks and assign their result lines to them."""
    Task.objects.bulk_create([task for task, _plan in prepared.tasks], batch_size=INSERT_BATCH)
    answers = {row.line: task for task, plan in prepared.tasks for row in plan.rows}
    rows: list[Any] = [line.row for line in prepared.lines]
    for row in rows:
        if row.line in answers:
            row.task = answers[row.line]
    ResultLine.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["task", "sealed", "notes", "facts"],
        batch_size=INSERT_BATCH,
    )
