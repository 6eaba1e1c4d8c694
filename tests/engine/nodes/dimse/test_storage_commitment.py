"""Storage Commitment: which images count as stored, depending on the report of the PACS."""

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
from lab.ports import free_port
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
COMMITTED: dict[str, Any] = {"proof": "commitment", "commitment_s": 30.0}
UNREPORTED = {**COMMITTED, "commitment_s": WITHIN_S}
"""For reports that do not come."""


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
    """An empty archive; it reports on a new association if it knows our receiver."""
    (folder / "kept").mkdir()
    known = {"ADIT": ("127.0.0.1", received.port)} if received else {}
    with Lying(Site("PACS", holdings(folder / "kept"), known), lies, scratch=folder) as archive:
        yield archive


@contextmanager
def told(
    folder: Path, *lies: Lie, elsewhere: bool = False, **settings: Any
) -> Iterator[tuple[DimseNode, Lying]]:
    """A node of such an archive; `elsewhere`: reports are sent to our receiver."""
    with ExitStack() as stack:
        received = stack.enter_context(receiving.receiving(folder)) if elsewhere else None
        archive = stack.enter_context(lying(folder, *lies, received=received))
        reception = received.reception if received else None
        yield peers.node(archive.port, reception=reception, **{**COMMITTED, **settings}), archive


def lie(kind: Kind, at: int = 0) -> Lie:
    return Lie(kind, at, 99, Part.COMMIT)


# Decoding of reports --------------------------------------------------------------------------------


@pytest.mark.parametrize("explicit", [True, False])
def test_an_encoded_report_is_decoded_unchanged(explicit: bool) -> None:
    asked = [("1.2.840.10008.5.1.4.1.1.2", f"1.2.{number}") for number in range(500)]

    report = CommitmentReport.decode(encode_request("2.25.7", asked, explicit), explicit)

    assert report.transaction_uid == "2.25.7"
    assert report.committed == set(asked)
    assert all(report.confirms(image) for image in asked)


def test_an_image_reported_both_as_stored_and_as_failed_is_not_confirmed() -> None:
    report = CommitmentReport("2.25.7", frozenset({("1.2", "1.3")}), {"1.3": 0x0131})

    assert not report.confirms(("1.2", "1.3"))
    reason = Message("clause.commitment.duplicate-transaction")
    told = Message("not-kept.reported", reason=reason, status="0131")
    assert report.failure_reason(("1.2", "1.3")) == told


def test_an_image_reported_with_another_sop_class_is_not_confirmed() -> None:
    assert not CommitmentReport("2.25.7", frozenset({("1.9", "1.3")}), {}).confirms(("1.2", "1.3"))


def test_an_invalid_uid_in_a_report_is_ignored() -> None:
    report = CommitmentReport.decode(
        encode_request("2.25.7", [("1.2", "1.3\0.4")], explicit=True), explicit=True
    )

    assert report.committed == frozenset()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_truncated_report_raises_malformed(cut: int) -> None:
    whole = encode_request("2.25.7", [("1.2", "1.3")], explicit=True)

    with pytest.raises(Malformed):
        CommitmentReport.decode(whole[:-cut], explicit=True)


# A PACS that reports correctly ---------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_images_that_the_pacs_reports_as_stored_are_confirmed(
    tmp_path: Path, elsewhere: bool
) -> None:
    with told(tmp_path, elsewhere=elsewhere) as (node, archive):
        stored = list(node.store(images()))

        proofs = list(node.confirm(stored))

        peers.wait_until(lambda: archive.log.reports == [0], "the report is answered")
    assert kept(proofs) == sorted(uids())
    assert remarks(proofs) == reasons(proofs) == ""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_an_image_that_the_pacs_lost_is_not_confirmed(tmp_path: Path, elsewhere: bool) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    with told(tmp_path, lost, elsewhere=elsewhere) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert "no such image (0112)" in reasons(proofs)


def test_a_report_may_arrive_before_the_n_action_response(tmp_path: Path) -> None:
    with told(tmp_path, lie(Kind.EARLY)) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted(uids())
    assert remarks(proofs) == ""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_a_duplicate_report_is_answered_and_counts_once(tmp_path: Path, elsewhere: bool) -> None:
    with told(tmp_path, lie(Kind.TWICE), elsewhere=elsewhere) as (node, archive):
        proofs = list(node.confirm(list(node.store(images()))))
        if elsewhere:
            peers.wait_until(lambda: len(archive.log.reports) == 2, "both reports are answered")

    assert kept(proofs) == sorted(uids())
    # No request is pending any more if the second report arrives late.
    assert archive.log.reports[0] == 0
    assert set(archive.log.reports[1:]) <= {0, 0x0115}


def test_many_images_are_split_into_several_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adit_engine.nodes.dimse.storage_proof.MAX_REFERENCES", 2)
    with told(tmp_path) as (node, archive):
        proofs = list(node.confirm(list(node.store(images(5)))))
        peers.wait_until(lambda: len(archive.log.reports) == 3, "three reports are answered")

    assert kept(proofs) == sorted(uids(5))
    assert archive.log.reports == [0, 0, 0]


# A PACS that does not report correctly -------------------------------------------------------------


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
def test_a_query_confirms_images_if_no_report_arrives_and_adds_a_remark(
    tmp_path: Path, fault: Kind, answer: list[int | None], elsewhere: bool
) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    limits = {"commitment_s": 4.0 if answer else WITHIN_S, "no_progress_s": 3.0}
    with told(tmp_path, lost, lie(fault), elsewhere=elsewhere, **limits) as (
        node,
        archive,
    ):
        stored = list(node.store(images()))
        began = time.monotonic()

        proofs = list(node.confirm(stored))

        assert time.monotonic() - began < peers.WITHOUT_WAIT_S
        assert archive.log.lies[fault]
        assert archive.log.reports[:1] == answer
    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert "by a query instead of Storage Commitment" in remarks(proofs)


def test_a_pacs_that_sends_no_report_is_waited_for_only_once(tmp_path: Path) -> None:
    with told(tmp_path, lie(Kind.NOTHING), commitment_s=2.0) as (node, archive):
        first, second = (list(node.store(images())) for _ in range(2))
        list(node.confirm(first))

        again = list(node.confirm(second))

        assert archive.log.lies[Kind.NOTHING] == 1
    assert kept(again) == sorted(uids())
    assert "sent no Storage Commitment report within 2 s" in remarks(again)


def test_nothing_is_confirmed_if_neither_reports_nor_queries_are_available(
    tmp_path: Path,
) -> None:
    blind = Lie(Kind.NO_CLASS, 0, 99, Part.FIND)
    with told(tmp_path, lie(Kind.NOTHING), blind, commitment_s=WITHIN_S) as (node, _):
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
def test_only_images_that_the_report_lists_as_stored_are_confirmed(
    tmp_path: Path, fault: Kind, words: str
) -> None:
    with told(tmp_path, lie(fault, at=1), elsewhere=True) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert words in reasons(proofs)
    assert remarks(proofs) == ""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-association", "another"])
def test_a_reported_image_that_a_query_does_not_find_is_not_confirmed(
    tmp_path: Path, elsewhere: bool
) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    with told(tmp_path, lost, lie(Kind.VOUCH), elsewhere=elsewhere) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])
    assert "reports that it is stored, but a query does not find it" in reasons(proofs)


@pytest.mark.parametrize("fault", [Kind.NO_CLASS, Kind.REJECT])
def test_a_report_alone_confirms_images_if_queries_are_unavailable(
    tmp_path: Path, fault: Kind
) -> None:
    with told(tmp_path, Lie(fault, 0, 99, Part.FIND)) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted(uids())
    assert remarks(proofs) == ""


def test_a_query_refused_for_lack_of_resources_raises_node_busy(tmp_path: Path) -> None:
    with told(tmp_path, Lie(Kind.EXHAUSTED, 0, 99, Part.FIND)) as (node, _):
        stored = list(node.store(images()))

        with pytest.raises(NodeBusy):
            list(node.confirm(stored))


def test_unrequested_images_in_a_report_confirm_no_other_image(tmp_path: Path) -> None:
    lost = Lie(Kind.FORGET, 1, 1, Part.STORE)
    with told(tmp_path, lost, lie(Kind.BOAST)) as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted([uids()[0], uids()[2]])


def test_a_report_from_another_ae_title_is_rejected(tmp_path: Path) -> None:
    """The sender is known for other images, but no report was requested from it."""
    with receiving.receiving(tmp_path, "STRANGER") as received:
        stranger = lie(Kind.OTHER_TITLE)
        with lying(tmp_path, stranger, received=received) as archive:
            node = peers.node(archive.port, reception=received.reception, **UNREPORTED)
            proofs = list(node.confirm(list(node.store(images()))))

    assert archive.log.reports == [0x0124]
    assert kept(proofs) == sorted(uids())
    assert "sent no Storage Commitment report" in remarks(proofs)


def test_abort_ends_the_wait_for_a_report(tmp_path: Path) -> None:
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
        thread.join(30)
        assert not thread.is_alive()
    assert len(ended) == 1


def test_a_disabled_check_confirms_all_images_and_adds_a_remark(tmp_path: Path) -> None:
    with told(tmp_path, Lie(Kind.FORGET, 1, 1, Part.STORE), proof="none") as (node, _):
        proofs = list(node.confirm(list(node.store(images()))))

    assert kept(proofs) == sorted(uids())
    assert "the check is disabled" in remarks(proofs)


# Orthanc -------------------------------------------------------------------------------------------


@contextmanager
def committing_orthanc(
    folder: Path, received: receiving.Received, *, reaches_us: bool = True
) -> Iterator[peers.Orthanc]:
    port = received.port if reaches_us else free_port()
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
def test_a_transfer_to_orthanc_is_confirmed_by_its_report(tmp_path: Path) -> None:
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
def test_a_transfer_to_orthanc_is_confirmed_by_a_query_if_it_cannot_reach_us(
    tmp_path: Path,
) -> None:
    with (
        receiving.receiving(tmp_path) as received,
        committing_orthanc(tmp_path, received, reaches_us=False) as orthanc,
    ):
        node = orthanc.node(reception=received.reception, **UNREPORTED)

        _, outcome = carried(tmp_path, node)

    assert outcome.completeness is Completeness.COMPLETE
    (remark,) = outcome.remarks
    assert "by a query instead of Storage Commitment" in str(remark)
    assert "within 1 s" in str(remark)
    assert outcome.notes == ()


# Diagnostics ---------------------------------------------------------------------------------------


def proposed(findings: list[NodeFinding]) -> dict[str, Any]:
    return {one.setting: one.value for finding in findings for one in finding.proposals}


@peers.needs_orthanc
def test_a_test_image_proposes_storage_commitment_if_a_report_arrives(tmp_path: Path) -> None:
    with (
        receiving.receiving(tmp_path) as received,
        committing_orthanc(tmp_path, received) as orthanc,
    ):
        findings = list(orthanc.node(reception=received.reception).try_writing())

    assert proposed(findings) == {"proof": "commitment"}
    assert "It reported that the test image is stored" in str(findings[-1].what)


@pytest.mark.parametrize("fault", [Kind.NOTHING, Kind.NO_CLASS, Kind.ADMIT])
def test_a_test_image_proposes_queries_if_storage_commitment_fails(
    tmp_path: Path, fault: Kind
) -> None:
    with told(tmp_path, lie(fault)) as (node, _):
        findings = list(node.try_writing())

    assert findings[-1].grade is Grade.WARNING
    assert proposed(findings) == {"proof": "find"}


def test_a_test_image_proposes_nothing_if_no_report_arrives(tmp_path: Path) -> None:
    with told(tmp_path, lie(Kind.NOTHING), proof="find") as (node, _):
        findings = list(node.try_writing())

    assert proposed(findings) == {}
    assert {finding.grade for finding in findings} == {Grade.GOOD}
    assert "no report was received" in str(findings[-1].what)


# Command line --------------------------------------------------------------------------------------


@peers.needs_orthanc
def test_the_command_line_receives_the_report_in_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source(tmp_path)
    port = free_port()
    us = {"AET": "ADIT", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    with peers.orthanc(tmp_path / "o", "KEEPER", DicomModalities={"adit": us}) as orthanc:
        place = f"dimse://KEEPER@127.0.0.1:{orthanc.port}?proof=commitment"
        arguments = ["send", "--from", str(tmp_path / "source"), "--to", place, "--json"]

        code = main.main([*arguments, "--receiver", str(port)])

    told = json.loads(capsys.readouterr().out)
    assert (code, told["outcome"], told["delivered"]) == (0, "complete", 3)
    assert told["reasons"] == []


# Responses of our receiver to reports --------------------------------------------------------------


def reported(
    received: receiving.Received,
    data: bytes,
    event: int = 1,
    class_uid: str = STORAGE_COMMITMENT_PUSH_MODEL,
    **settings: str,
) -> int | None:
    """Send a report as raw bytes and return the status of our response."""
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
        answer = association.receive(30, "answer").command
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
def test_only_a_valid_report_for_a_pending_request_is_accepted(
    data: bytes, event: int, class_uid: str, status: int, tmp_path: Path
) -> None:
    asked = PendingReport("PACS1", "2.25.7", (AllowedSender("PACS", receiving.HERE),))
    with (
        receiving.receiving(tmp_path) as received,
        received.reception.await_report(asked, 5) as come,
    ):
        assert reported(received, data, event, class_uid) == status
        assert (come() is not None) == (status == 0)


def test_a_receiver_that_requires_tls_accepts_a_report_only_by_tls(tmp_path: Path) -> None:
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


def test_an_oversized_report_is_rejected(tmp_path: Path) -> None:
    asked = PendingReport("PACS1", "2.25.7", (AllowedSender("PACS", receiving.HERE),))
    endless = encode_request("2.25.7", [("1.2", f"1.3.{n}") for n in range(60_000)], explicit=True)
    with (
        receiving.receiving(tmp_path) as received,
        received.reception.await_report(asked, 5) as come,
    ):
        with pytest.raises(ConnectionLost):
            reported(received, endless)
        assert come() is None
