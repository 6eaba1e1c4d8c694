"""The basket of a user: selected studies and series, stored encrypted until they are ordered.

Used by the pages of the selective transfer.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction

from adit.accounts.models import User
from adit.jobs.kinds.picked_study import PickedPatient, PickedStudy, distinct_patients
from adit.orders import drafts
from adit.orders.search_results import FoundStudy, StoredSearch

DRAFT_KEY = "selective.basket"
WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Basket:
    picks: tuple[PickedStudy, ...] = ()

    def __iter__(self) -> Iterator[PickedStudy]:
        return iter(self.picks)

    def __len__(self) -> int:
        return len(self.picks)

    @property
    def patients(self) -> tuple[PickedPatient, ...]:
        return distinct_patients(self.picks)

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
    return PickedStudy(
        row.node_id,
        row.study,
        tuple(uids),
        known_series=row.series,
        node=row.node,
        domain=row.domain,
    )


def _merge_picks(there: PickedStudy | None, more: PickedStudy) -> PickedStudy:
    if there is None or there.source != more.source:
        return more
    known = more.known_series if there.known_series is None else there.known_series
    if not there.series_uids or not more.series_uids:
        return replace(there, series_uids=(), known_series=known)
    uids = dict.fromkeys(there.series_uids + more.series_uids)
    return replace(there, series_uids=tuple(uids), known_series=known)
