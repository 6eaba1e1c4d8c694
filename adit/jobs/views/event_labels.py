"""Labels of the audit trail's actions on jobs and tasks, shown in the timeline."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _

EVENT_LABELS: Mapping[str, Any] = {
    "job.created": _("ordered"),
    "job.started": _("started after the check"),
    "job.continued": _("continued after the pilot"),
    "job.approved": _("approved"),
    "job.returned": _("returned to its owner"),
    "job.canceled": _("canceled"),
    "job.resumed": _("resumed"),
    "job.retried": _("what was missing is tried again"),
    "job.withheld_retried": _("what was withheld is tried again"),
    "job.restarted": _("started from nothing"),
    "withheld.seen": _("withheld images looked at"),
    "withheld.masked": _("withheld images: masked by a rule"),
    "withheld.released": _("withheld images: released by a rule"),
    "withheld.left": _("withheld images: left where they are"),
    "withheld.reopened": _("withheld images: to be decided anew"),
    "job.made_urgent": _("made urgent"),
    "job.mail_wanted": _("mail at the end is wanted"),
    "job.mail_unwanted": _("no mail at the end"),
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
    "task.retried": _("one part is tried again"),
    "task.stopped": _("one part is stopped"),
    "task.reset": _("one part is started from nothing"),
    "task.deleted": _("one part is taken out"),
    "task.held": _("one part waits for a decision: its patient has another ID now"),
    "task.patient_confirmed": _("a changed patient ID was confirmed"),
    "task.patient_refused": _("a changed patient ID was refused"),
}


def event_label(action: str) -> str:
    """Return the label of an action; unknown actions are returned unchanged."""
    return str(EVENT_LABELS.get(action, action))
