"""`adit manage audit verify`: its output and its error."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from adit.audit.trail import record


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
