"""Search in a web request: bounded in time and results, cancelable, limited per node, audited."""

import socket
import threading
import time
from datetime import date
from io import BytesIO

import pytest
from django.core.cache import cache
from django.db import connection
from pydicom import Dataset, dcmwrite

from adit.accounts.permissions import COORDINATORS, NotPermitted
from adit.audit.models import AuditEvent
from adit.nodes import search
from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Lane, Slot
from adit_engine.errors import ConnectionLost, InvalidInput, NodeError, Stopped, TimedOut
from adit_engine.nodes import KINDS, kind_class
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.query import DateRange, Query
from adit_engine.values.references import QueryLevel, SeriesRef, StudyRef

CT = "1.2.840.10008.5.1.4.1.1.2"
SC = "1.2.840.10008.5.1.4.1.1.7"


def put(shelf, study, series="1", instance="1", *, sop_class=CT, **values):
    """Add one object to the memory node named `shelf`."""
    uid = f"{study}.{series}.{instance}"
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = sop_class, uid
    header.StudyInstanceUID, header.SeriesInstanceUID = study, f"{study}.{series}"
    for keyword, value in {"PatientID": "4711", "StudyDate": "20260110", **values}.items():
        setattr(header, keyword, value)
    buffer = BytesIO()
    dcmwrite(buffer, header, implicit_vr=False, little_endian=True)
    held = MemoryNode.shelves.setdefault(shelf, {})
    held[uid] = Instance.from_data_set(sop_class, uid, EXPLICIT_LE, buffer.getvalue())


def by_id(patient_id="4711"):
    return Query(QueryLevel.STUDY, {"PatientID": patient_id})


def test_a_search_returns_matching_studies(coordinator, source):
    put("PACS1", "1.2.3")
    put("PACS1", "1.2.4", PatientID="4712")

    begun = time.monotonic()
    result = search.search_studies(coordinator, source, by_id())

    assert [record.study_uid for record in result.records] == ["1.2.3"]
    assert (result.more, result.is_capped) == (False, False)
    assert 0 <= result.seconds <= time.monotonic() - begun
    assert not Slot.objects.exists()


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"ModalitiesInStudy": ("CT",)},
        {"ModalitiesInStudy": ("CT",), "PatientID": ""},
        {"PatientName": "*"},
        {"PatientName": "** ?"},
    ],
)
def test_an_unrestricted_search_is_rejected_before_contacting_the_node(coordinator, source, keys):
    with pytest.raises(InvalidInput, match="one field besides the modality"):
        search.search_studies(coordinator, source, Query(QueryLevel.STUDY, keys))
    assert not AuditEvent.objects.filter(action="node.opened").exists()


def test_a_date_range_is_a_sufficient_restriction(coordinator, source):
    put("PACS1", "1.2.3")
    january = DateRange(date(2026, 1, 1), date(2026, 1, 31))

    assert search.search_studies(coordinator, source, Query(QueryLevel.STUDY, {}, january)).records


def test_a_result_beyond_the_limit_is_truncated_and_marked(coordinator, source, settings):
    settings.SEARCH_LIMIT, settings.SEARCH_KEPT_S = 3, 0
    for number in range(3):
        put("PACS1", f"1.2.{number}")
    assert search.search_studies(coordinator, source, by_id()).more is False
    put("PACS1", "1.2.9")

    result = search.search_studies(coordinator, source, by_id())
    assert len(result.records) == 3
    assert result.more is True


@pytest.mark.parametrize("who", ["pacsadmin", "dpo", "stranger"])
def test_a_user_without_read_access_cannot_search(request, source, who):
    user = request.getfixturevalue(who)
    for question in (
        lambda: search.search_studies(user, source, by_id()),
        lambda: search.list_series(user, source, StudyRef("1.2.3")),
        lambda: search.count_sop_classes(user, source, SeriesRef("1.2.3", "1.2.3.1")),
    ):
        with pytest.raises(NotPermitted, match="may fetch from PACS1"):
            question()


def test_the_audit_event_contains_counts_and_key_names_but_no_values(coordinator, source):
    put("PACS1", "1.2.3", PatientID="canary")

    search.search_studies(coordinator, source, by_id("canary"), named="project:LUNG")

    event = AuditEvent.objects.get(action="search.run")
    assert event.user == coordinator
    assert {key: event.details[key] for key in ("keys", "found", "more", "named")} == {
        "keys": ["PatientID"],
        "found": 1,
        "more": False,
        "named": "project:LUNG",
    }
    assert "canary" not in repr(list(AuditEvent.objects.values()))


def test_series_and_sop_classes_of_a_study_are_listed(coordinator, source):
    for series, sop_class, count in (("1", CT, 3), ("2", SC, 1)):
        for number in range(count):
            put("PACS1", "1.2.3", series, str(number), sop_class=sop_class)

    series = search.list_series(coordinator, source, StudyRef("1.2.3"), "4711")

    assert sorted(record.series_uid for record in series) == ["1.2.3.1", "1.2.3.2"]
    assert search.count_sop_classes(coordinator, source, SeriesRef("1.2.3", "1.2.3.1")) == {CT: 3}
    assert search.count_sop_classes(coordinator, source, SeriesRef("1.2.3", "1.2.3.2"), "4711") == {
        SC: 1
    }


def test_concurrent_searches_are_limited_per_node(coordinator, source):
    for number in range(source.search_limit):
        slots.acquire_slot(source, Lane.SEARCH, f"search:{number}", 60)

    with pytest.raises(NoSlot, match="2 of 2 connections are in use"):
        search.search_studies(coordinator, source, by_id())


# Slow nodes ---------------------------------------------------------------------------------


class SlowNode(MemoryNode):
    """Does not answer until it is aborted; then raises an error like a lost connection."""

    asked = threading.Event()
    aborted = threading.Event()

    def find(self, query):
        SlowNode.asked.set()
        if not SlowNode.aborted.wait(100):
            raise AssertionError("nobody aborted the search")
        raise NodeError(self.name, "association.aborted", hint="")

    def abort(self):
        SlowNode.aborted.set()


@pytest.fixture
def slow(make_node, monkeypatch):
    """A source whose node kind exists only in these tests."""
    monkeypatch.setitem(KINDS, "slow", f"{__name__}:SlowNode")
    assert kind_class("slow") is SlowNode
    SlowNode.asked.clear()
    SlowNode.aborted.clear()
    cache.clear()
    return make_node("PACS1", kind="slow", reads=(COORDINATORS,))


def test_a_search_of_a_silent_node_ends_at_the_deadline(coordinator, slow, settings):
    settings.SEARCH_DEADLINE_S = 1
    begun = time.monotonic()

    with pytest.raises(TimedOut, match=r"PACS1 did not answer completely within 1 s\. Narrow"):
        search.search_studies(coordinator, slow, by_id())

    assert time.monotonic() - begun < 30
    assert SlowNode.aborted.is_set()
    assert not Slot.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_canceled_search_of_a_silent_node_ends_before_its_deadline(coordinator, slow, settings):
    settings.SEARCH_DEADLINE_S = 90
    canceled_at = []

    def cancel_when_asked():
        assert SlowNode.asked.wait(20)
        search.cancel_search("some-key")
        canceled_at.append(time.monotonic())
        connection.close()

    canceler = threading.Thread(target=cancel_when_asked)
    canceler.start()
    with pytest.raises(Stopped, match="The search was canceled"):
        search.search_studies(coordinator, slow, by_id(), cancelled="some-key")
    ended_at = time.monotonic()
    canceler.join()

    assert ended_at - canceled_at[0] < 30
    assert SlowNode.aborted.is_set()
    assert not Slot.objects.exists()


@pytest.fixture
def mute(make_node):
    """A DIMSE node whose server accepts connections and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = {
            "called_ae_title": "MUTE",
            "host": "127.0.0.1",
            "port": port,
            "association_s": 600.0,
        }
        yield make_node("PACS1", kind="dimse", settings=settings, reads=(COORDINATORS,))


def test_a_pacs_that_accepts_and_never_answers_is_aborted_at_the_deadline(
    coordinator, mute, settings
):
    settings.SEARCH_DEADLINE_S = 1
    threads = threading.active_count()
    begun = time.monotonic()

    with pytest.raises(TimedOut, match="PACS1 did not answer completely within 1 s"):
        search.search_studies(coordinator, mute, by_id())

    assert time.monotonic() - begun < 30
    deadline = time.monotonic() + 30
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_a_search_canceled_before_its_start_does_not_query_the_node(coordinator, slow):
    search.cancel_search("some-key")

    with pytest.raises(Stopped):
        search.search_studies(coordinator, slow, by_id(), cancelled="some-key")
    assert not SlowNode.asked.is_set()


def test_canceling_another_search_has_no_effect(coordinator, source):
    search.cancel_search("another-key")

    assert search.search_studies(coordinator, source, by_id(), cancelled="some-key").records == ()


def test_errors_of_the_node_are_propagated(coordinator, slow):
    SlowNode.aborted.set()

    with pytest.raises(NodeError, match=r"association.aborted|aborted the association"):
        search.search_studies(coordinator, slow, by_id())


def test_searches_are_limited_to_the_configured_number_of_web_threads(
    coordinator, source, settings
):
    taken = 0
    while search._search_threads.acquire(blocking=False):
        taken += 1
    try:
        assert taken == settings.SEARCH_THREADS
        with pytest.raises(NoSlot, match="too many searches are running"):
            search.search_studies(coordinator, source, by_id())
    finally:
        search._search_threads.release(taken)


def found_by(monkeypatch, **ways):
    """Replace `find` by node name: functions of the node and of its original answer."""
    find = MemoryNode.find

    def by_name(self, query):
        return ways[self.name](self, lambda: find(self, query))

    monkeypatch.setattr(MemoryNode, "find", by_name)


@pytest.mark.django_db(transaction=True)
def test_nodes_are_searched_in_parallel_and_a_failure_affects_no_other_node(
    coordinator, source, make_node, monkeypatch
):
    others = [make_node(name, reads=(COORDINATORS,)) for name in ("PACS2", "DEAD")]
    put("PACS1", "1.2.3")
    put("PACS2", "1.2.4")
    both = threading.Barrier(2)

    def together(node, answer):
        both.wait(20)
        return answer()

    def dead(node, answer):
        raise ConnectionLost(node.name, "the connection was cut")

    found_by(monkeypatch, PACS1=together, PACS2=together, DEAD=dead)
    first, second, third = search.search_nodes(coordinator, [source, *others], by_id())

    assert [r.study_uid for r in (*first.records, *second.records)] == ["1.2.3", "1.2.4"]
    assert isinstance(third, NodeError)
    assert "DEAD" in str(third)
    assert not Slot.objects.exists()
    events = AuditEvent.objects.filter(action="search.run")
    assert sorted(event.details["node"] for event in events) == ["PACS1", "PACS2"]


@pytest.mark.django_db(transaction=True)
def test_a_cancel_ends_the_searches_of_all_nodes(coordinator, source, make_node, monkeypatch):
    other = make_node("PACS2", reads=(COORDINATORS,))
    asked, let_go = threading.Semaphore(0), threading.Event()

    def silent(node, answer):
        asked.release()
        let_go.wait(30)
        raise ConnectionLost(node.name, "the connection was cut")

    found_by(monkeypatch, PACS1=silent, PACS2=silent)

    def cancel_when_both_are_asked():
        if asked.acquire(timeout=20) and asked.acquire(timeout=20):
            search.cancel_search("key")
        connection.close()

    helper = threading.Thread(target=cancel_when_both_are_asked)
    helper.start()
    told = search.search_nodes(coordinator, [source, other], by_id(), cancelled="key")
    let_go.set()
    helper.join()
    assert [type(one) for one in told] == [Stopped, Stopped]


@pytest.mark.django_db(transaction=True)
def test_a_search_of_several_nodes_counts_as_one_web_thread(
    coordinator, source, make_node, monkeypatch
):
    others = [make_node(f"PACS{n}", reads=(COORDINATORS,)) for n in (2, 3)]
    monkeypatch.setattr(search, "_search_threads", threading.BoundedSemaphore(1))
    told = search.search_nodes(coordinator, [source, *others], by_id())
    assert not [one for one in told if isinstance(one, Exception)]
    with search.acquire_search_thread(source), pytest.raises(NoSlot):
        search.search_nodes(coordinator, [source], by_id())
