"""Headers as hospitals write them, with identifying values in many attributes.

Used by all modules that write sample series.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from adit.demo.people import Person
from adit.demo.writing import uid

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
PET = "1.2.840.10008.5.1.4.1.1.128"
CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
PRIMARY = ("ORIGINAL", "PRIMARY")
BASIC_TEXT = "1.2.840.10008.5.1.4.1.1.88.11"


@dataclass(frozen=True)
class Device:
    manufacturer: str
    model: str
    station: str
    serial: str
    software: str


SOMATOM = Device("SIEMENS", "SOMATOM Muster", "CTMUSTER1", "73999", "VA48A_DEMO")
MAGNETOM = Device("SIEMENS", "MAGNETOM Beispiel", "MRBSP3T", "41888", "syngo MR Demo")
REVOLUTION = Device("GE MEDICAL SYSTEMS", "Revolution Sample", "CTSAMPLE2", "GE-10077", "demo_13.9")
SIGNA = Device("GE MEDICAL SYSTEMS", "SIGNA Sample", "MRSAMPLE2", "GE-20188", "demo_29")
INGENIA = Device(
    "Philips Medical Systems", "Ingenia Hinagata", "MRHINAGATA", "PH-55012", "5.7.1 demo"
)
BIOGRAPH = Device("SIEMENS", "Biograph Muster", "PETMUSTER", "60777", "VG70A_DEMO")
RADIOGRAPH = Device(
    "Philips Medical Systems", "DigitalDiagnost Sample", "DX01", "PH-90233", "4.1 demo"
)
SONOGRAPH = Device("Sonomuster", "SonoMuster 5", "USMUSTER1", "US-30311", "3.2 demo")


@dataclass(frozen=True)
class Visit:
    """One study of one person."""

    person: Person
    day: date
    number: int
    description: str
    procedure: str
    body_part: str
    device: Device
    time: str = "101500"

    @property
    def study_uid(self) -> str:
        return uid("study", self.person.patient_id, self.number)

    @property
    def frame_uid(self) -> str:
        return uid("frame", self.study_uid)

    @property
    def accession_number(self) -> str:
        return f"{self.day:%y}{self.person.number:03d}{self.number:02d}{self.day:%m%d}"

    def clock(self, seconds: float) -> str:
        """Return the time of day, `seconds` after the visit began.

        Has fractions only if needed.
        """
        start = int(self.time[:2]) * 3600 + int(self.time[2:4]) * 60 + int(self.time[4:])
        whole, fraction = divmod(start + seconds, 1)
        text = f"{int(whole) // 3600:02d}{int(whole) // 60 % 60:02d}{int(whole) % 60:02d}"
        return f"{text}.{round(fraction * 1e6):06d}" if fraction else text

    def series_uid(self, number: int) -> str:
        return uid("series", self.study_uid, number)


@dataclass(frozen=True)
class Scan:
    """Attributes of one series: number, description, SOP class and modality elements."""

    number: int
    modality: str
    class_uid: str
    description: str
    image_type: tuple[str, ...]
    values: Mapping[str, Any]


def header(visit: Visit, scan: Scan) -> Dataset:
    """Return all elements that the images of a series have in common."""
    dataset = Dataset()
    charset = visit.person.charset
    dataset.SpecificCharacterSet = charset if isinstance(charset, str) else list(charset)
    parts = (
        _patient(visit),
        _study(visit),
        _equipment(visit),
        _series(visit, scan),
        _request(visit),
    )
    for part in (*parts, dict(scan.values)):
        for keyword, value in part.items():
            setattr(dataset, keyword, value)
    _original_attributes(dataset, visit)
    _private(dataset, visit)
    return dataset


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def code(value: str, scheme: str, meaning: str) -> Sequence:
    return Sequence([item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def _patient(visit: Visit) -> dict[str, Any]:
    person = visit.person
    years = (visit.day - person.born).days // 365.25
    return {
        "PatientName": person.name,
        "PatientID": person.patient_id,
        "IssuerOfPatientID": person.hospital.domain,
        "PatientBirthDate": f"{person.born:%Y%m%d}",
        "PatientSex": person.sex,
        "PatientAge": f"{int(years):03d}Y",
        "PatientSize": f"{1.55 + 0.01 * (person.number * 7 % 40):.2f}",
        "PatientWeight": f"{52 + person.number * 5 % 48}",
        "OtherPatientIDsSequence": Sequence(
            [
                item(
                    PatientID=person.insurance_id,
                    IssuerOfPatientID="INSURANCE",
                    TypeOfPatientID="TEXT",
                )
            ]
        ),
        "PatientAddress": f"{person.number} {person.hospital.address}",
        "PatientTelephoneNumbers": f"+49 555 01{person.number:02d}",
        "PatientMotherBirthName": "Mustermann^Maria",
        "Occupation": "made up",
        "PatientComments": f"Sister of {person.plain_name}'s neighbour works here",
        "AdditionalPatientHistory": f"{person.plain_name}, known since {person.born.year + 20}",
        "EthnicGroup": "",
    }


def _study(visit: Visit) -> dict[str, Any]:
    hospital = visit.person.hospital
    return {
        "StudyInstanceUID": visit.study_uid,
        "StudyDate": f"{visit.day:%Y%m%d}",
        "StudyTime": visit.time,
        "StudyID": f"S{visit.person.number:03d}{visit.number}",
        "AccessionNumber": visit.accession_number,
        "StudyDescription": visit.description,
        "ReferringPhysicianName": hospital.referring[visit.number % len(hospital.referring)],
        "NameOfPhysiciansReadingStudy": hospital.reading[0],
        "ProcedureCodeSequence": code(
            visit.procedure.upper().replace(" ", "")[:16], "99DEMO", visit.procedure
        ),
        "AdmissionID": f"ADM{visit.person.number:04d}{visit.number}",
    }


def _equipment(visit: Visit) -> dict[str, Any]:
    hospital, device = visit.person.hospital, visit.device
    return {
        "Manufacturer": device.manufacturer,
        "ManufacturerModelName": device.model,
        "StationName": device.station,
        "DeviceSerialNumber": device.serial,
        "SoftwareVersions": device.software,
        "InstitutionName": hospital.name,
        "InstitutionAddress": hospital.address,
        "InstitutionalDepartmentName": hospital.department,
        "DeviceUID": uid("device", device.serial),
        "DateOfLastCalibration": f"{visit.day.replace(day=1):%Y%m%d}",
    }


def _series(visit: Visit, scan: Scan) -> dict[str, Any]:
    hospital = visit.person.hospital
    values: dict[str, Any] = {
        "SOPClassUID": UID(scan.class_uid),
        "Modality": scan.modality,
        "SeriesInstanceUID": visit.series_uid(scan.number),
        "SeriesNumber": scan.number,
        "SeriesDescription": scan.description,
        "SeriesDate": f"{visit.day:%Y%m%d}",
        "SeriesTime": visit.clock(9 * (scan.number % 100)),
        "PerformingPhysicianName": hospital.reading[-1],
        "OperatorsName": hospital.operators[scan.number % len(hospital.operators)],
        "PerformedProcedureStepStartDate": f"{visit.day:%Y%m%d}",
        "PerformedProcedureStepStartTime": visit.time,
        "PerformedProcedureStepID": f"PPS{visit.accession_number}",
        "PerformedProcedureStepDescription": visit.description,
    }
    if scan.image_type:
        values |= {
            "ImageType": list(scan.image_type),
            "BodyPartExamined": visit.body_part,
            "ProtocolName": scan.description,
        }
    if scan.class_uid in (CT, MR, PET):
        values |= {"FrameOfReferenceUID": visit.frame_uid, "PositionReferenceIndicator": ""}
    if scan.class_uid in (CT, MR):
        values["PatientPosition"] = "HFS"
    return values


def _request(visit: Visit) -> dict[str, Any]:
    hospital, person = visit.person.hospital, visit.person
    request = item(
        AccessionNumber=visit.accession_number,
        RequestedProcedureID=f"RP{visit.accession_number}",
        RequestedProcedureDescription=visit.description,
        RequestedProcedureCodeSequence=code("RPC1", "99DEMO", visit.procedure),
        ReasonForTheRequestedProcedure=f"{person.plain_name}: follow-up",
        ScheduledProcedureStepID=f"SPS{visit.accession_number}",
        ScheduledProcedureStepDescription=visit.procedure,
        ScheduledProtocolCodeSequence=code("PROT1", "99DEMO", visit.procedure),
    )
    return {
        "RequestAttributesSequence": Sequence([request]),
        "RequestingPhysician": hospital.referring[0],
        "RequestedProcedureDescription": visit.description,
    }


def _original_attributes(dataset: Dataset, visit: Visit) -> None:
    """PS3.3 C.12.1: the name before its correction remains, two levels down."""
    if visit.number % 2 == 0:
        return
    before = item(PatientName="Falschgeschrieben^" + visit.person.plain_name.split(" ")[0])
    before.PatientID = f"OLD-{visit.person.number:05d}"
    dataset.OriginalAttributesSequence = Sequence(
        [
            item(
                ModifiedAttributesSequence=Sequence([before]),
                AttributeModificationDateTime=f"{visit.day:%Y%m%d}180000",
                ModifyingSystem="PACS-DEMO",
                SourceOfPreviousValues="RIS",
                ReasonForTheAttributeModification="CORRECT",
            )
        ]
    )


def _private(dataset: Dataset, visit: Visit) -> None:
    """Private blocks as vendors write them, with the patient in undocumented elements."""
    person = visit.person
    block = dataset.private_block(0x0009, "ADIT DEMO PRIVATE", create=True)
    block.add_new(0x10, "PN", person.name)
    block.add_new(0x11, "LO", person.patient_id)
    block.add_new(0x12, "DA", f"{person.born:%Y%m%d}")
    block.add_new(
        0x13, "SQ", Sequence([item(PatientName=person.name, StudyDate=f"{visit.day:%Y%m%d}")])
    )
    if visit.device.manufacturer == "SIEMENS":
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x08, "CS", "IMAGE NUM 4")
        block.add_new(0x09, "LO", f"{visit.day:%Y%m%d}")
        text = f"SV10 PatientName {person.plain_name} PatientID {person.patient_id} ".encode()
        block.add_new(0x10, "OB", text + b"\0" * (512 - len(text)))
    elif visit.device.manufacturer.startswith("GE"):
        block = dataset.private_block(0x0009, "GEMS_IDEN_01", create=True)
        block.add_new(0x01, "LO", "GE_GENESIS_FF")
        block.add_new(0x04, "SH", visit.device.station)
        block.add_new(0x31, "SH", person.patient_id[:16])
    else:
        block = dataset.private_block(0x2001, "Philips Imaging DD 001", create=True)
        block.add_new(0x01, "FL", 1.0)
        block.add_new(0xC8, "LO", visit.description)
        block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x70, "LO", person.patient_id)
