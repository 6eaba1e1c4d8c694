"""Key object documents of synthetic patients: rejection notes and others."""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from lab.samples import ROOT, ct

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"
OF_INTEREST, QUALITY, SAFETY, WORKLIST, RETENTION = "113000", "113001", "113037", "113038", "113039"


def key_object(
    title: str, uids: Sequence[str], number: int = 1, *, series: str = "9", **changes: object
) -> Dataset:
    """Return a document on images of a CT series, in a KO series of the same study."""
    image = ct()
    ds = Dataset()
    for keyword in (
        "SpecificCharacterSet",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyID",
    ):
        setattr(ds, keyword, getattr(image, keyword))
    ds.SOPClassUID = KEY_OBJECT
    ds.SOPInstanceUID = f"{ROOT}.1.{series}.{number}"
    ds.Modality = "KO"
    ds.Manufacturer = "Sample Devices"
    ds.SeriesInstanceUID = f"{ROOT}.1.{series}"
    ds.SeriesNumber = series
    ds.InstanceNumber = str(number)
    ds.ContentDate, ds.ContentTime = "20240301", "080000"
    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.ConceptNameCodeSequence = Items([_code(title)])
    ds.CurrentRequestedProcedureEvidenceSequence = Items([_evidence(uids)])
    ds.ContentSequence = Items([_content(uid) for uid in uids])
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def _code(value: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, "DCM", "A title"
    return ds


def _reference(uid: str) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = ct().SOPClassUID, uid
    return ds


def _evidence(uids: Sequence[str]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = f"{ROOT}.1.1"
    series.ReferencedSOPSequence = Items([_reference(uid) for uid in uids])
    study = Dataset()
    study.StudyInstanceUID = f"{ROOT}.1"
    study.ReferencedSeriesSequence = Items([series])
    return study


def _content(uid: str) -> Dataset:
    ds = Dataset()
    ds.RelationshipType, ds.ValueType = "CONTAINS", "IMAGE"
    ds.ReferencedSOPSequence = Items([_reference(uid)])
    return ds
