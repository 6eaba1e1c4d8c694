"""Slices whose header names no part of the body leave if their pixels show a trunk."""

from collections.abc import Callable
from dataclasses import replace
from struct import pack

import numpy as np
import pytest
from lab.deid_objects import CT, MR, PET, change, header, instance

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer

SIDE, AIR = 256, -1000.0
FIELD_CM = 50.0
AXIAL = b"1\\0\\0\\0\\1\\0 "
SAGITTAL = b"0\\1\\0\\0\\0\\-1"

Pixels = np.ndarray


def ellipse(width_cm: float, height_cm: float, x_cm: float = 0, y_cm: float = 0) -> Pixels:
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE * FIELD_CM - FIELD_CM / 2
    return np.hypot((x - x_cm) / width_cm * 2, (y - y_cm) / height_cm * 2) < 1


def scan(*parts: tuple[Pixels, float]) -> Pixels:
    values = np.full((SIDE, SIDE), AIR)
    for where, hounsfield in parts:
        values[where] = hounsfield
    return values + np.random.default_rng(1).normal(0, 15, values.shape)


def trunk() -> Pixels:
    lungs = [(ellipse(10, 14, x, 0), -850.0) for x in (-9, 9)]
    table = (ellipse(46, 3, 0, 15), 100.0)
    return scan(table, (ellipse(38, 25), 40.0), *lungs, (ellipse(3, 3, 0, 9), 600.0))


def head() -> Pixels:
    return scan((ellipse(16, 20), 800.0), (ellipse(14, 18), 35.0))


def head_between_arms() -> Pixels:
    arms = [(ellipse(10, 10, x, 3), 40.0) for x in (-12, 12)]
    return scan((ellipse(16, 20), 800.0), (ellipse(14, 18), 35.0), *arms)


def head_in_a_shell() -> Pixels:
    return scan((ellipse(36, 28), 100.0), (ellipse(34, 26), AIR), (ellipse(16, 20), 35.0))


def outcome(values: Pixels, sop_class: str = CT, **more: tuple[str, bytes]) -> str:
    """Return the code of the reason; empty if the image is released and verified."""
    spacing = f"{FIELD_CM * 10 / SIDE}".encode()
    elements = {
        "t00080008": ("CS", b"ORIGINAL\\PRIMARY\\AXIAL "),
        "t00180050": ("DS", b"1.0 "),
        "t00200037": ("DS", AXIAL),
        "t00280010": ("US", pack("<H", SIDE)),
        "t00280011": ("US", pack("<H", SIDE)),
        "t00280030": ("DS", spacing + b"\\" + spacing + b" "),
        "t00281052": ("DS", b"-1024 "),
        "t00281053": ("DS", b"1 "),
        "t7FE00010": ("OW", (values + 1024).round().clip(0, 4095).astype("<u2").tobytes()),
    } | more
    how = replace(change(), face_decision=RiskDecision.UNDECIDED)
    try:
        InstancePseudonymizer(how).prepare_outgoing(instance(header(sop_class, **elements)))
    except InstanceWithheld as held:
        return held.message.code
    return ""


@pytest.mark.parametrize("sop_class", [CT, MR])
def test_a_trunk_without_a_named_body_part_leaves(sop_class: str) -> None:
    assert outcome(trunk(), sop_class) == ""


@pytest.mark.parametrize("sop_class", [CT, MR])
@pytest.mark.parametrize("make", [head, head_between_arms, head_in_a_shell])
def test_a_head_stays_withheld(make: Callable[[], Pixels], sop_class: str) -> None:
    assert outcome(make(), sop_class) == "face.possible-undecided"


DOUBTS = {
    "sagittal": {"t00200037": ("DS", SAGITTAL)},
    "no orientation": {"t00200037": ("DS", b"")},
    "no spacing": {"t00280030": ("DS", b"")},
    "small field of view": {"t00280030": ("DS", b"0.6\\0.6 ")},
    "no rescale": {"t00281052": ("DS", b"")},
    "other unit": {"t00281052": ("DS", b"0 ")},
    "rendering": {"t00080008": ("CS", b"DERIVED\\SECONDARY ")},
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_cannot_be_judged_stays_withheld(doubt: str) -> None:
    assert outcome(trunk(), **DOUBTS[doubt]) == "face.possible-undecided"


def test_a_named_head_or_another_modality_is_not_looked_at() -> None:
    assert outcome(trunk(), t00180015=("CS", b"HEAD")) == "face.likely-undecided"
    assert outcome(trunk(), PET) == "face.possible-undecided"


def test_noise_and_full_frames_stay_withheld() -> None:
    assert outcome(scan((ellipse(90, 90), 40.0))) == "face.possible-undecided"
    noise = np.random.default_rng(2).normal(0, 600, (SIDE, SIDE))
    assert outcome(noise, MR) == "face.possible-undecided"
