"""Images that could show a face are released only if the project accepts the risk."""

from dataclasses import replace

import pytest
from lab.deid_objects import CT, MR, PET, change, encode, header, instance, items

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.statistics import PIXEL_DATA, AppliedAction, ChangeStatistics

THIN, THICK = ("DS", b"1.0 "), ("DS", b"5.0 ")
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"


def leaves(
    sop_class: str = CT, faces: RiskDecision = RiskDecision.UNDECIDED, **elements: tuple[str, bytes]
):
    """Return True if the image is released, else the code of the reason."""
    how = replace(change(), face_decision=faces)
    try:
        apply(how, instance(header(sop_class, **elements)))
    except InstanceWithheld as held:
        return held.message.code
    return True


def said(body_part: bytes = b"", series: bytes = b"", study: bytes = b"", thickness=THIN):
    found = {"t00180050": thickness} if thickness else {}
    for name, vr, value in (
        ("t00180015", "CS", body_part),
        ("t0008103E", "LO", series),
        ("t00081030", "LO", study),
    ):
        if value:
            found[name] = (vr, value)
    return found


HEADS = {
    "body part": said(b"HEAD"),
    "series": said(b"", b"t1_mprage_sag Kopf"),
    "study alone": said(b"", b"0.6 Br40", b"CT Sch\xe4del"),
    "body part that contradicts the series": said(b"CHEST", b"Hals nativ"),
    "body part that contradicts the study": said(b"CHEST", b"0.6 Br40", b"CCT"),
    "whole body": said(b"WHOLEBODY"),
    "trauma": said(b"", b"1.0", b"Polytrauma Spirale"),
    "neck to pelvis": said(b"ABDOMEN", b"Hals Thorax Abdomen"),
    "nothing": said(),
    "no thickness either": said(thickness=None),
    "empty thickness": said(thickness=("DS", b"")),
    "thickness of nothing": said(thickness=("DS", b"0 ")),
    "a word in an escaped script": said(b"", b"\x1b$B leg \x1b(B"),
    "overlapping thick slices": {**said(b"HEAD", thickness=THICK), "t00180088": ("DS", b"2 ")},
    "anatomy by code": {
        **said(),
        "t00082218": ("SQ", items(encode(0x00080104, "LO", b"Head and Neck"))),
    },
    "head coil": {**said(), "t00181250": ("SH", b"HeadNeck_64")},
}

ELSEWHERE = {
    "body part": said(b"ABDOMEN"),
    "thick slices of a head": said(b"HEAD", thickness=THICK),
    "series": said(b"", b"Thorax nativ 1.0"),
    "study": said(b"", b"0.6 Br40", b"CT Abdomen"),
    "series of a study of several parts": said(b"", b"Abdomen ven 1.0", b"CT Kopf Thorax Abdomen"),
    "anatomy by code": {
        **said(),
        "t00082218": ("SQ", items(encode(0x00080104, "LO", b"Abdomen"))),
    },
    "thick slices of nothing named": said(thickness=THICK),
    "coronal knee": said(b"KNEE", b"t2 cor"),
}


@pytest.mark.parametrize("elements", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("sop_class", [CT, MR, PET])
def test_thin_slices_that_may_show_a_head_are_withheld_unless_accepted(
    sop_class: str, elements
) -> None:
    withheld = leaves(sop_class, RiskDecision.WITHHOLD, **elements)
    assert withheld in ("face.likely", "face.possible")
    assert leaves(sop_class, **elements) == f"{withheld}-undecided"
    assert leaves(sop_class, RiskDecision.ACCEPT, **elements) is True


@pytest.mark.parametrize("elements", ELSEWHERE.values(), ids=ELSEWHERE)
def test_images_that_show_no_face_are_released_without_a_decision(elements) -> None:
    assert leaves(CT, RiskDecision.UNDECIDED, **elements) is True
    assert leaves(CT, RiskDecision.WITHHOLD, **elements) is True


def test_a_ct_localizer_is_released_and_an_mr_localizer_is_withheld() -> None:
    localizer = {"t00080008": ("CS", b"ORIGINAL\\PRIMARY\\LOCALIZER"), **said(b"HEAD")}
    assert leaves(CT, **localizer) is True
    assert leaves(MR, **localizer) == "face.likely-undecided"


def shared(*, region: bytes, thickness: bytes) -> tuple[str, bytes]:
    anatomy = items(encode(0x00082218, "SQ", items(encode(0x00080104, "LO", region))))
    measures = items(encode(0x00180050, "DS", thickness))
    inside = encode(0x00209071, "SQ", anatomy) + encode(0x00289110, "SQ", measures)
    return ("SQ", items(inside))


@pytest.mark.parametrize("group", ["t52009229", "t52009230"])
@pytest.mark.parametrize("sop_class", [ENHANCED_MR, LEGACY_CT])
def test_enhanced_images_are_assessed_by_their_functional_groups(
    sop_class: str, group: str
) -> None:
    made = {"t00280008": ("IS", b"1 "), "t00280301": ("CS", b"NO")}
    for region, thickness, free in (
        (b"Head", b"1.0 ", False),
        (b"Abdomen ", b"1.0 ", True),
        (b"Head", b"5.0 ", True),
    ):
        elements = {**made, group: shared(region=region, thickness=thickness)}
        assert (leaves(sop_class, **elements) is True) is free
    assert leaves(sop_class, **made) == "face.possible-undecided"


def test_the_face_decision_does_not_change_released_bytes() -> None:
    free = instance(header(t00180015=("CS", b"ABDOMEN")))
    made = {apply(replace(change(), face_decision=faces), free).sha256() for faces in RiskDecision}
    assert len(made) == 1


def test_an_accepted_face_risk_is_counted() -> None:
    tally = ChangeStatistics()
    for part in (b"HEAD", b"ABDOMEN"):
        apply(change(), instance(header(t00180015=("CS", part), t00180050=THIN)), tally)
    assert tally.counts[PIXEL_DATA, AppliedAction.FACE_RISK_ACCEPTED] == 1
