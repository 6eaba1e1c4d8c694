"""Timeline: what happened to a job, newest first, in words, and by whom."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from adit.audit.models import Event
from adit.jobs.models import Job, TaskState
from adit.jobs.views.words import action_in_words

MOST_EVENTS = 50
FEW = 5
"""So many tasks are named as they end; of more, the table of the job tells."""

_ENDED = "task.ended"


@dataclass(frozen=True, slots=True)
class Happening:
    """`who` is empty where nobody did it: it came by itself."""

    at: datetime
    words: str
    who: str = ""


def timeline(job: Job) -> list[Happening]:
    """From the trail, and the end of the job itself."""
    events = Event.objects.filter(about=f"job:{job.pk}").select_related("user")
    events = events.exclude(action="rows.answered")
    if len(job.tasks.values("pk")[: FEW + 1]) > FEW:
        events = events.exclude(action=_ENDED)
    newest = list(events.order_by("-id").defer("patient_sealed")[:MOST_EVENTS])
    told = [_told(event) for event in newest]
    if job.ended_at is None:
        return told
    end = Happening(job.ended_at, _("ended: %s") % job.get_state_display())
    # The end of its last task is noted just after its own, and led to it.
    after = sum(event.at > end.at and event.action != _ENDED for event in newest)
    return [*told[:after], end, *told[after:]]


def _told(event: Event) -> Happening:
    if event.action == _ENDED:
        state = TaskState(event.details["state"]).label
        words = _("No. %(n)d ended: %(state)s") % {"n": event.details["task"], "state": state}
        return Happening(event.at, words)
    who = "" if event.user is None else event.user.get_full_name() or event.user.get_username()
    return Happening(event.at, action_in_words(event.action), who)
