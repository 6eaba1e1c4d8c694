"""The kind "selective transfer": send selected studies or series to one destination."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from adit.jobs.kinds.base import (
    Kind,
    OrderedChange,
    Pseudonymize,
    TaskContext,
    TaskOutput,
    TaskPlan,
    transfer_study,
)
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.values.references import SeriesRef, StudyRef

MAX_STUDIES = 500


@dataclass(frozen=True, slots=True)
class StudyLabels:
    """Attributes of a selected study for display only."""

    patient_name: str = ""
    birth_date: str = ""
    study_date: str = ""
    study_description: str = ""
    modalities: str = ""
    accession_number: str = ""


@dataclass(frozen=True, slots=True)
class OrderedStudy:
    """One study, or some of its series; no series means all of them.

    `source` is the primary key of a node. `pseudonym` is the one given for this patient; if empty,
    the project's pseudonym is used and generated where needed.
    """

    source: int
    study_uid: str
    patient_id: str = field(repr=False)
    series_uids: tuple[str, ...] = ()
    pseudonym: str = ""
    labels: StudyLabels = field(default=StudyLabels(), repr=False)

    def __post_init__(self) -> None:
        study = StudyRef(self.study_uid)
        object.__setattr__(self, "study_uid", study.study_uid)
        series = dict.fromkeys(
            SeriesRef(self.study_uid, uid).series_uid for uid in self.series_uids
        )
        object.__setattr__(self, "series_uids", tuple(series))
        if self.pseudonym:
            validate_pseudonym(self.pseudonym)


@dataclass(frozen=True, slots=True)
class SelectiveOrder:
    """An order of selected studies. Raises InvalidInput if it contradicts itself."""

    picks: tuple[OrderedStudy, ...]
    destination: int
    project: int | None = None
    change: OrderedChange = field(default=Pseudonymize())
    announced: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.picks:
            raise InvalidInput("Nothing is picked yet: tick at least one study or series.")
        if len(self.picks) > MAX_STUDIES:
            raise InvalidInput(f"At most {MAX_STUDIES} studies fit into one order: make several.")
        studies = Counter((pick.source, pick.study_uid) for pick in self.picks)
        if studies.most_common(1)[0][1] > 1:
            raise InvalidInput("One study is picked twice: join its series in one row.")
        if self.destination in {pick.source for pick in self.picks}:
            raise InvalidInput("Source and destination are the same: choose another destination.")
        if isinstance(self.change, Pseudonymize):
            self._check_pseudonyms()

    def _check_pseudonyms(self) -> None:
        """Check pseudonyms within this order. The registry of the project checks them again."""
        by_patient: dict[tuple[int, str], str] = {}
        by_pseudonym: dict[tuple[int, str], str] = {}
        for row, pick in enumerate(self.picks, start=1):
            if not pick.patient_id.strip() and not pick.pseudonym:
                raise InvalidInput(f"Study {row} has no patient ID: give it a pseudonym by hand.")
            patient = (pick.source, pick.patient_id)
            if by_patient.setdefault(patient, pick.pseudonym) != pick.pseudonym:
                raise InvalidInput(f"Study {row}: this patient has two different pseudonyms.")
            if not pick.pseudonym:
                continue
            key = (pick.source, pick.pseudonym)
            if by_pseudonym.setdefault(key, pick.patient_id) != pick.patient_id:
                raise InvalidInput(f"Study {row}: {pick.pseudonym} stands for two patients.")


class Selective(Kind):
    word: ClassVar[str] = "selective"
    label: ClassVar[str] = "Selective transfer"

    def plan(self, order: SelectiveOrder) -> list[TaskPlan]:
        """Return one task per study, in the order of selection."""
        return [
            TaskPlan(
                source=pick.source,
                payload={
                    "study_uid": pick.study_uid,
                    "patient_id": pick.patient_id,
                    "series_uids": list(pick.series_uids),
                    "labels": asdict(pick.labels),
                },
                patient_id=pick.patient_id,
                pseudonym=pick.pseudonym if isinstance(order.change, Pseudonymize) else "",
                title=_title(pick.labels),
            )
            for pick in order.picks
        ]

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        return transfer_study(payload, context)


def _title(labels: StudyLabels) -> str:
    parts = (labels.study_date, labels.modalities, labels.study_description)
    return " ".join(part for part in parts if part) or "Study"
