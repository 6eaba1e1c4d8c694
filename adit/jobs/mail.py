"""Mail: sends the letters that wait, each once, with nothing in them about a patient."""

import hashlib
import logging
import smtplib
import time
from datetime import timedelta
from email.utils import parseaddr

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.jobs.lease import boot_time
from adit.jobs.models import JobState, Letter

LEASE_S = 120
"""So long a letter that is being sent is nobody else's."""
LONGEST_S = 10.0
"""One round of sending; the rest waits for the next, so that nothing else waits for mail."""
PAUSES_S = (60, 300, 900, 3600)
GIVE_UP = timedelta(days=3)

log = logging.getLogger(__name__)


def send_waiting() -> int:
    """Sends what is due; how many went out. A mail server that is away ends the round."""
    end, sent = time.monotonic() + LONGEST_S, 0
    while time.monotonic() < end:
        asked_at = boot_time()
        letter = _taken()
        if letter is None:
            break
        if boot_time() - asked_at > LEASE_S:
            continue  # frozen since: somebody else may have sent it
        try:
            _message(letter).send()
        except smtplib.SMTPRecipientsRefused:
            _give_up(letter, "the mail server refuses its address")
        except (smtplib.SMTPException, OSError) as error:
            _put_back(letter, error)
            break
        else:
            sent += _mark_sent(letter)
    return sent


def message_id(letter: Letter) -> str:
    """The same however often it is sent, so that a second one is known for what it is."""
    to = hashlib.sha256(letter.address.encode()).hexdigest()[:12]
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].partition("@")[2] or "localhost"
    made = int(letter.created_at.timestamp())
    return f"<adit.{letter.job_id}.{letter.what}.{letter.number}.{made}.{to}@{domain}>"


def _taken() -> Letter | None:
    """The next letter, held by this process; `attempt` is the fence."""
    now = timezone.now()
    waiting = Letter.objects.filter(
        Q(not_before=None) | Q(not_before__lte=now), sent_at=None, given_up=False
    )
    for letter in waiting.order_by("pk")[:20]:
        mine = waiting.filter(pk=letter.pk, attempt=letter.attempt)
        until = now + timedelta(seconds=LEASE_S)
        if mine.update(attempt=F("attempt") + 1, not_before=until) == 1:
            letter.attempt += 1
            return letter
    return None


def _mark_sent(letter: Letter) -> int:
    mine = Letter.objects.filter(pk=letter.pk, attempt=letter.attempt, sent_at=None)
    return mine.update(sent_at=timezone.now(), not_before=None)


def _put_back(letter: Letter, error: Exception) -> None:
    if timezone.now() - letter.created_at > GIVE_UP:
        _give_up(letter, "no mail server took it for three days")
        return
    pause = PAUSES_S[min(letter.attempt, len(PAUSES_S)) - 1]
    log.warning("mail for job %d not sent (%s)", letter.job_id, type(error).__name__)
    mine = Letter.objects.filter(pk=letter.pk, attempt=letter.attempt)
    mine.update(not_before=timezone.now() + timedelta(seconds=pause))


def _give_up(letter: Letter, why: str) -> None:
    log.error("mail for job %d is given up: %s", letter.job_id, why)
    Letter.objects.filter(pk=letter.pk, attempt=letter.attempt).update(given_up=True)


def _message(letter: Letter) -> EmailMessage:
    subject, text = _words(letter)
    ending = _("Mails say nothing about patients: the page does, after signing in.")
    link = f"{settings.SITE_URL}{reverse('job', args=[letter.job_id])}"
    return EmailMessage(
        f"ADIT: {subject}",
        f"{text}\n\n{link}\n\n{ending}\n",
        to=[letter.address],
        headers={"Message-ID": message_id(letter), "Auto-Submitted": "auto-generated"},
        connection=get_connection(timeout=settings.EMAIL_TIMEOUT),
    )


def _words(letter: Letter) -> tuple[str, str]:
    """Subject and first sentence. Titles and reasons are people's own words, so they stay here."""
    job, W = letter.job, Letter.What
    words = {
        "n": job.pk,
        "state": JobState(letter.state).label,
        "who": job.owner.get_full_name() or job.owner.get_username(),
    }
    if letter.what == W.ASKED:
        return (
            _("job %(n)d waits for approval") % words,
            _("%(who)s has ordered a job that somebody else has to approve.") % words,
        )
    if letter.what == W.APPROVED:
        return _("job %(n)d is approved") % words, _("Your job %(n)d may start.") % words
    if letter.what == W.RETURNED:
        return (
            _("job %(n)d is returned to you") % words,
            _("Your job %(n)d was not approved. Its page says why.") % words,
        )
    if letter.what == W.FAILED:
        return (
            _("job %(n)d has failed") % words,
            _("Job %(n)d of %(who)s has failed. Its page says why, and what to do next.") % words,
        )
    return (
        _("job %(n)d has ended: %(state)s") % words,
        _("Your job %(n)d has ended: %(state)s.") % words,
    )
