"""Conformance tests for every kind of node, run against real peers and folders."""

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import peers, web_peers
from lab.lies import holdings
from lab.samples import ROOT, ct, instance

from adit.demo.pacs import DemoPacs
from adit_engine.errors import AditError, InvalidInput, NotFound, NotSupported, Stopped
from adit_engine.nodes import KINDS, kind_class
from adit_engine.nodes.base import (
    Checkable,
    Retrievable,
    Searchable,
    Storable,
    StoreResult,
    SupportsPacking,
    TrafficObserver,
)
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.nodes.sevenzip import ArchiveNode, ArchiveSettings
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, QueryLevel, SeriesRef, StudyRef

PATIENT = "PID-4711-0815"
STUDY = StudyRef(f"{ROOT}.1")
SERIES = SeriesRef(STUDY.study_uid, f"{ROOT}.1.2")
UNKNOWN = StudyRef(f"{ROOT}.404")


# Places -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """An empty place for images. All nodes opened for it see the same content."""

    open: Callable[..., Any]
    """Open a node; the only argument is the keyword `observer`."""
    keeps: Callable[[], list[str]] | None = None
    """Return the UIDs of the stored instances without using a node."""


@contextmanager
def _memory(folder: Path) -> Iterator[Place]:
    shelf = str(folder)
    yield Place(
        lambda **more: MemoryNode("PACS1", MemorySettings(shelf=shelf), **more),
        lambda: list(MemoryNode.shelves[shelf]),
    )
    MemoryNode.shelves.pop(shelf, None)


@contextmanager
def _folder(folder: Path) -> Iterator[Place]:
    base = folder / "files"
    base.mkdir()
    settings = FolderSettings(path=str(base), reserve_mb=0)
    yield Place(
        lambda **more: FolderNode("PACS1", settings, **more),
        lambda: [path.stem for path in base.rglob("*.dcm")],
    )


@contextmanager
def _orthanc(folder: Path) -> Iterator[Place]:
    with peers.orthanc(folder / "orthanc", "ORTHANC") as archive:
        yield Place(archive.node, lambda: _uids(archive))


@contextmanager
def _dcmqrscp(folder: Path) -> Iterator[Place]:
    with peers.dcmqrscp(folder / "qr") as port:
        yield Place(lambda **more: peers.node(port, "QR", **more))


@contextmanager
def _demo(folder: Path) -> Iterator[Place]:
    with DemoPacs("DEMO", folder / "demo") as pacs:
        yield Place(
            lambda **more: peers.node(pacs.port, "DEMO", **more),
            lambda: [
                one.uid
                for study in holdings(folder / "demo").studies.values()
                for one in study.instances()
            ],
        )


@contextmanager
def _dicomweb(folder: Path) -> Iterator[Place]:
    with web_peers.orthanc(folder / "orthanc", "ORTHANC") as archive:
        yield Place(
            lambda **more: web_peers.node(archive.http_port, **more), lambda: _uids(archive)
        )


@contextmanager
def _archive(folder: Path) -> Iterator[Place]:
    base = folder / "archives"
    base.mkdir()
    settings = ArchiveSettings(path=str(base), staging=str(folder / "gathered"), reserve_mb=0)
    yield Place(
        lambda **more: ArchiveNode("PACS1", settings, **more),
        lambda: [path.stem for path in (folder / "gathered").rglob("*.dcm")],
    )


def _uids(archive: peers.Orthanc) -> list[str]:
    return [one["MainDicomTags"]["SOPInstanceUID"] for one in archive.rest("/instances?expand")]


PLACES: dict[str, tuple[str, Callable[[Path], AbstractContextManager[Place]], Any]] = {
    "memory": ("memory", _memory, ()),
    "folder": ("folder", _folder, ()),
    "archive": ("archive", _archive, ()),
    "dimse to Orthanc": ("dimse", _orthanc, peers.needs_orthanc),
    "dimse to dcmqrscp": ("dimse", _dcmqrscp, peers.needs_dcmtk),
    "dimse to the demo PACS": ("dimse", _demo, ()),
    "dicomweb to Orthanc": ("dicomweb", _dicomweb, web_peers.needs_orthanc),
}
"""Per place: the kind of its nodes, its setup, and its pytest marks."""

TAKERS = {"archive"}
"""Places that store images but cannot return them."""

NONSENSE: dict[str, list[tuple[dict[str, Any], str]]] = {
    "archive": [
        ({"path": "relative/path"}, "Folder"),
        ({"path": "/x", "staging": "relative/path"}, "Folder for staged images"),
        ({"path": "/x", "part_gb": 0}, "Maximum file size"),
    ],
    "memory": [],  # accepts any name
    "folder": [
        ({}, "Folder"),
        ({"path": "relative/path"}, "Folder"),
        ({"path": "/x", "file_mode": "rw-r--r--"}, "Permissions of new files"),
        ({"path": "/x", "folder_mode": "9"}, "Permissions of new folders"),
    ],
    "dimse": [
        ({"host": "h"}, "Called AE title"),
        ({"called_ae_title": "SEVENTEEN-LETTERS", "host": "h"}, "Called AE title"),
        ({"called_ae_title": "A", "host": "h", "calling_ae_title": ""}, "Our AE title"),
        ({"called_ae_title": "A", "host": "two words"}, "Host"),
        ({"called_ae_title": "A", "host": "h", "port": 0}, "Port"),
        ({"called_ae_title": "A", "host": "h", "max_pdu": 1}, "Maximum PDU size"),
        ({"called_ae_title": "A", "host": "h", "result_cap": 0}, "Result limit"),
        ({"called_ae_title": "A", "host": "h", "connect_s": 0}, "Time limits"),
        ({"called_ae_title": "A", "host": "h", "query_root": "image"}, "Query root"),
        ({"called_ae_title": "A", "host": "h", "retrieve": "fax"}, "Retrieve by"),
        ({"called_ae_title": "A", "host": "h", "senders": "A@nowhere/99"}, "Senders"),
    ],
    "dicomweb": [
        ({}, "Root URL"),
        ({"url": "ftp://h/x"}, "Root URL"),
        ({"url": "https://user:secret@h/x"}, "Root URL"),
        ({"url": "https://h", "sign_in": "kerberos"}, "Sign-in"),
        ({"url": "https://h", "sign_in": "basic"}, "User"),
        ({"url": "https://h", "sign_in": "bearer"}, "Token"),
        ({"url": "https://h", "page_size": 0}, "Results per request"),
        ({"url": "https://h", "no_progress_s": -1}, "Time limits"),
    ],
}
"""Per kind: invalid settings, and the label with which the error message must begin."""


def _params(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=PLACES[name][2] or ()) for name in names]


every_place = pytest.mark.parametrize("place", _params(PLACES), indirect=True, scope="module")
"""For tests that neither search nor fetch: includes the places that only store."""


@pytest.fixture(scope="module", params=_params(name for name in PLACES if name not in TAKERS))
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    _, made, _ = PLACES[request.param]
    with made(tmp_path_factory.mktemp("place")) as one:
        with closing(one.open()) as node:
            assert all(stored.is_stored for stored in node.store(sent()))
        yield one


@pytest.fixture
def node(place: Place) -> Iterator[Any]:
    """Open a new node per test, and check that no thread or socket remains."""
    threads, before = set(threading.enumerate()), web_peers.open_sockets()
    with ExitStack() as stack:
        yield stack.enter_context(closing(place.open()))
    peers.wait_until(
        lambda: web_peers.open_sockets() <= before and set(threading.enumerate()) <= threads,
        "threads have ended and sockets are closed",
    )


def sent() -> list[Instance]:
    return [instance(ct(n, series=series)) for series in ("1", "2") for n in range(1, 7)]


def others() -> list[Instance]:
    """Instances of another patient, for tests that stop halfway."""
    return [instance(ct(n, study="2", PatientID="PID-0002")) for n in range(1, 7)]


def below(ref: StudyRef | SeriesRef) -> list[Instance]:
    uid = ref.series_uid if isinstance(ref, SeriesRef) else ref.study_uid
    return [one for one in sent() if one.instance_uid.startswith(f"{uid}.")]


def by_uid(instances: list[Instance]) -> dict[str, tuple[str, str, str]]:
    return {i.instance_uid: (i.sop_class_uid, i.transfer_syntax_uid, i.sha256()) for i in instances}


# Kinds and their settings -----------------------------------------------------------------------


def test_every_kind_of_node_is_covered_by_this_suite() -> None:
    assert {kind for kind, _, _ in PLACES.values()} == set(KINDS) == set(NONSENSE)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_have_unique_labels_and_secrets_are_not_in_the_repr(kind: str) -> None:
    fields = dataclasses.fields(kind_class(kind).Settings)

    assert all(one.metadata["label"] for one in fields)
    assert len({one.metadata["label"] for one in fields}) == len(fields)
    assert all(not one.repr for one in fields if one.metadata["secret"])


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [(kind, values, field) for kind, rows in NONSENSE.items() for values, field in rows],
)
def test_an_invalid_setting_is_rejected_with_the_label_of_its_field(
    kind: str, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}") as caught:
        kind_class(kind).Settings(**values)

    assert str(caught.value).endswith(".")
    assert "secret" not in str(caught.value)


# Operations -------------------------------------------------------------------------------------


def test_a_node_implements_check_search_retrieve_and_store(node: Any) -> None:
    assert all(isinstance(node, p) for p in (Checkable, Searchable, Retrievable, Storable))
    assert node.name == "PACS1"


@pytest.mark.parametrize("place", TAKERS, indirect=True, scope="module")
def test_a_node_that_only_stores_supports_neither_search_nor_retrieval(node: Any) -> None:
    assert all(isinstance(node, p) for p in (Checkable, Storable, SupportsPacking))
    assert not isinstance(node, Searchable | Retrievable)
    assert node.name == "PACS1"


@every_place
def test_a_check_returns_full_sentences_and_no_error(node: Any) -> None:
    findings = list(node.check())

    assert findings
    assert not [finding for finding in findings if finding.grade == "bad"]
    assert all(str(finding.what).endswith(".") for finding in findings)


def test_find_works_at_study_series_and_image_level(node: Any) -> None:
    studies = list(node.find(Query(QueryLevel.STUDY, {"PatientID": PATIENT})))
    series = list(node.find(Query.series_of(STUDY)))
    images = list(node.find(Query.instances_of(SERIES)))

    assert [one.study_uid for one in studies] == [STUDY.study_uid]
    assert sorted(one.series_uid for one in series) == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
    assert {one.instance_uid for one in images} == {one.instance_uid for one in below(SERIES)}


def test_a_patient_query_lists_patients_or_raises_not_supported(node: Any) -> None:
    query = Query(QueryLevel.PATIENT, {"PatientID": PATIENT})
    if node.Settings is kind_class("dicomweb").Settings:
        with pytest.raises(NotSupported, match=r"PACS1 .*Search for studies"):
            list(node.find(query))
    else:
        assert [one.patient_id for one in node.find(query)] == [PATIENT]


def test_an_unknown_study_is_neither_found_nor_fetched(node: Any) -> None:
    assert list(node.find(Query.study(UNKNOWN))) == []
    assert list(node.find(Query.series_of(UNKNOWN))) == []
    if isinstance(node, MemoryNode | FolderNode):
        assert list(node.fetch([UNKNOWN])) == []
    else:
        with pytest.raises(NotFound, match="PACS1"):
            list(node.fetch([UNKNOWN]))


def test_studies_series_and_instances_are_fetched_byte_for_byte(node: Any) -> None:
    single = [one.in_header.ref for one in (sent()[1], sent()[8])]

    assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent())
    assert by_uid(list(node.fetch([SERIES]))) == by_uid(below(SERIES))
    assert by_uid(list(node.fetch(single))) == by_uid([sent()[1], sent()[8]])


@every_place
def test_store_yields_one_result_per_instance_in_order(node: Any) -> None:
    stored = list(node.store(sent()))

    assert [one.ref for one in stored] == [one.in_header.ref for one in sent()]
    assert all(one.is_stored for one in stored)
    assert [one.sha256 for one in stored] == [one.sha256() for one in sent()]
    assert [one.size_bytes for one in stored] == [one.size_bytes for one in sent()]


class Traffic(TrafficObserver):
    def __init__(self) -> None:
        self.received: list[str] = []
        self.sent: list[str] = []

    def instance_received(self, instance: Instance) -> None:
        self.received.append(instance.instance_uid)

    def instance_sent(self, instance: Instance) -> None:
        self.sent.append(instance.instance_uid)


@every_place
def test_an_observer_is_notified_of_each_instance_once(place: Place) -> None:
    traffic = Traffic()
    with closing(place.open(observer=traffic)) as node:
        fetched = list(node.fetch([STUDY])) if isinstance(node, Retrievable) else []
        assert traffic.received == [one.instance_uid for one in fetched]
        assert traffic.sent == []

        list(node.store(sent()))

    assert traffic.sent == [one.instance_uid for one in sent()]
    assert len(traffic.received) == len(fetched)


def test_an_observer_is_notified_before_the_next_instance_is_requested(place: Place) -> None:
    traffic = Traffic()
    with closing(place.open(observer=traffic)) as node:
        with closing(node.fetch([STUDY])) as fetched:
            first = next(fetched)

        assert traffic.received == [first.instance_uid]


def test_instances_stored_twice_exist_once(node: Any, place: Place) -> None:
    list(node.store(sent()))
    again = list(node.store(sent()))

    assert all(one.is_stored for one in again)
    assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent())
    assert len(list(node.find(Query.instances_of(SERIES)))) == len(below(SERIES))
    if place.keeps is not None:
        kept = [uid for uid in place.keeps() if uid.startswith(f"{STUDY.study_uid}.")]
        assert sorted(kept) == sorted(one.instance_uid for one in sent())


@every_place
def test_only_stored_instances_are_confirmed(node: Any) -> None:
    stored = list(node.store(sent()))
    never = InstanceRef(SERIES.study_uid, SERIES.series_uid, f"{SERIES.series_uid}.99")
    lost = StoreResult(never, size_bytes=10, sha256="0" * 64, path="nobody/was/here.dcm")

    confirmed = list(node.confirm([*stored, lost]))

    assert sorted(confirmed) == sorted(one.instance_uid for one in sent())


# Early end and abort ----------------------------------------------------------------------------


def test_closing_a_search_or_retrieval_early_leaves_the_node_usable(node: Any) -> None:
    answers = node.find(Query.instances_of(SERIES))
    next(answers)
    answers.close()
    images = node.fetch([STUDY])
    next(images)
    images.close()

    assert len(list(node.fetch([STUDY]))) == len(sent())


def test_closing_a_store_early_keeps_the_acknowledged_instance(node: Any) -> None:
    answers = node.store(others())
    first = next(answers)
    answers.close()

    assert list(node.confirm([first])) == [first.ref.instance_uid]
    assert by_uid(list(node.fetch([first.ref]))) == by_uid(others()[:1])


@every_place
def test_an_abort_from_another_thread_stops_a_store_promptly(node: Any) -> None:
    ended = threading.Event()
    outcome: list[object] = []
    gate = threading.Event()

    def slowly() -> Iterator[Instance]:
        """Yield one instance, then block until the gate opens."""
        yield others()[0]
        gate.wait(60)
        yield from others()[1:]

    def work() -> None:
        try:
            outcome.extend(node.store(slowly()))
        except AditError as error:
            outcome.append(error)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    node.abort()
    gate.set()

    assert ended.wait(30)
    thread.join()
    if not isinstance(node, MemoryNode):  # it never blocks
        assert isinstance(outcome[-1], Stopped)


def test_two_nodes_of_one_place_return_the_same_instances(node: Any, place: Place) -> None:
    with closing(place.open()) as other:
        assert by_uid(list(other.fetch([SERIES]))) == by_uid(list(node.fetch([SERIES])))
