"""The history of a node, project, profile, group or user from the audit trail. Used by its page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import ndiff
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, QuerySet
from django.http import Http404
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right, right_label
from adit.audit.models import AuditEvent
from adit.message_templates import EVENT_ACTIONS
from adit.nodes.models import Node
from adit.nodes.presentation import describe_hours, get_setting_label
from adit.pages.audit_sentences import EventNames, describe_event, format_value
from adit.pages.audit_trail import member_projects
from adit.projects.models import ProfileVersion, Project
from adit.projects.services import audit_subject

PER_PAGE = 50
_USES = frozenset({"node.opened", "node.checked", "node.remembered", "profile.tried"})
"""They change nothing."""
_NAMES = frozenset({"username", "first_name", "last_name", "email"})
"""Not shown of accounts that were made anonymous."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """The values of a field, as text. Of a secret only the change is known."""

    label: str
    before: str = ""
    after: str = ""
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    at: datetime
    who: str
    sentence: str
    changes: list[FieldChange]


@dataclass(frozen=True, slots=True)
class History:
    name: str
    entries: list[HistoryEntry]
    older: int = 0
    """The number of the oldest event, if there are more; otherwise 0."""


_MODELS: Mapping[str, tuple[type[Model], Right]] = {
    "node": (Node, Right.MANAGE_NODES),
    "project": (Project, Right.MANAGE_PROJECTS),
    "profile": (ProfileVersion, Right.MANAGE_PROFILES),
    "group": (Group, Right.MANAGE_USERS),
    "user": (User, Right.MANAGE_USERS),
}
"""For each kind of object the model, and the permission that also shows its history."""


def get_history(reader: User, kind: str, pk: int, before: int = 0) -> History:
    """Return the changes of an object, newest first. Raise Http404 if the reader may not see it."""
    if kind not in _MODELS:
        raise Http404
    row = _MODELS[kind][0]._default_manager.filter(pk=pk).first()
    if row is None or not _may_read(reader, kind, row):
        raise Http404
    events = _find_events(kind, row)
    if before:
        events = events.filter(pk__lt=before)
    found = list(events.select_related("user").defer("patient_sealed")[: PER_PAGE + 1])
    older = found[PER_PAGE - 1].pk if len(found) > PER_PAGE else 0
    found = found[:PER_PAGE]
    names = EventNames(reader, found)
    entries = [
        HistoryEntry(
            event.at,
            names.name_actor(event),
            describe_event(event, names),
            _list_changes(kind, row, event),
        )
        for event in found
    ]
    return History(_name(row), entries, older)


def _may_read(reader: User, kind: str, row: Model) -> bool:
    if has_right(reader, Right.READ_TRAIL) or has_right(reader, _MODELS[kind][1]):
        return True
    return isinstance(row, Project) and member_projects(reader).filter(pk=row.pk).exists()


def _find_events(kind: str, row: Model) -> QuerySet[AuditEvent]:
    actions = {one for one in EVENT_ACTIONS if one.startswith(f"{kind}.")} - _USES
    if kind == "group":
        actions.add("budget.changed")
    if kind == "user":
        actions.add("password.changed")
    subjects = [f"{kind}:{row.pk}"]
    if isinstance(row, Project):
        subjects = [audit_subject(row)]
    if isinstance(row, ProfileVersion):
        versions = ProfileVersion.objects.filter(name=row.name).values_list("pk", flat=True)
        subjects = [f"profile:{pk}" for pk in versions]
    events = AuditEvent.objects.filter(about__in=subjects, action__in=sorted(actions))
    return events.order_by("-id")


def _list_changes(kind: str, row: Model, event: AuditEvent) -> list[FieldChange]:
    if isinstance(row, ProfileVersion):
        return _compare_rules(event)
    details = event.details
    changes = {**details, **details.get("changes", {})}
    is_anonymous = isinstance(row, User) and row.anonymized_at is not None
    found = [
        FieldChange(_label(row, name), is_secret=True)
        if is_anonymous and name in _NAMES
        else FieldChange(_label(row, name), _show(name, change["from"]), _show(name, change["to"]))
        for name, change in changes.items()
        if isinstance(change, dict) and change.keys() == {"from", "to"}
    ]
    hidden = [name for name in details.get("changed", ()) if name not in changes]
    return found + [FieldChange(_label(row, name), is_secret=True) for name in hidden]


def _compare_rules(event: AuditEvent) -> list[FieldChange]:
    """Compare a version with the one before it; the texts of versions never change."""
    made = ProfileVersion.objects.filter(pk=event.about.partition(":")[2]).first()
    if made is None or made.version == 1:
        return []
    previous = ProfileVersion.objects.filter(name=made.name, version=made.version - 1).first()
    lines = list(ndiff(previous.text.splitlines(), made.text.splitlines())) if previous else []
    removed = "\n".join(line[2:] for line in lines if line.startswith("- "))
    added = "\n".join(line[2:] for line in lines if line.startswith("+ "))
    return [FieldChange(_("rules"), removed or "–", added or "–")] if lines else []


_SHOWN: Mapping[str, Callable[[Any], str]] = {
    "windows": lambda value: "; ".join(describe_hours(Node(windows=value))),
    "permissions": lambda value: ", ".join(right_label(one) for one in value),
}


def _show(name: str, value: Any) -> str:
    if value and name in _SHOWN:
        return _SHOWN[name](value)
    return format_value(value) or "–"


def _label(row: Model, name: str) -> str:
    setting = name.removeprefix("settings.")
    if isinstance(row, Node) and setting != name:
        return get_setting_label(row.kind, setting)
    labels = {
        "is_open": _("in use"),
        "fetch_from": _("may fetch from"),
        "send_to": _("may send to"),
        "list_holders": _("groups that hold the identification list"),
        "reidentifiers": _("groups that may re-identify"),
        "member_users": _("single members"),
        "list_holder_users": _("single members who hold the identification list"),
        "reidentifier_users": _("single members who may re-identify"),
        "secrets": _("passwords and keys"),
    }
    try:
        return labels.get(name) or str(row._meta.get_field(name).verbose_name)  # type: ignore[union-attr]
    except (FieldDoesNotExist, AttributeError):
        return name.replace("_", " ")


def _name(row: Model) -> str:
    if isinstance(row, User):
        return row.get_full_name() or row.get_username()
    return str(row)
