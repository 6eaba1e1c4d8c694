"""Orders and jobs by the API: the same rules as on the pages."""

import json
from collections.abc import Callable, Collection
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from lab.api import ApiClient, make_api_client
from lab.jobs import PATIENT, put_study, work

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.blocklist.blocking import block_patient
from adit.jobs import actions
from adit.jobs.models import ArchiveFile, Job, JobState
from adit.nodes.models import Node
from adit.orders.batch_start import start_automatically
from adit.projects.models import Project
from adit.worker import tasks

pytestmark = pytest.mark.django_db
with_worker = pytest.mark.django_db(transaction=True)
"""A worker renews its lease by a connection of its own, which has to see the task."""


def order_of(source: Node, place: Node, uid: str, **changes: Any) -> dict[str, Any]:
    study = {"node": source.name, "study_uid": uid, "patient_id": PATIENT}
    return {"kind": "selective", "destination": place.name, "studies": [study], **changes}


@with_worker
def test_a_previewed_study_is_ordered_pseudonymized_and_its_report_downloaded(
    api: ApiClient, source: Node, destination: Node, project: Project
) -> None:
    uid = put_study(source, images=3)
    order = order_of(source, destination, uid, project="LUNG", change="pseudonymize")

    preview = api.post("jobs/preview", order)
    answer = api.post("jobs", {**order, "preview": preview.json()["preview"]})

    assert preview.status_code == 200, preview.content
    assert preview.json()["starts_at"]
    assert answer.status_code == 201, answer.content
    job = answer.json()
    assert answer["Location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["state"], job["project"], job["identified"]) == ("pending", "LUNG", False)
    tasks.work()
    done = api.get(f"jobs/{job['id']}").json()
    assert (done["state"], done["expected"], done["delivered"]) == ("success", 3, 3)
    assert (done["withheld"], done["skipped"], done["failed"], done["reasons"]) == (0, 0, 0, [])
    report = api.get(f"jobs/{job['id']}/report.json")
    assert json.loads(report.getvalue())["totals"]["delivered"] == 3
    assert api.get(f"jobs/{job['id']}/report.pdf").content.startswith(b"%PDF-")
    parts = api.get(f"jobs/{job['id']}/tasks").json()
    assert [part["state"] for part in parts["results"]] == ["success"]
    assert parts["next"] is None
    series = api.get(f"jobs/{job['id']}/series").json()["results"]
    assert [(one["task"], one["delivered"]) for one in series] == [(1, 3)]
    actions = set(
        AuditEvent.objects.filter(details__token="script").values_list("action", flat=True)
    )
    assert {"job.previewed", "job.created", "job.report_downloaded", "search.run"} <= actions


@with_worker
def test_a_batch_is_checked_started_and_answered_row_by_row(
    api: ApiClient, source: Node, destination: Node, project: Project
) -> None:
    uid = put_study(source)
    sheet = f"PatientID,StudyInstanceUID,Pseudonym\n{PATIENT},{uid},LUNG-7\n"
    order = {
        "kind": "batch_transfer",
        "nodes": [source.pk],
        "destination": destination.pk,
        "project": "LUNG",
        "start": "by_hand",
    }

    answer = api.post_form(
        "jobs", order=json.dumps(order), sheet=SimpleUploadedFile("a.csv", sheet.encode())
    )

    assert answer.status_code == 201, answer.content
    pk = answer.json()["id"]
    work()
    checked = api.get(f"jobs/{pk}").json()
    assert checked["state"] == "waiting_for_start"
    assert checked["waits_for"]
    assert "start" in checked["actions"]
    assert api.post(f"jobs/{pk}/actions/start").status_code == 200
    tasks.work()
    assert api.get(f"jobs/{pk}").json()["state"] == "success"
    [row] = api.get(f"jobs/{pk}/rows").json()["results"]
    assert (row["row"], row["state"]) == (2, "success")
    assert row["cells"]["Pseudonym"] == "LUNG-7"
    assert b"LUNG-7" in api.get(f"jobs/{pk}/result.csv").getvalue()
    assert api.get(f"jobs/{pk}/result.xlsx").getvalue().startswith(b"PK")
    listed = api.get(f"jobs/{pk}/result.csv", Accept="text/csv")
    assert (listed.status_code, listed["Content-Type"].partition(";")[0]) == (200, "text/csv")
    assert api.get(f"jobs/{pk}/report.pdf", Accept="application/pdf").status_code == 200
    assert api.get(f"jobs/{pk}", Accept="application/problem+json").status_code == 200
    assert api.get(f"jobs/{pk}/result.pdf").status_code == 404


@with_worker
def test_a_batch_that_always_starts_leaves_out_rows_without_a_study(
    api: ApiClient, source: Node, destination: Node
) -> None:
    uid = put_study(source)
    sheet = f"PatientID,StudyInstanceUID\n{PATIENT},{uid}\n{PATIENT},1.2.3\n"
    order = {
        "kind": "batch_transfer",
        "nodes": [source.name],
        "destination": destination.name,
        "start": "always",
    }
    pk = api.post_form(
        "jobs", order=json.dumps(order), sheet=SimpleUploadedFile("a.csv", sheet.encode())
    ).json()["id"]
    work()

    start_automatically()
    while work():
        pass

    job = api.get(f"jobs/{pk}").json()
    assert job["delivered"] == 3
    assert job["rows"]["not_found"] == 1


@with_worker
def test_a_query_returns_the_studies_of_its_rows(api: ApiClient, source: Node) -> None:
    put_study(source)
    order = {"kind": "batch_query", "nodes": [source.name]}
    sheet = SimpleUploadedFile("a.csv", f"PatientID\n{PATIENT}\nPID-0\n".encode())

    pk = api.post_form("jobs", order=json.dumps(order), sheet=sheet).json()["id"]
    tasks.work()

    rows = api.get(f"jobs/{pk}/rows").json()["results"]
    assert [row["state"] for row in rows] == ["found", "nothing"]
    assert rows[0]["cells"]["StudyInstanceUID"]
    assert api.get(f"jobs/{pk}").json()["rows"]["found"] == 1
    assert PATIENT.encode() in api.get(f"jobs/{pk}/result.csv").getvalue()


def test_a_sheet_with_errors_is_refused_with_a_verdict_for_each_row(
    api: ApiClient, source: Node, destination: Node
) -> None:
    uid = put_study(source)
    sheet = f"PatientID,StudyInstanceUID\n{PATIENT},{uid}\n{PATIENT},not a UID\n"
    order = {"kind": "batch_transfer", "nodes": [source.name], "destination": destination.name}

    def post(**more: Any) -> Any:
        file = SimpleUploadedFile("a.csv", sheet.encode())
        return api.post_form("jobs", order=json.dumps({**order, **more}), sheet=file)

    answer = post()

    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert [(row["row"], row["verdict"]) for row in answer.json()["rows"]] == [
        (2, "ok"),
        (3, "error"),
    ]
    assert answer.json()["rows"][1]["findings"][0]["column"] == "StudyInstanceUID"
    assert not Job.objects.exists()
    assert post(skip_errors=True).status_code == 201


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"destination": "nowhere"}, 400, "destination"),
        ({"project": "HEART"}, 400, "project"),
        ({"change": "nothing"}, 400, "change"),
        ({"change": {"as_is": " "}}, 400, "change"),
        ({"pseudonim": "A"}, 400, "pseudonim"),
        ({"urgent": "no"}, 400, "urgent"),
        ({"title": f"study of {PATIENT}"}, 400, "title"),
        ({"preview": "0" * 32}, 400, "preview"),
        ({"studies": []}, 400, "studies"),
        ({"kind": "mass"}, 400, "kind"),
    ],
)
def test_an_error_names_its_field(
    changes: dict[str, Any],
    status: int,
    field: str,
    api: ApiClient,
    source: Node,
    destination: Node,
) -> None:
    order = order_of(source, destination, put_study(source), **changes)

    answer = api.post("jobs", order)

    assert answer.status_code == status, answer.content
    assert field in answer.json()["errors"]
    assert answer.json()["code"].startswith("api.")


def test_studies_are_those_that_the_source_has(
    api: ApiClient, source: Node, destination: Node
) -> None:
    uid = put_study(source)

    def order(**study: Any) -> Any:
        values = {"node": source.pk, "study_uid": uid, **study}
        body = order_of(source, destination, uid)
        return api.post("jobs", {**body, "studies": [values]})

    assert order(study_uid="1.2.3").status_code == 422
    assert order(patient_id="PID-0").json()["code"] == "api.unknown-study"
    assert order(study_uid="1..2").status_code == 400
    assert order(pseudonym="A" * 65).status_code == 400
    assert order().status_code == 201, "the patient ID is looked up"


def test_identified_orders_need_the_scope_and_the_permission(
    coordinator: User, root: User, source: Node, destination: Node
) -> None:
    order = order_of(source, destination, put_study(source), change={"as_is": "second opinion"})

    missing = make_api_client(coordinator).post("jobs", order)
    narrow = make_api_client(root, scopes=["jobs:write"]).post("jobs", order)
    allowed = make_api_client(root, scopes=["jobs:write", "identified"]).post("jobs", order)

    assert (missing.status_code, missing.json()["code"]) == (403, "permission.missing")
    assert (narrow.status_code, narrow.json()["code"]) == (403, "api-token.scope-not-granted")
    assert allowed.status_code == 201, allowed.content
    assert allowed.json()["identified"]


def test_actions_by_which_identified_images_leave_need_the_scope(
    root: User, make_job: Callable[..., Job]
) -> None:
    job = make_job(root, state=JobState.WAITING_FOR_OWNER)
    order = {**job.order, "change": "as_is", "reason": "second opinion"}
    Job.objects.update(kind="batch_transfer", order=order)
    narrow = make_api_client(root, scopes=["jobs:read", "jobs:write"])

    def find_refused(address: str, names: Collection[str]) -> set[str]:
        answers = {name: narrow.post(f"{address}/actions/{name}") for name in names}
        return {
            name
            for name, answer in answers.items()
            if (answer.status_code, answer.json()["code"]) == (403, "api-token.scope-not-granted")
        }

    job_actions = set(actions.job_actions()) - {
        "archive",
        "unarchive",
        "cancel",
        "delete",
        "return",
    }
    job_actions -= {"mail", "no_mail"}
    task_actions = set(actions.task_actions()) - {"stop", "delete"}
    assert find_refused(f"jobs/{job.pk}", {"start", *job_actions}) == {"start", *job_actions}
    assert find_refused(f"jobs/{job.pk}/tasks/1", task_actions) == task_actions
    assert {"approve", "resume", "retry", "retry_withheld", "restart", "urgent"} == job_actions
    assert narrow.post(f"jobs/{job.pk}/tasks/1/actions/stop").status_code == 200
    wide = make_api_client(root, scopes=["jobs:write", "identified"])
    assert wide.post(f"jobs/{job.pk}/actions/approve").status_code == 409, "of the state alone"


def test_a_token_for_one_node_reaches_no_other(
    coordinator: User,
    source: Node,
    destination: Node,
    make_job: Callable[..., Job],
) -> None:
    job = make_job(coordinator)
    narrow = make_api_client(coordinator, nodes=[source])
    wide = make_api_client(coordinator, nodes=[source, destination])

    answer = narrow.post("jobs", order_of(source, destination, put_study(source)))

    assert answer.json()["errors"].keys() == {"destination"}
    assert [node["name"] for node in narrow.get("nodes").json()["results"]] == ["PACS1"]
    assert narrow.get(f"jobs/{job.pk}").status_code == 404
    assert narrow.get("jobs").json()["results"] == []
    assert wide.get(f"jobs/{job.pk}").status_code == 200
    assert narrow.post(f"jobs/{job.pk}/actions/archive").status_code == 404


def test_a_refused_action_is_a_conflict_with_the_code_why_not(
    api: ApiClient, coordinator: User, make_job: Callable[..., Job]
) -> None:
    waiting = make_job(coordinator, state=JobState.PENDING)
    done = make_job(coordinator)

    canceled = api.post(f"jobs/{waiting.pk}/actions/cancel")
    refused = api.post(f"jobs/{done.pk}/actions/cancel")

    assert canceled.status_code == 200, canceled.content
    assert canceled.json()["state"] in ("canceled", "canceling")
    assert api.post(f"jobs/{waiting.pk}/actions/cancel").status_code == 200, "again is no error"
    assert (refused.status_code, refused.json()["code"]) == (409, "job.wrong-state")
    assert api.post(f"jobs/{done.pk}/actions/fly").status_code == 404
    assert api.post(f"jobs/{done.pk}/actions/start").status_code == 404
    event = AuditEvent.objects.filter(action="job.canceled").get()
    assert event.details["token"] == "script"


def test_a_part_that_failed_is_retried(
    api: ApiClient, coordinator: User, make_job: Callable[..., Job]
) -> None:
    job = make_job(coordinator, state=JobState.FAILURE)

    answer = api.post(f"jobs/{job.pk}/tasks/1/actions/retry")

    assert answer.status_code == 200, answer.content
    assert job.tasks.get().state == "pending"
    assert api.post(f"jobs/{job.pk}/tasks/9/actions/retry").status_code == 404


def test_the_list_of_jobs_is_filtered_and_paged(
    api: ApiClient, coordinator: User, make_job: Callable[..., Job], project: Project
) -> None:
    jobs = [make_job(coordinator, project=project) for _ in range(3)]
    make_job(coordinator, state=JobState.FAILURE)

    first = api.get("jobs?state=success&project=LUNG&limit=2").json()
    second = api.get(first["next"]).json()

    found = [job["id"] for job in first["results"] + second["results"]]
    assert found == [job.pk for job in reversed(jobs)]
    assert second["next"] is None
    for wrong in (
        "project=HEART",
        "limit=0",
        "cursor=x",
        "state=lost",
        "sate=success",
        "since=yesterday",
    ):
        answer = api.get(f"jobs?{wrong}")
        assert answer.status_code == 400, wrong
        assert answer.json()["errors"].keys() == {wrong.partition("=")[0]}


def test_jobs_are_filtered_by_the_states_that_the_api_shows(
    api: ApiClient, coordinator: User, make_job: Callable[..., Job]
) -> None:
    for state in JobState:
        make_job(coordinator, state=state)
    shown = [job["state"] for job in api.get("jobs").json()["results"]]

    for state in set(shown):
        found = [job["state"] for job in api.get(f"jobs?state={state}").json()["results"]]
        assert found == [state] * shown.count(state)
    assert shown.count("pending") == 2, "one of them is held"
    for internal in ("held", "waiting_for_owner"):
        refused = api.get(f"jobs?state={internal}")
        assert (refused.status_code, refused.json()["code"]) == (400, "api.unknown-state")


def test_polling_an_unchanged_job_costs_no_body(
    api: ApiClient, coordinator: User, make_job: Callable[..., Job]
) -> None:
    job = make_job(coordinator)
    first = api.get(f"jobs/{job.pk}")

    same = api.get(f"jobs/{job.pk}", If_None_Match=first["ETag"])
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILURE)
    changed = api.get(f"jobs/{job.pk}", If_None_Match=first["ETag"])

    assert (same.status_code, same.content) == (304, b"")
    assert changed.status_code == 200
    assert changed["ETag"] != first["ETag"]
    listed = api.get("jobs")
    assert api.get("jobs", If_None_Match=listed["ETag"]).status_code == 304


def test_a_blocked_patient_is_refused(
    api: ApiClient, root: User, source: Node, destination: Node
) -> None:
    order = order_of(source, destination, put_study(source))
    block_patient(root, None, "", PATIENT, reason="objection", withdrawn_on=date.today())

    for address in ("jobs", "jobs/preview"):
        answer = api.post(address, order)
        assert (answer.status_code, answer.json()["code"]) == (422, "order.patients-blocked")
        assert PATIENT not in answer.content.decode()
    assert not Job.objects.exists()


def test_a_7zip_file_is_downloaded_and_a_retry_needs_a_new_password(
    api: ApiClient,
    coordinator: User,
    make_node: Callable[..., Node],
    make_job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    node = make_node("7-Zip", kind="archive", settings={"path": str(tmp_path)})
    job = make_job(coordinator, state=JobState.FAILURE)
    Job.objects.filter(pk=job.pk).update(destination=node)
    (tmp_path / "a.7z").write_bytes(b"7-Zip")
    now = timezone.now()
    ArchiveFile.objects.create(
        job=job, round=0, name="a.7z", size_bytes=5, images=1, built_at=now, expires_at=now
    )
    narrow = make_api_client(coordinator, scopes=["jobs:read"])

    whole, part = (
        api.get(f"jobs/{job.pk}/archive"),
        api.get(f"jobs/{job.pk}/archive", Range="bytes=2-3"),
    )
    no_password = api.post(f"jobs/{job.pk}/actions/retry")
    retried = api.post(
        f"jobs/{job.pk}/actions/retry", {"archive_password": "a long new password 7"}
    )

    assert (whole.status_code, whole.getvalue()) == (200, b"7-Zip")
    assert (part.status_code, part.getvalue()) == (206, b"Zi")
    beyond = api.get(f"jobs/{job.pk}/archive", Range="bytes=9-")
    assert (beyond.status_code, beyond.json()["code"]) == (416, "api.range")
    assert narrow.get(f"jobs/{job.pk}/archive").status_code == 403
    assert api.get(f"jobs/{job.pk}/archive?file=9").status_code == 404
    assert no_password.json()["errors"].keys() == {"archive_password"}
    assert retried.status_code == 200, retried.content
    assert AuditEvent.objects.filter(action="archive.downloaded").count() == 1
