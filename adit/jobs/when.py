"""When: the sentences that say when an order will run."""

from collections.abc import Iterable

from django.utils.translation import gettext as _

from adit.nodes.models import Node


def when(nodes: Iterable[Node], *, is_urgent: bool) -> list[str]:
    """One sentence when nothing is in the way, else one for each node that is."""
    obstacles = [sentence for node in nodes if (sentence := _obstacle(node, is_urgent))]
    return obstacles or [_("Now, as soon as a worker is free.")]


def _obstacle(node: Node, is_urgent: bool) -> str:
    words = {"node": node.name, "reason": node.pause_reason}
    if not node.is_open:
        return _("%(node)s is closed: its administrator must open it first.") % words
    if node.paused_at is not None:
        return _("%(node)s is paused: %(reason)s") % words
    return ""
