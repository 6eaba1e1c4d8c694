"""Webhooks: signed calls at the end of jobs, at least once, and to no address that is not allowed."""

import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from lab.api import ApiClient, make_api_client
from lab.certificates import Authority
from lab.jobs import PATIENT
from lab.ports import free_port
from lab.web_peers import CLOSE, RESET, Liar, Request, Said, answer, chunk, head
from pytest_django import Settings

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS
from adit.api_tokens.tokens import Scope
from adit.audit.models import AuditEvent
from adit.jobs import states
from adit.jobs.models import Job, JobState
from adit.nodes.models import Node
from adit.notifications.models import Notification
from adit.projects.models import Project
from adit.webhooks import http, sending, services
from adit.webhooks.models import Webhook, WebhookDelivery, WebhookEvent
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db
LOOPBACK = [ip_network("127.0.0.0/8")]
ALL_EVENTS = tuple(WebhookEvent.values)
DOCS = Path(__file__).parents[3] / "docs" / "api.md"
AsUser = Callable[[User | None], Client]


@pytest.fixture(autouse=True)
def allowed(settings: Settings) -> None:
    settings.WEBHOOK_NETWORKS = LOOPBACK


class Receiver:
    """A web server on this machine; `says` is what it answers, and can be changed."""

    def __init__(self) -> None:
        self.says: Iterable[Said] = answer(204)
        self.server = Liar(lambda request: list(self.says))

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/hook?key=4711"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    with made.server:
        yield made


@pytest.fixture
def add(coordinator: User, receiver: Receiver) -> Callable[..., Webhook]:
    """Add a webhook: add(), add(other_user, project=…, url=…)."""

    def make(user: User = coordinator, **values: Any) -> Webhook:
        given = {"name": "Server", "url": receiver.url, "events": ALL_EVENTS, "project": None}
        return services.create_webhook(user, **{**given, **values})[0]

    return make


@pytest.fixture
def finish(make_job: Callable[..., Job], coordinator: User) -> Callable[..., Job]:
    """Make a job and let it end."""

    def end(owner: User = coordinator, state: JobState = JobState.SUCCESS, **values: Any) -> Job:
        job = make_job(owner, state=JobState.IN_PROGRESS, title=f"of {PATIENT}", **values)
        states.move_row(job, state)
        return job

    return end


def travel(**time: float) -> Any:
    return time_machine.travel(timezone.now() + timedelta(**time), tick=True)


# What is sent --------------------------------------------------------------------------------------


def test_the_end_of_a_job_is_sent_signed_and_without_patient_data(
    coordinator: User,
    receiver: Receiver,
    make_item: Callable[..., Any],
    finish: Callable[..., Job],
    make_job: Callable[..., Job],
) -> None:
    webhook, secret = services.create_webhook(coordinator, "Server", receiver.url, ALL_EVENTS, None)
    job = make_job(coordinator, state=JobState.IN_PROGRESS, title=f"of {PATIENT}")
    make_item(job.tasks.get(), expected=5, delivered=3, withheld=2)
    states.move_row(job, JobState.WARNING)

    assert sending.send_due() == 1
    assert sending.send_due() == 0

    (request,) = receiver.requests
    event = json.loads(request.body)
    timestamp = request.headers["adit-timestamp"]
    signed = timestamp.encode() + b"." + request.body
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert request.headers["adit-signature"] == f"sha256={signature}"
    assert abs(int(timestamp) - timezone.now().timestamp()) < 60
    assert (request.method, request.path) == ("POST", "/hook?key=4711")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["adit-event"] == event["event"] == "job.ended"
    assert request.headers["adit-event-id"] == event["event_id"]
    assert abs(datetime.fromisoformat(event["time"]) - timezone.now()) < timedelta(minutes=1)
    assert set(event) == {"event", "event_id", "time", "job"}
    assert event["job"] == {
        "id": job.pk,
        "kind": "selective",
        "state": "warning",
        "expected": 5,
        "delivered": 3,
        "withheld": 2,
        "skipped": 0,
        "failed": 0,
    }
    assert PATIENT not in str(request)


def test_only_the_chosen_events_of_the_chosen_jobs_are_sent(
    add: Callable[..., Webhook],
    finish: Callable[..., Job],
    make_job: Callable[..., Job],
    make_user: Callable[..., User],
    make_project: Callable[..., Project],
    coordinator: User,
) -> None:
    lung, colleague = make_project("LUNG"), make_user("nora", COORDINATORS)
    own, of_project = add(), add(colleague, project=lung, events=["job.ended"])
    waits = add(events=["job.waiting_for_start"])

    job = make_job(coordinator, state=JobState.IN_PROGRESS, project=lung)
    states.move_row(job, JobState.WAITING_FOR_OWNER)
    states.move_row(job, JobState.IN_PROGRESS)
    states.move_row(job, JobState.HELD)
    states.move_row(job, JobState.SUCCESS)
    finish(colleague)
    outside = finish(coordinator)

    def events(webhook: Webhook) -> list[tuple[str, int | None]]:
        return list(webhook.deliveries.order_by("pk").values_list("event", "job"))

    names = ("job.waiting_for_start", "job.waiting_for_decision", "job.ended")
    assert events(own) == [*((name, job.pk) for name in names), ("job.ended", outside.pk)]
    assert events(of_project) == [("job.ended", job.pk)]
    assert events(waits) == [("job.waiting_for_start", job.pk)]


def test_an_event_that_is_rolled_back_is_not_sent(
    add: Callable[..., Webhook], make_job: Callable[..., Job], coordinator: User
) -> None:
    add()
    job = make_job(coordinator, state=JobState.IN_PROGRESS)

    with transaction.atomic():
        states.move_row(job, JobState.FAILURE)
        transaction.set_rollback(True)

    assert not WebhookDelivery.objects.exists()


# Failures ------------------------------------------------------------------------------------------


def test_an_event_is_sent_again_after_growing_pauses_until_the_receiver_accepts_it(
    add: Callable[..., Webhook], finish: Callable[..., Job], receiver: Receiver
) -> None:
    webhook, other = add(), add(name="Other")
    receiver.says = answer(500)
    finish()
    pauses = []

    for at in range(0, 3000, 40):
        with travel(seconds=at):
            before = len(receiver.requests)
            sending.send_due()
            pauses += [at] * (len(receiver.requests) > before)
    receiver.says = answer(200)
    with travel(hours=3):
        assert sending.send_due() == 2

    gaps = [after - before for before, after in pairwise(pauses)]
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (40, 1800)
    ids = {request.headers["adit-event-id"] for request in receiver.requests}
    assert len(ids) == 2, "one for each webhook, the same in all attempts"
    for one in (webhook, other):
        one.refresh_from_db()
        assert (one.failures, one.failing_since, one.not_before) == (0, None, None)


def test_a_receiver_that_is_down_delays_no_other_one(
    add: Callable[..., Webhook], finish: Callable[..., Job], receiver: Receiver
) -> None:
    port = free_port()
    add(url=f"http://127.0.0.1:{port}/")
    for _ in range(30):
        finish()
    add(name="works")
    finish()

    assert sending.send_due() == 1

    assert len(receiver.requests) == 1
    assert WebhookDelivery.objects.filter(attempt__gt=0).count() == 2, "one attempt, then a pause"


def test_after_a_day_an_event_is_given_up_and_after_five_the_webhook_is_disabled(
    add: Callable[..., Webhook],
    finish: Callable[..., Job],
    receiver: Receiver,
    coordinator: User,
) -> None:
    webhook = add()
    receiver.says = answer(404)

    def told() -> list[str]:
        rows = Notification.objects.filter(user=coordinator, kind="webhook")
        return [row.message.code for row in rows.order_by("pk")]

    for day in range(7):
        with travel(days=day):
            finish()
            sending.send_due()
            if day == 0:
                assert not told()
    receiver.says = answer(200)
    with travel(days=8):
        sending.send_due()
    webhook.refresh_from_db()

    assert told() == ["notification.webhook-failing", "notification.webhook-disabled"]
    assert webhook.disabled_at is not None
    assert not webhook.deliveries.filter(sent_at=None, given_up=False).exists()
    services.enable_webhook(webhook)
    finish()
    assert sending.send_due() == 1


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (answer(302, Location="http://127.0.0.1:{other}/"), "webhook.redirect"),
        (answer(301), "webhook.redirect"),
        (answer(503, Retry_After="1"), "webhook.refused"),
        (answer(404), "webhook.refused"),
        ([CLOSE], "webhook.connection-lost"),
        ([RESET], "webhook.connection-lost"),
        ([b"220 mail.example.org ESMTP\r\n", 9.0], "webhook.connection-lost"),
        ([9.0], "webhook.timed-out"),
        ([b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n", 0.1] * 60], "webhook.timed-out"),
        ([b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000], "webhook.connection-lost"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_is_no_success_is_a_failure_in_plain_words(
    says: list[Said],
    code: str,
    add: Callable[..., Webhook],
    finish: Callable[..., Job],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "TOTAL_S", 1)
    add()
    finish()
    with Liar(lambda request: answer(200)) as other:
        receiver.says = [
            one.replace(b"{other}", str(other.port).encode()) if isinstance(one, bytes) else one
            for one in says
        ]

        assert sending.send_due() == 0

        assert other.connections == 0
    assert len(receiver.requests) == 1
    delivery = WebhookDelivery.objects.get()
    assert delivery.message is not None
    assert delivery.message.code == code
    assert "127.0.0.1" in str(delivery.message)
    assert "PACS" not in str(delivery.message)


def test_a_huge_answer_is_not_read_and_not_kept(
    add: Callable[..., Webhook], finish: Callable[..., Job], receiver: Receiver
) -> None:
    add()
    finish()
    secret_text = b"Mustermann " * 6000
    receiver.says = [head(200, "text/plain"), *[chunk(secret_text)] * 500]

    assert sending.send_due() == 1

    delivery = WebhookDelivery.objects.values().get()
    assert delivery["status"] == 200
    assert "Mustermann" not in str(delivery)


def test_a_process_that_is_killed_while_it_sends_loses_no_event(
    add: Callable[..., Webhook],
    finish: Callable[..., Job],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add()
    finish()
    post = http.post

    def post_and_die(*arguments: Any) -> int:
        post(*arguments)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(http, "post", post_and_die)
        with pytest.raises(SystemExit):
            sending.send_due()
    assert sending.send_due() == 0, "the lease of the killed process"
    with travel(minutes=3):
        assert sending.send_due() == 1

    first, second = receiver.requests
    assert first.headers["adit-event-id"] == second.headers["adit-event-id"]
    assert first.body == second.body


def test_nothing_is_sent_for_a_deactivated_user_or_a_former_member(
    add: Callable[..., Webhook],
    finish: Callable[..., Job],
    receiver: Receiver,
    make_user: Callable[..., User],
    make_project: Callable[..., Project],
    coordinator: User,
) -> None:
    lung, nora = make_project("LUNG"), make_user("nora", COORDINATORS)
    add()
    add(nora, project=lung)
    finish(project=lung)
    assert WebhookDelivery.objects.count() == 2
    User.objects.filter(pk=coordinator.pk).update(is_active=False)
    nora.groups.clear()

    assert sending.send_due() == 0
    finish(project=lung)

    assert not receiver.requests
    assert WebhookDelivery.objects.filter(given_up=True).count() == 2
    assert WebhookDelivery.objects.count() == 2


# Addresses -----------------------------------------------------------------------------------------

NOT_PUBLIC = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"),
    *("0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a01:203", "2002:7f00:1::", "2001:db8::1"),
)


@pytest.mark.parametrize("ip", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_refused(
    ip: str, settings: Settings, coordinator: User
) -> None:
    settings.WEBHOOK_NETWORKS = []
    host = f"[{ip}]" if ":" in ip else ip

    with pytest.raises(InvalidInput) as refused:
        services.create_webhook(coordinator, "a", f"https://{host}/", ALL_EVENTS, None)

    assert refused.value.message.code == "webhook.target-not-allowed"


def test_public_addresses_need_https_and_allowed_networks_do_not(settings: Settings) -> None:
    settings.WEBHOOK_NETWORKS = [ip_network("10.1.0.0/16"), ip_network("169.254.0.0/16")]

    assert not http.is_allowed_address("169.254.169.254", "https")
    assert http.is_allowed_address("8.8.8.8", "https")
    assert http.is_allowed_address("2a00:1450::1", "https")
    assert not http.is_allowed_address("8.8.8.8", "http")
    assert http.is_allowed_address("10.1.2.3", "http")
    assert http.is_allowed_address("::ffff:10.1.2.3", "http")
    assert not http.is_allowed_address("10.2.2.3", "https")


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org", "ftp://example.org/", "https://", "https:///path", "javascript:alert"),
        *("https://example.org/#part", "https://example.org:99999/", "https://exa mple.org/"),
        "https://example.org/\r\nHost: other",
        "https://example.org/ü",
        "https://xn--a/",
        "https://user:password@example.org/",
        f"https://example.org/{'a' * 500}",
    ],
)
def test_addresses_that_are_no_web_address_are_refused(url: str, coordinator: User) -> None:
    with pytest.raises(InvalidInput):
        services.create_webhook(coordinator, "a", url, ALL_EVENTS, None)


def test_without_allowed_networks_https_is_required(settings: Settings, coordinator: User) -> None:
    settings.WEBHOOK_NETWORKS = []

    with pytest.raises(InvalidInput) as refused:
        services.create_webhook(coordinator, "a", "http://example.org/", ALL_EVENTS, None)

    assert refused.value.message.code == "webhook.https-needed"


def test_a_host_name_is_resolved_once_and_only_allowed_addresses_are_called(
    settings: Settings,
    add: Callable[..., Webhook],
    finish: Callable[..., Job],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name service first gives an allowed address, later another one (DNS rebinding)."""
    settings.WEBHOOK_NETWORKS = [ip_network("127.0.0.2/32")]
    given: list[list[str]] = []

    def getaddrinfo(host: Any, port: int, *rest: Any, **more: Any) -> list[Any]:
        if more.get("flags"):
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in given.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    add(url=f"http://hooks.example.org:{receiver.server.port}/")
    finish()
    codes = []
    for answers in (["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2"]):
        given[:] = [answers, ["127.0.0.1"], ["127.0.0.1"]]
        Webhook.objects.update(not_before=None)
        sending.send_due()
        assert len(given) == 2, "resolved once"
        message = WebhookDelivery.objects.get().message
        codes.append(message.code if message else "")

    assert codes == ["webhook.target-not-allowed", "webhook.unreachable", "webhook.unreachable"]
    assert receiver.server.connections == 0


def test_the_certificate_of_the_receiver_is_checked(
    settings: Settings, add: Callable[..., Webhook], finish: Callable[..., Job], tmp_path: Path
) -> None:
    authority = Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue().files(tmp_path, "server"))
    (tmp_path / "ca.pem").write_text(authority.certificate)
    with Liar(lambda request: answer(200), tls=context) as server:
        webhook = add(url=f"https://localhost:{server.port}/")
        settings.WEBHOOK_NETWORKS = [*LOOPBACK, ip_network("::1/128")]
        finish()
        assert sending.send_due() == 0
        delivery = WebhookDelivery.objects.get()
        settings.WEBHOOK_CA_FILE = str(tmp_path / "ca.pem")
        services.enable_webhook(webhook)
        assert sending.send_due() == 1

    assert delivery.message is not None
    assert delivery.message.code == "webhook.no-trusted-tls"


# The page ------------------------------------------------------------------------------------------


def test_a_person_adds_tests_and_deletes_a_webhook(
    as_user: AsUser, coordinator: User, receiver: Receiver
) -> None:
    client = as_user(coordinator)
    typed = {"name": "Server", "url": receiver.url, "events": ["job.ended"], "project": ""}

    assert client.post("/accounts/webhooks/new/", {**typed, "events": []}).status_code == 422
    assert client.post("/accounts/webhooks/new/", {**typed, "url": "x"}).status_code == 422
    page = client.post("/accounts/webhooks/new/", typed).content.decode()
    webhook = Webhook.objects.get()
    own = f"/accounts/webhooks/{webhook.pk}/"
    client.post(f"{own}test/")
    client.post(f"{own}test/")
    sending.send_due()
    log = client.get(own).content.decode()
    client.post(f"{own}delete/")

    assert webhook.secret in page
    assert webhook.secret not in log
    assert "4711" not in client.get("/accounts/webhooks/").content.decode()
    assert [request.headers["adit-event"] for request in receiver.requests] == ["test"]
    assert "delivered" in log
    assert not Webhook.objects.exists()
    events = AuditEvent.objects.filter(action__startswith="webhook.")
    assert [event.action for event in events.order_by("pk")] == [
        "webhook.created",
        "webhook.deleted",
    ]
    assert not any(webhook.secret in str(event.details) for event in events)
    assert not any("4711" in str(event.details) for event in events)


def test_secret_and_address_are_encrypted_in_the_database(
    add: Callable[..., Webhook], receiver: Receiver
) -> None:
    webhook = add()

    with connection.cursor() as cursor:
        cursor.execute("SELECT url, secret FROM webhooks_webhook")
        stored = b"".join(bytes(value) for value in cursor.fetchone())

    assert webhook.secret.encode() not in stored
    assert b"127.0.0.1" not in stored


def test_a_failed_test_does_not_pause_the_webhook(
    add: Callable[..., Webhook], receiver: Receiver, as_user: AsUser, coordinator: User
) -> None:
    webhook = add()
    receiver.says = answer(500)
    services.queue_test(webhook)
    sending.send_due()
    webhook.refresh_from_db()

    assert webhook.not_before is None
    assert "status 500" in as_user(coordinator).get(webhook.get_absolute_url()).content.decode()


def test_the_log_keeps_the_last_requests_only(
    add: Callable[..., Webhook],
    finish: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "KEPT_DELIVERIES", 2)
    webhook = add()
    for _ in range(4):
        finish()

    assert sending.send_due() == 4
    assert webhook.deliveries.count() == 2


# The API -------------------------------------------------------------------------------------------


@pytest.fixture
def api(coordinator: User) -> ApiClient:
    return make_api_client(coordinator)


def test_a_program_adds_tests_and_deletes_a_webhook(
    api: ApiClient, receiver: Receiver, make_project: Callable[..., Project]
) -> None:
    make_project("LUNG")
    order = {"name": "a", "url": receiver.url, "events": ["job.ended"], "project": "LUNG"}

    made = api.post("webhooks", order, Idempotency_Key="a")
    again = api.post("webhooks", order, Idempotency_Key="a")
    address = made["Location"].removeprefix("/api/v1/")
    tested = api.post(f"{address}/test")
    sending.send_due()
    log = api.get(f"{address}/deliveries").json()["results"]
    enabled = api.post(f"{address}/enable")
    listed = api.get("webhooks").json()["results"]

    assert (made.status_code, again.json()) == (201, made.json())
    assert (tested.status_code, enabled.status_code) == (202, 200)
    assert [(one["event"], one["state"], one["status"]) for one in log] == [
        ("test", "delivered", 204)
    ]
    assert made.json()["secret"]
    assert listed == [{name: made.json()[name] for name in made.json() if name != "secret"}]
    assert listed[0]["project"] == "LUNG"
    assert api.delete(address).status_code == 204
    assert api.get(address).status_code == 404


def test_the_api_refuses_what_the_pages_refuse(
    api: ApiClient,
    receiver: Receiver,
    coordinator: User,
    source: Node,
    make_project: Callable[..., Project],
    add: Callable[..., Webhook],
    stranger: User,
) -> None:
    make_project("HEART", members=())
    order = {"name": "a", "url": receiver.url, "events": ["job.ended"]}
    limited = make_api_client(coordinator, nodes=[source])
    reader = make_api_client(coordinator, scopes=[Scope.JOBS_READ])
    other = add()

    refusals = {
        api.post("webhooks", {**order, "project": "HEART"}): (400, "webhook.not-a-member"),
        api.post("webhooks", {**order, "events": ["job.x"]}): (400, "api.invalid"),
        api.post("webhooks", {**order, "url": "http://10.9.9.9/"}): (
            422,
            "webhook.target-not-allowed",
        ),
        limited.post("webhooks", order): (403, "webhook.token-with-nodes"),
        limited.get("webhooks"): (403, "webhook.token-with-nodes"),
        reader.post("webhooks", order): (403, "api-token.scope-not-granted"),
        make_api_client(stranger).get(f"webhooks/{other.pk}"): (404, "api.not-found"),
    }
    for refused, expected in refusals.items():
        assert (refused.status_code, refused.json()["code"]) == expected
    for _ in range(9):
        assert api.post("webhooks", order).status_code == 201
    assert api.post("webhooks", order).json()["code"] == "webhook.too-many"


# The receiver of the documentation -----------------------------------------------------------------


def test_the_receiver_in_the_documentation_accepts_each_genuine_event_once(
    coordinator: User, finish: Callable[..., Job], tmp_path: Path
) -> None:
    found = re.search(r"^```py\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    script = tmp_path / "receiver.py"
    script.write_text(found[1])
    webhook, secret = services.create_webhook(
        coordinator, "docs", "http://127.0.0.1:1/", ALL_EVENTS, None
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "ADIT_WEBHOOK_SECRET": secret, "PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]
        webhook.url = f"http://127.0.0.1:{port}/"
        webhook.save()
        job = finish()
        assert sending.send_due() == 1
        WebhookDelivery.objects.update(sent_at=None)  # as after a kill
        assert sending.send_due() == 1
        webhook.secret = "another secret"
        webhook.save()
        refused = finish()
        assert sending.send_due() == 0
        webhook.secret = secret
        webhook.save()
        services.enable_webhook(webhook)
        assert sending.send_due() == 1
    finally:
        process.kill()
        output = process.communicate()[0]

    lines = output.splitlines()
    assert len(lines) == 2
    assert f"'id': {job.pk}" in lines[0]
    assert f"'id': {refused.pk}" in lines[1]
