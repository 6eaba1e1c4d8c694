"""What can be exported and imported: how each kind of object is read, saved and named."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date
from enum import Enum, auto
from typing import Any, ClassVar, cast

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.accounts.models import SecondFactorGroup, User
from adit.accounts.permissions import Right
from adit.administration.effective_access import named_permissions
from adit.administration.groups import GroupData, save_group
from adit.administration.permission_texts import Text, describe_right
from adit.nodes import exported_settings, pause
from adit.nodes.calendar.forms import DEFAULT_PACS_HOURS
from adit.nodes.forms import NodeForm
from adit.nodes.models import Node, NodeAccess
from adit.nodes.services import save_node
from adit.projects import risks, services
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import import_version, read_rules
from adit_engine.errors import InvalidInput

Entry = Mapping[str, Any]
"""One object of the file: the values of all fields of its kind."""


class FieldForm(Enum):
    """What a field may hold."""

    NAME = auto()
    LINE = auto()
    TEXT = auto()
    FLAG = auto()
    NUMBER = auto()
    OPTIONAL_NUMBER = auto()
    DAY = auto()
    NAMES = auto()
    """A list of different names; the order means nothing."""
    SETTINGS = auto()
    ROWS = auto()


class ConfigurationKind(ABC):
    """One kind of object in the file."""

    key: ClassVar[str]
    title: ClassVar[Text]
    right: ClassVar[Right]
    fields: ClassVar[Mapping[str, FieldForm]]
    labels: ClassVar[Mapping[str, Text]]

    def get_name(self, entry: Entry) -> str:
        """Return what identifies the object among those of its kind."""
        return str(entry["name"])

    @abstractmethod
    def read_all(self) -> dict[str, Entry]:
        """Return all objects by name."""

    @abstractmethod
    def save(self, user: User, entry: Entry) -> list[str]:
        """Create or change the object; return what the user has to know about it.

        Raise AditError.
        """

    def list_missing_secrets(self, entry: Entry) -> list[str]:
        """Return the labels of the secrets that have to be entered for the saved object."""
        return []


class NodeKind(ConfigurationKind):
    key = "nodes"
    title = _lazy("PACS and folders")
    right = Right.MANAGE_NODES
    fields = {
        "name": FieldForm.NAME,
        "kind": FieldForm.NAME,
        "settings": FieldForm.SETTINGS,
        "secrets_to_set": FieldForm.NAMES,
        "is_clinical": FieldForm.FLAG,
        "takes_images": FieldForm.FLAG,
        "retrieve_limit": FieldForm.NUMBER,
        "search_limit": FieldForm.NUMBER,
        "pause_between_studies_s": FieldForm.NUMBER,
        "rate_kb_s": FieldForm.OPTIONAL_NUMBER,
    }
    labels = {"settings": _lazy("settings"), "secrets_to_set": _lazy("secrets to enter")}
    _columns = tuple(list(fields)[4:])

    def read_all(self) -> dict[str, Entry]:
        return {node.name: self._describe(node) for node in exported_settings.exportable_nodes()}

    def _describe(self, node: Node) -> Entry:
        settings = exported_settings.read_settings(node)
        return {
            "name": node.name,
            "kind": node.kind,
            "settings": settings,
            "secrets_to_set": sorted(exported_settings.list_asked_secrets(node.kind, settings)),
            **{name: getattr(node, name) for name in self._columns},
        }

    def save(self, user: User, entry: Entry) -> list[str]:
        if not exported_settings.is_exportable_kind(entry["kind"]):
            raise InvalidInput("configuration.unknown-node-kind", kind=entry["kind"])
        node = Node.objects.filter(name=entry["name"]).first()
        is_new = node is None
        if node is None:
            node = Node(kind=entry["kind"])
            node.windows = DEFAULT_PACS_HOURS if node.capabilities.needs_hours else []
        if node.kind != entry["kind"]:
            raise InvalidInput("configuration.other-kind")
        exported_settings.check_settings(entry["kind"], entry["settings"])
        form = NodeForm(
            {name: entry[name] for name in ("name", "kind", *self._columns)}, instance=node
        )
        del form.fields["is_open"], form.fields["windows"]
        if not form.is_valid():
            raise _invalid_fields(form.errors, {n: f.label for n, f in form.fields.items()})
        node = form.save(commit=False)
        node.settings = dict(entry["settings"])
        is_same_address = is_new or exported_settings.keep_secrets(node)
        node = save_node(user, node, allow_missing_secrets=True)
        if is_new:
            pause.pause_node(user, node, _("Imported from a file: check, test, then open it."))
            return [_("It is added closed and paused. Check its settings, test it, then open it.")]
        if not is_same_address:
            pause.pause_node(user, node, _("Its address was changed by an import: test it."))
            return [
                _(
                    "Its address, or how its certificate is verified, changes: it is paused, and "
                    "stored secrets are deleted, because they belong to the previous address."
                )
            ]
        return []

    def list_missing_secrets(self, entry: Entry) -> list[str]:
        return exported_settings.list_missing_secrets(Node.objects.get(name=entry["name"]))


class CalendarKind(ConfigurationKind):
    key = "calendars"
    title = _lazy("Calendars of PACS and folders")
    right = Right.MANAGE_NODES
    fields = {
        "name": FieldForm.NAME,
        "allowed_hours": FieldForm.ROWS,
        "special_days": FieldForm.ROWS,
    }
    labels = {"allowed_hours": _lazy("allowed hours"), "special_days": _lazy("special days")}

    def read_all(self) -> dict[str, Entry]:
        return {
            node.name: {
                "name": node.name,
                "allowed_hours": node.windows,
                "special_days": node.special_days,
            }
            for node in exported_settings.exportable_nodes()
        }

    def save(self, user: User, entry: Entry) -> list[str]:
        node = _find(Node.objects.all(), "name", [entry["name"]], self.labels["allowed_hours"])[0]
        node.windows, node.special_days = entry["allowed_hours"], entry["special_days"]
        save_node(user, node, allow_missing_secrets=True)
        return []


class GroupKind(ConfigurationKind):
    key = "groups"
    title = _lazy("Groups")
    right = Right.MANAGE_USERS
    fields = {
        "name": FieldForm.NAME,
        "permissions": FieldForm.NAMES,
        "fetch_from": FieldForm.NAMES,
        "send_to": FieldForm.NAMES,
        "requires_second_factor": FieldForm.FLAG,
    }
    labels = {
        "permissions": _lazy("permissions"),
        "fetch_from": _lazy("may fetch from"),
        "send_to": _lazy("may send to"),
        "requires_second_factor": _lazy("second factor required"),
    }

    def read_all(self) -> dict[str, Entry]:
        named = set(named_permissions())
        strict = set(SecondFactorGroup.objects.values_list("group", flat=True))
        access: dict[int, list[NodeAccess]] = {}
        for row in NodeAccess.objects.select_related("node"):
            access.setdefault(row.group_id, []).append(row)
        return {
            group.name: {
                "name": group.name,
                "permissions": sorted(
                    one.codename for one in group.permissions.all() if one in named
                ),
                "fetch_from": sorted(r.node.name for r in access.get(group.pk, ()) if r.may_read),
                "send_to": sorted(r.node.name for r in access.get(group.pk, ()) if r.may_write),
                "requires_second_factor": group.pk in strict,
            }
            for group in Group.objects.prefetch_related("permissions").order_by("name")
        }

    def save(self, user: User, entry: Entry) -> list[str]:
        group = Group.objects.filter(name=entry["name"]).first()
        if group is None:
            _clean(Group(name=entry["name"]))
        fetch, send = (
            set(_find(Node.objects.all(), "name", entry[name], self.labels[name]))
            for name in ("fetch_from", "send_to")
        )
        data = GroupData(
            entry["name"],
            list(group.user_set.all()) if group is not None else [],
            _find(
                named_permissions(), "codename", entry["permissions"], self.labels["permissions"]
            ),
            {node: (node in fetch, node in send) for node in Node.objects.all()},
            entry["requires_second_factor"],
        )
        save_group(user, group, data)
        return []


class ProfileKind(ConfigurationKind):
    key = "profiles"
    title = _lazy("Profiles")
    right = Right.MANAGE_PROFILES
    fields = {"name": FieldForm.NAME, "version": FieldForm.NUMBER, "text": FieldForm.TEXT}
    labels = {"version": _lazy("version"), "text": _lazy("rules")}

    def get_name(self, entry: Entry) -> str:
        return f"{entry['name']} {entry['version']}"

    def read_all(self) -> dict[str, Entry]:
        return {
            str(row): {"name": row.name, "version": row.version, "text": row.text}
            for row in ProfileVersion.objects.order_by("name", "version")
        }

    def save(self, user: User, entry: Entry) -> list[str]:
        if ProfileVersion.objects.filter(name=entry["name"], version=entry["version"]).exists():
            raise InvalidInput("configuration.profile-differs")
        rules = read_rules(entry["text"])
        if (rules.name, rules.version) != (entry["name"], entry["version"]):
            name = f"{rules.name} {rules.version}"
            raise InvalidInput("configuration.profile-other-name", name=name)
        import_version(user, entry["text"])
        return []


class ProjectKind(ConfigurationKind):
    key = "projects"
    title = _lazy("Research projects")
    right = Right.MANAGE_PROJECTS
    fields = {
        "protocol_id": FieldForm.NAME,
        **dict.fromkeys(services.IMAGE_FIELDS, FieldForm.LINE),
        **dict.fromkeys(services.APPROVAL_FIELDS, FieldForm.LINE),
        "expires_on": FieldForm.DAY,
        "deletion_on": FieldForm.DAY,
        "all_modalities": FieldForm.FLAG,
        "modalities": FieldForm.LINE,
        "patient_cap": FieldForm.OPTIONAL_NUMBER,
        "second_person": FieldForm.FLAG,
        **dict.fromkeys(risks.FIELDS, FieldForm.LINE),
        "profile": FieldForm.NAME,
        "members": FieldForm.NAMES,
        "sources": FieldForm.NAMES,
        "destinations": FieldForm.NAMES,
        "list_holders": FieldForm.NAMES,
        "reidentifiers": FieldForm.NAMES,
    }
    labels = {
        "members": _lazy("members"),
        "sources": _lazy("sources"),
        "destinations": _lazy("destinations"),
        "list_holders": _lazy("hold the identification list"),
        "reidentifiers": _lazy("may re-identify"),
    }
    _relations = tuple(labels)

    def get_name(self, entry: Entry) -> str:
        return str(entry["protocol_id"])

    def read_all(self) -> dict[str, Entry]:
        rows = Project.objects.filter(
            is_default=False, is_revoked=False, key_destroyed_at=None
        ).select_related("profile")
        return {project.protocol_id: self._describe(project) for project in rows}

    def _describe(self, project: Project) -> Entry:
        values: dict[str, Any] = {}
        for name, form in self.fields.items():
            value = getattr(project, name)
            if name in self._relations:
                value = sorted(row.name for row in value.all())
            elif name == "profile":
                value = str(value)
            elif form is FieldForm.DAY and value is not None:
                value = value.isoformat()
            values[name] = value
        return values

    def save(self, user: User, entry: Entry) -> list[str]:
        if entry["protocol_id"] == services.DEFAULT_PROTOCOL_ID:
            raise InvalidInput("configuration.default-project")
        project = Project.objects.filter(protocol_id=entry["protocol_id"], is_default=False).first()
        if project is not None and (project.is_revoked or project.key_destroyed_at is not None):
            raise InvalidInput("configuration.project-ended")
        is_new = project is None
        project = project or Project()
        relations = {
            name: _find(_related_rows(name), "name", entry[name], self.labels[name])
            for name in self._relations
        }
        for name, form in self.fields.items():
            if name == "profile":
                project.profile = self._find_profile(entry[name])
            elif name not in relations:
                value = entry[name]
                is_day = form is FieldForm.DAY and value is not None
                setattr(project, name, date.fromisoformat(value) if is_day else value)
        if not is_new:
            _clean(project)
            services.change_project(user, project, **relations)
            return []
        services.propose_project(user, project, **relations)
        return [
            _(
                "It is added as your proposal, with a key of its own. Another manager of research "
                "projects must accept it before images are sent for it."
            )
        ]

    def _find_profile(self, name: str) -> ProfileVersion:
        plain, _space, version = name.rpartition(" ")
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else 0
        profile = ProfileVersion.objects.filter(name=plain, version=number).first()
        if profile is None:
            raise InvalidInput("configuration.unknown-names", field=_("profile"), names=(name,))
        return profile


KINDS: Sequence[ConfigurationKind] = (
    ProfileKind(),
    NodeKind(),
    CalendarKind(),
    GroupKind(),
    ProjectKind(),
)
"""In the order of import: what an object names comes before it."""


def get_field_label(kind: ConfigurationKind, entry: Entry, name: str) -> str:
    """Return the label of a field, also of one setting of a node."""
    prefix, _dot, setting = name.partition(".")
    if setting:
        return exported_settings.get_setting_label(entry["kind"], setting)
    if name in kind.labels:
        return str(kind.labels[name])
    model = {"nodes": Node, "projects": Project}[kind.key]
    return str(model._meta.get_field(prefix).verbose_name)  # type: ignore[union-attr]


def describe_permissions(names: Sequence[str]) -> list[str]:
    return [str(describe_right(name)) for name in names]


def _related_rows(name: str) -> QuerySet[Any]:
    """Return the rows that a relation of a project can name."""
    model = Project._meta.get_field(name).related_model
    return cast(type[models.Model], model)._default_manager.all()


def _find(rows: QuerySet[Any], field: str, names: Sequence[str], label: Text) -> list[Any]:
    """Return the rows with these names. Raise InvalidInput if one does not exist."""
    found = {getattr(row, field): row for row in rows.filter(**{f"{field}__in": names})}
    if unknown := [name for name in names if name not in found]:
        raise InvalidInput("configuration.unknown-names", field=str(label), names=tuple(unknown))
    return [found[name] for name in names]


def _clean(row: models.Model) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        labels = {field.name: getattr(field, "verbose_name", "") for field in row._meta.fields}
        raise _invalid_fields(error.message_dict, labels) from None


def _invalid_fields(errors: Mapping[str, Any], labels: Mapping[str, Any]) -> InvalidInput:
    problems = " ".join(
        f"{labels.get(name) or name}: {' '.join(map(str, sentences))}"
        for name, sentences in errors.items()
    )
    return InvalidInput("configuration.invalid-fields", problems=problems)
