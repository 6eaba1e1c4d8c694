"""Face: whether a series could show a person's face, so that somebody decides before it leaves."""

from collections.abc import Iterable
from enum import Enum

THIN_MM = 3.0
MANY_IMAGES = 60
"""As many slices of a head lie so close that a face can be drawn from them, if nothing tells how far."""

_VOLUMES = frozenset({"CT", "MR", "PT"})
_HEAD = (
    "head", "brain", "skull", "face", "facial", "crani", "cereb", "sinus", "orbit", "neck", "jaw",
    "maxill", "mandib", "dental", "ear", "iac", "pituitary", "sella", "whole", "tmj",
    "kopf", "schädel", "schaedel", "hirn", "hals", "nnh", "gesicht", "kiefer", "neuro", "cct",
)  # fmt: skip
_SHORT = frozenset({"ear", "iac", "tmj", "nnh", "cct", "wb", "hno", "jaw"})
_ELSEWHERE = frozenset(
    {"abdomen", "chest", "thorax", "pelvis", "knee", "ankle", "foot", "hand", "wrist", "elbow"}
    | {"hip", "leg", "arm", "heart", "liver", "kidney", "breast", "prostate", "lspine", "lumbar"}
    | {"femur", "tibia"}
)


class FaceRisk(Enum):
    """UNKNOWN: nothing tells which part of the body the series shows, or how thin its slices are."""

    NONE = "none"
    UNKNOWN = "unknown"
    LIKELY = "likely"


def face_risk(
    modality: str,
    texts: Iterable[str],
    thickness_mm: float | None = None,
    images: int | None = None,
) -> FaceRisk:
    """Of one series, from what a search tells. `texts`: body part examined and descriptions.

    Thin slices of a head by CT, MR or PET can be turned into a picture of the face.
    """
    if modality.strip(" \0").upper() not in _VOLUMES:
        return FaceRisk.NONE
    words = [word for text in texts for word in _words(text)]
    is_head = any(_names_head(word) for word in words)
    if not is_head and any(word in _ELSEWHERE for word in words):
        return FaceRisk.NONE
    thin = thickness_mm <= THIN_MM if thickness_mm else None
    if thin is None and images is not None:
        thin = images >= MANY_IMAGES
    if thin is False:
        return FaceRisk.NONE
    return FaceRisk.LIKELY if is_head and thin else FaceRisk.UNKNOWN


SENTENCES = {
    FaceRisk.LIKELY: "Thin slices of a head: the person's face could be drawn from them.",
    FaceRisk.UNKNOWN: (
        "It may show a head in thin slices, from which the person's face could be drawn: "
        "the search does not tell."
    ),
}
"""What the summary says before the start; nothing where there is no risk."""


def _words(text: str) -> list[str]:
    return "".join(sign if sign.isalpha() else " " for sign in text.lower()).split()


def _names_head(word: str) -> bool:
    return word in _SHORT or any(part in word for part in _HEAD if part not in _SHORT)
