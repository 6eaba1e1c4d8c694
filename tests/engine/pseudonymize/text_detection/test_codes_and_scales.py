"""Barcodes and matrix codes withhold an image like text; the marks of a scale do not."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from lab.burned_in import (
    NAME,
    SIDE,
    US,
    anatomy,
    burn,
    grid,
    grid_on_noise,
    heart_curve,
    image,
    scale_marks,
    texture,
)
from lab.deid_objects import CR, change

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer
from adit_engine.pseudonymize.pixel_rules import PixelRule, Rectangle
from adit_engine.pseudonymize.profile import CLEAN_PIXELS, ConfidentialityProfile, TextDetection
from adit_engine.pseudonymize.text_detection.detector import is_installed, shared_detector
from adit_engine.pseudonymize.text_detection.findings import PatientWords, judge_regions
from adit_engine.pseudonymize.text_detection.proposal import propose_rectangles
from adit_engine.values.instance import Instance

if not is_installed():
    pytest.skip("needs the extra ocr: make test-ocr", allow_module_level=True)

import cv2
from barcode_drawing import Modules, burn_code, draw_code
from deid_corpus import real_files

from adit_engine.pseudonymize.frame_rendering import RenderableImage
from adit_engine.pseudonymize.text_detection.barcodes import find_codes
from adit_engine.pseudonymize.text_detection.contrast import enhance_contrast
from adit_engine.pseudonymize.text_detection.letter_shapes import shows_letters


@pytest.fixture(autouse=True, scope="module")
def _no_child_stays() -> Iterator[None]:
    yield
    shared_detector().close()


def outcome(image: Instance, *masks: Rectangle) -> str:
    """Return the code of the reason if the image is withheld; empty if released and verified."""
    options = frozenset({"113107", CLEAN_PIXELS} if masks else {"113107"})
    rules = (PixelRule(CR, "Sample Devices", "Model 1", "", SIDE, SIDE, masks, reason="checked"),)
    profile = ConfidentialityProfile(
        "Test", 1, options, rules if masks else (), TextDetection.IMAGES
    )
    try:
        InstancePseudonymizer(replace(change(), profile=profile)).prepare_outgoing(image)
    except InstanceWithheld as held:
        return held.message.code
    return ""


# Scales -----------------------------------------------------------------------------------------


def _in_a_row(stroke: np.ndarray, count: int, distance: int) -> np.ndarray:
    cut = np.zeros((40, 2 * distance * (count + 2)), np.uint8)
    for number in range(count):
        left = 20 + number * distance
        cut[10 : 10 + stroke.shape[0], left : left + stroke.shape[1]][stroke > 0] = 255
    return cut[:, : 40 + count * distance]


def test_letters_like_strokes_are_letters_but_marks_of_a_scale_are_not() -> None:
    stroke = np.ones((16, 2), np.uint8)
    margins = (10, 5, 10, 5)

    assert shows_letters(_in_a_row(stroke, count=6, distance=6), margins)  # IIIIII
    assert not shows_letters(_in_a_row(stroke, count=6, distance=14), margins)
    assert not shows_letters(_in_a_row(stroke, count=12, distance=6), margins)


def test_a_mark_of_a_scale_may_be_out_of_place() -> None:
    cut = np.zeros((40, 190), np.uint8)
    for number in range(11):
        cut[12:24, 20 + 12 * number + (number == 5)] = 255  # distances 12, 13, 11, 12

    assert not shows_letters(cut, (18, 6, 18, 6))


def test_a_row_of_ones_is_letters() -> None:
    one = np.zeros((16, 6), np.uint8)
    one[:, 3:5] = one[2:4, 1:5] = one[14:16] = 1

    assert shows_letters(_in_a_row(one, count=12, distance=9), (10, 5, 10, 5))


# Barcodes ---------------------------------------------------------------------------------------

ID = "47110815"
CODES = {
    "Code 128": (draw_code("Code 128", ID, height=20), 2),
    "fine Code 128": (draw_code("Code 128", ID, height=24), 1),
    "Code 39": (draw_code("Code 39", ID, height=20), 2),
    "upright Code 39": (np.rot90(draw_code("Code 39", ID, height=20)), 2),
    "QR code": (draw_code("QR Code", ID), 3),
    "large QR code": (draw_code("QR Code", f"{ID} {NAME} 12.05.1980"), 8),
    "Micro QR code": (draw_code("Micro QR Code", ID), 3),
    "Data Matrix": (draw_code("Data Matrix", ID), 3),
    "Aztec": (draw_code("Aztec", ID), 3),
    "PDF417": (draw_code("PDF417", ID), 2),
}


@pytest.mark.parametrize(("dark", "bright"), [(60, 3900), (3900, 60)], ids=["white", "black"])
@pytest.mark.parametrize("kind", CODES)
def test_a_barcode_or_matrix_code_withholds_without_text(kind: str, dark: int, bright: int) -> None:
    code, module = CODES[kind]

    values = burn_code(anatomy(384), code, (20, 30), module=module, dark=dark, bright=bright)

    assert outcome(image(values)) == "text-found.code"


@pytest.mark.parametrize("code", [draw_code("Code 128", ID, height=30), draw_code("QR Code", ID)])
def test_a_tilted_code_is_found(code: Modules) -> None:
    flat = burn_code(np.full((384, 384), 3900.0), code, (60, 120), module=2)
    turn = cv2.getRotationMatrix2D((192, 192), 6, 1)

    tilted = cv2.warpAffine(flat, turn, (384, 384), borderMode=cv2.BORDER_REPLICATE)

    assert find_codes((tilted / 16).astype(np.uint8))


def test_a_code_on_anatomy_without_a_margin_is_found() -> None:
    values = burn_code(anatomy(384), draw_code("QR Code", ID), (20, 30), module=4, margin=0)

    assert outcome(image(values)) == "text-found.code"


def test_a_barcode_that_touches_an_edge_of_the_anatomy_is_found() -> None:
    values = np.full((512, 512), 500.0)
    cv2.circle(values, (256, 256), 180, 2500, cv2.FILLED)
    values = burn_code(values, draw_code("Code 39", ID, height=24), (150, 60), module=1)

    assert find_codes((values / 16).astype(np.uint8))


def test_the_mask_covers_a_code() -> None:
    marked = image(burn_code(anatomy(), draw_code("QR Code", ID), (20, 30), module=3))

    rectangles = propose_rectangles([marked], 40)

    assert outcome(marked, *rectangles) == ""
    assert outcome(marked, (0, 0, 20, 20)) == "text-found.beside-masks"


@pytest.mark.parametrize(
    "clean",
    [anatomy, texture, heart_curve, grid, scale_marks],
    ids=["anatomy", "tissue", "ECG", "grid", "scale"],
)
def test_structures_are_no_codes(clean: Callable[[], np.ndarray]) -> None:
    shown = enhance_contrast(clean().round().clip(0, 4095).astype("<u2"))

    assert find_codes(shown) == []


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((1, 1)), np.full((2, 3000), 255), np.full((3000, 2), 255),
        np.random.default_rng(1).integers(0, 2, (300, 300)) * 255,
        np.indices((300, 300)).sum(axis=0) % 2 * 255,
        np.tile(np.arange(300) % 7 // 3 * 255, (300, 1)),
    ],
    ids=["pixel", "row", "column", "noise", "chessboard", "stripes"],
)  # fmt: skip
def test_strange_images_do_not_stop_the_search_for_codes(values: np.ndarray) -> None:
    for frame in (values, np.stack([values] * 3, axis=-1)):
        assert find_codes(frame.astype(np.uint8)) == []


# Small text -------------------------------------------------------------------------------------


def test_small_grey_text_on_speckle_is_found() -> None:
    """At twice its size the model sees nothing; it is found by the second look only."""
    speckle = cv2.GaussianBlur(np.random.default_rng(3).rayleigh(1, (SIDE, SIDE)), (5, 3), 0) * 900
    values = burn(speckle, "Schmidt", brightness=2200, height=9, place=(100, 150))

    assert outcome(image(values, US)) == "text-found.identity"


def test_the_noise_of_a_radiograph_is_not_text() -> None:
    """The second look enlarges noise, in which the model sees lines that it cannot read."""
    path = next(path for path in real_files() if path.name == "RG1_UNCR.dcm")
    chest = RenderableImage(part10.parse_file(path.read_bytes()))

    regions = shared_detector().find_text(chest.stored_values(0)[0], is_thorough=True)

    assert judge_regions(regions, PatientWords()).text == ()


@pytest.mark.parametrize("name", ["MUELLER ANNA", "Щербаков", "김민수"])
def test_a_name_between_the_lines_of_a_grid_is_found(name: str) -> None:
    values = burn(grid_on_noise(), name, height=14, place=(70, 110))

    assert outcome(image(values)).startswith("text-found")


def test_a_name_among_many_dots_is_read() -> None:
    """Lines are read first: the number of regions that are read is limited."""
    values = np.full((SIDE, SIDE), 800.0)
    for row in range(20, SIDE, 20):
        for column in range(20, SIDE, 20):
            cv2.circle(values, (column, row), 2, 200, cv2.FILLED)
    values = burn(values, "Mueller", brightness=1100, height=9, place=(100, 121))

    found = shared_detector().find_text(values.astype("<u2"))

    assert "Mueller" in {region.text for region in found}
