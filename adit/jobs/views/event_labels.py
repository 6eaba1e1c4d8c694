"""Labels of events of jobs and tasks, shown in the timeline.

The labels of events that users cause by an action are in the table of actions.
"""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _

from adit.jobs.actions import find_event_label

EVENT_LABELS: Mapping[str, Any] = {
    "job.created": _("ordered"),
    "job.started": _("started after the check"),
    "job.continued": _("continued after the pilot"),
    "withheld.seen": _("withheld images looked at"),
    "withheld.masked": _("withheld images: masked by a rule"),
    "withheld.released": _("withheld images: released by a rule"),
    "withheld.left": _("withheld images: left where they are"),
    "withheld.reopened": _("withheld images: to be decided anew"),
    "archive.built": _("7-Zip file built"),
    "archive.downloaded": _("7-Zip file downloaded"),
    "archive.removed": _("7-Zip file deleted"),
    "job.ended": _("ended"),
    "job.seen": _("patient data looked at"),
    "job.results_downloaded": _("results downloaded"),
    "rows.answered": _("rows answered"),
    "job.report_downloaded": _("report downloaded"),
    "job.result_downloaded": _("result sheet downloaded"),
    "job.names_downloaded": _("result sheet with pseudonyms downloaded"),
    "task.held": _("one part waits for a decision: its patient has another ID now"),
    "task.patient_confirmed": _("a changed patient ID was confirmed"),
    "task.patient_refused": _("a changed patient ID was refused"),
}


def event_label(action: str) -> str:
    """Return the label of an action; unknown actions are returned unchanged."""
    return find_event_label(action) or str(EVENT_LABELS.get(action, action))
