"""Made-up studies of the sizes that hospitals send: CT, MR and mammography."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.66"
_FIRST, _DIFFERENT_PIXELS = 100000, 8


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of image; `header_bytes` is the approximate size of a scanner's header."""

    modality: str
    class_uid: str
    rows: int
    columns: int
    header_bytes: int = 10_700

    @property
    def instance_bytes(self) -> int:
        return self.rows * self.columns * 2 + self.header_bytes


CT = Kind("CT", "1.2.840.10008.5.1.4.1.1.2", 512, 512)
MR = Kind("MR", "1.2.840.10008.5.1.4.1.1.4", 256, 256)
MG = Kind("MG", "1.2.840.10008.5.1.4.1.1.1.2", 5000, 3000)


@dataclass(frozen=True, slots=True)
class Study:
    """One study. `number` distinguishes the studies of one run."""

    kind: Kind
    count: int
    number: int = 1
    series: int = 1
    """Number of series; the images are spread evenly."""

    @property
    def uid(self) -> str:
        return f"{ROOT}.{self.number}.{self.count}.{self.kind.rows}"

    @property
    def megabytes(self) -> float:
        return self.count * self.kind.instance_bytes / 1e6

    def __str__(self) -> str:
        size = self.kind.instance_bytes
        each = f"{size / 1e6:.0f} MB" if size > 1e6 else f"{size / 1e3:.0f} kB"
        spread = f" in {self.series} series" if self.series > 1 else ""
        return f"{self.count} {self.kind.modality} x {each}{spread}"

    @property
    def series_uids(self) -> tuple[str, ...]:
        return tuple(f"{self.uid}.{number + 1}" for number in range(self.series))


def write(study: Study, folder: Path) -> None:
    """Write one Part 10 file per instance."""
    folder.mkdir(parents=True)
    for number, parts in enumerate(files(study)):
        with (folder / f"{number:05}.dcm").open("wb") as file:
            file.writelines(parts)


def files(study: Study) -> Iterator[tuple[bytes, bytes]]:
    """Yield header and pixels of each file.

    The header is encoded once per series; only UID and number differ.
    """
    templates = [_encoded(_header(study, uid)) for uid in study.series_uids]
    pixels = _pixels(study.kind)
    first = str(_FIRST).encode()
    for number in range(study.count):
        header = templates[number * study.series // study.count].replace(
            first, str(_FIRST + number).encode()
        )
        yield header, pixels[number % len(pixels)]


def _pixels(kind: Kind) -> list[bytes]:
    """Return 12-bit noise, so that no tool can save work by compression."""
    random = numpy.random.default_rng(1)
    count = 2 if kind.instance_bytes > 1e6 else _DIFFERENT_PIXELS
    shape = (count, kind.rows * kind.columns)
    return [row.tobytes() for row in random.integers(0, 4096, shape, dtype=numpy.uint16)]


def _encoded(ds: Dataset) -> bytes:
    """Return the file up to the first pixel byte; the pixel data length is included."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    size = ds.Rows * ds.Columns * 2
    ds.PixelData = bytes(size)
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()[:-size]


def _header(study: Study, series_uid: str) -> Dataset:
    kind, ds = study.kind, Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = kind.class_uid
    ds.SOPInstanceUID = f"{study.uid}.1.{_FIRST}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.uid, series_uid
    ds.FrameOfReferenceUID = f"{study.uid}.9"
    _person(ds, study)
    _origin(ds, kind)
    _series(ds, kind)
    _image(ds, kind)
    _private(ds, kind.header_bytes - len(_encoded(_copy(ds))))
    return ds


def _copy(ds: Dataset) -> Dataset:
    other = Dataset()
    other.update(ds)
    return other


def _person(ds: Dataset, study: Study) -> None:
    ds.PatientName, ds.PatientID = "Messreihe^Marta", f"BENCH-{study.number:04}"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19610504", "F", "063Y"
    ds.PatientSize, ds.PatientWeight = "1.70", "70"
    ds.OtherPatientIDs = ["X-1", "X-2"]
    ds.PatientAddress, ds.PatientTelephoneNumbers = "Beispielweg 1", "000"
    ds.EthnicGroup, ds.AdditionalPatientHistory = "unknown", "a made-up person"


def _origin(ds: Dataset, kind: Kind) -> None:
    for what in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{what}Date", "20240229")
        setattr(ds, f"{what}Time", "101500.123000")
    ds.InstanceCreationDate, ds.InstanceCreationTime = "20240229", "101501.5"
    ds.AccessionNumber, ds.StudyID, ds.Modality = "ACC4711", "S1", kind.modality
    ds.Manufacturer, ds.ManufacturerModelName = "Sample Devices", "Scanner 3000"
    ds.InstitutionName, ds.InstitutionAddress = "Klinikum Beispielstadt", "Ring 1"
    ds.StationName, ds.DeviceSerialNumber, ds.SoftwareVersions = "STATION1", "12345", ["A1", "B2"]
    ds.ReferringPhysicianName, ds.PerformingPhysicianName = "Arzt^Anna", "Arzt^Bert"
    ds.OperatorsName, ds.StudyDescription = "Technik^Toni", "Thorax Verlauf"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Thorax"
    ds.ProcedureCodeSequence = [code]
    for number in range(4):
        item = Dataset()
        item.ReferencedSOPClassUID = kind.class_uid
        item.ReferencedSOPInstanceUID = f"{ROOT}.5.{number}"
        images = [*ds.get("ReferencedImageSequence", []), item]
        ds.ReferencedImageSequence = images
    request = Dataset()
    request.ScheduledProcedureStepDescription = "Thorax"
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "1", "2"
    ds.RequestAttributesSequence = [request]


def _series(ds: Dataset, kind: Kind) -> None:
    ds.SeriesDescription, ds.ProtocolName = f"{kind.modality} series", "Protocol"
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "1", "1", str(_FIRST)
    ds.BodyPartExamined, ds.PatientPosition = "CHEST", "HFS"
    ds.PerformedProcedureStepID, ds.PerformedProcedureStepStartDate = "1", "20240229"
    if kind is CT:
        ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime, ds.Exposure = "120", "200", "500", "100"
        ds.ConvolutionKernel, ds.FilterType = "B30f", "0"
        ds.DataCollectionDiameter = ds.ReconstructionDiameter = "500"
        ds.GantryDetectorTilt, ds.TableHeight, ds.RotationDirection = "0", "150", "CW"
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    elif kind is MR:
        ds.ScanningSequence, ds.SequenceVariant, ds.MRAcquisitionType = "GR", "SP", "3D"
        ds.RepetitionTime, ds.EchoTime, ds.FlipAngle = "5", "2", "10"
        ds.MagneticFieldStrength, ds.ImagingFrequency, ds.EchoNumbers = "3", "123.2", "1"
        ds.NumberOfAverages, ds.PercentSampling, ds.PixelBandwidth = "1", "100", "500"
    else:
        ds.ViewPosition, ds.ImageLaterality, ds.KVP = "CC", "L", "28"
        ds.PresentationIntentType, ds.BurnedInAnnotation = "FOR PRESENTATION", "NO"


def _image(ds: Dataset, kind: Kind) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    if kind is not MG:
        ds.SliceThickness, ds.SpacingBetweenSlices, ds.SliceLocation = "1.0", "1.0", "7.5"
        ds.ImagePositionPatient = ["-250", "-250", "7.5"]
        ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        ds.PositionReferenceIndicator = ""
    ds.PixelSpacing = ["0.97", "0.97"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = kind.rows, kind.columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = ["40", "-600"], ["400", "1200"]
    ds.SmallestImagePixelValue, ds.LargestImagePixelValue = 0, 4095


def _private(ds: Dataset, size: int) -> None:
    """Private elements as vendors write them: many short values and one long one."""
    block = ds.private_block(0x0019, "SAMPLE DEVICES 1", create=True)
    for number in range(30):
        block.add_new(number + 1, "LO", f"private value {number}")
    long = ds.private_block(0x0029, "SAMPLE DEVICES 2", create=True)
    long.add_new(0x10, "OB", bytes(max(size - 1200, 0) // 2 * 2))
