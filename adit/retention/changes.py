"""Change retention periods. Used by their page."""

from collections.abc import Mapping
from datetime import timedelta

from django.db import transaction
from django.db.models import F

from adit.accounts.models import User
from adit.accounts.permissions import Right, require
from adit.audit.changes import compare_values
from adit.audit.trail import record
from adit.jobs.models import ArchiveFile
from adit.retention.models import RetentionPeriod
from adit.retention.periods import DataKind, get_days


@transaction.atomic
def save_periods(user: User, days: Mapping[DataKind, int | None]) -> bool:
    """Save the periods; return whether one has changed. Raises NotPermitted.

    Existing 7-Zip files get the end that follows from the new period.
    """
    require(user, Right.ADMINISTER)
    before = {kind.value: get_days(kind) for kind in days}
    changes = compare_values(before, {kind.value: count for kind, count in days.items()})
    for kind in changes:
        count = days[DataKind(kind)]
        RetentionPeriod.objects.update_or_create(kind=kind, defaults={"days": count})
        if kind == DataKind.ARCHIVES and count is not None:
            ArchiveFile.objects.filter(removed_at=None).update(
                expires_at=F("built_at") + timedelta(days=count)
            )
    if changes:
        record("retention.changed", user=user, details={"changes": changes})
    return bool(changes)
