"""The kinds of nodes that hold or receive DICOM objects, and `open_node` to open one.

Used by the gateway of the project and by the command line. The module of a kind is imported when a
node of that kind is opened.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from typing import Any

from adit_engine.errors import InvalidInput
from adit_engine.nodes.base import (
    NOT_OBSERVED,
    NodeCapabilities,
    OpenedNode,
    TrafficObserver,
)
from adit_engine.nodes.dimse.association_limits import AssociationLimits
from adit_engine.storage_scp.pending_moves import MoveReceiver

KINDS: Mapping[str, str] = {
    "archive": "adit_engine.nodes.sevenzip:ArchiveNode",
    "dicomweb": "adit_engine.nodes.dicomweb.node:DicomwebNode",
    "dimse": "adit_engine.nodes.dimse.node:DimseNode",
    "folder": "adit_engine.nodes.folder:FolderNode",
    "memory": "adit_engine.nodes.memory:MemoryNode",
}
"""The class of each kind; its `Settings` attribute is the dataclass of its settings."""


def kind_class(kind: str) -> Any:
    """Return the class of a kind. Raises InvalidInput."""
    try:
        module, name = KINDS[kind].split(":")
    except KeyError:
        raise InvalidInput("node.unknown-kind", kind=kind, known=tuple(KINDS)) from None
    return getattr(import_module(module), name)


def get_capabilities(kind: str) -> type[NodeCapabilities]:
    """Return what nodes of a kind can do; the defaults for a kind that does not exist any more."""
    if kind not in KINDS:
        return NodeCapabilities
    cls: type[NodeCapabilities] = kind_class(kind)
    return cls


def kinds_with(condition: Callable[[type[NodeCapabilities]], object]) -> list[str]:
    """Return the kinds whose capabilities fulfil the condition."""
    return [kind for kind in KINDS if condition(get_capabilities(kind))]


def get_recipient(kind: str, settings: Mapping[str, Any]) -> list[str]:
    """Return what decides who receives the secrets of a node, normalized.

    These are its kind, its address and how the other side is verified. Settings may be wrong or
    incomplete. Raises InvalidInput for an unknown kind.
    """
    found = [kind]
    for field in fields(kind_class(kind).Settings):
        normalize = field.metadata["recipient"]
        if normalize is not None:
            value = settings.get(field.name, field.default)
            with suppress(AttributeError, TypeError, InvalidInput):
                value = normalize(value)
            if value is not None:
                found.append(f"{field.name}: {value}")
    return found


def open_node(
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    *,
    reception: MoveReceiver | None = None,
    observer: TrafficObserver = NOT_OBSERVED,
    learned: AssociationLimits | None = None,
) -> OpenedNode:
    """Open a node. Raises InvalidInput, NodeError.

    `name` is its display name, which errors carry. `settings` are the values of the kind's settings
    dataclass, secrets included. `reception` is our Storage SCP, for kinds that set `uses_receiver`:
    it receives what such a node can only send to a third party (C-MOVE). `observer` is notified of
    each instance that is received or sent. `learned` is what earlier nodes of a kind that sets
    `uses_several_associations` have learned; the node keeps it up to date.
    """
    cls = kind_class(kind)
    more: dict[str, Any] = {"reception": reception} if cls.uses_receiver else {}
    if cls.uses_several_associations:
        more["learned"] = learned
    node: OpenedNode = cls(name, cls.Settings(**settings), observer=observer, **more)
    return node
