"""Storage SCP: stores reliably, assigns images to the right C-MOVE, withstands attacks."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace as but
from pathlib import Path

import pytest
from lab import receiving
from lab.receiving import never, sending, wanted
from lab.samples import ROOT, ct, instance

from adit_engine.bounded_stream import memory_bytes
from adit_engine.dicom_ul import acceptor
from adit_engine.dicom_ul.acceptor import ProposedContext
from adit_engine.errors import AssociationRejected, ConnectionLost
from adit_engine.nodes.base import Grade
from adit_engine.storage_scp.pending_moves import AllowedSender, parse_senders
from adit_engine.storage_scp.quarantine import Quarantine
from adit_engine.storage_scp.spool import Spool
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_LE, Instance

STUDY, SERIES = f"{ROOT}.1", f"{ROOT}.1.1"
KEPT, REFUSED, NO_ROOM, CONFUSED = 0x0000, 0x0124, 0xA700, 0xC000
ANSWER_S, LONG_S = 40.0, 600.0
"""Time limit of the sockets of callers, and one of the receiver that they never reach."""


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    before = threading.active_count()
    with receiving.receiving(tmp_path, "PACS") as one:
        yield one
    wait_until(lambda: threading.active_count() <= before)


def wait_until(happened: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def images(count: int, study: str = "1", series: str = "1", **changes: object) -> list[Instance]:
    numbers = range(1, count + 1)
    return [instance(ct(n, study=study, series=series, **changes)) for n in numbers]


def echo_grade(received: receiving.Received, title: str = "PACS") -> Grade:
    return next(iter(received.sender(title).check())).grade


# Receiving and assigning -----------------------------------------------------------------------


def test_received_images_equal_the_sent_ones(received: receiving.Received) -> None:
    sent = images(10)
    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, sent[0]) as archive,
    ):
        answers = [archive.store(one, ("ADIT", awaited.message_id)) for one in sent]
        taken = list(awaited.take_images())

    assert answers == [KEPT] * 10
    assert [one.sha256() for one in taken] == [one.sha256() for one in sent]


def test_the_move_originator_selects_between_two_moves_of_one_study(
    received: receiving.Received,
) -> None:
    first, second = images(2)
    with (
        received.reception.expect(wanted(STUDY), never) as one,
        sending(received.port, first) as archive,
    ):
        assert archive.store(first, ("ADIT", one.message_id)) == KEPT
        # The node has just sent a move originator, so two moves may run concurrently.
        with received.reception.expect(wanted(STUDY), never) as other:
            assert archive.store(second, ("ADIT", other.message_id)) == KEPT
            assert archive.store(second) == REFUSED
            assert [i.instance_uid for i in other.take_images()] == [second.instance_uid]
        assert [i.instance_uid for i in one.take_images()] == [first.instance_uid]


def test_a_pacs_that_names_itself_as_originator_is_matched_by_message_id(
    received: receiving.Received,
) -> None:
    first, second = images(2)
    (foreign,) = images(1, study="2")
    nameless = but(first, header=b"\x08\x00\x05", rest=())
    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, first, title="PACS") as archive,
    ):
        number = awaited.message_id
        assert archive.store(first, ("PACS", number)) == KEPT
        assert archive.store(second, ("PACS", (number + 7) % 65536)) == REFUSED
        assert archive.store(foreign, ("PACS", number)) == REFUSED
        assert archive.store(nameless, ("PACS", number)) == REFUSED
        assert [one.instance_uid for one in awaited.take_images()] == [first.instance_uid]


def test_without_originator_two_moves_of_one_study_run_in_sequence(
    received: receiving.Received,
) -> None:
    entered = threading.Event()

    def second() -> None:
        with received.reception.expect(wanted(STUDY), never):
            entered.set()

    thread = threading.Thread(target=second)
    with received.reception.expect(wanted(STUDY), never):
        thread.start()
        assert not entered.wait(0.5)
    assert entered.wait(30)
    thread.join()


def test_moves_of_different_series_run_concurrently(received: receiving.Received) -> None:
    ours, theirs = images(1), images(1, series="2")
    with (
        received.reception.expect(wanted(STUDY, series_uids=frozenset({SERIES})), never) as one,
        received.reception.expect(
            wanted(STUDY, series_uids=frozenset({f"{STUDY}.2"})), never
        ) as other,
        sending(received.port, *ours) as archive,
    ):
        assert [archive.store(i) for i in (*theirs, *ours)] == [KEPT, KEPT]
        assert [i.instance_uid for i in one.take_images()] == [ours[0].instance_uid]
        assert [i.instance_uid for i in other.take_images()] == [theirs[0].instance_uid]


def test_an_unlisted_image_of_an_expected_series_is_accepted(received: receiving.Received) -> None:
    known, new = images(2)
    listed = frozenset({known.instance_uid})
    want = wanted(STUDY, series_uids=frozenset({SERIES}), instance_uids=listed)
    with (
        received.reception.expect(want, never) as awaited,
        sending(received.port, known) as archive,
    ):
        assert archive.store(new) == KEPT
        assert archive.store(images(1, series="2")[0]) == REFUSED
        assert [one.instance_uid for one in awaited.take_images()] == [new.instance_uid]


@pytest.mark.parametrize(
    ("originator", "study"),
    [(("ADIT", 0), "1"), (("OTHER", None), "1"), (("ADIT", None), "2"), (None, "2")],
)
def test_an_image_that_no_move_expects_is_refused(
    received: receiving.Received, originator: tuple[str, int | None] | None, study: str
) -> None:
    (image,) = images(1, study=study)
    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, image) as archive,
    ):
        number = awaited.message_id
        named = originator and (
            originator[0],
            number if originator[1] is None else (number + 7) % 65536,
        )
        assert archive.store(image, named) == REFUSED
        assert list(awaited.take_images()) == []
        assert not list((received.spool.folder / "_incoming").iterdir())


def test_an_image_from_another_sender_is_refused(received: receiving.Received) -> None:
    (image,) = images(1)
    want = wanted(STUDY, title="PACS2")
    with (
        received.reception.expect(want, never) as awaited,
        sending(received.port, image) as archive,
    ):
        assert archive.store(image, ("ADIT", awaited.message_id)) == REFUSED


def test_a_late_image_of_an_ended_move_is_refused(received: receiving.Received) -> None:
    first, second = images(2)
    with received.reception.expect(wanted(STUDY), never) as cancelled:
        late = ("ADIT", cancelled.message_id)

    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, first) as archive,
    ):
        assert archive.store(first, late) == REFUSED
        assert archive.store(second, ("ADIT", awaited.message_id)) == KEPT
        assert [one.instance_uid for one in awaited.take_images()] == [second.instance_uid]


def test_quarantine_stores_unexpected_images_up_to_its_limit(tmp_path: Path) -> None:
    first, second = images(2)
    bound = first.size_bytes + second.size_bytes - 1
    with (
        receiving.receiving(tmp_path, "PACS", quarantine_bytes=bound) as received,
        sending(received.port, first) as archive,
    ):
        assert [archive.store(first), archive.store(second)] == [KEPT, REFUSED]
        (held,) = Quarantine(received.spool, bound).contents()
    assert (held.calling, held.address) == ("PACS", "127.0.0.1")
    assert held.class_uid == first.sop_class_uid
    assert not list((received.spool.folder / "_quarantine").glob(f"*{first.instance_uid}*"))


def test_a_duplicate_is_accepted_unless_its_content_differs(
    received: receiving.Received,
) -> None:
    image = instance(ct(1))
    twin = instance(ct(1, KVP="80"))
    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, image) as archive,
    ):
        mine = ("ADIT", awaited.message_id)
        assert archive.store(image, mine) == KEPT
        assert len(list(awaited.take_images())) == 1
        assert archive.store(image, mine) == KEPT
        assert list(awaited.take_images()) == []
        assert archive.store(twin, mine) == CONFUSED
        # The retrieval gets the differing image too, so that its ledger can record it.
        assert [one.sha256() for one in awaited.take_images()] == [twin.sha256()]


def test_a_restarted_receiver_remembers_received_images(tmp_path: Path) -> None:
    (image,) = images(1)
    with (
        receiving.receiving(tmp_path, "PACS") as received,
        received.reception.expect(wanted(STUDY), never) as awaited,
        receiving.again(received) as second,
    ):
        with sending(received.port, image) as archive:
            assert archive.store(image) == KEPT
        assert len(list(awaited.take_images())) == 1
        with sending(second.port, image) as archive:
            assert archive.store(image) == KEPT
            assert archive.store(instance(ct(1, KVP="80"))) == CONFUSED
        assert len(list(awaited.take_images())) == 1


def test_a_full_spool_refuses_images_until_space_is_available(tmp_path: Path) -> None:
    (image,) = images(1)
    with (
        receiving.receiving(tmp_path, "PACS", reserve_bytes=2**60) as received,
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, image) as archive,
    ):
        assert archive.store(image) == NO_ROOM
        received.spool.reserve_bytes = 0
        assert archive.store(image) == KEPT
        assert len(list(awaited.take_images())) == 1


def test_a_slow_consumer_delays_the_response_to_the_pacs(tmp_path: Path) -> None:
    (image,) = images(1)
    given = {"throttle_from_bytes": 100, "max_delay_s": 0.6}
    with (
        receiving.receiving(tmp_path, "PACS", **given) as received,
        received.reception.expect(wanted(STUDY), never),
        sending(received.port, image) as archive,
    ):
        started = time.monotonic()
        assert archive.store(image) == KEPT
        assert time.monotonic() - started > 0.5


def test_the_response_is_not_delayed_any_longer_when_the_image_is_taken(tmp_path: Path) -> None:
    (image,) = images(1)
    given = {"throttle_from_bytes": 100, "max_delay_s": 60.0}
    with (
        receiving.receiving(tmp_path, "PACS", **given) as received,
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, image) as archive,
    ):
        taker = threading.Timer(0.1, lambda: wait_until(lambda: bool(list(awaited.take_images()))))
        taker.start()
        started = time.monotonic()
        assert archive.store(image) == KEPT
        assert time.monotonic() - started < 30
        taker.join()


def test_a_data_set_without_identity_is_assigned_by_originator_only(
    received: receiving.Received,
) -> None:
    whole = images(1)[0]
    broken = but(whole, header=b"\x08\x00\x05", rest=())
    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, whole) as archive,
    ):
        assert archive.store(broken) == REFUSED
        assert archive.store(broken, ("ADIT", awaited.message_id)) == KEPT
        (taken,) = awaited.take_images()
    assert taken.defect


def test_a_large_image_is_received_through_files_only(received: receiving.Received) -> None:
    whole = instance(ct(1, Rows=1, Columns=1, PixelData=bytes(40 * 2**20)))
    before = resident_mib()
    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, whole) as archive,
    ):
        assert archive.store(whole) == KEPT
        assert resident_mib() - before < 20
        (taken,) = awaited.take_images()
        assert memory_bytes(taken) == 0
        assert taken.sha256() == whole.sha256()


def test_an_invalid_instance_uid_is_refused(received: receiving.Received) -> None:
    (image,) = images(1)
    with (
        received.reception.expect(wanted(STUDY), never) as awaited,
        sending(received.port, image) as archive,
    ):
        assert archive.store(image, uid="../../x") == 0x0122
        assert list(awaited.take_images()) == []


def test_killing_the_receiver_loses_no_acknowledged_image(tmp_path: Path) -> None:
    sent = images(5)
    program = (
        "import sys, threading, pathlib\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from lab import receiving\n"
        "with receiving.receiving(pathlib.Path(sys.argv[1]), 'PACS') as one:\n"
        f"    with one.reception.expect(receiving.wanted({STUDY!r}), receiving.never):\n"
        "        print(one.port, one.spool.tokens()[0], flush=True)\n"
        "        threading.Event().wait()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        port, token = child.stdout.readline().split()
        with suppress(ConnectionLost), sending(int(port), sent[0]) as archive:
            answers = [archive.store(one) for one in sent]
            os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()

    assert answers == [KEPT] * 5
    taken = list(Spool(tmp_path / "spool").take(token))
    assert [one.sha256() for one in taken] == [one.sha256() for one in sent]


# Callers ---------------------------------------------------------------------------------------


def test_a_c_echo_from_a_known_sender_succeeds(received: receiving.Received) -> None:
    assert echo_grade(received) is Grade.GOOD


@pytest.mark.parametrize(
    ("calling", "called", "reason"), [("STRANGER", "ADIT", (1, 1, 3)), ("PACS", "ADAT", (1, 1, 7))]
)
def test_an_unknown_ae_title_is_rejected_with_the_reason(
    received: receiving.Received, calling: str, called: str, reason: tuple[int, int, int]
) -> None:
    with socket.create_connection(("127.0.0.1", received.port), ANSWER_S) as one:
        one.sendall(receiving.request(calling, called))
        assert receiving.answer(one) == (3, bytes((0, *reason)))


def test_a_known_ae_title_from_another_address_is_rejected(tmp_path: Path) -> None:
    with receiving.receiving(tmp_path) as received:
        elsewhere = but(wanted(STUDY), allowed_senders=parse_senders("PACS@10.1.2.0/24"))
        with received.reception.expect(elsewhere, never):
            assert echo_grade(received) is Grade.BAD
        with received.reception.expect(wanted(STUDY), never):
            assert echo_grade(received) is Grade.GOOD


def test_the_rejection_of_an_unknown_caller_asks_to_register_it(
    received: receiving.Received,
) -> None:
    with (
        pytest.raises(AssociationRejected, match="register it"),
        sending(received.port, *images(1), title="STRANGER"),
    ):
        pass


def test_allowed_senders_are_parsed_from_text() -> None:
    assert parse_senders(" PACS1@10.0.0.7/24, PACS2;PACS1@::1 ") == (
        AllowedSender("PACS1", ("10.0.0.0/24", "::1/128")),
        AllowedSender("PACS2"),
    )
    assert AllowedSender("PACS1", ("10.0.0.0/24",)).is_at("PACS1", "::ffff:10.0.0.9")
    assert not AllowedSender("PACS1", ("10.0.0.0/24",)).is_at("PACS1", "::1")


# Negotiation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("class_uid", "syntaxes", "chosen"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.4.90",), "1.2.840.10008.1.2.4.90"),
        ("1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.4.90", EXPLICIT_LE), EXPLICIT_LE),
        ("1.2.840.10008.5.1.4.1.1.999.7", (EXPLICIT_LE,), EXPLICIT_LE),
        ("1.3.12.2.1107.5.9.1", (EXPLICIT_LE,), EXPLICIT_LE),
        ("1.2.840.10008.5.1.4.1.1.2", (DEFLATED_LE,), ""),
        ("1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.1.2.4.95",), ""),
        ("1.2.840.10008.5.1.4.1.2.2.2", (EXPLICIT_LE,), None),
        ("1.2.840.10008.3.1.2.3.3", (EXPLICIT_LE,), None),
    ],
)
def test_only_storage_classes_with_known_syntaxes_are_accepted(
    class_uid: str, syntaxes: tuple[str, ...], chosen: str | None
) -> None:
    assert acceptor.choose_syntax(ProposedContext(1, class_uid, syntaxes)) == chosen


# Attacks ---------------------------------------------------------------------------------------


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("kind", [1, 4, 7, 99])
def test_a_pdu_of_4_gib_is_not_read(received: receiving.Received, kind: int) -> None:
    before = resident_mib()
    with socket.create_connection(("127.0.0.1", received.port), ANSWER_S) as one:
        one.sendall(struct.pack(">BxI", kind, 0xFFFFFFFF) + bytes(1000))
        assert receiving.answer(one)[0] in (0, 7)
    assert resident_mib() - before < 50
    assert echo_grade(received) is Grade.GOOD


def test_a_connection_with_half_a_pdu_times_out(tmp_path: Path) -> None:
    with (
        receiving.receiving(tmp_path, association_s=1.0) as received,
        socket.create_connection(("127.0.0.1", received.port), ANSWER_S) as one,
    ):
        one.sendall(receiving.request()[:40])
        started = time.monotonic()
        assert receiving.answer(one)[0] in (0, 7)
        assert time.monotonic() - started > 0.5


def test_an_association_with_half_a_message_times_out(tmp_path: Path) -> None:
    with (
        receiving.receiving(tmp_path, "PACS", no_progress_s=1.0) as received,
        socket.create_connection(("127.0.0.1", received.port), ANSWER_S) as one,
    ):
        one.sendall(receiving.request())
        assert receiving.answer(one)[0] == 2
        one.sendall(struct.pack(">BxIIBB", 4, 5000, 4996, 1, 1) + bytes(100))
        assert receiving.answer(one)[0] in (0, 7)


def test_a_request_that_trickles_in_times_out(tmp_path: Path) -> None:
    with (
        receiving.receiving(tmp_path, association_s=1.0) as received,
        socket.create_connection(("127.0.0.1", received.port), ANSWER_S) as one,
    ):
        for byte in receiving.request():
            try:
                one.sendall(bytes([byte]))
            except ConnectionError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the whole request was waited for")


def test_60_silent_connections_do_not_block_a_c_echo(tmp_path: Path) -> None:
    with receiving.receiving(tmp_path, "PACS", association_s=LONG_S) as received:
        silent = [
            socket.create_connection(("127.0.0.1", received.port), ANSWER_S) for _ in range(60)
        ]
        try:
            assert echo_grade(received) is Grade.GOOD
        finally:
            for one in silent:
                one.close()


def test_the_oldest_of_too_many_silent_connections_are_closed(tmp_path: Path) -> None:
    with receiving.receiving(tmp_path, "PACS", association_s=LONG_S) as received:
        silent = [
            socket.create_connection(("127.0.0.1", received.port), ANSWER_S) for _ in range(40)
        ]
        try:
            assert [receiving.answer(one)[0] for one in silent[:8]] == [0] * 8
            silent[-1].sendall(receiving.request())
            assert receiving.answer(silent[-1])[0] == 2
        finally:
            for one in silent:
                one.close()


def test_associations_above_the_limit_are_rejected_temporarily(tmp_path: Path) -> None:
    with receiving.receiving(tmp_path, "PACS") as received:
        held = []
        try:
            for _ in range(33):
                one = socket.create_connection(("127.0.0.1", received.port), ANSWER_S)
                held.append(one)
                one.sendall(receiving.request())
                last = receiving.answer(one)
            assert last == (3, bytes((0, 2, 3, 2)))
        finally:
            for one in held:
                one.close()


def test_malformed_bytes_end_only_their_own_association(received: receiving.Received) -> None:
    request = receiving.request()
    wrong = [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BxI", 1, 10) + bytes(10),
        request[:6] + bytes([0, 2]) + request[8:],
        request + struct.pack(">BxIIBB", 4, 6, 0xFFFFFFF0, 1, 3),
        request + struct.pack(">BxIIBB", 4, 8, 4, 77, 3) + b"ab",
        request + struct.pack(">BxI", 2, 0),
    ]
    for data in wrong:
        with socket.create_connection(("127.0.0.1", received.port), ANSWER_S) as one:
            one.sendall(data)
            kinds = []
            while not kinds or kinds[-1] not in (0, 3, 7):
                kinds.append(receiving.answer(one)[0])
    assert echo_grade(received) is Grade.GOOD


def test_the_receiver_stops_immediately_with_open_connections(tmp_path: Path) -> None:
    with receiving.receiving(tmp_path, "PACS", association_s=LONG_S) as received:
        one = socket.create_connection(("127.0.0.1", received.port), ANSWER_S)
        other = socket.create_connection(("127.0.0.1", received.port), ANSWER_S)
        one.sendall(receiving.request())
        assert receiving.answer(one)[0] == 2
        started = time.monotonic()
    assert time.monotonic() - started < 30
    one.close()
    other.close()
