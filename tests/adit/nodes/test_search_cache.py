"""Cached search answers: a repeated query does not reach the node, for each cache backend."""

import json
import os
import pickle
import threading
import time
from base64 import b64decode

import pytest
import redis
from django.core.cache import cache, caches
from django.db import connection
from lab.services import needs_redis
from test_search import by_id, put

from adit.accounts.permissions import COORDINATORS, NotPermitted
from adit.audit.models import AuditEvent
from adit.config import redis_cache
from adit.config.redis_cache import RedisCache
from adit.nodes import search
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.nodes.models import Node
from adit_engine import nodes
from adit_engine.errors import InvalidInput, NodeError
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.references import SeriesRef, StudyRef

CANARY = "CANARY-4711"


class CountingNode(MemoryNode):
    asked: list[str] = []
    may_answer = threading.Event()

    def find(self, query):
        self.asked.append(query.level.value)
        assert self.may_answer.wait(20)
        return super().find(query)


@pytest.fixture
def counted(source, monkeypatch, settings):
    """The levels of the queries that reached the node."""
    settings.SEARCH_KEPT_S = 60
    monkeypatch.setitem(nodes.KINDS, "counting", f"{__name__}:CountingNode")
    source.kind = "counting"
    source.save()
    CountingNode.asked = []
    CountingNode.may_answer = threading.Event()
    CountingNode.may_answer.set()
    put("PACS1", "1.2.3", PatientID=CANARY, PatientName="Canary^Bird")
    return CountingNode.asked


@pytest.fixture(params=["table", pytest.param("redis", marks=needs_redis)])
def kept(request, settings, db):
    """A function that returns keys and values in the cache as bytes, for both backends."""
    if request.param == "table":

        def lying():
            with connection.cursor() as cursor:
                cursor.execute("SELECT cache_key, value FROM adit_cache")
                return [(key.encode(), value.encode()) for key, value in cursor.fetchall()]

        yield lying
        return
    service = request.getfixturevalue("shared")
    with redis.Redis.from_url(service.url) as client:
        yield lambda: [(key, client.get(key)) for key in client.scan_iter()]


@pytest.fixture
def shared(settings, redis_service):
    """Use an empty Redis as the shared cache."""
    settings.CACHES = {
        "default": {
            "BACKEND": "adit.config.redis_cache.RedisCache",
            "LOCATION": redis_service.url,
        }
    }
    RedisCache.paused_until = 0.0
    caches["default"].local.clear()
    with redis.Redis.from_url(redis_service.url) as client:
        client.flushall()
    yield redis_service
    RedisCache.paused_until = 0.0


def ask(user, node, patient_id=CANARY):
    return [
        record.study_uid for record in search.search_studies(user, node, by_id(patient_id)).records
    ]


def test_a_repeated_query_reaches_the_node_once(coordinator, source, counted, kept):
    study, series = StudyRef("1.2.3"), SeriesRef("1.2.3", "1.2.3.1")
    first = [
        search.search_studies(coordinator, source, by_id(CANARY)).records,
        search.list_series(coordinator, source, study),
        search.count_sop_classes(coordinator, source, series),
    ]
    again = [
        search.search_studies(coordinator, source, by_id(CANARY)).records,
        search.list_series(coordinator, source, study),
        search.count_sop_classes(coordinator, source, series),
    ]
    assert again == first
    assert first[0][0].patient_name == "Canary^Bird"
    assert counted == ["STUDY", "SERIES", "IMAGE"]
    assert AuditEvent.objects.filter(action="node.remembered").count() == 3
    assert AuditEvent.objects.filter(action="search.run").count() == 2
    ask(coordinator, source, "another")
    assert len(counted) == 4


def test_cached_answers_are_encrypted_and_contain_no_patient_data(
    coordinator, source, counted, kept
):
    ask(coordinator, source)
    (answer,) = [value for key, value in kept() if b"answer:" in key]
    told = repr(kept())
    assert CANARY not in told
    assert "Canary" not in told
    assert "1.2.3" not in told
    text = json.loads(answer)
    assert CANARY.encode() not in b64decode(text)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(answer)


def test_a_cached_answer_expires_after_the_configured_time(
    coordinator, source, counted, kept, settings
):
    ask(coordinator, source)
    settings.SEARCH_KEPT_S = 1
    deadline = time.monotonic() + 60
    while len(counted) == 1:
        ask(coordinator, source)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    settings.SEARCH_KEPT_S = 0
    ask(coordinator, source)
    ask(coordinator, source)
    assert len(counted) == 4


def test_users_with_different_permissions_do_not_share_cached_answers(
    make_user, source, counted, kept
):
    from django.contrib.auth.models import Group, Permission

    clear = Group.objects.create(name="See names")
    clear.permissions.set(Permission.objects.filter(codename="see_identified"))
    masked, seeing = (make_user(name, COORDINATORS) for name in ("masked", "seeing"))
    for group in masked.groups.all():
        group.permissions.remove(*group.permissions.filter(codename="see_identified"))
    seeing.groups.add(clear)
    ask(seeing, source)
    ask(masked, source)
    assert len(counted) == 2
    ask(masked, source)
    ask(seeing, source)
    assert len(counted) == 2


def test_the_cache_does_not_bypass_the_gateway(coordinator, stranger, source, counted, kept):
    ask(coordinator, source)
    with pytest.raises(NotPermitted):
        ask(stranger, source)
    Node.objects.filter(pk=source.pk).update(is_open=False)
    with pytest.raises(NodeUnavailable):
        ask(coordinator, source)


def test_a_node_with_changed_settings_is_queried_again(coordinator, source, counted, kept):
    ask(coordinator, source)
    source.settings = {"note": "moved to another machine"}
    source.save()
    with pytest.raises(InvalidInput, match="has no settings note"):
        ask(coordinator, source)


def test_a_failed_query_is_not_cached(coordinator, source, counted, kept, monkeypatch):
    def fail(self, query):
        counted.append("failed")
        raise NodeError("PACS1", "it does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(CountingNode, "find", fail)
        with pytest.raises(NodeError):
            ask(coordinator, source)
    assert ask(coordinator, source) == ["1.2.3"]
    assert counted == ["failed", "STUDY"]


def test_a_moved_or_forged_cache_entry_is_ignored(coordinator, source, counted, kept, tmp_path):
    put("PACS1", "1.2.4", PatientID="other")
    ask(coordinator, source)
    name = next(key for key in _names(kept) if ":asked" not in key)
    ask(coordinator, source, "other")
    other = next(key for key in _names(kept) if key != name and ":asked" not in key)
    cache.set(name, cache.get(other), 60)
    assert ask(coordinator, source) == ["1.2.3"]
    _write_raw(kept, name, pickle.dumps(_Trap(str(tmp_path / "sprung"))))
    assert ask(coordinator, source) == ["1.2.3"]
    assert not (tmp_path / "sprung").exists()


class _Trap:
    """Creates a directory when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _names(kept):
    return [key.decode().split(":", 2)[2] for key, _value in kept()]


def _write_raw(kept, name, value):
    full = caches["default"].make_key(name)
    if isinstance(caches["default"], RedisCache):
        caches["default"]._cache.get_client(full, write=True).set(full, value)
        return
    with connection.cursor() as cursor:
        cursor.execute("UPDATE adit_cache SET value = %s WHERE cache_key = %s", [value.hex(), full])


@pytest.mark.django_db(transaction=True)
def test_concurrent_identical_queries_reach_the_node_once(coordinator, source, counted):
    from concurrent.futures import ThreadPoolExecutor

    def asks():
        try:
            return ask(coordinator, source)
        finally:
            connection.close()

    CountingNode.may_answer.clear()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(asks) for _ in range(2)]
        deadline = time.monotonic() + 60
        while not counted:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        CountingNode.may_answer.set()
        assert [one.result(30) for one in both] == [["1.2.3"], ["1.2.3"]]
    assert counted == ["STUDY"]


# Redis -----------------------------------------------------------------------------------------


@needs_redis
def test_searches_work_while_redis_is_down(coordinator, source, counted, shared, caplog):
    shared.kill()
    try:
        assert ask(coordinator, source) == ["1.2.3"]
        assert ask(coordinator, source) == ["1.2.3"]
        assert "Redis is unavailable" in caplog.text
        assert shared.password not in caplog.text
        search.cancel_search("one")
        assert search._is_canceled("one"), "the process must also store it locally"
    finally:
        shared.start()
    RedisCache.paused_until = 0.0
    cache.set("note", [1, "kept"], 30)
    with redis.Redis.from_url(shared.url) as client:
        assert client.get(caches["default"].make_key("note")) == b'[1, "kept"]'


@needs_redis
def test_a_frozen_redis_delays_only_the_first_cache_call(shared, caplog, monkeypatch):
    monkeypatch.setattr(redis_cache, "RETRY_AFTER_S", 600.0)
    shared.freeze()
    try:
        for number in range(20):
            cache.set(f"note-{number}", number)
        assert caplog.text.count("Redis is unavailable (TimeoutError)") == 1
        assert cache.get("note-19") == 19
    finally:
        shared.thaw()
        RedisCache.paused_until = 0.0


@needs_redis
def test_a_flushed_redis_costs_only_one_more_query(coordinator, source, counted, shared):
    ask(coordinator, source)
    with redis.Redis.from_url(shared.url) as client:
        client.flushall()
    assert ask(coordinator, source) == ["1.2.3"]
    assert len(counted) == 2


@pytest.mark.parametrize("redis_too", [False, pytest.param(True, marks=needs_redis)])
def test_sign_ins_are_blocked_after_many_wrong_passwords(client, make_user, redis_too, request):
    """After many wrong passwords, the right one is rejected until the counter expires."""
    if redis_too:
        request.getfixturevalue("shared")
    user = make_user("anna")
    for _ in range(12):
        answer = client.post("/accounts/login/", {"login": "anna", "password": "wrong"})
    assert answer.status_code in (200, 429)
    right = {"login": "anna", "password": "a long enough password"}
    client.post("/accounts/login/", right)
    assert "_auth_user_id" not in client.session, "the sign-in must be blocked"
    cache.clear()
    client.post("/accounts/login/", right)
    assert client.session["_auth_user_id"] == str(user.pk)


def test_the_database_cache_stores_increments_and_expires_values(db):
    assert cache.add("mark", 1, 60)
    assert not cache.add("mark", 2, 60)
    assert cache.incr("mark", 4) == 5
    assert cache.get("mark") == 5
    assert cache.touch("mark", 90)
    cache.set("mark", 6, 0)
    assert cache.get("mark") is None
    assert not cache.has_key("mark")
    assert cache.add("mark", 3, 60), "an expired key must count as absent"
    cache.set("gone", "x", 0)
    assert caches["default"].sweep() == 1
    assert cache.delete("mark")
    with pytest.raises(ValueError, match="no key"):
        cache.incr("mark")
