"""Where the images of a patient were sent, from the audit trail. Used by its page and its file."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, require
from adit.audit.models import AuditEvent
from adit.audit.trail import keyed_patient_index, record
from adit.jobs.models import Job
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.pages.audit_sentences import name_user
from adit.projects.models import Project
from adit.projects.services import get_project_cipher
from adit.vault.cipher import DecryptionError

COLUMNS = ("at", "job", "person", "project", "destination", "images")


class PatientForm(forms.Form):
    """A patient, named by the patient ID and the PACS that uses it. Never part of a URL."""

    node = forms.ModelChoiceField(
        Node.objects.order_by("name"), label=_("PACS that uses the patient ID")
    )
    patient_id = forms.CharField(label=_("Patient ID"), max_length=64)


@dataclass(frozen=True, slots=True)
class PatientDelivery:
    """The images of a patient that one study of a job delivered."""

    at: datetime
    job: int
    who: str
    project: str
    destination: str
    images: int

    @property
    def cells(self) -> tuple[str | int, ...]:
        at = self.at.isoformat(timespec="seconds")
        return (at, self.job, self.who, self.project, self.destination, self.images)


def find_deliveries(user: User, node: Node, patient_id: str) -> list[PatientDelivery]:
    """Return the deliveries, newest first, and record that the user asked for this patient.

    Needs the permissions to read the trail and to see identified data. Patients of a project whose
    key was destroyed cannot be found. Raise NotPermitted.
    """
    require(user, Right.READ_TRAIL)
    require(user, Right.SEE_IDENTIFIED)
    domain = get_domain(node)
    indexes = list(_patient_indexes(domain, patient_id))
    events = AuditEvent.objects.filter(patient_index__in=indexes, action="task.ended")
    found = [
        (event, int(event.about.removeprefix("job:")))
        for event in events.select_related("user").defer("patient_sealed").order_by("-id")
        if event.details.get("delivered")
    ]
    jobs = Job.objects.select_related("destination", "project").in_bulk(
        {pk for _event, pk in found}
    )
    rows = [_make_row(event, pk, jobs.get(pk)) for event, pk in found]
    record(
        "trail.patient_searched",
        user=user,
        details={"node": node.name, "found": len(rows)},
        patient=(domain, patient_id),
    )
    return rows


def _patient_indexes(domain: str, patient_id: str) -> Iterator[str]:
    for project in Project.objects.all():
        with suppress(DecryptionError):
            yield keyed_patient_index(get_project_cipher(project), domain, patient_id)


def _make_row(event: AuditEvent, pk: int, job: Job | None) -> PatientDelivery:
    destination = job.destination.name if job and job.destination else ""
    project = job.project.protocol_id if job and job.project else ""
    images = int(event.details["delivered"])
    return PatientDelivery(event.at, pk, name_user(event.user), project, destination, images)
