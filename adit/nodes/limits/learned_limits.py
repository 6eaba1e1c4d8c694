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
    """Keep what is new in `limits`. Another process may have learned something meanwhile."""
    before = load(node)
    lowered = {
        name: {
            "most": limit.most,
            "reason": limit.reason.to_json() if limit.reason is not None else None,
            "at": timezone.now().isoformat(),
        }
        for name, limit, old in (
            ("retrieve", limits.retrieve, before.retrieve),
            ("store", limits.store, before.store),
        )
        if limit.most is not None and limit.most != old.most
    }
    if lowered:
        row = Node.objects.filter(pk=node.pk)
        known = row.values_list("learned_limits", flat=True).first() or {}
        row.update(learned_limits={**known, **lowered})


def learned_at(node: Node, name: str) -> datetime:
    """Return when the limit was learned. `name` is retrieve or store."""
    return datetime.fromisoformat(node.learned_limits[name]["at"])


def _load(node: Node, name: str) -> LearnedLimit:
    kept: Mapping[str, Any] | None = node.learned_limits.get(name)
    if kept is None or learned_at(node, name) + KEPT_FOR < timezone.now():
        return LearnedLimit()
    reason = None if kept["reason"] is None else Message.from_json(kept["reason"])
    return LearnedLimit(kept["most"], reason)
