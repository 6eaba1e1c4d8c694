"""Reasons on pages: a plain sentence with what to do, the DICOM detail one click away."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse

from adit import message_templates
from adit.accounts.models import User
from adit.jobs.models import Job, JobState, SeriesResult, WithheldImages
from adit.messages import plain_message
from adit_engine import message_templates as engine_templates
from adit_engine.messages import Message
from adit_engine.pseudonymize.admission import LIFTED_BY_PIXEL_RULE
from adit_engine.pseudonymize.face_risk import FACE_CODE

pytestmark = pytest.mark.django_db
AsUser = Callable[[User | None], Client]

CONVERSION = Message("conversion.capture")
ON_DEVICE = Message("pixel-rule.device")
OF_CLASS = Message("pixel-rule.class", sop_class="Ultrasound Multi-frame Image")
PLAIN = "Screenshots and scans may show names. Ask a reviewer to check the device."


@pytest.fixture
def job(
    coordinator: User, make_job: Callable[..., Job], make_item: Callable[..., SeriesResult]
) -> Job:
    """A job with captures and ultrasound images that were withheld without announcement."""
    gaps = Message("delivery.counted", count=2, reason=CONVERSION)
    message = Message("joined", parts=(Message("delivery.nothing"), gaps))
    job = make_job(coordinator, state=JobState.FAILURE)
    job.tasks.update(message=message)
    counts = [(CONVERSION, 2), (ON_DEVICE, 1), (OF_CLASS, 3)]
    item = make_item(job.tasks.get(), expected=6, withheld=6, reasons=counts)
    WithheldImages.objects.create(item=item, code="conversion", reason=CONVERSION, images=2)
    return job


def test_job_and_task_page_show_plain_words_and_the_detail_on_a_click(
    coordinator: User, job: Job, as_user: AsUser
) -> None:
    client = as_user(coordinator)
    for path in (f"/jobs/{job.pk}/", f"/jobs/{job.pk}/1/"):
        page = client.get(path).content.decode()
        assert (
            f'<strong>2 ×</strong> <details class="reason">\n  <summary>{PLAIN}</summary>' in page
        )
        assert f"DICOM detail: {CONVERSION}" in page
        assert f"<summary>Nothing was delivered. 2 × {PLAIN}</summary>" in page


def test_reasons_with_the_same_plain_words_are_one_line(
    coordinator: User, job: Job, as_user: AsUser
) -> None:
    page = as_user(coordinator).get(f"/jobs/{job.pk}/").content.decode()
    assert "<strong>4 ×</strong>" in page
    assert page.count(str(plain_message(ON_DEVICE))) == 1
    assert f"DICOM detail: {OF_CLASS} {ON_DEVICE}" in page


def test_the_page_of_withheld_images_shows_plain_words_and_the_detail(
    make_user: Callable[..., User], job: Job, as_user: AsUser
) -> None:
    group = Group.objects.create(name="Reviewers of one site")
    for right in ("review_withheld", "see_all_jobs"):
        group.permissions.add(Permission.objects.get(codename=right))
    reviewer = make_user("reviewer")
    reviewer.groups.add(group)
    row = WithheldImages.objects.get()
    for path in (reverse("withheld"), reverse("withheld_group", args=[row.pk])):
        page = as_user(reviewer).get(path).content.decode()
        assert PLAIN in page
        assert str(CONVERSION) in page


def test_a_message_without_plain_words_has_no_detail(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    gone = Message("vanished")
    assert plain_message(gone) == gone
    job = make_job(coordinator, state=JobState.WARNING, message=gone)
    page = as_user(coordinator).get(f"/jobs/{job.pk}/").content.decode()
    assert str(gone) in page
    assert '<details class="reason">' not in page


def test_one_image_is_in_the_singular(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    counts = {"delivered": 1, "count": 1}
    assert str(Message("delivery.partial", **counts)) == "1 of 1 image delivered."
    assert str(Message("delivery.rest-withheld", **counts)).startswith("1 image delivered")
    job = make_job(coordinator, state=JobState.SUCCESS)
    make_item(job.tasks.get(), expected=1, delivered=1)
    assert "of 1 image<" in as_user(coordinator).get(f"/jobs/{job.pk}/").content.decode()


def test_every_reason_to_withhold_has_plain_words() -> None:
    codes = {*engine_templates._VERIFY} - {
        code for code in engine_templates._VERIFY if "clause" in code
    }
    categories = {code.partition(".")[0] for code in codes} | LIFTED_BY_PIXEL_RULE | {FACE_CODE}
    assert categories <= message_templates._PLAIN_REASONS.keys()


def test_plain_words_contain_no_terms_of_dicom() -> None:
    for template in message_templates._PLAIN_REASONS.values():
        assert isinstance(template, str)
        for term in ("DICOM", "SOP", "UID", "header", "element", "pixel", "syntax", "tag"):
            assert term not in template, template
