"""The settings of a node without its secrets, for export to another installation and back.

Used by the configuration file of `adit.administration`.
"""

from collections.abc import Mapping
from dataclasses import Field, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit_engine.errors import InvalidInput
from adit_engine.nodes import KINDS, get_capabilities, get_recipient, kind_class

_PRIVATE_KEY = "PRIVATE KEY"
"""Part of the first line of each private key in PEM. Some programs keep it beside a certificate."""


def exportable_nodes() -> list[Node]:
    """Return the nodes whose kind can be imported, by name."""
    return [node for node in Node.objects.order_by("name") if is_exportable_kind(node.kind)]


def is_exportable_kind(kind: str) -> bool:
    return kind in KINDS and not get_capabilities(kind).is_for_tests


def read_settings(node: Node) -> dict[str, Any]:
    """Return all settings that are not secret, also those that have their default."""
    found = {
        field.name: node.settings.get(field.name, field.default)
        for field in fields(kind_class(node.kind).Settings)
        if not field.metadata["secret"]
    }
    if "domain" in found:
        found["domain"] = get_domain(node)
    return {n: "" if _PRIVATE_KEY in str(value) else value for n, value in found.items()}


def list_asked_secrets(kind: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the secrets that a node with these settings needs."""
    return [
        field.name
        for field in fields(kind_class(kind).Settings)
        if field.metadata["secret"] and _is_asked(field, settings)
    ]


def _is_asked(field: Field[Any], settings: Mapping[str, Any]) -> bool:
    other, _equals, wanted = field.metadata["belongs_to"].partition("=")
    value = settings.get(other)
    return bool(value == wanted if wanted else value)


def check_settings(kind: str, settings: Mapping[str, Any]) -> None:
    """Raise InvalidInput unless these are all settings of the kind, each of its type."""
    cls = kind_class(kind).Settings
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls) if not field.metadata["secret"]}
    if wrong := sorted(set(known) ^ set(settings)):
        raise InvalidInput("configuration.settings-wrong", names=tuple(wrong))
    for name, value in settings.items():
        if not _has_type(value, hints[name]) or _PRIVATE_KEY in str(value):
            raise InvalidInput(
                "configuration.setting-invalid", setting=known[name].metadata["label"]
            )


def _has_type(value: Any, hint: Any) -> bool:
    allowed = set(get_args(hint) or (hint,))
    if float in allowed:
        allowed.add(int)
    return (type(value) if value is not None else NoneType) in allowed


def keep_secrets(node: Node) -> bool:
    """Keep the secrets that still apply to the settings; return whether the address is the same."""
    kept = node.get_secrets(node.settings)
    asked = list_asked_secrets(node.kind, node.settings)
    node.set_secrets({name: value for name, value in kept.items() if name in asked})
    stored = Node.objects.get(pk=node.pk)
    return get_recipient(node.kind, stored.settings) == get_recipient(node.kind, node.settings)


def list_missing_secrets(node: Node) -> list[str]:
    """Return the labels of the secrets that must be entered before the node can be used."""
    labels = {f.name: f.metadata["label"] for f in fields(kind_class(node.kind).Settings)}
    stored = node.get_secrets(node.settings)
    asked = list_asked_secrets(node.kind, node.settings)
    return [str(labels[name]) for name in asked if name not in stored]


def without_missing_secrets(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the settings dataclass as if no missing secret were needed."""
    defaults = {field.name: field.default for field in fields(kind_class(kind).Settings)}
    made = dict(values)
    for field in fields(kind_class(kind).Settings):
        if field.metadata["secret"] and _is_asked(field, values) and not values.get(field.name):
            other = field.metadata["belongs_to"].partition("=")[0]
            made[other] = defaults[other]
    return made


def get_setting_label(kind: str, name: str) -> str:
    labels = {f.name: f.metadata["label"] for f in fields(kind_class(kind).Settings)}
    return str(labels.get(name, name))
