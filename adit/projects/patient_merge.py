"""Merge two patient IDs of one person, so that both get the same pseudonym from then on.

Used by the pages of projects and by jobs.
"""

from django.db import transaction
from django.utils.translation import gettext as _

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
from adit.projects.services import audit_subject, get_project_cipher, require_key, require_link
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
    require_link(user, patient.project)
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
        raise PseudonymConflict(
            _(
                "Both patient IDs have a pseudonym of their own in the research project. Ask "
                "somebody who may re-identify patients to join them on the project's page first."
            )
        ) from None


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
                raise _pseudonym_exists(before, patient)
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


def _pseudonym_exists(before: Patient, patient: Patient) -> PseudonymConflict:
    words = {"before": before.pseudonym, "now": patient.pseudonym}
    return PseudonymConflict(
        _(
            "This patient ID goes by %(before)s already, and images may have left so. To let it go "
            "by %(now)s, tick that all identifiers of the project's images are new from now on."
        )
        % words
    )
