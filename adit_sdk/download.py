"""Download studies or 7-Zip files into a folder, so that an interrupted download can continue."""

import csv
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydicom import dcmread

from adit_sdk.connection import Connection
from adit_sdk.errors import AllWithheld, ApiError, IncompleteAnswer, NotFound
from adit_sdk.files import write_atomically
from adit_sdk.retrieval import make_params
from adit_sdk.values import Identified, Reason, Study

if TYPE_CHECKING:
    from adit_sdk.client import Client
    from adit_sdk.job import Job

INDEX = "index.csv"
COLUMNS = (
    "PatientID",
    "StudyInstanceUID",
    "StudyDate",
    "StudyDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "SOPInstanceUID",
    "InstanceNumber",
    "SOPClassUID",
    "Modality",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "KVP",
    "XRayTubeCurrent",
    "ExposureTime",
    "Exposure",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "MagneticFieldStrength",
    "ScanningSequence",
    "SequenceName",
    "ProtocolName",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
)
"""Attributes in the index: identity, geometry, acquisition."""

ATTEMPTS = 3
"""How often a series is retrieved that was cut."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_CHUNK_BYTES = 1024 * 1024

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """What is in the folder. `withheld` says what the rules of the project left out, and why."""

    files: tuple[Path, ...]
    bytes: int
    withheld: tuple[Reason, ...] = ()
    index: Path | None = None


class _PartFile(io.BufferedRandom):
    """A file that is deleted when it is closed, unless it was moved."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f".{secrets.token_hex(8)}.part"
        super().__init__(io.FileIO(self._path, "x+"))
        self._is_moved = False

    def move(self, path: Path) -> None:
        self.flush()
        os.fsync(self.fileno())
        os.replace(self._path, path)
        self._is_moved = True

    def close(self) -> None:
        try:
            super().close()
        finally:
            if not self._is_moved:
                self._path.unlink(missing_ok=True)


class StudyDownload:
    """Downloads series by series; notes each complete one in a state file."""

    def __init__(
        self, client: "Client", folder: Path, project: str | None, state_folder: Path | None
    ) -> None:
        self._client = client
        self._folder = folder.absolute()
        self._project = project
        name = hashlib.sha256(f"{client!r} {self._folder}".encode()).hexdigest()[:32]
        self._state = (state_folder or _default_state_folder()) / f"{name}.jsonl"

    def run(self, studies: Sequence[Study]) -> DownloadReport:
        for study in studies:
            make_params(study.pseudonym, self._project)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        finished = self._read_state()
        rows: list[Row] = []
        withheld: list[Reason] = []
        for study in studies:
            for series, count in self._find_series(study):
                key = self._make_key(study, series)
                entry = finished.get(key) or self._download(study, series, count)
                if key not in finished:
                    self._note(key, entry)
                rows += entry["rows"]
                withheld += [Reason(*one) for one in entry["withheld"]]
        index = self._folder / INDEX
        write_atomically(index, [_write_csv(rows).encode()])
        with suppress(FileNotFoundError):
            self._state.unlink()
        files = tuple(self._folder / row["path"] for row in rows)
        return DownloadReport(files, sum(int(row["bytes"]) for row in rows), _sum(withheld), index)

    def _find_series(self, study: Study) -> list[tuple[str, int]]:
        """Return the series of the study that are wanted, and their number of images."""
        query = {"StudyInstanceUID": study.study_uid}
        if study.patient_id:
            query["PatientID"] = study.patient_id
        found = self._client.search(study.node, "series", limit=None, **query)
        if not found.is_complete:
            raise IncompleteAnswer(" ".join(found.notes), "sdk.search-incomplete")
        if not found.records:
            raise NotFound("A study has no series at this node.", "sdk.no-series")
        series = {
            one["SeriesInstanceUID"]: int(one.get("NumberOfSeriesRelatedInstances") or 0)
            for one in found
        }
        return [(uid, series.get(uid, 0)) for uid in study.series_uids or series]

    def _download(self, study: Study, series: str, count: int) -> dict[str, Any]:
        for attempt in range(ATTEMPTS):
            try:
                return self._download_once(study, series)
            except AllWithheld as error:
                return {"rows": [], "withheld": [(error.code, error.detail, count)]}
            except IncompleteAnswer:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _download_once(self, study: Study, series: str) -> dict[str, Any]:
        retrieval = self._client.retrieve(
            study.node,
            study.study_uid,
            series=series,
            pseudonym=study.pseudonym,
            project=self._project,
        )
        rows = []
        with closing(retrieval.files(lambda: _PartFile(self._folder))) as files:
            for file in files:
                rows.append(self._save(file))
        summary = retrieval.summary()
        reasons = [(one.code, one.text, one.count) for one in summary.reasons]
        return {"rows": rows, "withheld": reasons}

    def _save(self, file: _PartFile) -> Row:
        """Give the file its name, and return its row of the index."""
        with file:
            header = dcmread(file, stop_before_pixels=True)
            uids = [header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID]
            if not all(_UID.fullmatch(uid) for uid in uids):
                raise IncompleteAnswer("An image in the answer has no valid UID.", "sdk.not-dicom")
            path = Path(uids[0], uids[1], f"{uids[2]}.dcm")
            row = {name: _get_text(header, name) for name in COLUMNS}
            digest, size = _digest(file)
            (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
            file.move(self._folder / path)
        return {"path": path.as_posix(), "bytes": str(size), "sha256": digest, **row}

    # State ----------------------------------------------------------------------------------------

    def _make_key(self, study: Study, series: str) -> str:
        pseudonym = study.pseudonym
        name = ["identified"] if isinstance(pseudonym, Identified) else ["pseudonym", pseudonym]
        parts = [study.node, study.study_uid, series, self._project, *name]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _read_state(self) -> dict[str, dict[str, Any]]:
        """Return the complete series whose files are still there and unchanged."""
        found = {}
        with suppress(FileNotFoundError):
            for line in self._state.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the last line of a download that was killed
                if all(self._is_unchanged(row) for row in entry["rows"]):
                    found[entry["key"]] = entry
        return found

    def _is_unchanged(self, row: Mapping[str, str]) -> bool:
        try:
            with (self._folder / row["path"]).open("rb") as file:
                return _digest(file)[0] == row["sha256"]
        except OSError:
            return False

    def _note(self, key: str, entry: Mapping[str, Any]) -> None:
        opened = os.open(self._state, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(opened, "w") as file:
            file.write(json.dumps({"key": key, **entry}) + "\n")


def _default_state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "adit_sdk"


def _digest(file: BinaryIO) -> tuple[str, int]:
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_CHUNK_BYTES):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _get_text(header: Any, keyword: str) -> str:
    value = header.get(keyword)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    return "\\".join(str(part) for part in parts)


def _write_csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("path", "bytes", "sha256", *COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _sum(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    found: dict[str, Reason] = {}
    for one in reasons:
        before = found.get(one.code)
        found[one.code] = Reason(one.code, one.text, one.count + (before.count if before else 0))
    return tuple(found.values())


# 7-Zip files ----------------------------------------------------------------------------------------


def download_archives(connection: Connection, job: "Job", folder: Path) -> DownloadReport:
    """Write the 7-Zip files of a job into a folder."""
    archives = job.refresh().values["archives"]
    if not archives:
        text = "The job has no 7-Zip file. Its images went to another kind of destination."
        raise NotFound(text, "sdk.no-archive")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in archives:
        path = folder / Path(one["name"]).name
        if not path.exists() or path.stat().st_size != one["bytes"]:
            _download_archive(connection, job, one, path)
        paths.append(path)
    return DownloadReport(tuple(paths), sum(one["bytes"] for one in archives))


def _download_archive(
    connection: Connection, job: "Job", archive: Mapping[str, Any], path: Path
) -> None:
    """Continue or begin the file. The ETag of the beginning is kept beside it."""
    part = path.with_name(f".{path.name}.part")
    tag = path.with_name(f".{path.name}.etag")
    headers = {}
    size = part.stat().st_size if part.exists() and tag.exists() else 0
    if 0 < size < archive["bytes"]:
        headers = {"Range": f"bytes={size}-", "If-Range": tag.read_text()}
    address = f"{connection.url}/api/v1/jobs/{job.id}/archive"
    with connection.stream(
        "GET", address, headers=headers, params={"file": str(archive["id"])}
    ) as response:
        is_rest = response.status_code == 206
        tag.write_text(response.headers.get("ETag", ""))
        with part.open("ab" if is_rest else "wb") as file:
            for piece in connection.iter_bytes(response):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    if part.stat().st_size != archive["bytes"]:
        part.unlink()
        raise ApiError("The downloaded file has a wrong size.", "sdk.wrong-size")
    part.replace(path)
    tag.unlink()
