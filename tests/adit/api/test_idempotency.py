"""A request that is repeated with its key is executed once."""

import json
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.utils import timezone
from lab.api import ApiClient, make_api_client
from lab.jobs import PATIENT, put_study

from adit.accounts.models import User
from adit.api.models import IdempotentRequest
from adit.api.views import orders
from adit.jobs.models import Job
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db


@pytest.fixture
def order(source: Node, destination: Node) -> dict[str, Any]:
    study = {"node": source.pk, "study_uid": put_study(source)}
    return {"kind": "selective", "destination": destination.pk, "studies": [study]}


def test_the_same_key_and_body_give_the_same_answer(
    api: ApiClient, coordinator: User, order: dict[str, Any]
) -> None:
    first = api.post("jobs", order, Idempotency_Key="order 1")
    again = api.post("jobs", order, Idempotency_Key="order 1")
    other = api.post("jobs", {**order, "title": "more"}, Idempotency_Key="order 1")
    of_other_token = make_api_client(coordinator).post("jobs", order, Idempotency_Key="order 1")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert (other.status_code, other.json()["code"]) == (422, "api.idempotency-key-reused")
    assert of_other_token.json()["id"] != first.json()["id"]
    assert Job.objects.count() == 2


def test_a_form_is_repeated_with_its_list(api: ApiClient, source: Node) -> None:
    def post(sheet: str) -> Any:
        file = SimpleUploadedFile("a.csv", sheet.encode())
        order = json.dumps({"kind": "batch_query", "nodes": [source.pk]})
        return api.client.post(
            "/api/v1/jobs",
            {"order": order, "sheet": file},
            headers={"Authorization": f"Token {api.token}", "Idempotency-Key": "a"},
        )

    first, again, other = post("PatientID\nA\n"), post("PatientID\nA\n"), post("PatientID\nB\n")

    assert first.status_code == 201, first.content
    assert again.json() == first.json()
    assert other.status_code == 422
    assert Job.objects.count() == 1


def test_a_request_in_progress_is_a_conflict_and_an_abandoned_one_is_taken_over(
    api: ApiClient, order: dict[str, Any]
) -> None:
    first = api.post("jobs", order, Idempotency_Key="a").json()
    IdempotentRequest.objects.update(status=None, answer=None)

    during = api.post("jobs", order, Idempotency_Key="a")
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=True):
        after = api.post("jobs", order, Idempotency_Key="a")

    assert (during.status_code, during["Retry-After"]) == (409, "1")
    assert after.json()["id"] == first["id"], "its job exists already"
    assert Job.objects.count() == 1


def test_an_order_that_was_placed_before_the_answer_failed_is_not_placed_again(
    api: ApiClient, order: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(orders, "represent_job", fail)
        first = api.post("jobs", order, Idempotency_Key="a")
    again = api.post("jobs", order, Idempotency_Key="a")

    assert first.status_code == 503
    assert (again.status_code, again.json()["id"]) == (201, Job.objects.get().pk)
    assert api.post("jobs", order, Idempotency_Key="a").json() == again.json()


def test_an_order_of_a_preview_that_was_cut_off_returns_its_job(
    api: ApiClient, order: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {**order, "preview": api.post("jobs/preview", order).json()["preview"]}
    with monkeypatch.context() as broken:
        broken.setattr(orders, "represent_job", fail)
        api.post("jobs", order, Idempotency_Key="a")

    other = api.post("jobs", order, Idempotency_Key="b")
    again = api.post("jobs", order, Idempotency_Key="a")

    assert (other.status_code, other.json()["code"]) == (409, "api.preview-used")
    assert (again.status_code, again.json()["id"]) == (201, Job.objects.get().pk)


def fail(*_: Any) -> None:
    raise OperationalError("the connection was cut")


def test_after_an_error_and_after_a_day_the_key_is_free(
    api: ApiClient, order: dict[str, Any], source: Node
) -> None:
    bad = {**order, "title": f"of {PATIENT}"}

    assert api.post("jobs", bad, Idempotency_Key="a").status_code == 400
    assert api.post("jobs", order, Idempotency_Key="a").status_code == 201
    with time_machine.travel(timezone.now() + timedelta(hours=25), tick=True):
        assert api.post("jobs", order, Idempotency_Key="a").status_code == 201
    assert Job.objects.count() == 2
    assert api.post("jobs", order, Idempotency_Key="x" * 201).status_code == 400


def test_actions_are_repeated_with_their_key(api: ApiClient, order: dict[str, Any]) -> None:
    pk = api.post("jobs", order).json()["id"]

    first = api.post(f"jobs/{pk}/actions/cancel", Idempotency_Key="a")
    again = api.post(f"jobs/{pk}/actions/cancel", Idempotency_Key="a")

    assert first.status_code == 200
    assert again.json() == first.json()
