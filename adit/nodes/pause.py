"""Pause and stop: keep everybody from a node at once; only a person opens it again.

A pause lets what runs finish its series; a stop cuts every connection within seconds.
"""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person, Right, require
from adit.audit.trail import record
from adit.nodes.models import Node, Slot
from adit_engine.errors import InvalidInput

LONGEST_REASON = 200


def pause(user: Person, node: Node, reason: str) -> None:
    """Nothing new begins there; everybody whose work waits reads the reason and who paused it."""
    require(user, Right.MANAGE_NODES)
    _pause([node.pk], user, _said(reason))
    node.refresh_from_db()


def stop(user: Person, node: Node, reason: str) -> None:
    """Cuts every connection with it, and nothing new begins there."""
    require(user, Right.MANAGE_NODES)
    _stop([node.pk], user, _said(reason))
    node.refresh_from_db()


def stop_all(user: Person, reason: str) -> int:
    """Likewise for every node that is in use; how many."""
    require(user, Right.MANAGE_NODES)
    return _stop(Node.objects.values_list("pk", flat=True), user, _said(reason))


def from_machine(name: str | None, reason: str, *, cut: bool) -> int:
    """A stop (`cut`) or a pause from the machine itself, without pages, of the node of this name,
    or of every node there is; how many. 0: no such node.
    """
    found = Node.objects.all() if name is None else Node.objects.filter(name=name)
    pks = list(found.values_list("pk", flat=True))
    return _stop(pks, None, reason) if cut else _pause(pks, None, reason)


def reopen(user: Person, node: Node) -> None:
    """Ends a pause or a stop."""
    require(user, Right.MANAGE_NODES)
    values = {"paused_at": None, "stopped_at": None, "paused_by_id": None, "pause_reason": ""}
    _write("node.reopened", [node.pk], user, values)
    node.refresh_from_db()


def end_one(user: Person, node: Node, slot: int) -> None:
    """Ends one connection with it, within seconds; a job's part is canceled, the others go on.

    Raises Refused, and WrongInput when it has ended by itself.
    """
    require(user, Right.MANAGE_NODES)
    with transaction.atomic():
        row = Slot.objects.select_for_update(no_key=True).filter(pk=slot, node=node).first()
        if row is None:
            raise InvalidInput(_("This connection has ended already."))
        Slot.objects.filter(pk=row.pk).update(ended_by=user.pk)
        details = {"node": node.name, "holder": row.holder}
        record("node.connection_ended", user=user, about=f"node:{node.pk}", details=details)


def _pause(pks: Iterable[int], user: Person | None, reason: str) -> int:
    return _write("node.paused", pks, user, _values(user, reason))


def _stop(pks: Iterable[int], user: Person | None, reason: str) -> int:
    values = _values(user, reason)
    return _write("node.stopped", pks, user, {**values, "stopped_at": values["paused_at"]})


def _values(user: Person | None, reason: str) -> dict[str, Any]:
    by = user.pk if user is not None else None
    return {
        "paused_at": timezone.now(),
        "paused_by_id": by,
        "pause_reason": reason[:LONGEST_REASON],
    }


def _write(action: str, pks: Iterable[int], user: Person | None, values: dict[str, Any]) -> int:
    with transaction.atomic():
        rows = list(
            Node.objects.select_for_update(no_key=True).filter(pk__in=list(pks)).order_by("pk")
        )
        Node.objects.filter(pk__in=[row.pk for row in rows]).update(**values)
        for row in rows:
            details = {"node": row.name, "reason": values["pause_reason"]}
            record(action, user=user, about=f"node:{row.pk}", details=details)
    return len(rows)


def _said(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise InvalidInput(_("Say in at most 200 characters why; those who wait will read it."))
    return reason
