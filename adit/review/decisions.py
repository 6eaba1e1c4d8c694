"""Decisions of reviewers on withheld images: mask, release, keep withheld, reopen.

Used by the review pages, and by the retry of what was released.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.jobs import visibility
from adit.jobs.models import (
    DeviceDecision,
    Job,
    ReviewDecision,
    RuledImages,
    TaskState,
    WithheldImages,
)
from adit.jobs.notifications import notify_images_released
from adit.projects import reviewed_rules, risks, services
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import parse_rules
from adit.projects.validators import validate_reason
from adit.results import applied_rules
from adit.results.applied_rules import AppliedRules
from adit.review import images
from adit.review.groups import WithheldGroup, get_device, match_device
from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.messages import Message
from adit_engine.pseudonymize.admission import LIFTED_BY_PIXEL_RULE
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.pixel_rules import PixelRule, Rectangle, example_rules
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.pseudonymize.tables import admitted_sop_classes
from adit_engine.pseudonymize.text_detection.detector import is_installed
from adit_engine.pseudonymize.text_detection.inspection import INSPECTED_MODALITIES, must_inspect
from adit_engine.pseudonymize.text_detection.proposal import propose_rectangles
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance

MAX_RECTANGLES = 40
MAX_PROPOSAL_IMAGES = 3
CODES_NOT_ANNOUNCED = frozenset({"burned-in", "text-found"})
"""Codes that a release cannot lift: the image states that it contains text, or text was found."""
_PREVIEW_PSEUDONYM = "TRY-IT-0001"


@dataclass(frozen=True, slots=True)
class RulePreview:
    """The image that a rule would produce, or why it would still be withheld."""

    row: WithheldImages
    image: Instance | None
    reason: Message | None = None


def preview_layouts(
    user: User, group: WithheldGroup, rectangles: tuple[Rectangle, ...]
) -> list[RulePreview]:
    """Apply the rule to one image of each layout that the user has seen.

    Raises what `preview_rule` raises.
    """
    shown = images.list_layouts(user, group)
    rows = [layout.rows[0] for layout in shown] or images.list_viewable(group)[:1]
    return [preview_rule(user, group, rectangles, row) for row in rows]


def preview_rule(
    user: User,
    group: WithheldGroup,
    rectangles: tuple[Rectangle, ...],
    row: WithheldImages | None = None,
) -> RulePreview:
    """Apply the rule to one image of the group and verify it; nothing is stored.

    Raises what `images.get_image` raises, and InvalidInput for invalid rectangles.
    """
    row = row or group.rows[0]
    image = images.get_image(user, row)
    rules = reviewed_rules.add_rule(
        parse_rules(group.project.profile), _make_rule(group, rectangles, "project run")
    )
    key = ProjectKey(secrets.token_bytes(32))
    change = Pseudonymization(
        rules, _PREVIEW_PSEUDONYM, key, None, visit=None, **risks.change_parameters(group.project)
    )
    try:
        if image.defect:
            raise InstanceWithheld("fault", fault=image.defect)
        made = apply(change, image)
        verify(image, made, change)
    except InstanceWithheld as held:
        return RulePreview(row, None, held.message)
    return RulePreview(row, made)


def suggest_rectangles(group: WithheldGroup) -> tuple[Rectangle, ...]:
    """Return rectangles for the same device from any profile or example."""
    newest = ProfileVersion.objects.order_by("-pk")[:50]
    known = [rule for profile in newest for rule in parse_rules(profile).pixel_rules]
    covering = (rule for rule in (*known, *example_rules()) if rule.covers(group.device))
    return next((rule.rectangles for rule in covering if rule.rectangles), ())


def propose_mask(user: User, group: WithheldGroup) -> tuple[Rectangle, ...]:
    """Return rectangles around the text found in images of the group, of several series.

    Raises what `images.get_image` raises, and InstanceWithheld if the detector fails.
    """
    shown = (
        images.get_image(user, row) for row in images.list_viewable(group)[:MAX_PROPOSAL_IMAGES]
    )
    return propose_rectangles(shown, MAX_RECTANGLES)


def mask(
    user: User, group: WithheldGroup, rectangles: tuple[Rectangle, ...], reason: str
) -> ProfileVersion:
    """Mask rectangles in all images of the device from now on.

    Adds a pixel rule in a new profile version. Raises NotPermitted, InvalidInput.
    """
    if not rectangles:
        raise InvalidInput("review.no-rectangle")
    return _apply_rule(user, group, rectangles, reason, ReviewDecision.MASKED)


def release(user: User, group: WithheldGroup, reason: str) -> ProfileVersion:
    """Release the images of a device: the reviewer confirms that it burns in no text.

    Raises NotPermitted, InvalidInput.
    """
    if group.code in CODES_NOT_ANNOUNCED:
        raise InvalidInput("review.text-announced")
    return _apply_rule(user, group, (), reason, ReviewDecision.RELEASED)


def keep_withheld(user: User, group: WithheldGroup, reason: str) -> None:
    """Keep the images withheld and remove them from the list of open decisions."""
    require(user, Right.REVIEW_WITHHELD)
    reason = validate_reason(reason)
    with transaction.atomic():
        _lock_decisions(group)
        _require_state(group, ReviewDecision.OPEN)
        _write_decision(
            user, WithheldImages.objects.filter(pk__in=_row_ids(group)), ReviewDecision.LEFT, reason
        )
        _keep_decision(user, group, ReviewDecision.LEFT, reason, group.images)
        _record_groups(user, "withheld.left", [group], {"reason": reason, "code": group.code})


def reopen(user: User, group: WithheldGroup, reason: str) -> None:
    """Reopen the decision on images that were kept withheld."""
    require(user, Right.REVIEW_WITHHELD)
    reason = validate_reason(reason)
    with transaction.atomic():
        _lock_decisions(group)
        _require_state(group, ReviewDecision.LEFT)
        _write_decision(
            user, WithheldImages.objects.filter(pk__in=_row_ids(group)), ReviewDecision.OPEN, reason
        )
        _keep_decision(user, group, ReviewDecision.OPEN, reason, group.images)
        _record_groups(user, "withheld.reopened", [group], {"reason": reason, "code": group.code})


def tasks_with_released_images(job: Job) -> list[int]:
    """Return ended tasks with withheld images that a rule or decision covers only since then.

    Only tasks of the current generation are returned.
    """
    now = applied_rules.current_rules(job)
    ended = (TaskState.SUCCESS, TaskState.WARNING, TaskState.FAILURE)
    rows = WithheldImages.objects.filter(item__task__job=job, item__task__state__in=ended)
    rules = _NewRules(now)
    released = {
        row.item.task_id
        for row in rows.select_related("item__task")
        if row.item.task.rules and rules.cover(row, applied_rules.get_rules(row.item.task)[-1])
    }
    return sorted(released)


@dataclass
class _NewRules:
    """The rules of now, compared with those of earlier attempts."""

    now: AppliedRules
    _added: dict[int, list[PixelRule]] = field(default_factory=dict)
    _parsed: dict[int, ConfidentialityProfile] = field(default_factory=dict)

    def cover(self, row: WithheldImages, before: AppliedRules) -> bool:
        """Return whether the images may leave now, though not under the rules of `before`."""
        if before.generation != self.now.generation:
            return False
        return (
            self._accept_risk(row.code, before)
            or self._detects_text_now(row, before)
            or any(_covers(rule, row) for rule in self._find_added(before))
        )

    def _detects_text_now(self, row: WithheldImages, before: AppliedRules) -> bool:
        """Whether the pixels now decide about images that only the header withheld before."""
        admitted = admitted_sop_classes().get(row.sop_class)
        if admitted is None or not is_installed():
            return False
        now, old = (self._parse(rules.profile) for rules in (self.now, before))
        if not must_inspect(now, admitted.modality):
            return False
        if row.reason.code == "text-detection.not-installed":
            return True
        is_proven = admitted.modality in INSPECTED_MODALITIES and row.code in LIFTED_BY_PIXEL_RULE
        is_new = not must_inspect(old, admitted.modality)
        return is_proven and is_new and row.code not in CODES_NOT_ANNOUNCED

    def _accept_risk(self, code: str, before: AppliedRules) -> bool:
        accept = RiskDecision.ACCEPT.value
        return any(
            risk.code == code
            and getattr(self.now, risk.name) == accept != getattr(before, risk.name)
            for risk in risks.RISKS
        )

    def _find_added(self, before: AppliedRules) -> list[PixelRule]:
        """The pixel rules that the profile of that attempt did not have."""
        if before.profile not in self._added:
            now, old = (self._parse(one.profile).pixel_rules for one in (self.now, before))
            self._added[before.profile] = [rule for rule in now if rule not in old]
        return self._added[before.profile]

    def _parse(self, pk: int) -> ConfidentialityProfile:
        if pk not in self._parsed:
            self._parsed[pk] = parse_rules(ProfileVersion.objects.get(pk=pk))
        return self._parsed[pk]


def _covers(rule: PixelRule, row: WithheldImages) -> bool:
    """Whether the rule lifts the reason. An unknown device may be that of the rule."""
    if row.code not in LIFTED_BY_PIXEL_RULE:
        return False
    if row.code in CODES_NOT_ANNOUNCED and not rule.rectangles:
        return False
    device = get_device(row)
    return rule.covers(device) if device.is_known else rule.sop_class == device.sop_class


def is_own(user: User, group: WithheldGroup) -> bool:
    """Return whether the user ordered one of the jobs.

    If so, another person has to decide.
    """
    return any(row.item.task.job.owner_id == user.pk for row in group.rows)


def covered_images(group: WithheldGroup) -> QuerySet[WithheldImages]:
    """Return all open rows of the project that a rule for the device covers.

    The reason of the group does not matter.
    """
    return WithheldImages.objects.filter(
        item__task__job__project=group.project,
        code__in=LIFTED_BY_PIXEL_RULE,
        decision=ReviewDecision.OPEN,
        **match_device(group.device),
    )


def _apply_rule(
    user: User,
    group: WithheldGroup,
    rectangles: tuple[Rectangle, ...],
    reason: str,
    decision: ReviewDecision,
) -> ProfileVersion:
    require(user, Right.REVIEW_WITHHELD)
    require(user, Right.SEE_IDENTIFIED)
    _require_state(group, ReviewDecision.OPEN)
    reason = validate_reason(reason)
    _require_openable(user, group)
    for seen in preview_layouts(user, group, rectangles):
        if seen.image is None:
            raise InvalidInput("review.still-withheld", reason=seen.reason)
    rule = _make_rule(group, rectangles, reason)
    with transaction.atomic():
        _lock_decisions(group)
        _require_state(group, ReviewDecision.OPEN)  # the preview has taken seconds
        _require_openable(user, group)
        rows = covered_images(group)
        if decision == ReviewDecision.RELEASED:
            rows = rows.exclude(code__in=CODES_NOT_ANNOUNCED)
        affected = list(
            rows.select_for_update(of=("self",), no_key=True).select_related("item__task")
        )
        profile = reviewed_rules.adopt_rule(user, group.project, rule)
        _write_decision(
            user,
            WithheldImages.objects.filter(pk__in=[r.pk for r in affected]),
            decision,
            reason,
            profile,
        )
        count = sum(row.images for row in affected)
        _keep_decision(user, group, decision, reason, count, rectangles, profile)
        details: dict[str, object] = {
            "profile": str(profile),
            "reason": reason,
            "code": group.code,
            "rectangles": [list(one) for one in rectangles],
        }
        jobs = {r.item.task.job_id for r in affected}
        _record_jobs(user, f"withheld.{decision.value}", jobs, details)
        notify_images_released(Job.objects.filter(pk__in=jobs).select_related("owner"))
    return profile


def _keep_decision(
    user: User,
    group: WithheldGroup,
    decision: ReviewDecision,
    reason: str,
    count: int,
    rectangles: tuple[Rectangle, ...] = (),
    profile: ProfileVersion | None = None,
) -> None:
    DeviceDecision.objects.create(
        project=group.project,
        code=group.code,
        decision=decision,
        rectangles=[list(one) for one in rectangles],
        images=count,
        reason=reason,
        decided_by=user,
        decided_at=timezone.now(),
        profile=profile,
        **group.device.to_json(),
    )


def list_decisions(user: User) -> QuerySet[DeviceDecision]:
    """Return the decisions in the projects of the jobs that the user may see, newest first."""
    projects = visibility.visible_jobs(user).values("project")
    return DeviceDecision.objects.filter(project__in=projects).select_related(
        "project__profile", "decided_by", "revoked_by", "profile", "revoked_profile"
    )


def find_rule(decision: DeviceDecision) -> PixelRule | None:
    """Return the rule of the decision if it is part of the project's current profile."""
    if decision.profile is None or decision.revoked_at is not None:
        return None
    device = get_device(decision)
    rectangles = [list(one) for one in decision.rectangles]
    rules = parse_rules(decision.project.profile).pixel_rules
    alike = (rule for rule in rules if [list(one) for one in rule.rectangles] == rectangles)
    return next((rule for rule in alike if rule.covers(device)), None)


def list_delivered(decision: DeviceDecision) -> QuerySet[RuledImages]:
    """Return the images that were delivered while the rule was in force, of all jobs."""
    rows = RuledImages.objects.filter(
        task__job__project=decision.project,
        profile__gte=decision.profile_id or 0,
        **match_device(get_device(decision)),
    )
    if decision.profile is None:
        return rows.none()
    if decision.revoked_profile_id is not None:
        rows = rows.filter(profile__lt=decision.revoked_profile_id)
    return rows.select_related("task__job__destination", "task__job__owner")


def revoke(user: User, decision: DeviceDecision, reason: str) -> ProfileVersion:
    """Remove the rule of a decision from the profile.

    From now on its images leave only if they may without a rule: if the text detection finds none,
    or if the project trusts their header. What was delivered stays where it is (see
    `list_delivered`). Raises NotPermitted, InvalidInput.
    """
    require(user, Right.REVIEW_WITHHELD)
    reason = validate_reason(reason)
    with transaction.atomic():
        decision = DeviceDecision.objects.select_for_update(of=("self",), no_key=True).get(
            pk=decision.pk
        )
        rule = find_rule(decision)
        if rule is None:
            raise InvalidInput("review.rule-gone")
        services.require_key(decision.project)
        rows = WithheldImages.objects.filter(
            item__task__job__project=decision.project,
            decision__in=(ReviewDecision.MASKED, ReviewDecision.RELEASED),
            profile=decision.profile,
            **match_device(get_device(decision)),
        ).select_related("item__task")
        waiting = list(rows.select_for_update(of=("self",), no_key=True))
        jobs = {row.item.task.job_id for row in waiting}
        jobs |= set(list_delivered(decision).values_list("task__job", flat=True))
        made = reviewed_rules.withdraw_rule(user, decision.project, rule)
        WithheldImages.objects.filter(pk__in=[row.pk for row in waiting]).update(
            decision=ReviewDecision.OPEN, profile=None
        )
        decision.revoked_by, decision.revoked_at = user, timezone.now()
        decision.revoked_because, decision.revoked_profile = reason, made
        decision.save()
        _record_jobs(user, "withheld.revoked", jobs, {"profile": str(made), "reason": reason})
    return made


def _require_openable(user: User, group: WithheldGroup) -> None:
    if not group.is_liftable:
        raise NotPermitted("review.not-releasable")
    if not (group.device.is_known and group.has_device):
        raise NotPermitted("review.unnamed-device")
    if is_own(user, group):
        raise NotPermitted("review.own-order")
    services.require_key(group.project)
    left = WithheldImages.objects.filter(
        item__task__job__project=group.project,
        code__in=LIFTED_BY_PIXEL_RULE,
        decision=ReviewDecision.LEFT,
        **match_device(group.device),
    )
    if left.exists():
        raise NotPermitted("review.kept-withheld")


def _lock_decisions(group: WithheldGroup) -> None:
    """Let the decisions in a project take turns until the end of the transaction."""
    Project.objects.select_for_update(no_key=True).get(pk=group.project.pk)


def _require_state(group: WithheldGroup, state: ReviewDecision) -> None:
    rows = WithheldImages.objects.filter(pk__in=_row_ids(group))
    if rows.exclude(decision=state).exists():
        raise NotPermitted("review.already-decided")


def _make_rule(group: WithheldGroup, rectangles: tuple[Rectangle, ...], reason: str) -> PixelRule:
    if len(rectangles) > MAX_RECTANGLES:
        raise InvalidInput("review.too-many-rectangles", limit=MAX_RECTANGLES)
    word = risks.get_chosen(group.project)["header_word"]
    return PixelRule.for_device(group.device, rectangles, reason, word)


def _row_ids(group: WithheldGroup) -> list[int]:
    return [row.pk for row in group.rows]


def _write_decision(
    user: User,
    rows: QuerySet[WithheldImages],
    decision: ReviewDecision,
    reason: str,
    profile: ProfileVersion | None = None,
) -> None:
    rows.update(
        decision=decision,
        decided_by=user,
        decided_at=timezone.now(),
        decided_because=reason,
        profile=profile,
    )


def _record_groups(
    user: User, action: str, groups: Collection[WithheldGroup], details: dict[str, object]
) -> None:
    _record_jobs(user, action, {job for group in groups for job in group.jobs}, details)


def _record_jobs(
    user: User, action: str, jobs: Collection[int], details: dict[str, object]
) -> None:
    for job in sorted(jobs):
        record(action, user=user, about=f"job:{job}", details=details)
