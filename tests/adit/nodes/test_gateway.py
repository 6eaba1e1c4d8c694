"""The gateway: permissions, allowed hours, limits and audit events for each use of a node."""

import inspect
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS, NotPermitted
from adit.audit.models import AuditEvent
from adit.nodes.gateway import Purpose, get_unavailability, open_node
from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NodeUnavailable, NoSlot
from adit.nodes.models import Lane, Node, NodeAccess, Slot
from adit_engine.errors import InvalidInput, NodeError, StorageError
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel


def opens(user, node, purpose, **more):
    with open_node(user, node, purpose, holder="test:1", **more) as opened:
        return opened


@pytest.mark.parametrize(
    ("who", "purposes"),
    [
        ("coordinator", {Purpose.SEARCH, Purpose.RETRIEVE, Purpose.CHECK}),
        ("pacsadmin", {Purpose.CHECK}),
        ("dpo", {Purpose.RECALL}),
        ("stranger", set()),
        ("root", set(Purpose)),
    ],
)
def test_each_purpose_requires_its_permission(request, source, who, purposes):
    user = request.getfixturevalue(who)
    for purpose in Purpose:
        if purpose in purposes:
            assert opens(user, source, purpose).name == "PACS1"
        else:
            with pytest.raises(NotPermitted):
                opens(user, source, purpose)
    assert not Slot.objects.exists()


def test_sending_requires_a_group_with_write_access(coordinator, destination, source):
    assert opens(coordinator, destination, Purpose.STORE).name == "Research PACS"
    with pytest.raises(NotPermitted, match="may send to PACS1"):
        opens(coordinator, source, Purpose.STORE)
    with pytest.raises(NotPermitted, match="may fetch from Research PACS"):
        opens(coordinator, destination, Purpose.RETRIEVE)


def test_sending_to_a_clinical_node_requires_an_additional_permission(
    coordinator, groups, make_node
):
    clinical = make_node("PACS9", writes=(COORDINATORS,), is_clinical=True)

    with pytest.raises(NotPermitted, match="Write to clinical PACS"):
        opens(coordinator, clinical, Purpose.STORE)
    groups[COORDINATORS].permissions.add(Permission.objects.get(codename="write_clinical"))
    assert opens(coordinator, clinical, Purpose.STORE)


def test_revoked_access_takes_effect_immediately(coordinator, source):
    assert opens(coordinator, source, Purpose.RETRIEVE)
    NodeAccess.objects.all().delete()

    with pytest.raises(NotPermitted):
        opens(coordinator, source, Purpose.RETRIEVE)


def test_a_deactivated_account_is_refused_immediately(coordinator, source):
    User.objects.filter(pk=coordinator.pk).update(is_active=False)

    with pytest.raises(NotPermitted, match="account is deactivated"):
        opens(coordinator, source, Purpose.RETRIEVE)


def test_a_closed_node_is_unavailable(coordinator, source):
    Node.objects.update(is_open=False)

    with pytest.raises(NodeUnavailable, match="PACS1 is closed"):
        opens(coordinator, source, Purpose.RETRIEVE)


def test_the_error_of_a_paused_node_names_user_and_reason(coordinator, pacsadmin, source):
    Node.objects.update(paused_at=timezone.now(), paused_by=pacsadmin, pause_reason="migration")

    for purpose in (Purpose.SEARCH, Purpose.RETRIEVE, Purpose.CHECK):
        with pytest.raises(
            NodeUnavailable, match=r"PACS1 was paused by pacsadmin \(reason: migration\)"
        ):
            opens(coordinator, source, purpose)


def test_a_node_manager_can_test_a_closed_or_paused_node(pacsadmin, source):
    Node.objects.update(is_open=False, paused_at=timezone.now())

    assert opens(pacsadmin, source, Purpose.CHECK)


def closed_today():
    tomorrow = timezone.localtime() + timedelta(days=1)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[tomorrow.weekday()]
    return [{"days": [day], "from": "12:00", "to": "13:00"}]


def test_outside_its_hours_a_node_can_be_searched_but_not_retrieved_from(coordinator, source):
    Node.objects.update(windows=closed_today())

    assert opens(coordinator, source, Purpose.SEARCH)
    with pytest.raises(NodeUnavailable, match="It opens at") as error:
        opens(coordinator, source, Purpose.RETRIEVE)
    assert error.value.until > timezone.now()


def test_a_slot_acquired_earlier_does_not_override_the_allowed_hours(coordinator, source):
    slots.acquire_slot(source, Lane.RETRIEVE, "test:1", 60)
    Node.objects.update(windows=closed_today())

    with pytest.raises(NodeUnavailable, match="It opens at"):
        opens(coordinator, source, Purpose.RETRIEVE)


def test_urgent_use_requires_a_permission_and_ignores_the_allowed_hours(
    coordinator, groups, source
):
    Node.objects.update(windows=closed_today())
    with pytest.raises(NotPermitted, match="Transfer outside the allowed hours"):
        opens(coordinator, source, Purpose.RETRIEVE, urgent=True)
    groups[COORDINATORS].permissions.add(Permission.objects.get(codename="be_urgent"))

    assert opens(coordinator, source, Purpose.RETRIEVE, urgent=True)


def test_a_slot_is_held_while_a_node_is_open_and_released_afterwards(coordinator, source):
    with open_node(coordinator, source, Purpose.RETRIEVE, holder="test:1"):
        assert [(s.lane, s.holder) for s in Slot.objects.all()] == [("retrieve", "test:1")]
    assert not Slot.objects.exists()


def test_a_slot_is_released_if_the_block_raises(coordinator, source):
    with (
        pytest.raises(ZeroDivisionError),
        open_node(coordinator, source, Purpose.RETRIEVE, holder="test:1"),
    ):
        1 / 0  # noqa: B018
    assert not Slot.objects.exists()


def test_an_already_reserved_slot_is_used_and_not_released(coordinator, source):
    Node.objects.update(retrieve_limit=1)
    reserved = slots.acquire_slot(source, Lane.RETRIEVE, "task:1", 60)
    with open_node(coordinator, source, Purpose.RETRIEVE, holder="task:1"):
        assert Slot.objects.count() == 1
    assert Slot.objects.get() == reserved


def test_a_node_cannot_be_opened_beyond_its_limit(coordinator, source):
    Node.objects.update(retrieve_limit=1)
    slots.acquire_slot(source, Lane.RETRIEVE, "task:1", 60)

    with pytest.raises(NoSlot, match="1 of 1 connections are in use"):
        opens(coordinator, source, Purpose.RETRIEVE)


def test_each_opening_is_recorded_in_the_audit_trail(coordinator, source):
    opens(coordinator, source, Purpose.SEARCH)

    event = AuditEvent.objects.get(action="node.opened")
    assert (event.user, event.about) == (coordinator, f"node:{source.pk}")
    assert event.details == {"node": "PACS1", "purpose": "search", "holder": "test:1"}


def test_a_refused_user_holds_no_slot_and_is_not_recorded_as_opening(stranger, source):
    with pytest.raises(NotPermitted):
        opens(stranger, source, Purpose.RETRIEVE)
    assert not Slot.objects.exists()
    assert not AuditEvent.objects.filter(action="node.opened").exists()


def test_the_slot_of_a_node_that_fails_is_released(coordinator, make_node, tmp_path):
    gone = make_node(
        "gone", kind="folder", settings={"path": str(tmp_path / "gone")}, writes=(COORDINATORS,)
    )

    with (
        pytest.raises(StorageError),
        open_node(coordinator, gone, Purpose.STORE, holder="test:1") as opened,
    ):
        list(opened.store(iter(())))
    assert not Slot.objects.exists()


def test_the_error_names_settings_that_the_node_kind_does_not_have(coordinator, make_node):
    odd = make_node("odd", settings={"hoast": "pacs1"}, reads=(COORDINATORS,))

    with pytest.raises(InvalidInput, match="odd: the kind memory has no settings hoast"):
        opens(coordinator, odd, Purpose.SEARCH)


def test_a_removed_node_cannot_be_opened(coordinator, source):
    Node.objects.get(pk=source.pk).delete()

    with pytest.raises(NotPermitted, match="PACS1 was removed"):
        opens(coordinator, source, Purpose.SEARCH)


def test_errors_and_pauses_name_the_contact(coordinator, make_node, tmp_path):
    settings = {"path": str(tmp_path / "gone"), "contact": "Anna, 4711"}
    node = make_node("Share", reads=(COORDINATORS,), kind="folder", settings=settings)

    with (
        pytest.raises(NodeError) as failed,
        open_node(coordinator, node, Purpose.SEARCH, holder="search:1") as opened,
    ):
        list(opened.find(Query(QueryLevel.STUDY, {})))
    node.paused_at, node.pause_reason = timezone.now(), "new disks"
    node.save()

    assert str(failed.value).endswith("Contact: Anna, 4711")
    pause = str(get_unavailability(node, Purpose.SEARCH))
    assert pause == "Share is paused (reason: new disks). Contact: Anna, 4711"


def test_the_error_of_a_busy_node_does_not_name_the_contact(coordinator, make_node, tmp_path):
    settings = {"path": str(tmp_path), "contact": "Anna, 4711"}
    node = make_node(
        "Share", reads=(COORDINATORS,), kind="folder", search_limit=0, settings=settings
    )

    with (
        pytest.raises(NodeUnavailable) as waits,
        open_node(coordinator, node, Purpose.SEARCH, holder="search:1"),
    ):
        pass

    assert "Anna" not in str(waits.value)


@pytest.mark.parametrize(
    ("kind", "settings", "abilities"),
    [
        (
            "dimse",
            {"host": "127.0.0.1", "port": 104, "called_ae_title": "PACS"},
            {"share_association", "prefetch", "try_fetching", "try_writing", "store", "confirm"},
        ),
        ("folder", {"path": "/somewhere"}, {"try_fetching", "try_writing", "store", "set_stop"}),
    ],
)
def test_an_opened_node_has_all_methods_of_its_kind(
    coordinator: User, make_node, kind: str, settings: dict, abilities: set[str]
) -> None:
    """Looked up statically, as Python 3.12 and newer check protocols."""
    row = make_node("Place", kind=kind, settings=settings, reads=[COORDINATORS])
    with open_node(coordinator, row, Purpose.RETRIEVE, holder="test") as opened:
        seen = {name for name in abilities if inspect.getattr_static(opened, name, None)}
    assert seen == abilities
