"""Storage over two associations: one result per image, in order."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import peers
from lab.samples import ct, instance

from adit_engine.dicom_ul.association import OpenAssociations
from adit_engine.errors import RuleViolation
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dimse.association_limits import SINGLE_IMAGES
from adit_engine.nodes.dimse.association_probe import MR_IMAGE
from adit_engine.nodes.dimse.c_store import CStore
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.values.instance import Instance

pytestmark = pytest.mark.usefixtures("same_threads")

COUNT = 3 * SINGLE_IMAGES


def images(count: int = COUNT) -> list[Instance]:
    return [instance(ct(number)) for number in range(1, count + 1)]


def storage(called: str, port: int, **settings: float) -> CStore:
    peer = DimseSettings(called, "127.0.0.1", port, **settings).peer("Archive")  # type: ignore[arg-type]
    return CStore(OpenAssociations(peer), lanes=2)


def test_two_associations_yield_one_result_per_image_in_order(archive: peers.Orthanc) -> None:
    sent = images()

    answers = list(storage(archive.called, archive.port).store(sent))

    assert [a.ref.instance_uid for a in answers] == [one.instance_uid for one in sent]
    assert all(a.is_stored and a.sha256 for a in answers)
    assert archive.count() == COUNT


def test_a_node_that_serves_one_association_at_a_time_gets_all_images(tmp_path: Path) -> None:
    """The second association, which the node does not accept, causes no delay."""
    began = time.monotonic()
    with peers.storescp(tmp_path / "taken") as port:
        answers = list(storage("ANY", port, association_s=600).store(images()))

    assert [a.is_stored for a in answers] == [True] * COUNT
    assert time.monotonic() - began < 60


def test_a_new_sop_class_does_not_wait_for_an_unused_association(
    tmp_path: Path,
) -> None:
    other = instance(ct(COUNT + 1, SOPClassUID=MR_IMAGE))
    began = time.monotonic()
    with peers.storescp(tmp_path / "taken") as port:
        answers = list(storage("ANY", port, association_s=600).store([*images(), other, other]))

    assert [a.is_stored for a in answers] == [True] * (COUNT + 2)
    assert time.monotonic() - began < 60


def test_images_in_flight_get_a_result_before_the_error_of_the_source(
    archive: peers.Orthanc,
) -> None:
    """Otherwise the ledger would record images that the node has as withheld."""

    def broken() -> Iterator[Instance]:
        yield from images()
        raise RuleViolation("another patient")

    got: list[StoreResult] = []
    with pytest.raises(RuleViolation):
        got.extend(storage(archive.called, archive.port).store(broken()))

    assert len(got) == COUNT == archive.count()
