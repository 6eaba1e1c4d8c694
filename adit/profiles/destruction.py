"""Destruction: the end of a research project's key, and with it of every tie to its patients."""

import secrets

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.rights import Person, Refused, Right, require
from adit.audit.trail import record
from adit.profiles.models import Patient, Trial
from adit.profiles.reason import checked_reason
from adit.profiles.trials import about, require_key
from adit_engine.errors import WrongInput


def destroy_key(user: Person, trial: Trial, reason: str, typed: str) -> None:
    """Cuts the tie between pseudonyms and patients for good; `typed` is the project id, again.

    What was sealed under the key cannot be read any more, by anybody. Backups of the database and
    of the master key hold it until they are gone themselves. Raises Refused, WrongInput.
    """
    require(user, Right.MANAGE_TRIALS)
    reason = checked_reason(reason)
    if trial.is_default:
        raise Refused(_("The site's own key cannot be destroyed: everything else leans on it."))
    if typed.strip() != trial.protocol_id:
        raise WrongInput(_("Type the project id exactly as it stands here, to be sure."))
    with transaction.atomic():
        locked = Trial.objects.select_for_update().get(pk=trial.pk)
        require_key(locked)
        locked.key, locked.is_revoked, locked.key_destroyed_at = None, True, timezone.now()
        locked.save(update_fields=["key", "is_revoked", "key_destroyed_at"])
        details = {"reason": reason, "patients": _forget_order(locked)}
        record("trial.key_destroyed", user=user, about=about(locked), details=details)
    trial.refresh_from_db()


def _forget_order(trial: Trial) -> int:
    """Who was registered when, beside what the trail says, would tie patients and pseudonyms."""
    names = sorted(trial.patients.values_list("pseudonym", flat=True))
    trial.patients.all().delete()
    Patient.objects.bulk_create(
        Patient(trial=trial, index=secrets.token_hex(32), sealed=b"", pseudonym=name)
        for name in names
    )
    return len(names)
