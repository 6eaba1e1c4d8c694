"""Rendering: one frame as a picture, and images that cannot be rendered."""

from io import BytesIO

import numpy as np
import pytest
from lab import samples
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from adit_engine.dicom_file import part10
from adit_engine.errors import InvalidInput
from adit_engine.rendering import count_frames, render_frame
from adit_engine.values.instance import Instance


def gray(values: np.ndarray, **changes: object) -> Instance:
    return samples.instance(samples.ct(PixelData=values.astype("<u2").tobytes(), **changes))


RAMP = np.arange(256).reshape(16, 16) * 16


def test_the_window_of_the_image_is_applied_or_the_whole_range_on_request() -> None:
    image = gray(RAMP, RescaleIntercept="0", WindowCenter="1024", WindowWidth="512")
    shown = render_frame(image)
    assert shown.dtype == np.uint8
    assert (shown[RAMP < 768] == 0).all()
    assert (shown[RAMP > 1280] == 255).all()
    whole = render_frame(image, whole_range=True)
    assert (np.diff(whole.ravel().astype(int)) >= 0).all()
    assert (whole.min(), whole.max()) == (0, 255)


def test_slope_intercept_and_signed_values_are_applied() -> None:
    signed = (RAMP - 2048).astype("<i2")
    image = samples.instance(
        samples.ct(PixelData=signed.tobytes(), PixelRepresentation=1, BitsStored=16, HighBit=15,
                   RescaleIntercept="0", WindowCenter="0", WindowWidth="2"))  # fmt: skip
    shown = render_frame(image)
    assert (shown[signed < -1] == 0).all()
    assert (shown[signed > 1] == 255).all()


def test_monochrome1_is_inverted() -> None:
    plain = render_frame(gray(RAMP))
    turned = render_frame(gray(RAMP, PhotometricInterpretation="MONOCHROME1"))
    assert (plain.astype(int) + turned == 255).all()


def test_only_existing_frames_are_rendered() -> None:
    frames = np.stack([RAMP, RAMP[::-1]])
    image = gray(frames, NumberOfFrames="2")
    assert count_frames(image) == 2
    assert (render_frame(image, 1) == render_frame(image, 0)[::-1]).all()
    for number in (2, -1):
        with pytest.raises(InvalidInput, match="frames 1 to 2"):
            render_frame(image, number)


def test_a_compressed_image_renders_like_the_uncompressed_one() -> None:
    plain = dcmread(BytesIO(samples.file_bytes(samples.ct())))
    before = render_frame(samples.instance(samples.ct()))
    plain.compress(RLELossless, generate_instance_uid=False)
    buffer = BytesIO()
    plain.save_as(buffer)
    assert (render_frame(part10.parse_file(buffer.getvalue())) == before).all()


@pytest.mark.parametrize("name", ["SC_rgb.dcm", "SC_rgb_jpeg_dcmtk.dcm", "examples_ybr_color.dcm"])
def test_color_images_are_rendered_as_rgb(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("does not come with this pydicom")
    with open(path, "rb") as file:
        image = part10.parse_file(file.read())
    shown = render_frame(image)
    assert shown.shape[-1] == 3
    if name.startswith("SC_rgb"):
        assert shown[5, 5, 0] > 200 > shown[5, 5, 1]  # the first bar is red


def test_an_image_that_cannot_be_rendered_raises_invalid_input() -> None:
    for image in (
        samples.instance(samples.ct(PixelData=b"\0\0")),
        samples.instance(samples.ct(Rows=None)),
        samples.instance(samples.ct(PixelData=None)),
    ):
        with pytest.raises(InvalidInput):
            render_frame(image)
    assert count_frames(samples.instance(samples.ct(PixelData=None))) == 0
