"""The faults that a test PACS can simulate, and the log of what it really did."""

import fcntl
import hashlib
import select
import socket
import struct
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from pydicom import dcmread

from adit.demo.pacs_index import FolderIndex, StoredInstance
from adit_engine.dicom_file import part10
from adit_engine.values.instance import Instance


class Kind(StrEnum):
    """Kind of fault; a fault at the n-th instance is counted within each request."""

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
    DUPLICATE = "says that it has an image already"
    NO_STATUS = "leaves out how it ended"
    ADMIT = "names a failed instance and reports success all the same"
    EXHAUSTED = "is out of resources"
    REJECT = "refuses us for good"
    NO_CLASS = "has nothing to do with this class of images"
    IMPLICIT_ONLY = "takes only Implicit VR Little Endian"
    PRESENTS = "makes a presentation state at retrieval"
    SLOW = "needs long for its first image"
    OTHER_TITLE = "sends its images under another AE title"
    HALF = "falls silent in the middle of a message"
    TRICKLE = "goes on byte by byte"
    HUGE = "announces four gigabytes"
    FIN = "closes the connection in the middle of a message"
    RST = "resets the connection in the middle of a message"
    VOUCH = "reports that it keeps what it does not"
    BOAST = "reports on images that it was not asked about"


class Part(StrEnum):
    """The service that a fault affects, in DIMSE or DICOMweb."""

    FIND = "search"
    GET = "retrieval"
    MOVE = "retrieval by C-MOVE"
    SUB = "what a C-MOVE sends"
    STORE = "storage"
    COMMIT = "report of what it keeps"


BREAKS = (Kind.STALL, Kind.ABORT, Kind.HALF, Kind.TRICKLE, Kind.HUGE, Kind.FIN, Kind.RST)


@dataclass(frozen=True, slots=True)
class Lie:
    """A fault: `at` is the instance (or the length of a list), `times` how often it occurs.

    `on` is the affected service; None for any.
    """

    kind: Kind
    at: int = 0
    times: int = 1
    on: Part | None = None


@dataclass(frozen=True)
class Site:
    """AE title, stored objects, and the C-MOVE destinations by AE title."""

    ae_title: str
    index: FolderIndex
    peers: Mapping[str, tuple[str, int]] = field(default_factory=dict)


SLOW_S = 2.5
"""Longer than `no_progress_s` and shorter than `first_byte_s` of the tests."""


class Over(Exception):
    """A connection was interrupted on purpose."""


PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
_TRICKLE_S = 0.4
_ARRIVES_WITHIN_S = 30.0
_KEEPING = (Kind.NO_ROOM, Kind.ADMIT, Kind.FORGET, Kind.COERCE, Kind.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Sent:
    """One sub-operation or part as sent; `status` is the response of the peer, or None."""

    instance_uid: str
    sha256: str
    kind: Kind | None
    status: int | None
    late: bool = False
    """Whether it was sent after success had been reported."""


@dataclass
class Log:
    """What was really sent and stored, and which faults occurred."""

    sent: list[Sent] = field(default_factory=list)
    stored: list[Sent] = field(default_factory=list)
    reports: list[int | None] = field(default_factory=list)
    """Our response to each Storage Commitment report; None if it did not reach us."""
    lies: Counter[Kind] = field(default_factory=Counter)


class Liar:
    """A server in threads of this process for the objects of a site. Use it with `with`."""

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
        self.begin(self._listen)
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
        """Serve one connection until either side ends it."""
        raise NotImplementedError

    def begin(self, action: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=action, args=arguments, name="lying archive", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while not self._ending.is_set():
                one, _ = self._listener.accept()
                self._open.add(one)
                if self._ending.is_set():  # after the others were closed
                    one.close()
                    break
                self.begin(self._serve, one)

    def _serve(self, one: socket.socket) -> None:
        try:
            self.converse(one)
        finally:
            self._open.discard(one)
            one.close()

    # Faults ------------------------------------------------------------------------------------

    def tells(self, kind: Kind, at: int | None = None, on: Part | None = None) -> Lie | None:
        """Return and count the fault that is due now, or None."""
        with self._lock:
            for lie in self._lies:
                fits = lie.kind is kind and lie.on in (None, on) and at in (None, lie.at)
                if fits and self._told[lie] < lie.times:
                    self._told[lie] += 1
                    self.log.lies[kind] += 1
                    return lie
        return None

    def breaks(self, at: int, on: Part) -> Kind | None:
        """Return how the n-th message is to be interrupted, or None."""
        return next((kind for kind in BREAKS if self.tells(kind, at, on)), None)

    def break_off(
        self, one: socket.socket, how: Kind, whole: bytes, *, huge: bytes, abort: bytes = b""
    ) -> None:
        """Send the part of a message that such a fault lets through. Raises Over.

        `huge` announces 4 GiB; `abort` is the abort of the protocol, by default a reset.
        """
        with suppress(OSError):
            if how is Kind.HUGE:
                one.sendall(huge)
            elif how is Kind.ABORT and abort:
                one.sendall(abort)
            elif how is Kind.TRICKLE:
                for n in range(len(whole)):
                    one.sendall(whole[n : n + 1])
                    if self._ending.wait(_TRICKLE_S):
                        break
            elif how not in (Kind.STALL, Kind.ABORT):
                one.sendall(whole[: len(whole) // 2])
            if how is Kind.FIN:
                one.shutdown(socket.SHUT_RDWR)
            elif how is Kind.RST or (how is Kind.ABORT and not abort):
                _arrive(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how is not Kind.ABORT:
                self._stay_silent(one)
        one.close()
        raise Over(how)

    def _stay_silent(self, one: socket.socket) -> None:
        """Wait until the other side has gone or the server ends."""
        while not self._ending.wait(0.02):
            if select.select([one], [], [], 0)[0] and not one.recv(65536):
                break

    def wait_for_tape(self, on: Part) -> None:
        if self.tells(Kind.SLOW, on=on):
            self._ending.wait(SLOW_S)

    def cut_list(self, level: str | None, found: list[dict[str, str]]) -> list[dict[str, str]]:
        """Return the matches of a query with the faults applied."""
        if level == "IMAGE" and len(found) > 1 and (lie := self.tells(Kind.CAP, on=Part.FIND)):
            found = found[: lie.at]
        if found and level == "SERIES" and self.tells(Kind.FOREIGN, on=Part.FIND):
            stranger = {"PatientID": "FOREIGN", "SeriesInstanceUID": "1.2.3"}
            found = [*found, {**found[0], **stranger}]
        if found and self.tells(Kind.TWICE, on=Part.FIND):
            found = [*found, found[0]]
        for values in found if level == "SERIES" else ():
            if self.tells(Kind.COUNTS, on=Part.FIND):
                values["NumberOfSeriesRelatedInstances"] = "999"
            if self.tells(Kind.OMIT, on=Part.FIND):
                for keyword in ("NumberOfSeriesRelatedInstances", "SeriesNumber", "PatientID"):
                    values.pop(keyword, None)
        return found

    def ways(self, at: int, on: Part) -> list[Kind | None]:
        """Return how to send the n-th instance: not at all, once, altered, or repeatedly."""
        if self.tells(Kind.DROP, at, on):
            return []
        ways: list[Kind | None] = [None]
        for kind in (Kind.TRUNCATE, Kind.FOREIGN):
            if self.tells(kind, at, on):
                ways = [kind]
        if self.tells(Kind.TWICE, at, on):
            ways *= 2
        if self.tells(Kind.TWIN, at, on):
            ways.append(Kind.TWIN)
        return ways

    def altered(self, held: StoredInstance, kind: Kind | None) -> StoredInstance:
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

    def keep(self, arrived: Instance) -> Kind | None:
        """Store an instance with the faults applied; return the fault, if any."""
        at = len(self.log.stored)
        lied = next((kind for kind in _KEEPING if self.tells(kind, at, Part.STORE)), None)
        data = b"".join(arrived.parts())
        if lied is Kind.COERCE:
            data = foreign(data)
        if lied in (None, Kind.COERCE, Kind.DUPLICATE):
            self.site.index.store(part10.file_head(arrived) + data)
        digest = hashlib.sha256(data).hexdigest()
        self.log.stored.append(Sent(arrived.instance_uid, digest, lied, None))
        return lied


def _arrive(one: socket.socket) -> None:
    """Wait until the peer has received everything, since a reset discards unsent data."""
    until = time.monotonic() + _ARRIVES_WITHIN_S
    while int.from_bytes(fcntl.ioctl(one, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
        if time.monotonic() > until:
            break
        time.sleep(0.001)


def presentation_state(beside: StoredInstance, folder: Path) -> StoredInstance:
    """Return a presentation state as some PACS create for annotations at retrieval."""
    made = dcmread(beside.path)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = PRESENTATION_STATE
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{beside.uid}.99"
    made.SeriesInstanceUID = f"{made.StudyInstanceUID}.99"
    made.Modality = "PR"
    del made.PixelData
    own = folder / f"state-{threading.get_ident()}"
    own.mkdir(exist_ok=True)
    made.save_as(own / "state.dcm")
    (study,) = holdings(own).studies.values()
    return next(study.instances())


def foreign(content: bytes) -> bytes:
    """Return the object with another patient ID of the same length."""
    tag = content.find(b"\x10\x00\x20\x00LO")
    size = struct.unpack_from("<H", content, tag + 6)[0]
    other = b"FOREIGN".ljust(size, b"9")[:size]
    return content[: tag + 8] + other + content[tag + 8 + size :]


def holdings(folder: Path) -> FolderIndex:
    """Read the index of a folder; servers may share it as long as none of them stores."""
    made = FolderIndex(folder)
    made.load()
    return made
