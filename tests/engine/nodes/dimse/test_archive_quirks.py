"""Quirks of archives that must not cause the loss of an image."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lab import peers, receiving
from lab.samples import ROOT, ct, instance
from pydicom.dataset import Dataset

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_ul.identifier import encode_identifier
from adit_engine.errors import ConnectionLost, NodeRefused
from adit_engine.messages import Message
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dimse.association_probe import CT_IMAGE
from adit_engine.nodes.dimse.c_find import STUDY_ROOT
from adit_engine.nodes.dimse.c_get import STUDY_ROOT_GET
from adit_engine.nodes.dimse.c_move import STUDY_ROOT_MOVE
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import Completeness, SeriesOutcome
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, QueryLevel, StudyRef

FIND_ANSWER, GET_ANSWER, MOVE_ANSWER = 0x8020, 0x8010, 0x8021
SR = "1.2.840.10008.5.1.4.1.1.88.11"
REFUSES, SAYS_NOTHING = 0xC413, 0x0000

Serve = Callable[[peers.Talk, int, list[Instance]], int | bytes]
"""Sends the requested images for the message with this ID. Returns the final status, or the bytes
that follow the final command of a failure.
"""


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    with receiving.receiving(tmp_path) as one:
        yield one


class ImagesAlone:
    """Lists three CT images; `to_a_list` is the status for a list of UIDs, None accepts it."""

    def __init__(self, serve: Serve, to_a_list: int | None) -> None:
        self.images = [instance(ct(number)) for number in range(1, 4)]
        self._serve = serve
        self._to_a_list = to_a_list
        self.asked: list[int] = []
        self.refused = 0

    @property
    def refs(self) -> list[InstanceRef]:
        return [one.in_header.ref for one in self.images]

    def __call__(self, talk: peers.Talk) -> None:
        talk.accept(refuse=lambda kind, syntax: False)
        while True:
            command, data = talk.hear_with_data()
            number = int.from_bytes(command[0x0110], "little")
            if command[0x0100] == b"\x20\0":
                is_list = b"\\" in data and self._to_a_list is not None
                self._list(talk, number, self._to_a_list if is_list else None)
                continue
            named = [one for one in self.images if one.instance_uid.encode() in data]
            wanted = named or self.images
            self.asked.append(len(wanted))
            is_deaf = len(wanted) > 1 and self._to_a_list is not None
            status = self._to_a_list if is_deaf else self._serve(talk, number, wanted)
            is_get = command[0x0100] == b"\x10\0"
            kind, answer = (
                (STUDY_ROOT_GET, GET_ANSWER) if is_get else (STUDY_ROOT_MOVE, MOVE_ANSWER)
            )
            said = {0x0100: answer, 0x0120: number, 0x0900: status}
            if isinstance(status, bytes):
                said |= {0x0900: 0xC000, 0x1022: 1}
                talk.raw(talk.message(talk.context(kind), said, behind=status))
            else:
                talk.say(talk.context(kind), said)

    def _list(self, talk: peers.Talk, number: int, refusal: int | None) -> None:
        answer = {0x0100: FIND_ANSWER, 0x0120: number}
        self.refused += refusal is not None
        for one in self.images if refusal is None else ():
            record = Dataset()
            record.SOPInstanceUID = one.instance_uid
            record.SOPClassUID = one.sop_class_uid
            pending = {**answer, 0x0900: 0xFF00}
            talk.say(talk.context(STUDY_ROOT), pending, encode_identifier(record, explicit=True))
        talk.say(talk.context(STUDY_ROOT), {**answer, 0x0900: refusal or 0})


def sends(talk: peers.Talk, number: int, wanted: list[Instance], kind: str = CT_IMAGE) -> int:
    for one in wanted:
        request = {0x0002: kind, 0x0100: 1, 0x0110: 1, 0x0700: 0, 0x1000: one.instance_uid}
        talk.say(talk.context(kind), request, b"".join(one.parts()))
        assert talk.hear()[0x0900] == b"\0\0"
    return 0


def by_get(peer: peers.Scripted) -> DimseNode:
    return peers.node(peer.port, retrieve="get")


@pytest.mark.parametrize("answer", [REFUSES, SAYS_NOTHING])
def test_c_get_requests_images_singly_if_a_list_of_uids_is_not_supported(
    answer: int,
) -> None:
    archive = ImagesAlone(sends, answer)
    with peers.Scripted(archive) as peer:
        fetched = list(by_get(peer).fetch(archive.refs))

    assert [one.sha256() for one in fetched] == [one.sha256() for one in archive.images]
    assert archive.asked == [3, 1, 1, 1]


@pytest.mark.parametrize("answer", [REFUSES, SAYS_NOTHING])
def test_c_move_requests_images_singly_if_a_list_of_uids_is_not_supported(
    received: receiving.Received, answer: int
) -> None:
    def moves(talk: peers.Talk, number: int, wanted: list[Instance]) -> int:
        with receiving.sending(received.port, *wanted) as sending:
            assert [sending.store(one, ("ADIT", number)) for one in wanted] == [0]
        return 0

    archive = ImagesAlone(moves, answer)
    with peers.Scripted(archive) as peer:
        settings = {"retrieve": "move", "senders": "PACS", "drain_s": 0.2}
        node = peers.node(peer.port, "PACS", received.reception, **settings)
        fetched = list(node.fetch(archive.refs))

    assert [one.sha256() for one in fetched] == [one.sha256() for one in archive.images]
    assert archive.asked == [3, 1, 1, 1]


def test_confirm_queries_the_series_if_a_list_of_uids_is_not_supported() -> None:
    archive = ImagesAlone(sends, REFUSES)
    lost = replace(archive.refs[0], instance_uid=f"{ROOT}.1.1.9")
    with peers.Scripted(archive) as peer:
        node = by_get(peer)
        first = list(node.confirm([StoreResult(ref) for ref in archive.refs[:2]]))
        second = list(node.confirm([StoreResult(archive.refs[2]), StoreResult(lost)]))
        third = list(node.confirm([StoreResult(archive.refs[1]), StoreResult(lost)]))

    one, two, three = (ref.instance_uid for ref in archive.refs)
    assert (sorted(first), second, third) == ([one, two], [three], [two])
    assert archive.refused == 1


@pytest.mark.parametrize("status", [0xC000, 0xA702])
def test_an_image_that_cannot_be_sent_does_not_affect_the_others(status: int) -> None:
    def serve(talk: peers.Talk, number: int, wanted: list[Instance]) -> int:
        return status if wanted[0].instance_uid == f"{ROOT}.1.1.2" else sends(talk, number, wanted)

    archive = ImagesAlone(serve, REFUSES)
    with peers.Scripted(archive) as peer:
        fetched = list(by_get(peer).fetch(archive.refs))

    first, _, third = archive.images
    assert [one.instance_uid for one in fetched] == [first.instance_uid, third.instance_uid]
    # The failed image is requested once more, uncompressed.
    assert archive.asked == [3, 1, 1, 1, 1]


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_c_get_fetches_all_other_images_if_it_ends_at_the_first_failure(
    bad: int,
) -> None:
    """It names the failed image in bytes after the command, where no data set is allowed."""

    def serve(talk: peers.Talk, number: int, wanted: list[Instance]) -> int | bytes:
        for one in wanted:
            if one.instance_uid == f"{ROOT}.1.1.{bad}":
                return encode_identifier(
                    {"FailedSOPInstanceUIDList": one.instance_uid}, explicit=False
                )
            sends(talk, number, [one])
        return 0

    archive = ImagesAlone(serve, None)
    with peers.Scripted(archive) as peer:
        node, series = by_get(peer), archive.refs[0].series
        came = {one.instance_uid for one in node.fetch([series])}
        left = [ref for ref in archive.refs if ref.instance_uid not in came]
        came |= {one.instance_uid for one in node.fetch(left)} if came and len(left) > 1 else set()

    assert came == {f"{ROOT}.1.1.{number}" for number in {1, 2, 3} - {bad}}


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_c_move_fetches_all_other_images_if_it_ends_at_the_first_failure(
    received: receiving.Received, bad: int
) -> None:
    def moves(talk: peers.Talk, number: int, wanted: list[Instance]) -> int:
        for one in wanted:
            if one.instance_uid == f"{ROOT}.1.1.{bad}":
                return 0xC000
            with receiving.sending(received.port, one) as sending:
                assert sending.store(one, ("ADIT", number)) == 0
        return 0

    archive = ImagesAlone(moves, None)
    with peers.Scripted(archive) as peer:
        settings = {"retrieve": "move", "senders": "PACS", "drain_s": 0.2}
        node = peers.node(peer.port, "PACS", received.reception, **settings)
        series = archive.refs[0].series
        came = {one.instance_uid for one in node.fetch([series])}
        left = [ref for ref in archive.refs if ref.instance_uid not in came]
        came |= {one.instance_uid for one in node.fetch(left)} if len(left) > 1 else set()

    assert came == {f"{ROOT}.1.1.{number}" for number in {1, 2, 3} - {bad}}


def test_an_image_that_fails_by_c_get_is_fetched_by_c_move(
    received: receiving.Received,
) -> None:
    def serve(talk: peers.Talk, number: int, wanted: list[Instance]) -> int:
        if any(kind == STUDY_ROOT_GET for kind, _ in talk.contexts.values()):
            return 0xA702
        with receiving.sending(received.port, *wanted) as sending:
            assert [sending.store(one, ("ADIT", number)) for one in wanted] == [0]
        return 0

    archive = ImagesAlone(serve, REFUSES)
    with peers.Scripted(archive) as peer:
        settings = {"senders": "PACS", "drain_s": 0.2}
        node = peers.node(peer.port, "PACS", received.reception, **settings)
        fetched = list(node.fetch(archive.refs[:1]))

    assert [one.sha256() for one in fetched] == [archive.images[0].sha256()]


def test_a_structured_report_is_fetched_if_sop_classes_are_not_listed() -> None:
    report = instance(ct(4, SOPClassUID=SR))
    gets: list[int] = []

    def script(talk: peers.Talk) -> None:
        talk.accept()
        while True:
            command, data = talk.hear_with_data()
            number = int.from_bytes(command[0x0110], "little")
            answer = {0x0120: number, 0x0900: 0}
            if command[0x0100] == b"\x20\0":
                record = encode_identifier({"SOPInstanceUID": report.instance_uid}, explicit=True)
                told = {**answer, 0x0100: FIND_ANSWER}
                talk.say(talk.context(STUDY_ROOT), {**told, 0x0900: 0xFF00}, record)
                talk.say(talk.context(STUDY_ROOT), told)
                continue
            gets.append(len(talk.contexts))
            kinds = {kind for kind, _ in talk.contexts.values()}
            if SR in kinds:
                sends(talk, number, [report], SR)
            final = {**answer, 0x0100: GET_ANSWER, 0x0900: 0 if SR in kinds else 0xB000}
            talk.say(talk.context(STUDY_ROOT_GET), final)

    with peers.Scripted(script) as peer:
        fetched = list(by_get(peer).fetch([report.in_header.ref.series]))

    assert [one.sha256() for one in fetched] == [report.sha256()]
    assert max(gets) <= 128


def test_the_error_for_a_refused_retrieval_says_what_to_do() -> None:
    archive = ImagesAlone(lambda talk, number, wanted: REFUSES, REFUSES)
    with peers.Scripted(archive) as peer, pytest.raises(NodeRefused) as refused:
        list(by_get(peer).fetch(archive.refs))

    assert str(refused.value) == (
        "PACS1 refused the retrieval (status C413): it cannot be processed. Retry. If it happens "
        "again, ask its administrator to check its log."
    )


def test_the_error_for_an_aborted_association_mentions_permissions() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        talk.raw(talk.wrap(7, bytes(4)))
        talk.until_gone()

    with peers.Scripted(script) as peer, pytest.raises(ConnectionLost) as lost:
        list(peers.node(peer.port).find(Query(QueryLevel.STUDY, {})))

    assert str(lost.value) == (
        "PACS1 aborted the association. Some PACS do this if ADIT has no permission for the "
        "request. Retry. If it happens again, ask the administrator of the PACS to check its log."
    )


@pytest.mark.parametrize("status", [0xA900, 0xC001, 0x0122])
def test_a_series_without_a_list_of_images_is_delivered_as_unverifiable(
    tmp_path: Path, status: int
) -> None:
    one = instance(ct(1))
    series = {"StudyInstanceUID": f"{ROOT}.1", "SeriesInstanceUID": f"{ROOT}.1.1"}

    def script(talk: peers.Talk) -> None:
        talk.accept()
        while True:
            command, data = talk.hear_with_data()
            number = int.from_bytes(command[0x0110], "little")
            answer = {0x0100: FIND_ANSWER, 0x0120: number}
            find = STUDY_ROOT
            if command[0x0100] == b"\x10\0":
                assert sends(talk, number, [one]) == 0
                talk.say(
                    talk.context(STUDY_ROOT_GET), {0x0100: GET_ANSWER, 0x0120: number, 0x0900: 0}
                )
            elif b"IMAGE" in data:
                talk.say(talk.context(find), {**answer, 0x0900: status})
            else:
                told = encode_identifier({**series, "PatientID": "PID-4711-0815"}, explicit=True)
                talk.say(talk.context(find), {**answer, 0x0900: 0xFF00}, told)
                talk.say(talk.context(find), {**answer, 0x0900: 0})

    order = StudyRequest(StudyRef(f"{ROOT}.1"), "PID-4711-0815")
    destination = FolderNode("B", FolderSettings(path=str(tmp_path)))
    with peers.Scripted(script) as peer:
        told = list(transfer(order, by_get(peer), destination, AsIs(), {}, Stop()))

    (outcome,) = (one for one in told if isinstance(one, SeriesOutcome))
    assert (outcome.completeness, outcome.delivered) == (Completeness.UNVERIFIABLE, 1)
    assert Message("source-list.no-single-images") in outcome.notes
