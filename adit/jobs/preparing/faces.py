"""Faces: which of the ordered series may show a face, told before the start, and what is done then."""

from collections.abc import Iterable
from dataclasses import dataclass

from adit.jobs.guess import risk_of
from adit.jobs.preparing.basket import Pick
from adit.profiles import faces
from adit.profiles.models import Trial
from adit_engine.pseudonymize.face import CODE, FaceRisk, Named, face_risk
from adit_engine.pseudonymize.face import Faces as Chosen
from adit_engine.record import Record

Asked = Iterable[tuple[Pick, tuple[Record, ...] | None]]
"""Each pick with the series that come along; None where the source did not tell."""


@dataclass(frozen=True, slots=True)
class Decided:
    """As it stood when the summary was shown. The value of `pseudonymize.face.Faces`."""

    chosen: str = Chosen.UNDECIDED.value
    reason: str = ""

    @classmethod
    def by(cls, trial: Trial) -> "Decided":
        return cls(faces.chosen(trial).value, trial.faces_reason)

    @property
    def sentence(self) -> str:
        return faces.sentence(Chosen(self.chosen), self.reason)

    @property
    def next_step(self) -> str:
        return faces.next_step(Chosen(self.chosen))


@dataclass(frozen=True, slots=True)
class FaceTold:
    """`likely`: series that name a head. `perhaps`: what tells nothing, series or whole studies."""

    likely: int
    perhaps: int
    images: int | None
    decided: Decided

    @property
    def announced(self) -> tuple[str, ...]:
        """The code of withholding, where that was told; then it is no gap."""
        return () if self.decided.chosen == Chosen.ACCEPT.value else (CODE,)


def told(asked: Asked, decided: Decided) -> FaceTold | None:
    """Judged by what searches tell, which knows no slice thickness; None where no face may show."""
    risks: list[tuple[FaceRisk, int | None]] = []
    for pick, series in asked:
        risks += _of_study(pick) if series is None else [risk_of(pick.study, one) for one in series]
    risks = [(risk, images) for risk, images in risks if risk is not FaceRisk.NONE]
    if not risks:
        return None
    likely = sum(risk is FaceRisk.LIKELY for risk, _ in risks)
    counts = [images for _, images in risks]
    images = None if None in counts else sum(count or 0 for count in counts)
    return FaceTold(likely, len(risks) - likely, images, decided)


def _of_study(pick: Pick) -> list[tuple[FaceRisk, int | None]]:
    named = Named(study=(pick.study.study_description,))
    return [(face_risk(modality, named), None) for modality in pick.study.modalities]
