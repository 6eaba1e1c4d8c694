"""Retrieval by C-MOVE: what archives send to us, by way of the receiver and its spool."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
import receiving
from samples import ROOT, ct, instance

from adit_engine.instance import Instance
from adit_engine.reference import SeriesRef, StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

STUDY = StudyRef(f"{ROOT}.1")
SERIES = SeriesRef(STUDY.study_uid, f"{ROOT}.1.1")
MOVE = {"retrieve": "move", "drain_s": 0.5}


def images(count: int, series: str = "1", **changes: object) -> list[Instance]:
    return [instance(ct(number, series=series, **changes)) for number in range(1, count + 1)]


def by_uid(instances: list[Instance]) -> dict[str, tuple[str, str, str]]:
    return {i.instance_uid: (i.sop_class_uid, i.transfer_syntax_uid, i.sha256()) for i in instances}


def register(archive: peers.Orthanc, port: int) -> None:
    """Tells the archive where ADIT is."""
    body = json.dumps(["ADIT", "127.0.0.1", port]).encode()
    address = f"http://127.0.0.1:{archive.http_port}/modalities/adit"
    urllib.request.urlopen(urllib.request.Request(address, body, method="PUT"), timeout=10).close()


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    with receiving.receiving(tmp_path) as one:
        yield one


def test_orthanc_sends_a_series_byte_by_byte(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, received.port)
    sent = images(20)
    list(archive.node().store(sent + images(3, series="2")))
    node = peers.node(archive.port, archive.called, reception=received.reception, **MOVE)

    fetched = list(node.fetch([SERIES]))

    assert by_uid(fetched) == by_uid(sent)
    assert received.spool.tokens() == []
