"""Send queued mails once each, even if processes compete or crash. Used by nodes and jobs."""

import hashlib
import logging
import smtplib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parseaddr
from typing import Generic, TypeVar

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from adit.accounts import mails

LEASE_S = 120
"""How long a process that sends a mail keeps others from sending it."""
MAX_ROUND_S = 10.0
"""Time limit of one round. The rest is sent in the next one, so that mail blocks nothing else."""
PAUSES_S = (60, 300, 900, 3600)
GIVE_UP_AFTER = timedelta(days=3)

log = logging.getLogger(__name__)


class OutgoingMail(models.Model):
    """One mail to one address. It is sent if `sent_at` is set."""

    address = models.EmailField()
    attempt = models.PositiveIntegerField(default=0)
    """Number of attempts to send it. Used for fencing, like the attempt of a task."""
    not_before = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True)
    given_up = models.BooleanField(default=False)

    class Meta:
        abstract = True


L = TypeVar("L", bound=OutgoingMail)


@dataclass(frozen=True)
class Outbox(Generic[L]):
    """The mails of one model. `words` returns subject and text, `name` a unique name of a mail."""

    model: type[L]
    compose: Callable[[L], tuple[str, str]]
    message_name: Callable[[L], str]

    def send(self) -> int:
        """Send the mails that are due and return their number.

        If the mail server is unavailable, the round ends.
        """
        end, sent = time.monotonic() + MAX_ROUND_S, 0
        while time.monotonic() < end:
            asked_at = get_boot_time()
            mail = self.claim_due()
            if mail is None:
                break
            if get_boot_time() - asked_at > LEASE_S:
                continue  # suspended longer than the lease: another process may have sent it
            try:
                mails.send_now(self._message(mail))
            except smtplib.SMTPRecipientsRefused as error:  # concerns this recipient only
                if mails.is_permanent(error):
                    self._give_up(mail, "the mail server rejects its address")
                else:
                    self._postpone(mail, error)
            except (smtplib.SMTPException, OSError) as error:
                self._postpone(mail, error)
                break
            else:
                sent += self.mark_sent(mail)
        return sent

    def claim_due(self) -> L | None:
        """Claim the next mail for this process."""
        now = timezone.now()
        waiting = self.model._default_manager.filter(
            Q(not_before=None) | Q(not_before__lte=now), sent_at=None, given_up=False
        )
        for mail in waiting.order_by("pk")[:20]:
            mine = waiting.filter(pk=mail.pk, attempt=mail.attempt)
            until = now + timedelta(seconds=LEASE_S)
            if mine.update(attempt=F("attempt") + 1, not_before=until) == 1:
                mail.attempt += 1
                return mail
        return None

    def mark_sent(self, mail: L) -> int:
        return self._get_claimed(mail).update(sent_at=timezone.now(), not_before=None)

    def message_id(self, mail: L) -> str:
        """Return the Message-ID. It never changes, so a duplicate can be recognized."""
        to = hashlib.sha256(mail.address.encode()).hexdigest()[:12]
        domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].partition("@")[2] or "localhost"
        made = int(mail.created_at.timestamp())
        return f"<adit.{self.message_name(mail)}.{made}.{to}@{domain}>"

    def _message(self, mail: L) -> EmailMessage:
        subject, text = self.compose(mail)
        headers = {"Message-ID": self.message_id(mail), "Auto-Submitted": "auto-generated"}
        server = get_connection(timeout=settings.EMAIL_TIMEOUT)
        return EmailMessage(
            f"ADIT: {subject}", text, to=[mail.address], headers=headers, connection=server
        )

    def _get_claimed(self, mail: L) -> models.QuerySet[L]:
        mine = {"pk": mail.pk, "attempt": mail.attempt, "sent_at": None}
        return self.model._default_manager.filter(**mine)

    def _postpone(self, mail: L, error: Exception) -> None:
        if timezone.now() - mail.created_at > GIVE_UP_AFTER:
            self._give_up(mail, "no mail server accepted it for three days")
            return
        pause = PAUSES_S[min(mail.attempt, len(PAUSES_S)) - 1]
        log.warning("mail %s not sent (%s)", self.message_name(mail), type(error).__name__)
        self._get_claimed(mail).update(not_before=timezone.now() + timedelta(seconds=pause))

    def _give_up(self, mail: L, reason: str) -> None:
        log.error("mail %s is not sent any more: %s", self.message_name(mail), reason)
        self._get_claimed(mail).update(given_up=True)


def get_boot_time() -> float:
    """Return seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
