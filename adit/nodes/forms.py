"""Forms: a node's row, the settings of its kind, and which groups may use it."""

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from types import NoneType
from typing import Any, ClassVar, get_args, get_type_hints

from django import forms
from django.conf import settings
from django.contrib.auth.models import Group
from django.utils.translation import gettext_lazy as _

from adit.nodes.calendar import windows as calendar_windows
from adit.nodes.models import Node
from adit_engine.errors import InvalidInput
from adit_engine.nodes import KINDS, kind_class
from adit_engine.values.references import StudyRef

MOST_CONNECTIONS = 64
_ADVANCED, _SECRET, _BELONGS_TO = "is_advanced", "is_secret", "belongs_to"
_WORDS = {"plain": _("plain (not encrypted)"), "tls": _("tls (encrypted)")}

_STORED = _(
    "One is stored; leave empty to keep it. Enter it again when you change the address or how its "
    "certificate is verified."
)
_ASKED_AGAIN = _(
    "Enter it again. The address, or how its certificate is verified, has changed, and the stored "
    "one is sent to the previous address only."
)

_FIELDS: Mapping[type, type[forms.Field]] = {
    str: forms.CharField,
    int: forms.IntegerField,
    float: forms.FloatField,
    bool: forms.BooleanField,
}


class SealedLines(forms.Textarea):
    """Takes a secret of several lines in, such as a key, and never shows it again."""

    def format_value(self, value: Any) -> str:
        return ""


class NodeForm(forms.ModelForm):
    """The row itself. The kind of a node that exists does not change."""

    kind = forms.ChoiceField(label=_("kind"), choices=[(kind, kind) for kind in KINDS])
    retrieve_limit = forms.IntegerField(
        label=_("connections for transfers"), min_value=0, max_value=MOST_CONNECTIONS, initial=2
    )
    search_limit = forms.IntegerField(
        label=_("connections for searches"), min_value=0, max_value=MOST_CONNECTIONS, initial=2
    )
    gap_s = forms.IntegerField(
        label=_("seconds between two studies"),
        min_value=0,
        max_value=3600,
        required=False,
        initial=0,
    )
    rate_kb_s = forms.IntegerField(label=_("speed (kB a second)"), min_value=50, required=False)
    windows = forms.JSONField(label=_("allowed hours"), required=False)

    class Meta:
        model = Node
        fields = [
            "name",
            "kind",
            "is_open",
            "is_clinical",
            "retrieve_limit",
            "search_limit",
            "gap_s",
            "rate_kb_s",
            "takes_images",
            "windows",
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].disabled = self.instance.pk is not None

    def clean_gap_s(self) -> int:
        return int(self.cleaned_data["gap_s"] or 0)

    def clean_windows(self) -> list[Any]:
        rows = self.cleaned_data["windows"] or []
        try:
            calendar_windows.read(rows)
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from None
        return rows


class SettingsForm(forms.Form):
    """The settings of one kind; made by `form_for`. What the dataclass refuses is a field's error."""

    kind: ClassVar[str]

    def __init__(self, *args: Any, node: Node | None = None, **kwargs: Any) -> None:
        self.node = node
        stored = dict(node.settings) if node is not None else {}
        initial = {**stored, **(kwargs.pop("initial", None) or {})}
        kwargs = {"prefix": "settings", **kwargs, "initial": initial}
        super().__init__(*args, **kwargs)
        for name in self._stored:
            self.fields[name].help_text = _STORED

    @property
    def _stored(self) -> Iterator[str]:
        names = self.node.secret_names if self.node is not None else ()
        return (name for name in names if name in self.fields)

    def clean(self) -> dict[str, Any]:
        if not self.errors:
            self._ask_again()
        if not self.errors:
            try:
                kind_class(self.kind).Settings(**self.settings, **self.secrets)
            except InvalidInput as error:
                self.add_error(self._field_of(str(error)), str(error))
        return self.cleaned_data

    @property
    def settings(self) -> dict[str, Any]:
        """For the row's `settings`; an empty field means the default."""
        return {
            name: self._value(name) for name, field in self.fields.items() if not is_secret(field)
        }

    @property
    def secrets(self) -> dict[str, Any]:
        """For the row's `secrets`; an empty field means the stored one, as long as it is of use."""
        kept = self.node.secrets_for(self.settings) if self.node is not None else {}
        found = {
            name: self.cleaned_data.get(name) or (self._is_of_use(name) and kept.get(name))
            for name, field in self.fields.items()
            if is_secret(field)
        }
        return {name: value for name, value in found.items() if value}

    def _ask_again(self) -> None:
        """Asks for the secrets that were stored for another address."""
        for name in self._stored:
            if self._is_of_use(name) and name not in self.secrets:
                self[name].help_text = ""
                self.add_error(name, _ASKED_AGAIN)

    def _is_of_use(self, name: str) -> bool:
        other, _equals, wanted = getattr(self.fields[name], _BELONGS_TO).partition("=")
        value = self._value(other) if other else True
        return bool(value == wanted if wanted else value)

    def plain(self) -> Iterator[forms.BoundField]:
        """The fields that everybody has to look at."""
        return (self[name] for name, field in self.fields.items() if not is_advanced(field))

    def advanced(self) -> Iterator[forms.BoundField]:
        """The fields that may be folded away."""
        return (self[name] for name, field in self.fields.items() if is_advanced(field))

    def _value(self, name: str) -> Any:
        value = self.cleaned_data.get(name)
        return self.fields[name].initial if value is None else value

    def _field_of(self, sentence: str) -> str | None:
        """The field that a sentence of the dataclass names at its beginning."""
        words = sentence.partition(":")[0]
        named = (n for n, f in self.fields.items() if n == words or str(f.label).startswith(words))
        return next(named, None)


def form_for(kind: str) -> type[SettingsForm]:
    """The form class of a kind, from its settings dataclass. Raises WrongInput for no kind."""
    cls = kind_class(kind).Settings
    hints = get_type_hints(cls)
    made = {field.name: _field(field, hints[field.name]) for field in fields(cls)}
    return type(f"{cls.__name__}Form", (SettingsForm,), {"kind": kind, **made})


def is_secret(field: forms.Field) -> bool:
    return bool(getattr(field, _SECRET, False))


def is_advanced(field: forms.Field) -> bool:
    return bool(getattr(field, _ADVANCED, False))


class AccessForm(forms.Form):
    """Which group may fetch from a node, and which may send to it."""

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
        """Each group with its two boxes."""
        return ((g, self[f"read_{g.pk}"], self[f"write_{g.pk}"]) for g in self.groups)

    @property
    def access(self) -> dict[Group, tuple[bool, bool]]:
        """May read, may write, by group."""
        data = self.cleaned_data
        return {g: (data[f"read_{g.pk}"], data[f"write_{g.pk}"]) for g in self.groups}


class TryForm(forms.Form):
    """Which image shall be fetched for a test. Empty: one of the newest that the node lists."""

    study_uid = forms.CharField(
        label=_("Study UID"),
        required=False,
        max_length=70,
        help_text=_("Leave it empty for one of the newest studies."),
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


def _field(field: Field[Any], hint: Any) -> forms.Field:
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
        options["widget"] = SealedLines if field.metadata["secret"] else forms.Textarea
        options["widget"] = options["widget"](attrs={"rows": 4, "spellcheck": "false"})
    elif field.metadata["secret"]:
        options["widget"] = forms.PasswordInput(attrs={"autocomplete": "new-password"})
        options["strip"] = False
    if field.metadata["secret"]:
        options["initial"] = None
    if field.metadata["choices"]:
        choices = [(choice, _WORDS.get(choice, choice)) for choice in field.metadata["choices"]]
        made: forms.Field = forms.TypedChoiceField(
            choices=choices, empty_value=str(field.default), **options
        )
    else:
        made = _FIELDS[kinds[0]](**options)
    for name, word in ((_ADVANCED, "advanced"), (_SECRET, "secret"), (_BELONGS_TO, "belongs_to")):
        setattr(made, name, field.metadata[word])
    return made
