"""Fetch one image by one method, store a test image, and diagnose a failed C-MOVE.

Used by the tests of the DIMSE, DICOMweb and folder nodes.
"""

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
    ConnectionLost,
    InvalidInput,
    Malformed,
    NodeError,
    NodeRefused,
    NotFound,
    NotSupported,
    Stopped,
)
from adit_engine.nodes.base import (
    Grade,
    NodeFinding,
    SettingProposal,
    Storable,
    StorageConfirmation,
    StoreResult,
)
from adit_engine.storage_scp.pending_moves import (
    AllowedSender,
    Disposition,
    MoveReceiver,
    UnexpectedArrival,
    parse_senders,
)
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.references import InstanceRef

_FETCH_ERRORS = (NodeError, NotFound, InvalidInput)
_NOTHING_SENT = "The PACS said that it was done, and sent nothing."


@dataclass(frozen=True, slots=True)
class FetchAttempt:
    """The result of one fetch.

    `way` is such as C-GET. `reason` is a sentence; empty when the image arrived.
    """

    way: str
    seconds: float
    size_bytes: int = 0
    reason: str = ""
    error: AditError | None = None
    """The error of the node, if it raised one."""

    @property
    def came(self) -> bool:
        return not self.reason

    def finding(self, next_step: str = "") -> NodeFinding:
        if self.came:
            size = f"{self.size_bytes / 1e6:.2f} MB" if self.size_bytes > 5000 else "a few kB"
            what = f"By {self.way} the image came: {size} in {_format_seconds(self.seconds)}."
            return NodeFinding(Grade.GOOD, what)
        what = (
            f"By {self.way} the image did not come ({_format_seconds(self.seconds)}). {self.reason}"
        )
        return NodeFinding(Grade.BAD, what, next_step)


@dataclass(frozen=True, slots=True)
class FetchLimit:
    """How long an attempt may take.

    `break_off` ends the fetch, as the method of a node does.
    """

    within_s: float
    break_off: Callable[[], None]


def attempt_fetch(
    way: str, image: InstanceRef, fetch: Callable[[], Iterator[Instance]], limit: FetchLimit
) -> FetchAttempt:
    """Fetch one image now. Raises Stopped if anything but the limit ended it."""
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
    except _FETCH_ERRORS as error:
        return FetchAttempt(way, time.monotonic() - started, reason=str(error), error=error)
    except Stopped:
        if not over.is_set():
            raise
        reason = f"Nothing had come within {limit.within_s:g} s."
        return FetchAttempt(way, time.monotonic() - started, reason=reason)
    finally:
        timer.cancel()
    reason = _describe_mismatch(found[0], image) if found else _NOTHING_SENT
    size_bytes = found[0].size_bytes if found else 0
    return FetchAttempt(way, time.monotonic() - started, size_bytes, reason)


def _describe_mismatch(found: Instance, image: InstanceRef) -> str:
    if found.fault:
        return f"What came cannot be read: {found.fault}"
    try:
        is_it = found.in_header.ref == image
    except (Malformed, InvalidInput) as error:
        return f"What came cannot be read: {error}"
    return "" if is_it else "What came is another image than its label says."


def _format_seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


TEST_PATIENT_ID = "ADIT-TEST"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_UID_LEVELS = ("study", "series", "image")
_IMAGE_SIZE = 64


def make_test_image(sender: str) -> Instance:
    """Return the test image, always the same for one sender.

    So a repeated test adds no second one.
    """
    from pydicom.dataset import Dataset, FileMetaDataset  # slow to load
    from pydicom.uid import UID

    study, series, uid = (UID(_derive_uid(f"{part} of {sender}")) for part in _UID_LEVELS)
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = UID(EXPLICIT_LE)
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = UID(SECONDARY_CAPTURE)
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = uid
    one.StudyInstanceUID, one.SeriesInstanceUID = study, series
    one.PatientID, one.PatientName = TEST_PATIENT_ID, "Test^ADIT"
    one.PatientBirthDate = one.PatientSex = one.ReferringPhysicianName = one.AccessionNumber = ""
    one.StudyDate, one.StudyTime, one.StudyID = "20260101", "120000", "1"
    one.StudyDescription = "ADIT test image, may be deleted"
    one.Modality, one.ConversionType = "OT", "SYN"
    one.SeriesNumber = one.InstanceNumber = 1
    one.PatientOrientation = ""
    one.Rows = one.Columns = _IMAGE_SIZE
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
    one.PixelData = bytes(
        (x ^ y) * 4 & 0xFF for x in range(_IMAGE_SIZE) for y in range(_IMAGE_SIZE)
    )
    file = BytesIO()
    one.save_as(file, enforce_file_format=True)
    return part10.parse_file(file.getvalue())


def _derive_uid(text: str) -> str:
    return f"2.25.{int.from_bytes(sha256(f'ADIT test {text}'.encode()).digest()[:15])}"


ConfirmStored = Callable[[Sequence[StoreResult]], Iterable[StorageConfirmation]]


def send_test_image(
    node: Storable, instance: Instance, confirm: ConfirmStored | None = None
) -> Generator[NodeFinding, None, bool]:
    """Store a test image and check that it is stored.

    Checked by `confirm`, or else by the node. Returns whether the node accepted it at all. Never
    raises NodeError.
    """
    started, taken = time.monotonic(), False
    try:
        stored = next(iter(node.store([instance])))
        if not stored.kept:
            what = f"{node.name} did not take the test image: {stored.error}."
            yield NodeFinding(Grade.BAD, what, "Ask its administrator to allow us to store images.")
            return False
        taken = True
        took_ms = (time.monotonic() - started) * 1000
        what = f"{node.name} took the test image ({took_ms:.0f} ms"
        yield NodeFinding(
            Grade.GOOD, f"{what}; {stored.warning})." if stored.warning else f"{what})."
        )
        proofs = set((confirm or node.confirm)([stored]))
        yield _confirmation_finding(node, stored.ref.instance_uid in proofs)
    except NotSupported as error:
        yield NodeFinding(Grade.WARNING, f"Whether it keeps the test image cannot be told. {error}")
    except NodeError as error:
        yield NodeFinding(Grade.BAD, str(error), "Mend this before anything is sent there.")
    return taken


def _confirmation_finding(node: Storable, kept: bool) -> NodeFinding:
    if kept:
        what = f"{node.name} keeps it, as patient {TEST_PATIENT_ID}; it may be deleted there."
        return NodeFinding(Grade.GOOD, what)
    return NodeFinding(
        Grade.WARNING,
        f"{node.name} did not list the test image afterwards.",
        "It may file images late, or under another patient. Ask its administrator where patient "
        f"{TEST_PATIENT_ID} is.",
    )


MAX_REPORTED = 5


@dataclass(frozen=True, slots=True)
class MoveDiagnosis:
    """Finds out why the image of a C-MOVE did not reach our receiver.

    `text` is the setting `senders` of the node `name`, `known` the senders that it resolves to.
    """

    name: str
    text: str
    known: tuple[AllowedSender, ...]
    reception: MoveReceiver

    def findings(self, attempt: FetchAttempt, began: datetime) -> Iterator[NodeFinding]:
        """Yield the finding of the attempt, then who sent instead.

        May wait for some seconds.
        """
        strays = _without_duplicates(self.reception.strays(self.name, began))
        yield attempt.finding(
            "" if strays or _explains_itself(attempt) else self._describe_no_sender()
        )
        for stray in strays[:MAX_REPORTED]:
            yield self._unexpected_finding(stray)

    def _describe_no_sender(self) -> str:
        title, address = self.reception.ae_title, self.reception.address
        return (
            "Our receiver saw no stranger meanwhile, so probably nothing reached it. Ask its "
            f"administrator whether {title} is registered at {address}, and the network team "
            "whether the PACS reaches that port."
        )

    def _unexpected_finding(self, stray: UnexpectedArrival) -> NodeFinding:
        who, title = f"{stray.calling} at {stray.address}", self.reception.ae_title
        if stray.fate is Disposition.TURNED_AWAY and stray.called != title:
            what = f"Meanwhile {who} called us {stray.called}; our AE title is {title}."
            step = f"If that is {self.name}, ask its administrator to register {title} instead."
            return NodeFinding(Grade.WARNING, what, step)
        what = {
            Disposition.TURNED_AWAY: f"Meanwhile our receiver turned away {who}, whom it does not know.",
            Disposition.REFUSED: f"The image came from {who}, who is no sender of this PACS; it was refused.",
            Disposition.LAID_APART: f"The image came from {who}, who is no sender of this PACS; it lies in "
            "quarantine.",
        }[stray.fate]
        proposal = self._proposal(stray)
        step = f"If that belongs to {self.name}, add it to the senders: {stray.calling}@{stray.address}."
        return NodeFinding(Grade.WARNING, what, step, (proposal,) if proposal else ())

    def _proposal(self, stray: UnexpectedArrival) -> SettingProposal | None:
        """Return a proposal; None for an AE title that cannot be written this way."""
        addition = f"{stray.calling}@{stray.address}"
        try:
            if [one.ae_title for one in parse_senders(addition)] != [stray.calling]:
                return None
        except InvalidInput:
            return None
        before = self.text.strip() or ", ".join(_format_sender(one) for one in self.known)
        why = f"So images are taken that come from {stray.calling} at {stray.address}."
        return SettingProposal("senders", f"{before}, {addition}".strip(", "), why)


def _explains_itself(attempt: FetchAttempt) -> bool:
    """Return whether the error itself names what to register, and where."""
    error = attempt.error
    known = isinstance(error, NodeRefused) and error.status == statuses.UNKNOWN_DESTINATION
    return known or isinstance(error, ConnectionLost)


def _without_duplicates(strays: Sequence[UnexpectedArrival]) -> list[UnexpectedArrival]:
    """Return arrivals without duplicates.

    These are the arrivals that certainly belong to this node; only if there are none, the rejected
    senders.
    """
    sure = [one for one in strays if one.source] or list(strays)
    return list({(one.calling, one.called, one.address): one for one in sure}.values())


def _format_sender(sender: AllowedSender) -> str:
    places = [f"{sender.ae_title}@{network}" for network in sender.networks]
    return ", ".join(places) or sender.ae_title
