"""Guess: what a search lets one expect of a series: its size, and the risks that it may bear."""

from collections.abc import Iterable

from adit.profiles.risks import HEADER_WORD
from adit_engine.pseudonymize import admit
from adit_engine.pseudonymize.face import FaceRisk, Named, face_risk
from adit_engine.record import Record

USUAL_BYTES = {
    "CT": 530_000,
    "MR": 300_000,
    "PT": 70_000,
    "NM": 1_000_000,
    "CR": 8_000_000,
    "DX": 15_000_000,
    "MG": 27_000_000,
    "XA": 20_000_000,
    "RF": 8_000_000,
    "US": 1_500_000,
    "SC": 1_500_000,
    "RTDOSE": 10_000_000,
    "RTSTRUCT": 3_000_000,
    "SEG": 5_000_000,
}
OTHER_BYTES = 1_000_000
"""Usual sizes of one image in bytes: a query does not tell sizes."""


def usual_bytes(modalities: Iterable[str]) -> int:
    """Of one image, for an estimate."""
    sizes = [USUAL_BYTES.get(modality, OTHER_BYTES) for modality in modalities]
    return max(sizes, default=OTHER_BYTES)


def risk_of(risk: str, study: Record, series: Record | None, modality: str) -> FaceRisk:
    """Whether a series bears a risk of risks.py; `series` is None where the source tells none."""
    if risk == HEADER_WORD.name:
        return FaceRisk.LIKELY if admit.needs_choice(modality) else FaceRisk.NONE
    of_study = (study.study_description,)
    if series is None:
        return face_risk(modality, Named(study=of_study))
    named = Named(series.series_description, series.texts("BodyPartExamined"), of_study)
    return face_risk(modality, named, images=series.instance_count)
