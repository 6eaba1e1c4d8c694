"""Special days: holidays and closed days override the weekly hours of a node."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from adit.nodes.calendar.allowed_hours import (
    NodeCalendar,
    SpecialDays,
    get_limit_at,
    next_closing,
    next_opening,
    parse_windows,
)
from adit.nodes.calendar.allowed_hours import parse_special_days as read_special
from adit.nodes.models import Lane, Node
from adit_engine.errors import InvalidInput

NIGHTS = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "20:00", "to": "06:00", "limit": 4}
SUNDAYS = {"days": ["sat", "sun"], "from": "00:00", "to": "24:00", "limit": 8}
HOLIDAY = {"from": "2026-06-04", "as": "sun", "why": "Corpus Christi"}
MIGRATION = {"from": "2026-06-12", "to": "2026-06-14", "as": "closed", "why": "migration"}

ZONES = ("Europe/Berlin", "Europe/Lisbon", "America/New_York", "America/Santiago",
         "Australia/Sydney", "Australia/Lord_Howe", "Africa/Casablanca", "Africa/Cairo",
         "Asia/Beirut", "Asia/Kolkata", "Pacific/Apia", "UTC")  # fmt: skip
"""DST of one hour or half an hour, at midnight, in the southern summer, around Ramadan; no DST."""


@pytest.fixture(autouse=True)
def berlin(settings):
    settings.TIME_ZONE = "Europe/Berlin"


def node(*windows, specials=(HOLIDAY, MIGRATION), **values):
    values = {"retrieve_limit": 10, "search_limit": 2, **values}
    return Node(name="PACS1", windows=list(windows), special_days=list(specials), **values)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize(
    ("moment", "limit"),
    [
        ("2026-06-03T21:00", 4),  # the evening before the holiday is a Wednesday
        ("2026-06-04T05:00", 4),  # Wednesday's window continues into the holiday
        ("2026-06-04T12:00", 8),
        ("2026-06-04T23:59", 8),
        ("2026-06-05T00:00", 0),  # Thursday's window does not start on a holiday
        ("2026-06-05T21:00", 4),
        ("2026-06-11T23:59:59", 4),
        ("2026-06-12T00:00", 0),  # the window ends at midnight, when the migration starts
        ("2026-06-13T12:00", 0),
        ("2026-06-14T23:59:59", 0),
        ("2026-06-15T00:00", 0),  # Monday's window starts at 20:00
        ("2026-06-15T20:00", 4),
    ],
)
def test_special_days_override_the_weekly_hours(moment, limit):
    assert get_limit_at(node(NIGHTS, SUNDAYS), Lane.RETRIEVE, at(moment)) == limit


def test_a_closed_day_closes_all_lanes_even_without_weekly_hours():
    always = node()

    during, after = at("2026-06-13T12:00"), at("2026-06-15T00:00")
    for lane in (Lane.RETRIEVE, Lane.SEARCH, Lane.URGENT):
        assert get_limit_at(always, lane, during) == 0
        assert next_opening(always, lane, during) == after
        assert get_limit_at(always, lane, after) > 0
    assert get_limit_at(always, Lane.RETRIEVE, at("2026-06-04T12:00")) == 10


def test_the_next_closing_and_opening_respect_closed_days():
    weekly = node(NIGHTS, SUNDAYS)

    assert next_closing(weekly, Lane.RETRIEVE, at("2026-06-11T21:00")) == at("2026-06-12T00:00")
    assert next_opening(weekly, Lane.RETRIEVE, at("2026-06-12T00:00")) == at("2026-06-15T20:00")


def test_the_next_opening_is_found_after_a_closing_of_many_weeks():
    long = {"from": "2026-07-01", "to": "2026-08-31", "as": "closed"}

    assert next_opening(node(NIGHTS, specials=[long]), Lane.RETRIEVE, at("2026-07-02T12:00")) == at(
        "2026-09-01T20:00"
    )


def test_special_days_are_unchanged_after_writing_and_reading():
    assert SpecialDays.from_row(SpecialDays.from_row(MIGRATION).row) == SpecialDays.from_row(
        MIGRATION
    )


@pytest.mark.parametrize(
    "rows",
    [
        {"from": "2026-06-12", "as": "closed"},
        ["2026-06-12"],
        [{"from": "12.6.2026", "as": "closed"}],
        [{"from": "2026-02-30", "as": "closed"}],
        [{"from": "2026-06-12", "to": "2026-06-11", "as": "closed"}],
        [{"from": "2026-06-12", "to": "2036-06-12", "as": "closed"}],
        [{"from": "2026-06-12", "as": "holiday"}],
        [{"from": "2026-06-12", "as": "closed", "why": "x" * 81}],
        [{"from": "2026-06-12", "as": "closed", "until": "2027"}],
        [MIGRATION, {"from": "2026-06-14", "as": "sun"}],
    ],
)
def test_invalid_special_days_are_rejected(rows):
    with pytest.raises(InvalidInput):
        read_special(rows)
    with pytest.raises(InvalidInput):
        get_limit_at(
            Node(name="PACS1", windows=[], special_days=rows), Lane.RETRIEVE, at("2026-06-01T21:00")
        )


def test_hours_without_duration_are_rejected():
    with pytest.raises(InvalidInput, match="from 20:00 until 20:00 are empty"):
        parse_windows([{"days": ["mon"], "from": "20:00", "to": "20:00"}])
    assert parse_windows([{"days": ["mon"], "from": "00:00", "to": "00:00"}])


@pytest.mark.parametrize(
    "other",
    [
        {"days": ["mon"], "from": "22:00", "to": "23:00"},
        {"days": ["sun", "mon"], "from": "20:00", "to": "21:00"},
        {"days": ["mon"], "from": "00:00", "to": "24:00"},
        {"days": ["mon"], "from": "19:00", "to": "20:01"},
        {"days": ["mon"], "from": "12:00", "to": "11:00"},
    ],
)
def test_overlapping_hours_of_one_day_are_rejected(other):
    with pytest.raises(InvalidInput, match=r"Monday: .* and .* overlap"):
        parse_windows([NIGHTS, other])


def test_adjoining_hours_and_hours_of_other_lanes_or_days_are_accepted():
    assert parse_windows([NIGHTS, {"days": ["mon"], "from": "18:00", "to": "20:00"}, SUNDAYS])
    assert parse_windows(
        [NIGHTS, {"days": ["mon"], "from": "19:00", "to": "22:00", "lane": "search"}]
    )


@pytest.mark.parametrize("zone", ZONES)
def test_windows_follow_local_time_around_each_clock_change_of_a_year(zone, settings):
    """The window ends at 02:30, a local time that clock changes repeat or skip in some zones."""
    settings.TIME_ZONE = zone
    place = ZoneInfo(zone)
    night = {
        "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "from": "20:00",
        "to": "02:30",
    }
    calendar = NodeCalendar.from_node(node(night, specials=()))

    for moment in _near_changes(place):
        wall = moment.astimezone(place)
        allowed = bool(calendar.limit(Lane.RETRIEVE, moment, 1))
        is_night = wall.time() >= time(20) or wall.time() < time(2, 30)
        is_second_coming = wall.fold == 1 and time(1) <= wall.time() < time(3)
        if not is_second_coming:
            assert allowed == is_night, wall
        elif allowed:
            # A window that ended at the first occurrence does not start again.
            assert is_night, wall
            assert _before_first(wall, time(2, 30), place), wall


def _near_changes(place):
    """Return every fifth minute around each clock change and around one other night."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    changes = [datetime(2026, 1, 10, 12, tzinfo=UTC)]
    while day.year == 2026:
        after = day + timedelta(days=1)
        if day.astimezone(place).utcoffset() != after.astimezone(place).utcoffset():
            changes.append(day)
        day = after
    return [c + timedelta(minutes=5 * n) for c in changes for n in range(-12 * 14, 12 * 38)]


def _before_first(wall, end, place):
    """Return whether `wall` is before the first occurrence of the local time `end`."""
    first = datetime.combine(wall.date(), end, tzinfo=place)
    return wall.astimezone(UTC) < first.astimezone(UTC)
