"""Values that the client takes and returns."""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final


class Identified(enum.Enum):
    """Has one member: IDENTIFIED."""

    IDENTIFIED = "identified"


IDENTIFIED: Final = Identified.IDENTIFIED
"""Instead of a pseudonym: images as they are. Needs a token with the scope `identified`."""


@dataclass(frozen=True, slots=True)
class Node:
    """A PACS or folder. `ae_title` is its name in the DICOMweb API."""

    id: int
    name: str
    kind: str
    ae_title: str
    can_read: bool
    can_write: bool
    state: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why images were withheld or failed, and how many. `code` is stable."""

    code: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Study:
    """A study to transfer or download, or some of its series.

    Without a pseudonym, that of the patient in the project is used, or a new one is generated.
    """

    node: str | int
    study_uid: str
    patient_id: str = field(default="", repr=False)
    series_uids: Sequence[str] = ()
    pseudonym: str | Identified = ""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Found studies, series or images: dictionaries by DICOM keyword.

    If it is not complete, `notes` says why; search with narrower values then.
    """

    node: str | int
    records: Sequence[Mapping[str, Any]] = field(repr=False)
    is_complete: bool
    notes: Sequence[str] = ()

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def studies(
        self, pseudonym: str | Identified | Callable[[Mapping[str, Any]], str] = ""
    ) -> list[Study]:
        """Return the found studies for a transfer or download.

        `pseudonym` may be a function that gets a record and returns the pseudonym of its patient.
        """
        return [
            Study(
                self.node,
                record["StudyInstanceUID"],
                record.get("PatientID", ""),
                pseudonym=pseudonym(record) if callable(pseudonym) else pseudonym,
            )
            for record in self.records
        ]


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would deliver and withhold. `id` can be passed to `Client.transfer`.

    `expected` is None if the number of images is not known, `starts_at` if it depends on an
    approval or on a node that is closed.
    """

    expected: int | None
    withheld: Sequence[Reason]
    bytes: int | None
    starts_at: datetime | None
    problems: Sequence[str]
    needs_approval: bool
    id: str


def read_reasons(given: Sequence[Mapping[str, Any]]) -> tuple[Reason, ...]:
    return tuple(Reason(one["code"], one["text"], one["count"]) for one in given)
