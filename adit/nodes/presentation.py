"""Words: what people read about a node: its kind, whether it can be used now, and why not.
Places: nodes as a person sees them: state, use, what one may do, and how they are set up."""

from collections import Counter
from dataclasses import dataclass, fields

from django.db.models import Sum
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.accounts.permissions import Person
from adit.nodes import access
from adit.nodes.calendar import windows
from adit.nodes.calendar.forms import DAY_NAMES
from adit.nodes.limits import breaker, slots
from adit.nodes.models import Lane, Node, Slot
from adit_engine.dicom_ul import tls
from adit_engine.errors import InvalidInput
from adit_engine.nodes import kind_class

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
        allowed = windows.allowed_now(node, Lane.RETRIEVE, now)
        edge = windows.closes_next if allowed else windows.opens_next
        until = edge(node, Lane.RETRIEVE, now)
    except InvalidInput as error:
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


@dataclass(frozen=True, slots=True)
class Place:
    """One node, as this person sees it."""

    node: Node
    status: Status
    reads: bool
    writes: bool
    transfers: int = 0
    searches: int = 0

    @property
    def kind(self) -> str:
        return kind_word(self.node.kind)

    @property
    def icon(self) -> str:
        return kind_icon(self.node.kind)

    @classmethod
    def of(cls, user: Person, node: Node) -> "Place":
        reads, writes = access.may_read(user, node), access.may_write(user, node)
        return cls(node, status_of(node), reads, writes, *_used(node.pk, in_use()))


def places_of(user: Person) -> list[Place]:
    """The nodes a person may fetch from, send to, or manage. Four queries, however many there are."""
    reads = set(access.readable_nodes(user).values_list("pk", flat=True))
    writes = set(access.writable_nodes(user).values_list("pk", flat=True))
    used = in_use()
    nodes = access.visible_nodes(user).select_related("paused_by", "breaker").defer("secrets")
    return [
        Place(
            node,
            status_of(node),
            node.pk in reads,
            node.pk in writes,
            *_used(node.pk, used),
        )
        for node in nodes
    ]


def facts_of(node: Node) -> list[tuple[str, str]]:
    """How it is set up, without secrets: label and value of what was filled in."""
    try:
        settings = kind_class(node.kind).Settings
    except InvalidInput as error:
        return [(_("Kind"), str(error))]
    facts = []
    for field in fields(settings):
        value = node.settings.get(field.name, field.default)
        if field.metadata.get("secret"):
            value = "••••••" if field.name in node.secret_names else ""
        elif field.metadata.get("advanced") and value == field.default:
            continue
        if field.metadata.get("pem") and not field.metadata.get("secret"):
            value = _certificates(str(value or ""))
        if value not in ("", None):
            facts.append((str(field.metadata["label"]), _word(value)))
    return facts + [(_("Allowed hours"), text) for text in hours_of(node)]


def hours_of(node: Node) -> list[str]:
    """The calendar of transfers in words, a sentence for each row."""
    try:
        rows = [row for row in windows.calendar_of(node) if row.lane == Lane.RETRIEVE]
    except InvalidInput as error:
        return [str(error)]
    if not rows:
        return [_("always")]
    return [_sentence(row) for row in rows]


def _sentence(row: windows.Window) -> str:
    days = ", ".join(str(DAY_NAMES[day]) for day in sorted(row.days))
    is_whole_day = row.begin == row.end
    hours = _("all day") if is_whole_day else f"{row.begin:%H:%M} – {row.end:%H:%M}"
    if row.limit is None:
        return f"{days}: {hours}"
    return _("%(days)s: %(hours)s, %(limit)d connections") % {
        "days": days,
        "hours": hours,
        "limit": row.limit,
    }


def _certificates(text: str) -> str:
    """For whom they are and until when; nobody reads the rest."""
    try:
        return "; ".join(map(str, tls.read_certificates(text))) if text else ""
    except InvalidInput as error:
        return str(error)


def _word(value: object) -> str:
    return {True: _("yes"), False: _("no")}[value] if isinstance(value, bool) else str(value)


def _used(node: int, used: dict[tuple[int, str], int]) -> tuple[int, int]:
    transfers = used.get((node, Lane.RETRIEVE), 0) + used.get((node, Lane.URGENT), 0)
    return transfers, used.get((node, Lane.SEARCH), 0)
