"""Nodes: the kinds of places that hold or take DICOM objects, imported when one is opened."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from typing import Any

from adit_engine.errors import InvalidInput
from adit_engine.nodes.base import OpenedNode
from adit_engine.storage_scp.pending_moves import MoveReceiver

KINDS: Mapping[str, str] = {
    "archive": "adit_engine.nodes.sevenzip:ArchiveNode",
    "dicomweb": "adit_engine.nodes.dicomweb.node:DicomwebNode",
    "dimse": "adit_engine.nodes.dimse.node:DimseNode",
    "folder": "adit_engine.nodes.folder:FolderNode",
    "memory": "adit_engine.nodes.memory:MemoryNode",
}
"""Each kind's class; its `Settings` attribute is the dataclass of its settings."""


WRITE_ONLY_KINDS = frozenset({"archive"})
"""Kinds that take images and give none back."""


def kind_class(kind: str) -> Any:
    """The class behind a kind's word. Raises WrongInput."""
    try:
        module, name = KINDS[kind].split(":")
    except KeyError:
        raise InvalidInput(f"There is no node kind {kind}; known are {', '.join(KINDS)}.") from None
    return getattr(import_module(module), name)


def recipient_of(kind: str, settings: Mapping[str, Any]) -> list[str]:
    """Who would receive the secrets of a node: kind, address and verification, normalized.

    Settings may be wrong or incomplete. Raises WrongInput for no kind.
    """
    found = [kind]
    for field in fields(kind_class(kind).Settings):
        normalize = field.metadata["recipient"]
        if normalize is not None:
            value = settings.get(field.name, field.default)
            with suppress(AttributeError, TypeError, InvalidInput):
                value = normalize(value)
            found.append(f"{field.name}: {value}")
    return found


def open_node(
    kind: str, name: str, settings: Mapping[str, Any], *, reception: MoveReceiver | None = None
) -> OpenedNode:
    """An opened node. `name` is how people know it; errors carry it. Raises WrongInput, NodeError.

    `settings` are the values of the kind's settings dataclass, secrets included. `reception` takes
    what a node of a kind that `receives` can only send to a third place, which is ours (C-MOVE).
    """
    cls = kind_class(kind)
    given = cls.Settings(**settings)
    node: OpenedNode = (
        cls(name, given, reception) if getattr(cls, "receives", False) else cls(name, given)
    )
    return node
