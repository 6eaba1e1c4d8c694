"""The timeline of a job: its events, newest first, with time and user. Used by the job page."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from adit.audit.models import AuditEvent
from adit.jobs.models import START_POSITION, DeliveredCounts, Job, state_label
from adit.jobs.views.event_labels import event_label

MAX_EVENTS = 50
MAX_NAMED_TASKS = 5
"""Maximum number of tasks whose ends are listed; for larger jobs see the table of tasks."""

_TASK_ENDED = "task.ended"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event. `who` is empty if no user caused it."""

    at: datetime
    text: str
    user_name: str = ""


def get_timeline(job: Job) -> list[TimelineEntry]:
    """Return the events of a job from the audit trail, and its end. Views are only in the trail."""
    events = AuditEvent.objects.filter(about=f"job:{job.pk}").select_related("user")
    events = events.exclude(action__in=("rows.answered", "job.seen"))
    if len(job.tasks.values("pk")[: MAX_NAMED_TASKS + 1]) > MAX_NAMED_TASKS:
        events = events.exclude(action=_TASK_ENDED)
    newest = list(events.order_by("-id").defer("patient_sealed")[:MAX_EVENTS])
    told = [_event_entry(event) for event in newest]
    if job.ended_at is None:
        return told
    end = TimelineEntry(job.ended_at, _("finished: %s") % job.state_text)
    # The end of the last task, which caused the end of the job, is recorded just after it.
    after = sum(event.at > end.at and event.action != _TASK_ENDED for event in newest)
    return [*told[:after], end, *told[after:]]


def _event_entry(event: AuditEvent) -> TimelineEntry:
    if event.action == _TASK_ENDED:
        said = event.details
        counts = (said.get(name, 0) for name in ("delivered", "withheld", "skipped"))
        state = state_label(said["state"], DeliveredCounts(*counts))
        if said["task"] == START_POSITION:
            return TimelineEntry(event.at, _("start finished: %(state)s") % {"state": state})
        words = _("task %(n)d finished: %(state)s") % {"n": said["task"], "state": state}
        return TimelineEntry(event.at, words)
    who = "" if event.user is None else event.user.get_full_name() or event.user.get_username()
    return TimelineEntry(event.at, event_label(event.action), who)
