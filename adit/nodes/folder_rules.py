"""Which folders a node may use. Checked when a node is saved and each time it is opened.

A folder of a node must not be in or above a folder of ADIT itself, a system directory, or a folder
in which another node gathers unencrypted images. `folders` in the data folder is for nodes.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from adit.nodes.models import Node
from adit_engine.errors import StorageError
from adit_engine.messages import Message
from adit_engine.nodes import get_capabilities, kinds_with

FOR_NODES = "folders"
"""A folder in the data folder. Each node has its own folder in it."""
PATH, STAGING = "path", "staging"

_SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root"),
    *("/run", "/sbin", "/sys", "/usr", "/var/backups", "/var/cache", "/var/lib", "/var/lock"),
    *("/var/log", "/var/mail", "/var/run", "/var/spool"),
)
_ADIT = Message("clause.used-by-adit")
_PROGRAM = Message("clause.used-by-program")
_OS = Message("clause.used-by-system")

_Mark = str | tuple[int, int]
"""A path, or device and inode: a folder may have two paths, for example by a mount."""


class FolderRefused(StorageError):
    """The folder in the setting `setting` must not be used."""

    def __init__(self, node: str, code: str, /, setting: str, **values: Any) -> None:
        super().__init__(node, code, **values)
        self.setting = setting


@dataclass(frozen=True, slots=True)
class _Reserved:
    """A folder that is used for something else. For a file only its parent folders are refused."""

    path: str
    purpose: Message
    is_file: bool = False
    is_asked: bool = True
    """Whether the file system is accessed. A network share of another node may block."""


def folder_kinds() -> list[str]:
    """Return the kinds of nodes with folders on this machine."""
    return kinds_with(lambda kind: kind.folder_settings)


def validate_folders(row: Node, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the folders in the settings of a node with all links resolved.

    Empty and relative paths are left out: the kind decides about them. Raise FolderRefused.
    """
    given = {name: str(values.get(name) or "") for name in row.capabilities.folder_settings}
    found = {
        name: _resolve_links(row, name, path) for name, path in given.items() if os.path.isabs(path)
    }
    for name, real in found.items():
        reserved = _find_conflict(real, _all_reserved(row, name, found))
        if reserved is not None:
            raise FolderRefused(
                row.name,
                "node-folder.reserved-or-empty"
                if row.capabilities.is_archive
                else "node-folder.reserved",
                setting=name,
                path=_describe_path(given[name], real),
                reserved=reserved.path,
                purpose=reserved.purpose,
                own=os.path.join(settings.DATA_DIR, FOR_NODES),
            )
    return found


def _resolve_links(row: Node, name: str, path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        raise FolderRefused(row.name, "node-folder.not-a-path", setting=name) from None


def _all_reserved(row: Node, name: str, found: Mapping[str, str]) -> Iterator[_Reserved]:
    yield from _reserved_by_adit()
    yield from (_Reserved(path, _OS) for path in _SYSTEM)
    if name == PATH and STAGING in found:
        yield _Reserved(found[STAGING], Message("clause.used-for-own-images"))
    others = Node.objects.filter(kind__in=folder_kinds()).exclude(pk=row.pk)
    for other, kind, given in others.values_list("name", "kind", "settings"):
        if STAGING in get_capabilities(kind).folder_settings and given.get(STAGING):
            path = os.path.realpath(given[STAGING])
            # Several such nodes may gather in one folder: each job has its own subfolder.
            if name != STAGING or path != found[STAGING]:
                yield _Reserved(path, Message("clause.used-for-images", node=other))
        if name == STAGING and given.get(PATH):
            path = os.path.normpath(given[PATH])
            files = Message("clause.used-for-files", node=other)
            yield _Reserved(path, files, is_asked=False)


def _reserved_by_adit() -> Iterator[_Reserved]:
    for folder in (
        settings.DATA_DIR,
        settings.SPOOL_DIR,
        settings.ARCHIVE_DIR,
        settings.GATHERED_DIR,
        settings.STATIC_ROOT,
        settings.BROKER_DIR,
    ):
        yield _Reserved(os.path.realpath(folder), _ADIT)
    files = [
        settings.KEY_FILE,
        settings.SECRET_KEY_FILE,
        settings.RECEIVER_TLS_KEY or settings.RECEIVER_TLS_CERTIFICATE,
    ]
    if settings.EMBEDDED:
        files.append(settings.DATABASES["default"]["NAME"])
    for file in filter(None, map(str, files)):
        yield _Reserved(os.path.realpath(file), _ADIT, is_file=True)
    for place in {str(settings.PROJECT_DIR), sys.prefix, sys.base_prefix} - {"/"}:
        yield _Reserved(os.path.realpath(place), _PROGRAM)


def _find_conflict(real: str, every: Iterable[_Reserved]) -> _Reserved | None:
    """The first reserved folder that is the folder, contains it, or is in it."""
    here, around = _marks(real), _marks_around(real)
    excused = _above_allowed() if _is_allowed(real) else set()
    for one in every:
        there = _marks(one.path) if one.is_asked else {one.path}
        is_inside = not one.is_file and not around.isdisjoint(there)
        if is_inside and excused.isdisjoint(there):
            return one
        if not here.isdisjoint(_marks_around(one.path, is_asked=one.is_asked)):
            return one
    return None


def _is_allowed(real: str) -> bool:
    """Whether it is below the folder for nodes, unless that is a link, which may lead anywhere."""
    allowed = Path(os.path.realpath(settings.DATA_DIR), FOR_NODES)
    return str(allowed) == os.path.realpath(allowed) and allowed in Path(real).parents


def _above_allowed() -> set[_Mark]:
    return _marks_around(os.path.realpath(settings.DATA_DIR))


def _marks(path: str) -> set[_Mark]:
    found: set[_Mark] = {path}
    with suppress(OSError):
        seen = os.stat(path)
        found.add((seen.st_dev, seen.st_ino))
    return found


def _marks_around(path: str, *, is_asked: bool = True) -> set[_Mark]:
    """The marks of a folder and all its parents."""
    every = (path, *map(str, Path(path).parents))
    return {mark for step in every for mark in (_marks(step) if is_asked else {step})}


def _describe_path(given: str, real: str) -> str | Message:
    if os.path.normpath(given) == real:
        return given
    return Message("clause.linked-path", path=given, target=real)
