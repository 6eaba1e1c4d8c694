"""The head of the audit trail is logged and mailed daily, so that rewriting is detected."""

import logging
import re
from datetime import timedelta

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F

from adit.audit import trail
from adit.audit.models import GENESIS_HASH, AuditEvent, ChainHead
from adit.nodes import notifications
from adit.nodes.models import AuditHeadMail

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def letters(settings) -> None:
    settings.MAIL, settings.TRAIL_MAIL = True, ["dpo@hospital.example"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def told() -> str:
    """Send due mails and return the command in the last one."""
    notifications.mail_audit_head()
    assert notifications.AUDIT_HEAD_OUTBOX.send() == 1
    return re.search(r"adit manage (audit verify --head .*)", str(mail.outbox[-1].body))[1]


def test_the_head_is_logged_and_mailed_once_a_day(caplog) -> None:
    trail.record("job.created", about="job:1")
    with caplog.at_level(logging.INFO, "adit.nodes.notifications"):
        told()
        notifications.mail_audit_head()
    assert notifications.AUDIT_HEAD_OUTBOX.send() == 0
    count, last = trail.get_head()
    assert caplog.messages == [f"audit trail: {count} events, hash of the last one {last}"]
    assert (mail.outbox[0].to, last in mail.outbox[0].body) == (["dpo@hospital.example"], True)

    ChainHead.objects.update(sent_at=F("sent_at") - timedelta(days=1))
    told()
    assert AuditHeadMail.objects.count() == 2


def test_no_mail_is_created_for_an_empty_trail() -> None:
    notifications.mail_audit_head()
    assert not AuditHeadMail.objects.exists()


def test_the_head_is_only_logged_if_mail_is_disabled(settings, caplog) -> None:
    settings.MAIL = False
    trail.record("job.created", about="job:1")
    with caplog.at_level(logging.INFO, "adit.nodes.notifications"):
        notifications.mail_audit_head()
    assert caplog.messages
    assert not AuditHeadMail.objects.exists()


def test_the_command_in_an_old_mail_succeeds_after_further_events(capsys) -> None:
    trail.record("job.created", about="job:1")
    command = told().split()
    trail.record("job.created", about="job:2")
    call_command(*command)
    assert "The audit trail is intact: 2 events" in capsys.readouterr().out


def test_a_trail_rewritten_with_database_and_key_is_detected() -> None:
    trail.record("job.created", about="job:1")
    trail.record("patient.reidentified", about="job:1")
    command = told().split()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_auditevent")
    signature = trail.sign_head(0, GENESIS_HASH)
    ChainHead.objects.update(count=0, hash=GENESIS_HASH, signature=signature)
    for about in ("job:1", "job:7", "job:8"):
        trail.record("job.created", about=about)
    assert trail.verify_chain() is None
    with pytest.raises(CommandError, match="does not match its state with 2 events"):
        call_command(*command)


def test_a_trail_with_fewer_events_than_the_mailed_head_is_rejected(capsys) -> None:
    trail.record("job.created", about="job:1")
    _, last = trail.get_head()
    with pytest.raises(CommandError, match="older backup"):
        call_command("audit", "verify", "--head", "2", last)
    with pytest.raises(CommandError, match="enter the number of events"):
        call_command("audit", "verify", "--head", last, "1")
    with pytest.raises(CommandError, match="the complete hash"):
        call_command("audit", "verify", "--head", "1", last[:-1])
    assert AuditEvent.objects.count() == 1
