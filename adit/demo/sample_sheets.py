"""Write two sample sheets for batch queries: a correct one, and one with every mistake."""

from collections.abc import Sequence
from pathlib import Path

from adit.demo.people import PEOPLE, Person
from adit.table_files import write_xlsx

HEADERS = ("Key", "PatientID", "PatientName", "PatientBirthDate", "From", "Until", "Modality")
GOOD, FAULTY = "list-of-patients.xlsx", "list-with-mistakes.xlsx"


def write(folder: Path) -> None:
    """Write both sheets. Safe to repeat. Raise OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    for name, rows in ((GOOD, valid_rows()), (FAULTY, invalid_rows())):
        with (folder / name).open("wb") as file:
            write_xlsx(HEADERS, rows, file)


def valid_rows() -> list[Sequence[str]]:
    """Return rows found by ID, by name and birth date, and by dates; one has no match.

    The names are in several scripts.
    """
    by_id = [_row(n, PEOPLE[n], by_name=False) for n in (0, 2, 8, 11)]
    by_name = [_row(n, PEOPLE[n], by_name=True) for n in (0, 5, 13, 17)]
    within = ("900", PEOPLE[3].patient_id, "", "", "2020-01-01", "2030-12-31", "CT, MR")
    return [*by_id, *by_name, within, ("901", "NOBODY-1", "", "", "", "", "")]


def invalid_rows() -> list[Sequence[str]]:
    """Return rows with typical mistakes."""
    first, second = PEOPLE[0], PEOPLE[1]
    born = first.born.isoformat()
    return [
        _row(1, first, by_name=False),
        ("2", "", "", "", "", "", ""),
        ("3", "", _name(first), "", "", "", ""),
        ("4", "", _name(first), "31.02.1961", "", "", ""),
        ("5", "EXA*", "", "", "", "", ""),
        ("6", second.patient_id, "", "", "2024-12-31", "2024-01-01", ""),
        _row(7, first, by_name=False),
        ("8", first.patient_id.lower(), _name(first), born, "", "", ""),
        ("9", second.patient_id, "", "", "", "", "computer tomograph"),
    ]


def _row(key: int, person: Person, *, by_name: bool) -> Sequence[str]:
    if by_name:
        return (f"{key:03}", "", _name(person), person.born.isoformat(), "", "", "")
    return (f"{key:03}", person.patient_id, "", "", "", "", "")


def _name(person: Person) -> str:
    family, _, given = person.name.split("=")[0].partition("^")
    return f"{family}, {given.partition('^')[0]}"
