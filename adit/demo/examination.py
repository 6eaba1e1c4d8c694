"""Write the series of one visit as files to a folder. Used by `demo.patients`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adit.demo.headers import SIGNA, Scan, Visit, header
from adit.demo.writing import Slice, write_series
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE


@dataclass(frozen=True)
class Examination:
    """One visit, the folder for its series, and the files written so far."""

    folder: Path
    visit: Visit
    files: list[Path] = field(default_factory=list)

    def write(self, scan: Scan, slices: Iterable[Slice]) -> None:
        syntax = IMPLICIT_LE if self.visit.device is SIGNA else EXPLICIT_LE
        self.files.extend(write_series(self.folder, header(self.visit, scan), slices, syntax))

    def moments(self, seconds: float) -> dict[str, Any]:
        """Return the dates and times of an image, `seconds` after the visit began."""
        clock = self.visit.clock(seconds)
        day = f"{self.visit.day:%Y%m%d}"
        return {
            "AcquisitionDate": day, "AcquisitionTime": clock, "ContentDate": day, "ContentTime": clock,
            "InstanceCreationDate": day, "InstanceCreationTime": clock,
        }  # fmt: skip
