"""Storage Commitment: a PACS says itself what it keeps, and nothing else counts as kept."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import peers, receiving, tls_peers
from lab.archive import Lying
from lab.lies import Kind, Lie, Part, Site, holdings
from lab.samples import ROOT, ct, instance

from adit_engine.bounded_stream import Stop
from adit_engine.cli import main
from adit_engine.dicom_ul.association import OpenAssociations
from adit_engine.dicom_ul.command_set import CommandField, CommandSet, FieldValue, Operation
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.errors import ConnectionLost, Malformed, NodeBusy, NodeError, Stopped
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    ConfirmationRemark,
    Grade,
    NodeFinding,
    NotConfirmed,
    StorageConfirmation,
)
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.storage_scp.pending_moves import AllowedSender, PendingReport
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.commitment_report import (
    STORAGE_COMMITMENT_PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    encode_request,
)
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.outcome import Completeness, InstanceEvent, InstanceState, SeriesOutcome
from adit_engine.values.references import StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

WITHIN_S = 1.0
COMMITTED: dict[str, Any] = {"proof": "commitment", "commitment_s": WITHIN_S}


def images(count: int = 3) -> list[Instance]:
    return [instance(ct(number)) for number in range(1, count + 1)]


def uids(count: int = 3) -> list[str]:
    return [one.instance_uid for one in images(count)]


def kept(proofs: list[StorageConfirmation]) -> list[str]:
    return sorted(one for one in proofs if isinstance(one, str))


def reasons(proofs: list[StorageConfirmation]) -> str:
    return " ".join(str(one.reason) for one in proofs if isinstance(one, NotConfirmed))


def remarks(proofs: list[StorageConfirmation]) -> str:
    return " ".join(str(one.text) for one in proofs if isinstance(one, ConfirmationRemark))


@contextmanager
def lying(folder: Path, *lies: Lie, received: receiving.Received | None = None) -> Iterator[Lying]:
    """An empty archive; it reports by an association of its own where it knows our receiver."""
    (folder / "kept").mkdir()
    known = {"ADIT": ("127.0.0.1", received.port)} if received else {}
    with Lying(Site("PACS", holdings(folder / "kept"), known), lies, scratch=folder) as archive:
        yield archive


@contextmanager
def told(
    folder: Path, *lies: Lie, elsewhere: bool = False, **settings: Any
) -> Iterator[tuple[DimseNode, Lying]]:
    """A node of such an archive; `elsewhere`: its reports come to our receiver."""
    with ExitStack() as stack:
        received = stack.enter_context(receiving.receiving(folder)) if elsewhere else None
        archive = stack.enter_context(lying(folder, *lies, received=received))
        reception = received.reception if received else None
        yield peers.node(archive.port, reception=reception, **{**COMMITTED, **settings}), archive


def lie(kind: Kind, at: int = 0) -> Lie:
    return Lie(kind, at, 99, Part.COMMIT)


# What is asked and what is read ---------------------------------------------------------------------


@pytest.mark.parametrize("explicit", [True, False])
def test_a_report_is_read_as_it_was_written(explicit: bool) -> None:
    asked = [("1.2.840.10008.5.1.4.1.1.2", f"1.2.{number}") for number in range(500)]

    report = CommitmentReport.decode(encode_request("2.25.7", asked, explicit), explicit)

    assert report.transaction_uid == "2.25.7"
    assert report.committed == set(asked)
    assert all(report.confirms(image) for image in asked)


def test_what_is_reported_both_kept_and_failed_is_not_kept() -> None:
    report = CommitmentReport("2.25.7", frozenset({("1.2", "1.3")}), {"1.3": 0x0131})

    assert not report.confirms(("1.2", "1.3"))
    reason = Message("clause.commitment.duplicate-transaction")
    told = Message("not-kept.reported", reason=reason, status="0131")
    assert report.failure_reason(("1.2", "1.3")) == told


def test_an_image_reported_under_another_class_is_not_kept() -> None:
    assert not CommitmentReport("2.25.7", frozenset({("1.9", "1.3")}), {}).confirms(("1.2", "1.3"))


def test_what_can_be_no_uid_is_no_image_of_ours() -> None:
    report = CommitmentReport.decode(
        encode_request("2.25.7", [("1.2", "1.3\0.4")], explicit=True), explicit=True
    )

    assert report.committed == frozenset()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_report_that_is_cut_off_is_no_report(cut: int) -> None:
    whole = encode_request("2.25.7", [("1.2", "1.3")], explicit=True)

    with pytest.raises(Malformed):
        CommitmentReport.decode(whole[:-cut], explicit=True)


# A PACS that keeps its word ------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_what_the_pacs_reports_as_kept_is_kept(tmp_path: Path, elsewhere: bool) -> None:
    with told(tmp_path, elsewhere=elsewhere) as (node, archive):
        stored = list(node.store(images()))

        proofs = list(node.confirm(stored))

        peers.wait_until(lambda: archive.log.reports == [0], "the report is answered")
    assert kept(proofs) == sorted(uids())
    assert remarks(proofs) == reasons(proofs) == ""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_an_image_that_the_pacs_lost_is_not_kept(tmp_path: Path, elsewhere: bool) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    with told(tmp_path, lost, elsewhere=elsewhere) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert "no such image (0112)" in reasons(proofs)


def test_a_report_may_come_before_the_answer(tmp_path: Path) -> None:
    with told(tmp_path, lie(Kind.EARLY)) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted(uids())
    assert remarks(proofs) == ""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_a_report_that_comes_twice_is_answered_and_counts_once(
    tmp_path: Path, elsewhere: bool
) -> None:
    with told(tmp_path, lie(Kind.TWICE), elsewhere=elsewhere) as (node, archive):
        proofs = list(node.confirm(list(node.store(images()))))
        if elsewhere:
            peers.wait_until(lambda: len(archive.log.reports) == 2, "both reports are answered")

    assert kept(proofs) == sorted(uids())
    # Nobody waits any more when the second one comes late.
    assert archive.log.reports[0] == 0
    assert set(archive.log.reports[1:]) <= {0, 0x0115}


def test_many_images_are_asked_for_in_lots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adit_engine.nodes.dimse.storage_proof.MAX_REFERENCES", 2)
    with told(tmp_path) as (node, archive):
        proofs = list(node.confirm(list(node.store(images(5)))))
        peers.wait_until(lambda: len(archive.log.reports) == 3, "three reports are answered")

    assert kept(proofs) == sorted(uids(5))
    assert archive.log.reports == [0, 0, 0]


# A PACS that does not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "answer", "elsewhere"),
    [
        (Kind.OTHER_TITLE, [None], True),
        *((Kind.TWIN, [0x0115], elsewhere) for elsewhere in (False, True)),
        *(
            (fault, [], elsewhere)
            for fault in (Kind.NOTHING, Kind.EXHAUSTED, Kind.NO_CLASS, Kind.ABORT, Kind.STALL)
            for elsewhere in (False, True)
        ),
    ],
    ids=lambda one: one.name if isinstance(one, Kind) else str(one),
)
def test_without_a_report_a_search_answers_and_that_is_said(
    tmp_path: Path, fault: Kind, answer: list[int | None], elsewhere: bool
) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    with told(tmp_path, lost, lie(fault), elsewhere=elsewhere, no_progress_s=1.0) as (
        node,
        archive,
    ):
        stored = list(node.store(images()))
        began = time.monotonic()

        proofs = list(node.confirm(stored))

        assert time.monotonic() - began < WITHIN_S + 5
        assert archive.log.lies[fault]
        assert archive.log.reports[:1] == answer
    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert "by a query instead of Storage Commitment" in remarks(proofs)


def test_a_pacs_that_stays_silent_is_waited_for_once(tmp_path: Path) -> None:
    with told(tmp_path, lie(Kind.NOTHING), commitment_s=2.0) as (node, archive):
        first, second = (list(node.store(images())) for _ in range(2))
        list(node.confirm(first))
        began = time.monotonic()

        again = list(node.confirm(second))

        assert time.monotonic() - began < 1.5
        assert archive.log.lies[Kind.NOTHING] == 1
    assert kept(again) == sorted(uids())
    assert "sent no Storage Commitment report within 2 s" in remarks(again)


def test_nothing_counts_as_kept_where_neither_a_report_comes_nor_a_search_is_offered(
    tmp_path: Path,
) -> None:
    blind = Lie(Kind.NO_CLASS, 0, 99, Part.FIND)
    with told(tmp_path, lie(Kind.NOTHING), blind) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == []
    assert reasons(proofs).count("does not allow queries") == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Kind.ADMIT, "no such image (0112)"),
        (Kind.OMIT, "does not list it as stored"),
        (Kind.FOREIGN, "does not list it as stored"),
    ],
    ids=lambda one: one.name if isinstance(one, Kind) else "",
)
def test_only_what_the_report_names_as_kept_is_kept(
    tmp_path: Path, fault: Kind, words: str
) -> None:
    with told(tmp_path, lie(fault, at=1), elsewhere=True) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert words in reasons(proofs)
    assert remarks(proofs) == ""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_a_report_that_a_search_contradicts_is_not_believed(
    tmp_path: Path, elsewhere: bool
) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    with told(tmp_path, lost, lie(Kind.VOUCH), elsewhere=elsewhere) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert "reports that it is stored, but a query does not find it" in reasons(proofs)


@pytest.mark.parametrize("fault", [Kind.NO_CLASS, Kind.REJECT])
def test_a_report_alone_counts_where_no_search_is_to_be_had(tmp_path: Path, fault: Kind) -> None:
    with told(tmp_path, Lie(fault, 0, 99, Part.FIND)) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted(uids())
    assert remarks(proofs) == ""


def test_a_search_that_is_out_of_resources_for_now_is_asked_again_later(tmp_path: Path) -> None:
    with told(tmp_path, Lie(Kind.EXHAUSTED, 0, 99, Part.FIND)) as (node, _):
        stored = list(node.store(images()))

        with pytest.raises(NodeBusy):
            list(node.confirm(stored))


def test_a_report_on_images_that_were_not_asked_about_proves_nothing_more(tmp_path: Path) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    with told(tmp_path, lost, lie(Kind.BOAST)) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])


def test_a_report_from_somebody_else_is_refused(tmp_path: Path) -> None:
    """Whom we know as the sender of other images, but did not ask."""
    with receiving.receiving(tmp_path, "STRANGER") as received:
        stranger = lie(Kind.OTHER_TITLE)
        with lying(tmp_path, stranger, received=received) as archive:
            node = peers.node(archive.port, reception=received.reception, **COMMITTED)
            proofs = list(node.confirm(list(node.store(images()))))

    assert archive.log.reports == [0x0124]
    assert kept(proofs) == sorted(uids())
    assert "sent no Storage Commitment report" in remarks(proofs)


def test_a_wait_for_a_report_ends_when_it_is_stopped(tmp_path: Path) -> None:
    with told(tmp_path, lie(Kind.NOTHING), elsewhere=True, commitment_s=60.0) as (node, archive):
        stored = list(node.store(images()))
        ended: list[BaseException] = []

        def wait() -> None:
            try:
                list(node.confirm(stored))
            except Stopped as stopped:
                ended.append(stopped)

        thread = threading.Thread(target=wait)
        thread.start()
        peers.wait_until(lambda: archive.log.lies[Kind.NOTHING] == 1, "it has been asked")
        node.abort()
        thread.join(5)
        assert not thread.is_alive()
    assert len(ended) == 1


def test_proof_can_be_turned_off_and_the_outcome_says_so(tmp_path: Path) -> None:
    with told(tmp_path, Lie(Kind.FORGET, 1, 1, Part.STORE), proof="none") as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted(uids())
    assert "the check is disabled" in remarks(proofs)


# Orthanc -------------------------------------------------------------------------------------------


@contextmanager
def committing_orthanc(
    folder: Path, received: receiving.Received, *, reaches_us: bool = True
) -> Iterator[peers.Orthanc]:
    port = received.port if reaches_us else peers.free_port()
    us = {"AET": "ADIT", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    modalities = {"adit": us}
    with peers.orthanc(folder / "orthanc", "KEEPER", DicomModalities=modalities) as orthanc:
        yield orthanc


def source(folder: Path, count: int = 3) -> FolderNode:
    (folder / "source").mkdir()
    node = FolderNode("SOURCE", FolderSettings(path=str(folder / "source"), reserve_mb=0))
    list(node.store(images(count)))
    return node


def carried(folder: Path, node: DimseNode) -> tuple[list[InstanceEvent], SeriesOutcome]:
    order = StudyRequest(StudyRef(f"{ROOT}.1"), "")
    told = list(transfer(order, source(folder), node, AsIs(), {}, Stop()))
    (outcome,) = [one for one in told if isinstance(one, SeriesOutcome)]
    return [one for one in told if isinstance(one, InstanceEvent)], outcome


@peers.needs_orthanc
def test_a_transfer_to_orthanc_is_complete_by_its_own_report(tmp_path: Path) -> None:
    with (
        receiving.receiving(tmp_path) as received,
        committing_orthanc(tmp_path, received) as orthanc,
    ):
        node = orthanc.node(reception=received.reception, proof="commitment")

        _, outcome = carried(tmp_path, node)

    assert outcome.completeness is Completeness.COMPLETE
    assert (outcome.delivered, outcome.notes, outcome.remarks) == (3, (), ())


@peers.needs_orthanc
def test_an_image_deleted_in_orthanc_before_its_report_is_not_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        receiving.receiving(tmp_path) as received,
        committing_orthanc(tmp_path, received) as orthanc,
    ):
        node = orthanc.node(reception=received.reception, proof="commitment")
        confirm = node.confirm
        monkeypatch.setattr(node, "confirm", _after(lambda: orthanc.delete(uids()[1]), confirm))

        events, outcome = carried(tmp_path, node)

    ends = {
        event.ref.instance_uid: event for event in events if event.state is not InstanceState.STORED
    }
    assert outcome.completeness is Completeness.PARTIAL
    assert [ends[uid].state.value for uid in uids()] == ["delivered", "failed", "delivered"]
    reason = ends[uids()[1]].reason
    assert reason is not None
    assert reason.code == "not-kept.reported"
    assert "no such image (0112)" in str(reason)


def _after(first: Callable[[], None], confirm: Callable[..., Any]) -> Callable[..., Any]:
    def confirmed(stored: Any) -> Any:
        first()
        return confirm(stored)

    return confirmed


@peers.needs_orthanc
def test_a_transfer_to_an_orthanc_that_cannot_reach_us_is_proven_by_a_search(
    tmp_path: Path,
) -> None:
    with (
        receiving.receiving(tmp_path) as received,
        committing_orthanc(tmp_path, received, reaches_us=False) as orthanc,
    ):
        node = orthanc.node(reception=received.reception, **COMMITTED)

        _, outcome = carried(tmp_path, node)

    assert outcome.completeness is Completeness.COMPLETE
    (remark,) = outcome.remarks
    assert "by a query instead of Storage Commitment" in str(remark)
    assert "within 1 s" in str(remark)
    assert outcome.notes == ()


# What a check learns -------------------------------------------------------------------------------


def proposed(findings: list[NodeFinding]) -> dict[str, Any]:
    return {one.setting: one.value for finding in findings for one in finding.proposals}


@peers.needs_orthanc
def test_a_test_image_shows_that_reports_come_and_proposes_them(tmp_path: Path) -> None:
    with (
        receiving.receiving(tmp_path) as received,
        committing_orthanc(tmp_path, received) as orthanc,
    ):
        findings = list(orthanc.node(reception=received.reception).try_writing())

    assert proposed(findings) == {"proof": "commitment"}
    assert "It reported that the test image is stored" in str(findings[-1].what)


@pytest.mark.parametrize("fault", [Kind.NOTHING, Kind.NO_CLASS, Kind.ADMIT])
def test_a_check_proposes_a_search_where_reports_were_chosen_and_do_not_come(
    tmp_path: Path, fault: Kind
) -> None:
    with told(tmp_path, lie(fault)) as (node, _):
        findings = list(node.try_writing())

    assert findings[-1].grade is Grade.WARNING
    assert proposed(findings) == {"proof": "find"}


def test_a_check_proposes_no_reports_where_none_came(tmp_path: Path) -> None:
    with told(tmp_path, lie(Kind.NOTHING), proof="find") as (node, _):
        findings = list(node.try_writing())

    assert proposed(findings) == {}
    assert {finding.grade for finding in findings} == {Grade.GOOD}
    assert "no report was received" in str(findings[-1].what)


# By hand -------------------------------------------------------------------------------------------


@peers.needs_orthanc
def test_the_command_line_takes_the_report_in_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source(tmp_path)
    port = peers.free_port()
    us = {"AET": "ADIT", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    with peers.orthanc(tmp_path / "o", "KEEPER", DicomModalities={"adit": us}) as orthanc:
        place = f"dimse://KEEPER@127.0.0.1:{orthanc.port}?proof=commitment"
        arguments = ["send", "--from", str(tmp_path / "source"), "--to", place, "--json"]

        code = main.main([*arguments, "--receiver", str(port)])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["outcome"], told["delivered"]) == (0, "complete", 3)
    assert told["reasons"] == []


# What our receiver answers to reports that are none ------------------------------------------------


def reported(
    received: receiving.Received,
    data: bytes,
    event: int = 1,
    class_uid: str = STORAGE_COMMITMENT_PUSH_MODEL,
    **settings: str,
) -> int | None:
    """The status of our answer to a report by PACS, said byte by byte."""
    peer = received.sender(**settings).settings.peer("ADIT")
    values: dict[CommandField, FieldValue] = {
        CommandField.CLASS_UID: STORAGE_COMMITMENT_PUSH_MODEL,
        CommandField.OPERATION: Operation.EVENT_REPORT,
        CommandField.MESSAGE_ID: 3,
        CommandField.DATA_SET: 1,
        CommandField.INSTANCE_UID: WELL_KNOWN_INSTANCE,
        CommandField.EVENT_TYPE: event,
    }
    with OpenAssociations(peer).open(
        [PresentationContext(class_uid, (EXPLICIT_LE,))]
    ) as association:
        association.send(1, CommandSet(values), [data])
        answer = association.receive(10, "answer").command
        assert answer.is_response_to(Operation.EVENT_REPORT, 3)
        assert answer.number(CommandField.EVENT_TYPE) == event
        assert answer.text(CommandField.INSTANCE_UID) == WELL_KNOWN_INSTANCE
        return answer.status


WHOLE = encode_request("2.25.7", [("1.2", "1.3")], explicit=True)


@pytest.mark.parametrize(
    ("data", "event", "class_uid", "status"),
    [
        (WHOLE, 1, STORAGE_COMMITMENT_PUSH_MODEL, 0x0000),
        (WHOLE, 3, STORAGE_COMMITMENT_PUSH_MODEL, 0x0113),
        (WHOLE, 1, "1.2.840.10008.5.1.4.1.1.2", 0x0122),
        (WHOLE[:-4], 1, STORAGE_COMMITMENT_PUSH_MODEL, 0x0115),
        (
            encode_request("2.25.8", [("1.2", "1.3")], explicit=True),
            1,
            STORAGE_COMMITMENT_PUSH_MODEL,
            0x0115,
        ),
        (
            encode_request("", [("1.2", "1.3")], explicit=True),
            1,
            STORAGE_COMMITMENT_PUSH_MODEL,
            0x0115,
        ),
        (
            encode_request("2.25\0.7", [("1.2", "1.3")], explicit=True),
            1,
            STORAGE_COMMITMENT_PUSH_MODEL,
            0x0115,
        ),
    ],
    ids=["whole", "other-event", "other-class", "cut-off", "unknown", "nameless", "no-uid"],
)
def test_only_a_whole_report_on_what_we_asked_is_taken(
    data: bytes, event: int, class_uid: str, status: int, tmp_path: Path
) -> None:
    asked = PendingReport("PACS1", "2.25.7", (AllowedSender("PACS", receiving.HERE),))
    with (
        receiving.receiving(tmp_path) as received,
        received.reception.await_report(asked, 5) as come,
    ):
        assert reported(received, data, event, class_uid) == status
        assert (come() is not None) == (status == 0)


def test_a_report_comes_by_tls_where_our_receiver_wants_that(tmp_path: Path) -> None:
    asked = PendingReport("PACS1", "2.25.7", (AllowedSender("PACS", receiving.HERE),))
    shown = tls_peers.receiver_tls(trusted=tls_peers.CA.certificate)
    with (
        receiving.receiving(tmp_path, tls=shown) as received,
        received.reception.await_report(asked, 5) as come,
    ):
        with pytest.raises(NodeError):
            reported(received, WHOLE)
        assert come() is None

        assert reported(received, WHOLE, **tls_peers.mutual()) == 0
        assert come() is not None


def test_a_report_without_end_is_cut_off(tmp_path: Path) -> None:
    asked = PendingReport("PACS1", "2.25.7", (AllowedSender("PACS", receiving.HERE),))
    endless = encode_request("2.25.7", [("1.2", f"1.3.{n}") for n in range(60_000)], explicit=True)
    with (
        receiving.receiving(tmp_path) as received,
        received.reception.await_report(asked, 5) as come,
    ):
        with pytest.raises(ConnectionLost):
            reported(received, endless)
        assert come() is None
