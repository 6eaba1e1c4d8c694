"""Pause, stop and reopen nodes, and end single connections. Used by pages and command line.

A pause lets running work finish its series; a stop cuts all connections within seconds. Only a
user can reopen the node.
"""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.trail import record
from adit.nodes.models import Node, Slot
from adit_engine.errors import InvalidInput

MAX_REASON_LENGTH = 200


def pause_node(user: AnyUser, node: Node, reason: str) -> None:
    """Pause the node: no new work starts. Users whose work waits see the reason and who paused it.

    Raise NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_NODES)
    _pause_rows([node.pk], user, _validate_reason(reason))
    node.refresh_from_db()


def stop_node(user: AnyUser, node: Node, reason: str) -> None:
    """Stop the node: cut all connections and start no new work.

    Raise NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_NODES)
    _stop_rows([node.pk], user, _validate_reason(reason))
    node.refresh_from_db()


def stop_all_nodes(user: AnyUser, reason: str) -> int:
    """Stop all nodes; return their number. Raise NotPermitted, InvalidInput."""
    require(user, Right.MANAGE_NODES)
    return _stop_rows(Node.objects.values_list("pk", flat=True), user, _validate_reason(reason))


def pause_from_command_line(name: str | None, reason: str, *, cut: bool) -> int:
    """Stop (`cut`) or pause a node, or all nodes if `name` is None, without the web pages.

    Return the number of nodes; 0 if there is no node of this name.
    """
    found = Node.objects.all() if name is None else Node.objects.filter(name=name)
    pks = list(found.values_list("pk", flat=True))
    return _stop_rows(pks, None, reason) if cut else _pause_rows(pks, None, reason)


def reopen_node(user: AnyUser, node: Node) -> None:
    """End a pause or a stop. Raise NotPermitted."""
    require(user, Right.MANAGE_NODES)
    values = {"paused_at": None, "stopped_at": None, "paused_by_id": None, "pause_reason": ""}
    _update_rows("node.reopened", [node.pk], user, values)
    node.refresh_from_db()


def end_connection(user: AnyUser, node: Node, slot: int) -> None:
    """End one connection with the node within seconds.

    If it belongs to a task of a job, that task is canceled and the others continue. Raise
    NotPermitted, and InvalidInput if the connection has already ended.
    """
    require(user, Right.MANAGE_NODES)
    with transaction.atomic():
        row = Slot.objects.select_for_update(no_key=True).filter(pk=slot, node=node).first()
        if row is None:
            raise InvalidInput("connection.already-ended")
        Slot.objects.filter(pk=row.pk).update(ended_by=user.pk)
        details = {"node": node.name, "holder": row.holder}
        record("node.connection_ended", user=user, about=f"node:{node.pk}", details=details)


def _pause_rows(pks: Iterable[int], user: AnyUser | None, reason: str) -> int:
    return _update_rows("node.paused", pks, user, _pause_values(user, reason))


def _stop_rows(pks: Iterable[int], user: AnyUser | None, reason: str) -> int:
    values = _pause_values(user, reason)
    return _update_rows("node.stopped", pks, user, {**values, "stopped_at": values["paused_at"]})


def _pause_values(user: AnyUser | None, reason: str) -> dict[str, Any]:
    by = user.pk if user is not None else None
    return {
        "paused_at": timezone.now(),
        "paused_by_id": by,
        "pause_reason": reason[:MAX_REASON_LENGTH],
    }


def _update_rows(
    action: str, pks: Iterable[int], user: AnyUser | None, values: dict[str, Any]
) -> int:
    with transaction.atomic():
        rows = list(
            Node.objects.select_for_update(no_key=True).filter(pk__in=list(pks)).order_by("pk")
        )
        Node.objects.filter(pk__in=[row.pk for row in rows]).update(**values)
        for row in rows:
            details = {"node": row.name, "reason": values["pause_reason"]}
            record(action, user=user, about=f"node:{row.pk}", details=details)
    return len(rows)


def _validate_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON_LENGTH:
        raise InvalidInput("node-pause.reason-length", max_length=MAX_REASON_LENGTH)
    return reason
