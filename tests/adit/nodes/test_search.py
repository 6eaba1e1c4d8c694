"""Search in the web request: bounded in time and answers, cancelable, polite, in the trail."""

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
    """One object on a memory node's shelf."""
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


def test_it_finds_what_matches(coordinator, source):
    put("PACS1", "1.2.3")
    put("PACS1", "1.2.4", PatientID="4712")

    result = search.search_studies(coordinator, source, by_id())

    assert [record.study_uid for record in result.records] == ["1.2.3"]
    assert (result.more, result.is_capped) == (False, False)
    assert 0 <= result.seconds < 10
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
def test_a_search_that_narrows_nothing_is_refused_before_the_node_is_asked(
    coordinator, source, keys
):
    with pytest.raises(InvalidInput, match="one field besides the modality"):
        search.search_studies(coordinator, source, Query(QueryLevel.STUDY, keys))
    assert not AuditEvent.objects.filter(action="node.opened").exists()


def test_a_date_range_narrows(coordinator, source):
    put("PACS1", "1.2.3")
    january = DateRange(date(2026, 1, 1), date(2026, 1, 31))

    assert search.search_studies(coordinator, source, Query(QueryLevel.STUDY, {}, january)).records


def test_beyond_the_limit_it_says_that_there_is_more(coordinator, source, settings):
    settings.SEARCH_LIMIT, settings.SEARCH_KEPT_S = 3, 0
    for number in range(3):
        put("PACS1", f"1.2.{number}")
    assert search.search_studies(coordinator, source, by_id()).more is False
    put("PACS1", "1.2.9")

    result = search.search_studies(coordinator, source, by_id())
    assert len(result.records) == 3
    assert result.more is True


@pytest.mark.parametrize("who", ["pacsadmin", "dpo", "stranger"])
def test_who_may_not_read_may_not_search(request, source, who):
    user = request.getfixturevalue(who)
    for question in (
        lambda: search.search_studies(user, source, by_id()),
        lambda: search.list_series(user, source, StudyRef("1.2.3")),
        lambda: search.count_sop_classes(user, source, SeriesRef("1.2.3", "1.2.3.1")),
    ):
        with pytest.raises(NotPermitted, match="may fetch from PACS1"):
            question()


def test_the_trail_holds_counts_and_names_of_fields_and_no_values(coordinator, source):
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


def test_series_and_classes_of_a_study(coordinator, source):
    for series, sop_class, count in (("1", CT, 3), ("2", SC, 1)):
        for number in range(count):
            put("PACS1", "1.2.3", series, str(number), sop_class=sop_class)

    series = search.list_series(coordinator, source, StudyRef("1.2.3"), "4711")

    assert sorted(record.series_uid for record in series) == ["1.2.3.1", "1.2.3.2"]
    assert search.count_sop_classes(coordinator, source, SeriesRef("1.2.3", "1.2.3.1")) == {CT: 3}
    assert search.count_sop_classes(coordinator, source, SeriesRef("1.2.3", "1.2.3.2"), "4711") == {
        SC: 1
    }


def test_no_more_searches_at_once_than_the_node_allows(coordinator, source):
    for number in range(source.search_limit):
        slots.acquire_slot(source, Lane.SEARCH, f"search:{number}", 60)

    with pytest.raises(NoSlot, match="2 of 2 connections are in use"):
        search.search_studies(coordinator, source, by_id())


# A node that takes its time -------------------------------------------------------------------


class SlowNode(MemoryNode):
    """Says nothing until it is aborted; then it breaks off, as a lost connection does."""

    asked = threading.Event()
    aborted = threading.Event()

    def find(self, query):
        SlowNode.asked.set()
        if not SlowNode.aborted.wait(20):
            raise AssertionError("nobody aborted the search")
        raise NodeError(self.name, "association.aborted", hint="")

    def abort(self):
        SlowNode.aborted.set()


@pytest.fixture
def slow(make_node, monkeypatch):
    """A source of a kind of its own that only these tests know."""
    monkeypatch.setitem(KINDS, "slow", f"{__name__}:SlowNode")
    assert kind_class("slow") is SlowNode
    SlowNode.asked.clear()
    SlowNode.aborted.clear()
    cache.clear()
    return make_node("PACS1", kind="slow", reads=(COORDINATORS,))


def test_a_silent_node_is_left_at_the_deadline(coordinator, slow, settings):
    settings.SEARCH_DEADLINE_S = 1
    begun = time.monotonic()

    with pytest.raises(TimedOut, match=r"PACS1 did not answer completely within 1 s\. Narrow"):
        search.search_studies(coordinator, slow, by_id())

    assert time.monotonic() - begun < 5
    assert SlowNode.aborted.is_set()
    assert not Slot.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_canceled_search_ends_within_two_seconds_though_the_node_is_silent(coordinator, slow):
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

    assert ended_at - canceled_at[0] < 2
    assert SlowNode.aborted.is_set()
    assert not Slot.objects.exists()


@pytest.fixture
def mute(make_node):
    """A real PACS address at which somebody accepts the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = {"called_ae_title": "MUTE", "host": "127.0.0.1", "port": port}
        yield make_node("PACS1", kind="dimse", settings=settings, reads=(COORDINATORS,))


def test_an_archive_that_accepts_and_never_answers_is_left_at_the_deadline(
    coordinator, mute, settings
):
    settings.SEARCH_DEADLINE_S = 1
    threads = threading.active_count()
    begun = time.monotonic()

    with pytest.raises(TimedOut, match="PACS1 did not answer completely within 1 s"):
        search.search_studies(coordinator, mute, by_id())

    assert time.monotonic() - begun < 5
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() == threads


def test_a_search_canceled_before_it_began_asks_nothing(coordinator, slow):
    search.cancel_search("some-key")

    with pytest.raises(Stopped):
        search.search_studies(coordinator, slow, by_id(), cancelled="some-key")
    assert not SlowNode.asked.is_set()


def test_canceling_another_search_changes_nothing(coordinator, source):
    search.cancel_search("another-key")

    assert search.search_studies(coordinator, source, by_id(), cancelled="some-key").records == ()


def test_what_the_node_raises_comes_through(coordinator, slow):
    SlowNode.aborted.set()

    with pytest.raises(NodeError, match=r"association.aborted|aborted the association"):
        search.search_studies(coordinator, slow, by_id())


def test_searches_leave_half_of_the_web_threads_free(coordinator, source, settings):
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
    """How nodes of these names answer: a function of the node and of its usual answer."""
    find = MemoryNode.find

    def by_name(self, query):
        return ways[self.name](self, lambda: find(self, query))

    monkeypatch.setattr(MemoryNode, "find", by_name)


@pytest.mark.django_db(transaction=True)
def test_several_are_asked_at_the_same_time_and_a_dead_one_costs_nobody_anything(
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
def test_a_cancel_ends_all_of_them(coordinator, source, make_node, monkeypatch):
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
def test_for_the_web_server_it_is_one_search(coordinator, source, make_node, monkeypatch):
    others = [make_node(f"PACS{n}", reads=(COORDINATORS,)) for n in (2, 3)]
    monkeypatch.setattr(search, "_search_threads", threading.BoundedSemaphore(1))
    told = search.search_nodes(coordinator, [source, *others], by_id())
    assert not [one for one in told if isinstance(one, Exception)]
    with search.acquire_search_thread(source), pytest.raises(NoSlot):
        search.search_nodes(coordinator, [source], by_id())
