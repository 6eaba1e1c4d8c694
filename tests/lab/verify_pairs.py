"""Pairs for tests of verification: an original and its correct pseudonymization.

They are created with pydicom alone, to be independent of the tested code.
"""

from copy import deepcopy
from datetime import datetime, timedelta
from hashlib import sha256

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, UID_dictionary

from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import (
    ClinicalTrialAttributes,
    Pseudonymization,
)
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.values.instance import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance

PSEUDONYM = "LUNG-0001"
SHIFT = timedelta(days=-100)
BIRTH_DATE, STUDY_DATE = "19700102", "20040119"


def change(*options: str, pseudonym: str = PSEUDONYM, stamped: bool = True) -> Pseudonymization:
    stamp = ClinicalTrialAttributes(
        "University of Trials", "LUNG-7", "Lung of the North", "North", "N1"
    )
    profile = ConfidentialityProfile("Basic and dates", 1, frozenset(options or ("113107",)))
    return Pseudonymization(
        profile,
        pseudonym,
        ProjectKey(bytes(32)),
        stamp if stamped else None,
        RiskDecision.ACCEPT,
        RiskDecision.ACCEPT,
    )


def original() -> Dataset:
    """Return a CT image with identifying data in all common and some unusual elements."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = "1.2.840.99999.1.20040119.3"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = STUDY_DATE
    ds.AcquisitionDateTime = STUDY_DATE + "072731.25+0100"
    ds.StudyTime = "072730"
    ds.AccessionNumber = "ACC4711X"
    ds.Modality = "CT"
    ds.Manufacturer = "SIEMENS"
    ds.InstitutionName = "St. Elsewhere Hospital"
    ds.InstitutionAddress = "Rosengasse 12\r\n69120 Heidelberg"
    ds.ReferringPhysicianName = "Zweistein^Albertine"
    ds.StationName = "CTROOM07"
    ds.StudyDescription = "Thorax"
    ds.PerformingPhysicianName = "Okonkwo^Chidi"
    ds.OperatorsName = "Brown^Li"
    ds.ManufacturerModelName = "Sensation 64"
    ds.PatientName = "Müller-Lüdenscheidt^Hans Peter^^Dr."
    ds.PatientID = "98765432"
    ds.PatientBirthDate = BIRTH_DATE
    ds.PatientSex = "M"
    other = Dataset()
    other.PatientID = "KH-554433"
    ds.OtherPatientIDsSequence = Sequence([other])
    ds.PatientAddress = "Lindenallee 5^Wiesenthal"
    ds.PatientTelephoneNumbers = "+49 6221 560-77"
    ds.PatientComments = "plays the cello in town"
    ds.BodyPartExamined = "CHEST"
    ds.KVP = "120"
    ds.DeviceSerialNumber = "SN443322"
    ds.ConvolutionKernel = "B30f"
    ds.StudyInstanceUID = "1.2.840.99999.1.20040119.1"
    ds.SeriesInstanceUID = "1.2.840.99999.1.20040119.2"
    ds.StudyID = "77001"
    ds.SeriesNumber = "4"
    ds.InstanceNumber = "17"
    ds.FrameOfReferenceUID = "1.2.840.99999.1.20040119.9"
    ds.RequestedProcedureID = "RP889900"
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = CTImageStorage
    referenced.ReferencedSOPInstanceUID = "1.2.840.99999.1.20040119.8"
    deep = Dataset()
    deep.PatientName = "Birthname^Gertrude"
    referenced.RequestAttributesSequence = Sequence([deep])
    ds.SourceImageSequence = Sequence([referenced])
    block = ds.private_block(0x0029, "ACME HEADER", create=True)
    inner = Dataset()
    inner.OtherPatientNames = "Aliasson^Agnes"
    inner.ReferencedSOPInstanceUID = "1.2.840.99999.1.20040119.77"
    block.add_new(1, "SQ", Sequence([inner]))
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = 32, 24
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowWidth = "400"
    ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
    ds.PixelData = bytes(value for i in range(32 * 24) for value in (i % 16, i % 15))
    return ds


_GONE = ["AccessionNumber", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "StudyID"]
_REMOVED = [
    *("InstitutionName", "InstitutionAddress", "StationName", "StudyDescription"),
    *("PerformingPhysicianName", "OperatorsName", "OtherPatientIDsSequence", "PatientAddress"),
    *("PatientTelephoneNumbers", "PatientTelecomInformation", "PatientComments"),
    *("DeviceSerialNumber", "RequestedProcedureID"),
]


def mapped(uid: str) -> str:
    if uid in UID_dictionary:
        return uid
    return f"2.25.{int.from_bytes(sha256(uid.encode()).digest()[:16])}"


def pseudonymized(ds: Dataset, *codes: str, pseudonym: str = PSEUDONYM) -> Dataset:
    """Return a correct result of `change(*codes)` with its clinical trial attributes."""
    codes = codes or ("113107",)
    made = deepcopy(ds)
    made.remove_private_tags()
    for keyword in _GONE:
        if keyword in made:
            made[keyword].value = None
    for keyword in _REMOVED:
        if keyword in made:
            delattr(made, keyword)
    for item in made.get("SourceImageSequence", []):
        item.clear()
        item.ReferencedSOPClassUID = CTImageStorage
        item.ReferencedSOPInstanceUID = mapped("1.2.840.99999.1.20040119.8")
    _map_values(made, codes)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName = made.PatientID = pseudonym
    _stamp(made, codes, pseudonym)
    return made


def _map_values(made: Dataset, codes: tuple[str, ...]) -> None:
    for element in list(made.iterall()):
        if element.VR == "UI" and element.value:
            element.value = mapped(element.value)
        if element.VR == "TM" and not {"113106", "113107"}.intersection(codes):
            element.value = None
        if element.VR in ("DA", "DT") and element.value and "113106" not in codes:
            text = str(element.value)
            if "113107" not in codes:
                element.value = None
                continue
            day = datetime.strptime(text[:8], "%Y%m%d") + SHIFT
            element.value = f"{day:%Y%m%d}{text[8:]}"


def _stamp(made: Dataset, codes: tuple[str, ...], pseudonym: str) -> None:
    made.ClinicalTrialSponsorName = "University of Trials"
    made.ClinicalTrialProtocolID = "LUNG-7"
    made.ClinicalTrialProtocolName = "Lung of the North"
    made.ClinicalTrialSiteID, made.ClinicalTrialSiteName = "N1", "North"
    made.ClinicalTrialSubjectID = pseudonym
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = ["ADIT 1.0", "PS3.15 2026c", "Basic and dates"]
    made.DeidentificationMethodCodeSequence = Sequence(
        [code("113100"), *(code(value) for value in codes)]
    )
    told = {"113106": "UNMODIFIED", "113107": "MODIFIED"}
    made.LongitudinalTemporalInformationModified = next(
        (told[value] for value in codes if value in told), "REMOVED"
    )


def code(value: str, meaning: str = "An option") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def encoded(ds: Dataset, syntax: str = EXPLICIT_LE) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian = syntax != EXPLICIT_BE
    stream.is_implicit_VR = syntax == IMPLICIT_LE
    write_dataset(stream, ds)
    return stream.getvalue()


def instance(ds: Dataset, syntax: str = EXPLICIT_LE, *, behind: bytes = b"") -> Instance:
    """Encode a data set; `behind` is appended to it."""
    data = encoded(ds, syntax) + behind
    return Instance.from_data_set(str(ds.SOPClassUID), str(ds.SOPInstanceUID), syntax, data)
