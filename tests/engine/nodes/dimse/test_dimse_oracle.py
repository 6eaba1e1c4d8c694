"""The DIMSE node against pynetdicom, an independent implementation."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from lab import peers
from lab.ports import free_port
from lab.samples import ROOT, ct, file_bytes, instance
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from adit_engine.nodes.base import Grade
from adit_engine.values.query import Query
from adit_engine.values.references import SeriesRef

SERIES = SeriesRef(f"{ROOT}.1", f"{ROOT}.1.1")


class Archive:
    """Holds three CT images; records stored images and calling AE titles."""

    def __init__(self) -> None:
        self.held = [ct(number) for number in (1, 2, 3)]
        self.stored: dict[str, bytes] = {}
        self.callers: list[str] = []
        self.ended: list[str] = []

    def handlers(self) -> list[tuple[Any, Any]]:
        return [
            (evt.EVT_RELEASED, lambda event: self.ended.append("released")),
            (evt.EVT_ABORTED, lambda event: self.ended.append("aborted")),
            (evt.EVT_C_ECHO, self.echo),
            (evt.EVT_C_FIND, self.find),
            (evt.EVT_C_GET, self.get),
            (evt.EVT_C_STORE, self.store),
        ]

    def echo(self, event: Any) -> int:
        self.callers.append(event.assoc.requestor.ae_title)
        return 0

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for one in self.held:
            answer = Dataset()
            answer.SpecificCharacterSet = "ISO_IR 100"
            answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
            for keyword in ("PatientName", "StudyInstanceUID", "SeriesInstanceUID"):
                setattr(answer, keyword, one[keyword].value)
            answer.SOPInstanceUID, answer.SOPClassUID = one.SOPInstanceUID, one.SOPClassUID
            yield 0xFF00, answer

    def get(self, event: Any) -> Iterator[Any]:
        yield len(self.held)
        for one in self.held:
            yield 0xFF00, dcmread(BytesIO(file_bytes(one)))

    def store(self, event: Any) -> int:
        self.stored[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Archive, int]]:
    monkeypatch.setattr(_config, "LOG_HANDLER_LEVEL", "none")
    one, port = Archive(), free_port()
    ae = AE(ae_title="PACS")
    ae.require_called_aet = True
    for service in (
        Verification,
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
    ):
        ae.add_supported_context(service)
    for storage in (CTImageStorage, MRImageStorage):
        ae.add_supported_context(storage, scu_role=True, scp_role=True)
        assert build_role(storage, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=one.handlers())
    yield one, port
    server.shutdown()


def test_echo_find_fetch_and_store_work_with_pynetdicom(archive: tuple[Archive, int]) -> None:
    held, port = archive
    node = peers.node(port, calling_ae_title="ADIT TEST")
    sent = [instance(ct(number)) for number in (7, 8)]

    checked = list(node.check())
    found = list(node.find(Query.instances_of(SERIES)))
    fetched = list(node.fetch([SERIES]))
    stored = list(node.store(sent))

    assert Grade.BAD not in {finding.grade for finding in checked}
    assert [record.patient_name for record in found] == ["Mustermann^Änne"] * 3
    assert [one.sha256() for one in fetched] == [instance(one).sha256() for one in held.held]
    assert [one.error for one in stored] == [None, None]
    assert held.stored == {one.instance_uid: b"".join(one.parts()) for one in sent}
    assert held.callers == ["ADIT TEST"]


def test_every_association_is_released(archive: tuple[Archive, int]) -> None:
    held, port = archive
    node = peers.node(port)

    list(node.fetch([SERIES]))
    list(node.store([instance(ct(9))]))
    peers.wait_until(lambda: len(held.ended) == 3, "three associations have ended")
    list(node.check())

    peers.wait_until(lambda: len(held.ended) > 8, "those of the check have ended, too")
    assert set(held.ended) == {"released"}
