"""Mails to a person about the own account. Used by sign-in and by the pages of users."""

import logging
import threading

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User

log = logging.getLogger(__name__)
THREAD = "account mail"


def mail_user(user: User, subject: str, text: str) -> None:
    """Send a mail without waiting for the mail server. Without one, or an address, do nothing."""
    if not (settings.MAIL and user.email):
        return
    end = _("If it was not you, change your password and tell an administrator of ADIT.")
    mail = EmailMessage(
        f"ADIT: {subject}",
        f"{text}\n\n{end}\n",
        to=[user.email],
        headers={"Auto-Submitted": "auto-generated"},
        connection=get_connection(timeout=settings.EMAIL_TIMEOUT),
    )
    threading.Thread(target=_send, args=(mail,), name=THREAD).start()


def mail_change_of_second_factor(user: User, *, was_added: bool) -> None:
    names = {"user": user.username}
    if was_added:
        text = _("A second factor was set up for your ADIT account %(user)s.") % names
        mail_user(user, _("second factor set up"), text)
    else:
        text = _("A second factor was removed from your ADIT account %(user)s.") % names
        mail_user(user, _("second factor removed"), text)


def mail_new_browser(user: User, browser: str, address: str) -> None:
    text = _(
        "Somebody has signed in to your ADIT account %(user)s with a browser that was not used for "
        "it before.\n\nTime: %(time)s\nBrowser: %(browser)s\nAddress: %(address)s"
    ) % {
        "user": user.username,
        "time": timezone.localtime().strftime("%Y-%m-%d %H:%M %Z"),
        "browser": browser or _("unknown"),
        "address": address,
    }
    mail_user(user, _("sign-in with a new browser"), text)


def _send(mail: EmailMessage) -> None:
    try:
        mail.send()
    except OSError as error:  # also the errors of smtplib
        log.warning("a mail about an account was not sent (%s)", type(error).__name__)
