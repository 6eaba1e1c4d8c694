"""Change the consent list of a project: single patients, or the whole list. Used by its pages."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from django.db import transaction
from django.utils import timezone

from adit.accounts.models import User
from adit.audit.trail import record, seal_patient
from adit.consent.checking import compute_index, get_version
from adit.consent.models import ConsentEntry, ConsentVersion
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects import services
from adit.projects.models import Project
from adit.projects.services import get_project_cipher
from adit.projects.validators import validate_reason
from adit.vault.cipher import ValueCipher
from adit_engine.errors import InvalidInput

MAX_ID_LENGTH = 64
"""PS3.5 6.2, LO."""
MAX_MODALITIES_LENGTH = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_MODALITY = re.compile(r"[A-Z]{2,16}")


@dataclass(frozen=True, slots=True)
class Consent:
    """The consent of one patient, as entered or uploaded."""

    domain: str
    patient_id: str = field(repr=False)
    modalities: str = ""
    """Such as "CT, MR"; empty: all."""
    valid_until: date | None = None
    withdrawn_on: date | None = None

    def compute_index(self, cipher: ValueCipher) -> str:
        return compute_index(cipher, self.domain, self.patient_id)

    @property
    def terms(self) -> tuple[object, ...]:
        return self.modalities, self.valid_until, self.withdrawn_on


def list_domains() -> list[str]:
    """Return the patient ID domains of all PACS and folders, sorted."""
    return sorted({get_domain(node) for node in Node.objects.all()})


def normalize_modalities(text: str) -> str:
    """Return modalities as "CT, MR". Raises InvalidInput."""
    words = sorted({word.upper() for word in re.split(r"[\s,;+/\\]+", text) if word})
    joined = ", ".join(words)
    if not all(map(_MODALITY.fullmatch, words)) or len(joined) > MAX_MODALITIES_LENGTH:
        raise InvalidInput("consent.modalities-invalid")
    return joined


def validate_consent(consent: Consent, domains: Iterable[str]) -> None:
    """Raise InvalidInput unless the consent can be on a list."""
    patient_id = consent.patient_id.strip(" \0")
    if not patient_id or len(patient_id) > MAX_ID_LENGTH or _CONTROL.search(patient_id):
        raise InvalidInput("consent.patient-id-invalid", limit=MAX_ID_LENGTH)
    if consent.domain not in domains:
        raise InvalidInput("consent.unknown-domain", domains=", ".join(domains))
    if consent.withdrawn_on is not None and consent.withdrawn_on > timezone.localdate():
        raise InvalidInput("consent.withdrawn-in-future")


def save_consent(user: User, project: Project, consent: Consent, reason: str) -> ConsentEntry:
    """Add a patient to the list, or replace the consent of a patient on it.

    The first patient puts the list in use. Raises NotPermitted, InvalidInput.
    """
    reason = require_change(user, project, reason)
    validate_consent(consent, list_domains())
    with transaction.atomic():
        version = add_version(user, project, reason)
        index = consent.compute_index(get_project_cipher(project))
        entry = replace_entries(version, find_current(project, [index]), [consent])[0]
        record_version("consent.added", user, version, patient=entry.patient)
    return entry


def withdraw_consent(
    user: User, entry: ConsentEntry, withdrawn_on: date, reason: str
) -> ConsentEntry:
    """Withdraw the consent of a patient, at once. Raises NotPermitted, InvalidInput."""
    project = entry.project
    reason = require_change(user, project, reason)
    if withdrawn_on > timezone.localdate():
        raise InvalidInput("consent.withdrawn-in-future")
    with transaction.atomic():
        version = add_version(user, project, reason, is_in_use=None)
        current = find_current(project, [entry.index])
        there = current.get(entry.index)
        if there is None or there.pk != entry.pk or there.withdrawn_on is not None:
            raise InvalidInput("consent.changed-before")
        consent = Consent(
            entry.domain, entry.patient_id, entry.modalities, entry.valid_until, withdrawn_on
        )
        withdrawn = replace_entries(version, current, [consent])[0]
        record_version("consent.withdrawn", user, version, patient=entry.patient)
    return withdrawn


def remove_list(user: User, project: Project, reason: str) -> None:
    """Take the list out of use: the project needs no consent list from then on.

    Its entries stay, and count again when the list is used again. Raises NotPermitted, InvalidInput.
    """
    reason = require_change(user, project, reason)
    with transaction.atomic():
        version = get_version(project)
        if version is None or not version.is_in_use:
            raise InvalidInput("consent.no-list")
        version = add_version(user, project, reason, is_in_use=False)
        record_version("consent.removed", user, version)


def export_list(user: User, project: Project, reason: str) -> list[ConsentEntry]:
    """Return the entries of the current version, and record it. Raises NotPermitted, InvalidInput."""
    services.require_reidentify(user, project)
    reason = validate_reason(reason)
    services.require_key(project)
    found = list(find_current(project).values())
    record(
        "consent.exported",
        user=user,
        about=services.audit_subject(project),
        details={"reason": reason, "patients": len(found)},
    )
    return found


def require_change(user: User, project: Project, reason: str) -> str:
    """Return the reason. Raise NotPermitted or InvalidInput unless the user may change the list."""
    services.require_list(user, project)
    if project.is_default:
        raise InvalidInput("consent.default-project")
    services.require_key(project)
    return validate_reason(reason)


def add_version(
    user: User,
    project: Project,
    reason: str,
    *,
    is_in_use: bool | None = True,
    upload_index: str = "",
) -> ConsentVersion:
    """Add a version, locked against others. None keeps whether the list is in use.

    Raises NotPermitted if the key of the project was destroyed meanwhile.
    """
    locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    services.require_key(locked)
    last = get_version(project)
    if is_in_use is None:
        is_in_use = last is not None and last.is_in_use
    version = ConsentVersion(
        project=project,
        number=1 if last is None else last.number + 1,
        is_in_use=is_in_use,
        upload_index=upload_index,
        created_by=user,
    )
    version.sealed_reason = get_project_cipher(project).seal(reason, version.seal_context)
    version.save()
    return version


def find_current(project: Project, indexes: Iterable[str] | None = None) -> dict[str, ConsentEntry]:
    """Return the entries of the current version, by index."""
    entries = ConsentEntry.objects.filter(project=project, replaced_in=None)
    if indexes is not None:
        entries = entries.filter(index__in=indexes)
    found = {entry.index: entry for entry in entries}
    for entry in found.values():
        entry.project = project
    return found


def replace_entries(
    version: ConsentVersion, current: Mapping[str, ConsentEntry], consents: Iterable[Consent]
) -> list[ConsentEntry]:
    """End the current entries, and add the consents instead."""
    pks = [entry.pk for entry in current.values()]
    for at in range(0, len(pks), 500):
        entries = ConsentEntry.objects.filter(pk__in=pks[at : at + 500])
        entries.update(replaced_in=version)
    cipher = get_project_cipher(version.project)
    rows = [_make_entry(version, cipher, consent) for consent in consents]
    return ConsentEntry.objects.bulk_create(rows, batch_size=500)


def _make_entry(version: ConsentVersion, cipher: ValueCipher, consent: Consent) -> ConsentEntry:
    entry = ConsentEntry(
        project=version.project,
        index=consent.compute_index(cipher),
        modalities=consent.modalities,
        valid_until=consent.valid_until,
        withdrawn_on=consent.withdrawn_on,
        added_in=version,
    )
    patient = [consent.domain, consent.patient_id.strip(" \0")]
    entry.sealed = cipher.seal(patient, entry.seal_context)
    return entry


def record_version(
    action: str,
    user: User,
    version: ConsentVersion,
    patient: tuple[str, str] | None = None,
    **details: int,
) -> None:
    """Record a change of the list.

    The patient is encrypted under the key of the project, since the event links the patient to it.
    The reason, which may name the patient, is not in the event.
    """
    cipher = get_project_cipher(version.project)
    record(
        action,
        user=user,
        about=services.audit_subject(version.project),
        details={"version": version.number, **details},
        patient=seal_patient(cipher, patient) if patient is not None else None,
    )
