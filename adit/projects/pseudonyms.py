"""Mapping: what a patient is called in a project, and the Change that makes a transfer lawful."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person, Refused, Right, require
from adit.audit.trail import Veiled, record, veiled
from adit.nodes.access import domain_of
from adit.nodes.models import Node
from adit.projects import risks
from adit.projects.models import Patient, Profile, Project
from adit.projects.services import (
    about,
    box_of,
    default_project,
    key_of,
    require_key,
    require_use,
    stamp_of,
)
from adit.projects.trust_centre import from_trust_centre
from adit.projects.validators import numbered
from adit_engine.errors import AditError, InvalidInput
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.pseudonymize.parameters import AsIs, Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules


class Conflict(AditError):
    """A second pseudonym for one patient, or one pseudonym for two; names no patient."""


def change_for(
    user: Person,
    project: Project | None,
    source: Node,
    destination: Node | None,
    patient_id: str,
    *,
    pseudonym: str = "",
) -> Pseudonymization:
    """How this patient's images are changed for the project; the site's own where it is None.

    Registers the pseudonym (given, or generated when empty) and freezes the profile's version.
    Raises Refused, Conflict, WrongInput.
    """
    project = project or default_project()
    require_project(user, project, source, destination)
    name = registered(user, project, source, patient_id, pseudonym=pseudonym)
    Profile.objects.filter(pk=project.profile_id, frozen_at=None).update(frozen_at=timezone.now())
    rules = Rules.parse(project.profile.text)
    return Pseudonymization(
        rules, name, key_of(project), stamp_of(project), **risks.chosen(project)
    )


def registered(
    user: Person, project: Project, source: Node, patient_id: str, *, pseudonym: str = ""
) -> str:
    """What this patient is called in a project that the user may use for this source.

    Given, or generated when empty. Raises Refused, Conflict, WrongInput.
    """
    domain = domain_of(source)
    if pseudonym and known_pseudonym(project, domain, patient_id) != pseudonym:
        require(user, Right.CHOOSE_PSEUDONYMS)
    return pseudonym_for(project, domain, patient_id, given=pseudonym, user=user)


def as_is_for(
    user: Person, project: Project | None, source: Node, destination: Node | None, *, reason: str
) -> AsIs:
    """Leaves identified, with a right and for a reason that stands in the trail. Raises Refused."""
    require(user, Right.TRANSFER_IDENTIFIED)
    require_project(user, project or default_project(), source, destination)
    if not reason.strip():
        raise Refused(_("Say why identified data must be sent; the reason is kept in the trail."))
    details = {
        "reason": reason.strip(),
        "source": source.name,
        "destination": destination.name if destination else "",
    }
    record("identified.allowed", user=user, about=f"node:{source.pk}", details=details)
    return AsIs()


def pseudonym_for(
    project: Project, domain: str, patient_id: str, given: str = "", *, user: Person | None = None
) -> str:
    """The one pseudonym of this patient in this project, registered on first use.

    A patient without an id is known by the given pseudonym alone. Raises Conflict, WrongInput.
    """
    if given:
        validate_pseudonym(given)
    index = _index(project, domain, patient_id, given)
    if not given and patient_of(project, index) is None:
        given = from_trust_centre(project, domain, _bare(patient_id))
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        require_key(locked)
        row = patient_of(project, index)
        if row is not None:
            _check_same(row, given, project)
            return row.pseudonym
        _require_room(locked)
        _require_veil(given, patient_id)
        pseudonym = given or _generated(locked, domain, patient_id)
        if Patient.objects.filter(project=project, pseudonym__iexact=pseudonym).exists():
            raise _taken(pseudonym, project)
        sealed = box_of(project).seal([domain, _bare(patient_id)], place_of(index))
        Patient.objects.create(project=project, index=index, sealed=sealed, pseudonym=pseudonym)
        record(
            "pseudonym.registered",
            user=user,
            about=about(project),
            details={"given": bool(given)},
            # Under the project's key: events stand in the order in which pseudonyms were given.
            patient=veiled(box_of(project), (domain, _bare(patient_id)))
            if _bare(patient_id)
            else None,
        )
    return pseudonym


def known_pseudonym(project: Project, domain: str, patient_id: str) -> str:
    """What this patient is called already; empty when not registered yet."""
    if not _bare(patient_id):
        return ""
    row = patient_of(project, _index(project, domain, patient_id, ""))
    return row.pseudonym if row is not None else ""


def patient_of(project: Project, index: str) -> Patient | None:
    """Whose id it is; ids that were joined with another patient's come first."""
    joined = Patient.objects.filter(project=project, joined__index=index).first()
    return joined or Patient.objects.filter(project=project, index=index).first()


def patient_at(project: Project | None, node: Node, patient_id: str) -> Patient | None:
    """Whose id it is as this node speaks it."""
    project = project or default_project()
    return patient_of(project, index_of(project, domain_of(node), patient_id))


def veiled_patient(project: Project | None, node: Node, patient_id: str) -> Veiled:
    """For the trail, under the project's key."""
    return veiled(box_of(project or default_project()), (domain_of(node), _bare(patient_id)))


def require_project(user: Person, project: Project, source: Node, destination: Node | None) -> None:
    """Raises Refused where the project has ended, is not the user's, or does not allow a node."""
    require_use(user, project)
    _require_nodes(project, source, destination)


def _require_nodes(project: Project, source: Node, destination: Node | None) -> None:
    for node, allowed in ((source, project.sources), (destination, project.destinations)):
        if node is None or not allowed.exists() or allowed.filter(pk=node.pk).exists():
            continue
        raise Refused(
            _("The research project %(project)s does not allow %(node)s. Ask its manager.")
            % {"project": project.protocol_id, "node": node.name}
        )


def _require_room(project: Project) -> None:
    if project.patient_cap is not None and project.patients.count() >= project.patient_cap:
        raise Refused(
            _(
                "The research project %(project)s is full: it has all the patients (%(n)d) that it "
                "may have. Ask its manager."
            )
            % {"project": project.protocol_id, "n": project.patient_cap}
        )


def _generated(project: Project, domain: str, patient_id: str) -> str:
    if not project.pattern:
        return key_of(project).generate_pseudonym(domain, patient_id)
    number = project.last_number + 1
    while project.patients.filter(pseudonym__iexact=numbered(project.pattern, number)).exists():
        number += 1
    Project.objects.filter(pk=project.pk).update(last_number=number)
    return numbered(project.pattern, number)


def _check_same(row: Patient, given: str, project: Project) -> None:
    """The message does not name the known one: not everybody who reads it may link them."""
    if given and given != row.pseudonym:
        raise Conflict(
            _(
                "This patient already has another pseudonym in the research project %(project)s. "
                "Give no pseudonym to use that one."
            )
            % {"project": project.protocol_id}
        )


def _require_veil(given: str, patient_id: str) -> None:
    """What is the ID itself, but for zeros and case, hides nobody. Raises WrongInput."""
    if given and given.lstrip("0").casefold() == _bare(patient_id).lstrip("0").casefold():
        raise InvalidInput(_("The pseudonym is the patient's own ID: give another one."))


def _taken(pseudonym: str, project: Project) -> Conflict:
    return Conflict(
        _(
            "%(pseudonym)s already stands for another patient in the research project %(project)s: "
            "choose another pseudonym."
        )
        % {"pseudonym": pseudonym, "project": project.protocol_id}
    )


def index_of(project: Project, domain: str, patient_id: str) -> str:
    """Under what the registry finds a patient who has an id."""
    return _index(project, domain, patient_id, "")


def _index(project: Project, domain: str, patient_id: str, given: str) -> str:
    bare = _bare(patient_id)
    if not bare and not given:
        raise InvalidInput(_("This study has no patient ID: give it a pseudonym by hand."))
    return box_of(project).index(f"{domain}\0{bare}" if bare else f"{domain}\0\0{given}", "patient")


def place_of(index: str) -> str:
    """Where the patient behind an index is sealed."""
    return f"patient {index}"


def _bare(patient_id: str) -> str:
    # PS3.5 6.2: leading and trailing spaces of LO do not count; NUL is padding of old systems.
    return patient_id.strip(" \0")
