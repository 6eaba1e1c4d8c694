"""Determine the end state and the message of tasks and jobs from their results.

Used by states.py and by the worker.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

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
from adit.jobs.progress import ImageCounts, count_images

MAX_REASONS = 4


@dataclass(frozen=True, slots=True)
class EndState:
    state: TaskState
    message: str


def evaluate_task(items: QuerySet[SeriesResult], announced: Collection[str]) -> EndState:
    """Return the end state of a transfer task.

    SUCCESS if nothing is missing except what the selection excluded and what was announced as
    withheld and accepted.
    """
    rows = list(items.filter(left_out__isnull=True))
    counts = count_images(items)
    gaps = _describe_gaps(rows, announced)
    if not rows:
        return EndState(
            TaskState.FAILURE, _("Nothing was transferred: no series of this study came along.")
        )
    if not gaps:
        said = _join_remarks(rows)
        return EndState(
            TaskState.SUCCESS, " ".join(filter(None, (_describe_complete(counts), said)))
        )
    if not counts.delivered:
        return EndState(TaskState.FAILURE, _("Nothing was delivered: %s") % _join_sentences(gaps))
    return EndState(TaskState.WARNING, f"{_describe_delivered(counts)} {_join_sentences(gaps)}")


def evaluate_search(lines: QuerySet[ResultLine]) -> EndState:
    """Return the end state of a search task: any result is a success.

    The results of the rows are stored with the rows.
    """
    rows = set(lines.values_list("line", flat=True))
    found = set(lines.filter(is_found=True).values_list("line", flat=True))
    words = {"n": len(found), "all": len(rows)}
    return EndState(TaskState.SUCCESS, _("Something was found for %(n)d of %(all)d rows.") % words)


def describe_job_end(job: Job, state: JobState) -> str:
    """Return the message of a job that has ended or waits for its owner."""
    unstarted = Task.objects.filter(job=job, work=TaskType.START, state=TaskState.FAILURE).first()
    if state == JobState.WAITING_FOR_OWNER and unstarted is not None:
        return _("It was not started. %(why)s") % {"why": unstarted.message}
    if state == JobState.WAITING_FOR_OWNER and job.stage == JobStage.CHECK:
        return _(
            "The check is done. Nothing has been fetched yet: look through the rows and start."
        )
    if not job.capabilities.sends_images:
        return _describe_query_end(job, state)
    if state == JobState.HELD:
        n = Task.objects.filter(job=job, state=TaskState.HELD).count()
        held = ngettext(
            "The source has given the patient of %d study another ID: somebody has to confirm it.",
            "The source has given the patients of %d studies other IDs: somebody has to confirm it.",
            n,
        )
        return held % n
    counts = count_images(SeriesResult.objects.filter(task__job=job))
    if state == JobState.WAITING_FOR_OWNER:
        words = {"n": counts.delivered}
        return _("The pilot is done, %(n)d images delivered: look at them, then continue.") % words
    if state == JobState.SUCCESS:
        return _describe_complete(counts)
    if state == JobState.CANCELED:
        return _("Canceled. %(n)d images had been delivered before.") % {"n": counts.delivered}
    tasks = Task.objects.filter(job=job)
    ends = Counter(tasks.filter(work=TaskType.KIND).values_list("state", flat=True))
    parts = [_describe_delivered(counts)] if counts.delivered else [_("Nothing was delivered.")]
    if ends[TaskState.FAILURE]:
        parts.append(
            ngettext("%d study failed.", "%d studies failed.", ends[TaskState.FAILURE])
            % ends[TaskState.FAILURE]
        )
    if ends[TaskState.WARNING]:
        parts.append(
            ngettext("%d study has gaps.", "%d studies have gaps.", ends[TaskState.WARNING])
            % ends[TaskState.WARNING]
        )
    unpacked = tasks.filter(work=TaskType.PACK, state=TaskState.FAILURE).first()
    if unpacked is not None and counts.delivered:
        return _("The 7-Zip file was not built: %s") % unpacked.message
    if tasks.filter(broke_rule=True).exists():
        parts.append(_("A rule that keeps patients apart was broken: see the failed studies."))
    else:
        parts.append(_("The studies below say why."))
    return " ".join(parts)


def _describe_query_end(job: Job, state: JobState) -> str:
    """Return how many rows of a query were answered, and for how many something was found."""
    lines = ResultLine.objects.filter(job=job).order_by()
    rows = lines.values("line").distinct().count()
    found = lines.filter(is_found=True).values("line").distinct().count()
    open_rows = lines.filter(is_asked=False).values("line").distinct().count()
    said = [_("Something was found for %(n)d of %(all)d rows.") % {"n": found, "all": rows}]
    if open_rows and state == JobState.CANCELED:
        said.append(_("Canceled: %(n)d rows were not asked.") % {"n": open_rows})
    elif open_rows:
        said.append(
            ngettext(
                "%d row was not answered: the results say why.",
                "%d rows were not answered: the results say why.",
                open_rows,
            )
            % open_rows
        )
    return " ".join(said)


def _describe_gaps(items: list[SeriesResult], announced: Collection[str]) -> list[str]:
    """Return the unannounced gaps as sentences, most frequent first."""
    reasons: Counter[str] = Counter()
    gaps: list[str] = []
    for item in items:
        for reason, n in item.reasons:
            if reason.category not in announced:
                reasons[str(reason)] += n
        gaps += [str(note) for note in item.notes]
        if not item.is_final:
            gaps.append(_("One series was not finished."))
        elif item.expected is None:
            gaps.append(_("The source gave no list that can be trusted: not yet proven complete."))
        else:
            ends = item.delivered + item.withheld + item.failed + item.skipped
            if ends < item.expected:
                reasons[_("no answer came for them")] += item.expected - ends
    named = [f"{n} × {text}" for text, n in reasons.most_common()]
    return named + list(dict.fromkeys(gaps))


def _describe_complete(counts: ImageCounts) -> str:
    text = ngettext("%d image delivered.", "All %d images delivered.", counts.delivered) % (
        counts.delivered
    )
    held = counts.withheld + counts.skipped
    if not held:
        return text
    if not counts.delivered:
        return _("Nothing to deliver: %d images were held back as announced.") % held
    return _("%(n)d images delivered, %(held)d held back as announced.") % {
        "n": counts.delivered,
        "held": held,
    }


def _describe_delivered(counts: ImageCounts) -> str:
    return _("%(n)d of %(all)d images delivered.") % {
        "n": counts.delivered,
        "all": max(counts.listed, counts.delivered),
    }


def _join_remarks(items: list[SeriesResult]) -> str:
    """Join the remarks, which are informational and report no gap."""
    said = dict.fromkeys(str(remark) for item in items for remark in item.remarks)
    return _join_sentences([f"{text[:1].upper()}{text[1:]}" for text in said])


def _join_sentences(sentences: list[str]) -> str:
    shown = [text if text.endswith((".", "!", "?")) else f"{text}." for text in sentences]
    more = len(shown) - MAX_REASONS
    rest = [_("And %d other reasons.") % more] if more > 0 else []
    return " ".join(shown[:MAX_REASONS] + rest)
