"""Assess the risk that a series shows a face; the decision on such risks. Used for withholding and warnings.

Thin slices of a head by CT, MR or PET can be rendered as a picture of the face. No attribute that
gives the body part is reliably present, so a series without any counts as a head.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from adit_engine.elements import Buffer, Element, elements, is_sequence, items, nested_explicit
from adit_engine.errors import InstanceWithheld

THIN_MM = 3.0
MANY_IMAGES = 60
"""Number of head slices that are close enough to render a face, if their distance is unknown."""

_VOLUME_MODALITIES = frozenset({"CT", "MR", "PT"})

_HEAD_PARTS = (
    "head", "brain", "skull", "face", "facial", "crani", "cereb", "sinus", "orbit", "neck", "jaw",
    "maxill", "mandib", "dental", "pituitary", "sella", "whole", "neuro", "carotid", "karotis",
    "menin", "hippoc", "temporal", "tongue", "nasal", "larynx", "pharyn", "thyroid", "cspine",
    "cervical", "stroke", "trauma", "kopf", "schädel", "schaedel", "hirn", "hals", "gesicht",
    "kiefer", "schilddr", "felsenbein", "ganzk", "zahn", "cabeza", "cerveau", "crân", "kraniu",
)  # fmt: skip
"""Parts of words. The neck is included, since such series often reach up to the eyes."""
_HEAD_WORDS = frozenset(
    {"ear", "iac", "tmj", "nnh", "cct", "ccta", "wb", "hno", "ent", "eye", "eyes", "hws", "nose"}
    | {"nase", "auge", "augen", "ohr", "tete", "tête", "hn", "kiefergelenk", "cow"}
)
_OTHER_PARTS = (
    "abdom", "thora", "pelvi", "becken", "prostat", "lumbar", "kidney", "breast", "mamma", "liver",
    "leber", "niere", "lunge", "heart", "herz", "cardiac", "knee", "ankle", "wrist", "elbow",
    "femur", "tibia", "shoulder", "schulter", "sprunggelenk", "lspine", "tspine", "extremit",
    "pancrea", "pankrea", "colon", "uterus", "bladder", "rectum", "rektum", "oberbauch",
)  # fmt: skip
_OTHER_WORDS = frozenset(
    {"chest", "foot", "hand", "hip", "leg", "arm", "legs", "knie", "lws", "bws", "lung", "lungs"}
    | {"hüfte", "hufte", "fuß", "fuss", "bauch", "mrcp", "renal", "hepatic", "isg"}
)

_IMAGE_TYPE = 0x00080008
_STUDY_DESCRIPTION = 0x00081030
_SERIES_DESCRIPTION = 0x0008103E
_BODY_PART = 0x00180015
_PROTOCOL_NAME = 0x00181030
_RECEIVE_COIL = 0x00181250
_ACQUISITION_PROTOCOL = 0x00189423
_REQUESTED_PROCEDURE = 0x00321060
_PERFORMED_STEP = 0x00400254
_THICKNESS = 0x00180050
_SPACING = 0x00180088
_CODE_MEANING = 0x00080104
_SERIES_TAGS = (_BODY_PART, _PROTOCOL_NAME, _RECEIVE_COIL, _ACQUISITION_PROTOCOL, _PERFORMED_STEP)
_STUDY_TAGS = (_STUDY_DESCRIPTION, _REQUESTED_PROCEDURE)
_LENGTH_TAGS = (_THICKNESS, _SPACING)

REQUIRED_TAGS = frozenset(
    {_IMAGE_TYPE, _SERIES_DESCRIPTION, *_SERIES_TAGS, *_STUDY_TAGS, *_LENGTH_TAGS}
)
"""The tags whose values `check` needs."""

_FUNCTIONAL_GROUPS = frozenset({0x52009229, 0x52009230})
_ANATOMIC_REGION = 0x00082218
_FRAME_ANATOMY = 0x00209071
_PIXEL_MEASURES = 0x00289110
_SEARCHED_SEQUENCES = frozenset(
    {_ANATOMIC_REGION, _FRAME_ANATOMY, _PIXEL_MEASURES, *_FUNCTIONAL_GROUPS}
)
"""Sequences with the body part and the slice thickness of enhanced images."""


class RiskDecision(Enum):
    """A decision on a risk, without a default. While it is UNDECIDED, such images are withheld."""

    UNDECIDED = "undecided"
    WITHHOLD = "withhold"
    ACCEPT = "accept"


class FaceRisk(Enum):
    """UNKNOWN: the header gives no body part, or no slice thickness."""

    NONE = "none"
    UNKNOWN = "unknown"
    LIKELY = "likely"


FACE_CODE = "face"
"""Category of the messages about images that may show a face."""
UNCONFIRMED_ANNOTATION = "header-word"
"""Category of the refusal of images whose header alone says that they show no text."""

_REFUSALS = {
    (FaceRisk.LIKELY, RiskDecision.WITHHOLD): "face.likely",
    (FaceRisk.UNKNOWN, RiskDecision.WITHHOLD): "face.possible",
    (FaceRisk.LIKELY, RiskDecision.UNDECIDED): "face.likely-undecided",
    (FaceRisk.UNKNOWN, RiskDecision.UNDECIDED): "face.possible-undecided",
}


@dataclass(frozen=True, slots=True)
class SeriesTexts:
    """Texts that describe a series.

    `about`: body part, protocol, coil, anatomy; `study`: texts of the whole study.
    """

    description: str = ""
    series_texts: tuple[str, ...] = ()
    study_texts: tuple[str, ...] = ()


def assess_face_risk(
    modality: str, texts: SeriesTexts, thickness_mm: float | None = None, images: int | None = None
) -> FaceRisk:
    """Assess one series. `images` matters only if the slice thickness is unknown."""
    if modality.strip(" \0").upper() not in _VOLUME_MODALITIES:
        return FaceRisk.NONE
    if thickness_mm is not None and thickness_mm > THIN_MM:
        return FaceRisk.NONE
    is_head = _is_head(texts)
    if is_head is False:
        return FaceRisk.NONE
    is_thin = thickness_mm is not None or (images is not None and images >= MANY_IMAGES)
    return FaceRisk.LIKELY if is_head and is_thin else FaceRisk.UNKNOWN


def check(
    decision: RiskDecision,
    modality: str,
    values: Mapping[int, bytes],
    nested: Iterable[tuple[int, bytes]],
    shows_trunk: Callable[[], bool],
) -> bool:
    """Return whether the object may show a face and this is accepted.

    Raises InstanceWithheld if it is not accepted. `values` are encoded values by tag (see
    REQUIRED_TAGS); `nested` comes from `read_nested_values`. `shows_trunk` looks at the pixels; it
    is asked if the header names no part of the body.
    """
    if modality not in _VOLUME_MODALITIES:
        return False
    risk, is_head = _assess_values(
        modality, frozenset(nested), *(values.get(tag, b"") for tag in _TAG_ORDER)
    )
    if risk is FaceRisk.NONE:
        return False
    if decision is RiskDecision.ACCEPT:
        return True
    if is_head is None and shows_trunk():
        return False
    raise InstanceWithheld(_REFUSALS[risk, decision])


_TAG_ORDER = (_IMAGE_TYPE, _SERIES_DESCRIPTION, *_SERIES_TAGS, *_STUDY_TAGS, *_LENGTH_TAGS)


@lru_cache(maxsize=256)
def _assess_values(
    modality: str, nested: frozenset[tuple[int, bytes]], *values: bytes
) -> tuple[FaceRisk, bool | None]:
    """Assess one image; also return whether it is named as one of a head (None: not named).

    Cached, since the images of a series mostly have the same values.
    """
    told = dict(zip(_TAG_ORDER, values, strict=True))
    if modality == "CT" and b"LOCALIZER" in told[_IMAGE_TYPE].upper():
        return FaceRisk.NONE, None  # a projection, not a slice (PS3.3 C.8.2.1.1.1)
    lengths = [told[_THICKNESS], told[_SPACING]]
    lengths += [value for tag, value in nested if tag in _LENGTH_TAGS]
    named = SeriesTexts(
        _decode_text(told[_SERIES_DESCRIPTION]),
        tuple(
            [_decode_text(told[tag]) for tag in _SERIES_TAGS]
            + [_decode_text(value) for tag, value in sorted(nested) if tag not in _LENGTH_TAGS]
        ),
        tuple(_decode_text(told[tag]) for tag in _STUDY_TAGS),
    )
    return assess_face_risk(modality, named, _smallest_length(lengths)), _is_head(named)


def read_nested_values(
    data: Buffer, explicit: bool, found: Iterable[Element], depth: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield values on body part and thickness from nested sequences. Raises Malformed."""
    for element in found:
        if element[0] not in _SEARCHED_SEQUENCES or not is_sequence(element, "SQ"):
            continue
        inside = nested_explicit(element, explicit)
        for item in items(data, inside, element, depth):
            level = list(elements(data, inside, item.value, item.value_end, depth + 1))
            for one in level:
                if one.tag in (_CODE_MEANING, *_LENGTH_TAGS):
                    yield one.tag, bytes(data[one.value : one.end])
            yield from read_nested_values(data, inside, level, depth + 1)


def _is_head(texts: SeriesTexts) -> bool | None:
    """None: unknown. Texts of the series have priority over texts of the study."""
    own = (texts.description, *texts.series_texts)
    if any(_contains_word(text, _HEAD_PARTS, _HEAD_WORDS) for text in own):
        return True
    if _contains_word(texts.description, _OTHER_PARTS, _OTHER_WORDS):
        return False
    if any(_contains_word(text, _HEAD_PARTS, _HEAD_WORDS) for text in texts.study_texts):
        return True
    is_elsewhere = any(
        _contains_word(text, _OTHER_PARTS, _OTHER_WORDS)
        for text in (*texts.series_texts, *texts.study_texts)
    )
    return False if is_elsewhere else None


def _contains_word(text: str, parts: tuple[str, ...], whole: frozenset[str]) -> bool:
    words = "".join(sign if sign.isalpha() else " " for sign in text.lower()).split()
    return any(word in whole or any(part in word for part in parts) for word in words)


def _decode_text(value: bytes) -> str:
    """Empty for text with escape sequences (ISO 2022), whose letters form no words."""
    if b"\x1b" in value:
        return ""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


_NUMBER = re.compile(rb"[ ]*[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?[ \0]*|[ ]*\.[0-9]+[ \0]*")


def _smallest_length(values: Iterable[bytes]) -> float | None:
    """Use the smallest: overlapping slices are closer than they are thick. Ignore zero."""
    known = [float(value.strip(b" \0")) for value in values if _NUMBER.fullmatch(value)]
    return min((length for length in known if length > 0), default=None)
