"""C-FIND of the demo PACS at every level, with dcmtk and pynetdicom as clients."""

import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from lab.scu import associate
from pydicom import Dataset
from pynetdicom import build_context, evt

from adit.demo.pacs import DemoPacs

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
VERIFICATION = "1.2.840.10008.1.1"


def find(pacs: DemoPacs, level: str, root: str = STUDY_ROOT, **keys: Any) -> list[Dataset]:
    association = associate(("127.0.0.1", pacs.port), "DEMOPACS", [build_context(root)])
    assert association.is_established
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    answers = list(association.send_c_find(identifier, root))
    association.release()
    assert answers[-1][0].Status == 0
    assert all(status.Status == 0xFF00 for status, _ in answers[:-1])
    return [found for _, found in answers[:-1] if found is not None]


def study_uids(answers: list[Dataset]) -> list[str]:
    return sorted(one.StudyInstanceUID for one in answers)


def test_a_universal_study_query_returns_counts_of_series_and_instances(pacs: DemoPacs) -> None:
    found = find(
        pacs,
        "STUDY",
        StudyInstanceUID="",
        ModalitiesInStudy="",
        SOPClassesInStudy=None,
        NumberOfStudyRelatedSeries=None,
        NumberOfStudyRelatedInstances=None,
    )
    by_uid = {one.StudyInstanceUID: one for one in found}
    assert sorted(by_uid) == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]
    assert (
        by_uid["1.2.1"].NumberOfStudyRelatedSeries,
        by_uid["1.2.1"].NumberOfStudyRelatedInstances,
    ) == (2, 5)
    assert list(by_uid["1.2.3"].ModalitiesInStudy) == ["CT", "MR"]
    assert len(by_uid["1.2.3"].SOPClassesInStudy) == 2


@pytest.mark.parametrize("root", [STUDY_ROOT, PATIENT_ROOT])
def test_series_and_image_level_return_their_own_keys(pacs: DemoPacs, root: str) -> None:
    series = find(
        pacs,
        "SERIES",
        root,
        StudyInstanceUID="1.2.1",
        SeriesInstanceUID="",
        NumberOfSeriesRelatedInstances=None,
    )
    assert {(one.SeriesInstanceUID, one.NumberOfSeriesRelatedInstances) for one in series} == {
        ("1.2.1.1", 3),
        ("1.2.1.2", 2),
    }
    images = find(
        pacs,
        "IMAGE",
        root,
        StudyInstanceUID="1.2.1",
        SeriesInstanceUID="1.2.1.1",
        Rows=None,
        SOPClassUID="",
    )
    assert sorted(one.SOPInstanceUID for one in images) == ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"]
    assert {one.Rows for one in images} == {10}


def test_patient_level_counts_the_studies_of_a_patient(pacs: DemoPacs) -> None:
    found = find(
        pacs,
        "PATIENT",
        PATIENT_ROOT,
        PatientID="P2",
        PatientName="",
        NumberOfPatientRelatedStudies=None,
    )
    assert [(one.PatientID, one.NumberOfPatientRelatedStudies) for one in found] == [("P2", 2)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Müller^Änne", ["1.2.1"]),
        ("müller*", ["1.2.1"]),
        ("MÜL?ER^*", ["1.2.1"]),
        ("*太郎*", ["1.2.2", "1.2.3"]),
        ("やまだ^たろう", ["1.2.2", "1.2.3"]),
        ("yamada*", ["1.2.2", "1.2.3"]),
        ("김*", ["1.2.4"]),
        ("Mueller*", []),
        ("M[üu]ller*", []),
    ],
)
def test_patient_names_match_case_insensitively_in_every_script(
    pacs: DemoPacs, asked: str, expected: list[str]
) -> None:
    found = find(
        pacs, "STUDY", SpecificCharacterSet="ISO_IR 192", PatientName=asked, StudyInstanceUID=""
    )
    assert study_uids(found) == expected


def test_a_query_in_latin_1_is_answered_in_utf_8(pacs: DemoPacs) -> None:
    found = find(
        pacs,
        "STUDY",
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Müller*",
        StudyInstanceUID="",
    )
    assert [(str(one.PatientName), one.SpecificCharacterSet) for one in found] == [
        ("Müller^Änne", "ISO_IR 192")
    ]


@pytest.mark.skipif(shutil.which("findscu") is None, reason="needs dcmtk (apt install dcmtk)")
def test_a_findscu_query_in_undeclared_utf_8_is_understood(pacs: DemoPacs) -> None:
    call = ["findscu", "-S", "-aec", "DEMOPACS", "127.0.0.1", str(pacs.port)]
    keys = ["QueryRetrieveLevel=STUDY", "PatientName=Müller*", "StudyInstanceUID"]
    for key in keys:
        call += ["-k", key]
    done = subprocess.run(call, capture_output=True, timeout=250, check=True)
    said = (done.stdout + done.stderr).decode()
    assert said.count("UI [1.2.1") == 1
    assert "Müller^Änne" in said


def test_a_japanese_name_keeps_its_three_component_groups(pacs: DemoPacs) -> None:
    found = find(pacs, "STUDY", PatientID="P2", PatientName="", StudyInstanceUID="1.2.2")
    assert str(found[0].PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("20240115", ["1.2.1"]),
        ("20240115-20240116", ["1.2.1", "1.2.2"]),
        ("20250301-", ["1.2.3", "1.2.4"]),
        ("-20240115", ["1.2.1"]),
        ("20230101-20230201", []),
    ],
)
def test_date_ranges_include_both_ends(pacs: DemoPacs, asked: str, expected: list[str]) -> None:
    assert study_uids(find(pacs, "STUDY", StudyDate=asked, StudyInstanceUID="")) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"ModalitiesInStudy": "MR"}, ["1.2.2", "1.2.3"]),
        ({"ModalitiesInStudy": "MR", "StudyDescription": "CT*"}, ["1.2.3"]),
        ({"StudyInstanceUID": ["1.2.1", "1.2.4", "1.2.99"]}, ["1.2.1", "1.2.4"]),
        ({"AccessionNumber": "A4"}, ["1.2.4"]),
        ({"PatientID": "P*"}, ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]),
        ({"PatientID": "p1"}, []),
        ({"PatientBirthDate": "19700102"}, ["1.2.2", "1.2.3"]),
        ({"StudyDescription": "ct thorax"}, []),
    ],
)
def test_query_keys_restrict_the_result(
    pacs: DemoPacs, keys: dict[str, Any], expected: list[str]
) -> None:
    assert study_uids(find(pacs, "STUDY", **{"StudyInstanceUID": "", **keys})) == expected


def test_an_unknown_query_level_is_refused(pacs: DemoPacs) -> None:
    association = associate(("127.0.0.1", pacs.port), "DEMOPACS", [build_context(STUDY_ROOT)])
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "WARD"
    statuses = [status.Status for status, _ in association.send_c_find(identifier, STUDY_ROOT)]
    association.release()
    assert statuses == [0xA900]


def test_a_wrong_called_ae_title_is_rejected(pacs: DemoPacs) -> None:
    association = associate(("127.0.0.1", pacs.port), "OTHERPACS", [build_context(VERIFICATION)])
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 7)


def test_a_pacs_stops_while_it_rejects_an_association(filled: Path) -> None:
    with DemoPacs("DEMOPACS", filled) as pacs:
        assert pacs._server is not None
        stopped = threading.Event()
        pacs._server.bind(evt.EVT_REJECTED, lambda event: (pacs.stop(), stopped.set()))
        association = associate(
            ("127.0.0.1", pacs.port), "OTHERPACS", [build_context(VERIFICATION)]
        )
        assert stopped.wait(60)
    assert association.is_rejected
