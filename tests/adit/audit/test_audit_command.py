"""`adit manage audit`: output and errors of verify and accept-restore."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from adit.audit.models import AuditEvent, ChainHead
from adit.audit.trail import check_and_keep_head, record


def test_an_intact_trail_is_reported_with_its_last_hash(db, capsys):
    event = record("job.created", about="job:1")
    call_command("audit", "verify")

    assert capsys.readouterr().out == (
        f"The audit trail is intact: 1 events, hash of the last event {event.hash}.\n"
    )


def test_a_changed_trail_is_an_error_that_names_the_event(db):
    event = record("job.created", about="job:1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_auditevent SET about = 'job:2'")

    with pytest.raises(CommandError, match=f"At event {event.pk}: The event was changed"):
        call_command("audit", "verify")


def test_a_restored_backup_is_accepted_with_a_reason_and_recorded(db, capsys):
    record("job.created", about="job:1")
    backup = ChainHead.objects.values("count", "hash", "signature").get()
    lost = record("job.created", about="job:2")
    check_and_keep_head()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_auditevent WHERE id = %s", [lost.pk])
    ChainHead.objects.update(**backup)

    with pytest.raises(CommandError, match="does not contain the 2 events"):
        call_command("audit", "verify")
    with pytest.raises(CommandError, match="Enter the reason"):
        call_command("audit", "accept-restore")
    call_command("audit", "accept-restore", "--reason", "disk failure")
    call_command("audit", "verify")

    assert "Accepted and recorded: 2 events" in capsys.readouterr().out
    event = AuditEvent.objects.latest("id")
    assert event.action == "trail.end_accepted"
    assert event.details["reason"] == "disk failure"
    assert event.details["expected"] == {"events": 2, "hash": lost.hash}
    with pytest.raises(CommandError, match="nothing to accept"):
        call_command("audit", "accept-restore", "--reason", "again")


def test_changed_events_cannot_be_accepted(db):
    record("job.created", about="job:1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_auditevent SET about = 'job:2'")
        cursor.execute("DELETE FROM audit_chainhead")

    with pytest.raises(CommandError, match="The event was changed"):
        call_command("audit", "accept-restore", "--reason", "x")
    assert AuditEvent.objects.count() == 1
