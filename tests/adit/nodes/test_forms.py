"""Forms of nodes: generated from the settings dataclass; stored secrets are never shown."""

from dataclasses import dataclass

import pytest
from django.forms import NumberInput, PasswordInput

from adit.accounts.permissions import COORDINATORS, DATA_PROTECTION
from adit.nodes.forms import NodeAccessForm, NodeForm, get_settings_form_class
from adit.nodes.models import Node
from adit_engine.errors import InvalidInput
from adit_engine.nodes import KINDS
from adit_engine.nodes.base import setting_field


@dataclass(frozen=True)
class VaultSettings:
    host: str = setting_field("", "Host", help="Where it is.", recipient=str)
    port: int = setting_field(443, "Port")
    wait_s: float = setting_field(2.5, "Seconds to wait", advanced=True)
    cap: int | None = setting_field(None, "Cap", advanced=True)
    strict: bool = setting_field(True, "Strict")
    password: str = setting_field("", "Password", secret=True)

    def __post_init__(self):
        if not self.host:
            raise InvalidInput("setting.host")
        if self.port > 65535:
            raise InvalidInput("setting.range", setting="Port", minimum=1, maximum=65535)
        if self.password == "weak":
            raise InvalidInput("setting.required", setting="Password")
        if self.host == "bad" and self.strict:
            raise InvalidInput("setting.time-limits")


class VaultNode:
    Settings = VaultSettings


@pytest.fixture
def form_class(monkeypatch):
    """The form of a node kind that exists only in these tests."""
    monkeypatch.setattr("adit_engine.nodes.KINDS", {"vault": f"{__name__}:VaultNode"})
    return get_settings_form_class("vault")


def posted(**values):
    return {f"settings-{name}": value for name, value in values.items()}


def sealed():
    node = Node(kind="vault", settings={"host": "pacs1"})
    node.set_secrets({"password": "canary"})
    return node


def test_every_kind_has_a_form_whose_fields_have_labels():
    for kind in KINDS:
        form = get_settings_form_class(kind)()
        assert form.as_p()
        assert all(field.label for field in form)


def test_an_unknown_kind_has_no_form():
    with pytest.raises(InvalidInput):
        get_settings_form_class("fax")


def test_labels_help_and_types_come_from_the_dataclass(form_class):
    form = form_class()

    assert (form["host"].label, form["host"].help_text) == ("Host", "Where it is.")
    assert form["port"].initial == 443
    assert isinstance(form.fields["port"].widget, NumberInput)
    assert isinstance(form.fields["password"].widget, PasswordInput)
    assert [field.name for field in form.basic_fields()] == ["host", "port", "strict", "password"]
    assert [field.name for field in form.advanced_fields()] == ["wait_s", "cap"]


def test_entered_values_become_settings_and_empty_fields_get_defaults(form_class):
    form = form_class(posted(host=" pacs1 ", port="", wait_s="3", strict="on"))

    assert form.is_valid(), form.errors
    assert form.settings == {
        "host": "pacs1",
        "port": 443,
        "wait_s": 3.0,
        "cap": None,
        "strict": True,
    }
    assert form.secrets == {}


@pytest.mark.parametrize(
    ("typed", "field", "sentence"),
    [
        ({"host": ""}, "host", "Host: enter a host name or an IP address."),
        ({"port": "70000"}, "port", "Port: enter a number from 1 to 65535."),
        ({"port": "many"}, "port", "Enter a whole number."),
        ({"password": "weak"}, "password", "Password: enter a value."),
        ({"host": "bad", "strict": "on"}, "__all__", "Time limits must be greater than 0 seconds."),
    ],
)
def test_validation_errors_of_the_dataclass_are_shown_at_their_field(
    form_class, typed, field, sentence
):
    form = form_class(posted(**{"host": "pacs1", **typed}))

    assert not form.is_valid()
    assert form.errors == {field: [sentence]}


def test_a_stored_secret_is_hidden_and_kept_if_the_field_is_left_empty(form_class):
    node = sealed()

    form = form_class(posted(host="pacs1", port="444"), node=node)

    assert form.is_valid(), form.errors
    assert form.secrets == {"password": "canary"}
    assert "canary" not in form.as_p() + form_class(node=node).as_p()
    assert "Leave the field empty to keep it" in form_class(node=node).as_p()


def test_a_new_secret_replaces_the_stored_one_unmodified(form_class):
    node = sealed()

    form = form_class(posted(host="pacs1", password=" new one "), node=node)

    assert form.is_valid()
    assert form.secrets == {"password": " new one "}
    assert "password" not in form.settings
    assert "new one" not in form.as_p()


def test_kinds_of_the_engine_report_invalid_settings_at_their_field():
    form = get_settings_form_class("dimse")(posted(called_ae_title="", host="pacs1", port="104"))
    assert not form.is_valid()
    assert "called_ae_title" in form.errors

    form = get_settings_form_class("folder")(posted(path="relative"))
    assert not form.is_valid()
    assert form.errors["path"] == ["Folder: enter an absolute path that begins with /."]


def test_a_new_dimse_node_has_our_ae_title_as_initial_value(settings):
    settings.CALLING_AE_TITLE = "MYADIT"

    assert get_settings_form_class("dimse")()["calling_ae_title"].initial == "MYADIT"


def row(**values):
    plain = {"name": "PACS1", "kind": "memory", "retrieve_limit": 2, "search_limit": 1}
    return {**plain, **values}


def test_a_new_node_is_closed(db):
    form = NodeForm(row())

    assert form.is_valid(), form.errors
    assert form.save(commit=False).is_open is False


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"kind": "fax"}, "kind"),
        ({"retrieve_limit": -1}, "retrieve_limit"),
        ({"search_limit": 1000}, "search_limit"),
        ({"windows": "not JSON"}, "windows"),
        ({"windows": '[{"days": ["noday"], "from": "20:00", "to": "06:00"}]'}, "windows"),
    ],
)
def test_an_invalid_value_is_reported_at_its_field(db, values, field):
    form = NodeForm(row(**values))

    assert not form.is_valid()
    assert list(form.errors) == [field]


def test_a_node_name_must_be_unique(source):
    assert list(NodeForm(row(name=source.name)).errors) == ["name"]


def test_the_kind_of_a_node_cannot_be_changed(source):
    form = NodeForm(row(kind="folder"), instance=source)

    assert form.is_valid(), form.errors
    assert form.save(commit=False).kind == "memory"


def test_the_access_form_has_two_checkboxes_per_group(groups, source):
    form = NodeAccessForm(node=source)

    shown = {group.name: (read.initial, write.initial) for group, read, write in form.matrix()}
    assert shown[COORDINATORS] == (True, False)
    assert shown[DATA_PROTECTION] == (False, False)


def test_selected_checkboxes_become_access(groups, source):
    ticked = {f"access-write_{groups[DATA_PROTECTION].pk}": "on"}
    form = NodeAccessForm(ticked, node=source)

    assert form.is_valid()
    assert form.get_access[groups[DATA_PROTECTION]] == (False, True)
    assert form.get_access[groups[COORDINATORS]] == (False, False)
