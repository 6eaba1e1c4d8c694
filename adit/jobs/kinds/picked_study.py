"""One study to transfer, from the search result to the payload of its task.

Used by the basket, the order service and the kinds that send studies.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from adit.jobs.kinds.base import SheetRow, TaskPlan
from adit.vault.master_key import master_cipher
from adit_engine.messages import Message
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.pseudonymize.visit import TrialVisit
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, SeriesRef, StudyRef


@dataclass(frozen=True, slots=True)
class PickedPatient:
    """A patient within one patient ID domain.

    The same ID in another domain may belong to another patient.
    """

    domain: str
    patient_id: str = field(repr=False)
    name: str = field(repr=False)
    birth_date: str = field(repr=False)

    @property
    def token(self) -> str:
        """Identifies this patient in a form; constant while the installation's key is."""
        return master_cipher().index(f"{self.domain}\0{self.patient_id}", "patient")[:16]


@dataclass(frozen=True, slots=True)
class PickedStudy:
    """One study, or some of its series; no series means all of them.

    `source` is the primary key of a node, `node` its name and `domain` its patient ID domain.
    `known` are the series as listed by the source, or None if it was not queried. `pseudonym` is
    the one given for this patient; if empty, the project's pseudonym is used, and generated where
    needed. `visit` is written to the images.
    """

    source: int
    study: Record = field(repr=False)
    series_uids: tuple[str, ...] = ()
    pseudonym: str = ""
    known_series: tuple[Record, ...] | None = field(default=None, repr=False)
    left_out: Mapping[str, Message] = field(default_factory=dict, repr=False, compare=False)
    """Why series are not in `series_uids`, by UID, where it is not the choice of the user."""
    node: str = ""
    domain: str = ""
    visit: TrialVisit | None = None

    @classmethod
    def by_uid(
        cls,
        source: int,
        study_uid: str,
        patient_id: str,
        series_uids: tuple[str, ...] = (),
        pseudonym: str = "",
    ) -> "PickedStudy":
        """Pick a study of which only the identifiers are known."""
        values = {"StudyInstanceUID": study_uid, "PatientID": patient_id}
        return cls(source, Record(QueryLevel.STUDY, values), series_uids, pseudonym)

    @property
    def token(self) -> str:
        """Identifies this study in a form without revealing its UID."""
        return master_cipher().index(self.study.study_uid, "pick")[:16]

    @property
    def patient(self) -> PickedPatient:
        return PickedPatient(
            domain=self.domain,
            patient_id=self.study.patient_id,
            name=self.study.patient_name,
            birth_date=self.study.text("PatientBirthDate"),
        )

    @property
    def series(self) -> tuple[Record, ...] | None:
        """The series to transfer; None if the source was not queried."""
        return self.selected(self.known_series)

    def selected(self, listed: tuple[Record, ...] | None) -> tuple[Record, ...] | None:
        """Return those of all series of the study that are to be transferred."""
        if listed is None or not self.series_uids:
            return listed
        return tuple(record for record in listed if record.series_uid in self.series_uids)

    @property
    def instance_count(self) -> int | None:
        """The number of images according to the source; None if unknown."""
        if not self.series_uids:
            return self.study.instance_count
        if self.known_series is None:
            return None
        counts = [record.instance_count for record in self.series or ()]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def plan(self, rows: tuple[SheetRow, ...] = ()) -> TaskPlan:
        """Return the task that transfers the study. Raises InvalidInput."""
        study, uid = self.study, StudyRef(self.study.study_uid).study_uid
        if self.pseudonym:
            validate_pseudonym(self.pseudonym)
        series = dict.fromkeys(SeriesRef(uid, one).series_uid for one in self.series_uids)
        modalities = ", ".join(study.modalities)
        parts = (study.text("StudyDate"), modalities, study.study_description)
        return TaskPlan(
            source=self.source,
            payload={
                "study_uid": uid,
                "patient_id": study.patient_id,
                "series_uids": list(series),
                "visit": None if self.visit is None else asdict(self.visit),
                "left_out": {uid: reason.to_json() for uid, reason in self.left_out.items()},
                "labels": {
                    "patient_name": study.patient_name,
                    "birth_date": study.text("PatientBirthDate"),
                    "study_date": study.text("StudyDate"),
                    "study_description": study.study_description,
                    "modalities": modalities,
                    "accession_number": study.accession_number,
                },
            },
            patient_id=study.patient_id,
            pseudonym=self.pseudonym,
            title=" ".join(part for part in parts if part) or "Study",
            rows=rows,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the pseudonym and the visit, which are entered with the order."""
        return {
            "source": self.source,
            "node": self.node,
            "domain": self.domain,
            "study": self.study.to_json(),
            "series_uids": list(self.series_uids),
            "known": None
            if self.known_series is None
            else [r.to_json() for r in self.known_series],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PickedStudy":
        known = data["known"]
        return cls(
            source=data["source"],
            node=data["node"],
            domain=data["domain"],
            study=Record.from_json(data["study"]),
            series_uids=tuple(data["series_uids"]),
            known_series=None if known is None else tuple(Record.from_json(r) for r in known),
        )


def get_modalities(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modalities of the study of a task; empty if unknown."""
    listed = payload.get("labels", {}).get("modalities", "")
    return tuple(word for word in listed.split(", ") if word)


def distinct_patients(picks: Iterable[PickedStudy]) -> tuple[PickedPatient, ...]:
    """Return the patients of the studies, in the order of selection."""
    by_token: dict[str, PickedPatient] = {}
    for pick in picks:
        patient = pick.patient
        by_token.setdefault(patient.token, patient)
    return tuple(by_token.values())
