"""Verify that all machines of an installation share the same folders, by a mark file in each.

Used by the gateway and `adit doctor`. One machine may pack what another one gathered for a 7-Zip
file, so both need the same folder. The mark is created with the first image. A machine that does
not find it has a different folder.
"""

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings

from adit.nodes.models import Node, SharedFolder
from adit_engine.errors import StorageError
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding

MARK_FILE = ".adit-folder"
GATHERED, ARCHIVES = "gathered", "archives"


class FolderNotShared(StorageError):
    """The folder is wrong on this machine only. A retry on another machine may work."""

    is_transient = True


def require_shared(row: Node, values: Mapping[str, Any]) -> None:
    """Check the folders of a node before images are written.

    Raise FolderNotShared, StorageError.
    """
    for word, folder in _list_shared_folders(row, values):
        if not _is_shared(word, folder, row.name):
            raise FolderNotShared(
                row.name,
                "shared-folder.different",
                folder=str(folder),
                host=socket.gethostname(),
            )


def check_shared_folders() -> Iterator[NodeFinding]:
    """Yield findings on our own folders for `adit doctor`. Changes nothing."""
    if settings.EMBEDDED:
        return
    for word, folder in ((ARCHIVES, settings.ARCHIVE_DIR), (GATHERED, settings.GATHERED_DIR)):
        known = SharedFolder.objects.filter(name=word).first()
        what = Message("shared-folder.checked", folder=str(folder))
        if known is None or _read_mark(folder) == known.mark:
            yield NodeFinding(Grade.GOOD, what)
            continue
        step = Message(
            "shared-folder.not-mounted",
            setting=f"ADIT_{word.upper()}",
            file=MARK_FILE,
            mark=known.mark,
        )
        yield NodeFinding(Grade.BAD, what, step)


def _list_shared_folders(row: Node, values: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """The folders of a node that machines have to share, each with its name in SharedFolder."""
    if settings.EMBEDDED or not row.capabilities.is_archive:
        return
    if not row.settings.get("path"):
        yield ARCHIVES, Path(values["path"])
    word = f"{GATHERED}:{row.pk}" if row.settings.get("staging") else GATHERED
    yield word, Path(values["staging"])


def _is_shared(word: str, folder: Path, name: str) -> bool:
    mark = _read_mark(folder)
    known = SharedFolder.objects.filter(name=word).first()
    if known is None:
        mark = mark or _create_mark(folder, name)
        known, _is_new = SharedFolder.objects.get_or_create(name=word, defaults={"mark": mark})
    return mark == known.mark


def _read_mark(folder: Path) -> str:
    try:
        return (folder / MARK_FILE).read_text().strip()
    except OSError:
        return ""


def _create_mark(folder: Path, name: str) -> str:
    """If two machines create the mark at the same time, both read the same one afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError), (folder / MARK_FILE).open("x") as file:
            file.write(secrets.token_hex(8))
    except OSError as error:
        raise StorageError(name, "shared-folder.not-writable", folder=str(folder)) from error
    return _read_mark(folder)
