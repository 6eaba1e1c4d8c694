"""Rows: what the people who look after nodes do with them: save, open, pause, remove."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person, Refused, Right, require
from adit.audit.trail import record
from adit.nodes import alarms
from adit.nodes.calendar import special_days, windows
from adit.nodes.gateway import engine_settings
from adit.nodes.models import Access, Node
from adit_engine.errors import InvalidInput
from adit_engine.nodes import kind_class

GroupAccess = Mapping[Group, tuple[bool, bool]]
"""May read, may write."""

_WATCHED = (
    "name",
    "kind",
    "secrets",
    "is_open",
    "is_clinical",
    "windows",
    "exceptions",
    "retrieve_limit",
    "search_limit",
    "gap_s",
    "rate_kb_s",
    "takes_images",
)

_AGREED = frozenset(
    {"windows", "exceptions", "retrieve_limit", "search_limit", "gap_s", "rate_kb_s"}
)
"""What was agreed on with whoever looks after the node: they are told."""


def save_node(user: Person, node: Node, access: GroupAccess | None = None) -> Node:
    """Saves a new or changed row, and the access of the groups named.

    Raises Refused, WrongInput, FolderRefused.

    A new node whose settings name no patient-id domain gets its name as one, which stays when the
    node is renamed: pseudonyms hang on it.
    """
    require(user, Right.MANAGE_NODES)
    if node.pk is None and "domain" in _names(node):
        node.settings = {**node.settings, "domain": node.settings.get("domain") or node.name}
    kind_class(node.kind).Settings(**engine_settings(node))
    windows.read(node.windows)
    special_days.read(node.exceptions)
    with transaction.atomic():
        before = Node.objects.filter(pk=node.pk).first()
        _save(node)
        changed = _changed(before, node)
        details: dict[str, Any] = {"node": node.name, "changed": changed}
        if agreed := _AGREED.intersection(changed):
            alarms.hours_changed(user, node, agreed)
        if access is not None:
            details["access"] = _save_access(node, access)
        action = "node.changed" if before else "node.created"
        record(action, user=user, about=_about(node), details=details)
    return node


def open(user: Person, node: Node) -> None:
    """From now on it may be used."""
    _change(user, node, "node.put_in_use", is_open=True)


def close(user: Person, node: Node) -> None:
    """Nothing new begins there until somebody opens it."""
    _change(user, node, "node.taken_out_of_use", is_open=False)


def remove(user: Person, node: Node) -> None:
    """Raises Refused for a node that jobs name: it stays, closed, for their sake."""
    require(user, Right.MANAGE_NODES)
    about = _about(node)
    try:
        with transaction.atomic():
            node.delete()
            record("node.removed", user=user, about=about, details={"node": node.name})
    except ProtectedError:
        raise Refused(
            _("%(node)s stands in jobs and cannot be removed. Close it instead.")
            % {"node": node.name}
        ) from None


def _change(
    user: Person,
    node: Node,
    action: str,
    details: Mapping[str, Any] | None = None,
    **values: Any,
) -> None:
    require(user, Right.MANAGE_NODES)
    with transaction.atomic():
        Node.objects.filter(pk=node.pk).update(**values)
        record(
            action, user=user, about=_about(node), details={"node": node.name, **(details or {})}
        )
    node.refresh_from_db(fields=[name.removesuffix("_id") for name in values])


def _save(node: Node) -> None:
    try:
        with transaction.atomic():
            node.save(update_fields=None if node.pk is None else [*_WATCHED, "settings"])
    except IntegrityError:
        raise InvalidInput(
            _("Name: there is a %(node)s already. Choose another name.") % {"node": node.name}
        ) from None


def _save_access(node: Node, access: GroupAccess) -> dict[str, str]:
    for group, (may_read, may_write) in access.items():
        if may_read or may_write:
            Access.objects.update_or_create(
                node=node, group=group, defaults={"may_read": may_read, "may_write": may_write}
            )
        else:
            Access.objects.filter(node=node, group=group).delete()
    rows = node.access.select_related("group").order_by("group__name")
    return {row.group.name: _word(row) for row in rows}


def _word(row: Access) -> str:
    return " ".join(word for word, has in (("read", row.may_read), ("write", row.may_write)) if has)


def _changed(before: Node | None, after: Node) -> list[str]:
    """Names only; values of settings may be nobody's business."""
    if before is None:
        return []
    names = sorted({*before.settings, *after.settings})
    settings = [n for n in names if before.settings.get(n) != after.settings.get(n)]
    rows = [name for name in _WATCHED if getattr(before, name) != getattr(after, name)]
    return rows + [f"settings.{name}" for name in settings]


def _names(node: Node) -> set[str]:
    return set(kind_class(node.kind).Settings.__dataclass_fields__)


def _about(node: Node) -> str:
    return f"node:{node.pk}"
