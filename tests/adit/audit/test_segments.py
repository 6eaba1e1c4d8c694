"""Old events leave the table for signed files, and the whole chain stays verifiable."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from adit.accounts.models import User
from adit.audit import segments, trail
from adit.audit.models import AuditEvent, AuditSegment
from adit.retention import cleaning
from adit.retention.models import LastCleaning, RetentionPeriod
from adit.retention.periods import DataKind

pytestmark = pytest.mark.django_db

PATIENT = ("PACS1", "PID-4711")


@pytest.fixture
def seal_old_events(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, coordinator: User
) -> Callable[[], None]:
    """Record twelve events in four years; the function seals what is older than three years."""
    monkeypatch.setattr(settings, "AUDIT_SEGMENTS_DIR", tmp_path / "segments")
    monkeypatch.setattr(segments, "MAX_EVENTS", 5)
    RetentionPeriod.objects.create(kind=DataKind.TRAIL, days=1095)
    start = timezone.now()
    for number in range(12):
        with time_machine.travel(start + timedelta(days=number)):
            trail.record("search.run", user=coordinator, details={"n": number}, patient=PATIENT)

    def seal() -> None:
        with time_machine.travel(start + timedelta(days=1095 + 10.5), tick=True):
            cleaning.clean_kind(DataKind.TRAIL, float("inf"))

    return seal


def files() -> list[Path]:
    return sorted(settings.AUDIT_SEGMENTS_DIR.glob("*.jsonl"))


def reason() -> str:
    broken = trail.verify_chain()
    return "" if broken is None else broken.reason.code


def test_old_events_are_in_files_and_the_chain_is_intact(
    seal_old_events: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    heads = {
        number: event.hash for number, event in enumerate(AuditEvent.objects.order_by("id"), 1)
    }

    seal_old_events()

    sizes = list(AuditSegment.objects.values_list("count", flat=True))
    assert sizes == [5, 5, 1]
    assert [e.details["n"] for e in AuditEvent.objects.filter(action="search.run")] == [11]
    assert AuditEvent.objects.filter(action="trail.sealed").count() == 3
    assert trail.verify_chain() is None
    assert all(trail.contains_head(number, last) for number, last in heads.items())
    assert not trail.contains_head(3, heads[4])
    call_command("audit", "verify")
    assert f"intact: {trail.get_head()[0]} events" in capsys.readouterr().out
    assert trail.get_head()[0] == 15
    assert next(iter(segments.read_all())).patient_sealed == list(PATIENT)
    assert all(b"PID-4711" not in path.read_bytes() for path in files())


@pytest.mark.parametrize("change", ["byte", "missing", "row", "resigned", "swapped"])
def test_verification_finds_a_changed_file(
    change: str, seal_old_events: Callable[[], None]
) -> None:
    seal_old_events()
    first, second, *_rest = files()
    expected = "audit-trail.segment-changed"
    if change == "byte":
        first.write_bytes(first.read_bytes().replace(b'"n": 3', b'"n": 4'))
    elif change == "missing":
        second.unlink()
    elif change == "row":
        AuditSegment.objects.earliest("first").delete()
        expected = "audit-trail.order-changed"
    elif change == "swapped":
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    else:  # whoever has the key cannot make the event fit the chain
        content = first.read_bytes().replace(b'"n": 3', b'"n": 4')
        first.write_bytes(content)
        digest = segments.sha256(content).hexdigest()
        AuditSegment.objects.filter(name=first.name).update(
            sha256=digest, signature=segments.sign(first.name, digest)
        )
        expected = "audit-trail.event-changed"

    assert reason() == expected


def test_a_crash_after_the_file_was_written_loses_nothing(
    seal_old_events: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(_segment: Any) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(segments, "remove_events", die)
        with pytest.raises(Killed):
            seal_old_events()
    assert AuditEvent.objects.count() == 12
    assert trail.verify_chain() is None

    seal_old_events()

    assert AuditSegment.objects.count() == 3
    assert trail.verify_chain() is None


def test_events_stay_in_the_table_if_the_file_cannot_be_written(
    seal_old_events: Callable[[], None],
) -> None:
    settings.AUDIT_SEGMENTS_DIR.write_text("not a folder")

    seal_old_events()

    assert AuditEvent.objects.count() == 12
    assert LastCleaning.objects.get(kind=DataKind.TRAIL).error == "FileExistsError"


def test_nothing_is_moved_by_default(coordinator: User) -> None:
    trail.record("search.run", user=coordinator)

    with time_machine.travel(timezone.now() + timedelta(days=9000)):
        cleaning.clean_all()

    assert not AuditSegment.objects.exists()
