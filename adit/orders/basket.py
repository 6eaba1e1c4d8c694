"""The basket of a user: selected studies and series, stored encrypted until they are ordered.

Used by the pages of the selective transfer.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction

from adit.accounts.models import User
from adit.orders import drafts
from adit.orders.search_results import FoundStudy, StoredSearch
from adit.vault.master_key import master_cipher
from adit_engine.values.record import Record

DRAFT_KEY = "selective.basket"
WHOLE = "whole"
MAX_STUDIES = 500
"""Studies in one basket; for more a sheet is more suitable."""


@dataclass(frozen=True, slots=True)
class PickedStudy:
    """One selected study. `series_uids` are the selected series; empty for the whole study.

    `known` are the series as listed by the source, or None if it was not queried.
    """

    node_id: int
    node: str
    domain: str
    study: Record
    series_uids: tuple[str, ...] = ()
    known: tuple[Record, ...] | None = None

    @property
    def token(self) -> str:
        """Identifies this study in a form without revealing its UID."""
        return master_cipher().index(self.study.study_uid, "pick")[:16]

    @property
    def patient(self) -> "PickedPatient":
        return PickedPatient(
            domain=self.domain,
            patient_id=self.study.patient_id,
            name=self.study.patient_name,
            birth_date=self.study.text("PatientBirthDate"),
        )

    @property
    def series(self) -> tuple[Record, ...] | None:
        """The series to transfer; None for a whole study whose series were not queried."""
        if self.known is None or not self.series_uids:
            return self.known
        return tuple(record for record in self.known if record.series_uid in self.series_uids)

    @property
    def instance_count(self) -> int | None:
        """The number of images according to the source; None if unknown."""
        if not self.series_uids:
            return self.study.instance_count
        counts = [record.instance_count for record in self.series or ()]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def to_json(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "node": self.node,
            "domain": self.domain,
            "study": self.study.to_json(),
            "series_uids": list(self.series_uids),
            "known": None if self.known is None else [r.to_json() for r in self.known],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PickedStudy":
        known = data["known"]
        return cls(
            node_id=data["node_id"],
            node=data["node"],
            domain=data["domain"],
            study=Record.from_json(data["study"]),
            series_uids=tuple(data["series_uids"]),
            known=None if known is None else tuple(Record.from_json(r) for r in known),
        )


@dataclass(frozen=True, slots=True)
class PickedPatient:
    """A patient within one patient ID domain.

    The same ID in another domain may belong to another patient.
    """

    domain: str
    patient_id: str
    name: str
    birth_date: str

    @property
    def token(self) -> str:
        """Identifies this patient in a form; constant while the installation's key is."""
        return master_cipher().index(f"{self.domain}\0{self.patient_id}", "patient")[:16]


@dataclass(frozen=True, slots=True)
class Basket:
    picks: tuple[PickedStudy, ...] = ()

    def __iter__(self) -> Iterator[PickedStudy]:
        return iter(self.picks)

    def __len__(self) -> int:
        return len(self.picks)

    @property
    def patients(self) -> tuple[PickedPatient, ...]:
        """The distinct patients, in the order of selection."""
        by_token = {pick.patient.token: pick.patient for pick in reversed(self.picks)}
        tokens = dict.fromkeys(pick.patient.token for pick in self.picks)
        return tuple(by_token[token] for token in tokens)

    def with_picks(self, picks: Iterable[PickedStudy]) -> "Basket":
        """Return a basket with these studies added.

        A study selected again is merged: more series, or the whole study. Selected from another
        source, it replaces the earlier selection, so that nothing is sent twice.
        """
        by_study = {pick.study.study_uid: pick for pick in self.picks}
        for pick in picks:
            there = by_study.get(pick.study.study_uid)
            by_study[pick.study.study_uid] = _merge_picks(there, pick)
        return Basket(tuple(by_study.values()))

    def without(self, tokens: Collection[str]) -> "Basket":
        return Basket(tuple(pick for pick in self.picks if pick.token not in tokens))

    def to_json(self) -> list[dict[str, Any]]:
        return [pick.to_json() for pick in self.picks]

    @classmethod
    def from_json(cls, data: list[dict[str, Any]]) -> "Basket":
        return cls(tuple(PickedStudy.from_json(pick) for pick in data))


def load(user: User) -> Basket:
    return Basket.from_json(drafts.load_draft(user, DRAFT_KEY) or [])


def add(user: User, picks: list[PickedStudy]) -> None:
    with transaction.atomic():
        basket = _load_locked(user).with_picks(picks)
        drafts.save_draft(user, DRAFT_KEY, basket.to_json())


def remove(user: User, tokens: Collection[str]) -> None:
    with transaction.atomic():
        basket = _load_locked(user).without(tokens)
        drafts.save_draft(user, DRAFT_KEY, basket.to_json())


def clear(user: User) -> None:
    drafts.delete_draft(user, DRAFT_KEY)


def picks_from_search(found: StoredSearch, ticked: Iterable[str]) -> list[PickedStudy]:
    """Return the studies selected in a result table.

    A ticked study includes all its series.
    """
    series: dict[str, list[str]] = {}
    for text in ticked:
        study, dot, number = text.partition(".")
        series.setdefault(study, []).append(number if dot else WHOLE)
    picks = []
    for text, numbers in series.items():
        row = found.row(text)
        if row is not None:
            picks.append(_pick_row(row, () if WHOLE in numbers else tuple(sorted(numbers))))
    return [pick for pick in picks if pick is not None]


def _load_locked(user: User) -> Basket:
    return Basket.from_json(drafts.load_locked(user, DRAFT_KEY) or [])


def _pick_row(row: FoundStudy, numbers: tuple[str, ...]) -> PickedStudy | None:
    uids = [
        record.series_uid
        for position, record in enumerate(row.series or ())
        if str(position) in numbers
    ]
    if numbers and not uids:
        return None
    return PickedStudy(row.node_id, row.node, row.domain, row.study, tuple(uids), row.series)


def _merge_picks(there: PickedStudy | None, more: PickedStudy) -> PickedStudy:
    if there is None or there.node_id != more.node_id:
        return more
    known = more.known if there.known is None else there.known
    if not there.series_uids or not more.series_uids:
        return replace(there, series_uids=(), known=known)
    uids = dict.fromkeys(there.series_uids + more.series_uids)
    return replace(there, series_uids=tuple(uids), known=known)
