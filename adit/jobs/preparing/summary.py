"""Summary: what will leave, what will stay and why, told to a person before the start."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.jobs.guess import usual_bytes
from adit.jobs.preparing.basket import Basket, Pick
from adit.jobs.preparing.faces import Decided, FaceTold, told
from adit.nodes import search
from adit.nodes.models import Node
from adit_engine.errors import AditError
from adit_engine.pseudonymize import admit
from adit_engine.pseudonymize.profile import Profile
from adit_engine.record import Record
from adit_engine.reference import SeriesRef, StudyRef

BUDGET_S = 12.0
MOST_SERIES_ASKED = 24
"""How long and how often the sources are asked before the rest is judged by its modality."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """`images` is None where the source did not tell.

    `code` is that of the withholding when it is sure, told by the images' class; empty for what
    only may happen, judged by the modality.
    """

    code: str
    reason: str
    images: int | None

    @property
    def is_sure(self) -> bool:
        return bool(self.code)


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts are None where a source did not tell them."""

    patients: int
    studies: int
    series: int | None
    images: int | None
    size_bytes: int
    withheld: tuple[Withheld, ...] = ()
    notes: tuple[str, ...] = ()
    faces: FaceTold | None = None

    @property
    def announced(self) -> tuple[str, ...]:
        """Codes of withholding that were shown before the start; then they are no gaps."""
        faces = self.faces.announced if self.faces is not None else ()
        return tuple(sorted({*faces, *(part.code for part in self.withheld if part.is_sure)}))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Summary":
        withheld = tuple(Withheld(**part) for part in data["withheld"])
        faces = data["faces"]
        if faces is not None:
            faces = FaceTold(**{**faces, "decided": Decided(**faces["decided"])})
        return cls(**{**data, "withheld": withheld, "notes": tuple(data["notes"]), "faces": faces})


@dataclass
class _Sources:
    """The archives as they are asked for the summary: not for long, not often, and once each."""

    user: User
    nodes: dict[int, Node]
    until: float
    asked: int = 0
    troubles: dict[str, None] = field(default_factory=dict)

    def series(self, pick: Pick) -> tuple[Record, ...] | None:
        if pick.series is not None:
            return pick.series
        node = self.nodes.get(pick.node_id)
        if node is None or not self._may_ask():
            return None
        study = StudyRef(pick.study.study_uid)
        return self._ask(lambda: search.series_of(self.user, node, study, pick.study.patient_id))

    def classes(self, pick: Pick, series: Record) -> dict[str, int] | None:
        """Images by SOP class; None when not to be known."""
        node = self.nodes.get(pick.node_id)
        if node is None or not self._may_ask():
            return None
        ref = SeriesRef(pick.study.study_uid, series.series_uid)
        return self._ask(
            lambda: dict(search.classes_of(self.user, node, ref, pick.study.patient_id))
        )

    def _may_ask(self) -> bool:
        return self.asked < MOST_SERIES_ASKED and time.monotonic() < self.until

    def _ask(self, question: Callable[[], Any]) -> Any:
        self.asked += 1
        try:
            return question()
        except AditError as error:
            self.troubles[str(error)] = None
            return None


def summary_of(
    user: User,
    basket: Basket,
    nodes: Iterable[Node],
    profile: Profile | None,
    decided: Decided,
) -> Summary:
    """Asks the sources within a small budget. `profile` is None for what is sent as it is."""
    by_id = {node.pk: node for node in nodes}
    sources = _Sources(user, by_id, time.monotonic() + BUDGET_S)
    asked = [(pick, sources.series(pick)) for pick in basket]
    withheld: list[Withheld] = []
    if profile is not None:
        for pick, series in asked:
            withheld += _withheld(sources, pick, series, profile)
    counts = [pick.instance_count for pick in basket]
    return Summary(
        patients=len(basket.patients),
        studies=len(basket),
        series=_sum(_series_count(pick, series) for pick, series in asked),
        images=_sum(counts),
        size_bytes=sum(_size(pick, series) for pick, series in asked),
        withheld=_added_up(withheld),
        notes=tuple(sources.troubles),
        faces=None if profile is None else told(asked, decided),
    )


def _withheld(
    sources: _Sources, pick: Pick, series: tuple[Record, ...] | None, profile: Profile
) -> list[Withheld]:
    if series is None:
        words = pick.study.modalities
        return [part for word in words for part in _perhaps_withheld(word, None, profile)]
    parts: list[Withheld] = []
    for record in series:
        classes = sources.classes(pick, record)
        if classes is None:
            parts += _perhaps_withheld(record.text("Modality"), record.instance_count, profile)
            continue
        for uid, count in classes.items():
            why = admit.why_not(uid, profile)
            parts += [] if why is None else [Withheld(*why, count)]
        if not any(admit.why_not(uid, profile) for uid in classes):
            parts += _perhaps_withheld(record.text("Modality"), record.instance_count, profile)
    return parts


def _perhaps_withheld(modality: str, images: int | None, profile: Profile) -> list[Withheld]:
    reason = admit.why_not_modality(modality, profile)
    return [Withheld("", reason, images)] if reason else []


def _added_up(parts: list[Withheld]) -> tuple[Withheld, ...]:
    """The same reason once; an unknown number of images makes the sum unknown."""
    images: Counter[tuple[str, str]] = Counter()
    unknown: set[tuple[str, str]] = set()
    for part in parts:
        kind = (part.code, part.reason)
        images[kind] += part.images or 0
        if part.images is None:
            unknown.add(kind)
    return tuple(
        Withheld(*kind, None if kind in unknown else count) for kind, count in images.most_common()
    )


def _series_count(pick: Pick, series: tuple[Record, ...] | None) -> int | None:
    if pick.series_uids:
        return len(pick.series_uids)
    return len(series) if series is not None else pick.study.series_count


def _size(pick: Pick, series: tuple[Record, ...] | None) -> int:
    if series is not None and all(record.instance_count is not None for record in series):
        return sum(
            usual_bytes(record.modalities) * (record.instance_count or 0) for record in series
        )
    return usual_bytes(pick.study.modalities) * (pick.instance_count or 0)


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def size_in_words(size_bytes: int) -> str:
    """`≈ 1.2 GB`; an estimate, and marked as one."""
    if size_bytes < 1_000_000_000:
        return _("≈ %(size)d MB") % {"size": max(1, round(size_bytes / 1_000_000))}
    return _("≈ %(size).1f GB") % {"size": size_bytes / 1_000_000_000}
