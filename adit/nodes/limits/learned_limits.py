"""How many associations a node has turned out to serve at once, kept on its row for a week.

Used by the gateway, by the page of the node, and when its settings are saved.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from adit.nodes.limits import response_times
from adit.nodes.models import Node
from adit_engine.messages import Message
from adit_engine.nodes.dimse.association_limits import AssociationLimits, LearnedLimit

KEPT_FOR = timedelta(days=7)
"""After that, the number of the settings is tried again."""


def load(node: Node) -> AssociationLimits:
    """Return what was learned about the node and is not too old."""
    limits = AssociationLimits(_load(node, "retrieve"), _load(node, "store"))
    apply_slowness(node, limits)
    return limits


def apply_slowness(node: Node, limits: AssociationLimits) -> None:
    """Use one connection in each direction while the node is slow, and as many as before after."""
    limits.retrieve.is_slow = limits.store.is_slow = (
        response_times.get_slow_period(node) is not None
    )


def save(node: Node, limits: AssociationLimits) -> None:
    """Keep what is new in `limits`. What another process has found meanwhile is not undone."""
    if not _find_new(limits, node):
        return
    row = Node.objects.filter(pk=node.pk).first()
    if row is not None and (new := _find_new(limits, row)):
        Node.objects.filter(pk=row.pk).update(learned_limits={**row.learned_limits, **new})


def _find_new(limits: AssociationLimits, node: Node) -> dict[str, Any]:
    """Return the entries of lower limits, and of the first proof that there is no limit."""
    new = {}
    for name, limit in (("retrieve", limits.retrieve), ("store", limits.store)):
        old = _load(node, name)
        is_lower = limit.most is not None and (old.most is None or limit.most < old.most)
        if is_lower or (limit.is_proven and not old.is_proven and old.most is None):
            new[name] = {
                "most": limit.most,
                "is_proven": limit.is_proven,
                "reason": limit.reason.to_json() if limit.reason is not None else None,
                "at": timezone.now().isoformat(),
            }
    return new


def learned_at(node: Node, name: str) -> datetime:
    """Return when the limit was learned. `name` is retrieve or store."""
    return datetime.fromisoformat(node.learned_limits[name]["at"])


def _load(node: Node, name: str) -> LearnedLimit:
    kept: Mapping[str, Any] | None = node.learned_limits.get(name)
    if kept is None or learned_at(node, name) + KEPT_FOR < timezone.now():
        return LearnedLimit()
    reason = None if kept["reason"] is None else Message.from_json(kept["reason"])
    return LearnedLimit(kept["most"], reason, is_proven=kept.get("is_proven", False))
