"""Synthetic objects for tests: small CT images of fictitious patients."""

from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from adit_engine.dicom_file import part10
from adit_engine.values.instance import Instance

ROOT = "1.2.826.0.1.3680043.8.498.77"


def ct(number: int = 1, *, study: str = "1", series: str = "1", **changes: object) -> Dataset:
    """Return a CT image of 16 x 16. Keywords override attributes, or remove them if None."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{ROOT}.{study}.{series}.{number}"
    ds.StudyDate = "20240229"
    ds.SeriesDate = "20240229"
    ds.StudyTime = "101500"
    ds.AccessionNumber = "ACC20240229"
    ds.Modality = "CT"
    ds.Manufacturer = "Sample Devices"
    ds.InstitutionName = "Klinikum Beispielstadt"
    ds.ReferringPhysicianName = "Überweiser^Ulrich"
    ds.StudyDescription = "Thorax Verlaufskontrolle"
    ds.SeriesDescription = f"Serie {series}"
    ds.PatientName = "Mustermann^Änne"
    ds.PatientID = "PID-4711-0815"
    ds.PatientBirthDate = "19560412"
    ds.PatientSex = "F"
    ds.SliceThickness = "1.0"
    ds.KVP = "120"
    ds.StudyInstanceUID = f"{ROOT}.{study}"
    ds.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    ds.StudyID = "S1"
    ds.SeriesNumber = series
    ds.AcquisitionNumber = "1"
    ds.InstanceNumber = str(number)
    ds.ImagePositionPatient = ["0", "0", str(number)]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.FrameOfReferenceUID = f"{ROOT}.{study}.9"
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 16
    ds.PixelSpacing = ["1", "1"]
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    ds.RescaleIntercept = "-1024"
    ds.RescaleSlope = "1"
    ds.PixelData = bytes((number + i) % 251 if i % 2 == 0 else 0 for i in range(512))
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def file_bytes(ds: Dataset, *, explicit: bool = True) -> bytes:
    """Return the data set as a Part 10 file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def instance(ds: Dataset, *, explicit: bool = True) -> Instance:
    return part10.parse_file(file_bytes(ds, explicit=explicit))
