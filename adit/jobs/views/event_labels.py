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
    "job.recalled": _("images recalled"),
    "recall.checked": _("recalled images deleted or looked for"),
    "rows.blocked": _("a row was refused: its patient may not be transferred"),
    "task.lost": _("the worker of a study stopped answering"),
    "task.again": _("a study is tried again"),
    "task.tried": _("a study was tried without success"),
    "task.canceled": _("a study was canceled"),
    "withheld.revoked": _("a rule for withheld images was revoked"),
    "withheld.seen": _("withheld images viewed"),
    "withheld.masked": _("withheld images masked by a rule"),
    "withheld.released": _("withheld images released by a rule"),
    "withheld.left": _("withheld images remain withheld"),
    "withheld.reopened": _("decision on withheld images reopened"),
    "archive.built": _("7-Zip file built"),
    "archive.downloaded": _("7-Zip file downloaded"),
    "archive.removed": _("7-Zip file deleted"),
    "job.ended": _("finished"),
    "job.handed_over": _("handed over to another owner"),
    "job.seen": _("patient data viewed"),
    "job.results_downloaded": _("results downloaded"),
    "rows.answered": _("rows answered"),
    "job.report_downloaded": _("report downloaded"),
    "job.result_downloaded": _("result sheet downloaded"),
    # In trails of earlier releases:
    "job.names_downloaded": _("result sheet with pseudonyms downloaded"),
    "task.held": _("a study waits for the confirmation of a changed patient ID"),
    "task.patient_confirmed": _("a changed patient ID was confirmed"),
    "task.patient_refused": _("a changed patient ID was rejected"),
}


def event_label(action: str) -> str:
    """Return the label of an action; unknown actions are returned unchanged."""
    return find_event_label(action) or str(EVENT_LABELS.get(action, action))
