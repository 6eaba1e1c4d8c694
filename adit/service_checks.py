"""Check the services that an installation depends on, and say how to fix them.

Used by `adit.installation` for `adit doctor` and the page System status.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from kombu.utils.url import url_to_parts

from adit.nodes.receiving import amqp
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import parse_rules
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.profile import TextDetection
from adit_engine.pseudonymize.text_detection import detector

MIN_VERSIONS = {"PostgreSQL": 15, "RabbitMQ": 4, "Redis": 7}
MAX_CLOCK_DIFFERENCE_S = 2.0
"""Maximum difference: leases and windows depend on several clocks."""
TIMEOUT_S = 5.0
_DETECTOR_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class ServiceFinding:
    """The result of one check; `next_step` is empty if there is no problem."""

    subject: str
    next_step: str = ""


def check_services() -> Iterator[ServiceFinding]:
    """Check database, tables, clock, broker, cache and time zone.

    Changes nothing; takes some seconds at most.
    """
    database = _check_database()
    yield database
    if not database.next_step:
        yield _check_migrations()
        if not settings.EMBEDDED:
            yield _check_clock()
    yield _check_broker()
    if settings.REDIS_URL:
        yield _check_redis()
    yield _check_time_zone()
    if not database.next_step:
        yield _check_text_detection()


def _check_database() -> ServiceFinding:
    if settings.EMBEDDED:
        return _run_check("database (SQLite)", _check_sqlite)
    name = f"database (PostgreSQL at {_format_host_and_port(settings.DATABASE_URL, 5432)})"
    try:
        connection.ensure_connection()
        version = connection.cursor().connection.info.server_version // 10000
    except Error as error:
        said = str(error)
        if "password authentication failed" in said or "no password supplied" in said:
            return ServiceFinding(name, "It rejects the user or password of DATABASE_URL.")
        if "does not exist" in said:
            return ServiceFinding(
                name, "This database does not exist. Create it (docs/operate.md)."
            )
        return ServiceFinding(
            name, "No answer. Check whether PostgreSQL runs and whether DATABASE_URL is correct."
        )
    return _check_version("PostgreSQL", name, version)


def _check_sqlite() -> str:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        (mode,) = cursor.fetchone()
    return "" if mode == "wal" else "It has no write-ahead log. Move it to a local disk."


def _check_migrations() -> ServiceFinding:
    def look() -> str:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        command = "`adit up`" if settings.EMBEDDED else "`adit prepare`"
        return f"{len(missing)} migrations are missing. Run {command}." if missing else ""

    return _run_check("tables", look)


def _check_clock() -> ServiceFinding:
    def look() -> str:
        before = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (theirs,) = cursor.fetchone()
        half_way = (time.monotonic() - before) / 2
        apart = abs((timezone.now() - theirs).total_seconds() - half_way)
        return (
            f"It differs by {apart:.0f} s from the clock of the database. Use one time server for "
            "both."
            if apart > MAX_CLOCK_DIFFERENCE_S
            else ""
        )

    return _run_check("clock of this server", look)


def _check_broker() -> ServiceFinding:
    url = settings.BROKER_URL
    if not url.startswith("amqp"):
        what = f"broker folder {settings.BROKER_DIR}"
        there = settings.BROKER_DIR.is_dir()
        return ServiceFinding(what, "" if there else "It does not exist yet. `adit up` creates it.")
    name = f"broker (RabbitMQ at {_format_host_and_port(url, 5672)})"
    try:
        version = amqp.get_broker_version(url)
    except amqp.BrokerUnavailable as error:
        if str(error) in ("AccessRefused", "NotAllowed"):
            step = "It rejects the user, password or virtual host of ADIT_BROKER_URL."
        else:
            step = "No answer. Check whether RabbitMQ runs and whether ADIT_BROKER_URL is correct."
        return ServiceFinding(
            name,
            f"{step} Until this is fixed, work starts with a delay, and no image can be received "
            "by C-MOVE.",
        )
    return _check_version("RabbitMQ", name, int(version.partition(".")[0] or 0))


def _check_redis() -> ServiceFinding:
    name = f"cache (Redis at {_format_host_and_port(settings.REDIS_URL, 6379)})"
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        ) as client:
            version = str(client.info("server")["redis_version"])
    except redis.AuthenticationError:
        return ServiceFinding(name, "It rejects the password of ADIT_REDIS_URL.")
    except (redis.RedisError, OSError):
        return ServiceFinding(
            name,
            "No answer. Check whether Redis runs and whether ADIT_REDIS_URL is correct. ADIT "
            "works without Redis, but slower.",
        )
    if not redis_has_password():
        return ServiceFinding(name, "It has no password. Set one (requirepass).")
    return _check_version("Redis", name, int(version.partition(".")[0]))


def redis_has_password() -> bool:
    return bool(url_to_parts(settings.REDIS_URL)[4])


def _check_time_zone() -> ServiceFinding:
    what = f"time zone {settings.TIME_ZONE}"
    try:
        ZoneInfo(settings.TIME_ZONE)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ServiceFinding(
            what, "This time zone does not exist. Enter one such as Europe/Berlin."
        )
    return ServiceFinding(what)


def _check_text_detection() -> ServiceFinding:
    """Start the detector and look at one frame; about two seconds, and nothing if not installed."""
    subject = "text detection (extra ocr)"
    if not detector.is_installed():
        return _run_check(f"{subject}: not installed", _find_profiles_that_look)
    import numpy as np  # slow to import, and needed for this check only

    child = detector.TextDetector()
    child.deadline_s = _DETECTOR_DEADLINE_S
    try:
        child.find_text(np.random.default_rng(1).integers(0, 4095, (64, 64), np.uint16))
    except InstanceWithheld:
        return ServiceFinding(
            subject,
            "It is installed but does not work, so images that must be checked are withheld. Install "
            "requirements/ocr.txt again, and check that 500 MB of memory are free.",
        )
    finally:
        child.close()
    from adit_engine.pseudonymize.text_detection import tesseract  # needs the extra

    try:
        languages = tesseract.get_languages()
    except (OSError, subprocess.SubprocessError):
        return ServiceFinding(
            subject,
            "tesseract is installed but does not work, so images with text that is not read at once are "
            "withheld. Install the package tesseract-ocr again, or remove it.",
        )
    scripts = f", other scripts by tesseract ({', '.join(languages)})" if languages else ""
    return ServiceFinding(f"{subject}: works{scripts}")


def _find_profiles_that_look() -> str:
    # Without the projects themselves, which cannot be read if the master key is missing.
    looking = {
        str(profile)
        for profile in ProfileVersion.objects.filter(pk__in=Project.objects.values("profile"))
        if parse_rules(profile).text_detection is not TextDetection.OFF
    }
    if not looking:
        return ""
    return (
        f"Images that must be checked are withheld ({', '.join(sorted(looking))}). Install "
        "requirements/ocr.txt in the environment of all web and worker processes."
    )


def _run_check(subject: str, check: Callable[[], str]) -> ServiceFinding:
    try:
        return ServiceFinding(subject, check())
    except Error as error:
        return ServiceFinding(subject, f"The database does not answer ({type(error).__name__}).")


def _check_version(program: str, what: str, version: int) -> ServiceFinding:
    if version < MIN_VERSIONS[program]:
        return ServiceFinding(
            what, f"It is version {version}. ADIT needs {MIN_VERSIONS[program]} or newer."
        )
    return ServiceFinding(f"{what}, version {version}")


def _format_host_and_port(url: str, port: int) -> str:
    """Return host and port of a URL, without user and password."""
    _scheme, host, given, *_rest = url_to_parts(url)
    return f"{host}:{given or port}"
