"""A list of sixty mixed rows for a batch transfer, and the verdict that the design gives each row.

The list is built as a workbook and as CSV. The archive needs the studies of `STUDIES`, and the
project the pseudonyms of `REGISTERED`.
"""

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date

import xlsxwriter

ROOT = "1.2.826.0.1.3680043.8.498.60"
COLUMNS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AccessionNumber",
    "StudyDate",
    "Days",
    "Modality",
    "Pseudonym",
    "Key",
)


@dataclass(frozen=True)
class Study:
    """A CT study of the archive; `series` has the number of images of each series."""

    number: int
    patient_id: str
    series: tuple[int, ...] = (1,)
    accession: str = ""
    day: str = "20240229"

    @property
    def uid(self) -> str:
        return f"{ROOT}.{self.number}"


STUDIES = (
    Study(2, "P-02", (2,)),
    Study(3, "P-03", (2,), accession="A-03"),
    Study(4, "P-04", day="20240304"),
    Study(5, "P-05", day="20240305"),
    Study(6, "P-06", day="20240306"),
    Study(7, "P-07", day="20240307"),
    Study(8, "P-08", day="20240310"),
    Study(9, "P-09", (2, 3)),
    Study(10, "P-10", (1, 2)),
    Study(12, "000012"),
    Study(13, "4713"),
    Study(14, "000014"),
    Study(36, "P-36"),
    Study(37, "P-37"),
    Study(38, "P-38"),
    Study(39, "P-38"),
    Study(41, "12"),
    Study(47, "P-47"),
    Study(48, "P-48"),
    Study(51, "P-51X"),
    Study(55, "P-55"),
    Study(57, "P-57"),
    Study(58, "P-58", (1,), accession="A-58", day="20240301"),
    Study(158, "P-58", (2,), accession="A-58", day="20240302"),
    Study(59, "P-59", (1,), accession="A-59"),
    Study(159, "P-159", (1,), accession="A-59"),
    Study(60, "P-60"),
    Study(61, "P-61"),
    SCREENSHOT := Study(62, "P-62", (2,)),
)
"""The study SCREENSHOT also has a secondary capture, which is withheld."""
SECOND_PATIENT = Study(51, "P-51Y")
"""The archive lists study 51 under two patients."""
REGISTERED = {"P-TAKEN": "TAKEN-01", "P-48": "OTHER-48"}
"""Patients with their pseudonyms, which the project has from an earlier order."""


@dataclass(frozen=True)
class Formula:
    """A formula cell; `value` is what the spreadsheet has calculated, None if nothing yet."""

    text: str
    value: str | None = None


@dataclass(frozen=True)
class Padded:
    """A number that is shown with leading zeros."""

    value: int
    digits: int


Cell = str | int | float | date | Formula | Padded


@dataclass(frozen=True)
class SheetRow:
    """One row and what ADIT says about it in each step.

    `upload`, `check` and `result` are the words of the page; an empty `check` or `result` means
    the same word as in the step before. `says` is a part of the reason. `counts` are the images
    expected, delivered and withheld.
    """

    what: str
    cells: dict[str, Cell]
    upload: str = "OK"
    check: str = ""
    result: str = ""
    says: str = ""
    counts: tuple[str, str, str] = ("", "", "")
    as_csv: "SheetRow | None" = field(default=None, repr=False)
    """The row as CSV, where its cells or verdicts differ."""

    @property
    def checked(self) -> str:
        if self.check:
            return self.check
        return {"error": "error", "excluded": "excluded"}.get(self.upload, "found")

    @property
    def ended(self) -> str:
        return self.result or ("complete" if self.checked == "found" else self.checked)


def uid(number: int, series: int = 0) -> str:
    return f"{ROOT}.{number}.{series}" if series else f"{ROOT}.{number}"


def by_uid(patient_id: Cell, number: int, series: int = 0, **more: Cell) -> dict[str, Cell]:
    cells: dict[str, Cell] = {"PatientID": patient_id, "StudyInstanceUID": uid(number)}
    if series:
        cells["SeriesInstanceUID"] = uid(number, series)
    return cells | more


def by_day(patient_id: str, day: Cell, **more: Cell) -> dict[str, Cell]:
    return {"PatientID": patient_id, "StudyDate": day, "Modality": "CT", **more}


def all_of(images: int) -> tuple[str, str, str]:
    return str(images), str(images), "0"


def wrong(what: str, cells: dict[str, Cell], says: str, as_csv: SheetRow | None = None) -> SheetRow:
    return SheetRow(what, cells, "error", says=says, as_csv=as_csv)


TWICE = by_uid("P-02", 2, Pseudonym="SIX-02")
ROWS = (
    SheetRow("patient and study", TWICE, "warning", says="more than once", counts=all_of(2)),
    SheetRow(
        "an accession number alone",
        {"AccessionNumber": "A-03", "Pseudonym": "SIX-03"},
        counts=all_of(2),
    ),
    SheetRow("a date 2024-03-04", by_day("P-04", "2024-03-04"), "warning", counts=all_of(1)),
    SheetRow("a date 05.03.2024", by_day("P-05", "05.03.2024"), counts=all_of(1)),
    SheetRow("a date cell", by_day("P-06", date(2024, 3, 6)), counts=all_of(1)),
    SheetRow("a date 20240307", by_day("P-07", "20240307"), counts=all_of(1)),
    SheetRow("a study two days later", by_day("P-08", "2024-03-08", Days="2"), counts=all_of(1)),
    SheetRow("one of two series", by_uid("P-09", 9, 2), counts=all_of(3)),
    SheetRow("a whole study", by_uid("P-10", 10), "warning", says="", counts=all_of(3)),
    SheetRow(
        "a series of that study",
        by_uid("P-10", 10, 2),
        "warning",
        says="already included",
        counts=all_of(2),
    ),
    SheetRow("leading zeros as text", by_uid("000012", 12), "warning", counts=all_of(1)),
    SheetRow(
        "a number as ID",
        by_uid(4713, 13),
        "warning",
        says="number",
        counts=all_of(1),
        as_csv=SheetRow("", by_uid("4713", 13), counts=all_of(1)),
    ),
    SheetRow(
        "a number shown with zeros",
        by_uid(Padded(14, 6), 14),
        "warning",
        says="zeros",
        counts=all_of(1),
        as_csv=SheetRow("", by_uid("000014", 14), counts=all_of(1)),
    ),
    wrong(
        "twenty digits as a number",
        by_uid(12345678901234567890.0, 15),
        "more than 15 digits",
        as_csv=wrong("", by_uid("1,23457E+19", 15), "shortened"),
    ),
    wrong(
        "a fraction as ID",
        by_uid(12.5, 16),
        "fraction",
        as_csv=SheetRow("", by_uid("12.5", 16), check="not found"),
    ),
    wrong(
        "a date cell as ID",
        by_uid(date(2024, 3, 1), 17),
        "is a date",
        as_csv=SheetRow("", by_uid("01.03.2024", 17), check="not found"),
    ),
    wrong("a wildcard in the ID", by_uid("P-1*", 18), "wildcards"),
    wrong("a backslash in the ID", by_uid("P\\19", 19), "Backslashes"),
    wrong("an ID of 65 characters", by_uid("9" * 65, 20), "At most 64"),
    wrong("a long accession number", {"AccessionNumber": "A" * 17}, "At most 16"),
    wrong("a UID with letters", {"PatientID": "P-22", "StudyInstanceUID": "1.2.x"}, "UID"),
    wrong("a study without patient", {"StudyInstanceUID": uid(23)}, "patient ID is missing"),
    wrong("a date without modality", {"PatientID": "P-24", "StudyDate": "2024-03-24"}, "modality"),
    wrong("a patient alone", {"PatientID": "P-25"}, "alone does not identify"),
    wrong("nothing but the own key", {}, "does not identify a study"),
    wrong(
        "a series without study",
        {"PatientID": "P-27", "SeriesInstanceUID": uid(27, 1)},
        "study UID is missing",
    ),
    wrong("a day that does not exist", by_day("P-28", "31.02.2024"), "does not exist"),
    wrong("a date in words", by_day("P-29", "last spring"), "not a date"),
    wrong("a year of two digits", by_day("P-30", "01.02.24"), "not a date"),
    wrong("a modality in words", by_day("P-31", "2024-03-31", Modality="(CT?)"), "not a modality"),
    wrong("days in words", by_day("P-32", "2024-03-01", Days="many"), "whole number"),
    wrong("a pseudonym with a path", by_uid("P-33", 33, Pseudonym="../A"), ""),
    wrong("the patient ID as pseudonym", by_uid("P-34", 34, Pseudonym="p-34"), "patient ID"),
    wrong(
        "an error value",
        by_uid(Formula("=NA()", "#N/A"), 35),
        "spreadsheet error",
        as_csv=SheetRow("", by_uid("#N/A", 35), check="not found"),
    ),
    SheetRow("a formula", by_uid(Formula('="P-"&36', "P-36"), 36), counts=all_of(1)),
    wrong(
        "a formula without value",
        by_uid(Formula('="P-"&37'), 37),
        "formula",
        as_csv=SheetRow("", by_uid("P-37", 37), counts=all_of(1)),
    ),
    SheetRow("the first of two merged cells", by_uid("P-38", 38), counts=all_of(1)),
    SheetRow(
        "the second of two merged cells",
        by_uid("P-38", 39),
        "warning",
        says="merged",
        counts=all_of(1),
        as_csv=wrong("", {"StudyInstanceUID": uid(39)}, "patient ID is missing"),
    ),
    SheetRow("a row twice", TWICE, "warning", says="more than once", counts=all_of(2)),
    SheetRow(
        "an ID without the zeros of another",
        by_uid("12", 41),
        "warning",
        says="leading zeros",
        counts=all_of(1),
    ),
    SheetRow(
        "an ID in lower case",
        by_uid("p-04", 404),
        "warning",
        "not found",
        says="",
    ),
    wrong("a pseudonym of two patients", by_uid("P-43", 43, Pseudonym="TWO-A"), "several patients"),
    wrong("the same pseudonym", by_uid("P-44", 44, Pseudonym="two-a"), "several patients"),
    wrong("a patient with two pseudonyms", by_uid("P-45", 45, Pseudonym="B-1"), "pseudonyms"),
    wrong("the other pseudonym", by_uid("P-45", 46, Pseudonym="B-2"), "pseudonyms"),
    SheetRow(
        "a pseudonym of another patient of the project",
        by_uid("P-47", 47, Pseudonym="TAKEN-01"),
        check="pseudonym conflict",
        says="pseudonym",
    ),
    SheetRow(
        "a patient with another pseudonym in the project",
        by_uid("P-48", 48, Pseudonym="SIX-48"),
        check="pseudonym conflict",
        says="pseudonym",
    ),
    wrong("a study of two patients", by_uid("P-49", 49), "several patients"),
    wrong("the other patient of the study", by_uid("P-50", 49), "several patients"),
    SheetRow(
        "a study that the archive lists under two patients",
        by_uid("P-51X", 51),
        check="two patients",
        says="several patient IDs",
    ),
    wrong(
        "a series in two studies",
        by_uid("P-52", 52) | {"SeriesInstanceUID": uid(52, 1)},
        "several studies",
    ),
    wrong(
        "the other study of the series",
        by_uid("P-52", 53) | {"SeriesInstanceUID": uid(52, 1)},
        "several studies",
    ),
    SheetRow("an unknown patient", by_uid("P-404", 405), check="not found", says="No match"),
    SheetRow(
        "a study of another patient",
        by_uid("P-56", 55),
        check="not found",
        says="under a different name, birth date or patient ID",
    ),
    SheetRow(
        "a series that the study does not have",
        by_uid("P-57", 57, 9),
        check="not found",
        says="does not contain this series",
    ),
    SheetRow(
        "one of two studies, chosen",
        {"AccessionNumber": "A-58"},
        check="several studies",
        result="complete",
        counts=all_of(2),
    ),
    SheetRow(
        "studies of two patients, none chosen",
        {"AccessionNumber": "A-59"},
        check="several studies",
        says="Several studies match",
    ),
    SheetRow("excluded after the upload", by_uid("P-60", 60), "excluded"),
    SheetRow("excluded at the start", by_uid("P-61", 61), result="excluded"),
    SheetRow(
        "a study with an image that is withheld",
        by_uid("P-62", 62),
        result="Delivered as ordered, 1 withheld",
        counts=("3", "2", "1"),
    ),
)
FIRST_LINE = 2
CHOSEN, EXCLUDED_FIRST, EXCLUDED_AT_START = 57, 59, 60
"""Lines: the row whose study is chosen by its date 2024-03-02, and the rows that are excluded."""


def get_rows(form: str) -> dict[int, SheetRow]:
    """Return the rows of the form "xlsx" or "csv" by line."""
    rows = (row.as_csv or row if form == "csv" else row for row in ROWS)
    named = (replace(row, what=whole.what) for row, whole in zip(rows, ROWS, strict=True))
    return dict(enumerate(named, FIRST_LINE))


def make_csv() -> bytes:
    lines = [";".join(COLUMNS)]
    for line, row in get_rows("csv").items():
        cells = {"Key": f"key {line}", **row.cells}
        lines.append(";".join(_show(cells.get(name, "")) for name in COLUMNS))
    return "\r\n".join(lines).encode("cp1252")


def _show(cell: Cell) -> str:
    """Return the text that a spreadsheet writes for a cell."""
    if isinstance(cell, date):
        return cell.strftime("%d.%m.%Y")
    return str(cell.value) if isinstance(cell, Formula) else str(cell)


def make_xlsx() -> bytes:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True})
    page = book.add_worksheet("Patients")
    formats = {
        "date": book.add_format({"num_format": "dd.mm.yyyy"}),
        "padded": book.add_format({"num_format": "000000"}),
    }
    page.write_row(0, 0, COLUMNS)
    first, second = (line for line, row in get_rows("xlsx").items() if "merged" in row.what)
    for line, row in get_rows("xlsx").items():
        for name, cell in {"Key": f"key {line}", **row.cells}.items():
            if (line, name) != (second, "PatientID"):
                _write(page, line - 1, COLUMNS.index(name), cell, formats)
    page.merge_range(first - 1, 0, second - 1, 0, "P-38")
    book.close()
    return _without_values(target.getvalue())


def _write(page: object, line: int, column: int, cell: Cell, formats: dict[str, object]) -> None:
    write: Callable[..., object] = page.write  # type: ignore[attr-defined]
    if isinstance(cell, Formula):
        page.write_formula(line, column, cell.text, None, cell.value or NO_VALUE)  # type: ignore[attr-defined]
    elif isinstance(cell, Padded):
        write(line, column, cell.value, formats["padded"])
    elif isinstance(cell, date):
        page.write_datetime(line, column, cell, formats["date"])  # type: ignore[attr-defined]
    elif isinstance(cell, str):
        page.write_string(line, column, cell)  # type: ignore[attr-defined]
    else:
        write(line, column, cell)


NO_VALUE = "no value yet"


def _without_values(data: bytes) -> bytes:
    """Remove the values of formulas that no spreadsheet has calculated."""
    target = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(data))
    pattern = re.compile(rb' t="str"(><f>[^<]*</f>)<v>' + NO_VALUE.encode() + b"</v>")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as book:
        for name in source.namelist():
            book.writestr(name, pattern.sub(rb"\1<v></v>", source.read(name)))
    return target.getvalue()
