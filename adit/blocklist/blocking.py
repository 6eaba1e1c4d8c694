"""Add patients to the block list, end entries, and check whether a patient is blocked.

Checked at each order, at the start of each task, in checks of sheets, and while a task transfers.
"""

from datetime import date

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import AnyUser, NotPermitted, Right, require
from adit.audit.trail import record
from adit.blocklist.models import BlockedPatient
from adit.projects import pseudonyms, services
from adit.projects.models import Project
from adit.projects.validators import validate_reason
from adit.vault.master_key import master_cipher
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

EVERY_DOMAIN = ""
MAX_ID_LENGTH = 64
"""PS3.5 6.2, LO."""


class PatientBlocked(NotPermitted):
    """The patient is on the block list. The message names the list, never the patient."""


def has_entries() -> bool:
    """Return whether any patient is blocked, to save further queries if none is."""
    return BlockedPatient.objects.filter(ended_at=None).exists()


def is_blocked(project: Project | None, domain: str, patient_id: str) -> bool:
    """Return whether images of the patient must not be transferred for the project.

    No project means the default project. Leading zeros and case of the patient ID are ignored, and
    the merged patient IDs of the project count.
    """
    return find_block(project, domain, patient_id) is not None


def require_not_blocked(project: Project | None, domain: str, patient_id: str) -> None:
    """Raise PatientBlocked if `is_blocked`."""
    entry = find_block(project, domain, patient_id)
    if entry is not None:
        message = describe_block(entry)
        raise PatientBlocked(message.code, **message.values)


def find_block(project: Project | None, domain: str, patient_id: str) -> BlockedPatient | None:
    """Return an entry that blocks the patient; None if there is none. See `is_blocked`."""
    project = project or services.default_project()
    valid = BlockedPatient.objects.filter(Q(project=None) | Q(project=project), ended_at=None)
    if not valid.exists():
        return None
    indexes = _find_indexes(project, domain, patient_id)
    return valid.filter(index__in=indexes).select_related("project").first()


def is_patient_of(
    entry: BlockedPatient, project: Project | None, domain: str, patient_id: str
) -> bool:
    """Return whether an entry, valid or ended, means this patient. Raises DecryptionError."""
    project = project or services.default_project()
    return entry.index in _find_indexes(project, domain, patient_id)


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
    if not _normalize(patient_id) or len(patient_id) > MAX_ID_LENGTH:
        raise InvalidInput("blocklist.patient-id-invalid", limit=MAX_ID_LENGTH)
    if withdrawn_on > timezone.localdate():
        raise InvalidInput("blocklist.date-in-future")
    index = _compute_index(domain, patient_id)
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


def _record(action: str, user: AnyUser, entry: BlockedPatient) -> None:
    """The patient is encrypted in the event; the reason, which may name the patient, is not in it."""
    where = services.audit_subject(entry.project) if entry.project is not None else ""
    details = {"entry": entry.pk, "all_projects": entry.project is None}
    patient = (entry.domain, entry.patient_id)
    record(action, user=user, about=where, details=details, patient=patient)


def _find_indexes(project: Project, domain: str, patient_id: str) -> set[str]:
    """Return the indexes of all entries that would mean this patient."""
    known = pseudonyms.find_patient_ids(project, domain, patient_id)
    return {
        _compute_index(place, one)
        for at, one in {(domain, patient_id), *known}
        for place in (at, EVERY_DOMAIN)
        if _normalize(one)
    }


def _compute_index(domain: str, patient_id: str) -> str:
    return master_cipher().index(f"{domain}\0{_normalize(patient_id)}", "blocked patient")


def _normalize(patient_id: str) -> str:
    """Sheets lose leading zeros and systems change the case: such an ID may mean the patient."""
    bare = patient_id.strip(" \0").casefold()
    return bare.lstrip("0") or bare[:1]
