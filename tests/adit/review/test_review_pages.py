"""Review pages, used without JavaScript."""

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from lab.jobs import PATIENT, put_study, work
from lab.ordering import order_job
from lab.ultrasound import COLUMNS, FRAMES, ROWS, clip, put
from PIL import Image

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, ReviewDecision, WithheldImages
from adit.nodes.models import Node, NodeAccess
from adit.projects.models import ProfileVersion, Project
from adit.review import decisions, images, views
from adit_engine.pseudonymize.pixel_rules import Rectangle
from adit_engine.values.instance import Instance

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/jobs/withheld/"
REASON = "it writes names at the top"


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    images.image_cache.clear()
    yield
    images.image_cache.clear()


@pytest.fixture
def job(coordinator: User, source: Node, destination: Node, project: Project) -> Job:
    study = put_study(source, "1", images=1)
    put(source, clip(1))
    pick = PickedStudy.by_uid(source.pk, study, PATIENT)
    made = order_job(coordinator, "selective", [pick], destination.pk, project=project.pk)
    work()
    return made


@pytest.fixture
def browser(make_user: Callable[..., User], source: Node, job: Job) -> Client:
    """Client signed in as a reviewer."""
    group, _ = Group.objects.get_or_create(name="Reviewers")
    for right in ("review_withheld", "see_identified", "see_all_jobs"):
        group.permissions.add(Permission.objects.get(codename=right))
    NodeAccess.objects.create(group=group, node=source, may_read=True)
    user = make_user("reviewer")
    user.groups.add(group)
    client = Client()
    client.force_login(user)
    return client


def held() -> WithheldImages:
    return WithheldImages.objects.get()


def page() -> str:
    return reverse("withheld_group", args=[held().pk])


def found_out(browser: Client) -> None:
    browser.post(reverse("withheld_devices", args=[held().pk]))


def form(*rectangles: tuple[object, ...], do: str, reason: str = REASON) -> dict[str, object]:
    values: dict[str, object] = {
        "r-TOTAL_FORMS": 3,
        "r-INITIAL_FORMS": 0,
        "do": do,
        "reason": reason,
    }
    for number, rectangle in enumerate(rectangles):
        for name, value in zip(("left", "top", "width", "height"), rectangle, strict=True):
            values[f"r-{number}-{name}"] = value
    return values


def test_the_list_shows_devices_but_no_patient(browser: Client) -> None:
    found_out(browser)
    answer = browser.get(LIST)
    text = answer.content.decode()
    assert "Sonomaker S9" in text
    assert "Job" in text
    assert "Mustermann" not in text
    assert PATIENT not in text
    assert "no-store" in answer["Cache-Control"]


def test_an_image_is_shown_only_on_request_and_viewing_is_audited(browser: Client) -> None:
    found_out(browser)
    picture = reverse("withheld_picture", args=[held().pk])
    assert browser.get(picture).status_code == 404
    assert "Show an image" in browser.get(page()).content.decode()
    seen = AuditEvent.objects.filter(action="withheld.seen").count()
    browser.post(page(), {"do": "look"})
    assert AuditEvent.objects.filter(action="withheld.seen").count() == seen + 1
    answer = browser.get(picture, {"frame": "2"})
    assert answer["Content-Type"] == "image/png"
    assert "no-store" in answer["Cache-Control"]
    assert Image.open(BytesIO(answer.content)).size == (COLUMNS, ROWS)
    assert browser.get(picture, {"frame": FRAMES}).status_code == 409


def test_the_preview_shows_the_masked_image_without_saving(browser: Client) -> None:
    found_out(browser)
    browser.post(page(), {"do": "look"})
    answer = browser.post(page(), form((0, 0, COLUMNS, 16), do="try"))
    assert answer.status_code == 200
    assert f"mask=0,0,{COLUMNS},16" in answer.content.decode()
    picture = reverse("withheld_picture", args=[held().pk])
    shown = browser.get(picture, {"frame": 1, "mask": f"0,0,{COLUMNS},16"})
    gray = Image.open(BytesIO(shown.content)).convert("L")
    assert gray.crop((0, 0, COLUMNS, 16)).getextrema() == (0, 0)
    assert gray.crop((0, 16, COLUMNS, ROWS)).getextrema()[0] > 0
    assert ProfileVersion.objects.filter(version=2).count() == 0


def test_text_that_the_detection_finds_is_proposed_as_rectangles(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_out(browser)
    browser.post(page(), {"do": "look"})
    assert 'value="propose"' not in browser.get(page()).content.decode()
    monkeypatch.setattr(views, "is_installed", lambda: True)
    monkeypatch.setattr(decisions, "propose_rectangles", _find_top_line)
    assert 'value="propose"' in browser.get(page()).content.decode()

    text = browser.post(page(), form(do="propose")).content.decode()

    assert "1 rectangle is proposed" in text
    assert f'name="r-0-width" value="{COLUMNS}"' in text
    assert f'value="{REASON}"' in text
    assert held().decision == ReviewDecision.OPEN


def _find_top_line(images: Iterable[Instance], most: int) -> tuple[Rectangle, ...]:
    """Stand in for the detector, which is not installed in this environment."""
    assert len(list(images)) == 1
    return ((0, 0, COLUMNS, 16),)


def test_an_invalid_form_keeps_its_input_and_shows_the_errors(browser: Client) -> None:
    found_out(browser)
    browser.post(page(), {"do": "look"})
    outside = browser.post(page(), form((0, 0, COLUMNS + 9, 16), do="mask"))
    assert outside.status_code == 422
    assert "inside the image" in outside.content.decode()
    assert f'value="{COLUMNS + 9}"' in outside.content.decode()
    assert REASON in outside.content.decode()
    half = browser.post(page(), form((0, 0, "", 16), do="mask"))
    assert "all four numbers" in half.content.decode()
    silent = browser.post(page(), form((0, 0, COLUMNS, 16), do="mask", reason=""))
    assert silent.status_code == 422
    nothing = browser.post(page(), form(do="mask"))
    assert "at least one rectangle" in nothing.content.decode()
    assert held().decision == ReviewDecision.OPEN


def test_after_masking_the_owner_can_retry_the_job(
    browser: Client, job: Job, coordinator: User
) -> None:
    found_out(browser)
    browser.post(page(), {"do": "look"})
    answer = browser.post(page(), form((0, 0, COLUMNS, 16), do="mask"), follow=True)
    text = answer.content.decode()
    assert "can now retry the withheld images" in text
    assert "Masked or released, not sent yet" in text
    assert held().decision == ReviewDecision.MASKED
    owner = Client()
    owner.force_login(coordinator)
    job_page = reverse("job", args=[job.pk])
    assert "do/retry_withheld" in owner.get(job_page).content.decode()
    assert "do/retry_withheld" not in browser.get(job_page).content.decode()
    owner.post(reverse("job_action", args=[job.pk, "retry_withheld"]))
    work()
    assert not WithheldImages.objects.exists()
    report = owner.get(reverse("job_report", args=[job.pk])).content.decode()
    assert "Several attempts:" in report


def test_a_group_kept_withheld_can_be_reopened(browser: Client) -> None:
    found_out(browser)
    browser.post(page(), form(do="leave"))
    assert held().decision == ReviewDecision.LEFT
    text = browser.get(LIST).content.decode()
    assert "Kept withheld" in text
    assert "No open decisions" in text
    browser.post(page(), form(do="reopen"))
    assert held().decision == ReviewDecision.OPEN


def test_a_reviewer_without_see_identified_sees_no_image(
    browser: Client, make_user: Callable[..., User]
) -> None:
    found_out(browser)
    group = Group.objects.get(name="Reviewers")
    group.permissions.remove(Permission.objects.get(codename="see_identified"))
    assert browser.get(LIST).status_code == 200
    answer = browser.post(page(), {"do": "look"})
    assert "See identified" in answer.content.decode() or answer.status_code == 422
    picture = reverse("withheld_picture", args=[held().pk])
    assert browser.get(picture, {"look": 1}).status_code == 409


def test_the_home_page_shows_reviewers_the_number_of_open_decisions(
    browser: Client, coordinator: User
) -> None:
    home = browser.get("/").content.decode()
    assert "1 withheld image waiting for a decision" in home
    browser.post(page(), form(do="leave"))
    assert "waiting for a decision" not in browser.get("/").content.decode()
    owner = Client()
    owner.force_login(coordinator)
    assert "ithheld image" not in owner.get("/").content.decode()
