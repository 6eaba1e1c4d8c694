"""Pixel rules blank burned-in text in all frames; cleaning is recorded only if applied."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from struct import pack

import jpeg_ls
import numpy as np
import openjpeg
import pytest
from lab.deid_objects import CR, KEY, TRIAL, encode, header, instance, items, read
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.pixel_rules import PixelRule
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import EXPLICIT_LE, Instance

US, US_FRAMES = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
ROWS, COLUMNS = 12, 16
TOP, CORNER = (0, 0, 16, 3), (10, 8, 6, 4)
RULE = PixelRule(US_FRAMES, "Maker", "Sonograph 5", "V2.1", ROWS, COLUMNS, (TOP, CORNER))


def change(*rules: PixelRule) -> Pseudonymization:
    options = frozenset({"113107", "113101"}) if rules else frozenset({"113107"})
    return Pseudonymization(
        ConfidentialityProfile("Test", 1, options, rules),
        "LUNG-0001",
        KEY,
        TRIAL,
        RiskDecision.ACCEPT,
        RiskDecision.ACCEPT,
    )


def noise(frames: int = 2, samples: int = 3, top: int = 256) -> np.ndarray:
    kind = np.uint8 if top == 256 else np.uint16
    return np.random.default_rng(7).integers(1, top, (frames, ROWS, COLUMNS, samples)).astype(kind)


def image(pixels: np.ndarray, photometric: str = "RGB", **more: tuple[str, bytes]) -> Instance:
    samples, bits = pixels.shape[-1], pixels.itemsize * 8
    made = header(US_FRAMES) | {
        0x00080060: ("CS", b"US"),
        0x00080070: ("LO", b"MAKER"),
        0x00081090: ("LO", b"Sonograph 5"),
        0x00181020: ("LO", b"V2.1"),
        0x00280002: ("US", pack("<H", samples)),
        0x00280004: ("CS", photometric.encode()),
        0x00280008: ("IS", str(len(pixels)).encode()),
        0x00280010: ("US", pack("<H", ROWS)),
        0x00280011: ("US", pack("<H", COLUMNS)),
        0x00280100: ("US", pack("<H", bits)),
        0x00280101: ("US", pack("<H", bits)),
        0x00280102: ("US", pack("<H", bits - 1)),
        0x00280301: ("CS", b"YES"),
        0x7FE00010: ("OB" if bits == 8 else "OW", pixels.tobytes()),
    }
    if samples > 1:
        made[0x00280006] = ("US", pack("<H", 0))
    return instance(made | {int(name[1:], 16): element for name, element in more.items()})


def released(source: Instance, how: Pseudonymization | None = None) -> Dataset:
    how = how or change(RULE)
    out = apply(how, source)
    verify(source, out, how)
    made = dcmread(BytesIO(b"".join(bytes(part) for part in part10.file_parts(out))))
    assert made.BurnedInAnnotation == "NO"
    assert "113101" in [code.CodeValue for code in made.DeidentificationMethodCodeSequence]
    return made


def inside() -> np.ndarray:
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[:3, :] = True
    mask[8:12, 10:16] = True
    return mask


@pytest.mark.parametrize(
    ("samples", "top", "photometric"),
    [(3, 256, "RGB"), (3, 256, "YBR_FULL"), (1, 256, "MONOCHROME2"), (1, 65536, "MONOCHROME1")],
)
def test_rectangles_are_blanked_in_all_frames_and_the_rest_is_unchanged(
    samples: int, top: int, photometric: str
) -> None:
    pixels = noise(samples=samples, top=top)
    made = released(image(pixels, photometric))
    after = np.frombuffer(made.PixelData, pixels.dtype).reshape(pixels.shape)
    assert (after[:, ~inside()] == pixels[:, ~inside()]).all()
    assert len(np.unique(after[:, inside()].reshape(-1, samples), axis=0)) == 1
    assert made.PhotometricInterpretation == photometric


def test_planar_colour_images_are_blanked_in_every_plane() -> None:
    pixels = noise()
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 1))
    source = image(pixels, t00280006=("US", pack("<H", 1)), t7fe00010=("OB", planes.tobytes()))
    made = released(source)
    assert made.PlanarConfiguration == 1
    assert not made.pixel_array[:, inside()].any()
    assert (made.pixel_array[:, ~inside()] == pixels[:, ~inside()]).all()


def j2k(frame: np.ndarray) -> bytes:
    gray = frame.shape[-1] == 1
    plain = np.ascontiguousarray(frame[..., 0] if gray else frame)
    meaning = 2 if gray else 1
    return bytes(openjpeg.encode(plain, photometric_interpretation=meaning, use_mct=False))


def jls(frame: np.ndarray) -> bytes:
    gray = frame.shape[-1] == 1
    return bytes(jpeg_ls.encode(np.ascontiguousarray(frame[..., 0] if gray else frame)))


def run_lengths(frame: np.ndarray) -> bytes:
    """Encode a frame as RLE with literal runs only, which is legal."""
    planes = []
    for sample in range(frame.shape[-1]):
        data = np.ascontiguousarray(frame[..., sample]).tobytes()
        runs = [bytes([len(part) - 1]) + part for part in
                (data[at : at + 128] for at in range(0, len(data), 128))]  # fmt: skip
        plane = b"".join(runs)
        planes.append(plane + b"\0" * (len(plane) & 1))
    starts = [64 + sum(map(len, planes[:n])) for n in range(len(planes))]
    head = [len(planes), *starts] + [0] * (15 - len(planes))
    return pack("<16I", *head) + b"".join(planes)


def compressed(frames: list[bytes], syntax: str, samples: int, photometric: str) -> Instance:
    plain = image(np.zeros((len(frames), ROWS * 8, COLUMNS * 8, samples), np.uint8), photometric)
    head = pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    streams = [frame + b"\0" * (len(frame) & 1) for frame in frames]
    pixels = head + items(b"", *streams) + pack("<HHI", 0xFFFE, 0xE0DD, 0)
    front = bytes(plain.header)
    for tag, size in ((0x00280010, ROWS), (0x00280011, COLUMNS)):
        front = front.replace(
            encode(tag, "US", pack("<H", size)), encode(tag, "US", pack("<H", size * 8))
        )
    return Instance.from_data_set(plain.sop_class_uid, plain.instance_uid, syntax, front + pixels)


BIG = replace(RULE, rows=ROWS * 8, columns=COLUMNS * 8)


@pytest.mark.parametrize(
    ("syntax", "encoder"),
    [(JPEG2000Lossless, j2k), (JPEGLSLossless, jls), (RLELossless, run_lengths)],
)
@pytest.mark.parametrize("samples", [1, 3])
def test_compressed_images_are_decompressed_and_then_blanked(
    syntax: str, encoder: Callable[[np.ndarray], bytes], samples: int
) -> None:
    pixels = noise(2, samples).repeat(8, 1).repeat(8, 2)
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    source = compressed([encoder(frame) for frame in pixels], syntax, samples, photometric)
    made = released(source, change(BIG))
    assert made.file_meta.TransferSyntaxUID == EXPLICIT_LE
    after = np.frombuffer(made.PixelData, np.uint8).reshape(pixels.shape)
    assert not after[:, :3, :16].any()
    assert (after[:, 12:] == pixels[:, 12:]).all()


def test_a_real_jpeg_keeps_its_colours_outside_the_rectangle() -> None:
    before = dcmread(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm"))
    before.Manufacturer, before.ManufacturerModelName = "Maker", "Grabber"
    before.file_meta.MediaStorageSOPInstanceUID = before.SOPInstanceUID
    buffer = BytesIO()
    before.save_as(buffer)
    rule = PixelRule(SC, "Maker", "Grabber", "*", before.Rows, before.Columns, ((0, 0, 100, 20),))
    made = released(part10.parse_file(buffer.getvalue()), change(rule))
    assert made.PhotometricInterpretation == "YBR_FULL"
    assert (made.pixel_array[20:] == before.pixel_array[20:]).all()
    assert not made.pixel_array[:20].any()


def code(source: Instance, how: Pseudonymization) -> str:
    with pytest.raises(InstanceWithheld) as caught:
        apply(how, source)
    return caught.value.message.category


@pytest.mark.parametrize(
    "other",
    [
        replace(RULE, model="Sonograph 6"),
        replace(RULE, manufacturer="Other"),
        replace(RULE, software="V2.2"),
        replace(RULE, rows=ROWS + 1),
        replace(RULE, columns=COLUMNS + 1),
    ],
)
def test_a_rule_for_another_device_does_not_apply(other: PixelRule) -> None:
    assert code(image(noise()), change(other)) == "pixel-rule"


def test_ultrasound_without_a_rule_is_withheld() -> None:
    assert code(image(noise()), change()) == "pixel-rule"
    assert admission.sop_class_refusal(US_FRAMES, change().profile) is not None
    assert admission.sop_class_refusal(US_FRAMES, change(RULE).profile) is None
    assert admission.sop_class_refusal(US, change(RULE).profile) is not None


def test_a_rule_for_any_software_applies_to_all_versions() -> None:
    source = image(noise(), t00181020=("LO", b"V9"))
    released(source, change(replace(RULE, software="*")))
    assert code(source, change(RULE)) == "pixel-rule"


def test_the_rectangles_of_all_matching_rules_are_blanked() -> None:
    more = replace(RULE, software="*", rectangles=((0, 11, 4, 1),))
    made = released(image(noise()), change(RULE, more))
    assert not made.pixel_array[:, 11, :4].any()
    assert not made.pixel_array[:, inside()].any()


def test_a_rule_releases_images_with_burned_in_annotation() -> None:
    rule = replace(RULE, sop_class=CR)
    made = image(noise(1, 1), "MONOCHROME2", t00080016=("UI", CR.encode()))
    assert released(made, change(rule)).SOPClassUID == CR
    assert code(made, change(RULE)) == "burned-in"


def test_pixel_cleaning_is_not_recorded_if_no_rule_was_applied() -> None:
    how = change(RULE)
    source = instance(header())
    out = apply(how, source)
    verify(source, out, how)
    codes = [item.CodeValue for item in read(out).DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107"]


def test_implicit_vr_and_big_endian_images_are_blanked() -> None:
    pixels = noise(1, 1, 65536)
    ds = read(image(pixels, "MONOCHROME2"))
    for syntax, order in ((ExplicitVRBigEndian, ">u2"), ("1.2.840.10008.1.2", "<u2")):
        ds.PixelData = pixels.astype(order).tobytes()
        buffer = DicomBytesIO()
        buffer.is_little_endian = order == "<u2"
        buffer.is_implicit_VR = syntax == "1.2.840.10008.1.2"
        write_dataset(buffer, ds)
        source = Instance.from_data_set(US_FRAMES, ds.SOPInstanceUID, syntax, buffer.getvalue())
        made = released(source)
        assert (made.pixel_array[~inside()] == pixels[0, ..., 0][~inside()]).all()
        assert not made.pixel_array[inside()].any()


def test_pixels_that_cannot_be_decoded_are_withheld() -> None:
    broken = run_lengths(noise(1, 3).repeat(8, 1).repeat(8, 2)[0])[:-300]
    assert code(compressed([broken], RLELossless, 3, "RGB"), change(BIG)) in (
        "pixel-stream",
        "malformed",
    )


# Verification -------------------------------------------------------------------------------------


def refused(out: Instance, source: Instance, how: Pseudonymization) -> str:
    with pytest.raises(InstanceWithheld) as caught:
        verify(source, out, how)
    return caught.value.message.category


def test_verification_fails_if_a_rectangle_is_not_blank() -> None:
    source, whole = image(noise()), change(RULE)
    for part in (TOP, CORNER):
        half = apply(change(replace(RULE, rectangles=(part,))), source)
        assert refused(half, source, whole) == "verify-pixel"


def test_verification_fails_if_other_pixels_are_blank() -> None:
    source = image(noise())
    more = apply(change(replace(RULE, rectangles=(TOP, CORNER, (0, 5, 1, 1)))), source)
    assert refused(more, source, change(RULE)) == "verify-pixel"


def test_verification_fails_if_one_frame_is_not_blanked() -> None:
    source, how = image(noise(3)), change(RULE)
    out = apply(how, source)
    data = bytearray(out.rest[0])
    data[-1] ^= 1
    assert refused(replace(out, rest=(bytes(data),)), source, how) == "verify-pixel"


def test_verification_fails_if_cleaning_is_recorded_without_a_rule() -> None:
    """The image records cleaning although no rule applies to the device."""
    covered, plain = image(noise()), image(noise(), t00181020=("LO", b"V9"))
    how = change(RULE)
    out = apply(how, covered)
    assert refused(out, plain, how) == "verify-stamp"
    assert refused(out, covered, change()) == "verify-stamp"
