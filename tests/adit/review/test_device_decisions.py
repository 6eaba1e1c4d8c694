"""The history of decisions on devices: layouts that decide together, revocation, what was delivered."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from lab.jobs import PATIENT, put_study, work
from lab.ordering import order_job
from lab.ultrasound import BAND, COLUMNS, ROWS, clip, put

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs.actions import allowed, perform
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import DeviceDecision, Job, ReviewDecision, RuledImages, WithheldImages
from adit.nodes.models import Node, NodeAccess
from adit.projects.models import Project
from adit.projects.profile_versions import create_version, parse_rules
from adit.projects.services import choose_profile
from adit.review import decisions, groups, images
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.pixel_rules import Rectangle
from adit_engine.pseudonymize.profile import TextDetection
from adit_engine.values.instance import Instance

pytestmark = pytest.mark.django_db(transaction=True)

HISTORY = "/jobs/withheld/decisions/"
WRONG = "a name stands below the rectangle"


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    images.image_cache.clear()


@pytest.fixture
def reviewer(make_user: Callable[..., User], source: Node, groups: dict[str, Group]) -> User:
    group = Group.objects.create(name="Own reviewers")
    for right in ("review_withheld", "see_identified", "see_all_jobs"):
        group.permissions.add(Permission.objects.get(codename=right))
    NodeAccess.objects.create(group=group, node=source, may_read=True)
    user = make_user("reviewer")
    user.groups.add(group)
    return user


@pytest.fixture
def order(
    coordinator: User, source: Node, destination: Node, project: Project
) -> Callable[..., Job]:
    def made(*clips: Instance, patient_study: str = "1") -> Job:
        study = put_study(source, patient_study, images=1)
        put(source, *clips)
        pick = PickedStudy.by_uid(source.pk, study, PATIENT)
        key = f"k{Job.objects.count()}"
        order_job(coordinator, "selective", [pick], destination.pk, project=project.pk, key=key)
        work()
        return Job.objects.latest("pk")

    return made


def open_group(user: User) -> groups.WithheldGroup:
    (group,) = groups.list_groups(user, ReviewDecision.OPEN)
    if not group.device.is_known:
        images.detect_devices(user, group.rows)
        (group,) = groups.list_groups(user, ReviewDecision.OPEN)
    return group


@pytest.fixture
def ruled(order: Callable[..., Job], reviewer: User, coordinator: User) -> Job:
    """A job whose two clips were delivered by the rule of a reviewer."""
    job = order(clip(1), clip(2))
    decisions.mask(reviewer, open_group(reviewer), (BAND,), "names at the top")
    perform(coordinator, job, "retry_withheld")
    work()
    return Job.objects.get(pk=job.pk)


def test_a_revoked_rule_withholds_again_and_lists_what_it_delivered(
    ruled: Job, reviewer: User, order: Callable[..., Job], project: Project
) -> None:
    decision = DeviceDecision.objects.get()
    assert (decision.decision, decision.images) == ("masked", 2)

    made = decisions.revoke(reviewer, decision, WRONG)

    decision.refresh_from_db()
    project.refresh_from_db()
    assert (decision.revoked_by, decision.revoked_because) == (reviewer, WRONG)
    assert (project.profile, project.generation) == (made, 2)
    assert not parse_rules(made).pixel_rules
    (row,) = decisions.list_delivered(decision)
    assert (row.task.job, row.images) == (ruled, 2)
    assert AuditEvent.objects.filter(about=f"job:{ruled.pk}", action="withheld.revoked").exists()
    later = order(clip(3, study="2"), patient_study="2")
    assert later.tasks.get().items.filter(withheld=1).exists()
    assert list(decisions.list_delivered(decision)) == [row], "nothing more was delivered"


def test_what_a_rule_delivered_stays_listed_when_the_study_is_sent_again(
    ruled: Job, reviewer: User, root: User
) -> None:
    decision = DeviceDecision.objects.get()
    decisions.revoke(reviewer, decision, WRONG)
    decision.refresh_from_db()

    perform(root, ruled, "restart")
    work()

    assert open_group(reviewer).images == 2
    assert [row.images for row in decisions.list_delivered(decision)] == [2]


def test_images_that_wait_for_a_retry_are_open_again_after_the_revocation(
    order: Callable[..., Job], reviewer: User, coordinator: User
) -> None:
    job = order(clip(1))
    decisions.release(reviewer, open_group(reviewer), "no text on phantoms")
    assert not groups.list_groups(reviewer, ReviewDecision.OPEN)

    decisions.revoke(reviewer, DeviceDecision.objects.get(), WRONG)

    assert open_group(reviewer).images == 1
    assert "retry_withheld" not in allowed(coordinator, Job.objects.get(pk=job.pk))
    assert not RuledImages.objects.exists()


def test_devices_are_compared_like_in_their_rule_whatever_the_case(
    order: Callable[..., Job], reviewer: User
) -> None:
    order(clip(1), clip(2, series="8", Manufacturer="SONOMAKER"))
    for row in WithheldImages.objects.all():
        images.detect_devices(reviewer, [row])
    first, _other = groups.list_groups(reviewer, ReviewDecision.OPEN)
    decisions.mask(reviewer, first, (BAND,), "names at the top")
    decision = DeviceDecision.objects.get()
    assert (decision.images, groups.list_groups(reviewer, ReviewDecision.OPEN)) == (2, [])
    order(clip(3, study="2", Manufacturer="sonomaker"), patient_study="2")
    assert [row.images for row in decisions.list_delivered(decision)] == [1]

    decisions.revoke(reviewer, decision, WRONG)

    waiting = groups.list_groups(reviewer, ReviewDecision.OPEN)
    assert {group.device.manufacturer for group in waiting} == {"Sonomaker", "SONOMAKER"}


def test_a_rule_is_revoked_once_by_a_reviewer_and_with_a_reason(
    ruled: Job, reviewer: User, coordinator: User
) -> None:
    decision = DeviceDecision.objects.get()
    with pytest.raises(NotPermitted):
        decisions.revoke(coordinator, decision, WRONG)
    with pytest.raises(InvalidInput, match="reason"):
        decisions.revoke(reviewer, decision, " ")
    decisions.revoke(reviewer, decision, WRONG)
    with pytest.raises(InvalidInput) as refused:
        decisions.revoke(reviewer, decision, WRONG)
    assert refused.value.message.code == "review.rule-gone"


def test_the_pages_tell_who_decided_when_and_why_and_revoke(
    ruled: Job, reviewer: User, coordinator: User
) -> None:
    browser = Client()
    browser.force_login(reviewer)
    text = browser.get(HISTORY).content.decode()
    assert "Sonomaker S9" in text
    assert "names at the top" in text
    address = reverse("withheld_decision", args=[DeviceDecision.objects.get().pk])
    text = browser.get(address).content.decode()
    assert f"Job {ruled.pk}, study 1" in text
    assert "2 images." in text
    assert "btn-danger" in text
    assert PATIENT not in text

    assert browser.post(address, {"reason": ""}).status_code == 422
    text = browser.post(address, {"reason": WRONG}, follow=True).content.decode()

    assert "are withheld from now on" in text
    assert WRONG in text
    assert "btn-danger" not in text, "it cannot be revoked twice"
    assert "revoked" in browser.get(HISTORY).content.decode()


def test_a_revocation_tells_what_decides_without_the_rule(
    ruled: Job, reviewer: User, root: User, project: Project
) -> None:
    project.refresh_from_db()
    rules = parse_rules(project.profile)
    looking = replace(rules, version=rules.version + 1, text_detection=TextDetection.IMAGES)
    choose_profile(root, project, create_version(root, looking.to_text()))
    browser = Client()
    browser.force_login(reviewer)
    address = reverse("withheld_decision", args=[DeviceDecision.objects.get().pk])

    text = browser.post(address, {"reason": WRONG}, follow=True).content.decode()

    assert "leave only if the text detection finds no text in them" in text
    assert "are withheld from now on" not in text


def test_decisions_in_projects_of_invisible_jobs_are_not_shown(ruled: Job, reviewer: User) -> None:
    group = Group.objects.get(name="Own reviewers")
    group.permissions.remove(Permission.objects.get(codename="see_all_jobs"))
    browser = Client()
    browser.force_login(reviewer)

    assert "Sonomaker" not in browser.get(HISTORY).content.decode()
    address = reverse("withheld_decision", args=[DeviceDecision.objects.get().pk])
    assert browser.post(address, {"reason": WRONG}).status_code == 404


# Layouts ----------------------------------------------------------------------------------------

BOTTOM = (0, ROWS - 16, COLUMNS, 16)


def find_places(image: Instance) -> tuple[Rectangle, ...]:
    """Stand in for the detector: the third series has text at the bottom."""
    return (BOTTOM,) if image.in_header.ref.series_uid.endswith("9") else (BAND,)


def test_layouts_are_shown_and_decided_together(
    order: Callable[..., Job], reviewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "is_installed", lambda: True)
    monkeypatch.setattr(images, "find_text_places", find_places)
    order(clip(1), clip(2, series="8"), clip(3, series="9"))
    group = open_group(reviewer)
    browser = Client()
    browser.force_login(reviewer)
    address = reverse("withheld_group", args=[group.pk])
    browser.post(address, {"do": "look"})

    text = browser.get(address).content.decode()

    assert "3 of 3 series were compared: 2 layouts" in text
    first, second = images.list_layouts(reviewer, group)
    assert [len(first.rows), len(second.rows)] == [2, 1]
    assert f'src="{reverse("withheld_picture", args=[second.pk])}?frame' in (
        browser.get(address, {"image": second.pk}).content.decode()
    )
    previews = decisions.preview_layouts(reviewer, group, (BAND,))
    assert [preview.row.pk for preview in previews] == [first.pk, second.pk]


def test_a_rule_under_which_one_layout_stays_withheld_is_refused(
    order: Callable[..., Job], reviewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = clip(3, series="9", BitsAllocated=8, BitsStored=8, PixelData=b"too short!")
    order(clip(1), bad)
    (group,) = groups.list_groups(reviewer, ReviewDecision.OPEN)
    images.detect_devices(reviewer, group.rows)
    group = open_group(reviewer)
    images.get_images(reviewer, group)

    with pytest.raises(InvalidInput) as refused:
        decisions.mask(reviewer, group, (BAND,), "names at the top")

    assert refused.value.message.code == "review.still-withheld"


# Retry after the text detection was turned on ---------------------------------------------------


def test_a_retry_is_offered_once_the_profile_looks_at_pixels(
    order: Callable[..., Job],
    coordinator: User,
    root: User,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = order(clip(1))
    rules = parse_rules(project.profile)
    looking = replace(rules, version=rules.version + 1, text_detection=TextDetection.IMAGES)
    choose_profile(root, project, create_version(root, looking.to_text()))

    def is_offered() -> bool:
        return "retry_withheld" in allowed(coordinator, Job.objects.get(pk=job.pk))

    assert not is_offered(), "the text detection is not installed"
    monkeypatch.setattr(decisions, "is_installed", lambda: True)
    assert is_offered()
