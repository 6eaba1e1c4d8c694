"""Turn the decision of a reviewer on a device into a new version of a project's profile.

Used by review.
"""

from dataclasses import replace

from django.db import transaction
from django.utils import timezone

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.changes import compare_values
from adit.audit.trail import record
from adit.projects import risks
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import (
    draft_next_version,
    get_next_version,
    needs_new_generation,
    parse_rules,
)
from adit.projects.services import audit_subject, require_key
from adit_engine.errors import InvalidInput, ProfileError
from adit_engine.pseudonymize.pixel_rules import PixelRule
from adit_engine.pseudonymize.profile import CLEAN_PIXELS
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules


def add_rule(rules: Rules, rule: PixelRule) -> Rules:
    """Return the rules with an additional pixel rule.

    Raises ProfileError if there is a rule for this device.
    """
    return replace(
        rules, options=rules.options | {CLEAN_PIXELS}, pixel_rules=(*rules.pixel_rules, rule)
    )


def remove_rule(rules: Rules, rule: PixelRule) -> Rules:
    """Return the rules without this pixel rule."""
    left = tuple(one for one in rules.pixel_rules if one.key != rule.key)
    options = rules.options if left else rules.options - {CLEAN_PIXELS}
    return replace(rules, options=options, pixel_rules=left)


def withdraw_rule(user: AnyUser, project: Project, rule: PixelRule) -> ProfileVersion:
    """Create the next version of the profile without this rule, and assign it.

    Starts a new generation of UIDs, since a later rule for the device may change images that were
    delivered under this one. Raises NotPermitted, InvalidInput.
    """
    require(user, Right.REVIEW_WITHHELD)
    with transaction.atomic():
        locked = Project.objects.select_for_update(of=("self",), no_key=True).get(pk=project.pk)
        before = locked.profile
        rules = parse_rules(before)
        if rule not in rules.pixel_rules:
            raise InvalidInput("review.rule-gone")
        version = get_next_version(before.name)
        text = replace(remove_rule(rules, rule), version=version).to_text()
        made = ProfileVersion(
            name=before.name, version=version, text=text, frozen_at=timezone.now()
        )
        _assign(user, locked, made, len(rule.rectangles))
    project.refresh_from_db()
    return made


def adopt_rule(user: AnyUser, project: Project, rule: PixelRule) -> ProfileVersion:
    """Create the next version of the profile with this rule, and assign it.

    The generation stays, because images that could be sent before are sent with the same bytes.
    Raises NotPermitted, InvalidInput, ProfileError.
    """
    require(user, Right.REVIEW_WITHHELD)
    with transaction.atomic():
        locked = Project.objects.select_for_update(of=("self",), no_key=True).get(pk=project.pk)
        require_key(locked)
        before = locked.profile
        text = _append_rule(before, rule)
        version = get_next_version(before.name)
        made = ProfileVersion(
            name=before.name, version=version, text=text, frozen_at=timezone.now()
        )
        if needs_new_generation(before, made, risks.get_chosen(locked)["header_word"]):
            raise InvalidInput("profile-version.changes-delivered-images")
        _assign(user, locked, made, len(rule.rectangles))
    project.refresh_from_db()
    return made


def _assign(user: AnyUser, project: Project, made: ProfileVersion, rectangles: int) -> None:
    """Save the new version as the profile of the locked project."""
    before = project.profile
    word = risks.get_chosen(project)["header_word"]
    project.generation += needs_new_generation(before, made, word)
    made.save(force_insert=True)
    project.profile = made
    project.save(update_fields=["profile", "generation"])
    words = {"profile": str(made), "from": str(before), "rectangles": rectangles}
    record("profile.created", user=user, about=f"profile:{made.pk}", details=words)
    changes = compare_values({"profile": str(before)}, {"profile": str(made)})
    details = {"changes": changes, "profile": str(made), "generation": project.generation}
    record("project.changed", user=user, about=audit_subject(project), details=details)


def _append_rule(before: ProfileVersion, rule: PixelRule) -> str:
    """The existing text, comments included, with the rule appended."""
    wanted = replace(add_rule(parse_rules(before), rule), version=get_next_version(before.name))
    option = (
        ""
        if CLEAN_PIXELS in parse_rules(before).options
        else f'\n[[rules]]\ncode = "{CLEAN_PIXELS}"\n'
    )
    text = f"{draft_next_version(before).rstrip()}\n{option}{rule.to_text()}"
    try:
        return text if Rules.from_toml(text) == wanted else wanted.to_text()
    except ProfileError:
        return wanted.to_text()
