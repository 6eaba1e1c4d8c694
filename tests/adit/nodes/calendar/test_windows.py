"""Windows: allowed hours of a node in local time, including daylight saving time (DST)."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from adit.nodes.calendar.allowed_hours import (
    get_limit_at,
    next_closing,
    next_opening,
    parse_windows,
)
from adit.nodes.models import Lane, Node
from adit_engine.errors import InvalidInput

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "20:00", "to": "06:00", "limit": 4}
WEEKEND = {"days": ["sat", "sun"], "from": "00:00", "to": "24:00", "limit": 8}


@pytest.fixture(autouse=True)
def berlin(settings):
    settings.TIME_ZONE = "Europe/Berlin"


def node(*windows, **values):
    return Node(name="PACS1", windows=list(windows), **{"retrieve_limit": 10, **values})


def at(text, fold=0):
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


# 2026-06-01 is a Monday.


def test_a_node_without_windows_is_always_open_up_to_its_limits():
    free = node(retrieve_limit=3, search_limit=2)

    assert get_limit_at(free, Lane.RETRIEVE, at("2026-06-01T12:00")) == 3
    assert get_limit_at(free, Lane.SEARCH, at("2026-06-01T12:00")) == 2
    assert next_opening(free, Lane.RETRIEVE, at("2026-06-01T12:00")) is None
    assert next_closing(free, Lane.RETRIEVE, at("2026-06-01T12:00")) is None


@pytest.mark.parametrize(
    ("moment", "limit"),
    [
        ("2026-06-01T05:59", 0),  # Monday's window has not begun, Sunday's has ended
        ("2026-06-01T19:59:59", 0),
        ("2026-06-01T20:00", 4),
        ("2026-06-01T23:59:59", 4),
        ("2026-06-02T00:00", 4),
        ("2026-06-02T05:59:59", 4),
        ("2026-06-02T06:00", 0),
        ("2026-06-05T23:00", 4),
        ("2026-06-06T03:00", 4),  # Friday's window overlaps Saturday's: the smaller limit applies
        ("2026-06-06T12:00", 8),
        ("2026-06-07T23:59", 8),
        ("2026-06-08T00:00", 0),
    ],
)
def test_the_limit_follows_windows_at_night_and_on_weekends(moment, limit):
    assert get_limit_at(node(NIGHTS, WEEKEND), Lane.RETRIEVE, at(moment)) == limit


def test_a_window_never_exceeds_the_limit_of_the_node():
    assert get_limit_at(node(WEEKEND, retrieve_limit=2), Lane.RETRIEVE, at("2026-06-06T12:00")) == 2


def test_a_window_without_a_limit_uses_the_limit_of_the_node():
    plain = {"days": ["mon"], "from": "08:00", "to": "09:00"}

    assert get_limit_at(node(plain), Lane.RETRIEVE, at("2026-06-01T08:30")) == 10


def test_searches_are_restricted_only_by_windows_of_the_search_lane():
    searches = {"days": ["mon"], "from": "08:00", "to": "18:00", "lane": "search", "limit": 1}

    noon, night = at("2026-06-01T12:00"), at("2026-06-01T22:00")
    assert get_limit_at(node(NIGHTS), Lane.SEARCH, noon) == 2
    limited = node(NIGHTS, searches)
    assert [get_limit_at(limited, Lane.SEARCH, t) for t in (noon, night)] == [1, 0]
    assert [get_limit_at(limited, Lane.RETRIEVE, t) for t in (noon, night)] == [0, 4]


def test_the_urgent_lane_ignores_windows_and_has_its_own_limit(settings):
    settings.URGENT_LIMIT = 1

    assert get_limit_at(node(NIGHTS), Lane.URGENT, at("2026-06-01T12:00")) == 1
    assert get_limit_at(node(NIGHTS, retrieve_limit=0), Lane.URGENT, at("2026-06-01T12:00")) == 0


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-06-01T12:00", "2026-06-01T20:00"),
        ("2026-06-02T06:00", "2026-06-02T20:00"),
        ("2026-06-08T00:00", "2026-06-08T20:00"),
    ],
)
def test_the_next_opening_is_the_start_of_the_next_window(moment, opens):
    assert next_opening(node(NIGHTS, WEEKEND), Lane.RETRIEVE, at(moment)) == at(opens)
    assert next_opening(node(NIGHTS), Lane.RETRIEVE, at("2026-06-06T12:00")) == at(
        "2026-06-08T20:00"
    )


def test_the_next_closing_is_the_end_of_adjoining_windows():
    weekly = node(NIGHTS, WEEKEND)

    assert next_closing(weekly, Lane.RETRIEVE, at("2026-06-02T01:00")) == at("2026-06-02T06:00")
    assert next_closing(weekly, Lane.RETRIEVE, at("2026-06-05T21:00")) == at("2026-06-08T00:00")
    assert next_closing(weekly, Lane.RETRIEVE, at("2026-06-01T12:00")) is None


def test_a_weekly_window_is_found_one_week_ahead():
    once = node({"days": ["mon"], "from": "10:00", "to": "11:00"})

    assert next_opening(once, Lane.RETRIEVE, at("2026-06-01T11:00")) == at("2026-06-08T10:00")


def test_a_calendar_with_only_a_limit_of_zero_never_opens():
    never = node({"days": ["mon"], "from": "10:00", "to": "11:00", "limit": 0})

    assert get_limit_at(never, Lane.RETRIEVE, at("2026-06-01T12:00")) == 0
    assert next_opening(never, Lane.RETRIEVE, at("2026-06-01T12:00")) is None


def test_a_window_ends_at_its_local_time_in_the_night_when_dst_starts():
    """29 March 2026: the clock jumps from 02:00 to 03:00."""
    saturday = node({"days": ["sat"], "from": "20:00", "to": "06:00"})

    begin, end = at("2026-03-28T20:00"), at("2026-03-29T06:00")
    assert (end.astimezone(UTC) - begin.astimezone(UTC)).total_seconds() == 9 * 3600
    assert next_opening(saturday, Lane.RETRIEVE, at("2026-03-28T12:00")) == begin
    assert next_closing(saturday, Lane.RETRIEVE, begin) == end


def test_a_window_ends_at_its_local_time_in_the_night_when_dst_ends():
    """25 October 2026: the clock goes back from 03:00 to 02:00."""
    saturday = node({"days": ["sat"], "from": "20:00", "to": "06:00"})

    begin, end = at("2026-10-24T20:00"), at("2026-10-25T06:00")
    assert (end.astimezone(UTC) - begin.astimezone(UTC)).total_seconds() == 11 * 3600
    assert next_closing(saturday, Lane.RETRIEVE, begin) == end


def test_an_ambiguous_local_time_means_its_first_occurrence():
    until = node({"days": ["sat"], "from": "20:00", "to": "02:30"})
    since = node({"days": ["sun"], "from": "02:30", "to": "06:00"})

    for fold, minute, open_until, open_since in (
        (0, "02:15", 10, 0),
        (0, "02:45", 0, 10),
        (1, "02:15", 0, 10),
        (1, "02:45", 0, 10),
    ):
        moment = at(f"2026-10-25T{minute}", fold)
        assert get_limit_at(until, Lane.RETRIEVE, moment) == open_until
        assert get_limit_at(since, Lane.RETRIEVE, moment) == open_since


def test_a_nonexistent_local_time_means_the_moment_of_the_clock_change():
    until = node({"days": ["sat"], "from": "20:00", "to": "02:30"})
    since = node({"days": ["sun"], "from": "02:30", "to": "03:15"})

    jump = at("2026-03-29T03:00")
    assert next_closing(until, Lane.RETRIEVE, at("2026-03-28T21:00")) == jump
    assert next_opening(since, Lane.RETRIEVE, at("2026-03-28T21:00")) == jump
    assert next_closing(since, Lane.RETRIEVE, jump) == at("2026-03-29T03:15")


@pytest.mark.parametrize(
    "calendar",
    [
        {"days": ["mon"]},
        ["mon"],
        [{"days": ["mon"], "from": "20:00"}],
        [{"days": [], "from": "20:00", "to": "06:00"}],
        [{"days": ["monday"], "from": "20:00", "to": "06:00"}],
        [{"days": "mon", "from": "20:00", "to": "06:00"}],
        [{"days": ["mon"], "from": "25:00", "to": "06:00"}],
        [{"days": ["mon"], "from": 20, "to": "06:00"}],
        [{"days": ["mon"], "from": "20:00", "to": "06:00", "limit": -1}],
        [{"days": ["mon"], "from": "20:00", "to": "06:00", "limit": True}],
        [{"days": ["mon"], "from": "20:00", "to": "06:00", "lane": "urgent"}],
        [{"days": ["mon"], "from": "20:00", "to": "06:00", "until": "2027"}],
    ],
)
def test_an_invalid_calendar_is_rejected(calendar):
    with pytest.raises(InvalidInput):
        parse_windows(calendar)
    with pytest.raises(InvalidInput):
        get_limit_at(Node(name="PACS1", windows=calendar), Lane.RETRIEVE, at("2026-06-01T21:00"))
