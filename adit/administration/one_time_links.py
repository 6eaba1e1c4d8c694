"""Create and use one-time links: to set a password, or to create the first administrator.

A link is valid once. Only a keyed digest of its token is stored, so neither the database nor a
backup contains a usable link.
"""

import logging
import secrets
import threading
from datetime import timedelta

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import connection, transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from adit.accounts import permissions
from adit.accounts.mails import send_now
from adit.accounts.models import User
from adit.administration.models import OneTimeLink
from adit.audit.models import AuditEvent
from adit.audit.trail import record
from adit.vault.master_key import master_cipher
from adit_engine.errors import AditError

PASSWORD_LINK_LIFETIME = timedelta(days=7)
SETUP_LINK_LIFETIME = timedelta(hours=24)
REFUSAL_INTERVAL = timedelta(hours=1)
RESET_LINK_LIFETIME = timedelta(hours=1)
"""For a link that somebody requested on the page *Password forgotten*."""
_MAX_REQUESTED = 5
"""Accounts that may share a mail address."""

log = logging.getLogger(__name__)


class LinkRefused(AditError):
    """The link cannot be used; the text says why and how to get another one."""


def create_password_link(actor: User, user: User) -> str:
    """Return the token of a new link to set the password; an earlier link is void.

    Raise LinkRefused for a deactivated account and for a service account.
    """
    _require_may_have_password(user)
    with transaction.atomic():
        token = _create_link(user, PASSWORD_LINK_LIFETIME)
        details = {"user": user.username}
        record("user.password_link", user=actor, about=f"user:{user.pk}", details=details)
    return token


def mail_requested_links(typed: str) -> None:
    """Mail a link to set the password to the accounts with this user name or mail address.

    Deactivated accounts, accounts without mail address and accounts that sign in elsewhere get
    none. The mails are sent by a thread, so that the duration does not tell whether there is one.
    """
    name = typed.strip()
    people = User.objects.filter(is_active=True, is_service=False)
    found = people.filter(Q(username=name) | Q(email__iexact=name))
    mails = []
    for user in found.exclude(email="")[:_MAX_REQUESTED]:
        is_invited = not user.has_usable_password() and user.last_login is None
        if not (user.has_usable_password() or is_invited):
            continue
        lifetime = PASSWORD_LINK_LIFETIME if is_invited else RESET_LINK_LIFETIME
        with transaction.atomic():
            token = _create_link(user, lifetime)
            details = {"user": user.username}
            record("user.password_forgotten", about=f"user:{user.pk}", details=details)
        mails.append((user, token, lifetime))
    threading.Thread(target=_mail_links, args=(mails,), name="password links").start()


def _mail_links(mails: list[tuple[User, str, timedelta]]) -> None:
    try:
        for user, token, lifetime in mails:
            if not mail_password_link(user, token, lifetime):
                log.warning("the mail server did not accept a link to set a password")
    finally:
        connection.close()  # that of this thread


def create_setup_link() -> str:
    """Return the URL to create the first administrator; an earlier link is void.

    Raise LinkRefused if there is an administrator.
    """
    with transaction.atomic():
        _require_no_administrator()
        token = _create_link(None, SETUP_LINK_LIFETIME)
        record("setup.link", details={"hours": 24})
    return f"{settings.SITE_URL}{reverse('setup')}?token={token}"


def password_url(token: str) -> str:
    return f"{settings.SITE_URL}{reverse('password_link')}?token={token}"


def mail_password_link(
    user: User, token: str, lifetime: timedelta = PASSWORD_LINK_LIFETIME
) -> bool:
    """Send the link to the user; return whether the mail server accepted it.

    The mail is sent at once, because the outbox would have to store the token.
    """
    if not (settings.MAIL and user.email):
        return False
    period = (
        ngettext("%(count)d day", "%(count)d days", lifetime.days) % {"count": lifetime.days}
        if lifetime.days
        else _("one hour")
    )
    text = _(
        "Open this link to set the password of your ADIT account %(user)s. It is valid once, for "
        "%(period)s:\n\n%(link)s\n\nIf you did not expect this mail, tell an administrator of "
        "ADIT.\n"
    ) % {"user": user.username, "link": password_url(token), "period": period}
    server = get_connection(timeout=settings.EMAIL_TIMEOUT)
    mail = EmailMessage(_("ADIT: set your password"), text, to=[user.email], connection=server)
    try:
        send_now(mail)
    except OSError:  # also the errors of smtplib
        return False
    return True


def find_password_link(token: str) -> OneTimeLink:
    """Return the link. Raise LinkRefused if it is unknown, used, too old, or of no use any more."""
    link = _find_link(token)
    if link.user is None:
        raise LinkRefused("link.unknown")
    _require_may_have_password(link.user)
    return link


def find_setup_link(token: str) -> OneTimeLink:
    """Return the link. Raise LinkRefused as `find_password_link`, or if someone was faster."""
    link = _find_link(token)
    if link.user is not None:
        raise LinkRefused("link.unknown")
    _require_no_administrator()
    return link


def set_password(token: str, password: str) -> User:
    """Set the password of the account to which the link belongs. Raise LinkRefused."""
    with transaction.atomic():
        user = find_password_link(token).user
        assert user is not None
        _use(token)
        user.set_password(password)
        user.save(update_fields=["password"])
        details = {"user": user.username}
        record("user.password_set", user=user, about=f"user:{user.pk}", details=details)
    return user


def create_first_administrator(token: str, user: User, password: str) -> None:
    """Save the account as an administrator. Raise LinkRefused."""
    with transaction.atomic():
        find_setup_link(token)
        _use(token)
        user.is_staff = True
        user.set_password(password)
        user.save()
        user.groups.add(permissions.create_standard_groups()[permissions.ADMINISTRATORS])
        details = {"user": user.username}
        record("user.first_administrator", user=user, about=f"user:{user.pk}", details=details)


def record_refusal(token: str, error: LinkRefused, address: str) -> None:
    """Record that someone used a link in vain, at most once per hour and link.

    Unknown tokens are not recorded: anyone could fill the audit trail with them.
    """
    link = OneTimeLink.objects.filter(digest=_digest(token)).first()
    if link is None:
        return
    about = f"user:{link.user_id}" if link.user_id else f"link:{link.pk}"
    recent = AuditEvent.objects.filter(
        action="link.refused", about=about, at__gt=timezone.now() - REFUSAL_INTERVAL
    )
    if not recent.exists():
        details = {"reason": error.message.code, "address": address}
        record("link.refused", about=about, details=details)


def discard_link(user: User) -> None:
    """Make the user's link void, if there is one."""
    OneTimeLink.objects.filter(user=user).delete()


def _create_link(user: User | None, lifetime: timedelta) -> str:
    token = secrets.token_urlsafe(32)
    OneTimeLink.objects.filter(user=user).delete()
    OneTimeLink.objects.create(
        user=user, digest=_digest(token), expires_at=timezone.now() + lifetime
    )
    return token


def _find_link(token: str) -> OneTimeLink:
    found = OneTimeLink.objects.select_related("user").filter(digest=_digest(token)).first()
    if found is None:
        raise LinkRefused("link.unknown")
    if found.used_at is not None:
        raise LinkRefused("link.used")
    if found.expires_at <= timezone.now():
        raise LinkRefused("link.expired")
    return found


def _use(token: str) -> None:
    """Mark the link as used, unless another request did so in the meantime."""
    unused = OneTimeLink.objects.filter(digest=_digest(token), used_at=None)
    if unused.update(used_at=timezone.now()) != 1:
        raise LinkRefused("link.used")


def _require_may_have_password(user: User) -> None:
    if user.is_service:
        raise LinkRefused("link.service-account")
    if not user.is_active:
        raise LinkRefused("link.account-deactivated")


def _require_no_administrator() -> None:
    if permissions.administrators().exists():
        raise LinkRefused("link.administrator-exists")


def _digest(token: str) -> str:
    return master_cipher().index(token, "one-time link")
