"""Series of one image or one document: radiographs, dose reports, structured reports."""

from typing import Any

import numpy as np
from pydicom.sequence import Sequence

from adit.demo import anatomy, scanning
from adit.demo.examination import Examination
from adit.demo.glyphs import draw
from adit.demo.headers import BASIC_TEXT, CR, DX, PRIMARY, SECONDARY, Scan, code, item
from adit.demo.marks import make_icon
from adit.demo.phantoms import Grid
from adit.demo.stack import image_module
from adit.demo.writing import Slice


def radiograph(examination: Examination, number: int, *, digital: bool) -> None:
    """Write a frontal chest radiograph: a DX object, or a CR object with an icon."""
    grid = Grid.over((-190, -150, -190), (0.76, 3, 0.76), (500, 100, 500))
    lost = scanning.projected(anatomy.thorax(grid, examination.visit.person.number), 1, 3.0)
    noise = np.random.default_rng(number).normal(0, 12, lost.shape)
    pixels = np.clip(lost * 680 + noise, 0, 4095).astype(np.uint16)
    values: dict[str, Any] = {
        **image_module(500, 500, 12), "ViewPosition": "PA", "PatientOrientation": ["L", "F"],
        "BurnedInAnnotation": "NO", "WindowCenter": "1800", "WindowWidth": "3400",
        "ImagerPixelSpacing": ["0.76", "0.76"], "KVP": "125", "Exposure": "2",
        "ImageComments": f"{examination.visit.person.plain_name} in inspiration",
    }  # fmt: skip
    if digital:
        values |= _dx_values()
    else:
        values |= {
            "PlateID": "P01",
            "CassetteOrientation": "PORTRAIT",
            "AcquisitionNumber": "1",
        }
        values["IconImageSequence"] = make_icon(pixels, 0, 4095)
    kind = ("DX", DX, (*PRIMARY, "")) if digital else ("CR", CR, PRIMARY)
    scan = Scan(number, kind[0], kind[1], "Thorax p.a.", kind[2], values)
    examination.write(scan, iter([Slice(pixels, examination.moments(1))]))


def dose_report(examination: Examination, number: int) -> None:
    """Write an image of a table, with the patient's name in the pixels.

    It must be withheld.
    """
    visit = examination.visit
    page = np.zeros((512, 512), np.uint8)
    lines = [
        visit.person.hospital.name,
        "DOSE REPORT",
        "",
        f"PATIENT: {visit.person.plain_name}",
    ]
    lines += [f"BORN: {visit.person.born:%d.%m.%Y}", f"ID: {visit.person.patient_id}"]
    lines += [f"EXAM: {visit.day:%d.%m.%Y}", "", "SCAN   KV  MAS  CTDI   DLP"]
    lines += ["TOPO  100   35  0.04   1.7", "BODY  120  105  7.42 268.1"]
    draw(page, lines, (30, 30), 2)
    scan = Scan(number, "CT", SECONDARY, "Dose Report", ("DERIVED", "SECONDARY", "DOSE_INFO"), {
        **image_module(512, 512, 8), "ConversionType": "WSD", "PatientOrientation": "",
        "BurnedInAnnotation": "YES",
    })  # fmt: skip
    examination.write(scan, iter([Slice(page, examination.moments(90))]))


def report(examination: Examination, number: int) -> None:
    """Write a signed structured report (PS3.3 A.35.1)."""
    person = examination.visit.person
    text = f"{person.plain_name}, born {person.born:%d.%m.%Y}: no change since the last visit."
    finding = item(
        RelationshipType="CONTAINS", ValueType="TEXT", TextValue=text,
        ConceptNameCodeSequence=code("121071", "DCM", "Finding"),
    )  # fmt: skip
    observer = item(
        RelationshipType="HAS OBS CONTEXT", ValueType="PNAME", PersonName=person.hospital.reading[0],
        ConceptNameCodeSequence=code("121008", "DCM", "Person Observer Name"),
    )  # fmt: skip
    values = {
        "ValueType": "CONTAINER", "ContinuityOfContent": "SEPARATE", "CompletionFlag": "COMPLETE",
        "ConceptNameCodeSequence": code("18748-4", "LN", "Diagnostic imaging report"),
        "VerificationFlag": "UNVERIFIED", "ContentSequence": Sequence([observer, finding]),
        "PerformedProcedureCodeSequence": Sequence(), "ReferencedPerformedProcedureStepSequence": Sequence(),
    }  # fmt: skip
    scan = Scan(number, "SR", BASIC_TEXT, "Befund", (), values)
    moment = examination.moments(3600)
    own = {key: moment[key] for key in moment if not key.startswith("Acquisition")}
    examination.write(scan, iter([Slice(None, own)]))


def _dx_values() -> dict[str, Any]:
    return {
        "PresentationIntentType": "FOR PRESENTATION", "PresentationLUTShape": "IDENTITY",
        "PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1,
        "RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "US",
        "LossyImageCompression": "00", "ImageLaterality": "U", "PositionerType": "NONE",
        "DetectorType": "SCINTILLATOR", "DetectorID": "DET-0815", "DetectorActiveShape": "RECTANGLE",
        "AnatomicRegionSequence": code("T-D3000", "SRT", "Chest"),
        "ViewCodeSequence": code("R-10214", "SRT", "postero-anterior"),
        "PatientOrientation": ["L", "F"], "AcquisitionDeviceProcessingDescription": "CHEST",
        "AcquisitionContextSequence": Sequence(),
    }  # fmt: skip
