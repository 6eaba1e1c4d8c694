"""Labels of a task's patient and study, masked for users who may not see identified data."""

from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from adit.jobs import encrypted_payload
from adit.jobs.disclosure import Disclosure
from adit.jobs.kinds import KINDS
from adit.jobs.models import Job, Task
from adit.vault.cipher import DecryptionError


@dataclass(frozen=True, slots=True)
class TaskLabels:
    """Labels of a task. Texts are empty if unknown, or if the task cannot be decrypted any more.

    Without the permission only values that are the same after pseudonymization are set.
    """

    pseudonym: str = ""
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    description: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    modalities: str = ""
    is_pseudonym_hidden: bool = False
    is_masked: bool = False
    is_closed: bool = False


def get_task_labels(task: Task, disclosure: Disclosure) -> TaskLabels:
    try:
        content = encrypted_payload.open_task(task)
    except DecryptionError:
        return TaskLabels(is_closed=True)
    labels: dict[str, Any] = content.payload.get("labels", {})
    pseudonym = content.pseudonym if disclosure.shows_pseudonym(content) else ""
    is_hidden = bool(content.pseudonym) and not pseudonym
    if not disclosure.identified:
        return TaskLabels(
            pseudonym=pseudonym,
            is_pseudonym_hidden=is_hidden,
            modalities=labels.get("modalities", ""),
            is_masked=True,
        )
    return TaskLabels(
        pseudonym=pseudonym,
        is_pseudonym_hidden=is_hidden,
        patient_id=content.patient_id,
        patient_name=labels.get("patient_name", ""),
        birth_date=labels.get("birth_date", ""),
        study_date=labels.get("study_date", ""),
        description=labels.get("study_description", "") if labels else content.title,
        accession_number=labels.get("accession_number", ""),
        modalities=labels.get("modalities", ""),
    )


def kind_label(job: Job) -> str:
    """Return the label of a job's kind, or its name if it is not installed any more."""
    kind = KINDS.get(job.kind)
    return _(kind.label) if kind else job.kind
