"""Guess: what a search lets one expect of a series: its size, and whether it may show a face."""

from collections.abc import Iterable

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


def risk_of(study: Record, series: Record) -> tuple[FaceRisk, int | None]:
    """With the number of images, None where it was not told."""
    named = Named(
        series.series_description,
        series.texts("BodyPartExamined"),
        (study.study_description,),
    )
    images = series.instance_count
    return face_risk(series.text("Modality"), named, images=images), images
