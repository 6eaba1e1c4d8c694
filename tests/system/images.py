"""Synthetic images: a CT study with a secondary capture, a long study, an ultrasound clip."""

from io import BytesIO

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from adit.demo.glyphs import draw

ROOT = "1.2.826.0.1.3680043.8.498.55"
PATIENT_ID = "PID-4711-0815"
PATIENT_NAME = "Mustermann^Änne"
IDENTIFYING = (
    "Mustermann",
    "Änne",
    PATIENT_ID,
    "PID-LONG-1",
    "19560412",
    "ACC20240229",
    "Beispielstadt",
    "Überweiser",
    ROOT,
)
SLICES = {1: 12, 2: 20, 3: 4}
"""Number of images by series number."""
STUDY = f"{ROOT}.1"
LONG_STUDY = f"{ROOT}.2"
LONG_ID = "PID-LONG-1"
LONG = 300


def study() -> list[bytes]:
    """36 CT images in three series and one secondary capture in a fourth, as files."""
    slices = [ct(series, number) for series, n in SLICES.items() for number in range(1, n + 1)]
    return [*slices, capture()]


def long_study() -> list[bytes]:
    """Study of another patient, large enough to kill a worker during its transfer."""
    return [ct(1, number, study=LONG_STUDY, PatientID=LONG_ID) for number in range(1, LONG + 1)]


def ct(series: int, number: int, *, study: str = STUDY, **values: str) -> bytes:
    ds = _patient(study, series, number)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.Modality = "CT"
    ds.SeriesDescription = f"Thorax {series}"
    ds.SliceThickness, ds.KVP = "1.0", "120"
    ds.AcquisitionNumber = "1"
    ds.ImagePositionPatient = ["0", "0", str(number)]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.FrameOfReferenceUID = f"{study}.9"
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 128
    ds.PixelSpacing = ["1", "1"]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = 0
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    y, x = np.mgrid[0:128, 0:128]
    body = ((x - 64) ** 2 / 50**2 + (y - 64) ** 2 / (30 + number) ** 2 < 1) * (900 + 10 * number)
    ds.PixelData = body.astype("<u2").tobytes()
    # Use both transfer syntaxes, because archives hold both.
    return _file(ds, ImplicitVRLittleEndian if number % 2 else ExplicitVRLittleEndian)


def capture(study: str = STUDY, patient_id: str = PATIENT_ID) -> bytes:
    ds = _patient(study, 99, 1)
    ds.PatientID = patient_id
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.Modality = "OT"
    ds.ConversionType = "WSD"
    ds.SeriesDescription = "Screenshot"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelRepresentation = 0
    ds.PixelData = bytes(256)
    return _file(ds, ExplicitVRLittleEndian)


def _patient(study: str, series: int, number: int) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPInstanceUID = f"{study}.{series}.{number}"
    ds.StudyDate = ds.SeriesDate = "20240229"
    ds.StudyTime = "101500"
    ds.AccessionNumber = "ACC20240229"
    ds.Manufacturer = "Sample Devices"
    ds.InstitutionName = "Klinikum Beispielstadt"
    ds.ReferringPhysicianName = "Überweiser^Ulrich"
    ds.StudyDescription = "Thorax Verlauf"
    ds.PatientName = PATIENT_NAME
    ds.PatientID = PATIENT_ID
    ds.PatientBirthDate = "19560412"
    ds.PatientSex = "F"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = f"{study}.{series}"
    ds.StudyID = "S1"
    ds.SeriesNumber = str(series)
    ds.InstanceNumber = str(number)
    return ds


def _file(ds: Dataset, syntax: UID) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


CLIP_ROWS, CLIP_COLUMNS, CLIP_FRAMES, CLIP_BAND = 120, 320, 3, 20
"""Size of an ultrasound clip; CLIP_BAND is the number of top rows with burned-in text."""


def clip_pixels() -> np.ndarray:
    """Pixels (frames, rows, columns): noise without black, and the name in each band."""
    noise = np.random.default_rng(5)
    frames = noise.integers(10, 200, (CLIP_FRAMES, CLIP_ROWS, CLIP_COLUMNS), dtype=np.uint8)
    for frame in frames:
        draw(frame, [PATIENT_NAME.replace("^", " ")], (3, 4), 2)
    return frames


def clip(study: str, *, compressed: bool, patient_id: str = PATIENT_ID) -> bytes:
    """Ultrasound clip in a separate series of a study."""
    ds = _patient(study, 7, 1)
    ds.PatientID = patient_id
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.Modality = "US"
    ds.Manufacturer, ds.ManufacturerModelName = "Sonomaker", "S9"
    ds.SoftwareVersions = "V1.2"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SeriesDescription = "Liver"
    ds.NumberOfFrames = str(CLIP_FRAMES)
    ds.FrameTime = "40"
    ds.FrameIncrementPointer = 0x00181063
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = CLIP_ROWS, CLIP_COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelRepresentation = 0
    ds.PixelData = clip_pixels().tobytes()
    if not compressed:
        return _file(ds, ExplicitVRLittleEndian)
    plain = dcmread(BytesIO(_file(ds, ExplicitVRLittleEndian)))
    plain.compress(RLELossless, generate_instance_uid=False)
    return _file(plain, RLELossless)
