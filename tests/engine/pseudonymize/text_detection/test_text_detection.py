"""Images are looked at before they leave: text withholds them, its absence releases them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from socket import socket
from struct import pack
from threading import Timer

import numpy as np
import pytest
from lab.burned_in import (
    NAME,
    SC,
    SIDE,
    US,
    US_FRAMES,
    anatomy,
    burn,
    grid,
    grid_on_noise,
    heart_curve,
    image,
    scale_marks,
    strokes,
    texture,
)
from lab.deid_objects import CR, CT, DX, MR, change

from adit_engine.errors import InstanceWithheld
from adit_engine.messages import Message
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.pixel_rules import PixelRule, Rectangle
from adit_engine.pseudonymize.profile import CLEAN_PIXELS, ConfidentialityProfile, TextDetection
from adit_engine.pseudonymize.statistics import PIXEL_DATA, AppliedAction, ChangeStatistics
from adit_engine.pseudonymize.text_detection import detector, inspection
from adit_engine.pseudonymize.text_detection.detector import is_installed, shared_detector
from adit_engine.pseudonymize.text_detection.findings import PatientWords, judge_regions
from adit_engine.pseudonymize.text_detection.layouts import group_by_layout
from adit_engine.pseudonymize.text_detection.proposal import find_text_places, propose_rectangles
from adit_engine.pseudonymize.text_detection.regions import TextRegion
from adit_engine.values.instance import Instance

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the extra ocr: make test-ocr")

XA, MG = "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.1.2"
NM, RF = "1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.12.2"
ALL, IMAGES = TextDetection.IMAGES_AND_SLICES, TextDetection.IMAGES


@pytest.fixture(autouse=True, scope="module")
def _no_child_stays() -> Iterator[None]:
    yield
    shared_detector().close()


def how(
    detection: TextDetection = IMAGES,
    *rules: PixelRule,
    word: RiskDecision = RiskDecision.UNDECIDED,
) -> Pseudonymization:
    options = frozenset({"113107", CLEAN_PIXELS} if rules else {"113107"})
    profile = ConfidentialityProfile("Test", 1, options, rules, detection)
    return replace(change(), profile=profile, annotation_decision=word)


def outcome(image: Instance, choice: Pseudonymization | None = None) -> str:
    """Return the code of the reason if the image is withheld; empty if released and verified."""
    try:
        InstancePseudonymizer(choice or how()).prepare_outgoing(image)
    except InstanceWithheld as held:
        return held.message.code
    return ""


def mask(sop_class: str, *rectangles: Rectangle) -> PixelRule:
    return PixelRule(
        sop_class, "Sample Devices", "Model 1", "", SIDE, SIDE, rectangles, reason="checked"
    )


# Second look ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sop_class", [CR, DX, MG, XA, RF, NM, US, SC])
def test_text_decides_what_only_the_header_withheld_before(sop_class: str) -> None:
    clean, named = image(anatomy(), sop_class), image(burn(anatomy()), sop_class)

    before = outcome(clean, how(TextDetection.OFF))
    assert before in ("header-word.undecided", "pixel-rule.class")
    assert outcome(clean) == ""
    assert outcome(named) == "text-found.text"


def test_a_trusted_header_does_not_exempt_an_image_from_the_look() -> None:
    accepted = how(word=RiskDecision.ACCEPT)

    assert outcome(image(burn(anatomy())), replace(accepted, profile=how().profile)) != ""
    assert outcome(image(burn(anatomy())), accepted) == "text-found.text"
    assert outcome(image(anatomy()), accepted) == ""


def test_what_the_header_rules_out_stays_withheld() -> None:
    assert outcome(image(anatomy(), t00280301=("CS", b"YES"))) == "burned-in.stated"
    assert outcome(image(anatomy(), t00080008=("CS", b"DERIVED\\SCREEN SAVE"))) != ""
    assert outcome(image(anatomy(), CT, t00080064=("CS", b"WSD"))) == "conversion.capture"


@pytest.mark.parametrize(
    "mark", ["R", "L", "10 cm", "0    5    10    15", "120 kV", "R 85 kV 5 mAs"]
)
def test_harmless_marks_do_not_withhold(mark: str) -> None:
    assert outcome(image(burn(anatomy(), mark, height=20))) == ""


@pytest.mark.parametrize(
    "text", ["12.05.1980", "07 11 71", "07 11 15", "4711-0815", "Nr 12345", "Li Wei", "Ma"]
)
def test_dates_numbers_and_short_names_withhold(text: str) -> None:
    assert outcome(image(burn(anatomy(), text, height=20))) != ""


# Where text hides -------------------------------------------------------------------------------


def _in_padding() -> np.ndarray:
    values = anatomy()
    values[:60] = 0
    return values + 2 * (strokes(NAME) > 0.5) * (values == 0)


def _below_padding() -> Instance:
    values = burn(anatomy(384), brightness=3800, height=12, place=(20, 76))
    values[:60] = 65535
    sixteen = {"t00280101": ("US", pack("<H", 16)), "t00280102": ("US", pack("<H", 15))}
    stored = values.round().clip(0, 65535).astype("<u2")
    return image(
        values, t00280120=("US", b"\xff\xff"), t7FE00010=("OW", stored.tobytes()), **sixteen
    )


def _palette_image() -> Instance:
    """Colors of the palette are equal, so the text is visible with another palette only."""
    values = np.full((SIDE, SIDE), 10.0) + (strokes(NAME) > 0.5)
    tables = {f"t0028120{n}": ("OW", bytes(512)) for n in (1, 2, 3)}
    described = {f"t0028110{n}": ("US", pack("<3H", 256, 0, 16)) for n in (1, 2, 3)}
    return image(values, US, t00280004=("CS", b"PALETTE COLOR"), **tables, **described)


def _colours_in_high_bits() -> Instance:
    """Read as numbers of 8 bits, all colours would be white."""
    gray = (burn(anatomy()) / 16).clip(1, 255).astype("<u2") << 8
    form = {"t00280002": pack("<H", 3), "t00280100": pack("<H", 16), "t00280101": pack("<H", 8)}
    form |= {"t00280102": pack("<H", 15), "t00280006": pack("<H", 0)}
    return image(
        gray, SC, t00280004=("CS", b"RGB"), t7FE00010=("OW", gray.repeat(3).tobytes()),
        **{tag: ("US", value) for tag, value in form.items()},
    )  # fmt: skip


HIDDEN = {
    "at the border": lambda: image(burn(anatomy(), place=(2, SIDE - 3))),
    "running upwards": lambda: image(np.rot90(burn(anatomy())).copy()),
    "running downwards": lambda: image(np.rot90(burn(anatomy()), 3).copy()),
    "at an angle": lambda: image(burn(anatomy(512), place=(180, 250), height=20, angle=40)),
    "upside down": lambda: image(np.rot90(burn(anatomy()), 2).copy()),
    "white on white": lambda: image(burn(np.full((SIDE, SIDE), 4000.0))),
    "dark": lambda: image(burn(anatomy(), brightness=0)),
    "of thin strokes": lambda: image(burn(anatomy(), weight=100)),
    "small": lambda: image(burn(anatomy(), height=9)),
    "over ribs": lambda: image(burn(anatomy(noise=60), place=(60, 130))),
    "in the padding": lambda: image(_in_padding()),
    "below bright padding": _below_padding,
    "far above low noise": lambda: image(
        np.where(strokes(NAME) > 0.5, 4000, anatomy(noise=3) / 40)
    ),
    "in a palette": _palette_image,
    "in colours in high bits": _colours_in_high_bits,
    "in an inverted image": lambda: image(burn(anatomy()), t00280004=("CS", b"MONOCHROME1")),
}


@pytest.mark.parametrize("where", HIDDEN)
def test_text_is_found(where: str) -> None:
    assert outcome(HIDDEN[where]()).startswith("text-found")


@pytest.mark.parametrize("height", [14, 60])
@pytest.mark.parametrize(
    "name", ["Щербаков", "Ξενάκης", "欧阳修远", "たなか", "김민수", "محمد", "דוד כהן"]
)
def test_text_of_scripts_that_cannot_be_read_withholds(name: str, height: int) -> None:
    values = burn(anatomy(384), name, height=height, place=(20, 200))

    assert outcome(image(values)).startswith("text-found")


@pytest.mark.parametrize("height", [40, 60])
def test_two_large_letters_that_cannot_be_read_withhold(height: int) -> None:
    values = burn(anatomy(384), "이영", height=height, place=(20, 200))

    assert outcome(image(values)).startswith("text-found")


@pytest.mark.parametrize(
    ("name", "seed", "brighter"),
    [("דוד כהן", 1, 350), ("דוד כהן", 2, 500), ("김민수", 1, 600), ("김민수", 2, 700)],
)
def test_faint_large_letters_that_cannot_be_read_withhold(
    name: str, seed: int, brighter: int
) -> None:
    values = anatomy(512, seed)
    values = burn(values, name, values + brighter, height=60, place=(100, 250))

    assert outcome(image(values)).startswith("text-found")


def test_letters_that_are_joined_by_a_line_are_letters() -> None:
    values = burn(anatomy(384), "محمد", height=14, place=(20, 200))
    values[200] = 4095

    found = shared_detector().find_text(values.round().clip(0, 4095).astype("<u2"))

    assert [region.has_letters for region in found] == [True]


@pytest.mark.parametrize(
    "clean",
    [
        partial(texture, 512, 30),
        partial(heart_curve, 512),
        grid,
        grid_on_noise,
        partial(scale_marks, 384),
    ],
    ids=["tissue", "ECG", "grid", "grid on noise", "scale"],
)
def test_smooth_structures_curves_grids_and_scales_do_not_withhold(
    clean: Callable[[], np.ndarray],
) -> None:
    assert outcome(image(clean())) == ""


@pytest.mark.parametrize("place", [(44, 100), (60, 200)], ids=["beside", "below"])
def test_a_name_at_a_scale_is_found(place: tuple[int, int]) -> None:
    values = burn(scale_marks(384), height=12, place=place)

    assert outcome(image(values)).startswith("text-found")


def _region(text: str, confidence: float, left: int = 0) -> TextRegion:
    return TextRegion((left, 0, 30, 16), 0.97, text, confidence, is_line=False)


def test_letters_of_a_spaced_name_are_text_but_one_letter_is_not() -> None:
    one, other = _region("G", 0.95), _region("T", 0.96, left=50)

    assert judge_regions([one, other], PatientWords()).text == (one, other)
    assert judge_regions([one], PatientWords()).text == ()


def test_the_parts_of_a_date_are_text_and_the_numbers_of_a_scale_are_not() -> None:
    day, year, far = _region("28.09", 1), _region("995", 1, left=36), _region("995", 1, left=60)
    again = _region("28.09", 1, left=2)
    born = PatientWords.from_values({0x00100030: b"19950928"})

    assert [region.box for region in judge_regions([day, year], PatientWords()).text] == [
        (0, 0, 66, 16)
    ]
    assert judge_regions([year, day], born).identity
    assert not judge_regions([day, far, again], PatientWords()).text
    assert not judge_regions([_region("5", 1), _region("10", 1, left=36)], PatientWords()).text
    assert not judge_regions([_region("R", 1), _region("10", 1, left=36)], PatientWords()).text


@pytest.mark.parametrize(
    "boxes",
    [
        ((20, 40, 30, 16), (90, 41, 30, 16), (400, 39, 30, 16)),
        ((20, 40, 30, 16), (22, 80, 30, 16), (20, 300, 30, 16)),
        ((40, 300, 16, 30), (41, 230, 16, 30), (40, 160, 16, 30)),
    ],
    ids=["in a row", "in a column", "running upwards"],
)
def test_numbers_in_a_line_are_compared_with_the_values_of_the_patient(
    boxes: tuple[Rectangle, ...],
) -> None:
    parts = [
        TextRegion(box, 0.97, text, 0.99, is_line=True)
        for box, text in zip(boxes, ("471", "199", "805"), strict=True)
    ]

    shown, other = (
        judge_regions(parts, PatientWords.from_values({0x00100020: patient_id}))
        for patient_id in (b"471199805", b"471299815")
    )

    assert set(shown.identity) == set(parts)
    assert other.text == ()


def test_a_scale_that_resembles_the_birth_date_is_no_identity() -> None:
    scale = [
        TextRegion((20, 40 * n, 24, 16), 0.97, str(10 * n), 0.99, is_line=True) for n in range(9)
    ]

    assert not judge_regions(scale, PatientWords.from_values({0x00100030: b"19200103"})).text


@pytest.mark.parametrize("text", ["S482 C913", "S123 456", "45 F", "F 87", "45 M", "MS123"])
def test_ids_that_resemble_measures_and_age_with_sex_are_text(text: str) -> None:
    region = replace(_region(text, 0.99), box=(0, 0, 8 * len(text), 16))

    assert judge_regions([region], PatientWords()).text == (region,)


@pytest.mark.parametrize("sex", ["F", "M"])
def test_a_sex_beside_an_age_is_text(sex: str) -> None:
    age, feet = _region("45", 0.99), _region(sex, 0.99, left=36)

    assert judge_regions([age, feet], PatientWords()).text
    assert not judge_regions([feet], PatientWords()).text


@pytest.mark.parametrize("text", ["F", "5 MS", "15.5C", "S 12.5", "F 120 KV", "KV 120", "MA=10"])
def test_feet_and_measures_are_marks(text: str) -> None:
    region = replace(_region(text, 0.99), box=(0, 0, 10 * len(text), 16))

    assert judge_regions([region], PatientWords()).marks == (region,)


def test_several_letters_are_a_mark_only_if_read_with_certainty_and_not_a_name() -> None:
    """Letters of another script are read as marks with less confidence."""
    mark, uncertain, name = _region("RE", 0.97), _region("RE", 0.79), _region("Li", 0.99)

    assert judge_regions([mark, uncertain, name], PatientWords()).marks == (mark,)


def test_text_in_unused_high_bits_is_removed_so_that_the_image_may_leave() -> None:
    values = anatomy().round().clip(0, 4095).astype("<u2")
    hidden = values | np.where(strokes(NAME) > 0.5, 0x8000, 0).astype("<u2")
    made = image(anatomy(), t7FE00010=("OW", hidden.tobytes()))

    left = apply(how(), made)

    assert not np.frombuffer(b"".join(map(bytes, left.rest))[12:], "<u2").max() & 0x8000


def test_one_frame_of_500_with_text_withholds_the_clip() -> None:
    still = anatomy(64).clip(0, 4095)
    clip = np.repeat(still[np.newaxis], 500, axis=0)
    assert outcome(image(clip, US_FRAMES, frames=500)) == ""

    clip[333] = burn(still, "ANNA M", place=(6, 30))

    assert outcome(image(clip, US_FRAMES, frames=500)) == "text-found.text"


def test_a_name_that_replaces_noise_in_one_frame_withholds_the_clip() -> None:
    """The frame has fewer edges than its neighbours."""
    clip = np.random.default_rng(1).uniform(0, 3000, (24, SIDE, SIDE))
    assert outcome(image(clip, US_FRAMES, frames=24)) == ""

    clip[5, 70:110] = 200
    clip[5] = burn(clip[5], height=20, place=(20, 100))

    assert outcome(image(clip, US_FRAMES, frames=24)).startswith("text-found.")


def test_a_mammogram_of_16_megapixels_is_looked_at() -> None:
    wide = np.zeros((4000, 4000))
    wide[1000:3000, :1500] = 900
    wide[3600:3856, 3600:3856] = burn(np.zeros((SIDE, SIDE)), height=30)

    assert outcome(image(wide, MG)) == "text-found.text"


# Masks ------------------------------------------------------------------------------------------


def test_a_mask_must_cover_all_text() -> None:
    named = image(burn(burn(anatomy()), "SECOND LINE", place=(20, 70)))

    assert outcome(named, how(IMAGES, mask(CR, (0, 0, SIDE, 80)))) == ""
    assert outcome(named, how(IMAGES, mask(CR, (0, 0, SIDE, 50)))) == "text-found.beside-masks"
    assert outcome(named, how(IMAGES, mask(CR))) == "text-found.text"


def test_the_proposed_mask_covers_the_text_of_several_images() -> None:
    short, long = burn(anatomy(), "LI WEI"), burn(anatomy(seed=2), "MUELLER ANNA")
    shown = [image(short), image(burn(long, "12.05.1980", place=(100, 220)), number=2)]

    rectangles = propose_rectangles(shown, 40)

    assert len(rectangles) == 2
    assert [outcome(one, how(IMAGES, mask(CR, *rectangles))) for one in shown] == ["", ""]
    assert len(propose_rectangles(shown, 1)) == 1
    assert propose_rectangles([image(burn(anatomy(), "R"))], 40) == ()


def test_text_from_one_place_to_another_is_one_layout_shown_by_the_longest() -> None:
    """A mask that is decided on a shorter text would not cover the longer one."""
    shown = [image(burn(anatomy(), name)) for name in ("WEISS EVA", NAME, "WEISS EWA", "WU TAO")]

    assert group_by_layout([find_text_places(one) for one in shown]) == [[2, 0], [1], [3]]


def test_lines_of_text_that_touch_are_not_one_layout() -> None:
    assert group_by_layout([[(10, 10, 90, 16)], [(10, 28, 90, 16)]]) == [[0], [1]]
    assert group_by_layout([[(10, 10, 90, 16)], [(12, 8, 96, 18)]]) == [[1, 0]]


def test_text_at_another_place_or_more_text_is_another_layout() -> None:
    first, more = burn(anatomy()), burn(burn(anatomy()), "12.05.1980", place=(100, 220))
    elsewhere = burn(anatomy(), place=(40, 200))
    shown = [image(values) for values in (first, more, elsewhere, anatomy(), anatomy(seed=2))]

    places = [find_text_places(one) for one in shown]

    assert group_by_layout([*places, None, None]) == [[0], [1], [2], [3, 4], [5], [6]]


# Identity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        (NAME, b"Mueller^Anna"),
        ("M. Strohl", b"Strohl^Max"),
        ("12.05.80", b"Other^Name"),
        ("ID 4711-0815", b"Other^Name"),
        ("李娜", "Li^Na=李^娜".encode("gb18030")),
    ],
)
def test_values_of_the_patient_are_recognized_and_not_repeated(shown: str, name: bytes) -> None:
    values = burn(anatomy(), shown, height=20)

    with pytest.raises(InstanceWithheld) as held:
        apply(how(), image(values, name=name, t00080005=("CS", b"GB18030")))

    assert held.value.message.code == "text-found.identity"
    assert not held.value.message.values
    assert "Identifying data" in str(held.value)


TESSERACT_DATA = Path("/usr/share/tesseract-ocr").glob("*/tessdata/*.traineddata")
needs_tesseract = pytest.mark.skipif(
    not {"kor", "jpn", "rus", "heb"} <= {path.stem for path in TESSERACT_DATA},
    reason="needs tesseract: apt install tesseract-ocr-{kor,jpn,rus,heb}",
)


@needs_tesseract
@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("김민수", "Kim^Minsu=金^珉秀=김^민수"),
        ("ヤマダ タロウ", "ヤマダ^タロウ"),
        ("山田太郎", "Yamada^Tarou=山田^太郎"),
        ("Щербаков", "Щербаков^Юрий"),
        ("ילאנבל", "לבנאלי^שרה"),  # drawn from left to right
    ],
)
def test_names_in_other_scripts_are_recognized_with_tesseract(shown: str, name: str) -> None:
    values = burn(anatomy(384), shown, height=24, place=(20, 200))

    found = outcome(image(values, name=name.encode(), t00080005=("CS", b"ISO_IR 192")))

    assert found == "text-found.identity"


def test_a_tesseract_that_does_not_work_withholds_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "tesseract"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    shared_detector().close()
    try:
        assert outcome(image(burn(anatomy(384), "김민수", height=16))) == "text-detection.failed"
        assert outcome(image(anatomy())) == ""
    finally:
        shared_detector().close()


# Slices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sop_class", [CT, MR])
def test_one_marked_slice_among_60_is_withheld(sop_class: str) -> None:
    outgoing = InstancePseudonymizer(how(ALL))
    codes = []
    for number in range(60):
        values = anatomy(seed=1) + 20 * np.random.default_rng(number).normal(size=(SIDE, SIDE))
        values = np.roll(values, number // 3, axis=0)
        made = image(burn(values) if number == 41 else values, sop_class, number=number + 1)
        try:
            outgoing.prepare_outgoing(made)
        except InstanceWithheld as held:
            codes.append((number, held.message.code))

    assert codes == [(41, "text-found.text")]


def test_text_in_place_of_a_harmless_mark_withholds_each_slice() -> None:
    outgoing = InstancePseudonymizer(how(ALL))
    codes = []
    for number in range(1, 13):
        text = "120 kV 250 mA" if number < 4 else NAME
        brightness = 4000 if number < 4 else 2500
        made = image(burn(anatomy(), text, brightness, height=14), CT, number=number)
        try:
            outgoing.prepare_outgoing(made)
        except InstanceWithheld:
            codes.append(number)

    assert codes == list(range(4, 13))


def test_slices_are_not_looked_at_unless_the_profile_says_so() -> None:
    shared_detector().close()

    assert outcome(image(burn(anatomy()), CT), how(IMAGES)) == ""
    assert shared_detector().pid is None


# The child process ------------------------------------------------------------------------------


def test_a_detector_that_was_killed_is_started_again() -> None:
    assert outcome(image(anatomy())) == ""
    first = shared_detector().pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)

    assert outcome(image(anatomy())) == ""
    assert shared_detector().pid not in (None, first)


def test_a_detector_killed_during_a_look_withholds_that_image_only() -> None:
    assert outcome(image(anatomy())) == ""
    child = shared_detector().pid
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    kill = Timer(0.5, os.kill, (child, signal.SIGKILL))
    kill.start()

    assert outcome(image(anatomy())) == "text-detection.failed"
    kill.join()
    assert outcome(image(anatomy())) == ""


def test_an_interrupted_look_does_not_answer_for_the_next_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(_self: object, peer: socket, request: bytes) -> bytes:
        peer.sendall(request)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(detector.TextDetector, "_exchange", interrupt)
        with pytest.raises(KeyboardInterrupt):
            shared_detector().find_text(anatomy().astype("<u2"))

    assert outcome(image(burn(anatomy()))) == "text-found.text"


def test_a_detector_that_hangs_withholds_that_image_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(image(anatomy())) == ""
    child = shared_detector().pid
    assert child is not None
    os.kill(child, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(shared_detector(), "deadline_s", 0.5)
        assert outcome(image(anatomy())) == "text-detection.timed-out"

    assert outcome(image(anatomy())) == ""
    assert not Path(f"/proc/{child}").exists()


def test_on_a_busy_machine_the_detector_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_detector().close()
    monkeypatch.setattr(shared_detector(), "deadline_s", 0.01)
    monkeypatch.setattr(detector, "_MEGAPIXEL_S", 0.0)
    progress = count(0, 1e-9)
    monkeypatch.setattr(detector, "read_cpu_s", lambda _pid: next(progress))

    assert outcome(image(burn(anatomy()))) == "text-found.text"
    assert next(progress) > 1e-9, "the deadline was not reached"


def test_a_clip_that_takes_too_long_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MAX_IMAGE_S", -1.0)

    assert outcome(image(np.zeros((3, 64, 64)), US_FRAMES, frames=3)) == "text-detection.timed-out"


def test_the_memory_of_the_detector_is_limited() -> None:
    shared_detector().find_text(np.zeros((64, 64), np.int32))
    limits = Path(f"/proc/{shared_detector().pid}/limits").read_text()

    assert "Max address space         3221225472" in limits


def test_pixels_that_cannot_be_looked_at_are_withheld() -> None:
    wide = {"t00280100": ("US", pack("<H", 32)), "t00280101": ("US", pack("<H", 32))}
    values = np.zeros((4, 4))
    made = image(values, CR, **wide, t00280102=("US", pack("<H", 31)), t7FE00010=("OW", bytes(64)))

    assert outcome(made) == "text-detection.unreadable"


@pytest.mark.parametrize(
    ("photometric", "samples"), [("ARGB", 4), ("CMYK", 4), ("RGB", 4), ("MONOCHROME2", 2)]
)
def test_images_with_samples_that_cannot_be_looked_at_are_withheld(
    photometric: str, samples: int
) -> None:
    values = np.zeros((SIDE, SIDE, samples), "<u2")
    values[..., 1:] = burn(anatomy()).clip(0, 4095)[..., np.newaxis]
    made = image(
        values[..., 0], SC, t00280002=("US", pack("<H", samples)), t00280006=("US", b"\0\0"),
        t00280004=("CS", photometric.encode()), t7FE00010=("OW", values.tobytes()),
    )  # fmt: skip

    assert outcome(made) == "text-detection.unreadable"


# Reports ----------------------------------------------------------------------------------------


def test_images_that_were_looked_at_are_counted() -> None:
    tally = ChangeStatistics()

    apply(how(), image(anatomy()), tally)
    apply(how(), image(anatomy(), CT), tally)

    assert tally.counts[PIXEL_DATA, AppliedAction.TEXT_INSPECTED] == 1
    assert tally.counts[PIXEL_DATA, AppliedAction.ANNOTATION_ACCEPTED] == 0


def test_ultrasound_is_fetched_if_its_pixels_decide() -> None:
    assert admission.sop_class_refusal(US, how().profile) is None
    assert admission.sop_class_refusal(US, how(TextDetection.OFF).profile) == Message(
        "pixel-rule.class", sop_class="Ultrasound Image"
    )


def test_nothing_is_loaded_for_images_that_are_not_looked_at() -> None:
    code = "import sys, adit_engine.pseudonymize.instance_pseudonymizer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout

    assert not {"cv2", "onnxruntime", "numpy"} & set(loaded.split())
