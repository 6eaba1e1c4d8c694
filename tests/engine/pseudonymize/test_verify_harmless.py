"""Verification accepts harmless matches: coincidental numbers, vocabulary, our own attributes."""

from dataclasses import replace
from datetime import datetime

import pytest
from lab.verify_pairs import SHIFT, change, code, instance, original, pseudonymized
from pydicom.dataset import Dataset

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.verify.verifier import verify


def passes(source: Dataset, output: Dataset, by: Pseudonymization | None = None) -> None:
    verify(instance(source), instance(output), by or change())


@pytest.mark.parametrize("patient_id", ["1", "17", "400", "512", "1024", "0010", "10008", "840"])
def test_short_patient_id_that_occurs_as_a_number_passes(patient_id: str) -> None:
    source = original()
    source.PatientID = patient_id
    source.InstanceNumber, source.WindowWidth, source.KVP = patient_id, patient_id, patient_id
    source.SliceLocation = f"0.{patient_id}"
    source.SoftwareVersions = f"VA12.{patient_id}.3"
    output = pseudonymized(source)
    output.StackID = patient_id if len(patient_id) < 4 else "1"
    passes(source, output)


def test_patient_id_equal_to_the_study_time_passes() -> None:
    source = original()
    source.PatientID = source.StudyTime
    passes(source, pseudonymized(source))


@pytest.mark.parametrize(
    ("name", "keyword", "value"),
    [
        ("Head^Anna", "BodyPartExamined", "HEAD"),
        ("Brain^Russell", "BodyPartExamined", "BRAIN"),
        ("Siemens^Werner", "Manufacturer", "SIEMENS"),
        ("Lopez^Vida", "ManufacturerModelName", "MAGNETOM Vida"),
        ("Sharp^Rose", "ConvolutionKernel", "SHARP"),
        ("Ct^Mr", "Modality", "CT"),
        ("Doe^J", "ImageLaterality", "R"),
        ("Lung^Wei", "SoftwareVersions", "VA12"),
        ("Adit^Basic", "SoftwareVersions", "VA12"),
        ("O'Sample^Rob", "ManufacturerModelName", "Revolution Sample"),
    ],
)
def test_name_that_is_a_word_of_the_vocabulary_passes(name: str, keyword: str, value: str) -> None:
    source = original()
    source.PatientName = name
    setattr(source, keyword, value)
    passes(source, pseudonymized(source))


def test_name_that_is_the_meaning_of_a_standard_code_passes() -> None:
    source = original()
    source.PatientName = "Chest^Lung"
    output = pseudonymized(source)
    output.SourceImageSequence[0].PurposeOfReferenceCodeSequence = [code("51185008", "Chest")]
    passes(source, output)


def test_institution_and_station_named_like_the_equipment_pass() -> None:
    source = original()
    source.InstitutionName, source.StationName = "Siemens", "SENSATION"
    passes(source, pseudonymized(source))


def test_date_shifted_onto_another_original_date_passes() -> None:
    source = original()
    day = datetime.strptime(source.StudyDate, "%Y%m%d") + SHIFT
    source.DateOfLastCalibration = f"{day:%Y%m%d}"
    source.PatientBirthDate = source.DateOfLastCalibration
    passes(source, pseudonymized(source))
    unmoved = pseudonymized(source)
    unmoved.StudyDate = unmoved.SeriesDate = source.DateOfLastCalibration
    unmoved.ContentDate = "20031101"
    with pytest.raises(InstanceWithheld) as found:
        passes(source, unmoved)
    assert found.value.message.code == "verify-date.found"


def test_newborn_examined_on_the_day_of_birth_passes_with_full_dates() -> None:
    source = original()
    source.PatientBirthDate = source.StudyDate
    passes(source, pseudonymized(source, "113106"), change("113106"))


def test_placeholder_name_passes() -> None:
    source = original()
    source.PatientName, source.OperatorsName = "Anonymous^Patient", "Test"
    source.SoftwareVersions = "Patient Test 1"
    passes(source, pseudonymized(source))


def test_pixels_trimmed_to_their_length_pass() -> None:
    source = original()
    source.PixelData += b"overlong"
    passes(source, pseudonymized(original()))


@pytest.mark.parametrize("signed", [0, 1])
def test_only_cleaned_bits_above_the_stored_bits_pass(signed: int) -> None:
    source, wanted = original(), original()
    for ds in (source, wanted):
        ds.PixelRepresentation = signed
    dirty, clean = bytearray(source.PixelData), bytearray(wanted.PixelData)
    for at in range(1, len(dirty), 2):
        dirty[at] |= 0xA0
        if signed and clean[at] & 0x08:
            clean[at] |= 0xF0
    source.PixelData, wanted.PixelData = bytes(dirty), bytes(clean)
    passes(source, pseudonymized(wanted))
    with pytest.raises(InstanceWithheld) as found:
        passes(source, pseudonymized(source))
    assert found.value.message.code == "verify-pixel.spare-bits"
    clean[0] ^= 1
    wanted.PixelData = bytes(clean)
    with pytest.raises(InstanceWithheld) as found:
        passes(source, pseudonymized(wanted))
    assert found.value.message.code == "verify-pixel.value"


def test_padded_uid_of_the_source_passes() -> None:
    source = instance(original())
    padded = replace(source, instance_uid=source.instance_uid + "\0")
    verify(padded, instance(pseudonymized(original())), change())
