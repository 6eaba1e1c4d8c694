"""When: the sentences that say when an order will run."""

from collections.abc import Iterable

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from adit.nodes import window
from adit.nodes.models import Lane, Node
from adit_engine.errors import WrongInput


def when(nodes: Iterable[Node], *, is_urgent: bool) -> list[str]:
    """One sentence for each node that must be waited for; one for now when there is none."""
    obstacles = [sentence for node in nodes if (sentence := _obstacle(node, is_urgent))]
    return obstacles or [_("Now, as soon as a worker is free.")]


def _obstacle(node: Node, is_urgent: bool) -> str:
    words = {"node": node.name, "reason": node.pause_reason}
    if not node.is_open:
        return _("%(node)s is closed: its administrator must open it first.") % words
    if node.paused_at is not None:
        return _("%(node)s is paused: %(reason)s") % words
    lane = Lane.URGENT if is_urgent else Lane.RETRIEVE
    now = timezone.now()
    try:
        if window.allowed_now(node, lane, now):
            return ""
        opens_at = window.opens_next(node, lane, now)
    except WrongInput:
        return _("%(node)s has allowed hours that cannot be read: tell its administrator.") % words
    if opens_at is None:
        return _("%(node)s has no allowed hours for transfers: ask its administrator.") % words
    local = timezone.localtime(opens_at)
    words["at"] = f"{date_format(local, 'D')} {date_format(local, 'TIME_FORMAT')}"
    return _("When %(node)s opens: %(at)s.") % words
