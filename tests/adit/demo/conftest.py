"""Fixtures: a folder with four studies, and a demo PACS that serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.small_objects import instance

from adit.demo.pacs import DemoPacs

# patient ID, name, character set, birth date, studies: UID, date, description, series
PEOPLE = [
    (
        "P1",
        "Müller^Änne",
        "ISO_IR 100",
        "19610503",
        [("1.2.1", "20240115", "CT Thorax", [("CT", 3), ("CT", 2)])],
    ),
    (
        "P2",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ["", "ISO 2022 IR 87"],
        "19700102",
        [
            ("1.2.2", "20240116", "MR Head", [("MR", 2)]),
            ("1.2.3", "20250301", "CT Head", [("CT", 1), ("MR", 1)]),
        ],
    ),
    ("P3", "김^희중", "ISO_IR 192", "19851224", [("1.2.4", "20250302", "CT Abdomen", [("CT", 1)])]),
]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Four studies of three patients, ten instances."""
    folder = tmp_path / "pacs"
    for patient_id, name, charset, born, studies in PEOPLE:
        for study_uid, day, description, series in studies:
            for number, (modality, count) in enumerate(series, start=1):
                for position in range(1, count + 1):
                    uid = f"{study_uid}.{number}.{position}"
                    dataset = instance(
                        uid,
                        Modality=modality,
                        SpecificCharacterSet=charset,
                        PatientName=name,
                        PatientID=patient_id,
                        PatientBirthDate=born,
                        StudyInstanceUID=study_uid,
                        StudyDate=day,
                        StudyDescription=description,
                        AccessionNumber=f"A{study_uid[-1]}",
                        SeriesInstanceUID=f"{study_uid}.{number}",
                        SeriesNumber=number,
                        InstanceNumber=position,
                    )
                    path = folder / study_uid / f"{study_uid}.{number}" / f"{uid}.dcm"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    dataset.save_as(path, enforce_file_format=True)
    return folder


@pytest.fixture
def pacs(filled: Path) -> Iterator[DemoPacs]:
    with DemoPacs("DEMOPACS", filled) as running:
        yield running
