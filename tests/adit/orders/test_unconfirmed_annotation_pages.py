"""The order summary shows radiographs cleared only by their header, and their handling."""

import json
from dataclasses import replace

import pytest
from test_selective_pages import Person, goes_to, put

from adit.accounts.models import User
from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.orders.summary import ExpectedWithholding, OrderSummary, RiskSummary
from adit.projects.models import ProfileVersion, Project
from adit.projects.risks import decisions
from adit_engine.messages import Message
from adit_engine.pseudonymize.profile import ConfidentialityProfile, TextDetection

pytestmark = pytest.mark.django_db
CR, DX = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.fixture
def summary(coordinator: User, source: Node, destination: Node, project: Project) -> Person:
    """A basket with one study: two CR images, one DX image and one CT image."""
    for number in (1, 2):
        put("PACS1", "7", "1", number, sop_class=CR, Modality="CR", PatientID="PID-9")
    put("PACS1", "7", "2", 1, sop_class=DX, Modality="DX", PatientID="PID-9")
    put("PACS1", "7", "3", 1, PatientID="PID-9")
    person = Person(coordinator)
    person.press("search", patient_id="PID-9", sources=goes_to("PACS1"))
    person.press("add", study=["0"])
    return person


def told(person: Person, project: Project, **chosen: object) -> str:
    Project.objects.filter(pk=project.pk).update(**chosen)
    person.press("summary", destinations=goes_to("Research PACS"), project=str(project.pk))
    return " ".join(person.text.split())


@pytest.mark.parametrize(
    ("chosen", "words", "step"),
    [
        ("", "the project has no decision on them yet", "ask a manager of research projects to"),
        ("withhold", "covers the device, as decided for the project", "ask a reviewer to decide"),
    ],
)
def test_the_summary_shows_withheld_radiographs_and_the_next_step(
    summary: Person, project: Project, chosen: str, words: str, step: str
) -> None:
    page = told(summary, project, header_word=chosen)

    assert "2 series (CR, DX) may contain burned-in text" in page
    assert "(3 images)" in page
    assert words in page
    assert step in page
    assert "Burned-in text in radiographs: see below." in page
    assert "None, according to the source" not in page
    summary.start()
    assert Job.objects.get().order["announced"] == ["header-word"]


def test_an_accepted_risk_is_shown_with_its_reason_and_announces_nothing(
    summary: Person, project: Project
) -> None:
    page = told(summary, project, header_word="accept", header_word_reason="phantoms alone")

    assert "2 series (CR, DX) may contain burned-in text" in page
    assert "the risk is accepted. Reason: phantoms alone" in page
    assert "CR images may be withheld: the header must state that no text is burned in" in page
    summary.start()
    assert Job.objects.get().order["announced"] == []


def test_with_text_detection_the_summary_says_which_images_are_checked(
    summary: Person, project: Project
) -> None:
    rules = replace(ConfidentialityProfile.default(), text_detection=TextDetection.IMAGES)
    detecting = ProfileVersion.objects.create(name="Detecting", version=1, text=rules.to_text())

    page = told(summary, project, profile=detecting)

    assert "CR images are checked for text in their pixels before they are sent" in page
    assert "DX images are checked for text" in page
    assert "has no decision" not in page
    summary.start()
    assert "header-word" not in Job.objects.get().order["announced"]


def test_an_order_without_radiographs_does_not_mention_them(
    coordinator: User, source: Node, destination: Node, project: Project
) -> None:
    put("PACS1", "8", "1", 1, PatientID="PID-8")
    person = Person(coordinator)
    person.press("search", patient_id="PID-8", sources=goes_to("PACS1"))
    person.press("add", study=["0"])

    assert "Text in the pixels" not in told(person, project)


def test_a_summary_round_trips_through_json(project: Project) -> None:
    risks = tuple(RiskSummary(one, 1, 0, 3, "CR") for one in decisions(project))
    withheld = (ExpectedWithholding(Message("pixel-rule.test", device="Sonomaker"), True, 3),)
    notes = (Message("test.unreachable", node="PACS1"),)
    made = OrderSummary(1, 1, 1, 3, 100, withheld, notes, risks)

    assert OrderSummary.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert "pixel-rule" in made.announced
