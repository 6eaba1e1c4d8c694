"""Risks: which of the ordered series bear one, told before the start, and what is done then."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from adit.jobs.guess import risk_of
from adit.jobs.preparing.basket import Pick
from adit.profiles.risks import HEADER_WORD, Decision
from adit_engine.pseudonymize.face import FaceRisk
from adit_engine.record import Record

Asked = Iterable[tuple[Pick, tuple[Record, ...] | None]]
"""Each pick with the series that come along; None where the source did not tell."""


@dataclass(frozen=True, slots=True)
class RiskTold:
    """`likely`: series that bear the risk. `perhaps`: what tells nothing, series or whole studies."""

    decision: Decision
    likely: int
    perhaps: int
    images: int | None
    modalities: str

    @property
    def announced(self) -> tuple[str, ...]:
        """The code of withholding, where that was told; then it is no gap."""
        return () if self.decision.is_accepted else (self.decision.known.code,)

    @property
    def sentence(self) -> str:
        """Which series bear the risk, and what it is."""
        if self.decision.risk == HEADER_WORD.name:
            return ngettext(
                "%(n)d series (%(modalities)s) can show text in its pixels, and a header is no proof "
                "that there is none.",
                "%(n)d series (%(modalities)s) can show text in their pixels, and a header is no proof "
                "that there is none.",
                self.likely,
            ) % {"n": self.likely, "modalities": self.modalities}
        parts = []
        if self.likely:
            told = ngettext("%d series shows a head.", "%d series show a head.", self.likely)
            parts.append(told % self.likely)
        if self.perhaps:
            told = ngettext(
                "Of %d series the source does not tell that it shows no head, or how thin its slices "
                "are.",
                "Of %d series the source does not tell that they show no head, or how thin their "
                "slices are.",
                self.perhaps,
            )
            parts.append(told % self.perhaps)
        return " ".join([*parts, _("From thin slices of a head the person's face can be drawn.")])


def told(asked: Asked, decisions: Iterable[Decision]) -> tuple[RiskTold, ...]:
    """Judged by what searches tell, which know no slice thickness; those alone that some series bear."""
    series = [one for pick, found in asked for one in _lines(pick, found)]
    told = (_told(series, decision) for decision in decisions)
    return tuple(one for one in told if one is not None)


_Line = tuple[Record, Record | None, str]
"""A study, a series of it (None: not told), and a modality."""


def _lines(pick: Pick, series: tuple[Record, ...] | None) -> list[_Line]:
    if series is None:
        return [(pick.study, None, modality) for modality in pick.study.modalities]
    return [(pick.study, one, one.text("Modality")) for one in series]


def _told(lines: Iterable[_Line], decision: Decision) -> RiskTold | None:
    risks = [
        (risk_of(decision.risk, study, series, modality), series, modality)
        for study, series, modality in lines
    ]
    found = [one for one in risks if one[0] is not FaceRisk.NONE]
    if not found:
        return None
    likely = sum(risk is FaceRisk.LIKELY for risk, _series, _modality in found)
    counts = [series.instance_count if series else None for _risk, series, _modality in found]
    images = None if None in counts else sum(count or 0 for count in counts)
    modalities = ", ".join(sorted({modality for _risk, _series, modality in found}))
    return RiskTold(decision, likely, len(found) - likely, images, modalities)
