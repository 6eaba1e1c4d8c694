"""The sample patients: number, validity, reproducibility and identifying data."""

import hashlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from pydicom import dcmread

from adit.demo import anatomy, real
from adit.demo.examination import Examination
from adit.demo.headers import BASIC_TEXT, CT, MR, SECONDARY
from adit.demo.pacs_index import FolderIndex, StoredInstance, StoredStudy
from adit.demo.patients import MANY, SHOWCASE, make_patients, visits
from adit.demo.stack import Stack
from adit.demo.tomography import ct
from adit.demo.writing import uid

LEFT_BEHIND = ["1.2/old.dcm", "1.2/stored.txt"]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderIndex]:
    """Create them in a folder with one file of an older version and one stored file."""
    index = FolderIndex(tmp_path_factory.mktemp("demo") / "pacs")
    (index.folder / "1.2").mkdir(parents=True)
    for name in LEFT_BEHIND:
        (index.folder / name).write_bytes(b"x")
    marker = index.folder.parent / ".pacs.patients.json"
    marker.write_text(json.dumps({"version": 0, "files": LEFT_BEHIND[:1]}))
    make_patients(index.folder)
    index.load()
    yield index
    shutil.rmtree(index.folder)


def held(study: StoredStudy) -> list[StoredInstance]:
    return list(study.instances())


def test_there_are_enough_patients_studies_and_years(patients: FolderIndex) -> None:
    studies = list(patients.studies.values())
    by_patient = Counter(study.values["PatientID"] for study in studies)
    assert len(by_patient) >= 40
    assert len(studies) >= 80
    assert sum(1 for count in by_patient.values() if count > 1) >= 15
    assert len({study.values["StudyDate"][:4] for study in studies}) >= 8
    size = sum(path.stat().st_size for path in patients.folder.rglob("*.dcm"))
    assert size < 350e6


def test_patient_names_use_many_scripts_and_character_sets(patients: FolderIndex) -> None:
    names = {study.values["PatientName"] for study in patients.studies.values()}
    assert {
        "Müller^Änne",
        "Mori^Hanako=森^花子=もり^はなこ",
        "Kim^Jiyoung=김^지영",
        "Διονυσιος",
        "Люкceмбypг",
    } <= names


def test_the_path_of_each_instance_consists_of_its_uids(patients: FolderIndex) -> None:
    for study_uid, study in patients.studies.items():
        for series_uid, series in study.series.items():
            for instance_uid, one in series.instances.items():
                expected = patients.folder / study_uid / series_uid / f"{instance_uid}.dcm"
                assert one.path == expected
    assert len(patients) == sum(study.instance_count for study in patients.studies.values())
    assert len(patients) == sum(1 for _ in patients.folder.rglob("*.dcm"))


def test_the_showcase_is_a_ct_study_with_several_series_and_types_to_withhold(
    patients: FolderIndex,
) -> None:
    study = patients.studies[SHOWCASE["study_uid"]]
    assert study.values["PatientID"] == SHOWCASE["patient_id"]
    assert study.values["PatientName"] == "Müller^Änne"
    assert len(study.series) >= 5
    assert 100 <= study.instance_count <= 150
    classes = Counter(one.class_uid for one in held(study))
    assert classes[SECONDARY] == 1
    assert classes[BASIC_TEXT] == 1
    assert {one.values["Rows"] for one in held(study) if one.class_uid == CT} == {"512"}


def test_one_study_is_large_enough_to_interrupt_its_transfer(patients: FolderIndex) -> None:
    study = patients.studies[MANY["study_uid"]]
    assert study.instance_count >= 400
    assert sum(one.path.stat().st_size for one in held(study)) < 40e6


def test_the_showcase_contains_identifying_data_in_many_places(patients: FolderIndex) -> None:
    study = patients.studies[SHOWCASE["study_uid"]]
    axial = next(
        one for one in study.series.values() if "Thorax 8.0" in one.values["SeriesDescription"]
    )
    first = dcmread(
        min(axial.instances.values(), key=lambda one: int(one.values["InstanceNumber"])).path
    )
    assert first[0x0009, 0x1010].value == "Müller^Änne"
    assert first[0x0009, 0x1013].value[0].PatientName == "Müller^Änne"
    assert "Änne Müller".encode() in first[0x0029, 0x1010].value
    modified = first.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert "Falschgeschrieben" in str(modified.PatientName)
    assert "Änne Müller" in first.RequestAttributesSequence[0].ReasonForTheRequestedProcedure
    assert any(first[0x6000, 0x3000].value)
    assert first.IconImageSequence[0].PixelData
    for keyword in ("PatientAddress", "PatientComments", "ImageComments", "InstitutionAddress"):
        assert first.get(keyword)


def test_slices_of_a_series_are_equally_spaced(patients: FolderIndex) -> None:
    for series in patients.studies[SHOWCASE["study_uid"]].series.values():
        images = [dcmread(one.path, stop_before_pixels=True) for one in series.instances.values()]
        if len(images) < 3:
            continue
        images.sort(key=lambda one: int(one.InstanceNumber))
        axis = 2 if images[0].ImageOrientationPatient[4] == 1 else 1
        heights = [float(one.ImagePositionPatient[axis]) for one in images]
        steps = {round(b - a, 3) for a, b in pairwise(heights)}
        assert steps == {float(images[0].SliceThickness)}
        assert len({one.FrameOfReferenceUID for one in images}) == 1


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
def test_generated_objects_are_valid_dicom(patients: FolderIndex) -> None:
    faults = []
    for _, visit in visits():
        for series in patients.studies[visit.study_uid].series.values():
            path = next(iter(series.instances.values())).path
            done = subprocess.run(["dciodvfy", path], capture_output=True, check=False)
            said = (done.stdout + done.stderr).decode("latin-1")
            faults += [line for line in said.splitlines() if line.startswith("Error")]
    assert faults == []


def test_diffusion_series_contain_their_b_values(patients: FolderIndex) -> None:
    study = next(patients.studies[visit.study_uid] for kind, visit in visits() if kind == "mr")
    b_values = {
        dcmread(one.path, stop_before_pixels=True).get("DiffusionBValue")
        for one in held(study)
        if one.class_uid == MR
    }
    assert {0.0, 1000.0} <= b_values


def test_a_second_call_changes_no_file(patients: FolderIndex) -> None:
    some = sorted(patients.folder.rglob("*.dcm"))[::100]
    before = {path: path.stat().st_mtime_ns for path in some}
    make_patients(patients.folder)
    assert {path: path.stat().st_mtime_ns for path in some} == before


def test_files_of_an_older_version_are_removed_and_stored_files_are_kept(
    patients: FolderIndex,
) -> None:
    assert [path.name for path in (patients.folder / "1.2").iterdir()] == ["stored.txt"]


@pytest.mark.filterwarnings("ignore")  # some real images contain values that the standard forbids
def test_the_same_patients_have_the_same_bytes_in_every_folder(tmp_path: Path) -> None:
    kind_and_visit = next(entry for entry in visits() if entry[0] == "abdomen")
    digests = []
    for name in ("one", "two"):
        examination = Examination(tmp_path / name, kind_and_visit[1])
        stack = Stack("axial", 400, 64, -100, 20, 8)
        ct(examination, 2, "Abdomen", anatomy.abdomen, stack, marked=True)
        paths = [*examination.files, *list(real.write_images(tmp_path / name))[:20]]
        digest = hashlib.sha256()
        for path in sorted(paths):
            digest.update(str(path.relative_to(tmp_path / name)).encode() + path.read_bytes())
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1]


def test_uids_do_not_change_between_releases() -> None:
    assert uid("study", "MUS-4707919", 1) == "2.25.170377636183944765967429161236036908969"
    assert SHOWCASE["study_uid"] == "2.25.170377636183944765967429161236036908969"
