"""Diagnostics of nodes: capabilities, proposed settings, test retrieval and test image."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from lab import peers, receiving, web_peers
from lab.archive import Lying
from lab.lies import Kind, Lie, Site, holdings
from lab.peers import register
from lab.ports import free_port
from lab.samples import ROOT, ct, instance

from adit_engine.dicom_file.part10 import file_parts
from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.identifier import decode_record, encode_identifier
from adit_engine.dicom_ul.pdu import (
    AssociateRequest,
    NegotiatedAssociation,
    PresentationContext,
    encode_item,
)
from adit_engine.errors import AssociationRejected
from adit_engine.nodes.base import FindResults, Grade, NodeFinding, SupportsTestTransfer
from adit_engine.nodes.diagnostics import query_probe
from adit_engine.nodes.diagnostics.disk_probe import filesystem_type
from adit_engine.nodes.diagnostics.image_probe import (
    FetchAttempt,
    FetchLimit,
    MoveDiagnosis,
    attempt_fetch,
)
from adit_engine.nodes.diagnostics.query_probe import QueryProbe
from adit_engine.nodes.diagnostics.sample_series import run_query
from adit_engine.nodes.dimse.association_probe import CT_IMAGE, MR_IMAGE, VERIFICATION
from adit_engine.nodes.dimse.c_find import PATIENT_ROOT, STUDY_ROOT
from adit_engine.nodes.dimse.c_get import PATIENT_ROOT_GET, STUDY_ROOT_GET
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, QueryLevel

pytestmark = pytest.mark.usefixtures("same_threads")

TODAY = datetime.now(UTC).date()
IDENTIFYING = ("Mustermann", "4711", "1956", "ACC2024", "Thorax", "THORAX", ROOT)
ECHO = 0x0030


def study(number: int, day: date = TODAY, images: int = 2) -> list[Instance]:
    """A study with one series and its own patient."""
    uid = f"{ROOT}.9{number}"
    changes = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
    return [
        instance(
            ct(
                one,
                **changes,
                SOPInstanceUID=f"{uid}.1.{one}",
                PatientID=f"4711-{number}",
                StudyDate=f"{day:%Y%m%d}",
            )
        )
        for one in range(1, images + 1)
    ]


def studies(count: int) -> list[Instance]:
    """Studies of today and the four days before."""
    return [one for n in range(count) for one in study(n, TODAY - timedelta(n % 5))]


def said(findings: Sequence[NodeFinding], grade: Grade | None = None) -> str:
    return "\n".join(f"{f.what} {f.next_step or ''}" for f in findings if grade in (None, f.grade))


def proposed(findings: Sequence[NodeFinding]) -> dict[str, Any]:
    return {p.setting: p.value for finding in findings for p in finding.proposals}


def names_nobody(findings: Sequence[NodeFinding]) -> bool:
    text = said(findings) + repr([f.proposals for f in findings])
    return not any(word in text for word in IDENTIFYING)


# Real archives ------------------------------------------------------------------------------------


def test_a_check_reports_the_capabilities_of_orthanc(archive: peers.Orthanc) -> None:
    list(archive.node().store(studies(60)))

    findings = list(archive.node().check())

    assert said(findings, Grade.WARNING) == said(findings, Grade.BAD) == ""
    for words in (
        "Software: OFFIS_DCMTK",
        "by study, patient root",
        "by C-GET, C-MOVE",
        "Storage Commitment",
        "does not truncate lists of 60 studies",
        "the number of images, the modalities, the SOP classes",
        "single images",
        "a list of image UIDs",
        "only if upper and lower case are entered as stored",
        "declares the character set of its results",
    ):
        assert words in said(findings)
    assert proposed(findings) == {}
    assert names_nobody(findings)


def test_a_check_stores_nothing_in_the_archive(archive: peers.Orthanc) -> None:
    list(archive.node().store(study(1)))

    list(archive.node().check())

    assert archive.count() == 2


@peers.needs_dcmtk
def test_a_check_reports_attributes_that_the_archive_does_not_return(tmp_path: Path) -> None:
    with peers.dcmqrscp(tmp_path / "qr") as port:
        node = peers.node(port, "QR")
        list(node.store(study(1)))
        findings = list(node.check())

    assert "does not return: the number of images" in said(findings, Grade.WARNING)
    assert "not offer Storage Commitment. ADIT verifies storage by a query" in said(
        findings, Grade.GOOD
    )
    assert names_nobody(findings)


def test_an_empty_archive_causes_a_warning_about_access_rights(archive: peers.Orthanc) -> None:
    findings = list(archive.node().check())

    assert "grant our account access" in said(findings, Grade.WARNING)


# Proposed settings --------------------------------------------------------------------------------


class Willing:
    """An empty archive that rejects some SOP classes."""

    def __init__(self, *refused: str) -> None:
        self._refused = refused

    def __call__(self, talk: peers.Talk) -> None:
        talk.accept(refuse=lambda kind, _: kind in self._refused)
        with suppress(EOFError):
            while True:
                try:
                    heard = talk.hear()
                except IndexError:  # a release
                    talk.raw(talk.wrap(6, bytes(4)))
                    return
                operation, number = (int.from_bytes(heard[n], "little") for n in (0x0100, 0x0110))
                context = 1 if operation == ECHO else self._find_context(talk)
                answer = {0x0100: operation | 0x8000, 0x0120: number, 0x0900: statuses.SUCCESS}
                talk.say(context, answer)

    def _find_context(self, talk: peers.Talk) -> int:
        return next(n for n, (uid, _) in talk.contexts.items() if uid in (STUDY_ROOT, PATIENT_ROOT))


def checked(*refused: str, **settings: Any) -> list[NodeFinding]:
    with peers.Scripted(Willing(*refused)) as peer:
        return list(peers.node(peer.port, **settings).check())


def test_patient_root_is_proposed_if_study_root_is_not_offered() -> None:
    findings = checked(STUDY_ROOT)

    assert proposed(findings) == {"query_root": "patient"}
    assert proposed(checked(STUDY_ROOT, query_root="patient")) == {}


def test_c_move_is_proposed_if_c_get_is_set_but_not_offered() -> None:
    assert proposed(checked(STUDY_ROOT_GET, PATIENT_ROOT_GET, retrieve="get")) == {
        "retrieve": "move"
    }
    assert proposed(checked(STUDY_ROOT_GET, PATIENT_ROOT_GET)) == {}


def test_a_larger_pdu_size_is_proposed_for_a_small_one() -> None:
    assert proposed(checked(max_pdu=16384)) == {"max_pdu": 131072}


@pytest.mark.parametrize("granted", [True, False])
def test_role_version_name_and_extended_negotiation_are_decoded(granted: bool) -> None:
    proposal = AssociateRequest(
        "PACS", "ADIT", (PresentationContext(MR_IMAGE, (EXPLICIT_LE,), scp_role=True),), 16384
    )
    name, syntax = MR_IMAGE.encode(), EXPLICIT_LE.encode()
    length = len(name).to_bytes(2, "big")
    context = bytes([1, 0, 0, 0]) + encode_item(0x40, syntax)
    user = encode_item(0x51, bytes(4)) + encode_item(0x52, b"1.2.3")
    user += encode_item(0x54, length + name + bytes([0, granted]))
    user += encode_item(0x55, b"M\xfcller 1.0") + encode_item(0x56, length + name + b"\1")

    read = NegotiatedAssociation.decode(
        bytes(68) + encode_item(0x21, context) + encode_item(0x50, user), proposal
    )

    assert (read.context_of(MR_IMAGE) is not None) is granted
    assert read.implementation == "M\N{REPLACEMENT CHARACTER}ller 1.0"
    assert read.extended == {MR_IMAGE: b"\1"}


def test_a_warning_names_our_ae_title_if_our_images_are_not_accepted() -> None:
    warnings = said(checked(CT_IMAGE, calling_ae_title="ADIT7"), Grade.WARNING)

    assert "does not accept images from us" in warnings
    assert "for the AE title ADIT7" in warnings


def test_an_archive_that_rejects_c_echo_fails_the_check() -> None:
    findings = checked(VERIFICATION)

    assert [finding.grade for finding in findings] == [Grade.BAD]


def asking(node: MemoryNode, cap: int | None = None) -> Callable[[Query], FindResults]:
    return lambda query: FindResults(islice(node.find(query), cap))


@pytest.fixture
def shelf() -> Iterator[MemoryNode]:
    node = MemoryNode("PACS1", MemorySettings("check"))
    list(node.store([one for one in studies(60) if one.instance_uid.endswith(".1")]))
    yield node
    MemoryNode.shelves.pop("check")


def test_a_result_cap_is_proposed_for_truncated_lists(shelf: MemoryNode) -> None:
    assert proposed(list(QueryProbe(asking(shelf, 55), None).findings())) == {"result_cap": 55}
    assert proposed(list(QueryProbe(asking(shelf, 55), 100).findings())) == {"result_cap": 55}
    assert proposed(list(QueryProbe(asking(shelf, 55), 55).findings())) == {}
    assert proposed(list(QueryProbe(asking(shelf), None).findings())) == {}


def test_a_study_returned_once_per_image_counts_once(shelf: MemoryNode) -> None:
    def often(query: Query) -> FindResults:
        return FindResults(record for record in shelf.find(query) for _ in range(3))

    told = run_query(often, Query(QueryLevel.STUDY, {}))

    count = len(list(shelf.find(Query(QueryLevel.STUDY, {}))))
    assert count > 1
    assert (len(told.records), told.received_count) == (count, 3 * count)


def test_studies_that_arrive_during_a_check_do_not_cause_a_proposed_cap(shelf: MemoryNode) -> None:
    numbers = iter(range(100, 200))

    def growing(query: Query) -> FindResults:
        list(shelf.store(study(next(numbers))))
        return FindResults(shelf.find(query))

    assert proposed(list(QueryProbe(growing, None).findings())) == {}


def test_a_check_sends_at_most_12_queries_and_reads_1000_results_of_each(shelf: MemoryNode) -> None:
    everything = list(shelf.find(Query(QueryLevel.STUDY, {})))
    asked: list[int] = []

    def answers() -> Iterator[Any]:
        asked.append(0)
        while True:
            asked[-1] += 1
            yield everything[asked[-1] % len(everything)]

    list(QueryProbe(lambda query: FindResults(answers()), None).findings())

    assert len(asked) <= 12
    assert max(asked) <= 1000


@pytest.mark.parametrize(
    ("encoding", "fallback", "expected"),
    [
        ("latin-1", "", {"character_set_fallback": "ISO_IR 100"}),
        ("utf-8", "", {"character_set_fallback": "ISO_IR 192"}),
        ("utf-8", "ISO_IR 192", {}),
        ("ascii", "", {}),
    ],
)
def test_an_undeclared_character_set_is_detected(
    encoding: str, fallback: str, expected: dict[str, str]
) -> None:
    name = "Muster^Anne" if encoding == "ascii" else "Muster^Änne"
    raw = encode_identifier({"PatientName": "#" * len(name.encode(encoding))}, explicit=True)
    answer = raw.replace(b"#" * len(name.encode(encoding)), name.encode(encoding))
    found = decode_record(QueryLevel.STUDY, answer, True, query_probe.ASSUMED_CHARACTER_SET)

    findings = list(query_probe.check_character_set([found], fallback))

    assert proposed(findings) == expected
    assert "Muster" not in said(findings)


# Test retrieval of one image ----------------------------------------------------------------------


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    with receiving.receiving(tmp_path) as one:
        yield one


def tried(node: DimseNode, within_s: float = 10) -> list[NodeFinding]:
    image = study(1)[0].in_header.ref
    return list(node.try_fetching(image, within_s=within_s))


def fetching(archive: peers.Orthanc, to: receiving.Received, **settings: Any) -> DimseNode:
    settings = {"drain_s": 0.5, **settings}
    return peers.node(archive.port, archive.called, to.reception, **settings)


def test_one_image_is_received_by_c_get_and_by_c_move(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, received.port)
    list(archive.node().store(study(1)))

    findings = tried(fetching(archive, received))

    assert [finding.grade for finding in findings] == [Grade.GOOD] * 2
    assert "received by C-GET" in str(findings[0].what)
    assert "received by C-MOVE" in str(findings[1].what)
    assert names_nobody(findings)


def test_without_a_receiver_only_c_get_is_tried(archive: peers.Orthanc) -> None:
    list(archive.node().store(study(1)))

    findings = tried(archive.node(retrieve="move"))

    assert "no receiver is running here" in said(findings, Grade.WARNING)
    assert proposed(findings) == {"retrieve": "get"}


def test_a_port_that_the_archive_cannot_reach_is_reported(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, free_port())
    list(archive.node().store(study(1)))

    findings = tried(fetching(archive, received))

    assert findings[1].grade is Grade.BAD
    assert "No unknown sender called our receiver" in str(findings[1].next_step)
    assert "ADIT is registered at this machine" in str(findings[1].next_step)
    assert "network team" in str(findings[1].next_step)


def test_an_unknown_sender_that_was_rejected_is_proposed(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, received.port)
    list(archive.node().store(study(1)))
    node = fetching(archive, received, senders="FARM@127.0.0.1")

    findings = tried(node)

    assert findings[1].grade is Grade.BAD
    assert "rejected ONE at 127.0.0.1" in said(findings, Grade.WARNING)
    assert proposed(findings) == {"senders": "FARM@127.0.0.1, ONE@127.0.0.1"}
    again = fetching(archive, received, **proposed(findings))
    assert [finding.grade for finding in tried(again)] == [Grade.GOOD] * 2


def test_a_known_caller_whose_images_are_quarantined_is_proposed_as_sender(
    archive: peers.Orthanc, tmp_path: Path
) -> None:
    list(archive.node().store(study(1)))
    bound = 10_000_000
    with receiving.receiving(tmp_path, "ONE", quarantine_bytes=bound) as received:
        register(archive, received.port)

        findings = tried(fetching(archive, received, senders="FARM@127.0.0.1"))

    assert "sent by ONE at 127.0.0.1" in said(findings, Grade.WARNING)
    assert "quarantine" in said(findings, Grade.WARNING)
    assert proposed(findings) == {"senders": "FARM@127.0.0.1, ONE@127.0.0.1"}


def test_a_wrong_called_ae_title_of_the_archive_is_reported(
    received: receiving.Received,
) -> None:
    began = datetime.now(UTC)
    with pytest.raises(AssociationRejected):
        list(received.sender("FARM", called_ae_title="ADIT2").find(Query(QueryLevel.STUDY, {})))
    nothing = FetchAttempt("C-MOVE", 1.0, reason="Nothing came.")

    findings = list(MoveDiagnosis("PACS1", "", (), received.reception).findings(nothing, began))

    assert "FARM at 127.0.0.1 called us ADIT2, but our AE title is ADIT." in said(findings)
    assert proposed(findings) == {}


def test_an_image_with_the_uid_of_another_image_is_not_a_success() -> None:
    asked, other = study(1)[0], study(2)[0]
    mislabelled = replace(other, instance_uid=asked.instance_uid)

    def fetch() -> Iterator[Instance]:
        yield mislabelled

    attempt = attempt_fetch("C-GET", asked.in_header.ref, fetch, FetchLimit(5, lambda: None))

    assert not attempt.is_successful
    assert "Another image was received than announced" in str(attempt.finding().what)


def test_a_test_retrieval_from_a_silent_archive_ends_at_the_time_limit(
    received: receiving.Received,
) -> None:
    with peers.Scripted(peers.Talk.until_gone) as peer:
        node = peers.node(peer.port, reception=received.reception, association_s=60)
        started = time.monotonic()

        findings = tried(node, within_s=0.3)

    assert time.monotonic() - started < 30
    assert [finding.grade for finding in findings] == [Grade.BAD] * 2
    assert "Nothing was received within 0.3 s" in str(findings[0].what)


def test_a_test_retrieval_can_be_aborted(received: receiving.Received) -> None:
    with peers.Scripted(peers.Talk.until_gone) as peer:
        node = peers.node(peer.port, reception=received.reception, association_s=60)
        timer = threading.Timer(0.2, node.abort)
        timer.start()
        with pytest.raises(Exception, match="stopped"):
            tried(node)
        timer.join()


# Archives that misbehave --------------------------------------------------------------------------


@contextmanager
def lying(folder: Path, lie: Lie, port: int = 0) -> Iterator[Lying]:
    """An archive with one study that misbehaves in every answer."""
    for name in ("held", "scratch"):
        (folder / name).mkdir()
    for one in study(1):
        path = folder / "held" / f"{one.instance_uid}.dcm"
        path.write_bytes(b"".join(file_parts(one)))
    site = Site("LIAR", holdings(folder / "held"), {"ADIT": ("127.0.0.1", port)})
    again = replace(lie, at=lie.at + 1)  # a failed operation is retried once
    with Lying(site, [lie, again], scratch=folder / "scratch") as archive:
        yield archive


BRIEF = {"association_s": 0.5, "first_byte_s": 2.0, "no_progress_s": 0.5, "drain_s": 0.3}


@pytest.mark.parametrize("kind", list(Kind), ids=[kind.name for kind in Kind])
def test_a_check_ends_with_findings_for_every_kind_of_misbehavior(
    kind: Kind, tmp_path: Path
) -> None:
    with (
        receiving.receiving(tmp_path / "ours") as received,
        lying(tmp_path, Lie(kind, times=1000), received.port) as archive,
    ):
        started = time.monotonic()
        checked = list(peers.node(archive.port, "LIAR", **BRIEF).check())
        node = peers.node(archive.port, "LIAR", received.reception, **BRIEF)
        tries = tried(node, within_s=3)

    assert time.monotonic() - started < 50
    assert checked
    assert len(tries) >= 2
    assert names_nobody([*checked, *tries])


@pytest.mark.parametrize("kind", [Kind.FORGET, Kind.NO_ROOM, Kind.REJECT])
def test_a_test_image_that_is_not_stored_is_not_a_success(kind: Kind, tmp_path: Path) -> None:
    with lying(tmp_path, Lie(kind, times=1000)) as archive:
        findings = list(peers.node(archive.port, "LIAR", **BRIEF).try_writing())

    assert {finding.grade for finding in findings} != {Grade.GOOD}


# Test image ---------------------------------------------------------------------------------------


def test_a_repeated_test_image_is_stored_only_once(archive: peers.Orthanc) -> None:
    node = archive.node()

    first, again = list(node.try_writing()), list(node.try_writing())

    assert {finding.grade for finding in (*first, *again)} == {Grade.GOOD}
    assert "patient ADIT-TEST" in said(first)
    assert archive.count() == 1


@peers.needs_dcmtk
def test_a_test_image_gives_a_warning_if_the_destination_has_no_queries(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "taken") as port:
        findings = list(peers.node(port).try_writing())

    assert [finding.grade for finding in findings] == [Grade.GOOD, Grade.WARNING]


def test_a_closed_port_is_a_finding() -> None:
    (finding,) = peers.node(free_port()).try_writing()

    assert finding.grade is Grade.BAD


# Folders ------------------------------------------------------------------------------------------


def test_a_folder_is_tested_with_a_file_that_is_removed_afterwards(tmp_path: Path) -> None:
    node = FolderNode("Share", FolderSettings(path=str(tmp_path), reserve_mb=0))
    before = tmp_path.stat().st_mtime_ns

    checked = list(node.check())
    assert tmp_path.stat().st_mtime_ns == before
    written = list(node.try_writing())

    assert {finding.grade for finding in (*checked, *written)} == {Grade.GOOD}
    assert "written, flushed, renamed and removed" in said(written)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_writable_fails_the_write_test() -> None:
    node = FolderNode("Share", FolderSettings(path="/proc/self", reserve_mb=0))

    findings = list(node.try_writing())

    assert [finding.grade for finding in findings] == [Grade.BAD]
    assert "/proc" not in said(findings)


def test_the_network_setting_is_proposed_for_a_mounted_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    share = str(tmp_path).replace(" ", r"\040")
    table.write_text(
        "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"30 25 0:50 / {share} rw,relatime shared:1 - cifs //server/share rw\n"
    )
    monkeypatch.setattr("adit_engine.nodes.diagnostics.disk_probe._MOUNTINFO", table)
    given = FolderSettings(path=str(tmp_path), reserve_mb=0)

    assert filesystem_type(tmp_path / "below") == "cifs"
    assert proposed(list(FolderNode("Share", given).check())) == {"network": True}


def test_a_test_retrieval_from_a_folder_fails_for_a_missing_image(tmp_path: Path) -> None:
    node = FolderNode("Share", FolderSettings(path=str(tmp_path), reserve_mb=0))
    list(node.store(study(1)))

    (there,) = node.try_fetching(study(1)[0].in_header.ref, within_s=10)
    (missing,) = node.try_fetching(study(2)[0].in_header.ref, within_s=10)

    assert (there.grade, missing.grade) == (Grade.GOOD, Grade.BAD)


# DICOMweb -----------------------------------------------------------------------------------------


@web_peers.needs_orthanc
def test_a_check_reports_the_capabilities_of_a_dicomweb_service(tmp_path: Path) -> None:
    with (
        web_peers.orthanc(tmp_path / "web", "WEB") as archive,
        closing(web_peers.node(archive.http_port)) as node,
    ):
        list(node.store(study(1)))
        findings = list(node.check())
        assert archive.count() == 2
        tries = list(node.try_fetching(study(1)[0].in_header.ref, within_s=10))
        tries += node.try_writing()
        assert archive.count() == 3

    for words in ("QIDO-RS", "page by page", "WADO-RS", "STOW-RS", "single images"):
        assert words in said(findings, Grade.GOOD)
    assert {finding.grade for finding in tries} == {Grade.GOOD}
    assert names_nobody([*findings, *tries])


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "for the permission"), (405, "check the root URL"), (404, "check the root URL")],
)
def test_a_check_warns_if_a_service_does_not_accept_stow_rs(status: int, words: str) -> None:
    def say(request: web_peers.Request) -> Any:
        if request.method == "POST":
            return web_peers.answer(status)
        return web_peers.answer(200, web_peers.JSON, b"[]")

    with web_peers.Liar(say) as liar, closing(liar.node()) as node:
        findings = list(node.check())

    assert f"does not accept images from us (STOW-RS; status {status})" in said(findings)
    assert words in said(findings, Grade.WARNING)


def test_a_check_warns_if_a_service_does_not_support_paging() -> None:
    body = f'[{{"0020000D": {{"vr": "UI", "Value": ["{ROOT}.1"]}}}}]'.encode()

    def say(request: web_peers.Request) -> Any:
        return web_peers.answer(200, web_peers.JSON, body)

    with web_peers.Liar(say) as liar, closing(liar.node()) as node:
        findings = list(node.check())

    assert "only the first page" in said(findings, Grade.WARNING)


def test_dimse_dicomweb_and_folder_nodes_support_test_transfers(tmp_path: Path) -> None:
    nodes = (
        peers.node(104),
        web_peers.node(80),
        FolderNode("Share", FolderSettings(path=str(tmp_path))),
    )
    assert all(isinstance(node, SupportsTestTransfer) for node in nodes)


def test_a_test_retrieval_of_a_missing_image_is_not_a_success(archive: peers.Orthanc) -> None:
    image = replace(study(1)[0].in_header.ref, instance_uid=f"{ROOT}.404")
    assert isinstance(image, InstanceRef)
    list(archive.node().store(study(1)))

    findings = list(archive.node().try_fetching(image, within_s=10))

    assert findings[0].grade is Grade.BAD
    assert ROOT not in said(findings)
