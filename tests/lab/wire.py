"""A TCP proxy between a node and its peer that causes a fault after a number of bytes."""

import socket
import struct
import threading
from contextlib import suppress

HARMS = ("delay", "rate", "stall", "trickle", "cut", "reset", "blackhole", "flip")


class Wire:
    """Forwards bytes until the peer has sent `after_bytes`; then causes the fault `how`.

    cut (FIN), reset (RST), stall (silence, the connection stays), delay (`amount` seconds before
    each chunk), rate (`amount` bytes per second), trickle (one byte each `amount` seconds), flip
    (one bit of that byte), blackhole (nothing passes in either direction from the start). Bytes are
    counted over all connections, so that a repeated run breaks at the same position. `forth`
    applies to the bytes that the node sends instead; `heals` removes the fault for all connections
    after it occurred. `source` is the local address of connections to the peer.
    """

    def __init__(
        self,
        peer_port: int,
        after_bytes: int,
        how: str,
        *,
        amount: float = 0.05,
        forth: bool = False,
        heals: bool = False,
        source: str = "",
    ) -> None:
        self._peer_port = peer_port
        self._left = after_bytes
        self._how = how
        self._amount = amount
        self._forth = forth
        self._heals = heals
        self._source = (source, 0) if source else None
        self._over = threading.Event()
        self._counting = threading.Lock()
        self._is_healed = False
        self._open: list[socket.socket] = []
        self.connections = 0
        self.reached = threading.Event()
        """Set as soon as the fault has begun for the node or the peer."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> "Wire":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                self._open.append(near)
                if self._how == "blackhole":
                    self.reached.set()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._peer_port), 30, self._source)
                except OSError:
                    near.close()  # the peer is temporarily unavailable
                    continue
                far.settimeout(None)
                self._open.append(far)
                for source, target, counted in (
                    (near, far, self._forth),
                    (far, near, not self._forth),
                ):
                    thread = threading.Thread(target=self._pass, args=(source, target, counted))
                    self._threads.append(thread)
                    thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            self._pass_on(source, target, counted)
        except OSError:
            # If one side is gone, close both directions.
            for one in (source, target):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        while data := source.recv(4096):
            good = self._unharmed(len(data)) if counted else len(data)
            target.sendall(data[:good])
            if good < len(data) and not self._harm(target, data[good:]):
                return
        target.shutdown(socket.SHUT_WR)

    def _unharmed(self, size: int) -> int:
        """Return how many of the received bytes pass unchanged.

        The lock ensures that only one connection is harmed before `heals` takes effect.
        """
        with self._counting:
            if self._is_healed:
                return size
            self._left -= size
            self._is_healed = self._heals and self._left < 0
            return max(0, size + min(0, self._left))

    def _harm(self, target: socket.socket, rest: bytes) -> bool:
        """Apply the fault to the bytes `rest`; return whether the connection continues."""
        how = self._how
        if how == "flip" and not self.reached.is_set():
            rest = bytes([rest[0] ^ 1]) + rest[1:]
        if how == "cut":
            target.shutdown(socket.SHUT_RDWR)
        elif how == "reset":
            # A thread blocked in recv would keep the socket open.
            target.shutdown(socket.SHUT_RD)
            target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            target.close()
        self.reached.set()
        if how == "trickle":
            return all(self._later(target, rest[n : n + 1], self._amount) for n in range(len(rest)))
        if how == "delay":
            return self._later(target, rest, self._amount)
        if how == "rate":
            return self._later(target, rest, len(rest) / self._amount)
        if how == "flip":
            target.sendall(rest)
            return True
        return False

    def _later(self, target: socket.socket, data: bytes, seconds: float) -> bool:
        if self._over.wait(seconds):
            return False
        target.sendall(data)
        return True
