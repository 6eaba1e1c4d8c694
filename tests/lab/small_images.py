"""Small synthetic CT images."""

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, generate_uid

from adit_engine.values.instance import EXPLICIT_LE, Instance


def ct(with_values: Dataset) -> Instance:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName = "Nobody^Nora"
    dataset.PatientID = "0815"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F"
    dataset.StudyDate = "20240102"
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.update(with_values)
    dataset.PixelData = bytes(32)
    dataset["PixelData"].VR = "OW"
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, dataset)
    return Instance.from_data_set(
        CTImageStorage, dataset.SOPInstanceUID, EXPLICIT_LE, file.getvalue()
    )
