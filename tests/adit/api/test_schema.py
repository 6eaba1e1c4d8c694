"""The OpenAPI schema describes all calls, and the page lists them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from lab.api import ApiClient
from lab.jobs import put_study
from lab.routes import all_patterns

from adit.accounts.models import User
from adit.api.schema import build_schema
from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.projects.models import Project

pytestmark = pytest.mark.django_db

NOT_DESCRIBED = {"api_schema", "rest_docs"}


def test_the_schema_describes_every_route(capsys: pytest.CaptureFixture[str]) -> None:
    build_schema.cache_clear()

    document = Client().get("/api/v1/schema").json()

    routes = [pattern for pattern, name in all_patterns() if pattern.startswith("api/v1/")]
    assert document["openapi"].startswith("3.1")
    assert len(document["paths"]) == len(routes) - len(NOT_DESCRIBED)
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "Warning" not in capsys.readouterr().err


def differences(
    schema: Mapping[str, Any], value: Any, document: Mapping[str, Any], at: str = ""
) -> Iterator[str]:
    """Yield where an answer has other fields than the schema says."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for one in value:
            yield from differences(schema["items"], one, document, f"{at}[]")
    elif isinstance(value, dict) and "properties" in schema:
        required = set(schema.get("required", ()))
        if not required <= set(value) <= set(schema["properties"]):
            yield f"{at}: {sorted(set(value) ^ set(schema['properties']))}"
        for name in set(value) & set(schema["properties"]):
            yield from differences(
                schema["properties"][name], value[name], document, f"{at}.{name}"
            )


def test_answers_have_the_fields_of_the_schema(
    api: ApiClient, source: Node, destination: Node, project: Project, coordinator: User
) -> None:
    uid = put_study(source)
    study = {"node": source.pk, "study_uid": uid}
    order = {"kind": "selective", "destination": destination.pk, "studies": [study]}
    pk = api.post("jobs", order).json()["id"]
    document = build_schema()
    asked = {
        f"jobs/{pk}": "/api/v1/jobs/{id}",
        f"jobs/{pk}/tasks": "/api/v1/jobs/{id}/tasks",
        f"jobs/{pk}/series": "/api/v1/jobs/{id}/series",
        f"projects/{project.protocol_id}": "/api/v1/projects/{protocol_id}",
        **{name: f"/api/v1/{name}" for name in ("me", "tokens", "nodes", "profiles", "jobs")},
    }
    answers = {path: ("get", api.get(address)) for address, path in asked.items()}
    answers["/api/v1/jobs/preview"] = ("post", api.post("jobs/preview", order))
    search = {"node": source.pk, "query": {"StudyInstanceUID": uid}}
    answers["/api/v1/searches"] = ("post", api.post("searches", search))

    for path, (method, answer) in answers.items():
        assert answer.status_code == 200, path
        content = document["paths"][path][method]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"]
        assert not list(differences(schema, answer.json(), document)), path
    assert Job.objects.count() == 1


def test_a_list_is_answered_row_by_row_as_the_schema_says(api: ApiClient, source: Node) -> None:
    def check(sheet: str, status: int, media: str) -> None:
        order = json.dumps({"kind": "batch_query", "nodes": [source.pk]})
        file = SimpleUploadedFile("a.csv", sheet.encode())
        answer = api.post_form("jobs/preview", order=order, sheet=file)
        responses = document["paths"]["/api/v1/jobs/preview"]["post"]["responses"]
        schema = (responses.get(str(status)) or responses["4XX"])["content"][media]["schema"]
        assert answer.status_code == status, answer.content
        assert answer.json()["rows"]
        assert not list(differences(schema, answer.json(), document))

    document = build_schema()
    check("PatientID\nPID-1\n", 200, "application/json")
    check("PatientID,PatientName\n,Mustermann\n", 422, "application/problem+json")


def test_files_and_empty_answers_are_described() -> None:
    paths = build_schema()["paths"]

    result = paths["/api/v1/jobs/{id}/result.{form}"]["get"]["responses"]["200"]["content"]
    assert set(result) == {
        "text/csv",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    }
    assert "content" not in paths["/api/v1/jobs/{id}/actions/{name}"]["post"]["responses"]["204"]


def test_the_page_lists_all_calls_without_javascript() -> None:
    page = Client().get("/api/v1/docs")

    assert page.status_code == 200
    text = page.content.decode()
    assert "POST /api/v1/jobs/preview" in text
    assert "study_uid" in text
    assert text.count("<script") == Client().get("/help/").content.decode().count("<script")
