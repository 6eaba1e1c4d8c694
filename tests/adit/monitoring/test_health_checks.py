"""The endpoints /healthz and /readyz: state of each part, within a deadline."""

import contextlib
import time
from unittest.mock import patch

import pytest
from django.test import Client
from lab.services import needs_rabbitmq, needs_redis

from adit.monitoring import health


@pytest.fixture
def ready(settings, db):
    settings.BROKER_DIR.mkdir(parents=True, exist_ok=True)
    return lambda: Client().get("/readyz")


def test_a_working_installation_is_ready(ready):
    answer = ready()
    assert answer.json() == dict.fromkeys(("database", "tables", "broker", "cache", "disk"), "ok")
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert not answer.cookies


def test_healthz_does_not_depend_on_the_readiness_checks(db):
    with patch.object(health, "check_readiness", side_effect=AssertionError):
        answer = Client().get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"web": "ok"})


@pytest.mark.django_db(transaction=True)
def test_healthz_does_not_query_the_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert Client().get("/healthz").status_code == 200


def test_a_full_disk_is_reported(ready, monkeypatch):
    monkeypatch.setattr(health, "MIN_FREE_BYTES", 10**18)
    answer = ready()
    assert answer.status_code == 503
    assert answer.json()["disk"] == "less than 2 GB free"


def test_a_missing_broker_folder_is_reported(ready, settings, tmp_path):
    settings.BROKER_DIR = tmp_path / "gone"
    answer = ready()
    assert (answer.status_code, answer.json()["broker"]) == (503, "its folder is not writable")


def test_missing_migrations_are_reported(ready, monkeypatch):
    class Behind:
        def __init__(self, connection):
            self.loader = self
            self.graph = self

        def leaf_nodes(self):
            return []

        def migration_plan(self, targets):
            return [object()] * 3

    monkeypatch.setattr(health, "MigrationExecutor", Behind)
    answer = ready()
    assert answer.status_code == 503
    assert answer.json()["tables"] == "3 migrations are missing"


@needs_redis
def test_redis_is_reported_as_unavailable_until_it_is_restarted(ready, settings, redis_service):
    settings.REDIS_URL = redis_service.url
    assert ready().json()["cache"] == "ok"
    with down(redis_service):
        answer = ready()
        assert answer.status_code == 503
        assert answer.json()["cache"] == "unavailable (ConnectionError)"
        assert redis_service.password not in answer.content.decode()
    assert ready().status_code == 200


@needs_redis
def test_a_frozen_redis_is_reported_within_the_deadline(ready, settings, redis_service):
    settings.REDIS_URL = redis_service.url
    redis_service.freeze()
    try:
        begun = time.monotonic()
        answer = ready()
        assert time.monotonic() - begun < health.DEADLINE_S + 30
        assert answer.json()["cache"].startswith("unavailable (Timeout")
    finally:
        redis_service.thaw()


@needs_rabbitmq
def test_a_frozen_rabbitmq_or_a_wrong_password_is_reported(ready, settings, rabbitmq_service):
    settings.BROKER_URL = rabbitmq_service.url
    assert ready().json()["broker"] == "ok"
    settings.BROKER_URL = rabbitmq_service.url.replace(rabbitmq_service.password, "wrong")
    assert ready().json()["broker"] == "unavailable (AccessRefused)"
    settings.BROKER_URL = rabbitmq_service.url
    rabbitmq_service.freeze()
    try:
        begun = time.monotonic()
        assert ready().json()["broker"] != "ok"
        assert time.monotonic() - begun < health.DEADLINE_S + 30
    finally:
        rabbitmq_service.thaw()


@contextlib.contextmanager
def down(service):
    service.kill()
    try:
        yield
    finally:
        service.start()
