"""The order summary and the report show images that may show a face, and their handling."""

import json

import pytest
from django.test import Client
from test_selective_pages import Person, goes_to, put

from adit.accounts.models import User
from adit.jobs.models import Job, SeriesResult, Task
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.results.applied_rules import current_rules

pytestmark = pytest.mark.django_db
HEAD = {"PatientID": "PID-9", "StudyDescription": "CCT", "BodyPartExamined": "HEAD"}


@pytest.fixture
def summary(coordinator: User, source: Node, destination: Node, project: Project) -> Person:
    """A basket with 80 images of a head and one of a knee."""
    for number in range(80):
        put("PACS1", "7", "1", number + 1, **HEAD)
    put("PACS1", "7", "2", 1, **{**HEAD, "BodyPartExamined": "KNEE", "StudyDescription": ""})
    person = Person(coordinator)
    person.press("search", patient_id="PID-9", sources=goes_to("PACS1"))
    person.press("add", study=["0"])
    return person


def told(person: Person, project: Project) -> str:
    person.press("summary", destinations=goes_to("Research PACS"), project=str(project.pk))
    return " ".join(person.text.split())


def test_the_summary_shows_the_next_step_if_the_project_has_no_decision(
    summary: Person, project: Project
) -> None:
    page = told(summary, project)

    assert "1 series shows a head." in page
    assert "the project has no decision on them yet" in page
    assert "ask a manager of research projects to select" in page
    assert "None, according to the source" not in page
    summary.start()
    assert "face" in Job.objects.get().order["announced"]


def test_an_accepted_risk_is_shown_with_its_reason_and_announces_nothing(
    summary: Person, project: Project
) -> None:
    Project.objects.filter(pk=project.pk).update(faces="accept", faces_reason="the board agreed")

    page = told(summary, project)

    assert "1 series shows a head." in page
    assert "the risk is accepted. Reason: the board agreed" in page
    summary.start()
    assert Job.objects.get().order["announced"] == []


def test_an_order_without_head_images_does_not_mention_faces(
    coordinator: User, source: Node, destination: Node, project: Project
) -> None:
    put("PACS1", "8", "1", 1, PatientID="PID-8")  # a thorax
    person = Person(coordinator)
    person.press("search", patient_id="PID-8", sources=goes_to("PACS1"))
    person.press("add", study=["0"])

    assert "may show a face" not in told(person, project)


def test_the_report_shows_the_decision_and_the_number_of_face_images(
    summary: Person, coordinator: User, project: Project
) -> None:
    told(summary, project)
    summary.start()
    job = Job.objects.get()
    Project.objects.filter(pk=project.pk).update(faces="accept", faces_reason="the board agreed")
    job.refresh_from_db()
    rules = current_rules(Job.objects.get())
    Task.objects.update(rules=[{name: getattr(rules, name) for name in rules.__slots__}])
    SeriesResult.objects.create(
        task=Task.objects.get(),
        attempt=1,
        index="i",
        sealed=b"",
        delivered=80,
        elements=[[0x7FE00010, "may show a face", 80], [0x00100010, "replaced", 80]],
    )
    client = Client()
    client.force_login(coordinator)

    page = " ".join(client.get(f"/jobs/{job.pk}/report/").content.decode().split())

    assert "the risk is accepted. Reason: the board agreed" in page
    assert "<dt>Images sent with this risk</dt> <dd>80</dd>" in page
    assert '<td class="nowrap">(0010,0010)</td><td>replaced</td>' in page
    kept = json.loads(client.get(f"/jobs/{job.pk}/report.json").getvalue())
    assert kept["faces"] == {"accepted": 80, "withheld": 0}
    assert kept["elements"][0]["name"] == "PatientName"
