"""Structured reports leave by their template: codes and numbers stay, persons and free text go."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from lab.deid_objects import ROOT, change
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import CLEAN_STRUCTURE
from adit_engine.pseudonymize.verify.verifier import verify

DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"
TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
EVENT, DEVICE = f"{ROOT}.77.1", f"{ROOT}.77.2"


def code(value: str, meaning: str = "Dose", scheme: str = "DCM") -> Sequence:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return Sequence([made])


def content(kind: str, concept: Sequence, *inside: Dataset, **values: object) -> Dataset:
    made = Dataset()
    made.RelationshipType, made.ValueType, made.ConceptNameCodeSequence = "CONTAINS", kind, concept
    for name, value in values.items():
        setattr(made, name, value)
    if kind == "CONTAINER":
        made.ContinuityOfContent = "SEPARATE"
    if inside:
        made.ContentSequence = Sequence(inside)
    return made


def number(concept: str, value: str, unit: str = "mGy.cm") -> Dataset:
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = code(unit, unit, "UCUM")
    return content("NUM", code(concept), MeasuredValueSequence=Sequence([measured]))


def report(*inside: Dataset, template: str = "10011", title: str = "113701") -> Dataset:
    made = content("CONTAINER", code(title, "X-Ray Radiation Dose Report"), *inside)
    del made.RelationshipType
    used = Dataset()
    used.MappingResource, used.TemplateIdentifier = "DCMR", template
    made.ContentTemplateSequence = Sequence([used])
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = DOSE_SR, f"{ROOT}.5", "SR"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
    made.PatientName, made.PatientID, made.PatientBirthDate = "Mustermann^Erika", "4711", "19560412"
    made.StudyDate = made.ContentDate = "20240229"
    made.StudyTime = made.ContentTime = "101500"
    made.Manufacturer, made.CompletionFlag, made.VerificationFlag = (
        "Maker",
        "COMPLETE",
        "UNVERIFIED",
    )
    made.InstanceNumber = 1
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def dose_report() -> Dataset:
    return report(
        content("TEXT", code("121013", "Device Observer Name"), TextValue="Room of Dr. Kimble"),
        content("PNAME", code("121008", "Person Observer Name"), PersonName="Kimble^Richard"),
        content("TEXT", code("121030", "Subject ID"), TextValue="4711"),
        content("DATE", code("121031", "Subject Birth Date"), Date="19560412"),
        content("UIDREF", code("121012", "Device Observer UID"), UID=DEVICE),
        content(
            "DATETIME", code("113809", "Start of X-Ray Irradiation"), DateTime="20240229101500"
        ),
        number("113813", "612.5"),
        number("121033", "67", "a"),
        content(
            "CONTAINER",
            code("113819", "CT Acquisition"),
            content("TEXT", code("125203", "Acquisition Protocol"), TextValue="Abdomen"),
            content("TEXT", code("125203", "Acquisition Protocol"), TextValue="Erika again"),
            content("TEXT", code("121106", "Comment"), TextValue="Mrs. Mustermann moved"),
            content("UIDREF", code("113769", "Irradiation Event UID"), UID=EVENT),
            content(
                "CODE", code("123014"), ConceptCodeSequence=code("818981001", "Abdomen", "SCT")
            ),
            content(
                "CODE", code("123014"), ConceptCodeSequence=code("XY1", "Kimble", "99HOSPITAL")
            ),
            content("TEXT", code("K1", "Remark", "99HOSPITAL"), TextValue="Abdomen"),
            number("113830", "12.25", "mGy"),
        ),
    )


def released(ds: Dataset, *options: str) -> Dataset:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return pseudonymize(buffer.getvalue(), change(*(options or ("113107", CLEAN_STRUCTURE))))


def pseudonymize(data: bytes, how: Pseudonymization) -> Dataset:
    source = part10.parse_file(data)
    out = apply(how, source)
    verify(source, out, how)
    return dcmread(BytesIO(b"".join(bytes(part) for part in part10.file_parts(out))))


def refusal(ds: Dataset, *options: str) -> str:
    with pytest.raises(InstanceWithheld) as held:
        released(ds, *options)
    return held.value.message.code


def walk(ds: Dataset) -> Iterator[Dataset]:
    for one in ds.get("ContentSequence", ()):
        yield one
        yield from walk(one)


def test_a_dose_report_keeps_numbers_and_codes_and_nothing_about_persons() -> None:
    made = released(dose_report())

    text = str(made)
    for word in ("Kimble", "Mustermann", "Erika", "4711", "19560412", "99HOSPITAL", "Remark"):
        assert word not in text
    numbers = [
        (one.ConceptNameCodeSequence[0].CodeValue, float(one.MeasuredValueSequence[0].NumericValue))
        for one in walk(made)
        if one.ValueType == "NUM"
    ]
    assert numbers == [("113813", 612.5), ("113830", 12.25)]
    assert [one.TextValue for one in walk(made) if one.ValueType == "TEXT"] == [
        "Abdomen",
        "REMOVED",
    ]
    uids = [one.UID for one in walk(made) if one.ValueType == "UIDREF"]
    assert len(uids) == 2
    assert all(uid.startswith("2.25.") for uid in uids)
    (started,) = (one.DateTime for one in walk(made) if one.ValueType == "DATETIME")
    assert str(started)[8:] == "101500"
    assert str(started)[:8] == made.StudyDate != "20240229"
    assert made.ContentTemplateSequence[0].TemplateIdentifier == "10011"
    assert CLEAN_STRUCTURE in [one.CodeValue for one in made.DeidentificationMethodCodeSequence]


def test_the_same_report_gives_the_same_bytes_and_events_keep_their_link() -> None:
    first, second = released(dose_report()), released(dose_report())
    assert first == second
    other = report(content("UIDREF", code("113769", "Irradiation Event UID"), UID=EVENT))
    (linked,) = walk(released(other))
    assert linked.UID in [one.get("UID") for one in walk(first)]


def test_reports_of_other_templates_are_withheld() -> None:
    assert refusal(report(template="2000")) == "report.template"
    assert refusal(report(title="126000")) == "report.template"
    without = dose_report()
    del without.ContentTemplateSequence
    assert refusal(without) == "report.template"
    private = dose_report()
    private.ContentTemplateSequence[0].MappingResource = "99HOSPITAL"
    assert refusal(private) == "report.template"


def test_references_by_position_withhold_a_report() -> None:
    made = dose_report()
    made.ContentSequence[0].ReferencedContentItemIdentifier = [1, 2]
    assert refusal(made) == "report.by-reference"


def test_reports_need_a_profile_that_cleans_structured_content() -> None:
    assert refusal(dose_report(), "113107") == "class.not-admitted"
    profile = change("113107", CLEAN_STRUCTURE).profile
    assert admission.sop_class_refusal(DOSE_SR, profile) is None
    refused = admission.sop_class_refusal(TEXT_SR, profile)
    assert refused is not None
    assert refused.code == "class.not-admitted"


def test_a_report_with_the_name_in_a_public_meaning_is_cleaned() -> None:
    made = report(
        content("CODE", code("123014"), ConceptCodeSequence=code("818981001", "Mustermann", "SCT"))
    )
    assert "Mustermann" not in str(released(made))


@pytest.mark.parametrize("name", ["reportsi.dcm", "test-SR.dcm"])
def test_real_reports_of_other_templates_stay_withheld(name: str) -> None:
    data = Path(str(get_testdata_file(name))).read_bytes()
    with pytest.raises(InstanceWithheld):
        pseudonymize(data, change("113107", CLEAN_STRUCTURE))
