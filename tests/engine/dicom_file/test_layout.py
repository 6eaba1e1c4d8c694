"""Folder layout: names depend on output values only and stay inside the folder."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adit_engine.dicom_file.layout import MAX_COMPONENT_BYTES, make_component, make_path

UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "SOPInstanceUID": "1.2.3.4.5"}


def test_the_path_has_trial_patient_study_series_and_instance() -> None:
    values = {
        "ClinicalTrialProtocolID": "LUNG",
        "PatientID": "LUNG-0001",
        "StudyDate": "20190304",
        "Modality": "CT",
        "SeriesNumber": "2",
        **UIDS,
    }

    trial, patient, study, series, file = make_path(values)

    assert (trial, patient, file) == ("LUNG", "LUNG-0001", "1.2.3.4.5.dcm")
    assert study.startswith("20190304-")
    assert series.startswith("2-CT-")


def test_the_visit_is_the_beginning_of_the_study_folder() -> None:
    values = {"PatientID": "P", "StudyDate": "20190304", **UIDS}
    plain = make_path(values)[1]

    assert make_path({**values, "ClinicalTrialTimePointID": "V1"})[1] == f"V1-{plain}"
    hostile = make_path({**values, "ClinicalTrialTimePointID": "../Wöche:1" + "x" * 60})[1]
    assert hostile.startswith("_Wöche_1x")
    assert hostile.endswith(plain)


def test_series_with_equal_descriptions_do_not_share_a_folder() -> None:
    values = {"PatientID": "P", "SeriesNumber": "2", "SeriesDescription": "axial", **UIDS}

    assert make_path(values)[2] != make_path({**values, "SeriesInstanceUID": "1.2.3.9"})[2]


@pytest.mark.parametrize(
    ("one", "other"),
    [("ABC", "Abc"), ("abc", "aBc"), ("A/B", "A_B"), ("A:B", "A?B"), ("STRASSE", "Straße")],
)
def test_similar_patient_ids_do_not_share_a_folder_on_any_file_system(one: str, other: str) -> None:
    names = [make_path({"PatientID": text, **UIDS})[0] for text in (one, other)]

    assert names[0].casefold() != names[1].casefold()


def test_a_plain_patient_id_is_the_folder_name() -> None:
    assert make_path({"PatientID": "LUNG-0001", **UIDS})[0] == "LUNG-0001"
    assert make_path({"PatientID": "Müller 1", **UIDS})[0].startswith("Müller 1-")
    assert make_path(UIDS)[0] == "no-patient-id"


def test_a_patient_id_with_path_separators_stays_one_component() -> None:
    path = make_path({"PatientID": "../../etc/x", **UIDS})

    assert len(path) == 4
    assert all(part not in ("..", ".") and "/" not in part for part in path)


@given(st.text(max_size=300))
def test_any_text_becomes_one_safe_component(text: str) -> None:
    name = make_component(text, "nameless")

    assert name
    assert len(name.encode()) <= MAX_COMPONENT_BYTES + 1
    assert not re.search(r'[/\\:*?"<>|\0-\x1f]', name)
    assert name == name.strip(" .")
    assert name == unicodedata.normalize("NFC", name)


@given(
    st.fixed_dictionaries({k: st.text(max_size=120) for k in ("PatientID", "SeriesDescription")})
)
def test_the_path_has_at_most_240_bytes(values: dict[str, str]) -> None:
    path = make_path({**values, "ClinicalTrialProtocolID": "T" * 64, **UIDS})

    assert len("/".join(path).encode()) <= 240
