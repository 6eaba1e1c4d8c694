"""Places: nodes as a person sees them: state, use, what one may do, and how they are set up."""

from dataclasses import dataclass, fields

from django.utils.translation import gettext as _

from adit.accounts.rights import Person
from adit.nodes import access, window, words
from adit.nodes.hours import DAY_NAMES
from adit.nodes.models import Lane, Node
from adit_engine.errors import WrongInput
from adit_engine.nodes import certificate, kind_class


@dataclass(frozen=True, slots=True)
class Place:
    """One node, as this person sees it."""

    node: Node
    status: words.Status
    reads: bool
    writes: bool
    transfers: int = 0
    searches: int = 0

    @property
    def kind(self) -> str:
        return words.kind_word(self.node.kind)

    @property
    def icon(self) -> str:
        return words.kind_icon(self.node.kind)

    @classmethod
    def of(cls, user: Person, node: Node) -> "Place":
        reads, writes = access.may_read(user, node), access.may_write(user, node)
        return cls(node, words.status_of(node), reads, writes, *_used(node.pk, words.in_use()))


def places_of(user: Person) -> list[Place]:
    """The nodes a person may fetch from, send to, or manage. Four queries, however many there are."""
    reads = set(access.readable_nodes(user).values_list("pk", flat=True))
    writes = set(access.writable_nodes(user).values_list("pk", flat=True))
    used = words.in_use()
    nodes = access.visible_nodes(user).select_related("paused_by", "breaker").defer("secrets")
    return [
        Place(
            node,
            words.status_of(node),
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
    except WrongInput as error:
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
        rows = [row for row in window.calendar_of(node) if row.lane == Lane.RETRIEVE]
    except WrongInput as error:
        return [str(error)]
    if not rows:
        return [_("always")]
    return [_sentence(row) for row in rows]


def _sentence(row: window.Window) -> str:
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
        return "; ".join(map(str, certificate.read(text))) if text else ""
    except WrongInput as error:
        return str(error)


def _word(value: object) -> str:
    return {True: _("yes"), False: _("no")}[value] if isinstance(value, bool) else str(value)


def _used(node: int, used: dict[tuple[int, str], int]) -> tuple[int, int]:
    transfers = used.get((node, Lane.RETRIEVE), 0) + used.get((node, Lane.URGENT), 0)
    return transfers, used.get((node, Lane.SEARCH), 0)
