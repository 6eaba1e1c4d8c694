"""The summary of an order before its start: what will be sent, what withheld and why.

Used by the order service.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from adit.accounts.models import User
from adit.jobs.estimates import estimate_face_risk, typical_image_bytes
from adit.jobs.kinds.picked_study import PickedStudy, distinct_patients
from adit.nodes import search
from adit.nodes.models import Node
from adit.projects.risks import HEADER_WORD, Decision, relevant_decisions
from adit_engine.errors import AditError
from adit_engine.messages import Message
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.face_risk import FaceRisk
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.values.record import Record
from adit_engine.values.references import SeriesRef, StudyRef

QueriedPicks = Iterable[tuple[PickedStudy, tuple[Record, ...] | None]]
"""Each selected study with its series to transfer; None if the source did not list them."""


@dataclass(frozen=True, slots=True)
class RiskSummary:
    """One risk of the ordered series.

    `likely`: series that have the risk. `perhaps`: series, or whole studies, without information.
    """

    decision: Decision
    likely: int
    possible: int
    images: int | None
    modalities: str

    @property
    def announced(self) -> tuple[str, ...]:
        """The code of withholding if it is announced; then it does not count as a gap."""
        return () if self.decision.is_accepted else (self.decision.known.code,)

    @property
    def sentence(self) -> str:
        """The sentence that names the series and the risk."""
        if self.decision.risk == HEADER_WORD.name:
            return ngettext(
                "%(n)d series (%(modalities)s) may contain burned-in text. The header does not prove "
                "that it contains none.",
                "%(n)d series (%(modalities)s) may contain burned-in text. The header does not prove "
                "that they contain none.",
                self.likely,
            ) % {"n": self.likely, "modalities": self.modalities}
        parts = []
        if self.likely:
            told = ngettext("%d series shows a head.", "%d series show a head.", self.likely)
            parts.append(told % self.likely)
        if self.possible:
            told = ngettext(
                "%d series may show a head: the source does not report the body part or the slice "
                "thickness.",
                "%d series may show a head: the source does not report the body part or the slice "
                "thickness.",
                self.possible,
            )
            parts.append(told % self.possible)
        return " ".join([*parts, _("A face can be reconstructed from thin slices of a head.")])


def warn_of_faces(picks: QueriedPicks, decisions: Iterable[Decision]) -> tuple[RiskSummary, ...]:
    """Return the risks that some of the series have.

    The estimate uses search results, which contain no slice thickness.
    """
    series = [one for pick, found in picks for one in _lines(pick, found)]
    told = (_summarize_risk(series, decision) for decision in decisions)
    return tuple(one for one in told if one is not None)


_Line = tuple[Record, Record | None, str]
"""A study, one of its series (None: unknown), and a modality."""


def _lines(pick: PickedStudy, series: tuple[Record, ...] | None) -> list[_Line]:
    if series is None:
        return [(pick.study, None, modality) for modality in pick.study.modalities]
    return [(pick.study, one, one.text("Modality")) for one in series]


def _summarize_risk(lines: Iterable[_Line], decision: Decision) -> RiskSummary | None:
    risks = [
        (estimate_face_risk(decision.risk, study, series, modality), series, modality)
        for study, series, modality in lines
    ]
    found = [one for one in risks if one[0] is not FaceRisk.NONE]
    if not found:
        return None
    likely = sum(risk is FaceRisk.LIKELY for risk, _series, _modality in found)
    counts = [series.instance_count if series else None for _risk, series, _modality in found]
    images = None if None in counts else sum(count or 0 for count in counts)
    modalities = ", ".join(sorted({modality for _risk, _series, modality in found}))
    return RiskSummary(decision, likely, len(found) - likely, images, modalities)


TIME_BUDGET_S = 12.0
MAX_QUERIES = 24
"""Limits for querying the sources; the remaining series are estimated by their modality."""


@dataclass(frozen=True, slots=True)
class ExpectedWithholding:
    """Images that will or may be withheld. `images` is None if unknown.

    It `is_sure` if it was determined by the SOP class, and only possible if it was estimated by
    the modality.
    """

    reason: Message
    is_sure: bool
    images: int | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reason": self.reason.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ExpectedWithholding":
        return cls(**{**data, "reason": Message.from_json(data["reason"])})


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """The summary of an order. Counts are None if a source did not return them."""

    patients: int
    studies: int
    series: int | None
    images: int | None
    size_bytes: int
    withheld: tuple[ExpectedWithholding, ...] = ()
    notes: tuple[Message, ...] = ()
    """The errors of sources that did not answer."""
    risks: tuple[RiskSummary, ...] = ()

    @property
    def announced(self) -> tuple[str, ...]:
        """The codes of withholding that the summary shows; they do not count as gaps."""
        codes = {code for risk in self.risks for code in risk.announced}
        sure = {part.reason.category for part in self.withheld if part.is_sure}
        return tuple(sorted(codes | sure))

    @property
    def withheld_for_risks(self) -> tuple[RiskSummary, ...]:
        return tuple(risk for risk in self.risks if risk.announced)

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "withheld": [part.to_json() for part in self.withheld],
            "notes": [note.to_json() for note in self.notes],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "OrderSummary":
        withheld = tuple(ExpectedWithholding.from_json(part) for part in data["withheld"])
        notes = tuple(Message.from_json(note) for note in data["notes"])
        risks = tuple(
            RiskSummary(**{**one, "decision": Decision(**one["decision"])}) for one in data["risks"]
        )
        return cls(**{**data, "withheld": withheld, "notes": notes, "risks": risks})


@dataclass
class _SourceQueries:
    """Queries of the sources for the summary: limited in time and number, each one once."""

    user: User
    nodes: dict[int, Node]
    deadline: float
    query_count: int = 0
    errors: dict[Message, None] = field(default_factory=dict)

    def series(self, pick: PickedStudy) -> tuple[Record, ...] | None:
        if pick.series is not None:
            return pick.series
        node = self.nodes.get(pick.source)
        if node is None or not self._may_ask():
            return None
        study = StudyRef(pick.study.study_uid)
        return pick.selected(
            self._query(lambda: search.list_series(self.user, node, study, pick.study.patient_id))
        )

    def classes(self, pick: PickedStudy, series: Record) -> dict[str, int] | None:
        """Images by SOP class; None if unknown."""
        node = self.nodes.get(pick.source)
        if node is None or not self._may_ask():
            return None
        ref = SeriesRef(pick.study.study_uid, series.series_uid)
        return self._query(
            lambda: dict(search.count_sop_classes(self.user, node, ref, pick.study.patient_id))
        )

    def _may_ask(self) -> bool:
        return self.query_count < MAX_QUERIES and time.monotonic() < self.deadline

    def _query(self, query: Callable[[], Any]) -> Any:
        self.query_count += 1
        try:
            return query()
        except AditError as error:
            self.errors[error.message] = None
            return None


@dataclass(frozen=True, slots=True)
class _Rules:
    profile: ConfidentialityProfile
    decisions: tuple[Decision, ...]

    def may_apply(self, modality: str, images: int | None) -> list[ExpectedWithholding]:
        word = next(one for one in self.decisions if one.risk == HEADER_WORD.name)
        reason = admission.modality_warning(modality, self.profile, word.choice)
        return [ExpectedWithholding(reason, False, images)] if reason else []


def summarize_order(
    user: User,
    picks: Sequence[PickedStudy],
    nodes: Iterable[Node],
    profile: ConfidentialityProfile | None,
    decisions: tuple[Decision, ...],
) -> OrderSummary:
    """Query the sources within a small budget and return the summary.

    `profile` is None for an order without de-identification.
    """
    by_id = {node.pk: node for node in nodes}
    sources = _SourceQueries(user, by_id, time.monotonic() + TIME_BUDGET_S)
    asked = [(pick, sources.series(pick)) for pick in picks]
    withheld: list[ExpectedWithholding] = []
    if profile is not None:
        rules = _Rules(profile, decisions)
        for pick, series in asked:
            withheld += _expect_withheld(sources, pick, series, rules)
    counts = [pick.instance_count for pick in picks]
    return OrderSummary(
        patients=len(distinct_patients(picks)),
        studies=len(picks),
        series=_sum_known(_series_count(pick, series) for pick, series in asked),
        images=_sum_known(counts),
        size_bytes=sum(_estimate_size(pick, series) for pick, series in asked),
        withheld=_add_up(withheld),
        notes=tuple(sources.errors),
        risks=()
        if profile is None
        else warn_of_faces(asked, relevant_decisions(decisions, profile)),
    )


def _expect_withheld(
    sources: _SourceQueries, pick: PickedStudy, series: tuple[Record, ...] | None, rules: "_Rules"
) -> list[ExpectedWithholding]:
    if series is None:
        words = pick.study.modalities
        return [part for word in words for part in rules.may_apply(word, None)]
    in_study = pick.study.texts("SOPClassesInStudy")
    is_refused = [admission.sop_class_refusal(uid, rules.profile) is not None for uid in in_study]
    # Only where a class is refused, or the source does not list them, each series is queried.
    asks = not in_study or any(is_refused)
    parts: list[ExpectedWithholding] = []
    for record in series:
        classes = sources.classes(pick, record) if asks else None
        if classes is None:
            parts += rules.may_apply(record.text("Modality"), record.instance_count)
            continue
        for uid, count in classes.items():
            why = admission.sop_class_refusal(uid, rules.profile)
            parts += [] if why is None else [ExpectedWithholding(why, True, count)]
        if not any(admission.sop_class_refusal(uid, rules.profile) for uid in classes):
            parts += rules.may_apply(record.text("Modality"), record.instance_count)
    return parts


def _add_up(parts: list[ExpectedWithholding]) -> tuple[ExpectedWithholding, ...]:
    """Sum by reason; an unknown number of images makes the sum unknown."""
    images: Counter[tuple[Message, bool]] = Counter()
    unknown: set[tuple[Message, bool]] = set()
    for part in parts:
        kind = (part.reason, part.is_sure)
        images[kind] += part.images or 0
        if part.images is None:
            unknown.add(kind)
    return tuple(
        ExpectedWithholding(*kind, None if kind in unknown else count)
        for kind, count in images.most_common()
    )


def _series_count(pick: PickedStudy, series: tuple[Record, ...] | None) -> int | None:
    if pick.series_uids:
        return len(pick.series_uids)
    return len(series) if series is not None else pick.study.series_count


def _estimate_size(pick: PickedStudy, series: tuple[Record, ...] | None) -> int:
    if series is not None and all(record.instance_count is not None for record in series):
        return sum(
            typical_image_bytes(record.modalities) * (record.instance_count or 0)
            for record in series
        )
    return typical_image_bytes(pick.study.modalities) * (pick.instance_count or 0)


def _sum_known(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def format_estimated_size(size_bytes: int) -> str:
    """Format a size as `≈ 1.2 GB`, marked as an estimate."""
    if size_bytes < 1_000_000_000:
        return _("≈ %(size)d MB") % {"size": max(1, round(size_bytes / 1_000_000))}
    return _("≈ %(size).1f GB") % {"size": size_bytes / 1_000_000_000}
