"""Folders of destinations: check free space before a transfer, open and delete 7-Zip files.

Used by orders and results.
"""

from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node
from adit_engine.dicom_file.atomic import AtomicFolder
from adit_engine.errors import InvalidInput, StorageError
from adit_engine.messages import Message
from adit_engine.nodes import kinds_with
from adit_engine.nodes import open_node as open_engine_node
from adit_engine.nodes.diagnostics.disk_probe import require_mounted


def can_measure_space(row: Node) -> bool:
    """Return whether free space is known for this kind of node."""
    return bool(row.capabilities.folder_settings)


def explain_no_space(row: Node, size_bytes: int) -> Message | None:
    """Return why about `size_bytes` do not fit; None if they do or if this is unknown.

    Writes nothing.
    """
    if not can_measure_space(row):
        return None
    try:
        node = open_engine_node(row.kind, row.name, get_engine_settings(row))
        node.require_free_space(size_bytes)  # type: ignore[attr-defined]
    except (StorageError, InvalidInput) as error:
        return error.message
    return None


def archive_kinds() -> list[str]:
    """Return the kinds of nodes that create 7-Zip files."""
    return kinds_with(lambda kind: kind.is_archive)


def delivery_list_kinds() -> list[str]:
    """Return the kinds of nodes whose files users open directly."""
    return kinds_with(lambda kind: kind.has_delivery_list)


def open_archive_file(row: Node, name: str) -> BinaryIO | None:
    """Open a 7-Zip file for reading; None if it does not exist. Raise StorageError."""
    return AtomicFolder(row.name, _get_folder(row)).open((name,))


def remove_archive_file(row: Node, name: str) -> None:
    """Delete a 7-Zip file. A missing file is no error, a missing folder is. Raise StorageError."""
    folder = _get_folder(row)
    require_mounted(row.name, folder, bool(row.settings.get("network")))
    try:
        (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(row.name, "node-folder.file-not-deleted") from error


def delete_staged_images(row: Node, title: str) -> None:
    """Delete images that were gathered for a 7-Zip file that will not be created."""
    with suppress(StorageError):
        node = open_engine_node(row.kind, row.name, get_engine_settings(row))
        node.set_archive_title(title)  # type: ignore[attr-defined]
        node.discard_staged()  # type: ignore[attr-defined]


def get_user_path(row: Node, name: str) -> str:
    """Return the path where users find the file without a browser; empty if there is none."""
    shown = str(row.settings.get("shown_path") or "")
    if not shown:
        return ""
    sign = "\\" if "\\" in shown else "/"
    return f"{shown.rstrip(sign)}{sign}{name}"


def _get_folder(row: Node) -> Path:
    return Path(get_engine_settings(row)["path"])
