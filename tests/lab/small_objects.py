"""Small CT and MR objects to fill a PACS or to send to one."""

from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


def instance(uid: str, *, pixels: int = 2000, **values: object) -> FileDataset:
    """Return a small CT or MR object with the attributes `values`, by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = UID(uid)
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128))
    dataset.Modality = values.get("Modality", "CT")
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID = UID(MR if dataset.Modality == "MR" else CT)
    dataset.SOPInstanceUID = uid
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.Rows = 10
    dataset.Columns = pixels // 20
    dataset.BitsAllocated = 16
    dataset.PixelData = bytes(range(250)) * (pixels // 250)
    return dataset
