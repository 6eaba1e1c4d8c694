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
from adit.jobs.models import Job, ReviewDecision, TaskState, WithheldImages
from adit.jobs.notifications import notify_images_released
from adit.projects import reviewed_rules, risks, services
from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import parse_rules
from adit.projects.validators import validate_reason
from adit.results import applied_rules
from adit.results.applied_rules import AppliedRules
from adit.review import images
from adit.review.groups import WithheldGroup, get_device
from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.messages import Message
from adit_engine.pseudonymize.admission import LIFTED_BY_PIXEL_RULE
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.pixel_rules import PixelRule, Rectangle, example_rules
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance

MAX_RECTANGLES = 40
CODES_NOT_ANNOUNCED = frozenset({"burned-in"})
"""Codes that a release cannot lift: the image itself states that it contains text."""
_PREVIEW_PSEUDONYM = "TRY-IT-0001"


@dataclass(frozen=True, slots=True)
class RulePreview:
    """The image that a rule would produce, or why it would still be withheld."""

    image: Instance | None
    reason: Message | None = None


def preview_rule(
    user: User, group: WithheldGroup, rectangles: tuple[Rectangle, ...]
) -> RulePreview:
    """Apply the rule to one image of the group and verify it; nothing is stored.

    Raises what `images.get_image` raises, and InvalidInput for invalid rectangles.
    """
    image = images.get_image(user, group.rows[0])
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
        return RulePreview(None, held.message)
    return RulePreview(made)


def suggest_rectangles(group: WithheldGroup) -> tuple[Rectangle, ...]:
    """Return rectangles for the same device from any profile or example."""
    newest = ProfileVersion.objects.order_by("-pk")[:50]
    known = [rule for profile in newest for rule in parse_rules(profile).pixel_rules]
    covering = (rule for rule in (*known, *example_rules()) if rule.covers(group.device))
    return next((rule.rectangles for rule in covering if rule.rectangles), ())


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
    _require_state(group, ReviewDecision.OPEN)
    reason = validate_reason(reason)
    with transaction.atomic():
        _write_decision(
            user, WithheldImages.objects.filter(pk__in=_row_ids(group)), ReviewDecision.LEFT, reason
        )
        _record_groups(user, "withheld.left", [group], {"reason": reason, "code": group.code})


def reopen(user: User, group: WithheldGroup, reason: str) -> None:
    """Reopen the decision on images that were kept withheld."""
    require(user, Right.REVIEW_WITHHELD)
    _require_state(group, ReviewDecision.LEFT)
    reason = validate_reason(reason)
    with transaction.atomic():
        _write_decision(
            user, WithheldImages.objects.filter(pk__in=_row_ids(group)), ReviewDecision.OPEN, reason
        )
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

    def cover(self, row: WithheldImages, before: AppliedRules) -> bool:
        """Return whether the images may leave now, though not under the rules of `before`."""
        if before.generation != self.now.generation:
            return False
        return self._accept_risk(row.code, before) or any(
            _covers(rule, row) for rule in self._find_added(before)
        )

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
            now, old = (
                parse_rules(ProfileVersion.objects.get(pk=pk)).pixel_rules
                for pk in (self.now.profile, before.profile)
            )
            self._added[before.profile] = [rule for rule in now if rule not in old]
        return self._added[before.profile]


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
    device = group.device.to_json()
    return WithheldImages.objects.filter(
        item__task__job__project=group.project,
        code__in=LIFTED_BY_PIXEL_RULE,
        decision=ReviewDecision.OPEN,
        **device,
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
    seen = preview_rule(user, group, rectangles)
    if seen.image is None:
        raise InvalidInput("review.still-withheld", reason=seen.reason)
    rule = _make_rule(group, rectangles, reason)
    with transaction.atomic():
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


def _require_openable(user: User, group: WithheldGroup) -> None:
    if not group.is_liftable:
        raise NotPermitted("review.not-releasable")
    if not (group.device.is_known and group.has_device):
        raise NotPermitted("review.unnamed-device")
    if is_own(user, group):
        raise NotPermitted("review.own-order")
    services.require_key(group.project)
    device = group.device.to_json()
    left = WithheldImages.objects.filter(
        item__task__job__project=group.project,
        code__in=LIFTED_BY_PIXEL_RULE,
        decision=ReviewDecision.LEFT,
        **device,
    )
    if left.exists():
        raise NotPermitted("review.kept-withheld")


def _require_state(group: WithheldGroup, state: ReviewDecision) -> None:
    if group.decision is not state:
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
