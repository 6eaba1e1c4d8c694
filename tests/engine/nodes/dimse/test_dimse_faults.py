"""Faults of a DIMSE node: each ends in time with the right error and leaves nothing open."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from struct import pack

import pytest
from lab import peers
from lab.ports import free_port
from lab.samples import ROOT, ct, instance
from lab.wire import Wire
from pydicom.dataset import Dataset

from adit_engine.dicom_ul.identifier import encode_identifier
from adit_engine.dicom_ul.peer import Peer, Timeouts
from adit_engine.dicom_ul.tcp_connection import SocketAddress, TcpConnection
from adit_engine.errors import (
    AditError,
    AssociationRejected,
    ConnectionLost,
    NodeBusy,
    NodeRefused,
    NotSupported,
    Stopped,
    TimedOut,
    Unreachable,
)
from adit_engine.nodes.base import Grade
from adit_engine.nodes.dimse.association_probe import CT_IMAGE
from adit_engine.nodes.dimse.c_find import STUDY_ROOT
from adit_engine.nodes.dimse.c_get import STUDY_ROOT_GET
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel, SeriesRef, StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

STUDY = StudyRef(f"{ROOT}.1")
SERIES = SeriesRef(STUDY.study_uid, f"{ROOT}.1.1")
PATIENT_WORDS = ("Mustermann", "4711", "1956", "ACC2024")

FIND_ANSWER, GET_ANSWER, STORE_ANSWER = 0x8020, 0x8010, 0x8001


def images(count: int) -> list[Instance]:
    return [instance(ct(number)) for number in range(1, count + 1)]


def find(node: DimseNode) -> list[object]:
    return list(node.find(Query.study(STUDY)))


def fetch(node: DimseNode) -> list[Instance]:
    return list(node.fetch([SERIES]))


def failed(action: Callable[[], object]) -> AditError:
    """Return the error of an action that must fail in time and without patient data."""
    started = time.monotonic()
    with pytest.raises(AditError) as caught:
        action()
    assert time.monotonic() - started < peers.WITHOUT_WAIT_S
    assert "PACS1" in str(caught.value)
    assert not any(word in str(caught.value) for word in PATIENT_WORDS)
    return caught.value


# Association -----------------------------------------------------------------------------------


def test_the_error_names_an_unknown_host() -> None:
    node = peers.node(104, host="no-such-host.invalid")

    error = failed(lambda: find(node))

    assert isinstance(error, Unreachable)
    assert "no-such-host.invalid" in str(error)
    assert error.is_transient


def test_the_error_names_a_closed_port() -> None:
    port = free_port()

    error = failed(lambda: find(peers.node(port)))

    assert isinstance(error, Unreachable)
    assert f"no service listens on 127.0.0.1 port {port}" in str(error)


def test_the_error_names_a_wrong_called_ae_title(archive: peers.Orthanc) -> None:
    error = failed(lambda: find(peers.node(archive.port, "WRONG")))

    assert isinstance(error, AssociationRejected)
    assert "does not accept the AE title WRONG" in str(error)
    assert not error.is_transient


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((1, 1, 3), AssociationRejected, "rejected our AE title ADIT. Ask its administrator"),
        ((1, 1, 7), AssociationRejected, "does not accept the AE title PACS"),
        ((1, 1, 1), AssociationRejected, "Ask its administrator whether ADIT"),
        ((1, 2, 2), AssociationRejected, "version"),
        ((2, 1, 1), NodeBusy, "Try again later"),
        ((2, 3, 1), NodeBusy, "Try again later"),
        ((2, 3, 2), NodeBusy, "no free association"),
    ],
)
def test_permanent_and_transient_rejections_raise_different_errors(
    answer: tuple[int, int, int], kind: type[AditError], words: str
) -> None:
    with peers.Scripted(lambda talk: talk.reject(*answer)) as peer:
        error = failed(lambda: find(peers.node(peer.port)))

    assert type(error) is kind
    assert words in str(error)


def test_a_transient_rejection_for_lack_of_associations_is_retried() -> None:
    """Some PACS still count an association that was just released."""
    answers = answering(0)

    def script(talk: peers.Talk) -> None:
        if talk.number % 3 < 2:
            talk.reject(2, 3, 2)
        else:
            answers(talk)

    with peers.Scripted(script) as peer:
        assert find(peers.node(peer.port)) == []
        assert len(peer.talks) == 3


def test_an_abort_ends_the_wait_for_a_free_association() -> None:
    with peers.Scripted(lambda talk: talk.reject(2, 3, 2)) as peer:
        node = peers.node(peer.port)
        errors: list[AditError] = []
        thread = threading.Thread(target=lambda: errors.append(failed(lambda: find(node))))
        thread.start()
        peers.wait_until(lambda: len(peer.talks) > 1, "it has been refused")
        node.abort()
        thread.join(30)

    assert [type(error) for error in errors] == [Stopped]


def test_check_returns_a_connection_error_as_a_finding() -> None:
    (finding,) = peers.node(free_port()).check()

    assert finding.grade is Grade.BAD
    assert "no service listens" in str(finding.what)


def test_an_unanswered_association_request_times_out() -> None:
    with peers.Scripted(peers.Talk.until_gone) as peer:
        error = failed(lambda: find(peers.node(peer.port, association_s=0.3)))

    assert isinstance(error, TimedOut)
    assert "did not respond to the association request within 0.3 s" in str(error)


def test_a_peer_that_closes_the_connection_at_once_raises_connection_lost() -> None:
    with peers.Scripted(lambda talk: talk.close()) as peer:
        error = failed(lambda: find(peers.node(peer.port)))

    assert isinstance(error, ConnectionLost)
    assert "knows our address and AE title" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x02\x00\xff\xff\xff\xff" + bytes(100),
        b"\x02\x00\x00\x00\x00\x04abcd",
        b"\x02\x00\x00\x00\x00\x50" + bytes(68) + b"\x21\x00\xff\xff" + bytes(8),
        b"\x02\x00\x00\x00\x00\x4b" + bytes(68) + b"\x50\x00\x00\x03\x51\x00\x00",
    ],
)
def test_a_peer_that_does_not_speak_dicom_raises_a_connection_error(answer: bytes) -> None:
    with peers.Scripted(lambda talk: talk.raw(answer)) as peer:
        error = failed(lambda: find(peers.node(peer.port, association_s=0.5)))

    assert isinstance(error, ConnectionLost | TimedOut)


def test_a_node_without_c_find_raises_not_supported() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept(refuse=lambda kind, syntax: True)
        talk.until_gone()

    with peers.Scripted(script) as peer:
        error = failed(lambda: find(peers.node(peer.port)))

    assert isinstance(error, NotSupported)
    assert "does not offer C-FIND" in str(error)


def test_abort_ends_a_connection_attempt() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        node = peers.node(full.getsockname()[1], connect_s=30.0)
        timer = threading.Timer(0.3, node.abort)
        timer.start()

        error = failed(lambda: find(node))

        timer.join()
        for one in waiting:
            one.close()
    assert isinstance(error, Stopped)


# Searching -------------------------------------------------------------------------------------


def answering(status: int | None, *, pending: int = 0) -> Callable[[peers.Talk], None]:
    """Answer a C-FIND with `pending` records and a final status; None omits the status."""

    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        context = talk.context(STUDY_ROOT)
        for number in range(pending):
            record = Dataset()
            record.QueryRetrieveLevel = "STUDY"
            record.StudyInstanceUID = f"{STUDY.study_uid}.{number}"
            answer = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
            talk.say(context, answer, encode_identifier(record, explicit=True))
        final = {0x0100: FIND_ANSWER, 0x0120: 1}
        talk.say(context, final if status is None else {**final, 0x0900: status})
        talk.until_gone()

    return script


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (0xA700, NodeBusy, "out of resources"),
        (0xA900, NodeRefused, "A900"),
        (0xC001, NodeRefused, "cannot be processed"),
        (0x0124, NodeRefused, "not authorized"),
        (0xFE00, NodeRefused, "canceled"),
        (0x1234, NodeRefused, "no known reason"),
        (None, ConnectionLost, "did not respond correctly"),
    ],
)
def test_a_search_without_a_final_success_status_raises(
    status: int | None, kind: type[AditError], words: str
) -> None:
    with peers.Scripted(answering(status, pending=2)) as peer:
        error = failed(lambda: list(peers.node(peer.port).find(Query(QueryLevel.STUDY, {}))))

    assert type(error) is kind
    assert words in str(error)


def test_a_study_returned_once_per_image_is_one_record() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        context = talk.context(STUDY_ROOT)
        for patient, times in (("A", 3000), ("B", 2), ("A", 1)):
            record = Dataset()
            record.PatientID = patient
            record.StudyInstanceUID = STUDY.study_uid
            answer = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
            for _ in range(times):
                talk.say(context, answer, encode_identifier(record, explicit=True))
        talk.say(context, {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0})
        talk.until_gone()

    with peers.Scripted(script) as peer:
        answers = peers.node(peer.port).find(Query.study(STUDY))
        found = [record.patient_id for record in answers]

    # Two patients with the same study UID remain two records.
    assert found == ["A", "B"]
    assert answers.count == 3003


def test_a_search_that_stalls_times_out() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        message = talk.message(
            talk.context(STUDY_ROOT), {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0}
        )
        talk.raw(message[:40])
        talk.until_gone()

    with peers.Scripted(script) as peer:
        error = failed(lambda: find(peers.node(peer.port, no_progress_s=0.3)))

    assert isinstance(error, TimedOut)
    assert "within 0.3 s" in str(error)


def test_a_response_that_arrives_byte_by_byte_times_out() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        final = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0}
        for byte in talk.message(talk.context(STUDY_ROOT), final):
            talk.raw(bytes([byte]))
            if talk.gone.wait(0.1):
                return

    with peers.Scripted(script) as peer:
        error = failed(lambda: find(peers.node(peer.port, no_progress_s=0.5)))

    assert isinstance(error, TimedOut)


def test_closing_a_search_early_ends_the_association() -> None:
    with peers.Scripted(answering(0, pending=50)) as peer:
        answers = peers.node(peer.port).find(Query(QueryLevel.STUDY, {}))
        next(answers)

        answers.close()

        peers.wait_until(lambda: not peer.busy, "the peer has seen the end")


def test_a_malformed_record_raises_an_error_that_does_not_quote_it() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        pending = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
        talk.say(talk.context(STUDY_ROOT), pending, b"\x10\x00\x10\x00PN\xff\x00Mustermann^")
        talk.until_gone()

    with peers.Scripted(script) as peer:
        error = failed(lambda: find(peers.node(peer.port)))

    assert isinstance(error, NodeRefused)


@pytest.mark.parametrize(
    ("flags", "after"), [(1, False), (0, True), (None, False)], ids=["command", "data", "nothing"]
)
def test_endless_empty_fragments_raise_connection_lost(flags: int | None, after: bool) -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        context = talk.context(STUDY_ROOT)
        if after:
            pending = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
            whole = talk.message(context, pending, b"")
            talk.raw(whole[: -len(talk.wrap(4, bytes(6)))])
        empty = b"" if flags is None else pack(">IBB", 2, context, flags)
        while True:
            talk.raw(talk.wrap(4, empty) * 1000)

    with peers.Scripted(script) as peer:
        error = failed(lambda: find(peers.node(peer.port)))

    assert isinstance(error, ConnectionLost)


def test_records_in_an_encoding_that_was_not_negotiated_are_decoded() -> None:
    answer = encode_identifier({"PatientID": "P1", "StudyInstanceUID": "1.2.3"}, explicit=False)

    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        pending = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
        talk.say(talk.context(STUDY_ROOT), pending, answer)
        talk.say(talk.context(STUDY_ROOT), {**pending, 0x0900: 0})
        talk.until_gone()

    with peers.Scripted(script) as peer:
        found = list(peers.node(peer.port).find(Query(QueryLevel.STUDY, {"PatientID": "P1"})))

    assert [(one.patient_id, one.study_uid) for one in found] == [("P1", "1.2.3")]


# Fetching --------------------------------------------------------------------------------------


class Holdings:
    """A peer that lists three CT images and answers a C-GET with the function `get`."""

    def __init__(self, get: Callable[[peers.Talk, list[Instance]], None]) -> None:
        self._get = get
        self.images = images(3)
        self.gets = 0

    def __call__(self, talk: peers.Talk) -> None:
        talk.accept()
        if any(uid == STUDY_ROOT_GET for uid, _ in talk.contexts.values()):
            self.gets += 1
            talk.hear()
            self._get(talk, self.images)
        else:
            self._list(talk)
        talk.until_gone()

    def _list(self, talk: peers.Talk) -> None:
        talk.hear()
        context = talk.context(STUDY_ROOT)
        for one in self.images:
            record = Dataset()
            record.SOPInstanceUID = one.instance_uid
            record.SOPClassUID = one.sop_class_uid
            answer = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
            talk.say(context, answer, encode_identifier(record, explicit=True))
        talk.say(context, {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0})


def sent(talk: peers.Talk, one: Instance, number: int) -> bytes:
    """Encode a C-STORE sub-operation of a C-GET."""
    command = {0x0002: CT_IMAGE, 0x0100: 1, 0x0110: number, 0x0700: 0, 0x1000: one.instance_uid}
    return talk.message(talk.context(CT_IMAGE), command, b"".join(one.parts()))


def push(talk: peers.Talk, instances: list[Instance]) -> None:
    for number, one in enumerate(instances, 1):
        talk.raw(sent(talk, one, number))
        answer = talk.hear()
        assert answer[0x0900] == b"\0\0"
        assert answer[0x0120] == number.to_bytes(2, "little")


def end(talk: peers.Talk, status: int | None, **counts: int) -> None:
    fields = {"completed": 0x1021, "failed": 0x1022}
    final = {0x0100: GET_ANSWER, 0x0120: 1, **{fields[k]: v for k, v in counts.items()}}
    talk.say(talk.context(STUDY_ROOT_GET), final if status is None else {**final, 0x0900: status})


def test_a_normal_retrieval_ends_with_the_final_response() -> None:
    def get(talk: peers.Talk, held: list[Instance]) -> None:
        push(talk, held)
        end(talk, 0, completed=3, failed=0)

    holdings = Holdings(get)
    with peers.Scripted(holdings) as peer:
        fetched = fetch(peers.node(peer.port))

    assert [one.sha256() for one in fetched] == [one.sha256() for one in holdings.images]
    assert holdings.gets == 1


def test_a_success_without_images_is_requested_again_uncompressed() -> None:
    offered: list[int] = []

    def get(talk: peers.Talk, held: list[Instance]) -> None:
        offered.append(len(talk.contexts))
        if len(offered) == 2:
            push(talk, held)
        end(talk, 0)

    with peers.Scripted(Holdings(get)) as peer:
        fetched = fetch(peers.node(peer.port))

    assert len(fetched) == 3
    assert offered == [28, 3]


def test_failed_images_are_requested_once_more() -> None:
    holdings = Holdings(lambda talk, held: None)

    def get(talk: peers.Talk, held: list[Instance]) -> None:
        if holdings.gets == 2:
            push(talk, held[2:])
            end(talk, 0, completed=1)
            return
        push(talk, held[:2])
        missing = Dataset()
        missing.FailedSOPInstanceUIDList = [held[2].instance_uid]
        final = {0x0100: GET_ANSWER, 0x0120: 1, 0x0900: 0xB000, 0x1022: 1}
        talk.say(talk.context(STUDY_ROOT_GET), final, encode_identifier(missing, explicit=True))

    holdings._get = get
    with peers.Scripted(holdings) as peer:
        fetched = fetch(peers.node(peer.port))

    assert [one.instance_uid for one in fetched] == [one.instance_uid for one in holdings.images]


@pytest.mark.parametrize(
    ("status", "kind", "gets"),
    [
        (0xA701, NodeBusy, 1),
        (0xA900, NodeRefused, 1),
        (0xC000, NodeRefused, 2),
        (None, NodeRefused, 1),
    ],
)
def test_a_retrieval_with_a_failure_status_raises(
    status: int | None, kind: type[AditError], gets: int
) -> None:
    holdings = Holdings(lambda talk, held: end(talk, status))
    with peers.Scripted(holdings) as peer:
        error = failed(lambda: fetch(peers.node(peer.port)))

    assert type(error) is kind
    assert holdings.gets == gets


@pytest.mark.parametrize("how", ["close", "abort", "release"])
def test_an_association_that_ends_during_a_retrieval_raises_connection_lost(how: str) -> None:
    def get(talk: peers.Talk, held: list[Instance]) -> None:
        push(talk, held[:1])
        if how == "close":
            talk.close()
        else:
            talk.raw(talk.wrap(7 if how == "abort" else 5, bytes(4)))

    with peers.Scripted(Holdings(get)) as peer:
        error = failed(lambda: fetch(peers.node(peer.port)))

    assert isinstance(error, ConnectionLost)


@pytest.mark.parametrize("keep", [3, 30, 700])
def test_a_stall_in_the_middle_of_a_pdu_times_out(keep: int) -> None:
    def get(talk: peers.Talk, held: list[Instance]) -> None:
        push(talk, held[:1])
        talk.raw(sent(talk, held[1], 2)[:keep])

    with peers.Scripted(Holdings(get)) as peer:
        error = failed(lambda: fetch(peers.node(peer.port, no_progress_s=0.4)))

    assert isinstance(error, TimedOut)


def test_a_retrieval_cannot_exceed_the_total_time_limit() -> None:
    def get(talk: peers.Talk, held: list[Instance]) -> None:
        pending = {0x0100: GET_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
        while not talk.gone.wait(0.1):
            talk.say(talk.context(STUDY_ROOT_GET), pending)

    with peers.Scripted(Holdings(get)) as peer:
        error = failed(lambda: fetch(peers.node(peer.port, total_s=0.5)))

    assert isinstance(error, TimedOut)
    assert "exceeded the total time limit" in str(error)


@pytest.mark.parametrize("before", [0, 2])
def test_endless_pending_responses_without_images_time_out(before: int) -> None:
    def get(talk: peers.Talk, held: list[Instance]) -> None:
        push(talk, held[:before])
        pending = {0x0100: GET_ANSWER, 0x0120: 1, 0x0900: 0xFF00, 0x1020: 3 - before}
        while not talk.gone.wait(0.05):
            talk.say(talk.context(STUDY_ROOT_GET), pending)

    with peers.Scripted(Holdings(get)) as peer:
        error = failed(lambda: fetch(peers.node(peer.port, first_byte_s=1.5, no_progress_s=1.5)))

    assert isinstance(error, TimedOut)
    assert "sends no more images" in str(error)


def test_an_image_whose_class_differs_from_its_context_is_rejected() -> None:
    answers: list[bytes] = []

    def get(talk: peers.Talk, held: list[Instance]) -> None:
        command = {0x0002: "1.2.840.10008.5.1.4.1.1.4", 0x0100: 1, 0x0110: 1, 0x1000: "1.2.3"}
        talk.say(talk.context(CT_IMAGE), command, b"")
        answers.append(talk.hear()[0x0900])
        push(talk, held)
        end(talk, 0)

    with peers.Scripted(Holdings(get)) as peer:
        fetched = fetch(peers.node(peer.port))

    assert len(fetched) == 3
    assert answers == [b"\x22\x01"]


def test_a_broken_image_is_returned_with_its_defect() -> None:
    def get(talk: peers.Talk, held: list[Instance]) -> None:
        broken = Instance(CT_IMAGE, held[0].instance_uid, "", b"\x10\x00\x10\x00PN\xff\xffMuster")
        push(talk, [broken, *held[1:]])
        end(talk, 0)

    with peers.Scripted(Holdings(get)) as peer:
        fetched = fetch(peers.node(peer.port))

    assert [bool(one.defect) for one in fetched] == [True, False, False]
    assert "Muster" not in str(fetched[0].defect)


def test_closing_a_retrieval_early_ends_the_association() -> None:
    def get(talk: peers.Talk, held: list[Instance]) -> None:
        push(talk, held[:1])

    with peers.Scripted(Holdings(get)) as peer:
        with closing(peers.node(peer.port).fetch([SERIES])) as stream:
            next(stream)

        assert peer.talks[1].gone.wait(peers.WITHOUT_WAIT_S)


def test_abort_ends_a_fetch_from_a_peer_that_does_not_read() -> None:
    stalled, over = threading.Event(), threading.Event()

    def get(talk: peers.Talk, held: list[Instance]) -> None:
        push(talk, held[:1])
        stalled.set()
        over.wait(20)

    with peers.Scripted(Holdings(get)) as peer:
        node = peers.node(peer.port, no_progress_s=60.0)
        stream = node.fetch([SERIES])
        next(stream)
        assert stalled.wait(30)
        # After this delay the fetch waits for bytes; the abort must end that wait.
        aborting = threading.Timer(0.4, node.abort)
        aborting.start()

        error = failed(lambda: next(stream))

        over.set()
        aborting.join()
    assert isinstance(error, Stopped)


def test_abort_from_another_thread_ends_a_fetch_and_all_later_calls() -> None:
    stalled = threading.Event()

    def get(talk: peers.Talk, held: list[Instance]) -> None:
        push(talk, held[:1])
        stalled.set()

    with peers.Scripted(Holdings(get)) as peer:
        node = peers.node(peer.port, no_progress_s=60.0)
        aborting = threading.Thread(target=lambda: stalled.wait(30) and node.abort())
        aborting.start()

        error = failed(lambda: fetch(node))
        aborting.join()

        assert isinstance(error, Stopped)
        assert isinstance(failed(lambda: fetch(node)), Stopped)
        assert isinstance(failed(lambda: find(node)), Stopped)
        assert isinstance(failed(lambda: list(node.store(images(1)))), Stopped)
        assert peer.talks[1].gone.wait(peers.WITHOUT_WAIT_S)
    assert len(peer.talks) == 2


@pytest.mark.parametrize(
    ("how", "kind"), [("cut", ConnectionLost), ("reset", ConnectionLost), ("stall", TimedOut)]
)
def test_a_broken_connection_to_orthanc_during_a_retrieval_raises(
    archive: peers.Orthanc, how: str, kind: type[AditError]
) -> None:
    list(archive.node().store(images(20)))
    with Wire(archive.port, after_bytes=12_000, how=how) as wire:
        limits = {"no_progress_s": 2.0, "first_byte_s": 2.0} if how == "stall" else {}
        node = peers.node(wire.port, "ONE", **limits)
        got: list[Instance] = []

        error = failed(lambda: got.extend(node.fetch([STUDY])))

    assert isinstance(error, kind)
    assert 0 < len(got) < 20


# Storing ---------------------------------------------------------------------------------------


def taking(statuses: Iterator[int | None]) -> Callable[[peers.Talk], None]:
    """Answer each C-STORE with the next status; None closes the connection instead."""

    def script(talk: peers.Talk) -> None:
        talk.accept()
        while True:
            kind, body = talk.pdu()
            if kind == 5:
                talk.raw(talk.wrap(6, bytes(4)))
                talk.gone.set()
                return
            if kind != 4:
                return
            if not body[5] & 1 and body[5] & 2:
                status = next(statuses)
                if status is None:
                    talk.close()
                    return
                number = talk.stored = talk.stored + 1
                answer = {0x0100: STORE_ANSWER, 0x0120: number, 0x0900: status}
                talk.say(body[4], answer)

    return script


@pytest.mark.parametrize(
    ("status", "kept", "words"),
    [
        (0x0000, True, ""),
        (0xB000, True, "changed or removed elements"),
        (0xB007, True, "changed or removed elements"),
        (0x0111, True, "already contained the image"),
        (0xA900, False, "does not match its SOP class"),
        (0x0122, False, "SOP class is not supported"),
        (0x1234, False, "no known reason"),
    ],
)
def test_a_c_store_status_decides_whether_an_image_is_stored(
    status: int, kept: bool, words: str
) -> None:
    with peers.Scripted(taking(iter([status]))) as peer:
        (stored,) = peers.node(peer.port).store(images(1))

    assert stored.is_stored is kept
    assert stored.status == status
    assert words in str((stored.warning if kept else stored.error) or "")


@pytest.mark.parametrize("first", [0x0110, 0xC001, 0xA700, 0x0213, None])
def test_a_transient_c_store_failure_is_retried_on_a_new_association(first: int | None) -> None:
    with peers.Scripted(taking(iter([0, first, 0, 0]))) as peer:
        stored = list(peers.node(peer.port).store(images(3)))

    assert [one.is_stored for one in stored] == [True, True, True]
    assert len(peer.talks) == 2


@pytest.mark.parametrize(
    ("status", "words"), [(0xC001, "C001"), (0xA700, "out of resources. Try again later")]
)
def test_a_repeated_c_store_failure_does_not_affect_the_other_images(
    status: int, words: str
) -> None:
    with peers.Scripted(taking(iter([status, status, 0, 0]))) as peer:
        stored = list(peers.node(peer.port).store(images(3)))

    assert [one.is_stored for one in stored] == [False, True, True]
    assert stored[0].status == status
    assert words in str(stored[0].error)


def test_a_destination_that_closes_the_connection_twice_raises() -> None:
    with peers.Scripted(taking(iter([0, None, None]))) as peer:
        answered: list[object] = []
        error = failed(lambda: answered.extend(peers.node(peer.port).store(images(3))))

    assert isinstance(error, ConnectionLost)
    assert len(answered) == 1


def test_a_destination_that_does_not_respond_times_out() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.until_gone()

    with peers.Scripted(script) as peer:
        node = peers.node(peer.port, no_progress_s=0.3)
        error = failed(lambda: list(node.store(images(1))))

    assert isinstance(error, TimedOut)
    assert "respond to a stored image" in str(error)


def test_a_destination_that_reads_no_bytes_times_out() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.gone.wait(5)

    big = instance(ct(Rows=4096, Columns=4096, PixelData=bytes(4096 * 4096 * 2)))
    with peers.Scripted(script) as peer:
        node = peers.node(peer.port, no_progress_s=0.4)
        error = failed(lambda: list(node.store([big])))
        peer.talks[0].gone.set()

    assert isinstance(error, TimedOut)
    assert "accept our data" in str(error)


def test_a_rejected_sop_class_fails_only_the_images_of_that_class() -> None:
    def script(talk: peers.Talk) -> None:
        mr = "1.2.840.10008.5.1.4.1.1.4"
        talk.accept(refuse=lambda kind, syntax: kind == mr)
        taking(iter([0]))(_Accepted(talk))

    mixed = [instance(ct(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")), instance(ct(2))]
    with peers.Scripted(script) as peer:
        stored = list(peers.node(peer.port).store(mixed))

    assert [one.is_stored for one in stored] == [False, True]
    assert "does not accept MR Image Storage" in str(stored[0].error)


def test_closing_a_store_early_ends_the_association() -> None:
    with peers.Scripted(taking(itertools.repeat(0))) as peer:
        answers = peers.node(peer.port).store(images(3))
        next(answers)

        answers.close()

        peers.wait_until(lambda: not peer.busy, "the peer has seen the end")


def test_an_error_of_the_source_is_raised_and_ends_the_association() -> None:
    def broken() -> Iterator[Instance]:
        yield from images(1)
        raise Stopped("PACS1: a person stopped it")

    with peers.Scripted(taking(itertools.repeat(0))) as peer:
        error = failed(lambda: list(peers.node(peer.port).store(broken())))

        peers.wait_until(lambda: not peer.busy, "the peer has seen the end")

    assert isinstance(error, Stopped)


class _Accepted:
    """A talk whose association is already accepted."""

    def __init__(self, talk: peers.Talk) -> None:
        self._talk = talk
        self.stored = 0

    def accept(self) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return getattr(self._talk, name)


def test_an_unresponsive_address_leaves_time_for_the_next_address() -> None:
    """For example, a firewall drops the packets to the IPv6 address of the host."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        there = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        class OfTwo(TcpConnection):
            def _addresses(self) -> list[SocketAddress]:
                return [(socket.AF_INET, one.getsockname()) for one in (deaf, there)]

        line = OfTwo(Peer("PACS1", "pacs1", 104, "PACS1", "ADIT", 131072, Timeouts(connect_s=6)))
        stack.callback(line.close)

        line.connect()

        stack.enter_context(there.accept()[0])
