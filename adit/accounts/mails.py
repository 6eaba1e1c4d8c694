"""Send mails at once, and mails to a person about the own account. Used by all that sends mails."""

import logging
import smtplib
import threading

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.audit import outages
from adit_engine.messages import Message

log = logging.getLogger(__name__)
THREAD = "account mail"


def mail_user(user: User, subject: str, text: str) -> None:
    """Send a mail without waiting for the mail server. Without one, or an address, do nothing."""
    end = _("If it was not you, change your password and tell an administrator of ADIT.")
    mail_address(user.email, subject, f"{text}\n\n{end}")


def mail_address(address: str, subject: str, text: str) -> None:
    """Send a mail without waiting for the mail server. Without one, or an address, do nothing."""
    if not (settings.MAIL and address):
        return
    mail = EmailMessage(
        f"ADIT: {subject}",
        f"{text}\n",
        to=[address],
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


def send_now(mail: EmailMessage) -> None:
    """Send a mail to one address. Raises SMTPException, OSError.

    The audit trail records when the mail server begins to fail and works again, and whose address
    it rejects.
    """
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused:
        user = User.objects.filter(email__iexact=mail.to[0]).order_by("pk").first()
        about = f"user:{user.pk}" if user is not None else ""
        outages.record_daily("mail.address_refused", about=about)
        raise
    except (smtplib.SMTPException, OSError) as error:
        outages.note_failure(outages.MAIL, explain_failure(error))
        raise
    outages.note_success(outages.MAIL)


def is_permanent(error: smtplib.SMTPRecipientsRefused) -> bool:
    """Return whether the mail server will never accept mails to the address."""
    return all(code >= 500 for code, _text in error.recipients.values())


def explain_failure(error: Exception) -> Message:
    """Return why the mail server did not accept a mail, and what to check."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return Message("mail.sign-in-rejected")
    if isinstance(error, smtplib.SMTPSenderRefused):
        return Message("mail.sender-rejected")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return Message("mail.address-rejected")
    if isinstance(error, smtplib.SMTPException):
        return Message("mail.not-accepted")
    return Message("mail.server-away")


def _send(mail: EmailMessage) -> None:
    try:
        send_now(mail)
    except OSError as error:  # also the errors of smtplib
        log.warning("a mail about an account was not sent (%s)", type(error).__name__)
    finally:
        connection.close()  # that of this thread
