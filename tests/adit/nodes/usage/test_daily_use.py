"""Daily usage of nodes and users, including crashes and pauses between studies."""

from collections.abc import Callable
from datetime import timedelta
from io import BytesIO

import pytest
from django.test import Client
from django.utils import timezone
from openpyxl import load_workbook

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.nodes.gateway import Purpose, make_slot_request
from adit.nodes.limits import slots
from adit.nodes.limits.slots import SlotRequest
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Lane, Node, NodeDailyUsage, Slot, UserDailyUsage

pytestmark = pytest.mark.django_db


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node("PACS1", retrieve_limit=3)


def transferred(node: Node, holder: str, images: int, size_bytes: int, hold: SlotRequest) -> None:
    slot = slots.acquire_slot(node, Lane.RETRIEVE, holder, 60, hold)
    Slot.objects.filter(pk=slot.pk).update(images=images, size_bytes=size_bytes)
    slots.release_slots(holder)


def test_a_released_slot_is_added_to_the_usage_of_its_day(node: Node, coordinator: User) -> None:
    hold = SlotRequest(coordinator.pk, 7, counts_for_budget=True)
    transferred(node, "task:1", 10, 5_000, hold)
    transferred(node, "task:2", 20, 6_000, hold)

    use = NodeDailyUsage.objects.get()
    assert (use.day, use.lane) == (timezone.localdate(), Lane.RETRIEVE)
    assert (use.connections, use.images, use.size_bytes) == (2, 30, 11_000)
    assert (use.peak_connections, use.allowed) == (1, 3)
    spent = UserDailyUsage.objects.get()
    assert (spent.user, spent.studies, spent.size_bytes) == (coordinator, 2, 11_000)


def test_the_peak_of_connections_is_stored_with_the_allowed_number(node: Node) -> None:
    for number in range(3):
        slots.acquire_slot(node, Lane.RETRIEVE, f"task:{number}", 60)
    for number in range(3):
        slots.release_slots(f"task:{number}")
    transferred(node, "task:9", 1, 1, SlotRequest())

    assert (
        NodeDailyUsage.objects.get().peak_connections,
        NodeDailyUsage.objects.get().allowed,
    ) == (
        3,
        3,
    )


def test_a_slot_for_sending_does_not_count_for_the_budget(node: Node, coordinator: User) -> None:
    transferred(node, "task:1", 1, 1, SlotRequest(coordinator.pk))

    assert not UserDailyUsage.objects.exists()


@pytest.mark.parametrize("holder", ["task:1", "task:2"])
def test_the_slot_of_a_crashed_worker_is_counted_once(holder: str, node: Node) -> None:
    slot = slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)
    past = timezone.now() - timedelta(seconds=1)
    Slot.objects.filter(pk=slot.pk).update(images=4, expires_at=past)

    assert slots.acquire_slot(node, Lane.RETRIEVE, holder, 60).is_new
    assert slots.slots_in_use(node).count() == 1
    slots.release_expired()
    slots.release_expired()

    assert (NodeDailyUsage.objects.get().connections, NodeDailyUsage.objects.get().images) == (1, 4)


def test_a_slot_stays_occupied_during_the_pause_between_studies(node: Node) -> None:
    node.retrieve_limit, node.pause_between_studies_s = 1, 30
    node.save()
    slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)
    before = timezone.now()
    slots.release_slots("task:1")
    after = timezone.now()

    with pytest.raises(NoSlot, match="PACS1: pause of 30 s between two studies") as error:
        slots.acquire_slot(node, Lane.RETRIEVE, "task:2", 60)
    assert error.value.until is not None
    assert before <= error.value.until - timedelta(seconds=30) <= after
    slots.acquire_slot(node, Lane.SEARCH, "search:1", 60)
    Slot.objects.filter(lane=Lane.RETRIEVE).update(expires_at=timezone.now())
    assert slots.acquire_slot(node, Lane.RETRIEVE, "task:2", 60).is_new
    assert NodeDailyUsage.objects.get(lane=Lane.RETRIEVE).connections == 1, (
        "a pause must not count as a connection"
    )


def test_a_known_c_move_takes_two_connections_from_the_start(make_node, settings) -> None:
    settings.RECEIVER_PORT = 11112
    by_choice = make_node("A", kind="dimse", settings={"retrieve": "move"})
    unknown, known = make_node("B", kind="dimse"), make_node("C", kind="dimse", uses_c_move=True)

    holds = [
        make_slot_request(row, [Purpose.RETRIEVE], None) for row in (by_choice, unknown, known)
    ]

    assert [(hold.min_associations, hold.max_associations) for hold in holds] == [
        (2, 2),
        (1, 1),
        (2, 2),
    ]
    for number in (1, 2):
        slots.acquire_slot(known, Lane.RETRIEVE, f"late:{number}", 60)
    with pytest.raises(NoSlot, match="2 of 2"):
        slots.acquire_slot(known, Lane.RETRIEVE, "task:1", 60, holds[2])
    known.retrieve_limit = 1
    known.save()
    with pytest.raises(
        NoSlot, match="C-MOVE needs 2 connections at the same time, but the limit is 1"
    ):
        slots.acquire_slot(known, Lane.RETRIEVE, "task:1", 60, holds[2])


def test_a_second_connection_for_sending_is_used_if_one_is_free(make_node) -> None:
    row = make_node("A", kind="dimse", settings={"store_associations": 2}, retrieve_limit=3)
    hold = make_slot_request(row, [Purpose.STORE], None)

    first = slots.acquire_slot(row, Lane.RETRIEVE, "task:1", 60, hold)
    second = slots.acquire_slot(row, Lane.RETRIEVE, "task:2", 60, hold)

    assert (first.weight, second.weight) == (2, 1)
    assert slots.count_free(row, Lane.RETRIEVE) == 0


def test_a_slot_is_widened_only_within_the_limit(make_node) -> None:
    row = make_node("A", retrieve_limit=3)
    first = slots.acquire_slot(row, Lane.RETRIEVE, "task:1", 60)
    second = slots.acquire_slot(row, Lane.RETRIEVE, "task:2", 60)

    assert slots.widen_slot(first, 2)
    assert slots.widen_slot(first, 2), "the slot already has this weight"
    assert not slots.widen_slot(second, 2)


def test_managers_see_usage_in_charts_and_export_it(
    node: Node, pacsadmin: User, coordinator: User, settings
) -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    transferred(
        node, "task:1", 12, 5_000_000_000, SlotRequest(coordinator.pk, 7, counts_for_budget=True)
    )
    slots.acquire_slot(node, Lane.RETRIEVE, "task:2", 60, SlotRequest(coordinator.pk, 8))
    client = Client()
    client.force_login(pacsadmin)

    page = client.get(f"/nodes/{node.pk}/").content.decode()
    lines = client.get(f"/nodes/{node.pk}/use.csv").getvalue().decode().splitlines()
    book = load_workbook(BytesIO(client.get(f"/nodes/{node.pk}/use.xlsx").content))

    assert "job 8" in page
    assert coordinator.username in page
    assert page.count('class="use-bar"') == 4, "each of four charts must have one bar"
    assert lines[1] == f'"{timezone.localdate()}","retrieve","1","1","3","12","5000000000"'
    assert [cell.value for cell in book.active[2]][2:] == [1, 1, 3, 12, 5_000_000_000]


def test_a_manager_ends_one_connection_from_the_page(node: Node, pacsadmin: User, settings) -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    slot = slots.acquire_slot(node, Lane.RETRIEVE, "task:2", 60)
    client = Client()
    client.force_login(pacsadmin)

    client.post(f"/nodes/{node.pk}/connections/{slot.pk}/end/")

    slot.refresh_from_db()
    assert slot.ended_by == pacsadmin
    assert AuditEvent.objects.get(action="node.connection_ended").user == pacsadmin
