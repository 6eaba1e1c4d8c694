"""Shelf: finished 7-Zip files as they lie in their node's folder: opened, measured, removed."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from adit.nodes.connect import engine_settings
from adit.nodes.models import Node
from adit_engine.errors import StorageTrouble
from adit_engine.nodes import open as open_engine_node
from adit_engine.tree import Tree

ARCHIVE = "archive"
"""The kind of node that makes them."""


def opened(row: Node, name: str) -> BinaryIO | None:
    """To read; None where it is gone. Raises StorageTrouble."""
    return Tree(row.name, _folder(row)).open((name,))


def remove(row: Node, name: str) -> None:
    """Gone already is no trouble. Raises StorageTrouble."""
    try:
        (_folder(row) / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageTrouble(row.name, "a 7-Zip file could not be removed.") from error


def forget_gathered(row: Node, title: str) -> None:
    """Removes images that were laid apart for a file that will not be built any more."""
    with suppress(StorageTrouble):
        node = open_engine_node(row.kind, row.name, engine_settings(row))
        node.gather_as(title)  # type: ignore[attr-defined]
        node.forget()  # type: ignore[attr-defined]


def path_for_users(row: Node, name: str) -> str:
    """Where they find it without a browser; empty where they cannot."""
    shown = str(row.settings.get("shown_path") or "")
    if not shown:
        return ""
    sign = "\\" if "\\" in shown else "/"
    return f"{shown.rstrip(sign)}{sign}{name}"


def _folder(row: Node) -> Path:
    return Path(engine_settings(row)["path"])
