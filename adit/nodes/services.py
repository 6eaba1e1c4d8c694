"""Save, open, close and remove nodes. Used by the pages, forms and diagnostics of nodes."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from adit.accounts.permissions import AnyUser, NotPermitted, Right, require
from adit.audit.changes import compare_values, make_value, read_fields
from adit.audit.trail import record
from adit.nodes import alarms
from adit.nodes.calendar import allowed_hours
from adit.nodes.exported_settings import without_missing_secrets
from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node, NodeAccess
from adit_engine.errors import InvalidInput
from adit_engine.nodes import kind_class

AccessByGroup = Mapping[Group, tuple[bool, bool]]
"""For each group: may read, may write."""

_AUDITED_FIELDS = (
    "name",
    "kind",
    "api_ae_title",
    "secrets",
    "is_open",
    "is_clinical",
    "windows",
    "special_days",
    "retrieve_limit",
    "search_limit",
    "pause_between_studies_s",
    "rate_kb_s",
    "takes_images",
)

_AGREED_FIELDS = frozenset(
    {
        "windows",
        "special_days",
        "retrieve_limit",
        "search_limit",
        "pause_between_studies_s",
        "rate_kb_s",
    }
)
"""Fields that were agreed on with the administrator of the node, who is notified of changes."""


def save_node(
    user: AnyUser,
    node: Node,
    access: AccessByGroup | None = None,
    *,
    allow_missing_secrets: bool = False,
) -> Node:
    """Save a new or changed node and the access of the given groups.

    Raise NotPermitted, InvalidInput, FolderRefused. `allow_missing_secrets` is for a node whose
    secrets are entered later.

    A new node whose settings name no patient ID domain gets its name as the domain. The domain
    stays when the node is renamed, because pseudonyms depend on it.
    """
    require(user, Right.MANAGE_NODES)
    if node.pk is None and "domain" in _setting_names(node):
        node.settings = {**node.settings, "domain": node.settings.get("domain") or node.name}
    values = get_engine_settings(node)
    if allow_missing_secrets:
        values = without_missing_secrets(node.kind, values)
    kind_class(node.kind).Settings(**values)
    allowed_hours.parse_windows(node.windows)
    allowed_hours.parse_special_days(node.special_days)
    with transaction.atomic():
        before = Node.objects.filter(pk=node.pk).first()
        groups = _describe_groups(node) if before else {}
        _save_row(node)
        if before is not None and before.settings != node.settings:
            node.learned_limits, node.response_times = {}, {}
            node.save(update_fields=["learned_limits", "response_times"])
        changed = _list_changes(before, node)
        changes = compare_values(_describe(before) if before else {}, _describe(node))
        details: dict[str, Any] = {"node": node.name, "changed": changed}
        if agreed := _AGREED_FIELDS.intersection(changed):
            alarms.raise_hours_changed(user, node, agreed)
        if access is not None:
            _save_access(node, access)
            details["access"] = _describe_groups(node)
            changes |= compare_values({"access": groups}, {"access": details["access"]})
        if before:
            details["changes"] = changes
        action = "node.changed" if before else "node.created"
        record(action, user=user, about=_audit_subject(node), details=details)
    return node


def put_in_use(user: AnyUser, node: Node) -> None:
    """Open the node: it may be used from now on. Raise NotPermitted."""
    _update_row(user, node, "node.put_in_use", is_open=True)


def take_out_of_use(user: AnyUser, node: Node) -> None:
    """Close the node: no new work starts until it is opened again. Raise NotPermitted."""
    _update_row(user, node, "node.taken_out_of_use", is_open=False)


def remove_node(user: AnyUser, node: Node) -> None:
    """Delete the node. Raise NotPermitted if jobs refer to it: such a node can only be closed."""
    require(user, Right.MANAGE_NODES)
    about = _audit_subject(node)
    try:
        with transaction.atomic():
            node.delete()
            record("node.removed", user=user, about=about, details={"node": node.name})
    except ProtectedError:
        raise NotPermitted("node.in-jobs", node=node.name) from None


def _update_row(
    user: AnyUser,
    node: Node,
    action: str,
    details: Mapping[str, Any] | None = None,
    **values: Any,
) -> None:
    require(user, Right.MANAGE_NODES)
    with transaction.atomic():
        Node.objects.filter(pk=node.pk).update(**values)
        record(
            action,
            user=user,
            about=_audit_subject(node),
            details={"node": node.name, **(details or {})},
        )
    node.refresh_from_db(fields=[name.removesuffix("_id") for name in values])


def _save_row(node: Node) -> None:
    try:
        with transaction.atomic():
            node.save(update_fields=None if node.pk is None else [*_AUDITED_FIELDS, "settings"])
    except IntegrityError:
        raise InvalidInput("node.name-taken", node=node.name) from None


def _save_access(node: Node, access: AccessByGroup) -> None:
    for group, (may_read, may_write) in access.items():
        if may_read or may_write:
            NodeAccess.objects.update_or_create(
                node=node, group=group, defaults={"may_read": may_read, "may_write": may_write}
            )
        else:
            NodeAccess.objects.filter(node=node, group=group).delete()


def _describe_groups(node: Node) -> dict[str, str]:
    rows = node.access.select_related("group").order_by("group__name")
    return {row.group.name: _describe_access(row) for row in rows}


def _describe_access(row: NodeAccess) -> str:
    return " ".join(word for word, has in (("read", row.may_read), ("write", row.may_write)) if has)


def _list_changes(before: Node | None, after: Node) -> list[str]:
    """Return the names of all changed fields, also of secret ones."""
    if before is None:
        return []
    names = sorted({*before.settings, *after.settings})
    settings = [n for n in names if before.settings.get(n) != after.settings.get(n)]
    rows = [name for name in _AUDITED_FIELDS if getattr(before, name) != getattr(after, name)]
    return rows + [f"settings.{name}" for name in settings]


def _describe(node: Node) -> dict[str, Any]:
    """Return the values that are not secret. Secrets are neither shown nor compared."""
    fields = kind_class(node.kind).Settings.__dataclass_fields__
    shown = {
        f"settings.{name}": make_value(value)
        for name, value in sorted(node.settings.items())
        if name in fields and not fields[name].metadata.get("secret")
        if not fields[name].metadata.get("pem")
    }
    return {**read_fields(node, _AUDITED_FIELDS), **shown}


def _setting_names(node: Node) -> set[str]:
    return set(kind_class(node.kind).Settings.__dataclass_fields__)


def _audit_subject(node: Node) -> str:
    return f"node:{node.pk}"
