"""Joining: two patient ids are one person's, so that both go by one pseudonym from now on."""

from django.db import transaction
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person
from adit.audit.trail import record, veiled
from adit.nodes.access import domain_of
from adit.nodes.models import Node
from adit.projects.models import JoinedId, Patient, Project
from adit.projects.pseudonyms import Conflict, index_of, patient_of, place_of
from adit.projects.services import about, box_of, require_key, require_link
from adit.projects.validators import checked_reason


def join(
    user: Person,
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
    UIDs of the project are new. Raises Refused, WrongInput, Conflict.
    """
    require_link(user, patient.project)
    _join(user, patient, node, patient_id, checked_reason(reason), new_generation=new_generation)


def note_same(user: Person, patient: Patient, node: Node, patient_id: str, reason: str) -> None:
    """As `join`, for who was asked about one study and has the right to answer, which the caller
    has seen to. An id that has another pseudonym stays as it is. Raises Refused, and Conflict
    without a pseudonym: the user sees both IDs, and need not have the right to link them.
    """
    try:
        _join(user, patient, node, patient_id, reason, new_generation=False)
    except Conflict:
        raise Conflict(
            _(
                "Both patient IDs have a pseudonym of their own in the research project. Ask "
                "somebody who may re-identify patients to join them on the project's page first."
            )
        ) from None


def _join(
    user: Person,
    patient: Patient,
    node: Node,
    patient_id: str,
    reason: str,
    *,
    new_generation: bool,
) -> None:
    project = patient.project
    require_key(project)
    domain, bare = domain_of(node), patient_id.strip(" \0")
    index = index_of(project, domain, bare)
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        require_key(locked)
        before = patient_of(project, index)
        if before is not None and before.pk == patient.pk:
            return
        if before is not None:
            if not new_generation:
                raise _has_pseudonym(before, patient)
            locked.generation += 1
            locked.save(update_fields=["generation"])
        JoinedId.objects.filter(project=project, index=index).delete()
        sealed = box_of(project).seal([domain, bare], place_of(index))
        JoinedId.objects.create(patient=patient, project=project, index=index, sealed=sealed)
        details = {
            "pseudonym": patient.pseudonym,
            "before": before.pseudonym if before is not None else "",
            "generation": locked.generation,
            "reason": reason,
        }
        who = veiled(box_of(project), (domain, bare))
        record("patient.joined", user=user, about=about(project), details=details, patient=who)


def _has_pseudonym(before: Patient, patient: Patient) -> Conflict:
    words = {"before": before.pseudonym, "now": patient.pseudonym}
    return Conflict(
        _(
            "This patient ID goes by %(before)s already, and images may have left so. To let it go "
            "by %(now)s, tick that all identifiers of the project's images are new from now on."
        )
        % words
    )
