"""Services for node managers; users without the permission are rejected."""

import pytest

from adit.accounts.permissions import COORDINATORS, DATA_PROTECTION, NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs.models import Job
from adit.nodes import pause, services
from adit.nodes.access import get_domain
from adit.nodes.models import Node, NodeAccess
from adit_engine.errors import InvalidInput

MANAGERS = {"pacsadmin": True, "root": True, "coordinator": False, "dpo": False, "stranger": False}


@pytest.mark.parametrize(("who", "allowed"), MANAGERS.items())
@pytest.mark.parametrize(
    ("action", "event"),
    [
        (lambda user, node: services.save_node(user, node), "node.changed"),
        (
            lambda user, node: services.save_node(user, Node(name="new", kind="memory")),
            "node.created",
        ),
        (lambda user, node: services.put_in_use(user, node), "node.put_in_use"),
        (lambda user, node: services.take_out_of_use(user, node), "node.taken_out_of_use"),
        (lambda user, node: pause.pause_node(user, node, "migration"), "node.paused"),
        (lambda user, node: pause.reopen_node(user, node), "node.reopened"),
        (lambda user, node: services.remove_node(user, node), "node.removed"),
    ],
)
def test_only_node_managers_can_change_nodes(request, source, who, allowed, action, event):
    user = request.getfixturevalue(who)
    before = list(Node.objects.values())

    if allowed:
        action(user, source)
        assert AuditEvent.objects.get(action=event).user == user
    else:
        with pytest.raises(NotPermitted, match="Manage PACS and folders"):
            action(user, source)
        assert list(Node.objects.values()) == before
        assert not AuditEvent.objects.filter(action=event).exists()


def test_a_manager_opens_and_closes_a_node(pacsadmin, make_node):
    node = make_node("PACS1", is_open=False)

    services.put_in_use(pacsadmin, node)
    assert Node.objects.get().is_open
    services.take_out_of_use(pacsadmin, node)
    assert not Node.objects.get().is_open


def test_a_pause_stores_user_and_reason_until_the_node_is_reopened(pacsadmin, source):
    pause.pause_node(pacsadmin, source, " migration ")

    assert (source.paused_by, source.pause_reason) == (pacsadmin, "migration")
    assert source.paused_at is not None
    assert AuditEvent.objects.get(action="node.paused").details["reason"] == "migration"
    pause.reopen_node(pacsadmin, source)
    assert (source.paused_at, source.paused_by, source.pause_reason) == (None, None, "")


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201])
def test_a_pause_requires_a_reason_of_at_most_200_characters(pacsadmin, source, reason):
    with pytest.raises(InvalidInput, match="Users whose jobs wait can read it"):
        pause.pause_node(pacsadmin, source, reason)


def test_the_audit_event_has_the_values_of_changed_fields(pacsadmin, source):
    source.settings = {"shelf": "upper"}
    source.retrieve_limit = 5
    services.save_node(pacsadmin, source)

    event = AuditEvent.objects.get(action="node.changed")
    assert event.details["changed"] == ["retrieve_limit", "settings.shelf"]
    assert event.details["changes"] == {
        "retrieve_limit": {"from": 2, "to": 5},
        "settings.shelf": {"from": None, "to": "upper"},
    }


def test_saving_a_stale_node_does_not_end_a_later_pause(pacsadmin, source):
    stale = Node.objects.get(pk=source.pk)
    pause.pause_node(pacsadmin, source, "migration")

    services.save_node(pacsadmin, stale)

    assert Node.objects.get(pk=source.pk).pause_reason == "migration"


def test_invalid_settings_and_windows_are_not_saved(pacsadmin):
    with pytest.raises(InvalidInput, match="absolute path"):
        services.save_node(pacsadmin, Node(name="F", kind="folder", settings={"path": "relative"}))
    with pytest.raises(InvalidInput, match="days"):
        services.save_node(pacsadmin, Node(name="M", kind="memory", windows=[{"from": "20:00"}]))
    assert not Node.objects.exists()


def test_a_name_that_is_in_use_is_rejected(pacsadmin, source):
    with pytest.raises(InvalidInput, match="already is a PACS or folder named PACS1"):
        services.save_node(pacsadmin, Node(name="PACS1", kind="memory"))


def test_renaming_a_node_keeps_its_patient_id_domain(pacsadmin):
    node = services.save_node(pacsadmin, Node(name="PACS1", kind="memory"))
    node.name = "PACS2"
    services.save_node(pacsadmin, node)

    assert get_domain(Node.objects.get()) == "PACS1"


def test_access_is_saved_with_the_node(pacsadmin, source, groups):
    services.save_node(
        pacsadmin,
        source,
        {groups[COORDINATORS]: (False, False), groups[DATA_PROTECTION]: (True, True)},
    )

    row = NodeAccess.objects.get()
    assert (row.group.name, row.may_read, row.may_write) == (DATA_PROTECTION, True, True)
    assert AuditEvent.objects.get(action="node.changed").details["access"] == {
        DATA_PROTECTION: "read write"
    }


def test_a_node_referenced_by_a_job_cannot_be_removed(pacsadmin, coordinator, destination, project):
    Job.objects.create(
        kind="selective", owner=coordinator, destination=destination, project=project
    )

    with pytest.raises(NotPermitted, match="Close it instead"):
        services.remove_node(pacsadmin, destination)
    assert Node.objects.filter(pk=destination.pk).exists()
