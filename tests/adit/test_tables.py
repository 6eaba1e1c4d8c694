"""The base of all tables on pages: paging, sorting and accessibility."""

from html.parser import HTMLParser
from typing import Any

import pytest
from django.template import Context, Template
from django.test import RequestFactory
from django_tables2 import Column

from adit.jobs.tables import JobTable, SearchTaskTable, StudyTable
from adit.orders.tables import PatientTable, RowResultTable
from adit.pages.tables import EventTable
from adit.projects.tables import ProfileTable, ProjectTable, PseudonymTable
from adit.results.tables import ArchiveTable, ElementTable
from adit.tables import (
    NONE,
    ROW_HEADER,
    ActionColumn,
    ComputedColumn,
    NumberColumn,
    Table,
    muted,
)

ROWS = [{"name": f"<{n:03}>", "images": n * 1000, "secret": -n} for n in range(120)]


class ShelfTable(Table):
    label = "Shelves"
    name = Column("Name", attrs=ROW_HEADER, orderable=True)
    images = NumberColumn("Images", orderable=True)
    secret = Column("Secret")
    remark = Column("Remark")
    note = ComputedColumn("Note")
    action = ActionColumn(verbose_name="Action", template_name="jobs/_pseudonyms_hidden.html")

    def render_note(self, record: dict[str, Any]) -> str:
        return muted(record.get("note", NONE))


class Elements(HTMLParser):
    """The start tags of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


def show(query: str = "", rows: Any = ROWS, **options: Any) -> tuple[ShelfTable, str]:
    request = RequestFactory().get(f"/shelves/{query}")
    table = ShelfTable(rows, request, **options)
    page = Template("{% load render_table from django_tables2 %}{% render_table table %}")
    return table, page.render(Context({"table": table, "request": request}))


def test_a_page_has_fifty_rows_and_its_links_keep_the_order() -> None:
    table, html = show("?sort=-images&page=2")

    assert [row["images"] for row in table.records] == list(range(69_000, 19_000, -1000))
    links = [link["href"] for link in Elements(html).of("a") if "rel" in link]
    assert links == ["?sort=-images&page=1", "?sort=-images&page=3"]
    assert "Page 2 of 3" in html


def test_an_invalid_page_number_shows_the_first_or_last_page() -> None:
    assert show("?page=x")[0].page.number == 1
    assert show("?page=99")[0].page.number == 3


def test_sorting_links_lead_to_the_first_page_and_keep_the_filter() -> None:
    _table, html = show("?state=open&page=2")

    links = [link["href"] for link in Elements(html).of("a") if "rel" not in link]
    assert links == ["?state=open&sort=name", "?state=open&sort=images"]


def test_only_orderable_columns_can_be_sorted() -> None:
    for name in ("secret", "-secret", "remark", "action", "unknown", "name__0"):
        table, html = show(f"?sort={name}")
        assert [row["secret"] for row in table.records] == list(range(0, -50, -1))
        assert "aria-sort" not in html


def test_name_headers_and_order_are_marked_up_for_screen_readers() -> None:
    _table, html = show("?sort=-name", per_page=None)
    page = Elements(html)

    (box,) = (each for each in page.of("div") if each.get("role") == "group")
    assert (box["aria-label"], box["tabindex"]) == ("Shelves", "0")
    headers = page.of("th")
    assert [each.get("scope") for each in headers] == ["col"] * 4 + ["row"] * 120
    assert [each.get("aria-sort") for each in headers[:4]] == ["descending", *[None] * 3]
    assert '<span class="visually-hidden">Action</span>' in html


def test_values_are_escaped_and_missing_values_shown_as_dash() -> None:
    _table, html = show(rows=[*ROWS[:2], {"name": "last", "remark": "blue", "note": "<new>"}])

    assert '<th scope="row">&lt;001&gt;</th><td class="number">1,000</td>' in html
    assert f"<td>{NONE}</td>" in html
    assert "&lt;new&gt;" in html


def test_a_column_that_is_empty_in_all_rows_is_hidden() -> None:
    _table, html = show(rows=[{"name": "a", "images": 0}, {"name": "b", "images": None}])
    assert ">Images</a>" in html
    assert not any(name in html for name in ("Secret", "Remark", "Note"))
    _table, html = show(rows=[{"name": "a"}, {"name": "b", "note": "blue", "secret": 0}])
    assert ">Note</th>" in html
    assert ">Secret</th>" in html
    assert "Remark" not in html


def test_an_empty_table_and_a_sorted_column_keep_their_headers() -> None:
    assert "Remark" in show(rows=[])[1]
    assert ">Images" in show("?sort=images", rows=[{"name": "a"}])[1]


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (JobTable, ("created_at",)),
        (StudyTable, ("pseudonym",)),
        (PatientTable, ("patient_id",)),
        (RowResultTable, ("pseudonym",)),
        (ProjectTable, ("expires_on",)),
        (PseudonymTable, ("pseudonym", "created_at")),
        (EventTable, ("at",)),
        (ArchiveTable, ("built_at", "kept_until")),
        (ElementTable, ("tag",)),
    ],
)
def test_dates_and_ids_do_not_break_at_a_line_end(table: type[Table], names: list[str]) -> None:
    for name in names:
        assert "nowrap" in table.base_columns[name].attrs["td"]["class"], name


def test_two_tables_of_a_page_are_sorted_independently() -> None:
    first, _html = show("?left-sort=-images", prefix="ruled-")
    second, html = show("?left-sort=-images", prefix="left-")

    assert first.records[0]["images"] == 0
    assert second.records[0]["images"] == 119_000
    assert 'href="?left-sort=-images&amp;left-page=2"' in html


UNIQUE = {"pk", "position", "protocol_id", "version", "pseudonym"}
"""Fields that are unique in their table; a version is unique together with a name."""


@pytest.mark.parametrize(
    "table", [JobTable, StudyTable, SearchTaskTable, ProjectTable, ProfileTable, PseudonymTable]
)
def test_each_sort_order_ends_with_a_unique_field(table: type[Table]) -> None:
    """Otherwise a database may return a row on two pages and another on none."""
    for name, column in table.base_columns.items():
        if column.orderable:
            assert (column.order_by or (name,))[-1].lstrip("-") in UNIQUE, name
