"""Execute one order in a separate process and print how much memory it needed.

    large.py SERVICE PORT FOLDER

SERVICE is get, move or web (from the peer at PORT to FOLDER), or store or stow (to the peer).
"""

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))

from lab.orders import change_for  # noqa: E402
from lab.samples import ROOT  # noqa: E402

from adit_engine.bounded_stream import Stop  # noqa: E402
from adit_engine.nodes.dicomweb.node import DicomwebNode, DicomwebSettings  # noqa: E402
from adit_engine.nodes.dimse.node import DimseNode  # noqa: E402
from adit_engine.nodes.dimse.settings import DimseSettings  # noqa: E402
from adit_engine.nodes.folder import FolderNode, FolderSettings  # noqa: E402
from adit_engine.storage_scp.inbox import LocalMoveReceiver  # noqa: E402
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings  # noqa: E402
from adit_engine.storage_scp.spool import Spool  # noqa: E402
from adit_engine.transfer.study import StudyRequest, transfer  # noqa: E402
from adit_engine.values.outcome import SeriesOutcome  # noqa: E402
from adit_engine.values.references import StudyRef  # noqa: E402

LOOK_S = 0.01


class Memory:
    """Peak of anonymous and shared memory in MiB; pages of mapped files do not count."""

    def __init__(self) -> None:
        self.most_mib = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            status = Path("/proc/self/status").read_text()
            held = sum(map(int, re.findall(r"Rss(?:Anon|Shmem):\s+(\d+)", status)))
            self.most_mib = max(self.most_mib, held / 1024)


@contextmanager
def receiving(folder: Path) -> Iterator[LocalMoveReceiver]:
    """Run a receiver in this process, on the port that the peer knows."""
    spool = Spool(folder, 0)
    reception = LocalMoveReceiver(spool, "ADIT", "this machine")
    port = int(os.environ["RECEIVER_PORT"])
    with StorageScp(StorageScpSettings("ADIT", "127.0.0.1", port), spool, reception):
        yield reception


def main(service: str, port: int, folder: Path) -> None:
    with ExitStack() as stack:
        shelf = FolderNode("Folder", FolderSettings(path=str(folder), reserve_mb=0))
        peer: DimseNode | DicomwebNode
        if service in ("web", "stow"):
            url = f"http://127.0.0.1:{port}/"
            peer = DicomwebNode("PEER", DicomwebSettings(url, allow_local=True))
        else:
            settings = DimseSettings(
                called_ae_title="PEER",
                host="127.0.0.1",
                port=port,
                retrieve=service if service == "move" else "get",
            )
            reception = None
            if service == "move":
                reception = stack.enter_context(receiving(folder.parent / "spool"))
            peer = DimseNode("PEER", settings, reception)
        out = service in ("store", "stow")
        source, destination = (shelf, peer) if out else (peer, shelf)
        order = StudyRequest(StudyRef(f"{ROOT}.1"), "PID-4711-0815")
        with Memory() as memory:
            told = list(transfer(order, source, destination, change_for("LUNG"), {}, Stop()))
        outcomes = [str(one.completeness) for one in told if isinstance(one, SeriesOutcome)]
        print(json.dumps({"outcomes": outcomes, "most_mib": memory.most_mib}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
