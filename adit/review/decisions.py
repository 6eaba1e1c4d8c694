"""Review: what people decide on images that were held back: mask, release, leave, decide anew."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.jobs.models import Decision, HeldBack
from adit.projects import reviewed_rules, risks, services
from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import parse_rules
from adit.projects.validators import validate_reason
from adit.review import images
from adit.review.groups import Group
from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.pseudonymize.admission import LIFTED_BY_PIXEL_RULE
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.pixel_rules import PixelRule, Rectangle, example_rules
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance

MOST_RECTANGLES = 40
NOT_SAID = frozenset({"burned-in"})
"""What a release cannot lift: the image itself says that text is in it."""
_TRIAL_RUN = "TRY-IT-0001"


@dataclass(frozen=True, slots=True)
class Tried:
    """What would leave under a rule, or why nothing would."""

    image: Instance | None
    why_not: str = ""


def tried(user: User, group: Group, rectangles: tuple[Rectangle, ...]) -> Tried:
    """The rule carried out on one image of the group, second look and all; nothing is kept.

    Raises what `looks.image_of` raises, and WrongInput for rectangles that cannot be.
    """
    image = images.image_of(user, group.rows[0])
    rules = reviewed_rules.add_rule(
        parse_rules(group.project.profile), _rule(group, rectangles, "project run")
    )
    key = ProjectKey(secrets.token_bytes(32))
    change = Pseudonymization(rules, _TRIAL_RUN, key, None, **risks.chosen(group.project))
    try:
        if image.fault:
            raise InstanceWithheld("fault", image.fault)
        made = apply(change, image)
        verify(image, made, change)
    except InstanceWithheld as held:
        return Tried(None, held.reason)
    return Tried(made)


def proposed(group: Group) -> tuple[Rectangle, ...]:
    """Rectangles that somebody drew for the same device already, in any profile or example."""
    newest = ProfileVersion.objects.order_by("-pk")[:50]
    known = [rule for profile in newest for rule in parse_rules(profile).pixel_rules]
    covering = (rule for rule in (*known, *example_rules()) if rule.covers(group.device))
    return next((rule.rectangles for rule in covering if rule.rectangles), ())


def mask(
    user: User, group: Group, rectangles: tuple[Rectangle, ...], reason: str
) -> ProfileVersion:
    """Blanks rectangles in all images of the device from now on: a rule in a new version.

    Raises NotPermitted, WrongInput.
    """
    if not rectangles:
        raise InvalidInput(_("Draw at least one rectangle, or release the device instead."))
    return _ruled(user, group, rectangles, reason, Decision.MASKED)


def release(user: User, group: Group, reason: str) -> ProfileVersion:
    """Somebody answers for it that this device burns nothing in. Raises NotPermitted, WrongInput."""
    if group.code in NOT_SAID:
        raise InvalidInput(
            _("The images themselves say that text is burned in: mask them, or leave them.")
        )
    return _ruled(user, group, (), reason, Decision.RELEASED)


def leave(user: User, group: Group, reason: str) -> None:
    """They stay withheld, and leave the list of what is to be decided."""
    require(user, Right.REVIEW_WITHHELD)
    _require_state(group, Decision.OPEN)
    reason = validate_reason(reason)
    with transaction.atomic():
        _decide(user, HeldBack.objects.filter(pk__in=_pks(group)), Decision.LEFT, reason)
        _record(user, "withheld.left", [group], {"reason": reason, "code": group.code})


def reopen(user: User, group: Group, reason: str) -> None:
    """What was left is to be decided anew."""
    require(user, Right.REVIEW_WITHHELD)
    _require_state(group, Decision.LEFT)
    reason = validate_reason(reason)
    with transaction.atomic():
        _decide(user, HeldBack.objects.filter(pk__in=_pks(group)), Decision.OPEN, reason)
        _record(user, "withheld.reopened", [group], {"reason": reason, "code": group.code})


def is_own(user: User, group: Group) -> bool:
    """Whether the person ordered one of the jobs: then somebody else has to open it."""
    return any(row.item.task.job.owner_id == user.pk for row in group.rows)


def also_covered(group: Group) -> QuerySet[HeldBack]:
    """All open rows of the project that a rule for the device is about, whatever the reason."""
    device = group.device.to_json()
    return HeldBack.objects.filter(
        item__task__job__project=group.project,
        code__in=LIFTED_BY_PIXEL_RULE,
        decision=Decision.OPEN,
        **device,
    )


def _ruled(
    user: User, group: Group, rectangles: tuple[Rectangle, ...], reason: str, decision: Decision
) -> ProfileVersion:
    require(user, Right.REVIEW_WITHHELD)
    require(user, Right.SEE_IDENTIFIED)
    _require_state(group, Decision.OPEN)
    reason = validate_reason(reason)
    _require_openable(user, group)
    seen = tried(user, group, rectangles)
    if seen.image is None:
        raise InvalidInput(_("The images would still be held back: %s") % seen.why_not)
    rule = _rule(group, rectangles, reason)
    with transaction.atomic():
        rows = also_covered(group)
        if decision == Decision.RELEASED:
            rows = rows.exclude(code__in=NOT_SAID)
        affected = list(
            rows.select_for_update(of=("self",), no_key=True).select_related("item__task")
        )
        profile = reviewed_rules.adopt_rule(user, group.project, rule)
        _decide(
            user,
            HeldBack.objects.filter(pk__in=[r.pk for r in affected]),
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
        _record_jobs(
            user, f"withheld.{decision.value}", {r.item.task.job_id for r in affected}, details
        )
    return profile


def _require_openable(user: User, group: Group) -> None:
    if not group.may_be_opened:
        raise NotPermitted(_("Images held back for this reason cannot be released by anybody."))
    if not (group.device.is_known and group.names_its_device):
        raise NotPermitted(_("The images do not say which device made them: no rule can name it."))
    if is_own(user, group):
        raise NotPermitted(
            _("You ordered one of these jobs yourself: somebody else with the right has to decide.")
        )
    services.require_key(group.project)
    device = group.device.to_json()
    left = HeldBack.objects.filter(
        item__task__job__project=group.project,
        code__in=LIFTED_BY_PIXEL_RULE,
        decision=Decision.LEFT,
        **device,
    )
    if left.exists():
        raise NotPermitted(
            _("Other images of this device were left on purpose: decide on those anew first.")
        )


def _require_state(group: Group, state: Decision) -> None:
    if group.decision is not state:
        raise NotPermitted(_("Somebody has decided on these images already."))


def _rule(group: Group, rectangles: tuple[Rectangle, ...], reason: str) -> PixelRule:
    if len(rectangles) > MOST_RECTANGLES:
        raise InvalidInput(_("At most %d rectangles, please.") % MOST_RECTANGLES)
    word = risks.chosen(group.project)["header_word"]
    return PixelRule.for_device(group.device, rectangles, reason, word)


def _pks(group: Group) -> list[int]:
    return [row.pk for row in group.rows]


def _decide(
    user: User,
    rows: QuerySet[HeldBack],
    decision: Decision,
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


def _record(user: User, action: str, groups: Collection[Group], details: dict[str, object]) -> None:
    _record_jobs(user, action, {job for group in groups for job in group.jobs}, details)


def _record_jobs(
    user: User, action: str, jobs: Collection[int], details: dict[str, object]
) -> None:
    for job in sorted(jobs):
        record(action, user=user, about=f"job:{job}", details=details)
