"""The calendar on the pages of a node: form, validation and chart, without JavaScript."""

from collections.abc import Callable

import pytest
from django.test import Client
from lab.node_pages import client_of, filled
from time_machine import travel

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.nodes.calendar import chart
from adit.nodes.gateway import Purpose, require_purpose
from adit.nodes.models import Node
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db

NIGHT = {"days": ["mon", "tue"], "from": "20:00", "to": "06:00", "limit": 3}


@pytest.fixture
def node(folder_node: Node) -> Node:
    folder_node.windows = [NIGHT]
    folder_node.special_days = [{"from": "2026-06-12", "to": "2026-06-14", "as": "closed"}]
    folder_node.save()
    return folder_node


@pytest.fixture
def manager(pacsadmin: User) -> Client:
    return client_of(pacsadmin)


def path(node: Node) -> str:
    return f"/nodes/{node.pk}/edit/"


def test_rows_for_searches_and_special_days_are_saved(manager: Client, node: Node) -> None:
    typed = {
        "hours-1-lane": "search",
        "hours-1-days": ["mon", "sun"],
        "hours-1-begin": "07:00",
        "hours-1-end": "24:00",
        "hours-1-limit": "1",
        "special-1-first": "2026-12-24",
        "special-1-like": "sun",
        "special-1-why": "Christmas",
        "pause_between_studies_s": "5",
        "rate_kb_s": "12500",
    }

    answer = manager.post(path(node), filled(manager, path(node), **typed))

    assert answer.status_code == 302
    node.refresh_from_db()
    search = {"days": ["mon", "sun"], "from": "07:00", "to": "24:00", "limit": 1, "lane": "search"}
    assert node.windows == [NIGHT, search]
    assert [row["as"] for row in node.special_days] == ["closed", "sun"]
    assert node.special_days[1] == {
        "from": "2026-12-24", "to": "2026-12-24", "as": "sun", "why": "Christmas"
    }  # fmt: skip
    assert (node.pause_between_studies_s, node.rate_kb_s) == (5, 12500)
    changed = AuditEvent.objects.filter(action="node.changed").latest("pk").details["changed"]
    assert {"windows", "special_days", "pause_between_studies_s", "rate_kb_s"} <= set(changed)


def test_adding_a_row_keeps_the_entered_values_and_saves_nothing(
    manager: Client, node: Node
) -> None:
    typed = {"hours-1-begin": "8", "name": "Other", "add": "hours"}

    answer = manager.post(path(node), filled(manager, path(node), **typed))

    assert answer.status_code == 200
    page = answer.content.decode()
    assert 'name="hours-2-begin"' in page
    assert 'value="8"' in page
    assert 'class="note-list"' not in page
    node.refresh_from_db()
    assert node.name != "Other"


@pytest.mark.parametrize("prefix", ["hours", "special"])
def test_removing_a_row_moves_the_rows_below_up(prefix: str, manager: Client, node: Node) -> None:
    typed = {"hours-1-begin": "09:00", "special-1-why": "later", "remove": f"{prefix}-0"}

    answer = manager.post(path(node), filled(manager, path(node), **typed))

    editor = answer.context["editor"]
    rows = editor.hours if prefix == "hours" else editor.specials
    assert len(rows.forms) == 1
    moved = rows.forms[0]["begin" if prefix == "hours" else "why"].value()
    assert moved == ("09:00" if prefix == "hours" else "later")
    node.refresh_from_db()
    assert len(node.windows) == len(node.special_days) == 1, "removing a row must not save"
    data = filled(manager, path(node))
    saved = {k: v for k, v in data.items() if not k.startswith("hours-0")} | {
        "hours-TOTAL_FORMS": "1"
    }
    manager.post(path(node), saved)
    node.refresh_from_db()
    assert node.windows == []


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"hours-0-begin": "20:00", "hours-0-end": "20:00"}, "are empty"),
        (
            {"hours-1-days": ["tue"], "hours-1-begin": "22:00", "hours-1-end": "23:00"},
            "Tuesday: 20:00–06:00 and 22:00–23:00 overlap",
        ),
        ({"hours-1-begin": "22:00"}, "Select the days on which these hours begin."),
        ({"hours-1-days": ["wed"], "hours-1-begin": "25:00"}, "Enter times in the form 20:00."),
        ({"special-1-first": "2026-06-13"}, "is in two rows"),
        ({"special-1-first": "13.6."}, "Enter dates in the form 2026-12-24."),
        ({"special-1-why": "strike"}, "Enter the first day."),
        ({"special-1-first": "2026-07-02", "special-1-last": "2026-07-01"}, "end on or after"),
        ({"rate_kb_s": "1"}, "greater than or equal to 50"),
    ],
)
def test_invalid_hours_days_and_rates_are_rejected_with_a_message(
    typed: dict[str, object], sentence: str, manager: Client, node: Node
) -> None:
    answer = manager.post(path(node), filled(manager, path(node), **typed))

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    node.refresh_from_db()
    assert node.windows == [NIGHT]


def test_the_chart_shows_entered_hours_before_they_are_saved(manager: Client, node: Node) -> None:
    typed = {"hours-0-end": "05:00", "show": "1"}

    page = manager.post(path(node), filled(manager, path(node), **typed)).content.decode()

    assert "00:00–05:00: at most 2 connections" in page, "the limit of the node must apply"
    assert "Europe/Berlin" in page
    typed["hours-0-end"] = "20:00"
    page = manager.post(path(node), filled(manager, path(node), **typed)).content.decode()
    assert "are empty" in page


def test_the_chart_shows_limits_nights_and_special_days(node: Node) -> None:
    with travel("2026-06-10 12:00+02:00", tick=False):
        drawn = chart.make_calendar_chart(
            node, node.windows, [{"from": "2026-06-15", "as": "tue", "why": "x"}]
        )

    monday, tuesday, wednesday = drawn.rows[:3]
    assert [part.text for part in monday.transfers] == ["20:00–24:00: at most 2 connections"]
    assert [part.text for part in tuesday.transfers] == [
        "00:00–06:00: at most 2 connections",
        "20:00–24:00: at most 2 connections",
    ]
    assert [part.text for part in wednesday.transfers] == ["00:00–06:00: at most 2 connections"]
    assert [part.text for part in wednesday.searches] == ["00:00–24:00: at most 2 connections"]
    assert (drawn.rows[7].is_special, drawn.rows[7].reason) == (True, "Tuesday: x")
    with pytest.raises(InvalidInput, match="are empty"):
        chart.make_calendar_chart(node, [{**NIGHT, "to": "20:00"}], [])


def test_users_of_a_node_see_the_chart_of_its_hours(coordinator: User, node: Node) -> None:
    page = client_of(coordinator).get(f"/nodes/{node.pk}/").content.decode()

    assert 'class="week"' in page


def test_a_new_pacs_is_a_source_only_by_default(manager: Client) -> None:
    editor = manager.get("/nodes/new/dimse/").context["editor"]

    assert not editor.row["takes_images"].value()
    assert editor.row["retrieve_limit"].value() == 2
    assert [row["begin"].value() for row in editor.hours][:2] == ["20:00", "00:00"]
    assert editor.chart is not None
    assert manager.get("/nodes/new/folder/").context["editor"].row["takes_images"].value()


def test_nobody_can_send_to_a_source_only_node(
    coordinator: User, root: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("A", writes=("Coordinators",), takes_images=False)

    for user in (coordinator, root):
        with pytest.raises(NotPermitted, match="A is a source only"):
            require_purpose(user, node, Purpose.STORE)
