"""Mapping: what a patient is called in a trial, and the Change that makes a transfer lawful."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.rights import Person, Refused, Right, require
from adit.audit.trail import Veiled, record, veiled
from adit.nodes.domain import domain_of
from adit.nodes.models import Node
from adit.profiles import risks
from adit.profiles.models import Patient, Profile, Trial
from adit.profiles.pattern import numbered
from adit.profiles.source import from_trust_centre
from adit.profiles.trials import (
    about,
    box_of,
    default_trial,
    key_of,
    require_key,
    require_use,
    stamp_of,
)
from adit_engine.errors import AditError, WrongInput
from adit_engine.pseudonymize.change import AsIs, Pseudonymized
from adit_engine.pseudonymize.profile import Profile as Rules
from adit_engine.pseudonymize.pseudonym import checked_pseudonym


class Conflict(AditError):
    """A second pseudonym for one patient, or one pseudonym for two; names no patient."""


def change_for(
    user: Person,
    trial: Trial | None,
    source: Node,
    destination: Node | None,
    patient_id: str,
    *,
    pseudonym: str = "",
) -> Pseudonymized:
    """How this patient's images are changed for the trial; the site's own where it is None.

    Registers the pseudonym (given, or generated when empty) and freezes the profile's version.
    Raises Refused, Conflict, WrongInput.
    """
    trial = trial or default_trial()
    require_trial(user, trial, source, destination)
    name = registered(user, trial, source, patient_id, pseudonym=pseudonym)
    Profile.objects.filter(pk=trial.profile_id, frozen_at=None).update(frozen_at=timezone.now())
    rules = Rules.parse(trial.profile.text)
    return Pseudonymized(rules, name, key_of(trial), stamp_of(trial), **risks.chosen(trial))


def registered(
    user: Person, trial: Trial, source: Node, patient_id: str, *, pseudonym: str = ""
) -> str:
    """What this patient is called in a trial that the user may use for this source.

    Given, or generated when empty. Raises Refused, Conflict, WrongInput.
    """
    domain = domain_of(source)
    if pseudonym and known_pseudonym(trial, domain, patient_id) != pseudonym:
        require(user, Right.CHOOSE_PSEUDONYMS)
    return pseudonym_for(trial, domain, patient_id, given=pseudonym, user=user)


def as_is_for(
    user: Person, trial: Trial | None, source: Node, destination: Node | None, *, reason: str
) -> AsIs:
    """Leaves identified, with a right and for a reason that stands in the trail. Raises Refused."""
    require(user, Right.TRANSFER_IDENTIFIED)
    require_trial(user, trial or default_trial(), source, destination)
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
    trial: Trial, domain: str, patient_id: str, given: str = "", *, user: Person | None = None
) -> str:
    """The one pseudonym of this patient in this trial, registered on first use.

    A patient without an id is known by the given pseudonym alone. Raises Conflict, WrongInput.
    """
    if given:
        checked_pseudonym(given)
    index = _index(trial, domain, patient_id, given)
    if not given and patient_of(trial, index) is None:
        given = from_trust_centre(trial, domain, _bare(patient_id))
    with transaction.atomic():
        locked = Trial.objects.select_for_update(no_key=True).get(pk=trial.pk)
        require_key(locked)
        row = patient_of(trial, index)
        if row is not None:
            _check_same(row, given, trial)
            return row.pseudonym
        _require_room(locked)
        _require_veil(given, patient_id)
        pseudonym = given or _generated(locked, domain, patient_id)
        if Patient.objects.filter(trial=trial, pseudonym__iexact=pseudonym).exists():
            raise _taken(pseudonym, trial)
        sealed = box_of(trial).seal([domain, _bare(patient_id)], place_of(index))
        Patient.objects.create(trial=trial, index=index, sealed=sealed, pseudonym=pseudonym)
        record(
            "pseudonym.registered",
            user=user,
            about=about(trial),
            details={"given": bool(given)},
            # Under the trial's key: events stand in the order in which pseudonyms were given.
            patient=veiled(box_of(trial), (domain, _bare(patient_id)))
            if _bare(patient_id)
            else None,
        )
    return pseudonym


def known_pseudonym(trial: Trial, domain: str, patient_id: str) -> str:
    """What this patient is called already; empty when not registered yet."""
    if not _bare(patient_id):
        return ""
    row = patient_of(trial, _index(trial, domain, patient_id, ""))
    return row.pseudonym if row is not None else ""


def patient_of(trial: Trial, index: str) -> Patient | None:
    """Whose id it is; ids that were joined with another patient's come first."""
    joined = Patient.objects.filter(trial=trial, joined__index=index).first()
    return joined or Patient.objects.filter(trial=trial, index=index).first()


def patient_at(trial: Trial | None, node: Node, patient_id: str) -> Patient | None:
    """Whose id it is as this node speaks it."""
    trial = trial or default_trial()
    return patient_of(trial, index_of(trial, domain_of(node), patient_id))


def veiled_patient(trial: Trial | None, node: Node, patient_id: str) -> Veiled:
    """For the trail, under the trial's key."""
    return veiled(box_of(trial or default_trial()), (domain_of(node), _bare(patient_id)))


def require_trial(user: Person, trial: Trial, source: Node, destination: Node | None) -> None:
    """Raises Refused where the trial has ended, is not the user's, or does not allow a node."""
    require_use(user, trial)
    _require_nodes(trial, source, destination)


def _require_nodes(trial: Trial, source: Node, destination: Node | None) -> None:
    for node, allowed in ((source, trial.sources), (destination, trial.destinations)):
        if node is None or not allowed.exists() or allowed.filter(pk=node.pk).exists():
            continue
        raise Refused(
            _("The research project %(trial)s does not allow %(node)s. Ask its manager.")
            % {"trial": trial.protocol_id, "node": node.name}
        )


def _require_room(trial: Trial) -> None:
    if trial.patient_cap is not None and trial.patients.count() >= trial.patient_cap:
        raise Refused(
            _(
                "The research project %(trial)s is full: it has all the patients (%(n)d) that it "
                "may have. Ask its manager."
            )
            % {"trial": trial.protocol_id, "n": trial.patient_cap}
        )


def _generated(trial: Trial, domain: str, patient_id: str) -> str:
    if not trial.pattern:
        return key_of(trial).generated_pseudonym(domain, patient_id)
    number = trial.last_number + 1
    while trial.patients.filter(pseudonym__iexact=numbered(trial.pattern, number)).exists():
        number += 1
    Trial.objects.filter(pk=trial.pk).update(last_number=number)
    return numbered(trial.pattern, number)


def _check_same(row: Patient, given: str, trial: Trial) -> None:
    """The message does not name the known one: not everybody who reads it may link them."""
    if given and given != row.pseudonym:
        raise Conflict(
            _(
                "This patient already has another pseudonym in the research project %(trial)s. "
                "Give no pseudonym to use that one."
            )
            % {"trial": trial.protocol_id}
        )


def _require_veil(given: str, patient_id: str) -> None:
    """What is the ID itself, but for zeros and case, hides nobody. Raises WrongInput."""
    if given and given.lstrip("0").casefold() == _bare(patient_id).lstrip("0").casefold():
        raise WrongInput(_("The pseudonym is the patient's own ID: give another one."))


def _taken(pseudonym: str, trial: Trial) -> Conflict:
    return Conflict(
        _(
            "%(pseudonym)s already stands for another patient in the research project %(trial)s: "
            "choose another pseudonym."
        )
        % {"pseudonym": pseudonym, "trial": trial.protocol_id}
    )


def index_of(trial: Trial, domain: str, patient_id: str) -> str:
    """Under what the registry finds a patient who has an id."""
    return _index(trial, domain, patient_id, "")


def _index(trial: Trial, domain: str, patient_id: str, given: str) -> str:
    bare = _bare(patient_id)
    if not bare and not given:
        raise WrongInput(_("This study has no patient ID: give it a pseudonym by hand."))
    return box_of(trial).index(f"{domain}\0{bare}" if bare else f"{domain}\0\0{given}", "patient")


def place_of(index: str) -> str:
    """Where the patient behind an index is sealed."""
    return f"patient {index}"


def _bare(patient_id: str) -> str:
    # PS3.5 6.2: leading and trailing spaces of LO do not count; NUL is padding of old systems.
    return patient_id.strip(" \0")
