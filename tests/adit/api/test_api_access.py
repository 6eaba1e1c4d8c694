"""Tokens, errors, and what an API user may see."""

from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.test import Client
from lab.api import ApiClient, make_api_client
from lab.jobs import PATIENT, put_study

from adit.accounts.models import User
from adit.api_tokens.models import ApiToken
from adit.audit.models import AuditEvent
from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.projects import pseudonyms
from adit.projects.models import Project

pytestmark = pytest.mark.django_db


def test_me_names_the_user_and_the_token(api: ApiClient) -> None:
    me = api.get("me").json()

    assert me["user"] == "coordinator"
    assert "order_selective" in me["permissions"]
    assert me["token"]["name"] == "script"
    assert "query" in me["token"]["scopes"]
    assert me["token"]["expires_at"]


def test_only_a_token_authenticates(as_user: Callable[..., Client], api: ApiClient) -> None:
    coordinator = User.objects.get(username="coordinator")
    session = as_user(coordinator)

    for answer in (
        session.get("/api/v1/me"),
        session.post("/api/v1/jobs", {}, content_type="application/json"),
        session.get("/api/v1/me", headers={"Authorization": "Token adit_0_x"}),
        session.get("/api/v1/me", headers={"Authorization": "Basic abc"}),
    ):
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["WWW-Authenticate"] == "Token"
        assert not answer.cookies
    bearer = {"Authorization": f"Bearer {api.token}"}
    assert Client().get("/api/v1/me", headers=bearer).json()["user"] == "coordinator"
    assert "no-store" in api.get("me")["Cache-Control"]


def test_a_token_without_the_scope_is_refused(coordinator: User) -> None:
    answer = make_api_client(coordinator, scopes=["query"]).get("jobs")

    assert answer.status_code == 403
    assert answer.json()["code"] == "api-token.scope-not-granted"


def test_own_tokens_are_listed_and_revoked(api: ApiClient, coordinator: User, root: User) -> None:
    other, foreign = make_api_client(coordinator, name="other"), make_api_client(root)
    [first, second] = api.get("tokens").json()["results"]

    assert [first["name"], second["name"]] == ["other", "script"]
    assert api.delete(f"tokens/{first['id']}").status_code == 204
    assert other.get("me").json()["code"] == "api-token.revoked"
    assert api.delete(f"tokens/{ApiToken.objects.get(user=root).pk}").status_code == 404
    assert foreign.get("me").status_code == 200
    event = AuditEvent.objects.get(action="token.revoked")
    assert event.details["token"] == "script"


def test_a_narrow_token_revokes_only_itself_and_sees_no_nodes_of_others(
    coordinator: User, source: Node, destination: Node
) -> None:
    other = make_api_client(coordinator, nodes=[source, destination])
    reader = make_api_client(coordinator, scopes=["query"])
    narrow = make_api_client(coordinator, nodes=[source], name="narrow")
    pk = {client: client.get("me").json()["token"]["id"] for client in (other, reader, narrow)}

    [seen] = [one for one in narrow.get("tokens").json()["results"] if one["id"] == pk[other]]

    assert [node["name"] for node in seen["nodes"]] == ["PACS1"]
    assert narrow.get(f"tokens/{pk[other]}").json() == seen
    assert reader.delete(f"tokens/{pk[other]}").json()["code"] == "api-token.scope-not-granted"
    refused = narrow.delete(f"tokens/{pk[other]}")
    assert (refused.status_code, refused.json()["code"]) == (403, "api-token.revokes-itself-only")
    assert other.get("me").status_code == 200
    assert narrow.delete(f"tokens/{pk[narrow]}").status_code == 204
    assert narrow.get("me").json()["code"] == "api-token.revoked"
    assert reader.delete(f"tokens/{pk[reader]}").status_code == 204


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("get", "nothing", 404),
        ("get", "jobs/999999", 404),
        ("get", "jobs/99999999999999999999999", 404),
        ("get", "jobs/", 404),
        ("delete", "jobs", 405),
        ("put", "me", 405),
        ("get", "jobs/preview", 405),
    ],
)
def test_each_error_is_a_problem(method: str, address: str, status: int, api: ApiClient) -> None:
    call = getattr(api.client, method)

    answer = call(f"/api/v1/{address}", headers={"Authorization": f"Token {api.token}"})

    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"].startswith("api.")
    assert problem["title"]
    assert problem["detail"]
    if status == 405:
        assert answer["Allow"]


def test_a_failure_of_adit_is_a_problem(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise ZeroDivisionError("Mustermann")

    monkeypatch.setattr("adit.api.views.account.represent_token", fail)

    answer = api.get("me")

    assert answer.status_code == 500
    assert answer.json()["code"] == "api.failure"
    assert b"Mustermann" not in answer.content


def test_an_unknown_host_is_a_problem(api: ApiClient) -> None:
    answer = api.get("me", Host="elsewhere.example")

    assert (answer.status_code, answer.json()["code"]) == (400, "api.bad-request")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b'{"a": 1e999}', "application/json", 400),
        (b'{"kind": "selective", "kind": "selective"}', "application/json", 400),
        (b'{"kind": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"kind": "a\\u0000"}', "application/json", 400),
        (b'{"kind": "\\ud800"}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "application/json", 400),
        (b" " * 3_000_000, "application/json", 413),
        (b"{}", "text/plain", 415),
        (b"<a/>", "application/xml", 415),
        (b"", "application/json", 400),
        (b"x" * 7_000_000, "multipart/form-data; boundary=a", 413),
        (b"--a\r\n", "multipart/form-data; boundary=a", 400),
        (b"{}", "multipart/form-data", 400),
        (b"a=1", "application/x-www-form-urlencoded", 415),
    ],
)
@pytest.mark.parametrize("address", ["jobs", "searches"])
def test_a_bad_body_is_refused(
    body: bytes, content_type: str, status: int, address: str, api: ApiClient
) -> None:
    if address == "searches" and content_type.startswith("multipart"):
        status = 415

    answer = api.client.post(
        f"/api/v1/{address}",
        body,
        content_type=content_type,
        headers={"Authorization": f"Token {api.token}"},
    )

    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"


def test_a_search_returns_studies_by_keyword(api: ApiClient, source: Node) -> None:
    uid = put_study(source, images=2)
    search = {"node": "PACS1", "level": "study", "query": {"PatientID": PATIENT}}

    found = api.post("searches", search).json()
    series = api.post(
        "searches", {**search, "level": "series", "query": {"StudyInstanceUID": uid}}
    ).json()

    assert found["complete"] is True
    assert [study["StudyInstanceUID"] for study in found["results"]] == [uid]
    assert found["notes"] == []
    assert series["results"][0]["SeriesInstanceUID"]
    event = AuditEvent.objects.filter(action="search.run").first()
    assert event is not None
    assert event.details["token"] == "script"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"node": "nowhere"}, "node"),
        ({"node": True}, "node"),
        ({"level": "patient"}, "level"),
        ({"level": "series"}, "query.StudyInstanceUID"),
        ({"query": {"Nonsense": "1"}}, "query.Nonsense"),
        ({"query": {"QueryRetrieveLevel": "PATIENT"}}, "query.QueryRetrieveLevel"),
        ({"query": {"PatientID": {"a": 1}}}, "query.PatientID"),
        ({"query": {"PatientID": "a\\b"}}, "query.PatientID"),
        ({"limit": 0}, "limit"),
    ],
)
def test_an_invalid_search_names_its_field(
    changes: dict[str, Any], field: str, api: ApiClient, source: Node
) -> None:
    answer = api.post("searches", {"node": "PACS1", "query": {"PatientID": PATIENT}, **changes})

    assert answer.status_code == 400, answer.content
    assert field in answer.json()["errors"]


def test_a_search_needs_a_key_and_an_open_node(api: ApiClient, source: Node) -> None:
    broad = api.post("searches", {"node": "PACS1", "query": {"ModalitiesInStudy": "CT"}})
    Node.objects.update(is_open=False)
    closed = api.post("searches", {"node": "PACS1", "query": {"PatientID": PATIENT}})

    assert (broad.status_code, broad.json()["code"]) == (422, "node-search.too-broad")
    assert closed.status_code == 503
    assert closed["Retry-After"]


def test_a_node_is_named_by_its_ae_title_in_the_api(api: ApiClient, source: Node) -> None:
    """A folder has no other AE title, and two PACS may share the one that they are called by."""
    [node] = [one for one in api.get("nodes").json()["results"] if one["id"] == source.pk]

    assert node["ae_title"] == source.api_ae_title != ""
    body = {"node": node["ae_title"], "query": {"PatientID": PATIENT}}
    assert api.post("searches", body).status_code == 200


def test_names_and_birth_dates_are_masked_as_on_the_pages(
    api: ApiClient, source: Node, coordinator: User, make_job: Callable[..., Job]
) -> None:
    put_study(source)
    job = make_job(coordinator, labels={"patient_name": "Muster^Anna"})
    search = {"node": "PACS1", "query": {"PatientID": PATIENT}}
    assert api.get(f"jobs/{job.pk}/tasks").json()["results"][0]["patient"]

    Permission.objects.get(codename="see_identified").group_set.clear()

    [study] = api.post("searches", search).json()["results"]
    assert study["PatientName"] == study["PatientBirthDate"] == "•••"
    assert study["PatientID"] == PATIENT
    for keyword in ("PatientName", "PatientBirthDate", "OtherPatientIDs"):
        answer = api.post("searches", {**search, "query": {keyword: "a"}})
        assert answer.json()["code"] == "api.keyword-not-permitted"
    assert api.get(f"jobs/{job.pk}/tasks").json()["results"][0]["patient"] is None


def test_a_pseudonym_beside_its_patient_is_for_list_holders(
    api: ApiClient,
    keyholder: User,
    coordinator: User,
    make_job: Callable[..., Job],
    project: Project,
) -> None:
    job = make_job(coordinator, project=project)

    [hidden] = api.get(f"jobs/{job.pk}/tasks").json()["results"]
    [shown] = make_api_client(keyholder).get(f"jobs/{job.pk}/tasks").json()["results"]

    assert (hidden["pseudonym"], hidden["patient"]["PatientID"]) == ("", "PID-0815")
    assert shown["pseudonym"] == "LUNG-0001"


def test_projects_and_profiles_are_those_of_the_pages(
    api: ApiClient, stranger: User, project: Project
) -> None:
    [mine] = api.get("projects").json()["results"]

    assert (mine["id"], mine["name"], mine["state"]) == ("LUNG", "Lung study", "open")
    assert api.get("projects/LUNG").json() == mine
    assert make_api_client(stranger).get("projects/LUNG").status_code == 404
    assert make_api_client(stranger).get("projects").json()["results"] == []
    profile = api.get("profiles").json()["results"][0]
    assert api.get(f"profiles/{profile['id']}").json()["text"]


def test_options_lists_the_methods_and_head_sends_no_body(api: ApiClient) -> None:
    headers = {"Authorization": f"Token {api.token}"}

    options = api.client.options("/api/v1/jobs", headers=headers)
    head = api.client.head("/api/v1/me", headers=headers)

    assert (options.status_code, options["Allow"]) == (204, "GET, POST, HEAD, OPTIONS")
    assert (head.status_code, head.content) == (200, b"")


def test_a_token_has_a_number_of_requests_per_minute(
    api: ApiClient, coordinator: User, settings: Any
) -> None:
    settings.API_REQUESTS = 3
    other = make_api_client(coordinator, name="other")

    with time_machine.travel("2026-11-30T12:00:10Z", tick=False):
        statuses = [api.get("me").status_code for _ in range(4)]
        refused = api.get("me")
        elsewhere = other.get("me")
    with time_machine.travel("2026-11-30T12:01:00Z", tick=False):
        later = api.get("me")

    assert statuses == [200, 200, 200, 429]
    assert refused["Retry-After"] == "50"
    assert refused.json()["code"] == "api.too-many-requests"
    assert elsewhere.status_code == later.status_code == 200


def test_a_program_tests_a_node_as_its_page_does(
    api: ApiClient, coordinator: User, source: Node, make_node: Callable[..., Node]
) -> None:
    hidden = make_node("PACS9")
    narrow = make_api_client(coordinator, scopes=["jobs:read"])

    passed = api.post(f"nodes/{source.pk}/test").json()

    assert passed["is_passed"] is True
    assert {one["grade"] for one in passed["findings"]} <= {"good", "warning"}
    assert all(one["code"] and one["text"] for one in passed["findings"])
    assert source.test_results.get().by == coordinator
    assert AuditEvent.objects.get(action="node.checked").details["token"] == "script"
    assert api.post(f"nodes/{hidden.pk}/test").status_code == 404
    assert narrow.post(f"nodes/{source.pk}/test").status_code == 403
    assert api.post(f"nodes/{source.pk}/test", {"deep": True}).status_code == 400


def test_the_patient_of_a_pseudonym_is_found_only_with_permission_and_recorded(
    api: ApiClient, keyholder: User, source: Node, project: Project
) -> None:
    pseudonyms.register_pseudonym(keyholder, project, source, PATIENT)
    asked = {"pseudonym": "LUNG-0001", "reason": "a finding"}
    patient = {"node": source.pk, "patient_id": PATIENT}
    holder = make_api_client(keyholder)
    narrow = make_api_client(keyholder, scopes=["jobs:read"])

    listed = api.get("projects/LUNG/pseudonyms").json()["results"]
    assert [one["pseudonym"] for one in listed] == ["LUNG-0001"]
    assert PATIENT not in str(listed)
    for client, code in ((api, "project.not-"), (narrow, "api-token.scope-not-granted")):
        for name, body in (("reidentify", asked), ("lookup", patient)):
            refused = client.post(f"projects/LUNG/pseudonyms/{name}", body)
            assert refused.status_code == 403
            assert refused.json()["code"].startswith(code)

    found = holder.post("projects/LUNG/pseudonyms/reidentify", asked).json()
    name = holder.post("projects/LUNG/pseudonyms/lookup", patient).json()["pseudonym"]
    missing = holder.post("projects/LUNG/pseudonyms/reidentify", {"pseudonym": "LUNG-0001"})
    unknown = holder.post("projects/LUNG/pseudonyms/lookup", {**patient, "patient_id": "PID-0"})

    assert [one["patient_id"] for one in found["patient_ids"]] == [PATIENT]
    assert name == "LUNG-0001"
    assert missing.json()["errors"].keys() == {"reason"}
    assert unknown.status_code == 404
    event = AuditEvent.objects.get(action="patient.reidentified")
    assert (event.details["reason"], event.details["token"]) == ("a finding", "script")
    assert AuditEvent.objects.filter(action="pseudonyms.seen").exists()
