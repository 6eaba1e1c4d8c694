"""Archive: a small PACS over a folder, run as a process of its own for the demo.

    python -m adit.demo.archive --ae-title DEMOPACS --port 11112 --folder PATH

It writes one line, `ready <port> <instances>`, when it answers, and ends on SIGTERM.
"""

import argparse
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from adit.demo.association import Association, Ended, Refused
from adit.demo.holdings import Holdings
from adit.demo.negotiation import Proposal
from adit.demo.services import Site, answer, choose

MAX_ASSOCIATIONS = 50


class Archive:
    """A PACS in this process, one thread for each association. Use it with `with`."""

    def __init__(
        self,
        ae_title: str,
        folder: Path,
        peers: Mapping[str, tuple[str, int]] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.site = Site(ae_title, Holdings(folder), dict(peers or {}))
        self._address = (host, port)
        self._listener: socket.socket | None = None
        self._open: dict[threading.Thread, socket.socket] = {}
        self._ending = threading.Event()

    @property
    def port(self) -> int:
        """The port we listen on; chosen by the system where it was given as 0."""
        if self._listener is None:
            raise RuntimeError("The archive has not been started.")
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Reads the folder and listens. Raises OSError when the port is taken."""
        self._listener = socket.create_server(self._address, backlog=64)
        self.site.holdings.load()
        threading.Thread(target=self._listen, name="archive", daemon=True).start()

    def stop(self) -> None:
        """Ends all conversations, without waiting for what the peers say."""
        self._ending.set()
        if self._listener is not None:
            _shut(self._listener)
        threads = list(self._open.items())
        for _, sock in threads:
            _shut(sock)
        for thread, _ in threads:
            thread.join(timeout=0.5)
        self.site.holdings.save()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self) -> None:
        while self._listener is not None and not self._ending.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._converse, args=(sock,), daemon=True)
            self._open[thread] = sock
            thread.start()

    def _converse(self, sock: socket.socket) -> None:
        try:
            association = Association.accepted(sock, self._choose)
            try:
                while (message := association.receive()) is not None:
                    answer(self.site, association, message)
            except (Ended, ValueError, struct.error):
                association.abort()
        except (Ended, Refused, OSError, ValueError, struct.error):
            pass  # the peer has gone, or was turned away: nothing is left to say
        finally:
            sock.close()
            self._open.pop(threading.current_thread(), None)

    def _choose(self, proposal: Proposal) -> dict[int, str | int]:
        if len(self._open) > MAX_ASSOCIATIONS:
            raise Refused(2, 3, 2)
        return choose(self.site, proposal)


def _shut(sock: socket.socket) -> None:
    """What really wakes a thread that waits on a socket."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        sock.close()


def _peer(text: str) -> tuple[str, tuple[str, int]]:
    ae_title, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    if not (ae_title and host and port.isdigit()):
        raise argparse.ArgumentTypeError("write a peer as AE=host:port")
    return ae_title, (host, int(port))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="adit.demo.archive", description=__doc__)
    parser.add_argument("--ae-title", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 chooses a free one")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--peer", type=_peer, action="append", default=[], help="AE=host:port")
    parser.add_argument(
        "--follow-parent", action="store_true", help="end with the process that started us"
    )
    given = parser.parse_args(arguments)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    parent = os.getppid() if given.follow_parent else None
    archive = Archive(
        given.ae_title, given.folder, dict(given.peer), host=given.host, port=given.port
    )
    try:
        archive.start()
    except OSError as error:
        print(
            f"{given.ae_title} cannot start: {error.strerror}, port {given.port}", file=sys.stderr
        )
        return 1
    print(f"ready {archive.port} {len(archive.site.holdings)}", flush=True)
    while not ending.wait(0.5) and parent in (None, os.getppid()):
        pass
    archive.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
