"""Determine the end state and the message of tasks and jobs from their results.

Used by states.py and by the worker.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db.models import QuerySet

from adit.jobs.kinds.base import RowNote
from adit.jobs.models import (
    Job,
    JobStage,
    JobState,
    ResultLine,
    SeriesResult,
    Task,
    TaskState,
    TaskType,
)
from adit.jobs.progress import (
    ImageCounts,
    SheetRowCounts,
    count_images,
    count_sheet_rows,
    count_unanswered_rows,
)
from adit_engine.messages import Message, join_messages

MAX_REASONS = 4


@dataclass(frozen=True, slots=True)
class EndState:
    state: TaskState
    message: Message | None


def evaluate_task(items: QuerySet[SeriesResult], announced: Collection[str]) -> EndState:
    """Return the end state of a transfer task.

    SUCCESS if nothing is missing except what the selection excluded and what was announced as
    withheld and accepted.
    """
    rows = list(items.filter(skip_reason__isnull=True).defer("sealed"))
    counts = count_images(items)
    gaps = _describe_gaps(rows, announced)
    if not rows:
        return EndState(TaskState.FAILURE, Message("delivery.no-series"))
    if not gaps:
        return EndState(
            TaskState.SUCCESS, join_messages([_describe_complete(counts), *_remarks(rows)])
        )
    if not counts.delivered:
        return EndState(
            TaskState.FAILURE, join_messages([Message("delivery.nothing"), *_limit(gaps)])
        )
    return EndState(TaskState.WARNING, join_messages([_describe_delivered(counts), *_limit(gaps)]))


def evaluate_search(lines: QuerySet[ResultLine]) -> EndState:
    """Return the end state of a search task: any result is a success.

    The results of the rows are stored with the rows.
    """
    rows = set(lines.values_list("line", flat=True))
    found = set(lines.filter(is_found=True).values_list("line", flat=True))
    return EndState(
        TaskState.SUCCESS, Message("query.rows-matched", matched=len(found), count=len(rows))
    )


def describe_job_end(job: Job, state: JobState) -> Message | None:
    """Return the message of a job that has ended or waits for its owner."""
    unstarted = Task.objects.filter(job=job, type=TaskType.START, state=TaskState.FAILURE).first()
    if state == JobState.WAITING_FOR_OWNER and unstarted is not None:
        return _with_reason(Message("job.not-started"), unstarted)
    if state == JobState.WAITING_FOR_OWNER and job.stage == JobStage.CHECK:
        return Message("job.check-done")
    if not job.capabilities.sends_images:
        return _describe_query_end(job, state)
    if state == JobState.HELD:
        held = Task.objects.filter(job=job, state=TaskState.HELD).count()
        return Message("job.held", count=held)
    counts = count_images(SeriesResult.objects.filter(task__job=job))
    if state == JobState.WAITING_FOR_OWNER:
        return Message("job.pilot-done", count=counts.delivered)
    if state == JobState.CANCELED:
        return Message("job.canceled", count=counts.delivered)
    if state == JobState.SUCCESS:
        end: Message | None = _describe_complete(counts)
    else:
        end = _describe_gaps_of_job(job, counts)
    if not job.capabilities.has_transfer_rows:
        return end
    rows = _describe_rows(count_sheet_rows(job))
    return join_messages([end, *rows] if end is not None else rows)


def _describe_rows(rows: SheetRowCounts) -> list[Message]:
    """Return how many rows of a sheet were delivered, and what became of the others."""
    if rows.delivered == rows.rows:
        return []
    parts = [Message("job.rows-delivered", delivered=rows.delivered, count=rows.rows)]
    others = {
        "job.rows-withheld": rows.withheld,
        "job.rows-invalid": rows.invalid,
        "job.rows-excluded": rows.excluded,
        "job.rows-not-found": rows.not_found,
        "job.rows-not-transferred": rows.not_transferred,
    }
    return parts + [Message(code, count=count) for code, count in others.items() if count]


def _describe_gaps_of_job(job: Job, counts: ImageCounts) -> Message | None:
    """Return the message of a job that failed or has gaps."""
    tasks = Task.objects.filter(job=job)
    unpacked = tasks.filter(type=TaskType.PACK, state=TaskState.FAILURE).first()
    if unpacked is not None and counts.delivered:
        return _with_reason(Message("job.archive-not-built"), unpacked)
    ends = Counter(tasks.filter(type=TaskType.ORDERED).values_list("state", flat=True))
    parts = [_describe_delivered(counts) if counts.delivered else Message("delivery.nothing")]
    if ends[TaskState.FAILURE]:
        parts.append(Message("job.studies-failed", count=ends[TaskState.FAILURE]))
    if ends[TaskState.WARNING]:
        parts.append(Message("job.studies-with-gaps", count=ends[TaskState.WARNING]))
    if unanswered := count_unanswered_rows(job):
        parts.append(Message("query.rows-not-answered", count=unanswered))
    has_broken_rule = tasks.filter(has_broken_rule=True).exists()
    parts.append(Message("job.rule-violated" if has_broken_rule else "job.see-studies"))
    return join_messages(parts)


def _with_reason(message: Message, task: Task) -> Message | None:
    """Append the message of a failed task."""
    return join_messages(part for part in (message, task.message) if part is not None)


def _describe_query_end(job: Job, state: JobState) -> Message | None:
    """Return how many rows of a query were answered, and for how many something was found."""
    lines = ResultLine.objects.filter(job=job).order_by()
    rows = lines.values("line").distinct().count()
    found = lines.filter(is_found=True).values("line").distinct().count()
    unasked = lines.filter(is_asked=False).exclude(task=None)
    open_rows = unasked.values("line").distinct().count()
    parts = [Message("query.rows-matched", matched=found, count=rows)]
    invalid = lines.filter(task=None, notes=[RowNote.INVALID.value]).count()
    excluded = lines.filter(task=None).count() - invalid
    if invalid:
        parts.append(Message("job.rows-invalid", count=invalid))
    if excluded:
        parts.append(Message("job.rows-excluded", count=excluded))
    if open_rows:
        is_canceled = state == JobState.CANCELED
        code = "query.rows-not-queried" if is_canceled else "query.rows-not-answered"
        parts.append(Message(code, count=open_rows))
    return join_messages(parts)


def _describe_gaps(items: list[SeriesResult], announced: Collection[str]) -> list[Message]:
    """Return the unannounced gaps, most frequent first."""
    reasons: Counter[Message] = Counter()
    gaps: list[Message] = []
    for item in items:
        for reason, count in item.reasons:
            if reason.category not in announced:
                reasons[reason] += count
        gaps += item.notes
        if not item.is_final:
            gaps.append(Message("delivery.series-unfinished"))
        elif item.expected is None:
            gaps.append(Message("delivery.no-list"))
        else:
            ends = item.delivered + item.withheld + item.failed + item.skipped
            if ends < item.expected:
                reasons[Message("delivery.no-result")] += item.expected - ends
    counted = [
        Message("delivery.counted", count=count, reason=reason)
        for reason, count in reasons.most_common()
    ]
    return counted + list(dict.fromkeys(gaps))


def _describe_complete(counts: ImageCounts) -> Message:
    withheld = counts.withheld + counts.skipped
    if not withheld:
        return Message("delivery.complete", count=counts.delivered)
    if not counts.delivered:
        return Message("delivery.all-withheld", count=withheld)
    return Message("delivery.rest-withheld", delivered=counts.delivered, count=withheld)


def _describe_delivered(counts: ImageCounts) -> Message:
    listed = max(counts.listed, counts.delivered)
    return Message("delivery.partial", delivered=counts.delivered, count=listed)


def _remarks(items: Iterable[SeriesResult]) -> list[Message]:
    """Return the remarks, which are informational and report no gap."""
    return _limit(list(dict.fromkeys(remark for item in items for remark in item.remarks)))


def _limit(messages: list[Message]) -> list[Message]:
    more = len(messages) - MAX_REASONS
    rest = [Message("delivery.more-reasons", count=more)] if more > 0 else []
    return messages[:MAX_REASONS] + rest
