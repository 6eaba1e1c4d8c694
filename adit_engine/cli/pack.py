"""The archive on the command line: its password is asked for, and it is built when all has come."""

import argparse
import sys
from pathlib import Path
from typing import Any

from adit_engine.cli import node_url
from adit_engine.cli.report import Trip
from adit_engine.errors import AditError, WrongInput
from adit_engine.nodes.base import Bundle
from adit_engine.values.archive_password import checked_password


def password_for(options: argparse.Namespace) -> str:
    """Empty where the destination is no archive. Raises WrongInput before anything is fetched."""
    kind, name, _ = node_url.parsed(options.destination)
    if kind != "archive":
        if options.password_file:
            raise WrongInput("--password-file is for a destination such as archive:FILE.7z.")
        return ""
    target = Path(name)
    there = [target, *target.parent.glob(f"{target.stem}-part*.7z")]
    if any(path.exists() for path in there):
        raise WrongInput(f"{name}: there is such a file already. Choose another name.")
    if options.password_file:
        return checked_password(node_url.text_of(options.password_file))
    if not sys.stdin.isatty():
        raise WrongInput("Give the archive's password by --password-file: nobody can be asked.")
    from getpass import getpass  # takes long to load, and is seldom needed

    password = checked_password(getpass("Password of the archive: "))
    if getpass("Once more: ") != password:
        raise WrongInput("The two passwords differ.")
    return password


def pack(trip: Trip, node: Any, password: str) -> None:
    """Builds the archive of all that was gathered; what is gathered goes when it is built."""
    if not node.gathered:
        node.forget()
        return
    try:
        for packed in node.pack(_bundle(trip, node), password, trip.stop):
            trip.archives.append(str(Path(node.settings.path, packed.name)))
    except AditError as error:
        trip.broke(str(error))
        trip.undo("not-packed", "the 7-Zip file could not be built")
        return
    node.forget()


def _bundle(trip: Trip, node: Any) -> Bundle:
    _, name, _ = node_url.parsed(trip.options.destination)
    gathered = node.gathered
    size_bytes = sum(one.size_bytes for one in gathered)
    return Bundle(Path(name).stem, len(gathered), size_bytes, gathered)
