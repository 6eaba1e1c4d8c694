"""Destroy the key of a research project, and with it every link to its patients.

Used by the project page and the `project` command.
"""

import logging
import secrets
from datetime import date, timedelta

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.accounts.permissions import AnyUser, NotPermitted, Right, require
from adit.audit.trail import record
from adit.projects.models import MergedPatientId, Patient, Project
from adit.projects.services import audit_subject, require_key
from adit.projects.validators import validate_reason
from adit_engine.errors import InvalidInput

COMPACTION_HINT = _(
    "The database files could not be compacted now, so they may still contain traces of the key. "
    "Ask the administrator to run: adit manage project compact"
)

log = logging.getLogger(__name__)


def destroy_key(user: AnyUser, project: Project, reason: str, confirmation: str) -> None:
    """Destroy the key, so that pseudonyms cannot be linked to patients any more.

    `typed` is the project ID, typed again. What was encrypted under the key cannot be read by
    anybody. Backups of the database and of the master key contain it until they are deleted; the
    files of the database until `compact_database`. Raises NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_PROJECTS)
    reason = validate_reason(reason)
    if project.is_default:
        raise NotPermitted("project.default-key")
    if confirmation.strip() != project.protocol_id:
        raise InvalidInput("project.id-not-confirmed")
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        require_key(locked)
        locked.key, locked.is_revoked, locked.key_destroyed_at = None, True, timezone.now()
        locked.save(update_fields=["key", "is_revoked", "key_destroyed_at"])
        details = {"reason": reason, "patients": _erase_patients(locked)}
        record("project.key_destroyed", user=user, about=audit_subject(locked), details=details)
    project.refresh_from_db()


def get_backup_end(project: Project) -> date | None:
    """Return the date until which backups contain the destroyed key.

    None if the retention period of backups is not configured.
    """
    if project.key_destroyed_at is None or not settings.BACKUP_DAYS:
        return None
    return (project.key_destroyed_at + timedelta(days=settings.BACKUP_DAYS)).date()


def compact_database() -> bool:
    """Remove overwritten data from the database files, where it may stay for a while.

    Returns False if this is not possible now: inside a transaction, or during a long one of another
    connection.
    """
    if connection.in_atomic_block:
        return False
    try:
        with connection.cursor() as cursor:
            for command in _COMPACT_SQL[connection.vendor]:
                cursor.execute(command)
    except DatabaseError:
        log.warning("the database could not be compacted after a key was destroyed")
        return False
    return True


_COMPACT_SQL = {
    "sqlite": ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"),
    "postgresql": tuple(
        f"VACUUM FULL projects_{table}" for table in ("project", "patient", "mergedpatientid")
    ),
}


def _erase_patients(project: Project) -> int:
    """The order of registration, together with the audit trail, would link patients to pseudonyms.
    So the rows are replaced by rows in the order of pseudonyms, without patients.
    """
    names = sorted(project.patients.values_list("pseudonym", flat=True))
    MergedPatientId.objects.filter(project=project).delete()
    project.patients.all().delete()
    Patient.objects.bulk_create(
        Patient(project=project, index=secrets.token_hex(32), sealed=b"", pseudonym=name)
        for name in names
    )
    return len(names)
