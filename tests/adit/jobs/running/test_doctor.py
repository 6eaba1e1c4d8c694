"""`adit doctor` reports the problem of each service and the next step, without passwords."""

from datetime import timedelta
from typing import Any

import pytest
from lab.installed import Installed, new_database
from lab.ports import free_port
from lab.services import Service, needs_rabbitmq, needs_redis

from adit import service_checks

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory,
    postgresql_service: Service,
    rabbitmq_service: Service,
    redis_service: Service,
) -> Installed:
    """A prepared installation with PostgreSQL, RabbitMQ and Redis."""
    told = {
        "DATABASE_URL": new_database(postgresql_service.url),
        "ADIT_BROKER_URL": rabbitmq_service.url,
        "ADIT_REDIS_URL": redis_service.url,
    }
    one = Installed(tmp_path_factory.mktemp("site") / "var", told)
    done = one.adit("prepare")
    assert done.returncode == 0, done.stderr
    return one


def told(site: Installed, expected: int, **changes: str) -> str:
    other = Installed(site.data, {**site.settings, **changes})
    done = other.adit("doctor")
    assert done.returncode == expected, done.stdout + done.stderr
    for url in site.settings.values():
        assert url.rpartition("@")[0].rpartition(":")[2] not in done.stdout + done.stderr
    return done.stdout


def wrong(url: str) -> str:
    """Return the URL with a wrong password."""
    before, _, place = url.rpartition("@")
    return f"{before.rpartition(':')[0]}:wrong@{place}"


def gone(url: str) -> str:
    """Return the URL with a closed port."""
    before, _, place = url.rpartition("@")
    return f"{before}@127.0.0.1:{free_port()}/{place.partition('/')[2]}"


def test_doctor_reports_no_problem_for_a_prepared_installation(site: Installed) -> None:
    said = told(site, 0)
    for part in (
        "database (PostgreSQL at 127.0.0.1:",
        "tables",
        "clock of this server",
        "broker (RabbitMQ at 127.0.0.1:",
        "cache (Redis at 127.0.0.1:",
        "master key",
    ):
        assert f"ok  {part}" in said
    assert "!!" not in said


def test_doctor_reports_a_database_that_rejects_the_login_or_is_unreachable(
    site: Installed,
) -> None:
    url = site.settings["DATABASE_URL"]
    refused = told(site, 1, DATABASE_URL=wrong(url))
    assert "It rejects the user or password of DATABASE_URL." in refused
    silent = told(site, 1, DATABASE_URL=gone(url))
    assert "Check whether PostgreSQL runs and whether DATABASE_URL is correct." in silent
    for said in (refused, silent):
        assert said.count("!!") == 1, said


def test_doctor_and_prepare_reject_an_existing_database_without_a_master_key(
    site: Installed,
) -> None:
    key = site.data / "keys" / "master.key"
    kept = key.read_text()
    key.unlink()
    try:
        assert "contains no master key" in told(site, 1)
        done = site.adit("prepare")
        assert done.returncode == 1
        assert "Restore the key from the backup" in done.stderr
        assert not key.exists()
    finally:
        key.write_text(kept)
        key.chmod(0o600)


@needs_rabbitmq
def test_doctor_reports_a_broker_that_rejects_the_login_or_is_unreachable(
    settings: Any, rabbitmq_service: Service
) -> None:
    settings.BROKER_URL = rabbitmq_service.url
    assert service_checks._check_broker().next_step == ""
    settings.BROKER_URL = wrong(rabbitmq_service.url)
    assert service_checks._check_broker().next_step.startswith(
        "It rejects the user, password or virtual host"
    )
    settings.BROKER_URL = gone(rabbitmq_service.url)
    finding = service_checks._check_broker()
    assert finding.next_step.startswith("No answer. Check whether RabbitMQ runs")
    assert rabbitmq_service.password not in finding.subject + finding.next_step


@needs_redis
def test_doctor_reports_a_redis_that_rejects_the_password_or_is_unreachable(
    settings: Any, redis_service: Service
) -> None:
    settings.REDIS_URL = redis_service.url
    assert service_checks._check_redis().next_step == ""
    settings.REDIS_URL = wrong(redis_service.url)
    assert service_checks._check_redis().next_step == "It rejects the password of ADIT_REDIS_URL."
    settings.REDIS_URL = gone(redis_service.url)
    finding = service_checks._check_redis()
    assert finding.next_step.startswith("No answer. Check whether Redis runs")
    assert redis_service.password not in finding.subject + finding.next_step


def test_doctor_reports_an_unknown_time_zone(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Nowhere"
    assert "Enter one such as Europe/Berlin" in service_checks._check_time_zone().next_step


def test_doctor_reports_missing_migrations(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EMBEDDED = False
    monkeypatch.setattr(
        service_checks.MigrationExecutor, "migration_plan", lambda self, targets: [object()] * 2
    )
    said = service_checks._check_migrations().next_step
    assert said == "2 migrations are missing. Run `adit prepare`."


def test_doctor_reports_a_clock_that_differs_from_the_database(
    db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings.EMBEDDED:
        pytest.skip("SQLite has no clock of its own")
    real = service_checks.timezone.now
    monkeypatch.setattr(service_checks.timezone, "now", lambda: real() + timedelta(seconds=30))
    assert (
        "differs by 30 s from the clock of the database" in service_checks._check_clock().next_step
    )


def test_doctor_reports_an_outdated_service_version() -> None:
    assert service_checks._check_version("RabbitMQ", "broker", 3).next_step.startswith(
        "It is version 3"
    )
    assert service_checks._check_version("PostgreSQL", "database", 17).next_step == ""
