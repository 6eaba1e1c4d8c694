"""Words: what people read about a node: its kind, whether it can be used now, and why not."""

from collections import Counter
from dataclasses import dataclass

from django.db.models import Sum
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.nodes import breaker, slots, window
from adit.nodes.models import Lane, Node, Slot
from adit_engine.errors import WrongInput

KINDS = {
    "dimse": (_lazy("PACS"), "server"),
    "dicomweb": (_lazy("PACS (web)"), "server"),
    "folder": (_lazy("Folder"), "folder"),
    "archive": (_lazy("Encrypted 7-Zip file"), "archive"),
    "memory": (_lazy("Memory (for tests)"), "database"),
}
"""Each kind's name in the users' words, and its icon."""


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a node can be used. `state`: open, resting, paused or closed; `why`: a sentence."""

    state: str
    word: str
    why: str = ""


def kind_word(kind: str) -> str:
    return str(KINDS.get(kind, (kind, ""))[0])


def kind_icon(kind: str) -> str:
    return KINDS.get(kind, ("", "server"))[1]


def status_of(node: Node) -> Status:
    if not node.is_open:
        return Status("closed", _("closed"), _("Nobody has opened it yet, or somebody closed it."))
    if node.paused_at is not None:
        word = _("paused") if node.stopped_at is None else _("stopped")
        return Status("paused", word, _pause(node))
    waits = breaker.why_resting(node)
    if waits is not None:
        return Status("resting", _("does not answer"), str(waits))
    return _by_hours(node)


def _by_hours(node: Node) -> Status:
    now = timezone.now()
    try:
        allowed = window.allowed_now(node, Lane.RETRIEVE, now)
        edge = window.closes_next if allowed else window.opens_next
        until = edge(node, Lane.RETRIEVE, now)
    except WrongInput as error:
        return Status("closed", _("closed"), str(error))
    if not allowed:
        return Status("resting", _("outside its hours"), _("It %s.") % slots.closed_sentence(until))
    if until is None:
        return Status("open", _("open"))
    local = timezone.localtime(until)
    words = {"day": date_format(local, "l"), "time": date_format(local, "H:i")}
    return Status("open", _("open"), _("Until %(day)s at %(time)s.") % words)


def _pause(node: Node) -> str:
    who = node.paused_by.get_full_name() or node.paused_by.get_username() if node.paused_by else ""
    if node.stopped_at is None:
        words = _("Paused by %(who)s") % {"who": who} if who else _("Paused")
    else:
        words = _("Stopped by %(who)s") % {"who": who} if who else _("Stopped")
    return f"{words}: {node.pause_reason}" if node.pause_reason else f"{words}."


def in_use() -> Counter[tuple[int, str]]:
    """How many connections are open now, by node and lane. One query."""
    rows = Slot.objects.filter(expires_at__gt=timezone.now()).order_by()
    held = rows.values_list("node_id", "lane").annotate(held=Sum("weight"))
    return Counter({(node, Lane(lane).value): held for node, lane, held in held})
