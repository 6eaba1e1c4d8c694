"""Merge two patient IDs of one person, so that both get the same pseudonym from then on.

Used by the pages of projects and by jobs.
"""

from django.db import transaction

from adit.accounts.permissions import AnyUser
from adit.audit.trail import record, seal_patient
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects.models import MergedPatientId, Patient, Project
from adit.projects.pseudonyms import (
    PseudonymConflict,
    find_patient,
    get_patient_index,
    patient_context,
)
from adit.projects.services import audit_subject, get_project_cipher, require_key, require_list
from adit.projects.validators import validate_reason


def merge_patient_id(
    user: AnyUser,
    patient: Patient,
    node: Node,
    patient_id: str,
    reason: str,
    *,
    new_generation: bool = False,
) -> None:
    """Assign the pseudonym of the patient to this patient ID at `node` from now on.

    Images may already have been delivered under a pseudonym that this ID has. If they were sent
    again under another one, they would have the same UIDs and different contents. Therefore an ID
    with a pseudonym requires `new_generation`, in which all UIDs of the project are new. Raises
    NotPermitted, InvalidInput, PseudonymConflict.
    """
    require_list(user, patient.project)
    _merge(user, patient, node, patient_id, validate_reason(reason), new_generation=new_generation)


def merge_confirmed_id(
    user: AnyUser, patient: Patient, node: Node, patient_id: str, reason: str
) -> None:
    """Merge a patient ID that the user confirmed for one study.

    Like `merge_patient_id`, but the caller checks the permission to answer. An ID that has another
    pseudonym is not merged. Raises NotPermitted, and PseudonymConflict without a pseudonym: the
    user sees both IDs, and may not have the permission to link them.
    """
    try:
        _merge(user, patient, node, patient_id, reason, new_generation=False)
    except PseudonymConflict:
        raise PseudonymConflict("pseudonym.both-ids-have-one") from None


def _merge(
    user: AnyUser,
    patient: Patient,
    node: Node,
    patient_id: str,
    reason: str,
    *,
    new_generation: bool,
) -> None:
    project = patient.project
    require_key(project)
    domain, bare = get_domain(node), patient_id.strip(" \0")
    index = get_patient_index(project, domain, bare)
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        require_key(locked)
        before = find_patient(project, index)
        if before is not None and before.pk == patient.pk:
            return
        if before is not None:
            if not new_generation:
                raise PseudonymConflict(
                    "pseudonym.merge-needs-new-identifiers",
                    before=before.pseudonym,
                    after=patient.pseudonym,
                )
            locked.generation += 1
            locked.save(update_fields=["generation"])
        MergedPatientId.objects.filter(project=project, index=index).delete()
        sealed = get_project_cipher(project).seal([domain, bare], patient_context(index))
        MergedPatientId.objects.create(patient=patient, project=project, index=index, sealed=sealed)
        details = {
            "pseudonym": patient.pseudonym,
            "before": before.pseudonym if before is not None else "",
            "generation": locked.generation,
            "reason": reason,
        }
        who = seal_patient(get_project_cipher(project), (domain, bare))
        record(
            "patient.joined", user=user, about=audit_subject(project), details=details, patient=who
        )
