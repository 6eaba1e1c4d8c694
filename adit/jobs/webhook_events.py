"""Events of jobs for webhooks. Used by states, in the transaction of the change."""

from collections.abc import Mapping
from typing import Any

from adit.jobs.models import Job, JobState, SeriesResult, name_for_programs
from adit.jobs.progress import ENDED_JOB_STATES, count_images
from adit.webhooks.models import WebhookEvent
from adit.webhooks.services import queue_event

_EVENTS: Mapping[JobState, WebhookEvent] = {
    **dict.fromkeys(ENDED_JOB_STATES, WebhookEvent.JOB_ENDED),
    JobState.WAITING_FOR_OWNER: WebhookEvent.WAITING_FOR_START,
    JobState.HELD: WebhookEvent.WAITING_FOR_DECISION,
}


def queue_for_state(job: Job) -> None:
    """Queue the event of the state that the job has now, if there is one."""
    event = _EVENTS.get(JobState(job.state))
    if event is not None:
        queue_event(event, job.pk, job.owner, job.project, lambda: _describe(job))


def _describe(job: Job) -> dict[str, Any]:
    """Return numbers and states. Titles, reasons and messages may name a patient."""
    counts = count_images(SeriesResult.objects.filter(task__job=job))
    return {
        "id": job.pk,
        "kind": job.kind,
        "state": name_for_programs(job.state),
        "expected": counts.expected,
        "delivered": counts.delivered,
        "withheld": counts.withheld,
        "skipped": counts.skipped,
        "failed": counts.failed,
    }
