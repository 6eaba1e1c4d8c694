"""Allowed hours during weeks with a change of daylight saving time.

A proxy in front of the PACS records each association. The expected limit is computed here from local
time, independently of the calendar in ADIT.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.db import connection
from lab import samples
from lab.archive import plain_archive
from lab.counting_proxy import AssociationCounts, CountingProxy
from lab.jobs import PATIENT, in_thread
from lab.ordering import order_job
from pytest_django import Settings

from adit.accounts.models import User
from adit.jobs import queue
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState
from adit.nodes.models import Node, Slot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

ZONE = ZoneInfo("Europe/Berlin")
LIMIT = 3
WORKERS = 4
WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]
WINDOWS = [
    {"days": WORKDAYS, "from": "20:00", "to": "06:00", "limit": 2},
    {"days": ["sat"], "from": "00:00", "to": "00:00"},
    {"days": ["sun"], "from": "01:00", "to": "02:30", "limit": 1},
    {"days": ["sun"], "from": "12:00", "to": "24:00"},
    {"days": ["mon"], "from": "00:00", "to": "04:00", "limit": 1},
]
SPRING, AUTUMN = date(2026, 3, 24), date(2026, 10, 20)
"""Tuesdays of the weeks in which daylight saving time begins and ends; Thursday is closed."""
LONG, SHORT = "99", ("1", "2", "3", "4")
LONG_IMAGES = 300
SLOWLY_S, VERY_SLOWLY_S = 0.01, 0.1
"""Delay of each chunk of a response, so that associations overlap or last long."""


def allowed(at: datetime, closed: date) -> int:
    """Return the connection limit at this local time; a repeated hour is allowed only the first time."""
    wall = at.astimezone(ZONE)
    if wall.date() == closed:
        return 0
    now, day = wall.time(), wall.weekday()
    found = []
    if now >= time(20) and day < 5:
        found.append(2)
    yesterday = wall.date() - timedelta(days=1)
    if now < time(6) and yesterday.weekday() < 5 and yesterday != closed:
        found.append(2)
    if day == 5:
        found.append(LIMIT)
    if day == 6:
        if time(1) <= now < time(2, 30) and not wall.fold:
            found.append(1)
        if now >= time(12):
            found.append(LIMIT)
    if day == 0 and now < time(4):
        found.append(1)
    return min(found, default=0)


@pytest.fixture
def counts() -> AssociationCounts:
    return AssociationCounts(clock=lambda: datetime.now(UTC))


@pytest.fixture
def archive(
    tmp_path: Path, counts: AssociationCounts, request: pytest.FixtureRequest
) -> Iterator[int]:
    """Port of a proxy in front of a PACS with four short studies or one long study."""
    folder = tmp_path / "archive"
    folder.mkdir()
    is_long = "end" in request.fixturenames
    for study in (LONG,) if is_long else SHORT:
        for image in range(1, (LONG_IMAGES if is_long else 1) + 1):
            content = samples.file_bytes(samples.ct(image, study=study))
            (folder / f"{study}-{image}.dcm").write_bytes(content)
    delay_s = VERY_SLOWLY_S if is_long else SLOWLY_S
    with (
        plain_archive("SLOW", folder) as one,
        CountingProxy(one.port, counts, delay_s) as counting_proxy,
    ):
        yield counting_proxy.port


@pytest.fixture
def source(source: Node, archive: int) -> Node:
    source.kind = "dimse"
    source.settings = {
        "host": "127.0.0.1",
        "port": archive,
        "called_ae_title": "SLOW",
        "retrieve": "get",
    }
    source.retrieve_limit, source.windows = LIMIT, WINDOWS
    source.save()
    return source


@pytest.fixture
def order(coordinator: User, source: Node, destination: Node) -> Callable[[str], Job]:
    destination.retrieve_limit = 20
    destination.save()

    def make(study: str) -> Job:
        picks = (PickedStudy.by_uid(source.pk, f"{samples.ROOT}.{study}", PATIENT),)
        key = f"{study}-{Job.objects.count()}"
        return order_job(coordinator, "selective", picks, destination.pk, key=key)

    return make


def begin_anew() -> None:
    SeriesResult.objects.all().delete()
    Slot.objects.all().delete()
    Task.objects.update(state=TaskState.PENDING, not_before=None, lease_until=None)
    Job.objects.update(state=JobState.PENDING)


def all_that_may(workers: int = WORKERS) -> int:
    """Let the workers claim and run tasks concurrently; return the number of claimed tasks."""
    threads = []
    for number in range(workers):
        task = queue.claim(f"worker {number}")
        if task is not None:
            threads.append(in_thread(task))
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    connection.close()
    return len(threads)


def assert_polite(counts: AssociationCounts, closed: date) -> None:
    for span in counts.spans:
        assert span.ended is not None
        for at in (span.begun, span.ended):
            assert allowed(at, closed), f"outside the allowed hours: {at.astimezone(ZONE)}"
        assert span.beside <= allowed(span.begun, closed), span.begun.astimezone(ZONE)


def edges(week: date) -> list[datetime]:
    """Return all window edges and ambiguous local times from Wednesday to Monday, in UTC."""
    days = [week + timedelta(days=n) for n in range(1, 7)]
    times = (time(0), time(1), time(2), time(2, 30), time(3), time(4), time(6), time(12), time(20))
    walls = [datetime.combine(day, at, ZONE) for day in days for at in times]
    walls += [wall.replace(fold=1) for wall in walls]
    return sorted({wall.astimezone(UTC) for wall in walls})


@pytest.mark.parametrize("week", [SPRING, AUTUMN])
def test_associations_stay_within_allowed_hours_across_a_clock_change(
    week: date,
    order: Callable[[str], Job],
    source: Node,
    counts: AssociationCounts,
    settings: Settings,
) -> None:
    closed = week + timedelta(days=2)
    source.special_days = [{"from": closed.isoformat(), "as": "closed", "why": "migration"}]
    source.save()
    moments = {edge + timedelta(seconds=s) for edge in edges(week) for s in (-1, 1)}
    with time_machine.travel(min(moments), tick=True) as traveller:
        for study in SHORT:
            order(study)
        got, most = {}, 0
        for moment in sorted(moments):
            traveller.move_to(moment)
            begin_anew()
            got[moment] = all_that_may()
            most = max(most, got[moment])

    assert_polite(counts, closed)
    assert most == LIMIT, "the limit of the node was never reached"
    for moment, number in got.items():
        soon = moment + timedelta(seconds=12)
        if allowed(moment, closed) == allowed(soon, closed):
            assert number == min(WORKERS, allowed(moment, closed)), moment.astimezone(ZONE)


@pytest.mark.parametrize(
    "end",
    [
        datetime(2026, 3, 25, 6, 0, tzinfo=ZONE),
        datetime(2026, 3, 29, 3, 0, tzinfo=ZONE),  # 02:30 does not exist
        datetime(2026, 10, 25, 2, 30, tzinfo=ZONE),  # the first occurrence
        datetime(2026, 10, 22, 0, 0, tzinfo=ZONE),  # a closed day begins
    ],
    ids=["a morning", "the hour that is left out", "the hour that comes twice", "a closed day"],
)
def test_a_running_task_stops_before_the_allowed_hours_end(
    end: datetime, order: Callable[[str], Job], source: Node, counts: AssociationCounts
) -> None:
    closed = AUTUMN + timedelta(days=2)
    source.special_days = [{"from": closed.isoformat(), "as": "closed", "why": "migration"}]
    source.save()
    with time_machine.travel(end.astimezone(UTC) - timedelta(seconds=18), tick=True):
        order(LONG)
        assert all_that_may(1) == 1
        now = datetime.now(UTC)

    task = Task.objects.get()
    assert (task.state, task.failures) == (TaskState.PENDING, 0)
    assert task.message.code == "node-unavailable.outside-hours"
    assert now < end, "the task did not stop in time"
    assert counts.spans
    assert_polite(counts, closed)
