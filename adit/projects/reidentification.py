"""Identity: the way back from a pseudonym to a patient; with a right, a reason and a trail record."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import transaction
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person, Refused
from adit.audit.trail import record
from adit.projects.models import Patient, Project
from adit.projects.pseudonyms import place_of
from adit.projects.services import about, box_of, require_key, require_link
from adit.projects.validators import checked_reason
from adit.vault.cipher import Box, SealBroken


@dataclass(frozen=True, slots=True)
class Identified:
    """Who a pseudonym stands for. The id is empty for a patient who came without one."""

    pseudonym: str
    domain: str
    patient_id: str = field(repr=False)
    joined: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Domain and id of what was joined with it."""


def reidentify(user: Person, patient: Patient, reason: str) -> Identified:
    """Raises Refused, WrongInput; Refused as well for what does not open."""
    project = patient.project
    require_link(user, project)
    reason = checked_reason(reason)
    require_key(project)
    found = _opened(patient, box_of(project))
    # Without the patient: beside the pseudonym, the trail would outlive the destruction of the key.
    details = {"pseudonym": patient.pseudonym, "reason": reason}
    record("patient.reidentified", user=user, about=about(project), details=details)
    return found


def exported_map(user: Person, project: Project, reason: str) -> list[Identified]:
    """Every pseudonym of the project with its patient, for the key holder. Raises as above."""
    require_link(user, project)
    reason = checked_reason(reason)
    require_key(project)
    with transaction.atomic():
        found = list(_all(project))
        details = {"reason": reason, "patients": len(found)}
        record("project.map_exported", user=user, about=about(project), details=details)
    return found


def _all(project: Project) -> Iterator[Identified]:
    box = box_of(project)
    for patient in project.patients.order_by("pseudonym"):
        yield _opened(patient, box)


def _opened(patient: Patient, box: Box) -> Identified:
    try:
        domain, patient_id = box.open(patient.sealed, place_of(patient.index))
        joined = tuple(
            (str(one[0]), str(one[1]))
            for one in (
                box.open(row.sealed, place_of(row.index)) for row in patient.joined.order_by("pk")
            )
        )
    except SealBroken:
        raise Refused(
            _("What is stored of %(pseudonym)s does not open with the key of its project.")
            % {"pseudonym": patient.pseudonym}
        ) from None
    return Identified(patient.pseudonym, domain, patient_id, joined)
