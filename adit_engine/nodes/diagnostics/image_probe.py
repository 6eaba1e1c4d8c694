"""Fetch one image by one method, store a test image, and diagnose a failed C-MOVE.

Used by the tests of the DIMSE, DICOMweb and folder nodes.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
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
from adit_engine.messages import Message
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
_NOTHING_SENT = Message("fetch.nothing-sent")


@dataclass(frozen=True, slots=True)
class FetchAttempt:
    """The result of one fetch.

    `way` is such as C-GET. `reason` is None when the image arrived.
    """

    method: str | Message
    seconds: float
    size_bytes: int = 0
    reason: Message | None = None
    error: AditError | None = None
    """The error of the node, if it raised one."""

    @property
    def is_successful(self) -> bool:
        return self.reason is None

    def finding(self, next_step: Message | None = None) -> NodeFinding:
        values = {"method": self.method, "duration": _format_seconds(self.seconds)}
        if self.reason is not None:
            what = Message("test.image-not-received", reason=self.reason, **values)
            return NodeFinding(Grade.BAD, what, next_step)
        size = (
            Message("clause.megabytes", size=f"{self.size_bytes / 1e6:.2f}")
            if self.size_bytes > 5000
            else Message("clause.few-kilobytes")
        )
        return NodeFinding(Grade.GOOD, Message("test.image-received", size=size, **values))


@dataclass(frozen=True, slots=True)
class FetchLimit:
    """How long an attempt may take.

    `break_off` ends the fetch, as the method of a node does.
    """

    within_s: float
    cancel: Callable[[], None]


def attempt_fetch(
    method: str | Message,
    image: InstanceRef,
    fetch: Callable[[], Iterator[Instance]],
    limit: FetchLimit,
) -> FetchAttempt:
    """Fetch one image now. Raises Stopped if anything but the limit ended it."""
    over = threading.Event()

    def end() -> None:
        over.set()
        limit.cancel()

    timer = threading.Timer(limit.within_s, end)
    timer.daemon = True
    started = time.monotonic()
    timer.start()
    try:
        with closing(fetch()) as instances:  # type: ignore[type-var]  # generators all
            found = [one for one in instances if one.instance_uid == image.instance_uid]
    except _FETCH_ERRORS as error:
        return FetchAttempt(method, time.monotonic() - started, reason=error.message, error=error)
    except Stopped:
        if not over.is_set():
            raise
        reason = Message("fetch.nothing-in-time", seconds=f"{limit.within_s:g}")
        return FetchAttempt(method, time.monotonic() - started, reason=reason)
    finally:
        timer.cancel()
    mismatch = _describe_mismatch(found[0], image) if found else _NOTHING_SENT
    size_bytes = found[0].size_bytes if found else 0
    return FetchAttempt(method, time.monotonic() - started, size_bytes, mismatch)


def _describe_mismatch(found: Instance, image: InstanceRef) -> Message | None:
    if found.defect is not None:
        return Message("fetch.unreadable", error=found.defect)
    try:
        is_it = found.in_header.ref == image
    except (Malformed, InvalidInput) as error:
        return Message("fetch.unreadable", error=error.message)
    return None if is_it else Message("fetch.other-image")


def _format_seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


TEST_PATIENT_ID = "ADIT-TEST"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_UID_LEVELS = ("study", "series", "image")
_IMAGE_SIZE = 64


def make_test_image(sender: str, number: int = 1, size: int = _IMAGE_SIZE) -> Instance:
    """Return a test image of `size` pixels squared, always the same for one sender and number.

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
    if number > 1:
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = UID(
            _derive_uid(f"image {number} of {sender}")
        )
    one.SeriesNumber, one.InstanceNumber = 1, number
    one.PatientOrientation = ""
    one.Rows = one.Columns = size
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
    one.PixelData = _make_pixels(size)
    file = BytesIO()
    one.save_as(file, enforce_file_format=True)
    return part10.parse_file(file.getvalue())


@cache
def _make_pixels(size: int) -> bytes:
    return bytes((x ^ y) * 4 & 0xFF for x in range(size) for y in range(size))


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
        if stored.error is not None:
            what = Message("test.image-refused", node=node.name, reason=stored.error)
            yield NodeFinding(Grade.BAD, what, Message("step.allow-storing"))
            return False
        taken = True
        took_ms = f"{(time.monotonic() - started) * 1000:.0f}"
        what = Message("test.image-accepted", node=node.name, milliseconds=took_ms)
        if stored.warning is not None:
            what = Message(
                "test.image-accepted-with-warning",
                node=node.name,
                milliseconds=took_ms,
                warning=stored.warning,
            )
        yield NodeFinding(Grade.GOOD, what)
        proofs = set((confirm or node.confirm)([stored]))
        yield _confirmation_finding(node, stored.ref.instance_uid in proofs)
    except NotSupported as error:
        yield NodeFinding(Grade.WARNING, Message("test.storage-unverifiable", error=error.message))
    except NodeError as error:
        yield NodeFinding(Grade.BAD, error.message, Message("step.fix-destination"))
    return taken


def _confirmation_finding(node: Storable, confirmed: bool) -> NodeFinding:
    if confirmed:
        what = Message("test.image-stored", node=node.name, patient_id=TEST_PATIENT_ID)
        return NodeFinding(Grade.GOOD, what)
    return NodeFinding(
        Grade.WARNING,
        Message("test.image-not-listed", node=node.name),
        Message("step.image-not-listed", patient_id=TEST_PATIENT_ID),
    )


MAX_REPORTED = 5

_UNEXPECTED_CODES = {
    Disposition.REJECTED: "test.sender-rejected",
    Disposition.REFUSED: "test.sender-refused",
    Disposition.QUARANTINED: "test.sender-quarantined",
}


@dataclass(frozen=True, slots=True)
class MoveDiagnosis:
    """Finds out why the image of a C-MOVE did not reach our receiver.

    `text` is the setting `senders` of the node `name`, `known` the senders that it resolves to.
    """

    name: str
    text: str
    known: tuple[AllowedSender, ...]
    reception: MoveReceiver

    def findings(self, attempt: FetchAttempt, started_at: datetime) -> Iterator[NodeFinding]:
        """Yield the finding of the attempt, then who sent instead.

        May wait for some seconds.
        """
        strays = _without_duplicates(self.reception.unexpected_since(self.name, started_at))
        yield attempt.finding(
            None if strays or _explains_itself(attempt) else self._describe_no_sender()
        )
        for stray in strays[:MAX_REPORTED]:
            yield self._unexpected_finding(stray)

    def _describe_no_sender(self) -> Message:
        title, address = self.reception.ae_title, self.reception.address
        return Message("step.no-sender", ae_title=title, address=address)

    def _unexpected_finding(self, arrival: UnexpectedArrival) -> NodeFinding:
        sender = {"sender": arrival.calling, "sender_address": arrival.address}
        title = self.reception.ae_title
        if arrival.disposition is Disposition.REJECTED and arrival.called != title:
            what = Message(
                "test.wrong-called-title", called_title=arrival.called, ae_title=title, **sender
            )
            step = Message("step.correct-called-title", node=self.name, ae_title=title)
            return NodeFinding(Grade.WARNING, what, step)
        proposal = self._proposal(arrival)
        return NodeFinding(
            Grade.WARNING,
            Message(_UNEXPECTED_CODES[arrival.disposition], **sender),
            Message("step.add-sender", node=self.name, **sender),
            (proposal,) if proposal else (),
        )

    def _proposal(self, arrival: UnexpectedArrival) -> SettingProposal | None:
        """Return a proposal; None for an AE title that cannot be written this way."""
        addition = f"{arrival.calling}@{arrival.address}"
        try:
            if [one.ae_title for one in parse_senders(addition)] != [arrival.calling]:
                return None
        except InvalidInput:
            return None
        before = self.text.strip() or ", ".join(_format_sender(one) for one in self.known)
        why = Message("proposal.senders", sender=arrival.calling, sender_address=arrival.address)
        return SettingProposal("senders", f"{before}, {addition}".strip(", "), why)


def _explains_itself(attempt: FetchAttempt) -> bool:
    """Return whether the error itself names what to register, and where."""
    error = attempt.error
    known = isinstance(error, NodeRefused) and error.status == statuses.UNKNOWN_DESTINATION
    return known or isinstance(error, ConnectionLost)


def _without_duplicates(arrivals: Sequence[UnexpectedArrival]) -> list[UnexpectedArrival]:
    """Return arrivals without duplicates.

    These are the arrivals that certainly belong to this node; only if there are none, the rejected
    senders.
    """
    sure = [one for one in arrivals if one.source] or list(arrivals)
    return list({(one.calling, one.called, one.address): one for one in sure}.values())


def _format_sender(sender: AllowedSender) -> str:
    places = [f"{sender.ae_title}@{network}" for network in sender.networks]
    return ", ".join(places) or sender.ae_title
