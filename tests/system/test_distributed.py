"""ADIT on several machines with PostgreSQL, RabbitMQ and Redis, without a shared disk."""

import json
import os
import random
import secrets
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import images
import psycopg
import pytest
import redis
from cluster import Cluster, at_orthanc, cluster, needs_services, start_all
from conftest import DIRECTLY, SCREEN, sign_in
from lab.archive import Lying
from lab.counting_proxy import AssociationCounts, CountingProxy
from lab.lies import Site, holdings
from lab.wire import Wire
from orthanc import needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Browser
from test_moves import instances
from test_transfer import (
    DESTINATION,
    SOURCE,
    TransferSite,
    compare,
    order,
    run_transfer_site,
    wait_for_end,
)

from adit_engine.dicom_file import part10

pytestmark = [*needs_services, pytest.mark.timeout(900)]

TRANSFER_COMMANDS = str(Path(__file__).with_name("transfer_commands.py"))
MOVES = str(Path(__file__).with_name("moves.py"))
ENDED = {"success", "warning", "failure"}
KILLS = 4
SLOWLY_S = 0.1
"""Delay in seconds before each chunk of an answer, so that associations overlap."""
SENT_BYTES_S = 300_000


@pytest.fixture(scope="module")
def transfer_site(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Cluster, TransferSite]]:
    """Cluster with all processes, a source that supports only C-MOVE, and a destination."""
    folder = tmp_path_factory.mktemp("distributed")
    with (
        cluster(folder / "cluster") as one,
        running_orthanc("SOURCE", folder / "source", **at_orthanc(one)) as source,
        running_orthanc("RESEARCH", folder / "destination") as destination,
    ):
        for file in images.study() + images.long_study():
            source.put(file)
        nodes = {
            SOURCE: {**source.settings, "retrieve": "move"},
            DESTINATION: destination.settings,
        }
        run_transfer_site(one.data("web"), "make", json.dumps(nodes), one.told("web"))
        start_all(one)
        told = one.told("web")
        yield one, TransferSite(one.url, one.data("web"), source, destination, None, told)


@needs_orthanc
@needs_chromium
def test_an_order_by_page_is_transferred_completely_by_the_cluster(
    transfer_site: tuple[Cluster, TransferSite], browser: Browser
) -> None:
    one, way = transfer_site
    context = browser.new_context(viewport=SCREEN)
    try:
        page = context.new_page()
        sign_in(page, way.url, "coordinator")
        order(page, way.url, "LUNG-JS", images.PATIENT_ID)
        page.click("#start")
        job = wait_for_end(page, way.url, seconds=120)
    finally:
        context.close()
    found = compare(way, job, "LUNG-JS", withheld={f"{images.STUDY}.99.1"})
    assert len(found) == 36
    assert not list(one.folder.glob("worker-*/spool/*/*")), (
        "workers must get images through the broker"
    )
    assert not list((one.data("receiver") / "spool").glob("[0-9a-f]*/*")), (
        "images remain in the spool"
    )
    for text in images.IDENTIFYING:
        assert text not in one.log()


@needs_orthanc
def test_a_job_ordered_while_the_broker_is_down_runs_after_its_restart(
    transfer_site: tuple[Cluster, TransferSite],
) -> None:
    one, way = transfer_site
    broker = one.services["rabbitmq"]
    before = way.destination.count()
    broker.kill()
    begun = time.monotonic()
    ordered = json.loads(
        one.run("web", TRANSFER_COMMANDS, "order", json.dumps([images.PATIENT_ID, "LUNG-PLAIN"]))
    )
    assert time.monotonic() - begun < 100
    assert job_state(one, ordered["job"]) == "pending"
    broker.start()
    one.wait_for(lambda: job_state(one, ordered["job"]) in ENDED, "the job", 180)
    compare(way, ordered["job"], "LUNG-PLAIN", withheld={f"{images.STUDY}.99.1"})
    assert way.destination.count() == before + 36


def flush(one: Cluster) -> None:
    with redis.Redis.from_url(one.services["redis"].url) as client:
        client.flushall()


def kill_broker(one: Cluster) -> None:
    """Kill the broker and wait until a worker logs it with its job and task."""
    one.services["rabbitmq"].kill()
    one.wait_for(lambda: any(map(is_about_broker, lines(one))), "a word of the broker", 180)


def is_about_broker(line: dict[str, Any]) -> bool:
    return {"job", "task", "attempt"} <= line.keys() and "broker is unavailable" in line["event"]


def lines(one: Cluster) -> list[dict[str, Any]]:
    """Lines of all logs except those of the web server and incomplete last lines."""
    found = []
    for path in one.folder.glob("*.log"):
        for line in path.read_text().splitlines(keepends=True):
            if line.strip() and line.endswith("\n") and not line.startswith(("[ERROR]", "[WARN")):
                found.append(json.loads(line))
    return found


HARMS: dict[str, tuple[str, Callable[[Cluster], None], Callable[[Cluster], None]]] = {
    "the broker is killed": (
        "LUNG-KILL",
        kill_broker,
        lambda one: one.services["rabbitmq"].start(),
    ),
    "the database is killed": (
        "LUNG-BASE",
        lambda one: one.services["postgresql"].kill(),
        lambda one: one.services["postgresql"].start(),
    ),
    "Redis is flushed": ("LUNG-FLUSH", flush, lambda one: None),
}


@needs_orthanc
@pytest.mark.parametrize("harm", HARMS)
def test_a_service_failure_during_a_transfer_loses_and_duplicates_nothing(
    harm: str, transfer_site: tuple[Cluster, TransferSite]
) -> None:
    one, way = transfer_site
    project, hurt, mend = HARMS[harm]
    before = way.destination.count()
    with slowly(one), slowly_sent(one, way):
        words = json.dumps([images.LONG_ID, project])
        ordered = json.loads(one.run("web", TRANSFER_COMMANDS, "order", words))
        one.wait_for(lambda: way.destination.count() > before + 10, "the first images", 240)
        hurt(one)
        assert way.destination.count() < before + images.LONG, (
            "the transfer finished before the failure"
        )
        mend(one)
        one.wait_for(lambda: job_state(one, ordered["job"]) in ENDED, "the job", 400)
    assert len(compare(way, ordered["job"], project)) == images.LONG
    assert way.destination.count() == before + images.LONG


@contextmanager
def slowly(one: Cluster) -> Iterator[None]:
    """Limit the rate, so that the transfer can be interrupted on any machine."""
    one.run("web", TRANSFER_COMMANDS, "pace", "200")
    try:
        yield
    finally:
        one.run("web", TRANSFER_COMMANDS, "pace", "0")


@contextmanager
def slowly_sent(one: Cluster, way: TransferSite) -> Iterator[None]:
    """Slow down the C-MOVE of the source, to which our rate limit does not apply."""
    with Wire(one.receiver_port, 0, "rate", amount=SENT_BYTES_S, forth=True) as wire:
        way.source.sends_to(wire.port)
        try:
            yield
        finally:
            way.source.sends_to(one.receiver_port)


@needs_orthanc
@pytest.mark.chaos
def test_killing_receiver_and_workers_during_the_handover_loses_nothing(
    transfer_site: tuple[Cluster, TransferSite],
) -> None:
    """Images handed over before SIGKILL are recovered or fetched again."""
    one, way = transfer_site
    seed = int(os.environ.get("ADIT_LAB_SEED", "0")) or secrets.randbelow(2**31)
    rng, before = random.Random(seed), way.destination.count()
    words = json.dumps([images.LONG_ID, "LUNG-SHOT"])
    with slowly(one):
        ordered = json.loads(one.run("web", TRANSFER_COMMANDS, "order", words))
        one.wait_for(lambda: way.destination.count() > before, "the first images", 240)
        for number in range(KILLS):
            victims = one.names("receiver") if number % 2 else one.names("worker")
            for name in victims:
                one.kill(name)
            if number == 0:
                told = "too late: nothing was tested"
                assert way.destination.count() < before + images.LONG, told
            one.wait_for(partial(all_run, one, victims), f"the next start, seed {seed}", 180)
            time.sleep(rng.uniform(0.2, 2.0))
    one.wait_for(lambda: job_state(one, ordered["job"]) in ENDED, f"the job, seed {seed}", 400)
    assert len(compare(way, ordered["job"], "LUNG-SHOT")) == images.LONG


def all_run(one: Cluster, names: list[str]) -> bool:
    return all(map(one.runs, names))


@needs_orthanc
@pytest.mark.parametrize(
    ("service", "parts"),
    [("postgresql", {"database", "tables"}), ("redis", {"cache"}), ("rabbitmq", {"broker"})],
)
def test_readyz_reports_an_unavailable_service_and_recovers(
    transfer_site: tuple[Cluster, TransferSite], service: str, parts: set[str]
) -> None:
    one, _ = transfer_site
    one.wait_for(lambda: asked(f"{one.url}/readyz")[0] == 200, "readiness", 60)
    one.services[service].kill()
    try:
        status, body = asked(f"{one.url}/readyz")
        assert status == 503
        assert {part for part, word in json.loads(body).items() if word != "ok"} == parts
        assert asked(f"{one.url}/healthz")[0] == 200, "the web process must be alive"
        assert asked(f"{one.url}/accounts/login/")[0] == 200, "the sign-in page must work"
    finally:
        one.services[service].start()
    one.wait_for(lambda: asked(f"{one.url}/readyz")[0] == 200, "readiness", 60)


def asked(url: str) -> tuple[int, str]:
    try:
        with DIRECTLY.open(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@needs_orthanc
def test_logs_are_json_and_contain_no_patient_data(
    transfer_site: tuple[Cluster, TransferSite],
) -> None:
    """Uses the logs of all previous tests of this module."""
    one, _ = transfer_site
    assert all({"event", "level", "timestamp", "logger"} <= line.keys() for line in lines(one))
    for text in images.IDENTIFYING:
        assert text not in one.log()
        assert json.dumps(text)[1:-1] not in one.log()


def job_state(one: Cluster, pk: int) -> str:
    with closing(psycopg.connect(one.services["postgresql"].url)) as base:
        row = base.execute("select state from jobs_job where id = %s", [pk]).fetchone()
    assert row is not None
    return str(row[0])


def test_workers_on_several_machines_share_the_association_limit(tmp_path: Path) -> None:
    """Four workers, limit of two associations, measured in front of the archive."""
    held, counts = instances(12), AssociationCounts()
    shelf, scratch = tmp_path / "shelf", tmp_path / "scratch"
    for path in (shelf, scratch):
        path.mkdir()
    for instance in held:
        (shelf / f"{instance.instance_uid}.dcm").write_bytes(b"".join(part10.file_parts(instance)))
    with (
        cluster(tmp_path / "cluster", workers=4) as one,
        Lying(Site("LAB", holdings(shelf), {}), scratch=scratch) as archive,
        CountingProxy(archive.port, counts, SLOWLY_S) as counting_proxy,
    ):
        node = {"host": "127.0.0.1", "port": counting_proxy.port, "called_ae_title": "LAB"}
        made = {**node, "retrieve": "get", "limit": 2}
        one.run("web", MOVES, "make", json.dumps(made))
        studies = sorted({instance.in_header.ref.study_uid for instance in held})
        pairs = [[study, project] for study in studies for project in ("LUNG", "HEART")]
        # Place orders before the workers start: orders search the source under another limit.
        one.run("web", MOVES, "order", json.dumps({"pairs": pairs, "patient": images.PATIENT_ID}))
        start_all(one, workers=4)
        told: list[dict[str, object]] = []

        def all_ended() -> bool:
            told[:] = json.loads(one.run("web", MOVES, "told"))
            return {str(job["state"]) for job in told} <= ENDED

        one.wait_for(all_ended, "all jobs", 240)
    assert [job["state"] for job in told] == ["success"] * len(pairs)
    assert len(counts.spans) > 2
    # Echoes have a limit of their own.
    assert max(span.beside for span in counts.spans if not span.is_echo) == 2
