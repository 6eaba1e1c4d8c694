"""Run a receiver in the current process, for one command or one test.

Used by the command line.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.storage_scp.inbox import LocalMoveReceiver
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings
from adit_engine.storage_scp.spool import Spool

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSettings


@contextmanager
def run_local_receiver(
    callers: Sequence[Mapping[str, Any]], port: int, folder: Path, tls: "TlsSettings | None" = None
) -> Iterator[LocalMoveReceiver]:
    """Receive what nodes send until the block ends.

    `callers` are settings values of nodes; the first one defines our AE title. The spool is created
    below `folder` and removed at the end. Raises InvalidInput if the port cannot be used.
    """
    known = [DimseSettings(**values) for values in callers]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_abandoned_spools(folder)
    with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=folder) as place:
        spool, title = Spool(Path(place)), known[0].calling_ae_title
        address = Message("clause.this-machine", port=port)
        senders = [sender for given in known for sender in given.resolve_senders()]
        reception = LocalMoveReceiver(spool, title, address, senders)
        try:
            receiver = StorageScp(StorageScpSettings(title, port=port, tls=tls), spool, reception)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or Message("clause.no-such-port")
            raise InvalidInput("receiver.port-unusable", port=port, reason=reason) from None
        with receiver:
            yield reception


def _remove_abandoned_spools(folder: Path) -> None:
    """Remove the spools of commands that ended without removing them."""
    for path in folder.iterdir():
        pid = path.name.partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
