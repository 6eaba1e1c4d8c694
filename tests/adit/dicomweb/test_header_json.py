"""Headers as DICOM JSON (PS3.18 F): equal elements of several images are converted only once."""

import json
from typing import Any

import pytest
from lab import samples
from pydicom.dataset import Dataset

from adit.dicomweb import dicom_json
from adit.dicomweb.dicom_json import HeaderEncoder
from adit_engine.values.instance import Instance


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
