"""What nobody gets through the API: with expired, revoked or narrow tokens, and with wrong input."""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.utils import timezone
from lab.api import ApiClient, make_api_client
from lab.jobs import PATIENT, put_study
from lab.routes import all_patterns

from adit.accounts.models import User
from adit.api.models import IdempotentRequest
from adit.api_tokens import tokens
from adit.api_tokens.models import ApiToken
from adit.audit.models import AuditEvent
from adit.blocklist.blocking import block_patient
from adit.jobs.models import Job, JobState
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db
PUBLIC = {"api/v1/schema", "api/v1/docs"}
METHODS = ("GET", "POST", "DELETE")
NEEDS_NO_SCOPE = {"me", "tokens", "tokens/1", "nodes", "nodes/1", "profiles", "profiles/1"}
"""They tell about the caller, and what the caller may use."""


def addresses() -> list[str]:
    """The address of each route of the API, with an ID of 1."""
    found = []
    for pattern, _name in all_patterns():
        if pattern.startswith("api/v1/") and pattern not in PUBLIC:
            address = re.sub(r"<int:\w+>", "1", pattern.removeprefix("api/v1/"))
            address = re.sub(r"<str:form>", "csv", address)
            found.append(re.sub(r"<str:\w+>", "LUNG", address))
    return found


def statuses(text: str) -> set[int]:
    """Ask each route by each method, and return what the answers were."""
    client = Client()
    found = set()
    for address in addresses():
        for method in METHODS:
            answer = client.generic(
                method,
                f"/api/v1/{address}",
                b"{}",
                content_type="application/json",
                headers={"Authorization": f"Token {text}"},
            )
            assert answer["Content-Type"] == "application/problem+json", address
            found.add(answer.status_code)
    return found


def test_an_ended_token_opens_no_route(api: ApiClient, coordinator: User) -> None:
    with time_machine.travel(timezone.now() + timedelta(days=8), tick=True):
        expired = statuses(api.token)
    tokens.revoke_token(coordinator, ApiToken.objects.get())
    revoked = statuses(api.token)
    other = make_api_client(coordinator)
    User.objects.filter(pk=coordinator.pk).update(is_active=False)
    deactivated = statuses(other.token)

    assert expired == revoked == deactivated == {401}


def test_a_token_without_scopes_reads_only_about_its_user(api: ApiClient) -> None:
    """No route may forget to name its scopes."""
    ApiToken.objects.update(scopes=[])
    headers = {"Authorization": f"Token {api.token}"}

    for address in addresses():
        if address in NEEDS_NO_SCOPE or address.startswith("projects"):
            continue
        answers = {
            method: Client().generic(
                method, f"/api/v1/{address}", b"{}", "application/json", headers=headers
            )
            for method in METHODS
        }
        for method, answer in answers.items():
            assert answer.status_code in (403, 405), f"{method} {address}: {answer.status_code}"


def cursor(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "=", "a" * 10_000, "☃", "%00", cursor("-1"), cursor("1 OR 1=1"), cursor("１")),
        *(cursor("9" * 30), cursor("2147483648"), cursor("1e3"), cursor("\0"), cursor(" 1")),
    ],
)
def test_a_changed_cursor_is_refused(text: str, api: ApiClient) -> None:
    for address in ("jobs", "tokens", "nodes", "webhooks"):
        answer = api.client.get(
            f"/api/v1/{address}",
            {"cursor": text},
            headers={"Authorization": f"Token {api.token}"},
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "api.invalid-cursor")


def test_a_cursor_of_another_person_shows_only_own_rows(
    api: ApiClient, make_job: Callable[..., Job], coordinator: User, root: User
) -> None:
    own, _foreign = make_job(coordinator), [make_job(root) for _number in range(3)]
    highest = cursor(str(2**31 - 1))

    found = api.get(f"jobs?cursor={highest}").json()["results"]

    assert [job["id"] for job in found] == [own.pk]


@pytest.mark.parametrize(
    "address",
    [
        *("jobs/%31%00", "jobs/١", "jobs/-1", "jobs/1%2f..%2f..%2ftokens", "jobs/1;a=b", "jobs/0"),
        *(
            "projects/%ff%fe",
            "projects/%00",
            "projects/☃",
            "projects/%e2%80%ae",
            "projects/a%0d%0ab",
        ),
        *(
            f"projects/{'a' * 5000}",
            "jobs/1/actions/%0d%0aX: y",
            "jobs/1/result.%2e%2e",
            "tokens/9e9",
        ),
        *("jobs/9223372036854775808", "nodes/2147483648", "webhooks/9223372036854775807/test"),
    ],
)
def test_an_odd_id_is_not_found(address: str, api: ApiClient) -> None:
    for answer in (api.get(address), api.post(address)):
        assert answer.status_code in (404, 405), answer.content
        assert "X" not in answer.headers


@pytest.mark.parametrize(
    "address",
    [
        *("v1/jobs?text=%00", "v1/jobs?project=a%00", "v1/jobs?kind=%00", "v1/jobs?since=%00"),
        "dicom-web/%00/qidors/studies",
        "dicom-web/PACS1/wadors/studies/1.2%00",
        "dicom-web/PACS1/retrievals/%00",
        "dicom-web/PACS1/wadors/studies/1.2?pseudonym=a&trial_protocol_id=%00",
        "dicom-web/PACS1/qidors/studies?PatientID=%00",
    ],
)
def test_a_nul_character_in_an_address_is_refused(
    address: str, api: ApiClient, source: Node
) -> None:
    """PostgreSQL fails at it."""
    answer = api.get(f"http://testserver/api/{address}")

    assert answer.status_code == (400 if "?" in address else 404)
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"title": "a\r\nSet-Cookie: a=b"},
        {"title": "\u202e Lung"},
        {"title": "a" * 101},
        {"studies": "1.2.3"},
        {"studies": {"0": {}}},
        {"studies": [None]},
        {"studies": [{"node": True, "study_uid": "1.2"}]},
        {"studies": [{"node": 1.5, "study_uid": "1.2"}]},
        {"studies": [{"node": "PACS1", "study_uid": ["1.2"]}]},
        {"studies": [{"node": "PACS1", "study_uid": "1.2\\1.3"}]},
        {"studies": [{"node": "PACS1", "study_uid": "*"}]},
        {"studies": [{"node": "PACS1", "study_uid": "1.2", "series_uids": [{}]}]},
        {"studies": [{"node": "PACS1", "study_uid": "1.2", "patient_id": "*"}]},
        {"destination": {"id": 1}},
        {"destination": -1},
        {"destination": 2**63 - 1},
        {"change": {"as_is": ""}},
        {"change": {"as_is": "reason", "x": 1}},
        {"change": None},
        {"urgent": "yes"},
        {"urgent": 1},
        {"project": ["LUNG"]},
        {"owner": "root"},
        {"withheld": []},
    ],
)
def test_an_order_with_wrong_values_makes_no_job(
    change: dict[str, Any], api: ApiClient, source: Node, destination: Node
) -> None:
    study = {"node": source.pk, "study_uid": put_study(source)}
    order = {"kind": "selective", "destination": destination.pk, "studies": [study], **change}

    for address in ("jobs", "jobs/preview"):
        answer = api.post(address, order)
        assert answer.status_code in (400, 404, 422, 502), answer.content
        assert answer["Content-Type"] == "application/problem+json"
    assert not Job.objects.exists()


def test_a_token_reaches_nothing_beyond_its_node(
    coordinator: User, source: Node, destination: Node, make_node: Callable[..., Node]
) -> None:
    other = make_node("PACS2", reads=("Coordinators",))
    put_study(other)
    uid = put_study(source)
    wide, narrow = make_api_client(coordinator), make_api_client(coordinator, nodes=[source])
    order = {
        "kind": "selective",
        "destination": destination.pk,
        "studies": [{"node": source.pk, "study_uid": uid}],
    }
    job = wide.post("jobs", order).json()["id"]
    sheet = SimpleUploadedFile("a.csv", b"PatientID\nA\n")
    query = json.dumps({"kind": "batch_query", "nodes": [other.pk]})

    refused = [
        narrow.post("searches", {"node": other.pk, "query": {"PatientID": PATIENT}}),
        narrow.post("jobs/preview", order),
        narrow.post_form("jobs", order=query, sheet=sheet),
        narrow.get(f"nodes/{other.pk}"),
        *(narrow.get(f"jobs/{job}{part}") for part in ("", "/tasks", "/series", "/report.json")),
        narrow.get(f"jobs/{job}/tasks/1"),
        narrow.get(f"jobs/{job}/tasks/1/series"),
        narrow.post(f"jobs/{job}/actions/cancel"),
        narrow.post(f"jobs/{job}/tasks/1/actions/stop"),
        narrow.get("webhooks"),
    ]

    for answer in refused:
        assert answer.status_code in (400, 403, 404), answer.content
        assert b"PACS2" not in answer.content
    assert [one["id"] for one in narrow.get("nodes").json()["results"]] == [source.pk]
    assert Job.objects.get().state != JobState.CANCELED


def test_a_blocked_patient_passes_no_door(
    api: ApiClient, root: User, source: Node, destination: Node, make_job: Callable[..., Job]
) -> None:
    """Orders and previews, of studies and of lists; an earlier order cannot be repeated either."""
    uid = put_study(source)
    study = {"node": source.pk, "study_uid": uid}
    order = {"kind": "selective", "destination": destination.pk, "studies": [study]}
    earlier = api.post("jobs", order).json()["id"]
    api.post(f"jobs/{earlier}/actions/cancel")
    block_patient(root, None, "", PATIENT, reason="objection", withdrawn_on=date.today())

    def listed(kind: str, **more: Any) -> Any:
        sheet = SimpleUploadedFile("a.csv", f"PatientID\n{PATIENT}\n".encode())
        body = json.dumps({"kind": kind, "nodes": [source.pk], **more})
        return api.post_form("jobs", order=body, sheet=sheet)

    answers = [
        api.post("jobs", order),
        api.post("jobs/preview", order),
        api.post("jobs", {**order, "change": {"as_is": "reason"}}),
        api.post("jobs", {**order, "studies": [{**study, "patient_id": f"0{PATIENT}"}]}),
        listed("batch_transfer", destination=destination.pk),
        api.post(f"jobs/{earlier}/actions/retry"),
        api.post(f"jobs/{earlier}/actions/restart"),
    ]

    for answer in answers:
        assert answer.status_code in (403, 404, 409, 422), answer.content
        assert PATIENT not in answer.json()["detail"]
    assert Job.objects.count() == 1
    assert Job.objects.get().state == JobState.CANCELED


@pytest.mark.django_db(transaction=True)
def test_requests_with_one_key_at_the_same_time_make_one_job(
    api: ApiClient, source: Node, destination: Node
) -> None:
    """On PostgreSQL, and with SQLite, whose writers wait for each other."""
    study = {"node": source.pk, "study_uid": put_study(source)}
    order = {"kind": "selective", "destination": destination.pk, "studies": [study]}

    def post(_number: int) -> Any:
        try:
            client = ApiClient(Client(raise_request_exception=False), api.token)
            return client.post("jobs", order, Idempotency_Key="one key")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))

    codes = sorted({answer.status_code for answer in answers})
    assert codes in ([201], [201, 409]), [answer.content for answer in answers]
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert all(answer["Retry-After"] == "1" for answer in answers if answer.status_code == 409)
    assert Job.objects.count() == 1
    assert IdempotentRequest.objects.count() == 1


@pytest.mark.parametrize("key", ["a\r\nX: y", "\0", "é", "a" * 201, "", "\t"])
def test_an_odd_idempotency_key_is_refused(
    key: str, api: ApiClient, source: Node, destination: Node
) -> None:
    study = {"node": source.pk, "study_uid": put_study(source)}
    order = {"kind": "selective", "destination": destination.pk, "studies": [study]}

    answer = api.post("jobs", order, Idempotency_Key=key)

    assert (answer.status_code, answer.json()["code"]) == (400, "api.idempotency-key")
    assert not Job.objects.exists()


def test_refused_requests_are_no_events_of_other_objects(api: ApiClient, root: User) -> None:
    """Whoever guesses IDs learns nothing, and writes nothing into their history."""
    foreign = make_api_client(root).get("tokens").json()["results"][0]["id"]
    before = AuditEvent.objects.count()

    for address in (f"tokens/{foreign}", "jobs/1", "webhooks/1", "projects/LUNG"):
        assert api.get(address).status_code == 404
        assert api.delete(address).status_code in (404, 405)

    assert AuditEvent.objects.count() == before
