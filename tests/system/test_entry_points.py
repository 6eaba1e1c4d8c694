"""Identical output of jobs, command line and Python API, also at a later time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import images
import pydicom
import pytest
from conftest import ROOT
from lab.prepared import copy_prepared
from orthanc import Orthanc, needs_orthanc, running_orthanc

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import read_key_file
from adit_engine.pseudonymize.parameters import (
    ClinicalTrialAttributes,
    Pseudonymization,
)
from adit_engine.pseudonymize.profile import ConfidentialityProfile

pytestmark = [needs_orthanc, pytest.mark.timeout(900)]

PSEUDONYM = "LUNG-0001"
STAMP = ClinicalTrialAttributes("University", "LUNG", "Lung of the North", "North", "N1")
LATER = f"{images.ROOT}.3"
"""Study of a second visit of the same patient."""
DAYS_BETWEEN = 731
FOLDERS = ("first", "later", "other", "visits")

Files = dict[str, bytes]
"""File contents by relative path."""


@dataclass(frozen=True)
class EntryPoints:
    data: Path
    source: Orthanc

    def installation(self, verb: str, **given: Any) -> dict[str, Any]:
        done = _run([sys.executable, str(Path(__file__).with_name("entry_points.py"))], self.data)(
            verb, json.dumps(given)
        )
        return dict(json.loads(done.stdout))

    def send(self, to: str, project: str = "LUNG", **given: Any) -> Files:
        wanted = {
            "studies": [images.STUDY],
            "patient_id": images.PATIENT_ID,
            "pseudonym": PSEUDONYM,
            **given,
        }
        told = self.installation("send", project=project, to=to, **wanted)
        assert told["state"] in ("success", "warning"), told["message"]
        return files(self.data.parent / to)

    def key_file(self) -> Path:
        path = self.data.parent / "lung.key"
        if not path.exists():
            manage = [sys.executable, "-m", "adit.cli", "manage", "project"]
            _run(manage, self.data)("export-key", "LUNG", str(path), "--user", "root")
        return path


def _run(command: list[str], data: Path) -> Any:
    environment = {
        **os.environ,
        "ADIT_DATA": str(data),
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(data / "state"),
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done

    return run


def files(folder: Path) -> Files:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.dcm"))}


def headers(found: Files) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(BytesIO(content)) for content in found.values()]


@pytest.fixture(scope="module")
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EntryPoints]:
    folder = tmp_path_factory.mktemp("entry_points")
    data = folder / "data"
    copy_prepared(data)
    with running_orthanc("SOURCE", folder / "source") as source:
        for file in images.study():
            source.put(file)
        for number in (1, 2):
            source.put(
                images.ct(1, number, study=LATER, StudyDate="20260301", SeriesDate="20260301")
            )
        made = EntryPoints(data, source)
        made.installation(
            "make",
            source=source.settings,
            folders=[str(folder / name) for name in FOLDERS],
            projects=["LUNG", "HEART"],
        )
        yield made


@pytest.fixture(scope="module")
def by_job(entry_points: EntryPoints) -> Files:
    return entry_points.send("first")


def test_a_job_the_command_line_and_python_produce_identical_files(
    entry_points: EntryPoints, by_job: Files, tmp_path: Path
) -> None:
    assert len(by_job) == sum(images.SLICES.values())
    url = f"dimse://SOURCE@127.0.0.1:{entry_points.source.dicom_port}"
    named = ["--trial", "LUNG", "--trial-name", STAMP.protocol_name, "--sponsor", STAMP.sponsor]
    named += ["--site-name", STAMP.site_name, "--site-id", STAMP.site_id]
    command = Path(sys.executable).with_name("adit-engine")
    _run([str(command)], entry_points.data)(
        *["transfer", "--from", url, "--to", f"folder:{tmp_path / 'out'}"],
        *[
            "--study",
            images.STUDY,
            "--pseudonym",
            PSEUDONYM,
            "--key-file",
            str(entry_points.key_file()),
        ],
        *["--accept-faces", "a test", "--allow-withheld", *named],
    )

    assert files(tmp_path / "out") == by_job

    change = Pseudonymization(
        ConfidentialityProfile.default(),
        PSEUDONYM,
        read_key_file(entry_points.key_file()),
        STAMP,
        RiskDecision.ACCEPT,
        RiskDecision.ACCEPT,
    )
    by_python = set()
    for original in entry_points.source.files():
        instance = part10.parse_file(original)
        if instance.in_header.ref.study_uid != images.STUDY:
            continue
        try:
            changed = apply(change, instance)
        except InstanceWithheld:
            continue
        by_python.add(b"".join(bytes(part) for part in part10.file_parts(changed)))
    assert by_python == set(by_job.values())


def test_another_worker_produces_identical_files_a_week_later(
    entry_points: EntryPoints, by_job: Files
) -> None:
    assert entry_points.send("later", days=7) == by_job


def test_two_projects_share_no_uids_and_no_study_dates(
    entry_points: EntryPoints, by_job: Files
) -> None:
    other = entry_points.send("other", project="HEART")

    uids = [{str(e.value) for e in uids_of(found)} for found in (by_job, other)]
    assert not uids[0] & uids[1]
    dates = [{ds.StudyDate for ds in headers(found)} for found in (by_job, other)]
    assert not dates[0] & dates[1]


def uids_of(found: Files) -> Iterator[pydicom.DataElement]:
    """Elements of VR UI, except UIDs defined by the standard (SOP classes, transfer syntaxes)."""
    for ds in headers(found):
        for element in ds.iterall():
            if element.VR == "UI" and not str(element.value).startswith("1.2.840.10008."):
                yield element


def test_shifted_study_dates_keep_their_interval(entry_points: EntryPoints, by_job: Files) -> None:
    later = entry_points.send("visits", studies=[images.STUDY, LATER])

    days = sorted({_day(ds.StudyDate) for ds in headers(later)})
    assert len(days) == 2
    assert (days[1] - days[0]).days == DAYS_BETWEEN
    assert _day(headers(by_job)[0].StudyDate) == days[0]
    assert {ds.PatientID for ds in headers(later)} == {PSEUDONYM}


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))
