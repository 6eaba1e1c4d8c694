"""The audit trail: every change of recorded events is detected."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import connection, transaction

from adit.audit import trail
from adit.audit.kept_head import FILE_NAME
from adit.audit.models import AuditEvent, ChainHead, TrailIsAppendOnly
from adit.audit.trail import (
    ChainBreak,
    check_and_keep_head,
    check_end,
    get_head,
    patient_index,
    record,
    verify_chain,
)
from adit.vault.master_key import master_cipher
from adit_engine.messages import Message

EVENT_CHANGED = Message("audit-trail.event-changed")


@pytest.fixture
def three(db):
    return [record("job.created", about=f"job:{n}", details={"studies": n}) for n in (1, 2, 3)]


def tamper(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def test_an_event_records_user_action_and_object(coordinator):
    event = record("job.created", user=coordinator, about="job:7", details={"studies": 2})

    event.refresh_from_db()
    assert (event.user, event.action, event.about) == (coordinator, "job.created", "job:7")
    assert event.details == {"studies": 2}


def test_an_event_of_an_anonymous_user_has_no_user(db):
    assert record("signin.failed", user=AnonymousUser()).user is None


def test_an_unchanged_trail_is_intact(three):
    assert verify_chain() is None
    assert get_head() == (3, three[-1].hash)


def test_an_empty_trail_is_intact(db):
    assert verify_chain() is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("about", "job:9"),
        ("action", "job.canceled"),
        ("details", '{"studies": 9}'),
        ("at", "2001-01-01 00:00:00"),
        ("patient_index", "0" * 64),
        ("hash", "0" * 64),
    ],
)
def test_a_changed_event_is_detected(three, column, value):
    tamper(f"UPDATE audit_auditevent SET {column} = %s WHERE id = %s", value, three[1].pk)

    assert verify_chain() == ChainBreak(three[1].pk, EVENT_CHANGED)


def test_a_changed_user_of_an_event_is_detected(three, coordinator):
    tamper("UPDATE audit_auditevent SET user_id = %s WHERE id = %s", coordinator.pk, three[0].pk)

    assert verify_chain() == ChainBreak(three[0].pk, EVENT_CHANGED)


def test_a_chain_recomputed_without_the_master_key_is_detected(three):
    before = master_cipher()
    other = type(before)(bytes(32))
    forged = other.index("anything", "trail")
    tamper("UPDATE audit_auditevent SET hash = %s WHERE id = %s", forged, three[2].pk)
    tamper("UPDATE audit_chainhead SET hash = %s", forged)

    assert verify_chain() == ChainBreak(three[2].pk, EVENT_CHANGED)


HEAD_CHANGED = ChainBreak(None, Message("audit-trail.head-changed"))


def cut_last_event(three):
    """Remove the last event and its trace in the head, as somebody with only the database can."""
    tamper("DELETE FROM audit_auditevent WHERE id = %s", three[2].pk)
    tamper("UPDATE audit_chainhead SET count = 2, hash = %s", three[1].hash)


def test_an_end_that_was_cut_off_together_with_the_head_is_detected(three):
    cut_last_event(three)

    assert verify_chain() == check_end() == HEAD_CHANGED


def test_events_after_a_cut_do_not_hide_it(three):
    cut_last_event(three)
    for _ in range(2):
        record("job.created", about="job:4")

    assert verify_chain() == check_end() == HEAD_CHANGED


@pytest.mark.parametrize("gone", ["audit_auditevent", "audit_chainhead"])
def test_a_trail_without_its_head_is_a_fault_even_if_it_is_empty(three, gone):
    tamper("DELETE FROM audit_chainhead")
    if gone == "audit_auditevent":
        tamper("DELETE FROM audit_auditevent")
    assert verify_chain() == check_end() == HEAD_CHANGED

    record("signin.done")
    assert verify_chain() == check_end() == HEAD_CHANGED


def test_an_older_database_does_not_match_the_head_in_the_data_folder(three):
    older = ChainHead.objects.values("count", "hash", "signature").get()
    record("job.created", about="job:4")
    assert check_and_keep_head() is None
    tamper("DELETE FROM audit_auditevent WHERE id > %s", three[2].pk)
    ChainHead.objects.update(**older)

    broken = verify_chain()
    assert broken == check_end() == check_and_keep_head()
    assert (broken.row, broken.reason.code) == (None, "audit-trail.kept-head-missing")
    assert broken.reason.values["count"] == 4


def test_the_head_in_the_data_folder_is_private_and_a_changed_one_is_a_fault(three):
    assert check_and_keep_head() is None
    path = settings.DATA_DIR / FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600

    path.write_text(path.read_text().replace('"count": 3', '"count": 2'))
    assert verify_chain() == ChainBreak(None, Message("audit-trail.kept-head-unreadable"))


def test_a_broken_end_is_logged_and_does_not_replace_the_kept_head(three, caplog):
    check_and_keep_head()
    kept = (settings.DATA_DIR / FILE_NAME).read_text()
    cut_last_event(three)
    with caplog.at_level("ERROR", "adit.audit.trail"):
        check_and_keep_head()

    assert "The record of the last event was removed or changed" in caplog.text
    assert (settings.DATA_DIR / FILE_NAME).read_text() == kept


def test_events_recorded_during_a_verification_are_no_break(three, monkeypatch):
    is_intact = trail._is_intact

    def record_and_check(event):
        if event.pk == three[2].pk:
            record("job.created", about="job:4")
        return is_intact(event)

    monkeypatch.setattr(trail, "_is_intact", record_and_check)
    assert verify_chain() is None


@pytest.mark.parametrize("gone", [0, 1])
def test_a_removed_event_is_detected_at_the_next_event(three, gone):
    tamper("DELETE FROM audit_auditevent WHERE id = %s", three[gone].pk)

    assert verify_chain() == ChainBreak(three[gone + 1].pk, Message("audit-trail.order-changed"))


def test_a_removed_last_event_is_detected(three):
    tamper("DELETE FROM audit_auditevent WHERE id = %s", three[2].pk)

    assert verify_chain() == ChainBreak(None, Message("audit-trail.end-missing"))


def test_the_removal_of_all_events_is_detected(three):
    tamper("DELETE FROM audit_auditevent")

    assert verify_chain() == ChainBreak(None, Message("audit-trail.end-missing"))


def test_a_removed_event_is_detected_even_if_the_chain_is_relinked(three):
    tamper("DELETE FROM audit_auditevent WHERE id = %s", three[1].pk)
    link = "UPDATE audit_auditevent SET previous_hash = %s WHERE id = %s"
    tamper(link, three[0].hash, three[2].pk)
    tamper("UPDATE audit_chainhead SET count = 2")

    assert verify_chain() == ChainBreak(three[2].pk, EVENT_CHANGED)


def test_two_swapped_events_are_detected(three):
    first, second = three[0].pk, three[1].pk
    tamper("UPDATE audit_auditevent SET id = 1000 WHERE id = %s", first)
    tamper("UPDATE audit_auditevent SET id = %s WHERE id = %s", first, second)
    tamper("UPDATE audit_auditevent SET id = %s WHERE id = 1000", second)

    assert verify_chain() == ChainBreak(first, Message("audit-trail.order-changed"))


def test_a_patient_copied_to_another_event_is_detected(db):
    anna = record("study.sent", patient=("PACS1", "A1"))
    record("study.sent", patient=("PACS1", "B2"))
    tamper(
        "UPDATE audit_auditevent SET patient_sealed ="
        " (SELECT patient_sealed FROM audit_auditevent WHERE id <> %s) WHERE id = %s",
        anna.pk,
        anna.pk,
    )

    assert verify_chain() == ChainBreak(anna.pk, EVENT_CHANGED)


def test_a_damaged_encrypted_patient_is_detected(db):
    record("study.sent")
    damaged = record("study.sent", patient=("PACS1", "A1"))
    tamper("UPDATE audit_auditevent SET patient_sealed = %s WHERE id = %s", b"x" * 40, damaged.pk)

    assert verify_chain() == ChainBreak(damaged.pk, Message("audit-trail.patient-changed"))


def test_events_of_a_patient_are_found_without_the_id_in_clear_text(db):
    event = record("study.sent", patient=("PACS1", "4711-canary"))

    assert AuditEvent.objects.get(patient_index=patient_index("PACS1", "4711-canary ")) == event
    assert AuditEvent.objects.get().patient_sealed == ["PACS1", "4711-canary"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM audit_auditevent")
        assert b"4711-canary" not in repr(cursor.fetchall()).encode()


def test_events_cannot_be_changed_or_removed(three):
    event = AuditEvent.objects.get(pk=three[0].pk)
    for attempt in (
        event.save,
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(about=""),
        lambda: AuditEvent.objects.bulk_update([event], ["about"]),
        lambda: AuditEvent.objects.bulk_create([AuditEvent(action="x")]),
        lambda: AuditEvent._base_manager.all().delete(),
    ):
        with pytest.raises(TrailIsAppendOnly):
            attempt()

    assert verify_chain() is None


def test_events_of_a_rolled_back_transaction_are_not_in_the_trail(three):
    with transaction.atomic():
        record("job.created", about="job:4")
        transaction.set_rollback(True)

    assert verify_chain() is None
    assert AuditEvent.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_concurrent_writers_produce_one_chain():
    def write(writer):
        try:
            for n in range(10):
                record("test.written", about=f"{writer}:{n}")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert AuditEvent.objects.count() == 40
    assert ChainHead.objects.get().count == 40
    assert verify_chain() is None
