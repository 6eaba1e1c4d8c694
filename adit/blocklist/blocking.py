"""Add patients to the block list, end entries, and check whether images of a patient may be sent.

The check also includes the consent list of the project. It is made at each order, at the start of
each task, in checks of sheets, and while a task transfers.
"""

from collections.abc import Collection
from contextlib import suppress
from datetime import date

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import AnyUser, NotPermitted, Right, require
from adit.audit.trail import record
from adit.blocklist.models import BlockedPatient
from adit.consent import checking
from adit.projects import pseudonyms, services
from adit.projects.models import Project
from adit.projects.validators import validate_reason
from adit.vault.cipher import DecryptionError
from adit.vault.master_key import master_cipher
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

EVERY_DOMAIN = ""
MAX_ID_LENGTH = 64
"""PS3.5 6.2, LO."""


class PatientBlocked(NotPermitted):
    """The patient is on the block list, or the consent list does not allow a transfer.

    The message names the list, never the patient.
    """


def has_entries() -> bool:
    """Return whether any patient is blocked, to save further queries if none is."""
    return BlockedPatient.objects.filter(ended_at=None).exists()


def explain_refusal(
    project: Project | None, domain: str, patient_id: str, modalities: Collection[str] = ()
) -> Message | None:
    """Return why images of the patient must not be transferred for the project; None if they may.

    Every part that lets images out asks this function: block list, then consent list. `modalities`
    are those of the study, empty if unknown; see `find_modalities`. No project means the default
    project. Raises DecryptionError.
    """
    project = project or services.default_project()
    entry = find_block(project, domain, patient_id)
    if entry is not None:
        return describe_block(entry)
    return checking.explain_no_consent(project, domain, patient_id, modalities)


def find_modalities(project: Project | None, domain: str, patient_id: str) -> tuple[str, ...]:
    """Return the modalities that may be transferred for a patient; empty = all.

    Series of others are not transferred. Call it after `explain_refusal`.
    """
    project = project or services.default_project()
    return checking.find_modalities(project, domain, patient_id)


def is_blocked(project: Project | None, domain: str, patient_id: str) -> bool:
    """Return whether the patient is on the block list of the project or of all projects.

    No project means the default project. Leading zeros and case of the patient ID are ignored, and
    the merged patient IDs of the project count.
    """
    return find_block(project, domain, patient_id) is not None


def require_not_blocked(project: Project | None, domain: str, patient_id: str) -> None:
    """Raise PatientBlocked if `explain_refusal` gives a reason."""
    why = explain_refusal(project, domain, patient_id)
    if why is not None:
        raise PatientBlocked(why.code, **why.values)


def find_block(project: Project | None, domain: str, patient_id: str) -> BlockedPatient | None:
    """Return an entry that blocks the patient; None if there is none. See `is_blocked`."""
    project = project or services.default_project()
    valid = BlockedPatient.objects.filter(Q(project=None) | Q(project=project), ended_at=None)
    if not valid.exists():
        return None
    indexes = _find_indexes(project, domain, patient_id)
    return valid.filter(index__in=indexes).select_related("project").first()


def is_patient(index: str, project: Project | None, domain: str, patient_id: str) -> bool:
    """Return whether an index of `compute_index` means this patient. Raises DecryptionError."""
    project = project or services.default_project()
    return index in _find_indexes(project, domain, patient_id)


def describe_block(entry: BlockedPatient) -> Message:
    """Return why nothing is transferred, without naming the patient."""
    if entry.project is None:
        return Message("blocklist.blocked-everywhere")
    return Message("blocklist.blocked-in-project", project=entry.project.protocol_id)


def block_patient(
    user: User,
    project: Project | None,
    domain: str,
    patient_id: str,
    *,
    reason: str,
    withdrawn_on: date,
) -> BlockedPatient:
    """Add a patient to the block list of a project, or of all projects if it is None.

    An empty domain means every domain. Adding twice returns the entry that is there. Raises
    NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_BLOCK_LIST)
    reason = validate_reason(reason)
    patient_id = patient_id.strip(" \0")
    if not normalize_patient_id(patient_id) or len(patient_id) > MAX_ID_LENGTH:
        raise InvalidInput("blocklist.patient-id-invalid", limit=MAX_ID_LENGTH)
    if withdrawn_on > timezone.localdate():
        raise InvalidInput("blocklist.date-in-future")
    index = compute_index(domain, patient_id)
    with transaction.atomic():
        there = BlockedPatient.objects.filter(project=project, index=index, ended_at=None).first()
        if there is not None:
            return there
        entry = BlockedPatient.objects.create(
            project=project,
            index=index,
            patient=[domain, patient_id],
            reason=reason,
            withdrawn_on=withdrawn_on,
            created_by=user,
        )
        _record("blocklist.added", user, entry)
    return entry


def end_block(user: User, entry: BlockedPatient, reason: str) -> None:
    """End an entry, so that the patient may be transferred again. The entry stays in the list.

    Raises NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_BLOCK_LIST)
    reason = validate_reason(reason)
    with transaction.atomic():
        locked = BlockedPatient.objects.select_for_update(no_key=True).get(pk=entry.pk)
        if locked.ended_at is not None:
            raise InvalidInput("blocklist.ended-before")
        locked.ended_at, locked.ended_by, locked.end_reason = timezone.now(), user, reason
        locked.save(update_fields=["ended_at", "ended_by", "end_reason"])
        _record("blocklist.ended", user, locked)
    entry.refresh_from_db()


def follow_domain(before: str, after: str) -> int:
    """Block the patients of a domain also in the domain that one of its nodes has now.

    Called when the domain of a node changes; returns the number of new entries. The entries of the
    old domain stay valid: other nodes may use it. Merged patient IDs are followed as well.
    """
    added = 0
    for entry in BlockedPatient.objects.filter(ended_at=None).select_related("project"):
        for patient_id in sorted(_find_ids_in_domain(entry, before)):
            index = compute_index(after, patient_id)
            same = BlockedPatient.objects.filter(project=entry.project, ended_at=None)
            if same.filter(index__in={index, compute_index(EVERY_DOMAIN, patient_id)}).exists():
                continue
            copy = BlockedPatient.objects.create(
                project=entry.project,
                index=index,
                patient=[after, patient_id],
                reason=entry.reason,
                withdrawn_on=entry.withdrawn_on,
                created_by_id=entry.created_by_id,
            )
            _record("blocklist.domain_followed", None, copy)
            added += 1
    return added


def _find_ids_in_domain(entry: BlockedPatient, domain: str) -> set[str]:
    """Return the patient IDs of this domain that belong to the patient of an entry."""
    found = {entry.patient_id} if entry.domain == domain else set()
    projects = Project.objects.all() if entry.project is None else [entry.project]
    for project in projects:
        with suppress(DecryptionError):
            known = pseudonyms.find_patient_ids(project, entry.domain, entry.patient_id)
            found |= {patient_id for place, patient_id in known if place == domain}
    return found


def _record(action: str, user: AnyUser | None, entry: BlockedPatient) -> None:
    """The patient is encrypted in the event; the reason, which may name the patient, is not in it."""
    where = services.audit_subject(entry.project) if entry.project is not None else ""
    details = {"entry": entry.pk, "all_projects": entry.project is None}
    patient = (entry.domain, entry.patient_id)
    record(action, user=user, about=where, details=details, patient=patient)


def _find_indexes(project: Project, domain: str, patient_id: str) -> set[str]:
    """Return the indexes of all entries that would mean this patient."""
    known = pseudonyms.find_patient_ids(project, domain, patient_id)
    return {
        compute_index(place, one)
        for at, one in {(domain, patient_id), *known}
        for place in (at, EVERY_DOMAIN)
        if normalize_patient_id(one)
    }


def compute_index(domain: str, patient_id: str) -> str:
    """Return the keyed hash of a patient, without leading zeros and case, for `is_patient`."""
    return master_cipher().index(f"{domain}\0{normalize_patient_id(patient_id)}", "blocked patient")


def normalize_patient_id(patient_id: str) -> str:
    """Sheets lose leading zeros and systems change the case: such an ID may mean the patient."""
    bare = patient_id.strip(" \0").casefold()
    return bare.lstrip("0") or bare[:1]
