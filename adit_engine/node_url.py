"""Node URL: how a node is named on the command line: dimse://CALLED@host:port, folder:PATH, PATH."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from adit_engine import nodes
from adit_engine.errors import WrongInput

_SHORT = {"retrieve": "retrieve", "calling": "calling_ae_title", "domain": "domain"}


@contextmanager
def opened(url: str, *, make: bool = False) -> Iterator[Any]:
    """The node behind a URL or a plain path. `make` creates a folder that is not there yet."""
    kind, name, settings = parsed(url)
    if make and kind == "folder":
        Path(settings["path"]).mkdir(parents=True, exist_ok=True)
    node = nodes.open(kind, name, settings)
    try:
        yield node
    finally:
        node.close()


def parsed(url: str) -> tuple[str, str, dict[str, Any]]:
    """Kind, a name for messages, and settings. Raises WrongInput."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme == "folder" or "/" in scheme:
        path = rest if colon and scheme == "folder" else url
        if not path:
            raise WrongInput("folder: needs a path.")
        return "folder", path, {"path": os.path.abspath(path)}
    if scheme != "dimse":
        raise WrongInput(f"{scheme}: is no kind of node; use dimse://CALLED@host:port or a path.")
    return _dimse(url)


def same_place(one: str, other: str) -> bool:
    return parsed(one)[0] == parsed(other)[0] == "folder" and os.path.realpath(
        parsed(one)[2]["path"]
    ) == os.path.realpath(parsed(other)[2]["path"])


def state_folder() -> Path:
    """Where the command line keeps ledgers (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "adit"


def _dimse(url: str) -> tuple[str, str, dict[str, Any]]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.username or not parts.hostname or port is None:
        raise WrongInput("Write dimse://CALLED@host:port, such as dimse://PACS1@10.0.0.5:104.")
    called = unquote(parts.username)
    settings: dict[str, Any] = {"called_ae_title": called, "host": parts.hostname, "port": port}
    known = {field.name: field.type for field in fields(nodes.kind_class("dimse").Settings)}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        name = _SHORT.get(key, key)
        if name not in known:
            raise WrongInput(f"{key} is no setting of a DIMSE node.")
        settings[name] = _typed(known[name], key, value)
    return "dimse", called, settings


def _typed(kind: Any, key: str, value: str) -> Any:
    text = getattr(kind, "__name__", str(kind))
    try:
        if text.startswith("int"):
            return int(value)
        if text.startswith("float"):
            return float(value)
    except ValueError:
        raise WrongInput(f"{key} is a number.") from None
    return value.lower() in ("1", "true", "yes", "on") if text == "bool" else value
