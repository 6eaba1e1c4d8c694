"""Joining: two patient ids are one person's, so that both go by one pseudonym from now on."""

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
    """From now on this id, as `node` speaks it, goes by the patient's pseudonym.

    An id that has a pseudonym already may have images out under it. Sent again under another one,
    they would have the same UIDs and other contents; so that needs `new_generation`, in which all
    UIDs of the project are new. Raises NotPermitted, WrongInput, PseudonymConflict.
    """
    require_link(user, patient.project)
    _merge(user, patient, node, patient_id, validate_reason(reason), new_generation=new_generation)


def merge_confirmed_id(
    user: AnyUser, patient: Patient, node: Node, patient_id: str, reason: str
) -> None:
    """As `join`, for who was asked about one study and has the right to answer, which the caller
    has seen to. An id that has another pseudonym stays as it is. Raises NotPermitted, and PseudonymConflict
    without a pseudonym: the user sees both IDs, and need not have the right to link them.
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
