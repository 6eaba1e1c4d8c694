"""File meta elements inside a data set, as some PACS send them, are ignored."""

from io import BytesIO
from pathlib import Path
from struct import pack

import pytest
from lab.samples import ct, instance
from pydicom import dcmread

from adit_engine.dicom_file import part10
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE, Instance


def element(number: int, value: bytes, explicit: bool) -> bytes:
    head = pack("<HH", 0x0002, number)
    return head + (pack("<2sH", b"UI", len(value)) if explicit else pack("<I", len(value))) + value


@pytest.mark.parametrize("explicit", [True, False])
def test_the_file_has_the_negotiated_transfer_syntax_not_the_embedded_one(explicit: bool) -> None:
    clean = instance(ct(1), explicit=explicit)
    other = (IMPLICIT_LE if explicit else EXPLICIT_LE).encode()
    inside = element(0x0010, other + bytes(len(other) % 2), explicit)
    sent = inside + b"".join(bytes(part) for part in clean.parts())

    came = Instance.from_data_set(
        clean.sop_class_uid, clean.instance_uid, clean.transfer_syntax_uid, sent
    )

    assert came.sha256() == clean.sha256()
    file = b"".join(bytes(part) for part in part10.file_parts(came))
    read = dcmread(BytesIO(file))
    assert read.file_meta.TransferSyntaxUID == clean.transfer_syntax_uid
    assert read.PatientID == "PID-4711-0815"


def test_a_file_with_embedded_meta_elements_is_read_by_its_own_header(tmp_path: Path) -> None:
    clean = instance(ct(1))
    inside = element(0x0010, IMPLICIT_LE.encode() + b"\0", explicit=True)
    whole = part10.file_head(clean) + inside + b"".join(bytes(part) for part in clean.parts())
    (tmp_path / "one.dcm").write_bytes(whole)

    came = part10.read_file(tmp_path / "one.dcm")

    assert came.transfer_syntax_uid == EXPLICIT_LE
    assert came.sha256() == clean.sha256()


def test_a_data_set_of_file_meta_elements_only_is_empty() -> None:
    came = Instance.from_data_set(
        "1.2", "1.3", EXPLICIT_LE, element(0x0010, b"1.2.3\0", explicit=True)
    )

    assert (came.size_bytes, came.rest) == (0, ())
