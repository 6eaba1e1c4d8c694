"""Forms of a node: the model, the settings of its kind, access of groups, and the editor of all.

Used by the pages of nodes and by `diagnostics`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

from django import forms
from django.conf import settings
from django.contrib.auth.models import Group
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.nodes import services
from adit.nodes.calendar import allowed_hours as calendar_windows
from adit.nodes.calendar import chart
from adit.nodes.calendar.chart import CalendarChart
from adit.nodes.calendar.forms import (
    DEFAULT_PACS_HOURS,
    HoursFormSet,
    SpecialDaysFormSet,
    add_row,
    remove_row,
)
from adit.nodes.folder_rules import FolderRefused
from adit.nodes.models import Node
from adit_engine.dicom_ul.tls import MAX_PEM_CHARACTERS
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes import KINDS, kind_class
from adit_engine.values.references import StudyRef

MAX_CONNECTIONS = 64
_ADVANCED, _SECRET, _BELONGS_TO = "is_advanced", "is_secret", "belongs_to"
_REPLACED_BY = "replaced_by"
_CHOICE_LABELS = {"plain": _("plain (not encrypted)"), "tls": _("TLS (encrypted)")}

_STORED = _(
    "A value is stored. Leave the field empty to keep it. Enter the value again if you change the "
    "address or how its certificate is verified."
)
_ASKED_AGAIN = _(
    "Enter the value again. The address, or how its certificate is verified, was changed, and the "
    "stored value is only sent to the previous address."
)

_FIELD_CLASSES: Mapping[type, type[forms.Field]] = {
    str: forms.CharField,
    int: forms.IntegerField,
    float: forms.FloatField,
    bool: forms.BooleanField,
}


class SecretTextarea(forms.Textarea):
    """An input for a secret of several lines, such as a key. It never shows the stored value."""

    def format_value(self, value: Any) -> str:
        return ""


class CertificateInput(forms.Textarea):
    """Certificates as text, or as a file that replaces the text."""

    needs_multipart_form = True

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        file = files.get(f"{name}-file") if files else None
        if file is None:
            return super().value_from_datadict(data, files, name)
        return file.read(MAX_PEM_CHARACTERS + 1).decode("ascii", "ignore")

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        return format_html(
            '{}<input type="file" class="form-control mt-1" name="{}-file" aria-label="{}" '
            'accept=".pem,.crt,.cer,.txt">',
            super().render(name, value, attrs, renderer),
            name,
            _("File with the certificate"),
        )


class NodeForm(forms.ModelForm):
    """The fields of the model. The kind of an existing node cannot be changed."""

    kind = forms.ChoiceField(label=_("kind"), choices=lambda: [(kind, kind) for kind in KINDS])
    retrieve_limit = forms.IntegerField(
        label=_("connections for transfers"), min_value=0, max_value=MAX_CONNECTIONS, initial=2
    )
    search_limit = forms.IntegerField(
        label=_("connections for searches"), min_value=0, max_value=MAX_CONNECTIONS, initial=2
    )
    pause_between_studies_s = forms.IntegerField(
        label=_("seconds between two studies"),
        min_value=0,
        max_value=3600,
        required=False,
        initial=0,
    )
    rate_kb_s = forms.IntegerField(label=_("speed (kB per second)"), min_value=50, required=False)
    windows = forms.JSONField(label=_("allowed hours"), required=False)

    class Meta:
        model = Node
        fields = [
            "name",
            "kind",
            "api_ae_title",
            "is_open",
            "is_clinical",
            "retrieve_limit",
            "search_limit",
            "pause_between_studies_s",
            "rate_kb_s",
            "takes_images",
            "windows",
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].disabled = self.instance.pk is not None

    def clean_pause_between_studies_s(self) -> int:
        return int(self.cleaned_data["pause_between_studies_s"] or 0)

    def clean_windows(self) -> list[Any]:
        rows = self.cleaned_data["windows"] or []
        try:
            calendar_windows.parse_windows(rows)
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from None
        return rows


class SettingsForm(forms.Form):
    """The settings of one kind; subclasses are created by `get_settings_form_class`.

    Errors of the settings dataclass become errors of the fields.
    """

    kind: ClassVar[str]

    def __init__(self, *args: Any, node: Node | None = None, **kwargs: Any) -> None:
        self.node = node
        stored = dict(node.settings) if node is not None else {}
        initial = {**stored, **(kwargs.pop("initial", None) or {})}
        kwargs = {"prefix": "settings", **kwargs, "initial": initial}
        super().__init__(*args, **kwargs)
        for name in self._stored:
            self.fields[name].help_text = _STORED
        for name in self._replaced:
            if stored.get(name):
                self.fields[name].disabled = True
            else:
                del self.fields[name]

    @property
    def _replaced(self) -> list[str]:
        """Settings that only nodes that have them keep, until the new setting is given."""
        return [name for name, field in self.fields.items() if getattr(field, _REPLACED_BY)]

    @property
    def _stored(self) -> Iterator[str]:
        names = self.node.secret_names if self.node is not None else ()
        return (name for name in names if name in self.fields)

    def clean(self) -> dict[str, Any]:
        if not self.errors:
            self._require_secrets_again()
        self._add_all_errors()
        return self.cleaned_data

    def _add_all_errors(self) -> None:
        """Add the errors of the dataclass, which reports one at a time.

        A value with an error is replaced by a valid one, so that the others are checked, too.
        """
        cls = kind_class(self.kind).Settings
        examples = {field.name: field.metadata["example"] for field in fields(cls)}
        values = {**self.settings, **self.secrets, **{name: examples[name] for name in self.errors}}
        for _attempt in range(len(values) + 1):
            try:
                cls(**values)
            except InvalidInput as error:
                name = self._field_of(error.message)
                if name is None or name not in self.errors:
                    self.add_error(name, str(error))
                if name is None or values.get(name) == examples[name]:
                    return
                values[name] = examples[name]
                # A key without its certificate would be another error.
                values.update({n: examples[n] for n in values if self._belongs_to(n) == name})
            else:
                return

    @property
    def settings(self) -> dict[str, Any]:
        """The value for `Node.settings`. An empty field means the default."""
        values = {
            name: self._value(name) for name, field in self.fields.items() if not is_secret(field)
        }
        for name in self._replaced:
            if values[getattr(self.fields[name], _REPLACED_BY)]:
                values[name] = ""
        return values

    @property
    def secrets(self) -> dict[str, Any]:
        """The value for `Node.secrets`. An empty field keeps the stored secret if it applies."""
        kept = self.node.get_secrets(self.settings) if self.node is not None else {}
        found = {
            name: self.cleaned_data.get(name) or (self._is_applicable(name) and kept.get(name))
            for name, field in self.fields.items()
            if is_secret(field)
        }
        return {name: value for name, value in found.items() if value}

    def _require_secrets_again(self) -> None:
        """Require secrets again that were stored for another address."""
        for name in self._stored:
            if self._is_applicable(name) and name not in self.secrets:
                self[name].help_text = ""
                self.add_error(name, _ASKED_AGAIN)

    def _belongs_to(self, name: str) -> str:
        return str(getattr(self.fields[name], _BELONGS_TO)).partition("=")[0]

    def _is_applicable(self, name: str) -> bool:
        other, _equals, wanted = getattr(self.fields[name], _BELONGS_TO).partition("=")
        value = self._value(other) if other else True
        return bool(value == wanted if wanted else value)

    def basic_fields(self) -> Iterator[forms.BoundField]:
        """The fields that are always shown."""
        return (self[name] for name, field in self.fields.items() if not is_advanced(field))

    def advanced_fields(self) -> Iterator[forms.BoundField]:
        """The fields that may be collapsed."""
        return (self[name] for name, field in self.fields.items() if is_advanced(field))

    @property
    def has_advanced_errors(self) -> bool:
        return any(field.errors for field in self.advanced_fields())

    def _value(self, name: str) -> Any:
        value = self.cleaned_data.get(name)
        return self.fields[name].initial if value is None else value

    def _field_of(self, message: Message) -> str | None:
        """The field of an error: value `setting` is its label, or the code is setting.NAME."""
        _subject, _dot, name = message.code.partition(".")
        named = (name, message.values.get("setting"))
        return next(
            (n for n, f in self.fields.items() if n in named or str(f.label) in named), None
        )


def get_settings_form_class(kind: str) -> type[SettingsForm]:
    """Return the form class of a kind, built from its settings dataclass.

    Raise InvalidInput for an unknown kind.
    """
    cls = kind_class(kind).Settings
    hints = get_type_hints(cls)
    made = {field.name: _make_field(field, hints[field.name]) for field in fields(cls)}
    return type(f"{cls.__name__}Form", (SettingsForm,), {"kind": kind, **made})


def is_secret(field: forms.Field) -> bool:
    return bool(getattr(field, _SECRET, False))


def is_advanced(field: forms.Field) -> bool:
    return bool(getattr(field, _ADVANCED, False))


class NodeAccessForm(forms.Form):
    """Which groups may fetch from a node, and which may send to it."""

    def __init__(self, *args: Any, node: Node | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **{"prefix": "access", **kwargs})
        rows = {row.group_id: row for row in node.access.all()} if node and node.pk else {}
        self.groups = list(Group.objects.order_by("name"))
        for group in self.groups:
            row = rows.get(group.pk)
            for name, held in (("read", row and row.may_read), ("write", row and row.may_write)):
                self.fields[f"{name}_{group.pk}"] = forms.BooleanField(
                    required=False, initial=bool(held), label=f"{group.name}: {name}"
                )

    def matrix(self) -> Iterator[tuple[Group, forms.BoundField, forms.BoundField]]:
        """Yield each group with its two checkboxes."""
        return ((g, self[f"read_{g.pk}"], self[f"write_{g.pk}"]) for g in self.groups)

    @property
    def get_access(self) -> dict[Group, tuple[bool, bool]]:
        """For each group: may read, may write."""
        data = self.cleaned_data
        return {g: (data[f"read_{g.pk}"], data[f"write_{g.pk}"]) for g in self.groups}


class FetchTestForm(forms.Form):
    """The study of a fetch test. If empty, one of the newest that the node lists is used."""

    study_uid = forms.CharField(
        label=_("Study UID"),
        required=False,
        max_length=70,
        help_text=_("Leave the field empty to use one of the newest studies."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def clean_study_uid(self) -> StudyRef | None:
        text = self.cleaned_data["study_uid"].strip()
        if not text:
            return None
        try:
            return StudyRef(text)
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from None


def _make_field(field: Field[Any], hint: Any) -> forms.Field:
    kinds = [part for part in get_args(hint) or (hint,) if part is not NoneType]
    options: dict[str, Any] = {
        "label": field.metadata["label"],
        "help_text": field.metadata["help"],
        "required": False,
        "initial": field.default,
    }
    if field.name == "calling_ae_title":
        options["initial"] = settings.CALLING_AE_TITLE
    if field.metadata["pem"]:
        options["widget"] = SecretTextarea if field.metadata["secret"] else CertificateInput
        options["widget"] = options["widget"](attrs={"rows": 4, "spellcheck": "false"})
    elif field.metadata["secret"]:
        options["widget"] = forms.PasswordInput(attrs={"autocomplete": "new-password"})
        options["strip"] = False
    if field.metadata["secret"]:
        options["initial"] = None
    if field.metadata["choices"]:
        choices = [
            (choice, _CHOICE_LABELS.get(choice, choice)) for choice in field.metadata["choices"]
        ]
        made: forms.Field = forms.TypedChoiceField(
            choices=choices, empty_value=str(field.default), **options
        )
    else:
        made = _FIELD_CLASSES[kinds[0]](**options)
    for name, word in (
        (_ADVANCED, "advanced"),
        (_SECRET, "secret"),
        (_BELONGS_TO, "belongs_to"),
        (_REPLACED_BY, "replaced_by"),
    ):
        setattr(made, name, field.metadata[word])
    return made


FIELD_HINTS = {
    "name": _("The name shown on all pages, for example PACS Radiology."),
    "api_ae_title": _(
        "Programs use this name for it. Empty: ADIT takes its AE title, or its name if it has none."
    ),
    "is_clinical": _("Patient care depends on it. Sending to it needs a separate permission."),
    "retrieve_limit": _(
        "For all users and jobs together. Choose fewer than a PACS serves at once (Orthanc: 4), so "
        "that others need not wait."
    ),
    "search_limit": _("Maximum number of open connections for searches and tests."),
    "pause_between_studies_s": _("How long each connection pauses after a study. 0: no pause."),
    "rate_kb_s": _(
        "For all transfers together, for example 12500 for 100 Mbit/s. Empty: no limit."
    ),
    "takes_images": _("If not selected, it is a source only, regardless of group permissions."),
}


_PREFIXES = ("hours", "special")


@dataclass(frozen=True, slots=True)
class FormProblem:
    """One error and its field. Without `field_id` it concerns the whole form."""

    field_id: str
    label: str
    text: str


class NodeEditor:
    """All forms of one node on one page. Invalid input is shown again."""

    invalid_hours = ""
    """Why the chart cannot be drawn. Set by `picture`."""

    def __init__(self, data: Any, node: Node, files: Any = None) -> None:
        self.is_changing_rows = data is not None and bool({"add", "remove", "show"} & set(data))
        data = _apply_row_buttons(data)
        self.node = node
        if node.pk is None and node.capabilities.needs_hours:
            node.takes_images = False
        self.row = NodeForm(data, instance=node)
        self.row.fields["kind"].disabled = True
        # Opening the node and its hours have separate forms.
        del self.row.fields["is_open"], self.row.fields["windows"]
        for name, hint in FIELD_HINTS.items():
            self.row.fields[name].help_text = hint
        self.settings = get_settings_form_class(node.kind)(data, files, node=node)
        self.hours = HoursFormSet(data, node)
        self.specials = SpecialDaysFormSet(data, node)

    @property
    def problems(self) -> list[FormProblem]:
        """The errors in the order of the page; empty before anything was submitted."""
        if self.is_changing_rows:
            return []
        every = (self.row, self.settings, *self.hours.forms, *self.specials.forms)
        return [problem for form in every for problem in _form_problems(form)]

    @property
    def chart(self) -> CalendarChart | None:
        """The chart of the hours as submitted; None if they are invalid."""
        if not self.hours.is_bound:
            proposed = (
                DEFAULT_PACS_HOURS
                if self.node.pk is None and self.node.capabilities.needs_hours
                else None
            )
            windows, exceptions = proposed or self.node.windows, self.node.special_days
        elif self.hours.is_valid() and self.specials.is_valid():
            windows, exceptions = self.hours.rows, self.specials.rows
        else:
            return None
        try:
            return chart.make_calendar_chart(self.node, windows, exceptions)
        except InvalidInput as error:
            self.invalid_hours = str(error)
            return None

    def save(self, user: User) -> Node | None:
        """Save and return the node; None if the input is invalid. Raise NotPermitted."""
        forms_ = (self.row, self.settings, self.hours, self.specials)
        if self.is_changing_rows or not all(form.is_valid() for form in forms_):
            return None
        node = self.row.save(commit=False)
        node.settings = self.settings.settings
        node.set_secrets(self.settings.secrets)
        node.windows, node.special_days = self.hours.rows, self.specials.rows
        try:
            return services.save_node(user, node)
        except FolderRefused as error:
            self.settings.add_error(error.setting, str(error))
            return None
        except InvalidInput as error:
            field = "name" if error.message.code == "node.name-taken" else None
            self.row.add_error(field, str(error))
            return None


def _apply_row_buttons(data: Any) -> Any:
    """Return the data after the button that adds or removes a row, if one was pressed."""
    if data is None:
        return None
    prefix, _dash, number = str(data.get("remove", "")).partition("-")
    if prefix in _PREFIXES and number.isdigit():
        return remove_row(data, prefix, int(number))
    return add_row(data, data["add"]) if data.get("add") in _PREFIXES else data


def _form_problems(form: forms.Form | forms.ModelForm) -> Iterator[FormProblem]:
    for text in form.non_field_errors():
        yield FormProblem("", "", str(text))
    for field in form:
        label = str(field.label)
        for text in field.errors:
            # Errors of a settings dataclass already begin with the label.
            yield FormProblem(field.id_for_label, label, str(text).removeprefix(f"{label}: "))
