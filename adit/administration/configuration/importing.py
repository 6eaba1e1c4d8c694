"""Show what an import would do, and do exactly that: all or nothing, with the user's permissions.

The plan is made by the import itself in a transaction that is rolled back, so both cannot differ.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import AnyUser, has_right, require
from adit.administration.checks import describe_access, lock_groups
from adit.administration.configuration.document import Document, export_document
from adit.administration.configuration.kinds import (
    KINDS,
    ConfigurationKind,
    Entry,
    FieldForm,
    describe_permissions,
    get_field_label,
)
from adit.administration.effective_access import Access
from adit.administration.permission_texts import Text
from adit.audit.trail import record
from adit.nodes.models import Node
from adit.projects.models import Project
from adit_engine.errors import AditError, InvalidInput

NONE = "–"
_MAX_SHOWN = 120


class EntryState(StrEnum):
    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PlannedEntry:
    """What happens to one object. `problem` says why it cannot be imported."""

    kind: Text
    name: str
    state: EntryState
    changes: Sequence[PlannedChange] = ()
    remarks: Sequence[str] = ()
    missing_secrets: Sequence[str] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """All objects of the file, and what groups are newly allowed: a sentence with its lines."""

    entries: Sequence[PlannedEntry]
    newly_allowed: Sequence[tuple[str, Sequence[str]]]

    def select(self, state: EntryState) -> list[PlannedEntry]:
        return [entry for entry in self.entries if entry.state is state]

    @property
    def new(self) -> list[PlannedEntry]:
        return self.select(EntryState.NEW)

    @property
    def changed(self) -> list[PlannedEntry]:
        return self.select(EntryState.CHANGED)

    @property
    def unchanged(self) -> list[PlannedEntry]:
        return self.select(EntryState.UNCHANGED)

    @property
    def conflicts(self) -> list[PlannedEntry]:
        return self.select(EntryState.CONFLICT)

    @property
    def is_possible(self) -> bool:
        return not self.conflicts and bool(self.new or self.changed)

    @property
    def digest(self) -> str:
        """What a confirmation refers to."""
        shown = [
            (str(e.kind), e.name, e.state, e.changes, e.remarks, e.missing_secrets, e.problem)
            for e in self.entries
        ]
        return hashlib.sha256(repr((shown, self.newly_allowed)).encode()).hexdigest()


def manageable_kinds(user: AnyUser) -> list[ConfigurationKind]:
    """Return the kinds that the user may export and import."""
    return [kind for kind in KINDS if has_right(user, kind.right)]


def export_configuration(user: User, kinds: Sequence[str]) -> str:
    """Return the file with these kinds. Raise NotPermitted, InvalidInput."""
    chosen = [kind for kind in KINDS if kind.key in kinds]
    if not chosen:
        raise InvalidInput("configuration.nothing-chosen")
    for kind in chosen:
        require(user, kind.right)
    keys = [kind.key for kind in chosen]
    with transaction.atomic():
        text = export_document(keys).to_text()
        record("configuration.exported", user=user, details={"kinds": keys})
    return text


def plan_import(user: User, document: Document) -> ImportPlan:
    """Return what an import would do now. Changes nothing."""
    with transaction.atomic():
        plan = _import(user, document)
        transaction.set_rollback(True)
    return plan


def run_import(user: User, document: Document, confirmed: str) -> tuple[ImportPlan, bool]:
    """Import the file if the plan is still the confirmed one, and possible.

    Return the current plan and whether it was carried out. If not, nothing is changed.
    """
    with transaction.atomic():
        plan = _import(user, document)
        is_done = plan.is_possible and plan.digest == confirmed
        if not is_done:
            transaction.set_rollback(True)
    return plan, is_done


def _import(user: User, document: Document) -> ImportPlan:
    # Cached permissions of the request would outlive a transaction that is rolled back.
    actor = User.objects.get(pk=user.pk)
    _lock_rows()
    before = {kind.key: kind.read_all() for kind in KINDS if kind.key in document.entries}
    held = {group.pk: Access.of_groups([group]) for group in Group.objects.all()}
    entries = [
        _import_entry(actor, kind, entry, before[kind.key].get(kind.get_name(entry)))
        for kind in KINDS
        for entry in document.entries.get(kind.key, ())
    ]
    plan = ImportPlan(entries, _describe_access(held))
    if plan.is_possible:
        content = hashlib.sha256(document.to_text().encode()).hexdigest()
        counts = dict(Counter(entry.state.value for entry in entries))
        details = {"kinds": document.kinds, "sha256": content, **counts}
        record("configuration.imported", user=actor, details=details)
    return plan


def _lock_rows() -> None:
    """Lock all rows that an import may change: each saved object locks the audit trail, too."""
    lock_groups()
    for model in (Node, Project):
        list(model._default_manager.select_for_update(no_key=True).order_by("pk").values_list("pk"))


def _import_entry(
    actor: User, kind: ConfigurationKind, entry: Entry, before: Entry | None
) -> PlannedEntry:
    name = kind.get_name(entry)
    try:
        with transaction.atomic():
            require(actor, kind.right)
            remarks = []
            if kind.read_all().get(name) != entry:
                remarks = kind.save(actor, entry)
                _require_exact(kind, entry)
            missing = kind.list_missing_secrets(entry)
    except AditError as error:
        return PlannedEntry(kind.title, name, EntryState.CONFLICT, problem=str(error))
    changes = _compare(kind, entry, before)
    state = EntryState.CHANGED if before is not None else EntryState.NEW
    if before == entry:
        state = EntryState.UNCHANGED
    return PlannedEntry(kind.title, name, state, changes, remarks, missing)


def _require_exact(kind: ConfigurationKind, entry: Entry) -> None:
    """Raise InvalidInput if an export would not give the same values."""
    stored = kind.read_all().get(kind.get_name(entry), {})
    wrong = [name for name in kind.fields if stored.get(name) != entry[name]]
    if wrong:
        raise InvalidInput("configuration.not-exact", fields=tuple(wrong))


def _compare(kind: ConfigurationKind, entry: Entry, before: Entry | None) -> list[PlannedChange]:
    after_values, before_values = _flatten(entry), _flatten(before or {})
    return [
        PlannedChange(
            get_field_label(kind, entry, name),
            _show(kind, name, before_values.get(name)),
            _show(kind, name, value),
        )
        for name, value in after_values.items()
        if name not in ("name", "protocol_id", "secrets_to_set")
        if before_values.get(name) != value
        if before is not None or _show(kind, name, value) != NONE
    ]


def _flatten(entry: Entry) -> dict[str, Any]:
    """Return the values with one item for each setting of a node."""
    found: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            found |= {f"{name}.{setting}": one for setting, one in value.items()}
        else:
            found[name] = value
    return found


def _show(kind: ConfigurationKind, name: str, value: Any) -> str:
    if value is None or value in ("", []):
        return NONE
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if kind.fields.get(name) is FieldForm.ROWS:
        return "; ".join(_show_row(row) for row in value)
    if name == "permissions":
        return ", ".join(describe_permissions(value))
    text = ", ".join(value) if isinstance(value, list) else " ".join(str(value).split())
    is_long = len(text) > _MAX_SHOWN and not isinstance(value, list)
    return f"{text[:_MAX_SHOWN]} …" if is_long else text


def _show_row(row: Mapping[str, Any]) -> str:
    """Return a row of a calendar: its days, from and to, and what else it says."""
    values = [row.get(name) for name in ("days", "from", "to", "lane", "limit", "as", "why")]
    texts = (", ".join(v) if isinstance(v, list) else str(v) for v in values if v not in (None, ""))
    return " ".join(texts)


def _describe_access(held: Mapping[int, Access]) -> list[tuple[str, Sequence[str]]]:
    """Return for each group what it is newly allowed, as its page says it."""
    found: list[tuple[str, Sequence[str]]] = []
    for group in Group.objects.order_by("name"):
        lines = describe_access(Access.of_groups([group]) - held.get(group.pk, Access()))
        if lines:
            found.append((_("The group %(group)s newly allows:") % {"group": group.name}, lines))
    return found
