"""Room: whether a folder is there and has space for an order, asked before anything is fetched."""

from adit.nodes.connect import engine_settings
from adit.nodes.models import Node
from adit_engine.errors import StorageTrouble, WrongInput
from adit_engine.nodes import open as open_engine_node

KINDS = ("folder", "archive")


def is_measured(row: Node) -> bool:
    """Whether it can be told at all."""
    return row.kind in KINDS


def why_none(row: Node, size_bytes: int) -> str:
    """Empty when about so much fits there, and for places that cannot tell. Writes nothing."""
    if not is_measured(row):
        return ""
    try:
        node = open_engine_node(row.kind, row.name, engine_settings(row))
        node.require_room(size_bytes)  # type: ignore[attr-defined]
    except (StorageTrouble, WrongInput) as error:
        return str(error)
    return ""
