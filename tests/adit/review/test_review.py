"""Review of withheld images: grouping by device, viewing, decisions, and retry."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import Group, Permission
from lab.jobs import PATIENT, put_study, shelf, work
from lab.ordering import order_job
from lab.ultrasound import BAND, COLUMNS, FRAMES, ROWS, US_FRAMES, clip, pixels, put
from pydicom import dcmread
from pydicom.dataset import Dataset

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.blocklist.blocking import PatientBlocked
from adit.jobs import states
from adit.jobs.actions import allowed, perform
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState, ReviewDecision, TaskState, WithheldImages
from adit.nodes.models import Node, NodeAccess
from adit.notifications.models import Notification, NotificationKind
from adit.projects import reviewed_rules, services
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import create_version, draft_next_version, parse_rules
from adit.results import applied_rules
from adit.results.report import build_report
from adit.review import decisions as review_decisions
from adit.review import groups as review_groups
from adit.review import images
from adit.review.decisions import RulePreview
from adit.review.groups import WithheldGroup as HeldGroup
from adit_engine.dicom_file import part10
from adit_engine.errors import InvalidInput, NotFound
from adit_engine.nodes.memory import MemoryNode
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.pixel_rules import PixelRule
from adit_engine.values.device import ImagingDevice

pytestmark = pytest.mark.django_db(transaction=True)

OTHER_PATIENT = "PID-0002"
DEVICE = ImagingDevice(US_FRAMES, "Sonomaker", "S9", "V1.2", ROWS, COLUMNS)


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
    """Order and run a study with a CT series and an ultrasound series."""

    def made(*clips: object, to: Node | None = None) -> Job:
        study = put_study(source, "1", images=2)
        put(source, *(clips or (clip(1), clip(2))))  # type: ignore[arg-type]
        pick = PickedStudy.by_uid(source.pk, study, PATIENT)
        place, key = (to or destination).pk, f"k{Job.objects.count()}"
        job = order_job(coordinator, "selective", [pick], place, project=project.pk, key=key)
        work()
        job.refresh_from_db()
        return job

    return made


def only_group(user: User, *decisions: ReviewDecision) -> HeldGroup:
    (group,) = review_groups.list_groups(user, *(decisions or (ReviewDecision.OPEN,)))
    return group


def known_group(user: User) -> HeldGroup:
    images.detect_devices(user, only_group(user).rows)
    return only_group(user)


def delivered(node: Node) -> list[Dataset]:
    return [
        dcmread(BytesIO(b"".join(bytes(part) for part in part10.file_parts(instance))))
        for instance in shelf(node).values()
    ]


def test_withheld_images_are_grouped_by_sop_class(
    order: Callable[..., Job], reviewer: User
) -> None:
    job = order()
    group = only_group(reviewer)
    assert (group.code, group.images, group.jobs) == ("pixel-rule", 2, [job.pk])
    assert group.device == ImagingDevice(US_FRAMES)
    assert group.is_liftable
    assert not group.device.is_known


def test_device_detection_identifies_the_device_and_is_audited(
    order: Callable[..., Job], reviewer: User
) -> None:
    job = order()
    group = known_group(reviewer)
    assert group.device == DEVICE
    event = AuditEvent.objects.get(action="withheld.seen")
    assert (event.user, event.about) == (reviewer, f"job:{job.pk}")
    assert event.patient_index
    assert PATIENT not in str(event.details)


def test_an_image_is_fetched_once_and_cached_only_for_its_reviewer(
    order: Callable[..., Job], reviewer: User, root: User, source: Node
) -> None:
    order()
    row = only_group(reviewer).rows[0]
    image = images.get_image(reviewer, row)
    assert image.instance_uid.endswith("7.1")
    MemoryNode.shelves[source.name].clear()
    assert images.get_image(reviewer, row) is image
    assert images.image_cache.get((root.pk, row.pk)) is None
    with pytest.raises(NotFound):
        images.get_image(root, row)


def test_images_of_a_blocked_patient_are_not_shown_even_if_they_were_fetched_before(
    order: Callable[..., Job], reviewer: User, dpo: User
) -> None:
    order()
    group = only_group(reviewer)
    images.get_images(reviewer, group)
    assert images.list_layouts(reviewer, group)

    blocking.block_patient(
        dpo, None, "PACS1", PATIENT, reason="objection", withdrawn_on=date.today()
    )

    assert images.get_cached(reviewer, group.rows[0]) is None
    assert not images.list_layouts(reviewer, group)
    for show in (images.get_images, review_decisions.propose_mask):
        with pytest.raises(PatientBlocked):
            show(reviewer, group)
    review_decisions.keep_withheld(reviewer, group, "the patient objects")


def test_a_group_shows_images_of_its_patients_who_are_not_blocked(
    order: Callable[..., Job],
    reviewer: User,
    coordinator: User,
    source: Node,
    destination: Node,
    project: Project,
    dpo: User,
) -> None:
    order()
    study = put_study(source, "2", images=1, PatientID=OTHER_PATIENT)
    put(source, clip(3, study="2", series="8", PatientID=OTHER_PATIENT))
    pick = PickedStudy.by_uid(source.pk, study, OTHER_PATIENT)
    other = order_job(
        coordinator, "selective", [pick], destination.pk, project=project.pk, key="other"
    )
    work()
    images.detect_devices(reviewer, only_group(reviewer).rows)
    group = only_group(reviewer)
    blocking.block_patient(
        dpo, None, "PACS1", PATIENT, reason="objection", withdrawn_on=date.today()
    )

    images.get_images(reviewer, group)

    (layout,) = images.list_layouts(reviewer, group)
    assert [row.item.task.job_id for row in layout.rows] == [other.pk]
    (seen,) = review_decisions.preview_layouts(reviewer, group, (BAND,))
    assert seen.row in layout.rows


def test_viewing_and_deciding_require_the_review_permissions(
    order: Callable[..., Job], reviewer: User, coordinator: User
) -> None:
    order()
    group = known_group(reviewer)
    with pytest.raises(NotPermitted):
        images.get_image(coordinator, group.rows[0])
    for deed in (review_decisions.release, review_decisions.keep_withheld):
        with pytest.raises(NotPermitted, match="Review"):
            deed(coordinator, group, "I want them")
    with pytest.raises(NotPermitted):
        review_decisions.mask(coordinator, group, (BAND,), "I want them")


def test_a_retry_delivers_masked_images_into_the_same_study(
    order: Callable[..., Job],
    reviewer: User,
    coordinator: User,
    destination: Node,
    project: Project,
) -> None:
    job = order()
    assert job.state == JobState.SUCCESS
    assert "retry_withheld" not in allowed(coordinator, job)
    first = {uid: instance.sha256() for uid, instance in shelf(destination).items()}
    study_uid = delivered(destination)[0].StudyInstanceUID
    profile = review_decisions.mask(
        reviewer, known_group(reviewer), (BAND,), "it writes names at the top"
    )
    project.refresh_from_db()
    assert (project.profile, project.generation) == (profile, 1)
    job = Job.objects.get(pk=job.pk)
    assert "retry_withheld" in allowed(coordinator, job)
    perform(coordinator, job, "retry_withheld")
    assert job.state == JobState.PENDING
    work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert "retry_withheld" not in allowed(coordinator, job)
    after = {uid: instance.sha256() for uid, instance in shelf(destination).items()}
    assert len(after) == 4
    assert all(after[uid] == digest for uid, digest in first.items())
    assert {ds.StudyInstanceUID for ds in delivered(destination)} == {study_uid}
    clips = sorted(
        (ds for ds in delivered(destination) if ds.SOPClassUID == US_FRAMES),
        key=lambda ds: int(ds.InstanceNumber),
    )
    for number, ds in enumerate(clips, start=1):
        assert ds.BurnedInAnnotation == "NO"
        assert "113101" in [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]
        now = np.frombuffer(ds.PixelData, "u1").reshape(FRAMES, ROWS, COLUMNS)
        assert not now[:, :16].any()
        assert (now[:, 16:] == pixels(number)[:, 16:]).all()
    assert not WithheldImages.objects.exists()


def test_a_retry_fetches_only_the_withheld_series(
    order: Callable[..., Job],
    reviewer: User,
    coordinator: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = order()
    review_decisions.mask(reviewer, known_group(reviewer), (BAND,), "names at the top")
    asked: list[str] = []
    fetch = MemoryNode.fetch

    def watched(self: MemoryNode, refs: object, *, patient_id: str = "") -> object:
        asked.extend(str(ref) for ref in refs)  # type: ignore[attr-defined]
        return fetch(self, refs, patient_id=patient_id)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryNode, "fetch", watched)
    perform(coordinator, job, "retry_withheld")
    work()
    assert asked
    assert all(".1.7" in ref for ref in asked)


def test_the_report_lists_both_profile_versions_and_decisions_are_audited(
    order: Callable[..., Job], reviewer: User, coordinator: User
) -> None:
    job = order()
    review_decisions.mask(reviewer, known_group(reviewer), (BAND,), "names at the top")
    perform(coordinator, job, "retry_withheld")
    work()
    job.refresh_from_db()
    report = build_report(job)
    assert [(r["version"], r["generation"]) for r in report["rules"]] == [(1, 1), (2, 1)]
    (study,) = report["studies"]
    assert [r["version"] for r in study["versions"]] == [1, 2]
    assert study["study_uid"]
    assert report["totals"]["delivered"] == 4
    told = set(AuditEvent.objects.filter(about=f"job:{job.pk}").values_list("action", flat=True))
    assert {"withheld.masked", "job.withheld_retried"} <= told
    event = AuditEvent.objects.get(action="withheld.masked")
    assert event.user == reviewer
    assert event.details["reason"] == "names at the top"


def test_a_repeated_retry_runs_once_and_requires_permission(
    order: Callable[..., Job], reviewer: User, coordinator: User, stranger: User
) -> None:
    job = order()
    with pytest.raises(NotPermitted) as refused:
        perform(coordinator, job, "retry_withheld")
    assert refused.value.message.code == "review.nothing-to-retry"
    review_decisions.release(reviewer, known_group(reviewer), "it writes nothing into clips")
    with pytest.raises(NotPermitted):
        perform(stranger, job, "retry_withheld")
    perform(coordinator, job, "retry_withheld")
    perform(coordinator, job, "retry_withheld")
    assert AuditEvent.objects.filter(action="job.withheld_retried").count() == 1


def adopt_rule_for(reviewer: User, project: Project, **changes: object) -> None:
    project.refresh_from_db()
    device = replace(DEVICE, **changes)  # type: ignore[arg-type]
    rule = PixelRule.for_device(device, (BAND,), "looked at", RiskDecision.ACCEPT)
    reviewed_rules.adopt_rule(reviewer, project, rule)


def test_a_retry_is_offered_only_if_a_new_rule_covers_a_withheld_image(
    order: Callable[..., Job],
    reviewer: User,
    coordinator: User,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_offered() -> bool:
        return "retry_withheld" in allowed(coordinator, Job.objects.get(pk=job.pk))

    job = order(clip(1))
    known_group(reviewer)
    monkeypatch.setattr(applied_rules, "__version__", "99.0")
    assert not is_offered(), "another version of the program releases nothing"
    adopt_rule_for(reviewer, project, model="S10")
    adopt_rule_for(reviewer, project, sop_class="1.2.840.10008.5.1.4.1.1.6.1")
    assert not is_offered(), "these rules are for other devices"
    adopt_rule_for(reviewer, project)
    assert is_offered()

    perform(coordinator, job, "retry_withheld")
    work()
    assert not is_offered(), "everything is delivered"


def test_a_retry_is_offered_if_a_rule_may_cover_a_device_that_is_not_detected(
    order: Callable[..., Job], reviewer: User, coordinator: User, project: Project
) -> None:
    job = order(clip(1))
    assert only_group(reviewer).device == ImagingDevice(US_FRAMES)
    adopt_rule_for(reviewer, project, model="S10")
    assert "retry_withheld" in allowed(coordinator, Job.objects.get(pk=job.pk))

    perform(coordinator, job, "retry_withheld")
    work()
    assert only_group(reviewer).device == DEVICE
    assert "retry_withheld" not in allowed(coordinator, Job.objects.get(pk=job.pk))


def test_a_retry_is_offered_if_the_project_now_accepts_the_risk(
    order: Callable[..., Job], coordinator: User, project: Project
) -> None:
    job = order(clip(1), radiograph(2, "NO"))
    project.refresh_from_db()
    project.faces, project.faces_reason = "accept", "no heads"
    project.save()
    assert "retry_withheld" not in allowed(coordinator, Job.objects.get(pk=job.pk))
    project.header_word, project.header_word_reason = "accept", "phantoms alone"
    project.save()
    assert "retry_withheld" in allowed(coordinator, Job.objects.get(pk=job.pk))


def test_released_images_are_delivered_with_unchanged_pixels(
    order: Callable[..., Job], reviewer: User, coordinator: User, destination: Node
) -> None:
    job = order(clip(1))
    review_decisions.release(reviewer, known_group(reviewer), "it writes nothing into clips")
    told = Notification.objects.get(user=coordinator, kind=NotificationKind.IMAGES_RELEASED)
    assert told.link == f"/jobs/{job.pk}/"
    perform(coordinator, job, "retry_withheld")
    work()
    (ds,) = (ds for ds in delivered(destination) if ds.SOPClassUID == US_FRAMES)
    assert ds.PixelData == pixels(1).tobytes()
    assert "BurnedInAnnotation" not in ds
    assert "113101" not in [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]


def test_images_with_burned_in_annotation_yes_cannot_be_released(
    order: Callable[..., Job], reviewer: User
) -> None:
    order(clip(1, BurnedInAnnotation="YES"))
    group = known_group(reviewer)
    with pytest.raises(InvalidInput) as refused:
        review_decisions.release(reviewer, group, "no text, I think")
    assert refused.value.message.code == "review.still-withheld"
    assert review_decisions.mask(reviewer, group, (BAND,), "names at the top")


def test_images_of_another_size_from_the_same_device_stay_withheld(
    order: Callable[..., Job], reviewer: User, coordinator: User
) -> None:
    half = pixels(3)[:, : ROWS // 2]
    other = clip(3, Rows=ROWS // 2, PixelData=half.tobytes())
    job = order(clip(1), other)
    review_decisions.mask(reviewer, known_group(reviewer), (BAND,), "names at the top")
    perform(coordinator, job, "retry_withheld")
    work()
    group = only_group(reviewer)
    assert (group.device.rows, group.images) == (ROWS // 2, 1)
    assert group.device.is_known


def test_a_group_kept_withheld_leaves_the_open_list_and_can_be_reopened(
    order: Callable[..., Job], reviewer: User
) -> None:
    order()
    group = known_group(reviewer)
    review_decisions.keep_withheld(reviewer, group, "nobody needs them")
    assert review_groups.list_groups(reviewer, ReviewDecision.OPEN) == []
    with pytest.raises(NotPermitted) as refused:
        review_decisions.mask(reviewer, group_now(reviewer, group), (BAND,), "names")
    assert refused.value.message.code == "review.already-decided"
    left = only_group(reviewer, ReviewDecision.LEFT)
    review_decisions.reopen(reviewer, left, "somebody needs them after all")
    assert only_group(reviewer).pk == group.pk
    assert AuditEvent.objects.filter(action__in=("withheld.left", "withheld.reopened")).count() == 2


def group_now(user: User, group: HeldGroup) -> HeldGroup:
    found = review_groups.find_group(user, group.pk)
    assert found is not None
    return found


def test_decisions_require_a_reason_and_nobody_masks_their_own_order(
    order: Callable[..., Job], reviewer: User, coordinator: User
) -> None:
    order()
    group = known_group(reviewer)
    with pytest.raises(InvalidInput) as refused:
        review_decisions.keep_withheld(reviewer, group, " ")
    assert refused.value.message.code == "reason.invalid"
    with pytest.raises(InvalidInput) as refused:
        review_decisions.mask(reviewer, group, (BAND,), "")
    assert refused.value.message.code == "reason.invalid"
    reviewers = Group.objects.get(name="Own reviewers")
    coordinator.groups.add(reviewers)
    coordinator = User.objects.get(pk=coordinator.pk)
    with pytest.raises(NotPermitted) as refused:
        review_decisions.mask(coordinator, group, (BAND,), "names at the top")
    assert refused.value.message.code == "review.own-order"
    review_decisions.keep_withheld(coordinator, group, "rather not")


@pytest.mark.parametrize("rectangle", [(0, 0, COLUMNS + 1, 5), (0, 0, 0, 5), (-1, 0, 5, 5)])
def test_rectangles_outside_the_image_are_rejected(
    rectangle: tuple[int, int, int, int], order: Callable[..., Job], reviewer: User
) -> None:
    order()
    group = known_group(reviewer)
    with pytest.raises(InvalidInput, match="inside the image"):
        review_decisions.mask(reviewer, group, (rectangle,), "names at the top")
    assert ProfileVersion.objects.filter(version=2).count() == 0


def test_images_of_a_withheld_sop_class_can_only_be_kept_withheld(
    order: Callable[..., Job], reviewer: User
) -> None:
    pdf = clip(1, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    order(pdf)
    group = only_group(reviewer)
    assert group.code == "class"
    assert not group.is_liftable
    with pytest.raises((NotPermitted, InvalidInput)):
        review_decisions.release(reviewer, group, "harmless")
    review_decisions.keep_withheld(reviewer, group, "a document")


def test_images_of_a_device_without_a_model_name_cannot_be_masked(
    order: Callable[..., Job], reviewer: User
) -> None:
    order(clip(1, ManufacturerModelName=""))
    group = known_group(reviewer)
    assert not group.has_device
    with pytest.raises((NotPermitted, InvalidInput)):
        review_decisions.mask(reviewer, group, (BAND,), "names at the top")


def test_a_reviewer_without_see_all_jobs_sees_no_groups_of_other_users(
    order: Callable[..., Job], reviewer: User
) -> None:
    order()
    group = Group.objects.get(name="Own reviewers")
    group.permissions.remove(Permission.objects.get(codename="see_all_jobs"))
    alone = User.objects.get(pk=reviewer.pk)
    assert review_groups.list_groups(alone, *ReviewDecision) == []
    assert review_groups.find_group(alone, WithheldImages.objects.get().pk) is None


def test_a_retry_under_a_new_generation_delivers_the_whole_study_again(
    order: Callable[..., Job],
    reviewer: User,
    coordinator: User,
    root: User,
    destination: Node,
    project: Project,
) -> None:
    """A retry must not mix images of two generations in one study."""
    job = order()
    strict = ProfileVersion.objects.create(
        name="Strict", text='name = "Strict"\nversion = 1\n\n[[rules]]\ncode = "113100"\n'
    )
    services.choose_profile(root, project, strict)
    assert project.generation == 2
    assert "retry_withheld" not in allowed(coordinator, Job.objects.get(pk=job.pk))
    before = {ds.StudyInstanceUID for ds in delivered(destination)}
    states.move_row(job.tasks.get(), TaskState.PENDING)
    work()
    report = build_report(Job.objects.get(pk=job.pk))
    (study,) = report["studies"]
    assert [(v["generation"], v["superseded"]) for v in study["versions"]] == [(1, 2), (2, 0)]
    now = [ds for ds in delivered(destination) if ds.StudyInstanceUID not in before]
    assert len(now) == 2
    assert {ds.StudyInstanceUID for ds in now} == {study["study_uid"]}
    assert report["totals"]["delivered"] == 2


def test_a_profile_version_that_only_adds_rules_keeps_the_generation(
    root: User, project: Project
) -> None:
    rule = (
        f'\n[[rules]]\ncode = "113101"\n\n[[pixels]]\nsop_class = "{US_FRAMES}"\n'
        'manufacturer = "A"\nmodel = "B"\nsoftware = "*"\nrows = 9\ncolumns = 9\n'
        "rectangles = [[0, 0, 9, 1]]\n"
    )
    second = create_version(root, draft_next_version(project.profile) + rule)
    services.choose_profile(root, project, second)
    assert project.generation == 1
    third = create_version(root, draft_next_version(second).replace("9, 1", "9, 2"))
    services.choose_profile(root, project, third)
    assert project.generation == 2


def radiograph(number: int, burned_in: str | None) -> object:
    """Radiograph of one device with the given Burned In Annotation."""
    values: dict[str, object] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
        "Modality": "CR",
        "NumberOfFrames": None,
        "FrameTime": None,
        "PixelData": pixels(number)[0].tobytes(),
    }
    if burned_in is not None:
        values["BurnedInAnnotation"] = burned_in
    return clip(number, **values)


@pytest.fixture
def trusting(project: Project) -> Project:
    """Project that accepts Burned In Annotation as given in headers."""
    project.header_word, project.header_word_reason = "accept", "phantoms alone"
    project.save()
    return project


def test_masked_radiographs_are_delivered_whatever_their_header_says(
    order: Callable[..., Job],
    reviewer: User,
    coordinator: User,
    destination: Node,
    project: Project,
) -> None:
    job = order(radiograph(1, "NO"), radiograph(2, None))
    group = known_group(reviewer)
    assert (group.code, group.images, group.is_liftable) == ("header-word", 2, True)

    review_decisions.mask(reviewer, group, (BAND,), "names at the top")
    perform(coordinator, job, "retry_withheld")
    work()

    project.refresh_from_db()
    assert project.generation == 1
    left = [image for image in delivered(destination) if image.Modality == "CR"]
    assert len(left) == 2
    assert all(
        "113101" in {code.CodeValue for code in image.DeidentificationMethodCodeSequence}
        for image in left
    )
    (rule,) = parse_rules(project.profile).pixel_rules
    assert rule.applies == "all"


def test_a_pixel_rule_covers_all_reasons_and_keeps_delivered_images(
    order: Callable[..., Job],
    reviewer: User,
    coordinator: User,
    destination: Node,
    trusting: Project,
) -> None:
    job = order(radiograph(1, None), radiograph(2, "YES"), radiograph(3, "NO"))
    groups = {
        group.code: group for group in review_groups.list_groups(reviewer, ReviewDecision.OPEN)
    }
    assert set(groups) == {"burned-in-unknown", "burned-in"}
    first = {uid: instance.sha256() for uid, instance in shelf(destination).items()}
    review_decisions.mask(reviewer, groups["burned-in-unknown"], (BAND,), "names at the top")
    assert review_groups.list_groups(reviewer, ReviewDecision.OPEN) == []
    perform(coordinator, job, "retry_withheld")
    work()
    after = {uid: instance.sha256() for uid, instance in shelf(destination).items()}
    assert len(after) == len(first) + 2
    assert all(after[uid] == digest for uid, digest in first.items())


def test_a_release_excludes_images_with_burned_in_annotation_yes(
    order: Callable[..., Job], reviewer: User, trusting: Project
) -> None:
    order(radiograph(1, None), radiograph(2, "YES"))
    groups = {
        group.code: group for group in review_groups.list_groups(reviewer, ReviewDecision.OPEN)
    }
    with pytest.raises(InvalidInput) as refused:
        review_decisions.release(reviewer, groups["burned-in"], "no text")
    assert refused.value.message.code == "review.text-announced"
    review_decisions.release(reviewer, groups["burned-in-unknown"], "no text")
    assert only_group(reviewer).code == "burned-in"


def test_a_pixel_rule_does_not_override_keep_withheld_of_the_same_device(
    order: Callable[..., Job], reviewer: User, trusting: Project
) -> None:
    order(radiograph(1, None), radiograph(2, "YES"))
    groups = {
        group.code: group for group in review_groups.list_groups(reviewer, ReviewDecision.OPEN)
    }
    review_decisions.keep_withheld(reviewer, groups["burned-in"], "text in the lungs, too")
    with pytest.raises(NotPermitted) as refused:
        review_decisions.mask(reviewer, groups["burned-in-unknown"], (BAND,), "names at the top")
    assert refused.value.message.code == "review.kept-withheld"


def test_a_release_does_not_replace_a_decision_that_was_made_during_its_preview(
    order: Callable[..., Job],
    reviewer: User,
    root: User,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order()
    group = known_group(reviewer)
    preview = review_decisions.preview_layouts

    def preview_slowly(*args: Any) -> list[RulePreview]:
        seen = preview(*args)
        review_decisions.keep_withheld(root, only_group(root), "a name is burned in")
        return seen

    monkeypatch.setattr(review_decisions, "preview_layouts", preview_slowly)

    with pytest.raises(NotPermitted) as refused:
        review_decisions.release(reviewer, group, "it never burns in text")

    assert refused.value.message.code == "review.already-decided"
    assert only_group(reviewer, ReviewDecision.LEFT).images == 2
    before = project.profile
    project.refresh_from_db()
    assert project.profile == before


def test_images_that_were_released_meanwhile_are_not_kept_withheld(
    order: Callable[..., Job], reviewer: User, root: User
) -> None:
    order()
    group = known_group(reviewer)
    review_decisions.release(reviewer, group, "it never burns in text")

    with pytest.raises(NotPermitted) as refused:
        review_decisions.keep_withheld(root, group, "a name is burned in")

    assert refused.value.message.code == "review.already-decided"
    assert only_group(reviewer, ReviewDecision.RELEASED).images == 2


def test_a_rule_that_would_change_delivered_images_is_rejected(
    reviewer: User, root: User, project: Project
) -> None:
    any_version = PixelRule.for_device(
        replace(DEVICE, software="*"), (BAND,), "looked at", RiskDecision.ACCEPT
    )
    reviewed_rules.adopt_rule(reviewer, project, any_version)
    with pytest.raises(InvalidInput) as refused:
        reviewed_rules.adopt_rule(
            reviewer,
            project,
            PixelRule.for_device(DEVICE, ((0, 0, 9, 9),), "more", RiskDecision.ACCEPT),
        )
    assert refused.value.message.code == "profile-version.changes-delivered-images"
    project.refresh_from_db()
    assert (project.profile.version, project.generation) == (2, 1)
