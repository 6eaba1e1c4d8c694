"""Fill a folder with the demo's sample patients, all of them made up.

Half are generated phantoms, half are images included in pydicom, under made-up names. A folder that
is up to date is not written again; every folder gets the same bytes. Used by the demo and the
tests.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Final

from adit.demo import anatomy, headers, real, scanning, sonography
from adit.demo import singles as single
from adit.demo import tomography as tomo
from adit.demo.examination import Examination
from adit.demo.headers import Device, Visit
from adit.demo.people import EXAMPLETON, GYEONBON, HINAGATA, PEOPLE, Person
from adit.demo.stack import Stack

VERSION = 3
"""Increase it when the patients change: files of older versions are then removed."""

_PROGRAM: Final = """
1 showcase:2023-04-18 mr:2024-02-06 thorax:2025-03-11
2 mr:2022-05-10 mr:2023-05-16
3 thorax:2019-11-04 abdomen:2020-11-09 cr:2020-11-12 us:2021-03-09
4 head:2024-08-02 dx:2024-08-02
5 thorax:2021-01-15 petct:2021-02-02 thorax:2021-08-20
6 mr:2025-01-14 mr:2025-07-08 us:2025-07-10
7 abdomen:2023-09-01 abdomen:2024-09-03
8 dx:2018-03-05 thorax:2018-03-06 mr:2020-06-17
9 cr:2022-12-10 many:2022-12-12
10 petct:2024-04-23 abdomen:2024-10-01
11 cr:2016-02-11 cr:2018-02-15 thorax:2019-02-18
12 mr:2025-05-05
13 dx:2023-03-03 head:2023-03-03
14 abdomen:2021-06-29
15 mr:2022-09-19 dx:2022-10-01
16 thorax:2017-07-07 petct:2017-07-21 cr:2017-08-04
17 head:2020-12-24 mr:2020-12-28
18 abdomen:2024-02-29 mr:2024-03-01
19 thorax:2018-10-10 cr:2019-10-14
20 dx:2025-02-20
21 mr:2024-11-11
22 head:2021-05-01 head:2021-05-03
23 thorax:2022-02-22 dx:2023-02-22
24 cr:2016-09-09 abdomen:2016-09-12
25 mr:2025-08-01
26 petct:2023-11-30
27 dx:2024-01-08 abdomen:2024-01-09
28 thorax:2020-03-30 mr:2020-04-02
"""
"""Person, examination and date of each visit; the numbers are those of `PEOPLE`."""


def _showcase(examination: Examination) -> None:
    tomo.localizer(examination, anatomy.thorax, 512)
    thick = Stack("axial", 380, 512, -136, 8, 34)
    thin = Stack("axial", 380, 512, -128, 4, 64)
    front = Stack("coronal", 380, 512, -96, 8, 24)
    tomo.ct(examination, 2, "Thorax 8.0 Br40", anatomy.thorax, thick, marked=True)
    tomo.ct(examination, 3, "Lunge 4.0 Bl57", anatomy.thorax, thin, kernel="Bl57d")
    tomo.ct(examination, 4, "Thorax cor 8.0", anatomy.thorax, front)
    single.dose_report(examination, 501)
    single.report(examination, 601)


def _thorax(examination: Examination) -> None:
    tomo.localizer(examination, anatomy.thorax, 256)
    axial = Stack("axial", 400, 256, -138, 12, 24)
    tomo.ct(examination, 2, "Chest 5.0 soft", anatomy.thorax, axial, marked=True)
    lung = Stack("axial", 400, 256, -120, 20, 12)
    tomo.ct(examination, 3, "Chest 2.0 lung", anatomy.thorax, lung, kernel="LUNG")
    if examination.visit.person.number % 2:
        single.dose_report(examination, 999)


def _abdomen(examination: Examination) -> None:
    tomo.localizer(examination, anatomy.abdomen, 256)
    axial = Stack("axial", 400, 256, -145, 12, 22)
    tomo.ct(examination, 2, "Abdomen native", anatomy.abdomen, axial, contrast=False)
    tomo.ct(examination, 3, "Abdomen portal venous", anatomy.abdomen, axial, marked=True)
    front = Stack("coronal", 400, 256, -80, 18, 9, middle_mm=-20)
    tomo.ct(examination, 4, "Abdomen cor", anatomy.abdomen, front)


def _head(examination: Examination) -> None:
    tomo.localizer(examination, anatomy.head, 256)
    axial = Stack("axial", 240, 256, -68, 8, 20)
    tomo.ct(examination, 2, "Head 5.0 brain", anatomy.head, axial, contrast=False, marked=True)
    tomo.ct(examination, 3, "Head 5.0 bone", anatomy.head, axial, kernel="BONE", contrast=False)


def _many(examination: Examination) -> None:
    tomo.localizer(examination, anatomy.thorax, 128)
    fine = Stack("axial", 400, 128, -140, 0.7, 400)
    tomo.ct(examination, 2, "Chest 0.7 thin", anatomy.thorax, fine)


def _mr(examination: Examination) -> None:
    axial = Stack("axial", 240, 160, -62, 8, 18)
    side = Stack("sagittal", 240, 160, -66, 11, 13)
    small = Stack("axial", 240, 96, -62, 8, 18)
    tomo.mr(examination, 2, "t1_tse_sag", side, scanning.T1, (650, 9.4, 0))
    tomo.mr(examination, 3, "t2_tse_tra", axial, scanning.T2, (5200, 96, 0), marked=True)
    tomo.mr(examination, 4, "t1_se_tra", axial, scanning.T1, (600, 9.1, 0))
    tomo.mr(examination, 5, "flair_tra", axial, scanning.FLAIR, (9000, 94, 2500))
    for number, (b_value, signals) in enumerate(scanning.DIFFUSION.items(), start=6):
        words = f"ep2d_diff b{b_value}"
        tomo.mr(examination, number, words, small, signals, (4100, 72, 0), b_value=b_value)


def _petct(examination: Examination) -> None:
    tomo.localizer(examination, anatomy.thorax, 256)
    low_dose = Stack("axial", 500, 256, -138, 12, 24)
    tomo.ct(examination, 2, "CT AC low dose", anatomy.thorax, low_dose, contrast=False)
    counts = Stack("axial", 500, 128, -138, 12, 24)
    tomo.pet(examination, 3, "PET AC 2min", anatomy.thorax, counts)


def _dx(examination: Examination) -> None:
    single.radiograph(examination, 1, digital=True)


def _cr(examination: Examination) -> None:
    single.radiograph(examination, 1, digital=False)


def _us(examination: Examination) -> None:
    sonography.stills(examination, 1, 3)
    sonography.clip(examination, 2)


# Study description, procedure, body part, and the function that writes the series.
_KINDS: Final[dict[str, tuple[str, str, str, Callable[[Examination], None]]]] = {
    "showcase": ("CT Thorax mit KM", "CT Chest", "CHEST", _showcase),
    "thorax": ("CT Chest with contrast", "CT Chest", "CHEST", _thorax),
    "abdomen": ("CT Abdomen biphasic", "CT Abdomen", "ABDOMEN", _abdomen),
    "head": ("CT Head without contrast", "CT Head", "HEAD", _head),
    "many": ("CT Chest thin slices", "CT Chest", "CHEST", _many),
    "mr": ("MR Brain with diffusion", "MR Brain", "BRAIN", _mr),
    "petct": ("PET/CT FDG thorax", "PET CT", "CHEST", _petct),
    "dx": ("X-ray chest, digital", "XR Chest", "CHEST", _dx),
    "cr": ("X-ray chest", "XR Chest", "CHEST", _cr),
    "us": ("Ultrasound abdomen", "US Abdomen", "ABDOMEN", _us),
}


def visits() -> list[tuple[str, Visit]]:
    """Return the examinations of the generated patients, each with its kind."""
    return [
        (kind, _visit(PEOPLE[int(number) - 1], position, kind, day))
        for number, *entries in (line.split() for line in _PROGRAM.strip().splitlines())
        for position, (kind, _, day) in enumerate((one.partition(":") for one in entries), start=1)
    ]


def _visit(person: Person, position: int, kind: str, day: str) -> Visit:
    description, procedure, body_part, _ = _KINDS[kind]
    clock = f"{8 + person.number % 9:02d}{7 * person.number % 60:02d}{11 * position:02d}"
    when = date.fromisoformat(day)
    device = _device(person, kind)
    return Visit(person, when, position, description, procedure, body_part, device, clock)


def _device(person: Person, kind: str) -> Device:
    if kind in ("dx", "cr"):
        return headers.RADIOGRAPH
    if kind == "us":
        return headers.SONOGRAPH
    if kind == "petct":
        return headers.BIOGRAPH
    if kind == "mr":
        by_hospital = {
            EXAMPLETON: headers.SIGNA,
            GYEONBON: headers.SIGNA,
            HINAGATA: headers.INGENIA,
        }
        return by_hospital.get(person.hospital, headers.MAGNETOM)
    by_hospital = {EXAMPLETON: headers.REVOLUTION, GYEONBON: headers.REVOLUTION}
    return by_hospital.get(person.hospital, headers.SOMATOM)


def _first(kind: str) -> dict[str, str]:
    visit = next(visit for name, visit in visits() if name == kind)
    return {"patient_id": visit.person.patient_id, "study_uid": visit.study_uid}


SHOWCASE: Final = _first("showcase")
"""The CT study with several series that the demo's first job transfers."""

MANY: Final = _first("many")
"""A study of about 400 small instances, long enough to be interrupted."""

ULTRASOUND: Final = _first("us")
"""A study whose images all have a name burned into the pixels."""


def make_patients(folder: Path) -> None:
    """Write all sample patients, unless they exist. Raise OSError.

    Other files in the folder remain.
    """
    marker = folder.parent / f".{folder.name}.patients.json"
    version, before = _read(marker)
    if version == VERSION and before and all((folder / name).is_file() for name in before):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some real images contain values that the standard forbids
        paths = [*_generated(folder), *real.write_images(folder)]
    made = {str(path.relative_to(folder)) for path in paths}
    for name in set(before) - made:
        (folder / name).unlink(missing_ok=True)
    marker.write_text(json.dumps({"version": VERSION, "files": sorted(made)}))


def _generated(folder: Path) -> Iterator[Path]:
    for kind, visit in visits():
        examination = Examination(folder, visit)
        _KINDS[kind][3](examination)
        yield from examination.files


def _read(marker: Path) -> tuple[int, list[str]]:
    """Return version and files of an earlier run."""
    try:
        read = json.loads(marker.read_text())
        return int(read["version"]), list(read["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, []


if __name__ == "__main__":
    make_patients(Path(sys.argv[1]))
