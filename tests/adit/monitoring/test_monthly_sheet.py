"""The monthly sheet shows the administrator of a PACS what ADIT did there, without patients."""

from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO

import pytest
import time_machine
from django.test import Client
from django.utils import timezone
from openpyxl import load_workbook
from pypdf import PdfReader

from adit.accounts.models import User
from adit.nodes import pause
from adit.nodes.limits import response_times, slots
from adit.nodes.limits.response_times import Measure
from adit.nodes.limits.slots import SlotRequest
from adit.nodes.models import Lane, Node, NodeHourlyUsage, Slot
from adit.nodes.usage.monthly_sheet import make_monthly_sheet

pytestmark = pytest.mark.django_db

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NIGHT = [{"days": DAYS, "from": "20:00", "to": "06:00"}]


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node("PACS1", retrieve_limit=4)


def local(day: int, hour: int, minute: int = 0) -> datetime:
    zone = timezone.get_current_timezone()
    return datetime(2026, 11, day, hour, minute, tzinfo=zone)


def transfer(
    node: Node, begin: datetime, end: datetime, images: int, associations: int = 1
) -> None:
    hold = SlotRequest(max_associations=associations)
    with time_machine.travel(begin, tick=False):
        slot = slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 9 * 3600, hold)
    Slot.objects.filter(pk=slot.pk).update(images=images, size_bytes=images * 500_000)
    with time_machine.travel(end, tick=False):
        slots.release_slot(slot)


@pytest.fixture
def november(node: Node, pacsadmin: User) -> Node:
    """Two nights of transfers, a search, slow answers, and a pause with a reason."""
    transfer(node, local(3, 21, 10), local(3, 23, 20), 100, associations=3)
    transfer(node, local(4, 21, 10), local(4, 21, 20), 50)
    with time_machine.travel(local(3, 10), tick=False):
        slots.release_slot(slots.acquire_slot(node, Lane.SEARCH, "search:1", 60))
        for seconds in (*[1.0] * 6, *[9.0] * 3):
            response_times.record_times(node, Measure.ECHO, [seconds])
        response_times.record_times(node, Measure.RETRIEVAL, [0.25])
        pause.pause_node(pacsadmin, node, "asked by Dr. Mustermann")
    return node


def test_days_and_hours_add_up_to_the_month(november: Node) -> None:
    sheet = make_monthly_sheet(november, local(1, 0).date())

    days = [(one.label, one.transfers, one.images, one.peak_connections) for one in sheet.days]
    assert days == [("2026-11-03", 1, 100, 3), ("2026-11-04", 1, 50, 1)]
    hours = {one.label: (one.transfers, one.peak_connections) for one in sheet.hours_of_day}
    assert hours == {
        "10:00": (0, 0),
        "21:00": (1, 3),
        "22:00": (0, 3),
        "23:00": (1, 3),
    }, "connections count in each hour in which they were open, images in the last"
    first = sheet.days[0]
    assert (first.searches, first.echo_max_s, first.retrieval_mean_s) == (1, 9.0, 0.25)
    assert first.echo_mean_s == pytest.approx(33 / 9)
    facts = dict(sheet.facts)
    assert facts["Images"] == 150
    assert facts["MB"] == 75
    assert facts["Hours with more connections than allowed"] == 0
    assert make_monthly_sheet(november, datetime(2026, 10, 1).date()).days == []


def test_a_transfer_that_outlasts_the_allowed_hours_is_counted(node: Node) -> None:
    node.windows = NIGHT
    node.save()
    transfer(node, local(3, 21), local(3, 22), 1)
    transfer(node, local(4, 5), local(4, 6, 5), 1)

    sheet = make_monthly_sheet(node, local(1, 0).date())

    assert dict(sheet.facts)["Transfers that began or ended outside the allowed hours"] == 1
    assert [one.outside_hours for one in sheet.days] == [0, 1]


def test_page_excel_and_pdf_tell_the_same_and_no_text_of_a_user(
    november: Node, client: Client, pacsadmin: User
) -> None:
    client.force_login(pacsadmin)
    address = f"/nodes/{november.pk}/month"

    page = client.get(f"{address}/?month=2026-11").content.decode()
    book = load_workbook(BytesIO(client.get(f"{address}.xlsx?month=2026-11").content))
    cells = "\n".join(
        str(cell) for sheet in book for row in sheet.iter_rows(values_only=True) for cell in row
    )
    reader = PdfReader(BytesIO(client.get(f"{address}.pdf?month=2026-11").content))
    pdf = " ".join(" ".join(one.extract_text() for one in reader.pages).split())

    for text in (page, cells, pdf):
        assert "very slow: ADIT paused transfers" in text
        assert "paused by a person" in text
        assert "Mustermann" not in text
    assert "Use of PACS1 by ADIT in 2026-11" in page
    assert "2026-11-04" in page
    assert "2026-11-04" in pdf
    assert [row[0] for row in book.worksheets[0].iter_rows(min_row=2, values_only=True)] == [
        "2026-11-03 10:00",
        "2026-11-03 21:00",
        "2026-11-03 22:00",
        "2026-11-03 23:00",
        "2026-11-04 21:00",
    ]


def test_the_present_month_is_shown_first_and_no_other_text_is_a_month(
    node: Node, client: Client, pacsadmin: User
) -> None:
    NodeHourlyUsage.objects.create(node=node, hour=timezone.now() - timedelta(days=40))
    client.force_login(pacsadmin)

    page = client.get(f"/nodes/{node.pk}/month/").content.decode()

    assert f"<strong>{timezone.localdate():%Y-%m}</strong>" in page
    assert page.count('href="?month=') == 1
    for text in ("2026-13", "x", "9999-12", "2026-11-01"):
        assert client.get(f"/nodes/{node.pk}/month/?month={text}").status_code == 404
