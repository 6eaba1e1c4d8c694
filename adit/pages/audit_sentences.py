"""The sentences of audit events, with links to what they name. Used by the audit trail pages."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Model
from django.urls import reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.audit.models import AuditEvent
from adit.jobs.visibility import visible_jobs
from adit.nodes.access import visible_nodes
from adit.nodes.models import Node
from adit.projects.models import ProfileVersion
from adit.projects.services import DEFAULT_PROTOCOL_ID, visible_projects
from adit_engine.messages import Message

_MAX_VALUE_LENGTH = 200


class EventNames:
    """Names and links of the objects of some events, read with one query per kind of object."""

    def __init__(self, reader: User, events: Iterable[AuditEvent]) -> None:
        keys: dict[str, set[str]] = defaultdict(set)
        for event in events:
            kind, _separator, key = event.about.partition(":")
            keys[kind].add(key)
            if event.user_id:
                keys["user"].add(str(event.user_id))
        manages_users = has_right(reader, Right.MANAGE_USERS)
        self._nodes = _find(Node, keys["node"])
        self._users = _find(User, keys["user"])
        self._groups = _find(Group, keys["group"])
        self._profiles = _find(ProfileVersion, keys["profile"])
        self._links: dict[str, str] = {}
        self._add_links("job", "job", _pks(visible_jobs(reader), keys["job"]))
        self._add_links("node", "node", _pks(visible_nodes(reader), keys["node"]))
        self._add_links("profile", "profile_version", list(self._profiles))
        if manages_users:
            self._add_links("user", "user", list(self._users))
            self._add_links("group", "group", list(self._groups))
        if keys["project"]:
            projects = visible_projects(reader).filter(protocol_id__in=keys["project"])
            for pk, protocol_id in projects.values_list("pk", "protocol_id"):
                self._links[f"project:{protocol_id}"] = reverse("project", args=[pk])

    def name_object(self, event: AuditEvent) -> str:
        """Return the name of what the event is about; empty if it is about nothing."""
        kind, _separator, key = event.about.partition(":")
        name = str(event.details.get(kind) or "")
        if kind == "job":
            return _("job %(n)s") % {"n": key}
        if kind == "project":
            return _("project %(name)s") % {"name": key}
        if kind == "node":
            return str(self._nodes.get(key) or name or event.about)
        if kind == "profile":
            return _("profile %(name)s") % {"name": self._profiles.get(key) or name or key}
        if kind == "group":
            return _("group %(name)s") % {"name": self._groups.get(key) or name or key}
        if kind == "user":
            user = self._users.get(key)
            return name_user(user) if isinstance(user, User) else name or event.about
        return event.about or _("unknown user")

    def name_actor(self, event: AuditEvent) -> str:
        user = self._users.get(str(event.user_id))
        return name_user(user) if isinstance(user, User) else "ADIT"

    def link_object(self, event: AuditEvent) -> SafeString:
        return self._link(event.about, self.name_object(event))

    def link_actor(self, event: AuditEvent) -> SafeString:
        return self._link(f"user:{event.user_id}", self.name_actor(event))

    def _link(self, subject: str, name: str) -> SafeString:
        if subject not in self._links:
            return conditional_escape(name)
        return format_html('<a href="{}">{}</a>', self._links[subject], name)

    def _add_links(self, kind: str, route: str, pks: Iterable[int | str]) -> None:
        for pk in pks:
            self._links[f"{kind}:{pk}"] = reverse(route, args=[pk])


def name_user(user: User | None) -> str:
    return (user.get_full_name() or user.get_username()) if user else ""


def describe_event(event: AuditEvent, names: EventNames) -> str:
    """Return the sentence of an event as text."""
    return _describe(event, names.name_actor(event), names.name_object(event), str)


def describe_event_html(event: AuditEvent, names: EventNames) -> SafeString:
    """Return the sentence of an event with links."""
    who, what = names.link_actor(event), names.link_object(event)
    # The templates contain no markup, and all values are escaped.
    return SafeString(_describe(event, who, what, conditional_escape))


def _describe(event: AuditEvent, who: str, what: str, escape: Callable[[str], str]) -> str:
    values: dict[str, Any] = {
        name: value if isinstance(value, int) else escape(_shorten(format_value(value)))
        for name, value in event.details.items()
    }
    if event.details.get("project") == DEFAULT_PROTOCOL_ID:
        values["project"] = _("none")
    sentence = str(Message(_template_code(event), **{**values, "who": who, "object": what}))
    if "token" in values:
        return f"{sentence} {Message('event-detail.token', token=values['token'])}"
    return sentence


def _template_code(event: AuditEvent) -> str:
    if event.action == "job.created" and not event.details.get("destination"):
        return "event.job.created.query"
    return f"event.{event.action}"


def format_value(value: Any) -> str:
    """Return a value of the details of an event as text; empty for nothing."""
    if isinstance(value, dict) and value.keys() == {"code", "values"}:
        return str(Message.from_json(value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={format_value(inner)}" for name, inner in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(format_value(inner) for inner in value)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return "" if value is None else str(value)


def _shorten(text: str) -> str:
    """Without a full stop, because the sentence has one."""
    text = text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"
    return text.rstrip(". ") or "–"


def _find(model: type[Model], keys: set[str]) -> Mapping[str, Model]:
    pks = _numbers(keys)
    return {str(row.pk): row for row in model._default_manager.filter(pk__in=pks)} if pks else {}


def _pks(rows: Any, keys: set[str]) -> list[int]:
    pks = _numbers(keys)
    return list(rows.filter(pk__in=pks).values_list("pk", flat=True)) if pks else []


def _numbers(keys: set[str]) -> list[int]:
    return [int(key) for key in keys if key.isascii() and key.isdigit() and len(key) < 19]
