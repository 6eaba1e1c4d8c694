"""Common: folders that all machines of an installation share, told by a mark that lies in them.

What one machine gathers for a 7-Zip file another one packs, so both must have the same folder. The
mark is made with the first image; a machine that does not find it there uses another folder.
"""

import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from adit.nodes.models import Node, SharedFolder
from adit_engine.errors import StorageError
from adit_engine.nodes.base import Grade, NodeFinding

MARK_FILE = ".adit-folder"
GATHERED, ARCHIVES = "gathered", "archives"


class FolderNotShared(StorageError):
    """On this machine alone: another one may well do it."""

    again = True


def require_shared(row: Node, values: Mapping[str, Any]) -> None:
    """Before images are laid there. Raises FolderNotShared, StorageTrouble."""
    for word, folder in _list_shared_folders(row, values):
        if not _is_shared(word, folder, row.name):
            text = _(
                "the folder %(folder)s of the machine %(machine)s is not the one that the other "
                "machines use. Another one tries it later; ask staff to mend it: “adit doctor” on "
                "that machine says how"
            )
            words = {"folder": folder, "machine": socket.gethostname()}
            raise FolderNotShared(row.name, text % words)


def check_shared_folders() -> Iterator[NodeFinding]:
    """What doctor says of our own; touches nothing."""
    if settings.EMBEDDED:
        return
    for word, folder in ((ARCHIVES, settings.ARCHIVE_DIR), (GATHERED, settings.GATHERED_DIR)):
        known = SharedFolder.objects.filter(word=word).first()
        what = _("folder %(folder)s, shared by all machines") % {"folder": folder}
        if known is None or _read_mark(folder) == known.mark:
            yield NodeFinding(Grade.GOOD, what)
            continue
        step = _(
            "It is not the folder that other machines use: mount theirs here (ADIT_%(word)s). If it "
            "is new for all of them, lay a file %(name)s into it that holds %(mark)s."
        )
        words = {"word": word.upper(), "name": MARK_FILE, "mark": known.mark}
        yield NodeFinding(Grade.BAD, what, step % words)


def _list_shared_folders(row: Node, values: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """The folders of a node that machines have to share, each by the word of its mark."""
    if settings.EMBEDDED or row.kind != "archive":
        return
    if not row.settings.get("path"):
        yield ARCHIVES, Path(values["path"])
    word = f"{GATHERED}:{row.pk}" if row.settings.get("staging") else GATHERED
    yield word, Path(values["staging"])


def _is_shared(word: str, folder: Path, name: str) -> bool:
    mark = _read_mark(folder)
    known = SharedFolder.objects.filter(word=word).first()
    if known is None:
        mark = mark or _create_mark(folder, name)
        known, _is_new = SharedFolder.objects.get_or_create(word=word, defaults={"mark": mark})
    return mark == known.mark


def _read_mark(folder: Path) -> str:
    try:
        return (folder / MARK_FILE).read_text().strip()
    except OSError:
        return ""


def _create_mark(folder: Path, name: str) -> str:
    """Two machines that lay it at the same time in one folder read the same one afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError), (folder / MARK_FILE).open("x") as file:
            file.write(secrets.token_hex(8))
    except OSError as error:
        text = _("nothing can be written to the folder %(folder)s") % {"folder": folder}
        raise StorageError(name, text) from error
    return _read_mark(folder)
