"""Register the pseudonyms of patients and create the Change that a transfer requires.

Used by orders and the worker.
"""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from adit.accounts.permissions import AnyUser, NotPermitted, Right, require
from adit.audit.trail import SealedPatient, record, seal_patient
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects import risks
from adit.projects.models import Patient, ProfileVersion, Project
from adit.projects.services import (
    audit_subject,
    default_project,
    get_project_cipher,
    get_project_key,
    get_trial_attributes,
    require_key,
    require_use,
)
from adit.projects.trust_centre import request_pseudonym
from adit.projects.validators import format_pseudonym
from adit_engine.errors import AditError, InvalidInput
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.pseudonymize.parameters import AsIs, Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules
from adit_engine.pseudonymize.visit import TrialVisit

INDEXES_PER_QUERY = 500


class PseudonymConflict(AditError):
    """A second pseudonym for one patient, or one pseudonym for two patients.

    The message contains no patient.
    """


def make_change(
    user: AnyUser,
    project: Project | None,
    source: Node,
    destination: Node | None,
    patient_id: str,
    *,
    pseudonym: str = "",
    visit: TrialVisit | None = None,
) -> Pseudonymization:
    """Return how the images of this patient are changed for the project.

    Without a project, the site's default project is used. Registers the pseudonym (the given one,
    or a generated one if empty) and freezes the profile version. Raises NotPermitted,
    PseudonymConflict, InvalidInput.
    """
    project = project or default_project()
    require_project(user, project, source, destination)
    name = register_pseudonym(user, project, source, patient_id, pseudonym=pseudonym)
    ProfileVersion.objects.filter(pk=project.profile_id, frozen_at=None).update(
        frozen_at=timezone.now()
    )
    rules = Rules.from_toml(project.profile.text)
    return Pseudonymization(
        rules,
        name,
        get_project_key(project),
        get_trial_attributes(project),
        visit=visit,
        **risks.change_parameters(project),
    )


def register_pseudonym(
    user: AnyUser, project: Project, source: Node, patient_id: str, *, pseudonym: str = ""
) -> str:
    """Return the pseudonym of this patient in a project that the user may use.

    It is the given one, or generated if empty. The caller checks that the project allows the
    source. Raises NotPermitted, PseudonymConflict, InvalidInput.
    """
    domain = get_domain(source)
    if pseudonym and find_pseudonym(project, domain, patient_id) != pseudonym:
        require(user, Right.CHOOSE_PSEUDONYMS)
    return get_or_create_pseudonym(project, domain, patient_id, given=pseudonym, user=user)


def allow_identified(
    user: AnyUser, project: Project | None, source: Node, destination: Node | None, *, reason: str
) -> AsIs:
    """Allow an identified transfer. Requires a permission and a reason.

    The reason is kept in the audit trail. Raises NotPermitted.
    """
    require(user, Right.TRANSFER_IDENTIFIED)
    require_project(user, project or default_project(), source, destination)
    if not reason.strip():
        raise NotPermitted("identified.reason-missing")
    details = {
        "reason": reason.strip(),
        "source": source.name,
        "destination": destination.name if destination else "",
    }
    record("identified.allowed", user=user, about=f"node:{source.pk}", details=details)
    return AsIs()


def get_or_create_pseudonym(
    project: Project, domain: str, patient_id: str, given: str = "", *, user: AnyUser | None = None
) -> str:
    """Return the pseudonym of this patient in this project; register it on first use.

    A patient without a patient ID is identified by the given pseudonym. Raises PseudonymConflict,
    InvalidInput.
    """
    if given:
        validate_pseudonym(given)
    index = _compute_index(project, domain, patient_id, given)
    if not given and find_patient(project, index) is None:
        given = request_pseudonym(project, domain, _strip_padding(patient_id))
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        require_key(locked)
        row = find_patient(project, index)
        if row is not None:
            _require_same_pseudonym(row, given, project)
            return row.pseudonym
        _require_patient_capacity(locked)
        _require_not_patient_id(given, patient_id)
        pseudonym = given or _generate_pseudonym(locked, domain, patient_id)
        if Patient.objects.filter(project=project, pseudonym__iexact=pseudonym).exists():
            raise PseudonymConflict(
                "pseudonym.taken", pseudonym=pseudonym, project=project.protocol_id
            )
        sealed = get_project_cipher(project).seal(
            [domain, _strip_padding(patient_id)], patient_context(index)
        )
        Patient.objects.create(project=project, index=index, sealed=sealed, pseudonym=pseudonym)
        record(
            "pseudonym.registered",
            user=user,
            about=audit_subject(project),
            details={"given": bool(given)},
            # Encrypted under the key of the project, because the order of events is the order in
            # which pseudonyms were assigned.
            patient=seal_patient(get_project_cipher(project), (domain, _strip_padding(patient_id)))
            if _strip_padding(patient_id)
            else None,
        )
    return pseudonym


def find_pseudonym(project: Project, domain: str, patient_id: str) -> str:
    """Return the registered pseudonym of this patient; empty if there is none."""
    if not _strip_padding(patient_id):
        return ""
    row = find_patient(project, _compute_index(project, domain, patient_id, ""))
    return row.pseudonym if row is not None else ""


def find_patient(project: Project, index: str) -> Patient | None:
    """Return the patient of an index; merged patient IDs take precedence."""
    joined = Patient.objects.filter(project=project, merged_ids__index=index).first()
    return joined or Patient.objects.filter(project=project, index=index).first()


def find_patients(project: Project, indexes: Iterable[str]) -> dict[str, Patient]:
    """Return the registered patients among these indexes, as `find_patient` does for one."""
    wanted = list(indexes)
    found: dict[str, Patient] = {}
    for at in range(0, len(wanted), INDEXES_PER_QUERY):
        some = wanted[at : at + INDEXES_PER_QUERY]
        patients = Patient.objects.filter(project=project)
        found |= {patient.index: patient for patient in patients.filter(index__in=some)}
        merged = patients.filter(merged_ids__index__in=some).annotate(of=F("merged_ids__index"))
        found |= {patient.of: patient for patient in merged}
    return found


def find_patient_ids(project: Project, domain: str, patient_id: str) -> set[tuple[str, str]]:
    """Return domain and ID of all patient IDs that the project knows for this patient.

    Empty for a patient who is not registered. Raises DecryptionError.
    """
    if not _strip_padding(patient_id):
        return set()
    patient = find_patient(project, get_patient_index(project, domain, patient_id))
    if patient is None:
        return set()
    cipher = get_project_cipher(project)
    merged = patient.merged_ids.values_list("sealed", "index")
    sealed = [(patient.sealed, patient.index), *merged]
    opened = (cipher.open(value, patient_context(index)) for value, index in sealed)
    return {(place, one) for place, one in opened}


def find_patient_at_node(project: Project | None, node: Node, patient_id: str) -> Patient | None:
    """Return the patient to whom this patient ID belongs at this node."""
    project = project or default_project()
    return find_patient(project, get_patient_index(project, get_domain(node), patient_id))


def seal_patient_of_node(project: Project | None, node: Node, patient_id: str) -> SealedPatient:
    """Encrypt the patient under the key of the project, for the audit trail."""
    return seal_patient(
        get_project_cipher(project or default_project()),
        (get_domain(node), _strip_padding(patient_id)),
    )


def require_project(
    user: AnyUser, project: Project, source: Node, destination: Node | None
) -> None:
    """Raise NotPermitted unless the user may use the project with these nodes."""
    require_use(user, project)
    _require_nodes(project, source, destination)


def _require_nodes(project: Project, source: Node, destination: Node | None) -> None:
    """The site's default project has no limits of its own."""
    if project.is_default:
        return
    if not (project.all_modalities or project.modalities):
        raise NotPermitted("project.no-modalities", project=project.protocol_id)
    for node, allowed in ((source, project.sources), (destination, project.destinations)):
        if node is None or allowed.filter(pk=node.pk).exists():
            continue
        raise NotPermitted("project.node-not-allowed", project=project.protocol_id, node=node.name)


def _require_patient_capacity(project: Project) -> None:
    if project.patient_cap is not None and project.patients.count() >= project.patient_cap:
        raise NotPermitted(
            "project.patient-limit", project=project.protocol_id, limit=project.patient_cap
        )


def _generate_pseudonym(project: Project, domain: str, patient_id: str) -> str:
    if not project.pattern:
        return get_project_key(project).generate_pseudonym(domain, patient_id)
    number = project.last_number + 1
    while project.patients.filter(
        pseudonym__iexact=format_pseudonym(project.pattern, number)
    ).exists():
        number += 1
    Project.objects.filter(pk=project.pk).update(last_number=number)
    return format_pseudonym(project.pattern, number)


def _require_same_pseudonym(row: Patient, given: str, project: Project) -> None:
    """The message does not contain the registered pseudonym: not every reader may link
    pseudonyms.
    """
    if given and given != row.pseudonym:
        raise PseudonymConflict("pseudonym.patient-has-other", project=project.protocol_id)


def _require_not_patient_id(given: str, patient_id: str) -> None:
    """Raise InvalidInput if the pseudonym would not hide the patient ID."""
    if given and hides_nothing(given, patient_id):
        raise InvalidInput("pseudonym.is-patient-id")


def hides_nothing(pseudonym: str, patient_id: str) -> bool:
    """Return whether the pseudonym is the patient ID, but for leading zeros and case."""
    return pseudonym.lstrip("0").casefold() == _strip_padding(patient_id).lstrip("0").casefold()


def get_patient_index(project: Project, domain: str, patient_id: str) -> str:
    """Return the index under which a patient with a patient ID is registered."""
    return _compute_index(project, domain, patient_id, "")


def _compute_index(project: Project, domain: str, patient_id: str, given: str) -> str:
    bare = _strip_padding(patient_id)
    if not bare and not given:
        raise InvalidInput("pseudonym.needed-without-patient-id")
    return get_project_cipher(project).index(
        f"{domain}\0{bare}" if bare else f"{domain}\0\0{given}", "patient"
    )


def patient_context(index: str) -> str:
    """Return the encryption context of the patient with this index."""
    return f"patient {index}"


def _strip_padding(patient_id: str) -> str:
    # PS3.5 6.2: leading and trailing spaces of LO are not significant; old systems pad with NUL.
    return patient_id.strip(" \0")
