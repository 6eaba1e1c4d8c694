"""Slots: the limit of connections to a node, also under concurrent requests."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NodeUnavailable, NoSlot
from adit.nodes.models import Lane, Slot


@pytest.fixture
def node(make_node):
    return make_node("PACS1", retrieve_limit=2, search_limit=1)


def outlive(holder):
    past = timezone.now() - timedelta(seconds=1)
    Slot.objects.filter(holder=holder).update(expires_at=past)


def test_a_slot_beyond_the_limit_is_refused(node):
    slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)
    slots.acquire_slot(node, Lane.RETRIEVE, "task:2", 60)

    with pytest.raises(NoSlot, match="PACS1: 2 of 2 connections are in use") as error:
        slots.acquire_slot(node, Lane.RETRIEVE, "task:3", 60)
    assert error.value.is_transient
    assert error.value.until is None
    assert slots.slots_in_use(node).count() == 2


def test_a_holder_gets_its_existing_slot_again(node):
    first = slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)
    again = slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)

    assert first.pk == again.pk
    assert first.is_new
    assert not again.is_new
    assert slots.count_free(node, Lane.RETRIEVE) == 1


def test_acquiring_again_extends_a_slot_and_never_shortens_it(node):
    first = slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 600)

    assert slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 1).expires_at == first.expires_at
    assert slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 900).expires_at > first.expires_at


def test_searches_and_transfers_have_separate_slots(node):
    slots.acquire_slot(node, Lane.SEARCH, "search:1", 60)

    assert slots.count_free(node, Lane.RETRIEVE) == 2
    with pytest.raises(NoSlot, match="1 of 1"):
        slots.acquire_slot(node, Lane.SEARCH, "search:2", 60)


def test_an_expired_slot_does_not_count(node):
    for holder in ("task:1", "task:2"):
        slots.acquire_slot(node, Lane.RETRIEVE, holder, 60)
    outlive("task:1")

    assert slots.count_free(node, Lane.RETRIEVE) == 1
    assert slots.acquire_slot(node, Lane.RETRIEVE, "task:3", 60).is_new


def test_an_expired_slot_is_neither_renewed_nor_reserved_for_its_holder(node):
    slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)
    outlive("task:1")
    for holder in ("task:2", "task:3"):
        slots.acquire_slot(node, Lane.RETRIEVE, holder, 60)

    assert slots.renew_slots("task:1", 60) == 0
    with pytest.raises(NoSlot):
        slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)


def test_renewing_extends_all_slots_of_a_holder(node, make_node):
    other = make_node("PACS2")
    for place in (node, other):
        slots.acquire_slot(place, Lane.RETRIEVE, "task:1", 1)

    assert slots.renew_slots("task:1", 600) == 2
    assert all(s.expires_at > timezone.now() + timedelta(seconds=500) for s in Slot.objects.all())


def test_releasing_removes_all_slots_of_a_holder(node, make_node):
    other = make_node("PACS2")
    for place in (node, other):
        slots.acquire_slot(place, Lane.RETRIEVE, "task:1", 60)
    slots.acquire_slot(node, Lane.RETRIEVE, "task:2", 60)
    slots.release_slots("task:1")

    assert [slot.holder for slot in Slot.objects.all()] == ["task:2"]


def test_urgent_tasks_have_their_own_limit(node, settings):
    settings.URGENT_LIMIT = 1
    slots.acquire_slot(node, Lane.URGENT, "task:1", 60)

    with pytest.raises(NoSlot, match="1 of 1"):
        slots.acquire_slot(node, Lane.URGENT, "task:2", 60)


def test_urgent_tasks_do_not_exceed_the_limit_of_the_node(node):
    for holder in ("task:1", "task:2"):
        slots.acquire_slot(node, Lane.RETRIEVE, holder, 60)

    with pytest.raises(NoSlot, match="2 of 2"):
        slots.acquire_slot(node, Lane.URGENT, "task:3", 60)


def test_urgent_tasks_count_towards_the_limit_of_ordinary_tasks(node):
    slots.acquire_slot(node, Lane.URGENT, "task:1", 60)
    slots.acquire_slot(node, Lane.RETRIEVE, "task:2", 60)

    with pytest.raises(NoSlot, match="2 of 2"):
        slots.acquire_slot(node, Lane.RETRIEVE, "task:3", 60)


def test_the_error_outside_the_allowed_hours_names_the_opening_time(node):
    tomorrow = timezone.localtime() + timedelta(days=1)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[tomorrow.weekday()]
    node.windows = [{"days": [day], "from": "12:00", "to": "13:00"}]
    node.save()

    with pytest.raises(NodeUnavailable, match=f"It opens at {tomorrow:%Y-%m-%d} 12:00") as error:
        slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60)
    assert not isinstance(error.value, NoSlot)
    assert timezone.localtime(error.value.until).strftime("%H:%M") == "12:00"
    assert slots.acquire_slot(node, Lane.URGENT, "task:1", 60).is_new


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_do_not_exceed_the_limit(node):
    def take(number):
        try:
            slots.acquire_slot(node, Lane.RETRIEVE, f"task:{number}", 60)
        except NoSlot:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(24)))

    assert sum(taken) == 2
    assert Slot.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_of_one_holder_get_one_slot(node):
    def take(_number):
        try:
            return slots.acquire_slot(node, Lane.RETRIEVE, "task:1", 60).is_new
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(12))) == 1
