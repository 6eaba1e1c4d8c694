"""The report of a job: rules, numbers of images and outputs, without patient data."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs import encrypted_payload
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState
from adit.projects import key_destruction, profile_versions, services
from adit.projects.models import Project
from adit.results import applied_rules
from adit_engine import __version__
from adit_engine.messages import Message
from adit_engine.pseudonymize.tables import EDITION
from adit_engine.values.outcome import InstanceState, LedgerEntry, SeriesLedger
from adit_engine.values.references import SeriesRef

AsUser = Callable[[User | None], Client]
REASON = Message("series-held-back")
ROOT = "1.2.826.0.1.3680043.8.498.66"


@pytest.fixture
def job(
    coordinator: User,
    project: Project,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
) -> Job:
    """A job with two delivered images, one withheld image and recorded rules."""
    labels = {"patient_name": "Canary^Clara", "study_description": "Canary thorax"}
    job = make_job(coordinator, state=JobState.WARNING, project=project, labels=labels)
    task = job.tasks.get()
    item = make_item(
        task,
        description="Canary series",
        expected=3,
        delivered=2,
        withheld=1,
        size_bytes=64,
        reasons=[(REASON, 1)],
    )
    entries = {
        f"{ROOT}.1.1.1": LedgerEntry(InstanceState.DELIVERED, size_bytes=32, sha256="b" * 64),
        f"{ROOT}.1.1.2": LedgerEntry(InstanceState.DELIVERED, size_bytes=32, sha256="a" * 64),
        f"{ROOT}.1.1.3": LedgerEntry(InstanceState.WITHHELD, REASON),
    }
    manifest = SeriesLedger(SeriesRef(f"{ROOT}.1", f"{ROOT}.1.1"), frozenset(entries), entries)
    content = encrypted_payload.SeriesContent(manifest, "Canary series")
    item.sealed = encrypted_payload.seal_series(services.get_project_cipher(project), task, content)
    item.save()
    Task.objects.filter(pk=task.pk).update(state=TaskState.IN_PROGRESS)
    applied_rules.record_rules(Task.objects.get(pk=task.pk))
    Task.objects.filter(pk=task.pk).update(state=TaskState.WARNING)
    return job


def report(client: Client, job: Job) -> dict[str, Any]:
    answer = client.get(f"/jobs/{job.pk}/report.json")
    assert answer.status_code == 200
    assert answer["Content-Disposition"] == f'attachment; filename="job-{job.pk}-report.json"'
    made: dict[str, Any] = json.loads(answer.getvalue())
    return made


def test_the_report_names_the_applied_rules(
    coordinator: User, job: Job, project: Project, as_user: AsUser
) -> None:
    made = report(as_user(coordinator), job)

    assert made["rules"] == [
        {
            "profile": "ADIT default",
            "version": 1,
            "option_codes": ["113100", "113107"],
            "generation": 1,
            "tables": f"PS3.15 {EDITION}",
            "engine": f"ADIT {__version__}",
            "faces": "undecided",
            "faces_reason": "",
            "header_word": "undecided",
            "header_word_reason": "",
        }
    ]
    assert made["job"]["project"] == "LUNG"
    assert AuditEvent.objects.filter(action="job.report_downloaded", about=f"job:{job.pk}").exists()


def test_outputs_are_listed_with_new_uids_and_digests(
    coordinator: User, job: Job, project: Project, as_user: AsUser
) -> None:
    made = report(as_user(coordinator), job)

    key, (study,) = services.get_project_key(project), made["studies"]
    (series,) = study["series"]
    assert study["study_uid"] == key.uid(f"{ROOT}.1")
    assert series["series_uid"] == key.uid(f"{ROOT}.1.1")
    assert (series["expected"], series["delivered"], series["withheld"]) == (3, 2, 1)
    assert series["reasons"] == [
        {"code": "series-held-back", "values": {}, "text": str(REASON), "images": 1}
    ]
    assert [each["sha256"][0] for each in series["outputs"]] == ["a", "b"]
    assert series["outputs"][0]["instance_uid"] == key.uid(f"{ROOT}.1.1.2")


@pytest.mark.parametrize("path", ["report/", "report.json"])
def test_the_report_contains_no_patient_data(
    dpo: User, job: Job, as_user: AsUser, path: str
) -> None:
    text = as_user(dpo).get(f"/jobs/{job.pk}/{path}").getvalue().decode()

    assert "LUNG-0001" in text
    for secret in ("Canary", "PID-0815", ROOT):
        assert secret not in text


def test_reported_uids_stay_the_same_after_a_new_key_generation(
    coordinator: User, job: Job, project: Project, as_user: AsUser
) -> None:
    before = report(as_user(coordinator), job)["studies"]
    Project.objects.filter(pk=project.pk).update(generation=2)

    assert report(as_user(coordinator), job)["studies"] == before


def test_a_study_of_two_key_generations_is_reported_without_uids(
    coordinator: User, job: Job, project: Project, as_user: AsUser
) -> None:
    Project.objects.filter(pk=project.pk).update(generation=2)
    Task.objects.update(state=TaskState.IN_PROGRESS)
    applied_rules.record_rules(job.tasks.select_related("job__project").get())

    made = report(as_user(coordinator), job)

    assert [each["generation"] for each in made["rules"]] == [1, 2]
    assert made["studies"][0]["study_uid"] is None


def test_the_report_of_an_identified_job_contains_no_original_uids(
    coordinator: User, job: Job, as_user: AsUser
) -> None:
    Job.objects.update(order={**job.order, "change": "as_is"})

    made = report(as_user(coordinator), job)

    assert made["job"]["identified"] is True
    assert made["studies"][0]["series"][0]["outputs"][0]["instance_uid"] is None
    assert ROOT not in json.dumps(made)


def test_uids_retained_by_the_profile_are_not_reported(
    coordinator: User, dpo: User, job: Job, as_user: AsUser
) -> None:
    text = 'name = "K"\nversion = 1\n[[rules]]\ncode = "113100"\n[[rules]]\ncode = "113110"\n'
    keeping = profile_versions.create_version(dpo, text)
    Task.objects.update(rules=[{**job.tasks.get().rules[0], "profile": keeping.pk}])

    made = report(as_user(coordinator), job)

    assert made["rules"][0]["option_codes"] == ["113100", "113110"]
    assert made["studies"][0]["study_uid"] is None
    assert ROOT not in json.dumps(made)


def test_pages_report_that_data_cannot_be_decrypted_after_key_destruction(
    coordinator: User, dpo: User, root: User, job: Job, project: Project, as_user: AsUser
) -> None:
    key_destruction.destroy_key(dpo, project, "over", "LUNG")

    made = report(as_user(coordinator), job)
    page = as_user(root).get(f"/jobs/{job.pk}/1/").content.decode()

    assert made["totals"]["delivered"] == 2
    assert (made["studies"][0]["pseudonym"], made["studies"][0]["study_uid"]) == (None, None)
    assert made["studies"][0]["series"][0]["outputs"] == []
    assert "cannot be decrypted" in page
    for path in ("", "live/", "1/live/", "report/"):
        assert as_user(coordinator).get(f"/jobs/{job.pk}/{path}").status_code == 200


@pytest.fixture
def long_job(
    coordinator: User,
    project: Project,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
) -> Job:
    """A job of 120 studies with one series each; one image of the last is withheld."""
    job = make_job(coordinator, project=project, tasks=120)
    for task in job.tasks.select_related("job__project"):
        is_last = task.position == 120
        why = [(Message("face.head"), 1)] if is_last else []
        kept = [[0x00080060, "kept", 2 + is_last]]
        make_item(task, expected=2, delivered=2, elements=kept, reasons=why)
    return job


def test_a_long_report_is_streamed(coordinator: User, long_job: Job, as_user: AsUser) -> None:
    with CaptureQueriesContext(connection) as asked:
        answer = as_user(coordinator).get(f"/jobs/{long_job.pk}/report.json")
        pieces = iter(answer)
        first = next(pieces).decode()
        before = len(asked)
        made = json.loads(first + b"".join(pieces).decode())

    assert '"totals"' in first
    assert '"studies"' not in first
    assert [study["number"] for study in made["studies"]] == list(range(1, 121))
    assert made["elements"][0]["count"] == 119 * 2 + 3
    assert len(asked) - before < 15, "one database query per study"


def test_a_long_report_is_paginated_with_totals_of_all_studies(
    coordinator: User, long_job: Job, as_user: AsUser
) -> None:
    client = as_user(coordinator)

    first = client.get(f"/jobs/{long_job.pk}/report/").content.decode()
    last = client.get(f"/jobs/{long_job.pk}/report/?page=3").content.decode()

    assert 'id="study-50"' in first
    assert 'id="study-51"' not in first
    assert 'id="study-120"' in last
    for page in (first, last):
        assert '<td>kept</td><td class="number">241</td>' in page
        assert "Page" in page
