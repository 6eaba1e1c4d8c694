"""Examination: one visit as it becomes files in a folder."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adit.demo.headers import Scan, Visit, header
from adit.demo.writing import Slice, write_series


@dataclass(frozen=True)
class Examination:
    """One visit, the folder where its series go, and the files written so far."""

    folder: Path
    visit: Visit
    files: list[Path] = field(default_factory=list)

    def write(self, scan: Scan, slices: Iterable[Slice]) -> None:
        self.files.extend(write_series(self.folder, header(self.visit, scan), slices))

    def moments(self, seconds: float) -> dict[str, Any]:
        """When an image was taken, this many seconds after the visit began."""
        clock = self.visit.time
        start = int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:]) + seconds
        clock = f"{int(start // 3600):02d}{int(start // 60 % 60):02d}{start % 60:09.6f}"
        day = f"{self.visit.day:%Y%m%d}"
        return {
            "AcquisitionDate": day, "AcquisitionTime": clock, "ContentDate": day, "ContentTime": clock,
            "InstanceCreationDate": day, "InstanceCreationTime": clock,
        }  # fmt: skip
