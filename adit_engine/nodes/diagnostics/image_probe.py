"""Attempt: one image fetched by one way, with its time and size, or the reason why it did not come.
Dummy: a made-up image of nobody, to see whether a node takes and keeps one.
Detour: why the image of a C-MOVE did not reach us, as far as our own receiver can tell."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from io import BytesIO

from adit_engine.dicom_file import part10
from adit_engine.dicom_ul import statuses
from adit_engine.errors import (
    AditError,
    CannotDo,
    ConnectionLost,
    Malformed,
    NodeError,
    NodeRefused,
    NotFound,
    Stopped,
    WrongInput,
)
from adit_engine.nodes.base import Finding, Grade, Proof, Proposal, Storable, Stored
from adit_engine.storage_scp.pending_moves import Fate, Reception, Sender, Stray, senders
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.references import InstanceRef

_FAILURES = (NodeError, NotFound, WrongInput)
_NOTHING = "The PACS said that it was done, and sent nothing."


@dataclass(frozen=True, slots=True)
class Attempt:
    """`way` is such as C-GET. `reason` is a sentence; empty when the image came."""

    way: str
    seconds: float
    size_bytes: int = 0
    reason: str = ""
    error: AditError | None = None
    """What the node did not do, where it was that."""

    @property
    def came(self) -> bool:
        return not self.reason

    def finding(self, next_step: str = "") -> Finding:
        if self.came:
            size = f"{self.size_bytes / 1e6:.2f} MB" if self.size_bytes > 5000 else "a few kB"
            what = f"By {self.way} the image came: {size} in {_time(self.seconds)}."
            return Finding(Grade.GOOD, what)
        what = f"By {self.way} the image did not come ({_time(self.seconds)}). {self.reason}"
        return Finding(Grade.BAD, what, next_step)


@dataclass(frozen=True, slots=True)
class Limit:
    """How long an attempt may take. `break_off` ends the fetch, as a node's own does."""

    within_s: float
    break_off: Callable[[], None]


def attempted(
    way: str, image: InstanceRef, fetch: Callable[[], Iterator[Instance]], limit: Limit
) -> Attempt:
    """Fetches now. Raises Stopped where somebody else than the limit ended it."""
    over = threading.Event()

    def end() -> None:
        over.set()
        limit.break_off()

    timer = threading.Timer(limit.within_s, end)
    timer.daemon = True
    started = time.monotonic()
    timer.start()
    try:
        with closing(fetch()) as instances:  # type: ignore[type-var]  # generators all
            found = [one for one in instances if one.instance_uid == image.instance_uid]
    except _FAILURES as error:
        return Attempt(way, time.monotonic() - started, reason=str(error), error=error)
    except Stopped:
        if not over.is_set():
            raise
        reason = f"Nothing had come within {limit.within_s:g} s."
        return Attempt(way, time.monotonic() - started, reason=reason)
    finally:
        timer.cancel()
    reason = _what_is_wrong(found[0], image) if found else _NOTHING
    size_bytes = found[0].size_bytes if found else 0
    return Attempt(way, time.monotonic() - started, size_bytes, reason)


def _what_is_wrong(found: Instance, image: InstanceRef) -> str:
    if found.fault:
        return f"What came cannot be read: {found.fault}"
    try:
        is_it = found.in_header.ref == image
    except (Malformed, WrongInput) as error:
        return f"What came cannot be read: {error}"
    return "" if is_it else "What came is another image than its label says."


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


PATIENT_ID = "ADIT-TEST"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_PARTS = ("study", "series", "image")
_SIDE = 64


def dummy(sender: str) -> Instance:
    """Always the same object of one sender, so that trying again leaves no second one."""
    from pydicom.dataset import Dataset, FileMetaDataset  # takes long to load
    from pydicom.uid import UID

    study, series, uid = (UID(_uid(f"{part} of {sender}")) for part in _PARTS)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = UID(EXPLICIT_LE)
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = UID(SECONDARY_CAPTURE)
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = uid
    one.StudyInstanceUID, one.SeriesInstanceUID = study, series
    one.PatientID, one.PatientName = PATIENT_ID, "Test^ADIT"
    one.PatientBirthDate = one.PatientSex = one.ReferringPhysicianName = one.AccessionNumber = ""
    one.StudyDate, one.StudyTime, one.StudyID = "20260101", "120000", "1"
    one.StudyDescription = "ADIT test image, may be deleted"
    one.Modality, one.ConversionType = "OT", "SYN"
    one.SeriesNumber = one.InstanceNumber = 1
    one.PatientOrientation = ""
    one.Rows = one.Columns = _SIDE
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
    one.PixelData = bytes((x ^ y) * 4 & 0xFF for x in range(_SIDE) for y in range(_SIDE))
    file = BytesIO()
    one.save_as(file, enforce_file_format=True)
    return part10.parse(file.getvalue())


def _uid(text: str) -> str:
    return f"2.25.{int.from_bytes(sha256(f'ADIT test {text}'.encode()).digest()[:15])}"


Confirm = Callable[[Sequence[Stored]], Iterable[Proof]]


def sent(
    node: Storable, instance: Instance, confirm: Confirm | None = None
) -> Generator[Finding, None, bool]:
    """Stores it and asks whether it is kept, by `confirm` or else as the node does.

    Says at the end whether it was taken at all. Never raises NodeError.
    """
    started, taken = time.monotonic(), False
    try:
        stored = next(iter(node.store([instance])))
        if not stored.kept:
            what = f"{node.name} did not take the test image: {stored.error}."
            yield Finding(Grade.BAD, what, "Ask its administrator to allow us to store images.")
            return False
        taken = True
        took_ms = (time.monotonic() - started) * 1000
        what = f"{node.name} took the test image ({took_ms:.0f} ms"
        yield Finding(Grade.GOOD, f"{what}; {stored.warning})." if stored.warning else f"{what}).")
        proofs = set((confirm or node.confirm)([stored]))
        yield _proof(node, stored.ref.instance_uid in proofs)
    except CannotDo as error:
        yield Finding(Grade.WARNING, f"Whether it keeps the test image cannot be told. {error}")
    except NodeError as error:
        yield Finding(Grade.BAD, str(error), "Mend this before anything is sent there.")
    return taken


def _proof(node: Storable, kept: bool) -> Finding:
    if kept:
        what = f"{node.name} keeps it, as patient {PATIENT_ID}; it may be deleted there."
        return Finding(Grade.GOOD, what)
    return Finding(
        Grade.WARNING,
        f"{node.name} did not list the test image afterwards.",
        "It may file images late, or under another patient. Ask its administrator where patient "
        f"{PATIENT_ID} is.",
    )


MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Detour:
    """What the settings of the node `name` say of its senders: as text, and what it comes to."""

    name: str
    text: str
    known: tuple[Sender, ...]
    reception: Reception

    def findings(self, attempt: Attempt, began: datetime) -> Iterator[Finding]:
        """The attempt's own finding first, then who came instead. May look for some seconds."""
        strays = _each_once(self.reception.strays(self.name, began))
        yield attempt.finding("" if strays or _says_why(attempt) else self._nobody())
        for stray in strays[:MOST_TOLD]:
            yield self._stray(stray)

    def _nobody(self) -> str:
        title, address = self.reception.ae_title, self.reception.address
        return (
            "Our receiver saw no stranger meanwhile, so probably nothing reached it. Ask its "
            f"administrator whether {title} is registered at {address}, and the network team "
            "whether the PACS reaches that port."
        )

    def _stray(self, stray: Stray) -> Finding:
        who, title = f"{stray.calling} at {stray.address}", self.reception.ae_title
        if stray.fate is Fate.TURNED_AWAY and stray.called != title:
            what = f"Meanwhile {who} called us {stray.called}; our AE title is {title}."
            step = f"If that is {self.name}, ask its administrator to register {title} instead."
            return Finding(Grade.WARNING, what, step)
        what = {
            Fate.TURNED_AWAY: f"Meanwhile our receiver turned away {who}, whom it does not know.",
            Fate.REFUSED: f"The image came from {who}, who is no sender of this PACS; it was refused.",
            Fate.LAID_APART: f"The image came from {who}, who is no sender of this PACS; it lies in "
            "quarantine.",
        }[stray.fate]
        proposal = self._proposal(stray)
        step = f"If that belongs to {self.name}, add it to the senders: {stray.calling}@{stray.address}."
        return Finding(Grade.WARNING, what, step, (proposal,) if proposal else ())

    def _proposal(self, stray: Stray) -> Proposal | None:
        """None for a title that cannot be written so."""
        addition = f"{stray.calling}@{stray.address}"
        try:
            if [one.ae_title for one in senders(addition)] != [stray.calling]:
                return None
        except WrongInput:
            return None
        before = self.text.strip() or ", ".join(_written(one) for one in self.known)
        why = f"So images are taken that come from {stray.calling} at {stray.address}."
        return Proposal("senders", f"{before}, {addition}".strip(", "), why)


def _says_why(attempt: Attempt) -> bool:
    """Whether the error itself names what to register, and where."""
    error = attempt.error
    known = isinstance(error, NodeRefused) and error.status == statuses.UNKNOWN_DESTINATION
    return known or isinstance(error, ConnectionLost)


def _each_once(strays: Sequence[Stray]) -> list[Stray]:
    """Those that surely answer this node, and only without any, who was turned away."""
    sure = [one for one in strays if one.source] or list(strays)
    return list({(one.calling, one.called, one.address): one for one in sure}.values())


def _written(sender: Sender) -> str:
    places = [f"{sender.ae_title}@{network}" for network in sender.networks]
    return ", ".join(places) or sender.ae_title
