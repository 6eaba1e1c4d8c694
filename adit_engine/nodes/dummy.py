"""Dummy: a made-up image of nobody, to see whether a node takes and keeps one."""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from hashlib import sha256
from io import BytesIO

from adit_engine import part10
from adit_engine.errors import CannotDo, NodeError
from adit_engine.instance import EXPLICIT_LE, Instance
from adit_engine.nodes.base import Finding, Grade, Proof, Storable, Stored

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
