"""Parse node URLs of the command line, such as dimse://CALLED@host:port, or a plain path.

Used by all subcommands of adit-engine.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from adit_engine import nodes
from adit_engine.dicom_file.atomic import to_storage_error
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes.base import SupportsConcurrentListing
from adit_engine.storage_scp.pending_moves import MoveReceiver

_PARAMETERS = {
    "retrieve": "retrieve",
    "calling": "calling_ae_title",
    "domain": "domain",
    "name": "certificate_name",
}
_TLS_FILES = {
    "ca_file": "ca_certificate",
    "certificate_file": "client_certificate",
    "key_file": "client_key",
}
_TLS_ONLY = ("certificate_name", "least_tls")


@contextmanager
def open_url(
    url: str, *, make: bool = False, reception: MoveReceiver | None = None
) -> Iterator[Any]:
    """Open the node of a URL or plain path. `make` creates a missing folder."""
    kind, name, settings = parse_url(url)
    capabilities = nodes.get_capabilities(kind)
    if make and capabilities.folder_settings:
        try:
            Path(settings["path"]).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise to_storage_error(name, error) from error
    node: Any = nodes.open_node(kind, name, settings, reception=reception)
    if isinstance(node, SupportsConcurrentListing):
        # On the command line there is no limit of connections to keep.
        node.lists_concurrently = True
    if capabilities.is_archive:
        node.set_archive_title(Path(name).stem)
    try:
        yield node
    finally:
        node.close()


def parse_url(url: str) -> tuple[str, str, dict[str, Any]]:
    """Return kind, display name and settings. Raise InvalidInput."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme == "folder" or "/" in scheme:
        path = rest if colon and scheme == "folder" else url
        if not path:
            raise InvalidInput("cli.folder-without-path")
        whole = os.path.abspath(path)
        # Whichever way the path was written, the patient IDs in it are the same.
        return "folder", path, {"path": whole, "domain": whole}
    if scheme == "archive":
        return _parse_archive(rest)
    if scheme in ("dicomweb+http", "dicomweb+https"):
        return _parse_dicomweb(url.removeprefix("dicomweb+"))
    if scheme not in ("dimse", "dimse+tls"):
        raise InvalidInput("cli.unknown-node-url", scheme=scheme)
    return _parse_dimse(url)


def is_same_location(one: str, other: str) -> bool:
    (kind, _, settings), (other_kind, _, other_settings) = parse_url(one), parse_url(other)
    if kind != other_kind or not nodes.get_capabilities(kind).has_delivery_list:
        return False
    place, other_place = str(settings["path"]), str(other_settings["path"])
    return os.path.realpath(place) == os.path.realpath(other_place)


def state_folder() -> Path:
    """Return the folder for ledgers of the command line (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "adit"


def read_text_file(path: str) -> str:
    """Return the content of a text file, such as a certificate. Raise InvalidInput."""
    try:
        return Path(path).read_text().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or Message("clause.not-a-text-file")
        raise InvalidInput("cli.file-unreadable", path=path, reason=reason) from None


def _parse_archive(path: str) -> tuple[str, str, dict[str, Any]]:
    """Staged files are placed next to the future archive, readable only by the current user."""
    if not path.endswith(".7z"):
        raise InvalidInput("cli.archive-url")
    name = os.path.abspath(path)
    folder = os.path.dirname(name)
    return "archive", name, {"path": folder, "staging": os.path.join(folder, ".adit-gathered")}


def _parse_dimse(url: str) -> tuple[str, str, dict[str, Any]]:
    """Certificates and key of dimse+tls come from files: ca_file, certificate_file, key_file."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.username or not parts.hostname or port is None:
        raise InvalidInput("cli.dimse-url")
    called = unquote(parts.username)
    settings: dict[str, Any] = {"called_ae_title": called, "host": parts.hostname, "port": port}
    secure, asked = parts.scheme == "dimse+tls", []
    if secure:
        settings["transport"] = "tls"
    else:
        # A node that serves one association at a time does not keep the second one waiting; only a
        # TLS handshake would wait for it.
        settings["store_associations"] = 2
    for key, value in parse_qsl(parts.query, True):
        name = _PARAMETERS.get(key, key)
        if not secure and (key in _TLS_FILES or name in _TLS_ONLY):
            raise InvalidInput("cli.tls-parameter", key=key)
        if name == "transport":
            raise InvalidInput("cli.transport-parameter")
        if name in _TLS_FILES.values():
            raise InvalidInput("cli.tls-files")
        if key in _TLS_FILES:
            settings[_TLS_FILES[key]] = read_text_file(value)
        else:
            asked.append((key, value))
    settings.update(_parse_settings("dimse", "DIMSE", asked))
    return "dimse", called, settings


def _parse_dicomweb(url: str) -> tuple[str, str, dict[str, Any]]:
    """Read password or token from a file (password_file, token_file).

    Other users can see the command line. A user who enters an address here may also call this
    machine, so that is allowed.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname or parts.password is not None:
        raise InvalidInput("cli.dicomweb-url")
    _, _, place = parts.netloc.rpartition("@")
    settings: dict[str, Any] = {
        "url": urlunsplit((parts.scheme, place, parts.path, "", "")),
        "allow_local": True,
    }
    if parts.username:
        settings.update(user=unquote(parts.username), sign_in="basic")
    asked = []
    for key, value in parse_qsl(parts.query, True):
        if key in ("password", "token"):
            raise InvalidInput("cli.secret-in-url", key=key)
        if key in ("password_file", "token_file"):
            settings[key.removesuffix("_file")] = read_text_file(value)
            settings["sign_in"] = "basic" if key == "password_file" else "bearer"
        else:
            asked.append((key, value))
    settings.update(_parse_settings("dicomweb", "DICOMweb", asked))
    return "dicomweb", place, settings


def _parse_settings(kind: str, words: str, asked: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parse the settings after the ? of a URL."""
    known = {field.name: field.type for field in fields(nodes.kind_class(kind).Settings)}
    found = {}
    for key, value in asked:
        name = _PARAMETERS.get(key, key)
        if name not in known:
            raise InvalidInput("cli.unknown-setting", key=key, kind=words)
        found[name] = _convert_value(known[name], key, value)
    return found


def _convert_value(kind: Any, key: str, value: str) -> Any:
    text = getattr(kind, "__name__", str(kind))
    try:
        if text.startswith("int"):
            return int(value)
        if text.startswith("float"):
            return float(value)
    except ValueError:
        raise InvalidInput("cli.not-a-number", key=key) from None
    return value.lower() in ("1", "true", "yes", "on") if text == "bool" else value
