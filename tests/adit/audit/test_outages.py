"""A service that ADIT needs fails and works again: few events tell it, however often it is tried."""

from datetime import timedelta

import pytest
import time_machine
from django.db import OperationalError
from django.utils import timezone

from adit.audit import outages
from adit.audit.models import AuditEvent
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db

AWAY = Message("mail.server-away")


def actions() -> list[str]:
    return list(AuditEvent.objects.values_list("action", flat=True))


def test_an_outage_is_recorded_when_it_begins_and_when_it_ends() -> None:
    outages.note_success(outages.MAIL)
    for _attempt in range(3):
        outages.note_failure(outages.MAIL, AWAY)
    outages.note_success(outages.DIRECTORY)
    for _attempt in range(3):
        outages.note_success(outages.MAIL)

    assert actions() == ["mail.failed", "mail.works"]
    assert AuditEvent.objects.first().details == {"reason": AWAY.to_json()}  # type: ignore[union-attr]


def test_a_service_that_fails_every_other_time_is_recorded_once_an_hour() -> None:
    start = timezone.now()
    with time_machine.travel(start, tick=False) as clock:
        for minutes in range(0, 120, 10):
            clock.move_to(start + timedelta(minutes=minutes))
            outages.note_failure(outages.MAIL, AWAY)
            outages.note_success(outages.MAIL)

    assert actions() == ["mail.failed", "mail.works"] * 2


def test_the_same_event_is_recorded_once_a_day_for_each_subject() -> None:
    for about in ("user:1", "user:2", "user:1"):
        outages.record_daily("mail.address_refused", about=about)
    with time_machine.travel(timezone.now() + timedelta(days=1, seconds=1)):
        outages.record_daily("mail.address_refused", about="user:1")

    subjects = AuditEvent.objects.values_list("about", flat=True)
    assert list(subjects) == ["user:1", "user:2", "user:1"]


def test_a_database_that_fails_does_not_stop_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(service: str) -> None:
        raise OperationalError

    monkeypatch.setattr(outages, "find_outage", fail)

    outages.note_success(outages.MAIL)
    outages.note_failure(outages.MAIL, AWAY)
