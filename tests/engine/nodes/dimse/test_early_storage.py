"""Prefetch of images while their list is queried: a failure loses nothing and causes no delay."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import peers
from lab.leaks import nothing_left
from lab.samples import ROOT, ct, instance
from pydicom.uid import CTImageStorage

from adit_engine.bounded_stream import Stop
from adit_engine.errors import NodeRefused
from adit_engine.nodes.base import SupportsPrefetch, TrafficObserver
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.retrieve import ImageRetrieval
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import Completeness, SeriesOutcome
from adit_engine.values.query import Query
from adit_engine.values.references import StudyRef

COUNT = 20
STUDY = StudyRef(f"{ROOT}.1")


@pytest.fixture
def filled(archive: peers.Orthanc) -> DimseNode:
    settings = DimseSettings(archive.called, "127.0.0.1", archive.port)
    node = DimseNode("Archive", settings)
    stored = node.store([instance(ct(number)) for number in range(1, COUNT + 1)])
    assert all(one.is_stored for one in stored)
    node.lists_concurrently = True
    return node


def outcomes(node: DimseNode) -> tuple[list[SeriesOutcome], MemoryNode]:
    (record,) = node.find(Query.study(STUDY))
    destination = MemoryNode("Memory", MemorySettings())
    destination.held.clear()
    order = StudyRequest(STUDY, record.patient_id)
    told = transfer(order, node, destination, AsIs(), {}, Stop())
    return [one for one in told if isinstance(one, SeriesOutcome)], destination


def test_images_are_prefetched_before_the_list_is_known(
    filled: DimseNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    early: list[str] = []
    whole = ImageRetrieval.prefetch

    def noted(self: ImageRetrieval, *arguments: object) -> object:
        for one in whole(self, *arguments):  # type: ignore[arg-type]
            early.append(one.instance_uid)
            yield one

    monkeypatch.setattr(ImageRetrieval, "prefetch", noted)
    with nothing_left():
        told, destination = outcomes(filled)

    assert isinstance(filled, SupportsPrefetch)
    assert [one.completeness for one in told] == [Completeness.COMPLETE]
    assert len(early) == COUNT == len(destination.held)


def test_an_observer_counts_prefetched_images_once(filled: DimseNode) -> None:
    received: list[str] = []

    class Observer(TrafficObserver):
        def instance_received(self, instance: Instance) -> None:
            received.append(instance.instance_uid)

    node = DimseNode("Archive", filled.settings, observer=Observer())
    node.lists_concurrently = True

    _, destination = outcomes(node)

    assert sorted(received) == sorted(destination.held)


@pytest.mark.parametrize("at", [0, 3])
def test_a_prefetch_that_fails_before_its_first_image_is_replaced_by_fetch(
    filled: DimseNode, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ImageRetrieval.prefetch

    def breaking(self: ImageRetrieval, *arguments: object) -> object:
        for number, one in enumerate(whole(self, *arguments)):  # type: ignore[arg-type]
            if number == at:
                raise NodeRefused("Archive", "has had enough.")
            yield one

    monkeypatch.setattr(ImageRetrieval, "prefetch", breaking)
    with nothing_left():
        if at:
            with pytest.raises(NodeRefused):
                outcomes(filled)
            return
        told, destination = outcomes(filled)

    assert [one.completeness for one in told] == [Completeness.COMPLETE]
    assert len(destination.held) == COUNT


def test_a_failed_list_query_ends_the_prefetch(
    filled: DimseNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = filled.find(Query.study(STUDY))
    find: Callable[..., object] = filled.find

    def refusing(query: Query) -> object:
        if query.level.value == "IMAGE":
            raise NodeRefused("Archive", "does not answer that.")
        return find(query)

    monkeypatch.setattr(filled, "find", refusing)
    order = StudyRequest(STUDY, record.patient_id)
    began = time.monotonic()
    with nothing_left(), pytest.raises(NodeRefused):
        list(transfer(order, filled, MemoryNode("M", MemorySettings()), AsIs(), {}, Stop()))
    assert time.monotonic() - began < 60


def test_prefetch_needs_expected_classes_concurrency_and_a_prior_search(
    filled: DimseNode,
) -> None:
    list(filled.find(Query.study(STUDY)))
    (series,) = (record.ref for record in filled.find(Query.series_of(STUDY)))

    def early(node: DimseNode, *, may: bool) -> object:
        return node.prefetch(series, patient_id="", count=None, expected_uids=lambda kind: may)  # type: ignore[arg-type]

    assert early(filled, may=False) is None
    filled.lists_concurrently = False
    assert early(filled, may=True) is None
    filled.lists_concurrently = True
    filled.close()
    assert early(DimseNode("Fresh", filled.settings), may=True) is None


@peers.needs_dcmtk
def test_an_archive_with_one_association_at_a_time_causes_no_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peers.dcmqrscp(tmp_path / "qr", options=["--single-process"]) as port:
        node = DimseNode("QR", DimseSettings("QR", "127.0.0.1", port, association_s=600))
        assert all(one.is_stored for one in node.store([instance(ct(n)) for n in range(COUNT)]))
        node.lists_concurrently = True
        # Required for a prefetch, because dcmtk does not return the SOP classes of a study.
        monkeypatch.setattr(node._search, "known_classes", lambda uid: (str(CTImageStorage),))
        began = time.monotonic()
        with nothing_left():
            told, destination = outcomes(node)
    assert [one.completeness for one in told] == [Completeness.COMPLETE]
    assert len(destination.held) == COUNT
    assert time.monotonic() - began < 60
