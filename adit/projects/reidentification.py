"""Re-identify patients from pseudonyms.

Requires a permission and a reason, and records each access in the audit trail. Used by the pages of
projects.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import transaction

from adit.accounts.permissions import AnyUser, NotPermitted
from adit.audit.trail import record
from adit.projects.models import Patient, Project
from adit.projects.pseudonyms import patient_context
from adit.projects.services import (
    audit_subject,
    get_project_cipher,
    require_key,
    require_reidentify,
)
from adit.projects.validators import validate_reason
from adit.vault.cipher import DecryptionError, ValueCipher


@dataclass(frozen=True, slots=True)
class ReidentifiedPatient:
    """The patient to whom a pseudonym belongs.

    `patient_id` is empty for a patient whose images have no patient ID.
    """

    pseudonym: str
    domain: str
    patient_id: str = field(repr=False)
    merged_ids: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Domain and ID of the patient IDs that were merged with it."""


def reidentify(user: AnyUser, patient: Patient, reason: str) -> ReidentifiedPatient:
    """Return the patient of a pseudonym, and record it in the audit trail.

    Raises NotPermitted, also if the entry cannot be decrypted, and InvalidInput.
    """
    project = patient.project
    require_reidentify(user, project)
    reason = validate_reason(reason)
    require_key(project)
    found = _open_patient(patient, get_project_cipher(project))
    # Record the pseudonym without the patient: together, they would survive the destruction of the
    # key.
    details = {"pseudonym": patient.pseudonym, "reason": reason}
    record("patient.reidentified", user=user, about=audit_subject(project), details=details)
    return found


def export_patient_map(user: AnyUser, project: Project, reason: str) -> list[ReidentifiedPatient]:
    """Return every pseudonym of the project with its patient, for the key holder.

    Raises like `reidentify`.
    """
    require_reidentify(user, project)
    reason = validate_reason(reason)
    require_key(project)
    with transaction.atomic():
        found = list(_open_all(project))
        details = {"reason": reason, "patients": len(found)}
        record("project.map_exported", user=user, about=audit_subject(project), details=details)
    return found


def _open_all(project: Project) -> Iterator[ReidentifiedPatient]:
    box = get_project_cipher(project)
    for patient in project.patients.order_by("pseudonym"):
        yield _open_patient(patient, box)


def _open_patient(patient: Patient, cipher: ValueCipher) -> ReidentifiedPatient:
    try:
        domain, patient_id = cipher.open(patient.sealed, patient_context(patient.index))
        joined = tuple(
            (str(one[0]), str(one[1]))
            for one in (
                cipher.open(row.sealed, patient_context(row.index))
                for row in patient.merged_ids.order_by("pk")
            )
        )
    except DecryptionError:
        raise NotPermitted("pseudonym.unreadable", pseudonym=patient.pseudonym) from None
    return ReidentifiedPatient(patient.pseudonym, domain, patient_id, joined)
