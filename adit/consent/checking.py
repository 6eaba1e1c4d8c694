"""Check whether a patient has consented. Used by the common check of adit.blocklist.blocking."""

from collections.abc import Collection

from django.db.models import QuerySet
from django.utils import timezone

from adit.consent.models import ConsentEntry, ConsentVersion
from adit.projects import pseudonyms
from adit.projects.models import Project
from adit.projects.services import get_project_cipher
from adit.vault.cipher import ValueCipher
from adit_engine.messages import Message


def has_list(project: Project | None) -> bool:
    """Return whether the project has a consent list in use."""
    versions = _list_versions(project)
    return bool(versions.values_list("is_in_use", flat=True).first())


def get_version(project: Project | None) -> ConsentVersion | None:
    """Return the last version of the consent list; None if the project never had one."""
    return _list_versions(project).first()


def _list_versions(project: Project | None) -> QuerySet[ConsentVersion]:
    """The versions of the consent list of a project, the last one first."""
    if project is None or project.is_default:
        return ConsentVersion.objects.none()
    return ConsentVersion.objects.filter(project_id=project.pk).order_by("-number")


def explain_no_consent(
    project: Project, domain: str, patient_id: str, modalities: Collection[str] = ()
) -> Message | None:
    """Return why the consent list does not allow a transfer; None if it does, or if none is in use.

    `modalities` are those of the study, empty if unknown. All patient IDs that the project knows
    for the patient count; a withdrawal under one of them counts for all. Raises DecryptionError.
    """
    if not has_list(project):
        return None
    entries = _find_entries(project, domain, patient_id)
    name = project.protocol_id
    if not entries:
        return Message("consent.not-listed", project=name)
    if any(entry.withdrawn_on is not None for entry in entries):
        return Message("consent.withdrawn", project=name)
    entries = [entry for entry in entries if _is_valid(entry)]
    if not entries:
        return Message("consent.expired", project=name)
    scope = _join_scopes(entries)
    for wanted in (modalities, project.allowed_modalities):
        if scope and wanted and scope.isdisjoint(wanted):
            return Message("consent.other-modality", project=name)
    return None


def find_modalities(project: Project, domain: str, patient_id: str) -> tuple[str, ...]:
    """Return the modalities that the project and the consent allow; empty = all.

    Call it after `explain_no_consent`, which refuses a patient for whom none is left.
    """
    if not has_list(project):
        return project.allowed_modalities
    entries = _find_entries(project, domain, patient_id)
    scope = _join_scopes([entry for entry in entries if _is_valid(entry)])
    if not scope:
        return project.allowed_modalities
    return tuple(sorted(scope & set(project.allowed_modalities or scope)))


def compute_index(cipher: ValueCipher, domain: str, patient_id: str) -> str:
    """Return the keyed hash of a patient under the key of the project.

    Unlike in the block list, leading zeros and case count: without them, the consent of one patient
    would let out the images of another.
    """
    bare = patient_id.strip(" \0")
    return cipher.index(f"{domain}\0{bare}", "consent")


def _find_entries(project: Project, domain: str, patient_id: str) -> list[ConsentEntry]:
    if not patient_id.strip(" \0"):
        return []
    known = pseudonyms.find_patient_ids(project, domain, patient_id)
    cipher = get_project_cipher(project)
    indexes = {compute_index(cipher, *one) for one in {(domain, patient_id), *known}}
    entries = ConsentEntry.objects.filter(project=project, replaced_in=None, index__in=indexes)
    return list(entries.defer("sealed"))


def _is_valid(entry: ConsentEntry) -> bool:
    if entry.withdrawn_on is not None:
        return False
    return entry.valid_until is None or entry.valid_until >= timezone.localdate()


def _join_scopes(entries: list[ConsentEntry]) -> frozenset[str]:
    """Return the modalities that any entry covers; empty = all."""
    scopes = [entry.allowed_modalities for entry in entries]
    return frozenset[str]() if not all(scopes) else frozenset().union(*scopes)
