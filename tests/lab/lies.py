"""Lies: what an archive of the lab may do wrong, and the log of what it truly did."""

import hashlib
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from adit.demo.holdings import Arrival, Held, Holdings
from adit.demo.services import Site


class Kind(StrEnum):
    """How it lies; what happens at the n-th instance is counted within each request."""

    DROP = "drops an instance and counts it as sent"
    TWICE = "sends an instance twice"
    TWIN = "sends an instance again with other content"
    TRUNCATE = "sends an instance without its end"
    FOREIGN = "sends an instance under another patient's id"
    EARLY = "reports success before the images"
    COUNTS = "counts wrongly, in its answers and of its series"
    ENDLESS = "says pending for ever"
    STALL = "falls silent"
    ABORT = "aborts"
    REFUSE = "refuses to give images this way: no C-GET, no WADO-RS"
    BUSY = "refuses an association or a request for now"
    CAP = "cuts its lists of images short"
    OMIT = "leaves keys out of its answers"
    NOTHING = "reports success and sends nothing"
    FORGET = "takes an image and does not keep it"
    COERCE = "changes the patient's id of what it takes, with a warning"
    NO_ROOM = "has no room for an image"


@dataclass(frozen=True, slots=True)
class Lie:
    """`at`: the instance (or the length of a list); `times`: how often before it tells the truth."""

    kind: Kind
    at: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """One sub-operation or part as it truly was; `status` is the taker's answer, None for none."""

    instance_uid: str
    sha256: str
    kind: Kind | None
    status: int | None
    late: bool = False
    """Whether it came after success had been reported."""


@dataclass
class Log:
    """The truth: what was sent, what was taken in, and which lies were told."""

    sent: list[Sent] = field(default_factory=list)
    stored: list[Sent] = field(default_factory=list)
    lies: Counter[Kind] = field(default_factory=Counter)


class Liar:
    """Listens in threads of this process, over some holdings. Use it with `with`."""

    def __init__(self, site: Site, lies: Iterable[Lie], scratch: Path) -> None:
        self.site = site
        self.log = Log()
        self._lies = tuple(lies)
        self._told: Counter[Lie] = Counter()
        self._scratch = scratch
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "Liar":
        self._begin(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for one in (self._listener, *tuple(self._open)):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def converse(self, one: socket.socket) -> None:
        """One connection, until either side ends it."""
        raise NotImplementedError

    def _begin(self, action: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=action, args=arguments, name="lying archive", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while not self._ending.is_set():
                one, _ = self._listener.accept()
                self._open.add(one)
                self._begin(self._serve, one)

    def _serve(self, one: socket.socket) -> None:
        try:
            self.converse(one)
        finally:
            self._open.discard(one)
            one.close()

    # Lies --------------------------------------------------------------------------------------

    def tells(self, kind: Kind, at: int | None = None) -> Lie | None:
        """The lie that is told now, which is noted; None when the truth is told."""
        with self._lock:
            for lie in self._lies:
                fits = lie.kind is kind and (at is None or lie.at == at)
                if fits and self._told[lie] < lie.times:
                    self._told[lie] += 1
                    self.log.lies[kind] += 1
                    return lie
        return None

    def stay_silent(self, one: socket.socket) -> None:
        """Until the other side has gone or all is over."""
        while not self._ending.wait(0.02):
            if select.select([one], [], [], 0)[0] and not one.recv(65536):
                break

    def cut_list(self, level: str | None, found: list[dict[str, str]]) -> list[dict[str, str]]:
        """The answers to a search, as it lies about them."""
        if level == "IMAGE" and (lie := self.tells(Kind.CAP)):
            found = found[: lie.at]
        for values in found if level == "SERIES" else ():
            if self.tells(Kind.COUNTS):
                values["NumberOfSeriesRelatedInstances"] = "999"
            if self.tells(Kind.OMIT):
                for keyword in ("NumberOfSeriesRelatedInstances", "SeriesNumber", "PatientID"):
                    values.pop(keyword, None)
        return found

    def ways(self, at: int) -> list[Kind | None]:
        """How the n-th instance goes out: none at all, once, altered, or more than once."""
        if self.tells(Kind.DROP, at):
            return []
        ways: list[Kind | None] = [None]
        for kind in (Kind.TRUNCATE, Kind.FOREIGN):
            if self.tells(kind, at):
                ways = [kind]
        if self.tells(Kind.TWICE, at):
            ways *= 2
        if self.tells(Kind.TWIN, at):
            ways.append(Kind.TWIN)
        return ways

    def altered(self, held: Held, kind: Kind | None) -> Held:
        if kind is None:
            return held
        content = held.path.read_bytes()
        if kind is Kind.TRUNCATE:
            content = content[:-100]
        elif kind is Kind.TWIN:
            content = content[:-2] + bytes([content[-2] ^ 1, content[-1]])
        elif kind is Kind.FOREIGN:
            content = foreign(content)
        path = self._scratch / f"{kind.name}-{threading.get_ident()}-{held.uid}"
        path.write_bytes(content)
        return replace(held, path=path)

    def keep(self, arrival: Arrival) -> Kind | None:
        """Keeps an instance as it lies about keeping; says how it lied."""
        at = len(self.log.stored)
        lied = next(
            (k for k in (Kind.NO_ROOM, Kind.FORGET, Kind.COERCE) if self.tells(k, at)), None
        )
        data = foreign(bytes(arrival.data)) if lied is Kind.COERCE else bytes(arrival.data)
        if lied not in (Kind.NO_ROOM, Kind.FORGET):
            self.site.holdings.store(replace(arrival, data=data))
        digest = hashlib.sha256(data).hexdigest()
        self.log.stored.append(Sent(arrival.instance_uid, digest, lied, None))
        return lied


def foreign(content: bytes) -> bytes:
    """The same object with another patient's id of the same length."""
    tag = content.find(b"\x10\x00\x20\x00LO")
    size = struct.unpack_from("<H", content, tag + 6)[0]
    other = b"FOREIGN".ljust(size, b"9")[:size]
    return content[: tag + 8] + other + content[tag + 8 + size :]


def holdings(folder: Path) -> Holdings:
    """What lies in a folder, read once; archives may share it as long as nobody stores."""
    made = Holdings(folder)
    made.load()
    return made
