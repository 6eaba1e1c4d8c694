"""A full local disk is reported as such, and the next attempt delivers everything."""

import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest
from lab import receiving
from lab.leaks import nothing_left
from lab.orders import Bench, Case, Plan, images, shelf
from test_matrix import assert_the_next_attempt_heals

from adit_engine.dicom_ul import message_buffer
from adit_engine.errors import StorageFull
from adit_engine.pseudonymize.parameters import AsIs


def no_room(**where: object) -> BinaryIO:
    """Open a file on a full disk."""
    return Path("/dev/full").open("w+b", buffering=0)


@pytest.mark.parametrize("route", ["get", "web"])
def test_a_large_image_without_disk_space_raises_storage_full(
    route: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Case(1, "1", route, "dimse", AsIs(), [Plan()])
    again = Case(2, "1", route, "dimse", AsIs(), [Plan()])
    with nothing_left(), receiving.receiving(tmp_path) as received:
        bench = Bench(tmp_path / "runs", received, shelf(tmp_path / "source", images()))
        with monkeypatch.context() as patch:
            patch.setattr(message_buffer, "MAPPED_FROM_BYTES", 100)
            patch.setattr(tempfile, "TemporaryFile", no_room)
            bench.run(order)
        bench.run(again)

    (error,) = order.errors
    assert isinstance(error, StorageFull)
    assert error.message.code == "disk.temporary-folder-full"
    assert error.is_transient
    assert order.kept == [{}]
    assert_the_next_attempt_heals(again)
