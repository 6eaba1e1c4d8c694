"""Nodes as pages show them: kind, status and its reason, use, access, and settings.

Used by the pages and registration sheets of nodes and by the home page.
"""

from collections import Counter
from dataclasses import dataclass, fields

from django.db.models import Sum
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.accounts.permissions import AnyUser
from adit.dates import format_datetime
from adit.nodes import access
from adit.nodes.calendar import allowed_hours
from adit.nodes.calendar.forms import DAY_NAMES
from adit.nodes.limits import breaker, learned_limits, response_times, slots
from adit.nodes.models import Lane, Node, Slot
from adit_engine.dicom_ul import tls
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes import kind_class


@dataclass(frozen=True, slots=True)
class KindDisplay:
    """How pages show a kind of node. `help` explains it where a new node is added."""

    label: str | Promise
    icon: str = "server"
    help: str | Promise = ""


_KIND_DISPLAYS = {
    "dimse": KindDisplay(
        _lazy("PACS"),
        "server",
        _lazy("An archive that supports DICOM. You need its host, port and AE title."),
    ),
    "dicomweb": KindDisplay(
        _lazy("PACS (web)"),
        "server",
        _lazy(
            "An archive that is accessed by HTTPS (DICOMweb). You need its address, and usually a "
            "user name with password, or a token."
        ),
    ),
    "folder": KindDisplay(
        _lazy("Folder"),
        "folder",
        _lazy("A folder on this server or on a mounted network drive, one file for each image."),
    ),
    "archive": KindDisplay(
        _lazy("Encrypted 7-Zip file"),
        "archive",
        _lazy(
            "All images of a job are packed into one file with a password, to download or to pass "
            "on. Usually one such destination is sufficient."
        ),
    ),
    "memory": KindDisplay(_lazy("Memory (for tests)"), "database"),
}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Whether a node is available. `state`: open, resting, paused or closed; `why`: a sentence."""

    state: str
    label: str
    reason: str | Message = ""


def get_kind_display(kind: str) -> KindDisplay:
    """Return how pages show a kind; a kind without an entry is shown by its name."""
    return _KIND_DISPLAYS.get(kind) or KindDisplay(kind.replace("_", " ").capitalize())


def get_kind_label(kind: str) -> str:
    return str(get_kind_display(kind).label)


def get_kind_icon(kind: str) -> str:
    return get_kind_display(kind).icon


def get_status(node: Node) -> NodeStatus:
    if not node.is_open:
        return NodeStatus(
            "closed", _("closed"), _("Nothing is fetched or sent until it is opened.")
        )
    if node.paused_at is not None:
        word = _("paused") if node.stopped_at is None else _("stopped")
        return NodeStatus("paused", word, _describe_pause(node))
    waits = breaker.get_breaker_pause(node)
    if waits is not None:
        return NodeStatus("resting", _("does not answer"), waits.message)
    slow = response_times.get_slow_error(node)
    if slow is not None:
        return NodeStatus("resting", _("slow, paused"), slow.message)
    return _status_by_hours(node)


def _status_by_hours(node: Node) -> NodeStatus:
    now = timezone.now()
    try:
        allowed = allowed_hours.get_limit_at(node, Lane.RETRIEVE, now)
        until = allowed_hours.next_closing(node, Lane.RETRIEVE, now)
    except InvalidInput as error:
        return NodeStatus("closed", _("closed"), error.message)
    if not allowed:
        closed = slots.get_closed_reason(node, Lane.RETRIEVE, now)
        return NodeStatus(
            "resting", _("outside its hours"), closed.message if closed is not None else ""
        )
    slow = response_times.describe_slowness(node)
    if slow is not None:
        return NodeStatus("open", _("slow now"), slow)
    if until is None:
        return NodeStatus("open", _("open"))
    return NodeStatus(
        "open", _("open"), _("Open until %(time)s.") % {"time": format_datetime(until)}
    )


def _describe_pause(node: Node) -> str:
    who = node.paused_by.get_full_name() or node.paused_by.get_username() if node.paused_by else ""
    if node.stopped_at is None:
        words = _("Paused by %(who)s") % {"who": who} if who else _("Paused")
    else:
        words = _("Stopped by %(who)s") % {"who": who} if who else _("Stopped")
    if not node.pause_reason:
        return f"{words}."
    return _("%(pause)s (reason: %(reason)s).") % {"pause": words, "reason": node.pause_reason}


def count_open_connections() -> Counter[tuple[int, str]]:
    """Return the number of open connections by node and lane. One query."""
    rows = Slot.objects.filter(expires_at__gt=timezone.now()).order_by()
    held = rows.values_list("node_id", "lane").annotate(held=Sum("weight"))
    return Counter({(node, Lane(lane).value): held for node, lane, held in held})


@dataclass(frozen=True, slots=True)
class NodeOverview:
    """One node as a user sees it."""

    node: Node
    status: NodeStatus
    may_read: bool
    may_write: bool
    transfers: int = 0
    searches: int = 0

    @property
    def kind(self) -> str:
        return get_kind_label(self.node.kind)

    @property
    def icon(self) -> str:
        return get_kind_icon(self.node.kind)

    @classmethod
    def from_node(cls, user: AnyUser, node: Node) -> "NodeOverview":
        reads, writes = access.may_read(user, node), access.may_write(user, node)
        return cls(
            node,
            get_status(node),
            reads,
            writes,
            *_count_by_lane(node.pk, count_open_connections()),
        )


def list_nodes(user: AnyUser) -> list[NodeOverview]:
    """Return the nodes that the user may fetch from, send to, or manage. Four queries in all."""
    reads = set(access.readable_nodes(user).values_list("pk", flat=True))
    writes = set(access.writable_nodes(user).values_list("pk", flat=True))
    used = count_open_connections()
    nodes = access.visible_nodes(user).select_related("paused_by", "breaker").defer("secrets")
    return [
        NodeOverview(
            node,
            get_status(node),
            node.pk in reads,
            node.pk in writes,
            *_count_by_lane(node.pk, used),
        )
        for node in nodes
    ]


def describe_settings(node: Node) -> list[tuple[str, str]]:
    """Return label and value of the settings that are set; secrets are masked."""
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
            value = _describe_certificates(str(value or ""))
        if value not in ("", None):
            facts.append((str(field.metadata["label"]), _format_value(value)))
    return facts + [(_("Allowed hours"), text) for text in describe_hours(node)]


def describe_learned_limits(node: Node) -> list[tuple[str, str]]:
    """Return label and text for each direction that gets fewer connections than the settings."""
    learned, told = learned_limits.load(node), []
    for name, limit in (("retrieve", learned.retrieve), ("store", learned.store)):
        setting = f"{name}_associations"
        wanted = node.settings.get(setting) or 1
        if limit.most is not None and limit.most < wanted:
            words = _("%(used)d instead of %(wanted)d since %(time)s. %(reason)s") % {
                "used": limit.most,
                "wanted": wanted,
                "time": format_datetime(learned_limits.learned_at(node, name)),
                "reason": limit.reason or "",
            }
            told.append((get_setting_label(node.kind, setting), words))
    return told


def get_setting_label(kind: str, name: str) -> str:
    """Return the label of a setting of this kind of node; unknown names are returned unchanged."""
    field = kind_class(kind).Settings.__dataclass_fields__.get(name)
    return str(field.metadata.get("label") or name) if field else name


def describe_hours(node: Node) -> list[str]:
    """Describe the calendar of transfers, one text for each window."""
    try:
        rows = [row for row in allowed_hours.get_windows(node) if row.lane == Lane.RETRIEVE]
    except InvalidInput as error:
        return [str(error)]
    if not rows:
        return [_("always")]
    return [_describe_window(row) for row in rows]


def _describe_window(row: allowed_hours.HoursWindow) -> str:
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


def _describe_certificates(text: str) -> str:
    """Subject and end of validity only."""
    try:
        return "; ".join(map(str, tls.read_certificates(text))) if text else ""
    except InvalidInput as error:
        return str(error)


def _format_value(value: object) -> str:
    return {True: _("yes"), False: _("no")}[value] if isinstance(value, bool) else str(value)


def _count_by_lane(node: int, used: dict[tuple[int, str], int]) -> tuple[int, int]:
    transfers = used.get((node, Lane.RETRIEVE), 0) + used.get((node, Lane.URGENT), 0)
    return transfers, used.get((node, Lane.SEARCH), 0)
