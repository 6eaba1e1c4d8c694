"""Verification of compressed pixels: comments are searched, other bytes must be unchanged."""

from dataclasses import replace

import pytest
from lab.verify_pairs import change, instance, original, pseudonymized
from pydicom.encaps import encapsulate

from adit_engine.errors import InstanceWithheld
from adit_engine.messages import Message
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance

JPEG, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
START, SCAN, END = b"\xff\xd8", b"\xff\xda\0\4\1\1\x12\x34\xff\0\x56", b"\xff\xd9"
NAME_IN_PIXEL_DATA = Message("verify-name.found", place=Message("clause.verify.pixel-data"))
TABLE = b"\xff\xdb\0\6\1\2\3\4"


def comment(text: bytes, marker: bytes = b"\xff\xfe") -> bytes:
    return marker + (len(text) + 2).to_bytes(2) + text


def frame(*segments: bytes, behind: bytes = b"") -> bytes:
    return START + TABLE + b"".join(segments) + SCAN + END + behind


def compressed(frames: list[bytes], *, made: bool, syntax: str = JPEG) -> Instance:
    ds = pseudonymized(original()) if made else original()
    ds.NumberOfFrames = len(frames)
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return replace(instance(ds), transfer_syntax_uid=syntax)


def check(before: list[bytes], after: list[bytes], syntax: str = JPEG) -> None:
    source = compressed(before, made=False, syntax=syntax)
    verify(source, compressed(after, made=True, syntax=syntax), change())


def test_unchanged_streams_pass() -> None:
    check([frame(), frame(comment(b"made by ACME"))], [frame(), frame(comment(b"made by ACME"))])


def test_removal_of_comments_and_application_data_passes() -> None:
    before = frame(comment(b"Okonkwo"), comment(b"98765432", b"\xff\xe1"))
    check([before, frame()], [frame(), frame()])


@pytest.mark.parametrize("marker", [b"\xff\xfe", b"\xff\xe1", b"\xff\xee"])
def test_name_in_a_comment_is_found(marker: bytes) -> None:
    with_name = frame(comment(b"seen by Okonkwo", marker))
    with pytest.raises(InstanceWithheld) as caught:
        check([frame(), with_name], [frame(), with_name])
    assert caught.value.message == NAME_IN_PIXEL_DATA


def test_name_after_the_end_of_a_frame_is_found() -> None:
    with_name = frame(behind=b"Okonkwo ")
    with pytest.raises(InstanceWithheld) as caught:
        check([with_name], [with_name])
    assert caught.value.message == NAME_IN_PIXEL_DATA


def test_name_in_a_jpeg_2000_comment_is_found_and_its_removal_passes() -> None:
    size = b"\xff\x51\0\4\1\2"
    tile = b"\xff\x90\0\x0a\0\0" + b"\0\0\0\x0f" + b"\0\1\xff\x93\x77\xff\xd9\0"
    named = b"\xff\x4f" + size + comment(b"\0\1Okonkwo", b"\xff\x64") + tile
    bare = b"\xff\x4f" + size + tile
    check([named], [bare], JPEG_2000)
    with pytest.raises(InstanceWithheld) as caught:
        check([named], [named], JPEG_2000)
    assert caught.value.message == NAME_IN_PIXEL_DATA


@pytest.mark.parametrize(
    "after",
    [
        [frame().replace(b"\x56", b"\x57"), frame()],
        [frame().replace(TABLE, b""), frame()],
        [frame()],
        [frame(), frame(), frame()],
    ],
)
def test_changed_missing_or_added_frames_are_found(after: list[bytes]) -> None:
    with pytest.raises(InstanceWithheld) as caught:
        check([frame(), frame()], after)
    assert caught.value.message.category == "verify-pixel"


def test_change_of_transfer_syntax_is_found() -> None:
    source = compressed([frame()], made=False)
    output = compressed([frame()], made=True, syntax=JPEG_2000)
    with pytest.raises(InstanceWithheld) as caught:
        verify(source, output, change())
    assert caught.value.message.code == "verify-pixel.transfer-syntax"
