"""Pixel data: the image is unchanged and its bytes contain nothing else."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from lab.deid_objects import CT, ROOT, change, encode, header, instance
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import read_dataset
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from adit_engine.dicom_file import part10
from adit_engine.elements import elements
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.encapsulated_pixel_data import (
    EncapsulatedPixelData,
    strip_jpeg,
    strip_jpeg_2000,
)
from adit_engine.pseudonymize.pixel_format import PixelFormat
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import EXPLICIT_LE, Instance

NAME = b"Mustermann^Erika"


def pixel_element(made: Instance) -> bytes:
    out = apply(change(), made)
    return b"".join(bytes(part) for part in out.rest)


def native(words: list[int], **more: tuple[str, bytes]) -> Instance:
    return instance(header(**more) | {0x7FE00010: ("OW", pack(f"<{len(words)}H", *words))})


def words_of(made: Instance) -> list[int]:
    return list(np.frombuffer(pixel_element(made)[12:], "<u2"))


def test_pixels_that_need_no_change_are_not_copied() -> None:
    made = native(list(range(16)))
    assert apply(change(), made).rest[0] is made.rest[0]


def test_overlays_in_unused_bits_are_cleared() -> None:
    assert words_of(native([0x1FFF, 0x8001, *range(14)])) == [0x0FFF, 0x0001, *range(14)]


def test_unused_bits_of_signed_pixels_are_set_by_sign_extension() -> None:
    signed = ("US", pack("<H", 1))
    made = native([0x1FFF, 0x1001, 0x07FF, *range(13)], t00280103=signed)
    assert words_of(made)[:3] == [0xFFFF, 0x0001, 0x07FF]


@pytest.mark.parametrize("words", [[0xFFFF, 0xF800, 0x07FF], [0x0FFF, 0x0800, 0x07FF]])
def test_signed_pixels_without_an_overlay_are_unchanged(words: list[int]) -> None:
    made = native([*words, *range(13)], t00280103=("US", pack("<H", 1)))
    assert words_of(made)[:3] == words
    verify(made, apply(change(), made), change())


def test_unused_bits_below_the_stored_bits_are_cleared() -> None:
    made = native([0xABCD, *[0] * 15], t00280102=("US", pack("<H", 15)))
    assert words_of(made)[0] == 0xABC0


def test_an_image_with_padding_values_in_unused_bits_is_withheld() -> None:
    with pytest.raises(InstanceWithheld) as caught:
        pixel_element(native([0xF000, *[0] * 15], t00280120=("US", pack("<H", 0xF000))))
    assert caught.value.message.category == "pixel-bits"


def test_an_image_with_an_overlay_in_the_stored_bits_is_withheld() -> None:
    made = native([0] * 16, t60000102=("US", pack("<H", 3)))
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), made)
    assert caught.value.message.category == "pixel-bits"


def test_bytes_after_the_last_pixel_are_removed() -> None:
    made = instance(header() | {0x7FE00010: ("OW", bytes(32) + NAME)})
    assert pixel_element(made) == encode(0x7FE00010, "OW", bytes(32))


def test_the_padding_byte_of_odd_pixel_data_is_zero() -> None:
    eight = ("US", pack("<H", 8))
    made = header(
        t00280010=("US", pack("<H", 3)),
        t00280011=("US", pack("<H", 3)),
        t00280100=eight,
        t00280101=eight,
        t00280102=("US", pack("<H", 7)),
        t7fe00010=("OB", b"123456789E"),
    )
    assert pixel_element(instance(made))[12:] == b"123456789\0"


def test_an_image_with_missing_pixels_is_withheld() -> None:
    with pytest.raises(InstanceWithheld) as caught:
        pixel_element(instance(header() | {0x7FE00010: ("OW", bytes(30))}))
    assert caught.value.message.category == "pixel-length"


@pytest.mark.parametrize("tag", [0x00280002, 0x00280010, 0x00280100, 0x00280101, 0x00280103])
def test_an_image_without_a_pixel_description_attribute_is_withheld(tag: int) -> None:
    made = header()
    del made[tag]
    with pytest.raises(InstanceWithheld):
        apply(change(), instance(made))


def compressed(syntax: str, frames: int = 1) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT, f"{ROOT}.1"
    ds.StudyInstanceUID = ds.SeriesInstanceUID = f"{ROOT}.2"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = 64, 48
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    if frames > 1:
        ds.NumberOfFrames = frames
    pixels = (np.arange(frames * 64 * 48) * 7 % 4096).astype("<u2")
    ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT_LE
    if syntax != EXPLICIT_LE:
        ds.compress(syntax, generate_instance_uid=False)
    return ds


def as_instance(ds: Dataset) -> Instance:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return part10.parse_file(buffer.getvalue())


def decoded(made: Instance) -> np.ndarray:
    buffer = BytesIO(b"".join(bytes(part) for part in part10.file_parts(made)))
    return dcmread(buffer).pixel_array


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_compressed_images_keep_their_pixels_and_transfer_syntax(syntax: str, frames: int) -> None:
    ds = compressed(syntax, frames)
    out = apply(change(), as_instance(ds))
    assert out.transfer_syntax_uid == syntax
    assert (decoded(out) == ds.pixel_array).all()


def test_comments_in_jpeg_2000_are_removed() -> None:
    ds = compressed(JPEG2000Lossless)
    made = as_instance(ds)
    assert b"\xff\x64" in b"".join(bytes(part) for part in made.rest)[:300]
    out = apply(change(), made)
    assert b"OpenJPEG" not in b"".join(bytes(part) for part in out.parts())
    assert (decoded(out) == ds.pixel_array).all()


def with_fragment(made: Instance, change_it: Callable[[bytes], bytes]) -> Instance:
    """Return the object with its only fragment changed by a function."""
    whole = b"".join(bytes(part) for part in made.rest)
    element = next(elements(whole, True))
    (fragment,) = EncapsulatedPixelData.from_element(whole, element).fragments
    new = change_it(bytes(fragment))
    new += b"\0" * (len(new) & 1)
    item = pack("<HHI", 0xFFFE, 0xE000, 0)
    rest = whole[:12] + item + item[:4] + pack("<I", len(new)) + new
    rest += pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return Instance(
        made.sop_class_uid, made.instance_uid, made.transfer_syntax_uid, made.header, (rest,)
    )


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_bytes_after_a_compressed_image_are_removed(syntax: str) -> None:
    ds = compressed(syntax)
    made = with_fragment(as_instance(ds), lambda data: data.rstrip(b"\0") + NAME)
    out = apply(change(), made)
    assert NAME not in b"".join(bytes(part) for part in out.parts())
    assert (decoded(out) == ds.pixel_array).all()


def comment(data: bytes) -> bytes:
    return data[:2] + b"\xff\xfe" + pack(">H", 2 + len(NAME)) + NAME + data[2:]


def application(data: bytes) -> bytes:
    return data[:2] + b"\xff\xe5" + pack(">H", 2 + len(NAME)) + NAME + data[2:]


@pytest.mark.parametrize("insert", [comment, application])
def test_comments_and_application_segments_of_jpeg_ls_are_removed(
    insert: Callable[[bytes], bytes],
) -> None:
    ds = compressed(JPEGLSLossless)
    out = apply(change(), with_fragment(as_instance(ds), insert))
    assert NAME not in b"".join(bytes(part) for part in out.parts())
    assert (decoded(out) == ds.pixel_array).all()


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("keep", [0, 2, 20, 60])
def test_a_truncated_compressed_stream_is_withheld(syntax: str, keep: int) -> None:
    made = with_fragment(as_instance(compressed(syntax)), lambda data: data[:keep])
    with pytest.raises(InstanceWithheld):
        apply(change(), made)


def test_rle_data_in_unused_bits_is_withheld() -> None:
    ds = compressed(RLELossless)
    ds.BitsStored, ds.HighBit = 10, 9
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), as_instance(ds))
    assert caught.value.message.category == "pixel-bits"


def test_an_invalid_basic_offset_table_is_replaced() -> None:
    made = as_instance(compressed(JPEGLSLossless))
    whole = b"".join(bytes(part) for part in made.rest)
    table = pack("<HHI", 0xFFFE, 0xE000, len(NAME)) + NAME
    at = whole.index(b"\xfe\xff\x00\xe0")
    old = 8 + int.from_bytes(whole[at + 4 : at + 8], "little")
    rest = whole[:at] + table + whole[at + old :]
    changed = Instance(CT, "", made.transfer_syntax_uid, made.header, (rest,))
    assert NAME not in pixel_element(changed)


FORM = PixelFormat(1, 1, 8, 8, 8, 8, 7, False, None)


def tiny_jpeg(between: bytes = b"", later: bytes = b"", behind: bytes = b"") -> bytes:
    frame = b"\xff\xc0" + pack(">HBHHB3B", 11, 8, 8, 8, 1, 1, 0x11, 0)
    scan = b"\xff\xda" + pack(">HB2B3B", 8, 1, 1, 0, 0, 63, 0)
    return b"\xff\xd8" + between + frame + scan + b"\x12\xff\x00\x34" + later + b"\xff\xd9" + behind


def segment(code: int, content: bytes) -> bytes:
    return bytes((0xFF, code)) + pack(">H", 2 + len(content)) + content


def test_extra_segments_and_trailing_bytes_of_jpeg_are_removed() -> None:
    plain = tiny_jpeg()
    assert strip_jpeg(plain, FORM) is plain
    assert strip_jpeg(tiny_jpeg(between=segment(0xFE, NAME)), FORM) == plain
    assert strip_jpeg(tiny_jpeg(between=segment(0xE1, NAME)), FORM) == plain
    assert strip_jpeg(tiny_jpeg(later=segment(0xFE, NAME)), FORM) == plain
    assert strip_jpeg(tiny_jpeg(behind=NAME), FORM) == plain
    with pytest.raises(InstanceWithheld):
        strip_jpeg(tiny_jpeg(between=segment(0xF0, NAME)), FORM)


def test_a_jpeg_of_another_size_than_the_header_is_withheld() -> None:
    with pytest.raises(InstanceWithheld) as caught:
        strip_jpeg(tiny_jpeg(), PixelFormat(1, 1, 4, 8, 8, 8, 7, False, None))
    assert caught.value.message.code == "pixel-stream.size"


TALL = PixelFormat(1, 1, 64, 48, 16, 12, 11, False, None)


def codestream(ds: Dataset) -> bytes:
    """Return the codestream of the first frame, without the comment of the encoder."""
    return strip_jpeg_2000(next(generate_frames(ds.PixelData, number_of_frames=1)), TALL)


def boxed(code: bytes) -> bytes:
    box = pack(">I", 12 + len(NAME)) + b"uuid" + b"\0\0\0\1" + NAME
    return b"\0\0\0\x0cjP  \r\n\x87\n" + box + pack(">I", 8 + len(code)) + b"jp2c" + code


def test_jp2_boxes_around_a_codestream_are_removed() -> None:
    ds = compressed(JPEG2000Lossless)
    plain = codestream(ds)
    ds.PixelData = encapsulate([boxed(plain)])
    source = as_instance(ds)
    verify(source, apply(change(), source), change())
    assert NAME not in pixel_element(source)
    assert plain in pixel_element(source)
    colour = replace(FORM, samples_per_pixel=3, rows=64, columns=48)
    with pytest.raises(InstanceWithheld) as caught:
        strip_jpeg_2000(boxed(plain), colour)
    assert caught.value.message.code == "pixel-stream.no-jpeg-2000"


def test_a_tile_without_a_length_must_end_at_a_single_end_marker() -> None:
    code = codestream(compressed(JPEG2000Lossless))
    at = code.index(b"\xff\x90") + 6
    open_ended = code[:at] + bytes(4) + code[at + 4 :]
    assert strip_jpeg_2000(open_ended, TALL) is open_ended
    with pytest.raises(InstanceWithheld) as caught:
        strip_jpeg_2000(open_ended + NAME + b"\xff\xd9", TALL)
    assert caught.value.message.code == "pixel-stream.ambiguous-end"


def run_lengths(gap: bytes = b"", unused: bytes = b"", behind: bytes = b"") -> bytes:
    """Return 4 x 4 pixels of 12 bits in RLE, all of one value."""
    runs = bytes([256 - 15, 3])
    head = pack("<3I", 2, 64, 66 + len(gap)).ljust(64 - len(unused), b"\0") + unused
    return head + runs + gap + runs + behind


@pytest.mark.parametrize("where", ["gap", "unused", "behind"])
def test_bytes_outside_the_rle_segments_are_removed(where: str) -> None:
    made = header()
    del made[0x7FE00010]
    before = instance(made)
    for text in (b"", NAME):
        pixels = encapsulate([run_lengths(**{where: text})])
        element = pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + pixels
        element += pack("<HHI", 0xFFFE, 0xE0DD, 0)
        source = Instance(CT, before.instance_uid, RLELossless, before.header, (element,))
        verify(source, apply(change(), source), change())
        assert run_lengths() in pixel_element(source)
        assert NAME not in pixel_element(source)


def test_an_unsupported_transfer_syntax_is_withheld() -> None:
    made = as_instance(compressed(RLELossless))
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), Instance(CT, "", "1.2.840.10008.1.2.4.100", made.header, made.rest))
    assert caught.value.message.category == "syntax"


def test_output_can_be_read_as_one_data_set() -> None:
    out = apply(change(), as_instance(compressed(RLELossless)))
    ds = read_dataset(BytesIO(b"".join(bytes(part) for part in out.parts())), False, True)
    assert ds.Rows == 64


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("spare", [0, 0x80])
def test_a_stream_of_8_bits_is_withheld_if_it_uses_spare_bits(syntax: str, spare: int) -> None:
    ds = compressed(EXPLICIT_LE)
    ds.PixelData = (ds.pixel_array & 0x3F | spare).astype("u1").tobytes()
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.compress(syntax, generate_instance_uid=False)
    ds.BitsStored, ds.HighBit = 6, 5
    if spare:
        with pytest.raises(InstanceWithheld) as caught:
            apply(change(), as_instance(ds))
        assert caught.value.message.category == "pixel-bits"
    else:
        assert apply(change(), as_instance(ds)).transfer_syntax_uid == syntax


WIDE = [(JPEG2000Lossless, 16), (JPEGLSLossless, 16)]


@pytest.mark.parametrize(("syntax", "stored"), WIDE)
@pytest.mark.parametrize("spare", [0, 0x1000])
def test_a_stream_with_more_bits_is_withheld_if_they_are_used(
    syntax: str, stored: int, spare: int
) -> None:
    ds = compressed(EXPLICIT_LE)
    ds.PixelData = (ds.pixel_array | spare).astype("<u2").tobytes()
    ds.BitsStored, ds.HighBit = stored, stored - 1
    ds.compress(syntax, generate_instance_uid=False)
    ds.BitsStored, ds.HighBit = 12, 11
    if spare:
        with pytest.raises(InstanceWithheld) as caught:
            apply(change(), as_instance(ds))
        assert caught.value.message.category == "pixel-bits"
    else:
        assert apply(change(), as_instance(ds)).transfer_syntax_uid == syntax


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="needs dcmtk")
@pytest.mark.parametrize("spare", [0, 0x1000])
def test_jpeg_lossless_of_dcmtk_is_withheld_if_unused_bits_are_set(
    tmp_path: Path, spare: int
) -> None:
    ds = compressed(EXPLICIT_LE)
    ds.PixelData = (ds.pixel_array | spare).astype("<u2").tobytes()
    ds.save_as(tmp_path / "plain.dcm", enforce_file_format=True)
    command = [
        "dcmcjpeg",
        "+e1",
        "+un",
        str(tmp_path / "plain.dcm"),
        str(tmp_path / "lossless.dcm"),
    ]
    subprocess.run(command, check=True, timeout=250)
    made = part10.parse_file((tmp_path / "lossless.dcm").read_bytes())
    assert made.transfer_syntax_uid == "1.2.840.10008.1.2.4.70"
    if spare:
        with pytest.raises(InstanceWithheld):
            apply(change(), made)
    else:
        assert (decoded(apply(change(), made)) == ds.pixel_array).all()
