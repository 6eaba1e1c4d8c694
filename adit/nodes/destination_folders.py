"""Room: whether a folder is there and has space for an order, asked before anything is fetched.
Shelf: finished 7-Zip files as they lie in their node's folder: opened, measured, removed."""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node
from adit_engine.dicom_file.atomic import AtomicFolder
from adit_engine.errors import InvalidInput, StorageError
from adit_engine.nodes import open_node as open_engine_node

MEASURED_KINDS = ("folder", "archive")


def can_measure_space(row: Node) -> bool:
    """Whether it can be told at all."""
    return row.kind in MEASURED_KINDS


def explain_no_space(row: Node, size_bytes: int) -> str:
    """Empty when about so much fits there, and for places that cannot tell. Writes nothing."""
    if not can_measure_space(row):
        return ""
    try:
        node = open_engine_node(row.kind, row.name, get_engine_settings(row))
        node.require_free_space(size_bytes)  # type: ignore[attr-defined]
    except (StorageError, InvalidInput) as error:
        return str(error)
    return ""


ARCHIVE_KIND = "archive"
"""The kind of node that makes them."""


def open_archive_file(row: Node, name: str) -> BinaryIO | None:
    """To read; None where it is gone. Raises StorageTrouble."""
    return AtomicFolder(row.name, _get_folder(row)).open((name,))


def remove_archive_file(row: Node, name: str) -> None:
    """Gone already is no trouble. Raises StorageTrouble."""
    try:
        (_get_folder(row) / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(row.name, "a 7-Zip file could not be removed.") from error


def delete_staged_images(row: Node, title: str) -> None:
    """Removes images that were laid apart for a file that will not be built any more."""
    with suppress(StorageError):
        node = open_engine_node(row.kind, row.name, get_engine_settings(row))
        node.set_archive_title(title)  # type: ignore[attr-defined]
        node.forget()  # type: ignore[attr-defined]


def get_user_path(row: Node, name: str) -> str:
    """Where they find it without a browser; empty where they cannot."""
    shown = str(row.settings.get("shown_path") or "")
    if not shown:
        return ""
    sign = "\\" if "\\" in shown else "/"
    return f"{shown.rstrip(sign)}{sign}{name}"


def _get_folder(row: Node) -> Path:
    return Path(get_engine_settings(row)["path"])
