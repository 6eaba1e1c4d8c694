"""Headers as DICOM JSON (PS3.18 F): equal elements of several images are converted only once."""

import json
import struct
from typing import Any

import pytest
from lab import samples
from pydicom.dataset import Dataset

from adit.dicomweb import dicom_json
from adit.dicomweb.dicom_json import MAX_KNOWN_BYTES, HeaderEncoder, RecordEncoder
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel


def make_image(*, explicit: bool, **changes: Any) -> Instance:
    """Return an image whose elements look the same as those of others, but mean something else."""
    ds = samples.ct(1, **changes)
    creator = changes.get("creator", "SIEMENS CSA HEADER")
    ds.private_block(0x0029, creator, create=True).add_new(0x08, "CS", "IMAGE NUM 4")
    ds.SmallestImagePixelValue = 0
    item = Dataset()
    item.CodeMeaning = "Schädel"
    ds.AnatomicRegionSequence = [item]
    return samples.instance(ds, explicit=explicit)


def make_images() -> list[Instance]:
    changes: list[dict[str, Any]] = [
        {},
        {"SpecificCharacterSet": "ISO_IR 192"},
        {"PixelRepresentation": 1},
        {"creator": "OTHER COMPANY"},
        {"InstanceNumber": 7},
    ]
    return [make_image(explicit=e, **one) for one in changes for e in (True, False)]


def test_a_header_does_not_depend_on_the_images_before() -> None:
    encoder = HeaderEncoder()
    images = make_images()

    for image in [*images, *reversed(images)]:
        assert encoder.encode(image) == HeaderEncoder().encode(image)
        assert json.loads(encoder.encode(image))["00100010"]["Value"] == [
            {"Alphabetic": "Mustermann^Änne"}
        ]


def test_equal_elements_are_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    dcmread = dicom_json.dcmread

    def count(*args: Any, **options: Any) -> Any:
        found = dcmread(*args, **options)
        read.append(len(found))
        return found

    monkeypatch.setattr(dicom_json, "dcmread", count)
    encoder = HeaderEncoder()
    for number in (1, 2, 2):
        encoder.encode(samples.instance(samples.ct(number)))

    first, second = read
    assert second < first / 3


def encode(tag: int, vr: bytes, value: bytes) -> bytes:
    length = struct.pack("<HI", 0, len(value)) if vr == b"SQ" else struct.pack("<H", len(value))
    return struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr) + length + value


def make_raw(*elements: tuple[int, bytes, bytes]) -> Instance:
    """Return an image with elements of tag, VR and value as they are given."""
    header = b"".join(encode(*element) for element in [(0x00080018, b"UI", b"1.2.3\0"), *elements])
    return Instance.from_data_set("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT_LE, header)


def test_a_value_that_cannot_be_converted_is_left_out_and_no_other() -> None:
    inside = encode(0x00280010, b"US", b"\1\2\3") + encode(0x00280011, b"US", b"\1\0")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside
    image = make_raw(
        (0x00081140, b"SQ", item), (0x00189073, b"FD", b"1234"), (0x00280010, b"US", b"\1\0")
    )

    without, found = (json.loads(HeaderEncoder().encode(image, address)) for address in ("", "x"))

    assert "00189073" not in without
    assert found["00280010"]["Value"] == without["00280010"]["Value"] == [1]
    assert found["00189073"] == {"vr": "FD", "BulkDataURI": "x/00189073"}
    assert found["00081140"]["Value"] == [
        {
            "00280010": {"vr": "US", "BulkDataURI": "x/00081140.1.00280010"},
            "00280011": {"vr": "US", "Value": [1]},
        }
    ]


def test_numbers_that_json_does_not_have_and_missing_ones_of_several_are_null() -> None:
    image = make_raw(
        (0x00089459, b"FL", struct.pack("<2f", 1, float("inf"))),
        (0x00181100, b"DS", b"NaN "),
        (0x00189073, b"FD", struct.pack("<d", float("nan"))),
        (0x00200013, b"IS", b"1\\\\2 "),
    )
    record = Record(QueryLevel.IMAGE, {"SliceThickness": "NaN", "PixelSpacing": ("1e999", "2")})

    header = json.loads(HeaderEncoder().encode(image))
    found = RecordEncoder((), lambda _keyword: False).encode(record)

    assert header["00089459"]["Value"] == [1, None]
    assert header["00181100"] == {"vr": "DS"}
    assert header["00189073"] == {"vr": "FD"}
    assert header["00200013"]["Value"] == [1, None, 2]
    assert found["00180050"] == {"vr": "DS"}
    assert found["00280030"]["Value"] == [None, 2]


def test_long_elements_are_not_kept() -> None:
    encoder = HeaderEncoder()
    for number in range(3):
        text = f"{number}".ljust(MAX_KNOWN_BYTES + 1)
        encoder.encode(make_raw((0x00204000, b"LT", text.encode())))

    kept = [text for text in encoder._texts.values() if text is not None]

    assert len(kept) == 1
