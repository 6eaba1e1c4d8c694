"""End the access of people whom the directory has disabled. Used by the scheduler."""

import logging

from django.conf import settings
from django.db import transaction

from adit.accounts import sessions
from adit.accounts.external_accounts import DIRECTORY, DirectoryUnavailable
from adit.accounts.models import User
from adit.api_tokens import tokens
from adit.audit.outages import record_daily
from adit.audit.trail import record

log = logging.getLogger(__name__)


def end_access_of_missing_users() -> None:
    """Deactivate accounts of people whom the directory no longer lets sign in.

    Their jobs stop, since tasks check the permissions of their owner. Does nothing if the check is
    not configured, or the directory does not answer.
    """
    if settings.LDAP is None or not settings.LDAP.checks_accounts:
        return
    from adit.accounts import ldap  # needs the extra `ldap`

    try:
        for user in ldap.find_missing_users(settings.LDAP):
            _end_access(user)
        groups = ldap.find_missing_groups(settings.LDAP)
    except DirectoryUnavailable:
        log.warning("Accounts were not compared with the directory: it did not answer as expected")
        return
    if groups:
        record_daily("directory.groups_missing", details={"groups": groups})


def _end_access(user: User) -> None:
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(is_active=False)
        details = {
            "user": user.username,
            "provider": DIRECTORY,
            "sessions": sessions.end_sessions(user),
            "tokens": tokens.revoke_all(None, user),
        }
        record("user.deactivated", about=f"user:{user.pk}", details=details)
