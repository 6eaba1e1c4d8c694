"""Versions of de-identification profiles.

A change creates a new version; existing ones are never altered. Used by projects, review and
results.
"""

from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.trail import record
from adit.projects.models import ProfileVersion
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules
from adit_engine.pseudonymize.profile import is_compatible_version, preset_names

MAX_TEXT_LENGTH = 200_000
MAX_NAME_LENGTH = 48
"""The length of the database column."""


def create_version(user: AnyUser, text: str) -> ProfileVersion:
    """Save a profile as the next version of its name.

    Raises NotPermitted, InvalidInput, ProfileError.
    """
    require(user, Right.MANAGE_PROFILES)
    text = text.replace("\r\n", "\n").strip() + "\n"
    with transaction.atomic():
        rules = read_rules(text)
        due = get_next_version(rules.name)
        if rules.version != due:
            raise InvalidInput("profile-version.wrong-number", name=rules.name, version=due)
        return import_version(user, text)


def import_version(user: AnyUser, text: str) -> ProfileVersion:
    """Save a version of another installation, with its number and exactly this text.

    Raises NotPermitted, InvalidInput, ProfileError.
    """
    require(user, Right.MANAGE_PROFILES)
    rules = read_rules(text)
    with transaction.atomic():
        try:
            with transaction.atomic():
                profile = ProfileVersion.objects.create(
                    name=rules.name, version=rules.version, text=text
                )
        except IntegrityError:
            raise InvalidInput("profile-version.exists") from None
        details = {"profile": str(profile), "options": sorted(rules.options)}
        record("profile.created", user=user, about=f"profile:{profile.pk}", details=details)
    return profile


def read_rules(text: str) -> Rules:
    """Parse the text of a version. Raises InvalidInput, ProfileError."""
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidInput("profile-version.too-long", limit=MAX_TEXT_LENGTH)
    rules = Rules.from_toml(text)
    if len(rules.name) > MAX_NAME_LENGTH:
        raise InvalidInput("profile-version.name-too-long", limit=MAX_NAME_LENGTH)
    return rules


def get_next_version(name: str) -> int:
    highest = ProfileVersion.objects.filter(name=name).aggregate(highest=Max("version"))["highest"]
    return (highest or 0) + 1


def newest_versions() -> QuerySet[ProfileVersion]:
    """Return the newest version of each name."""
    tops = ProfileVersion.objects.values("name").annotate(top=Max("version"))
    wanted = [
        ProfileVersion.objects.filter(name=row["name"], version=row["top"]).values_list(
            "pk", flat=True
        )[0]
        for row in tops.order_by("name")
    ]
    return ProfileVersion.objects.filter(pk__in=wanted)


def create_presets() -> None:
    """Create the profiles that come with the engine.

    Safe to repeat; existing rows are not altered.
    """
    existing = set(ProfileVersion.objects.values_list("name", "version"))
    missing = [
        ProfileVersion(name=preset.name, version=preset.version, text=preset.to_text())
        for preset in map(Rules.preset, preset_names())
        if (preset.name, preset.version) not in existing
    ]
    ProfileVersion.objects.bulk_create(missing, ignore_conflicts=True)


def parse_rules(profile: ProfileVersion) -> Rules:
    return Rules.from_toml(profile.text)


def needs_new_generation(
    before: ProfileVersion, after: ProfileVersion, header_word: RiskDecision
) -> bool:
    """Return whether images that could be sent before would be sent with other bytes.

    If so, their UIDs must be new too. `header_word` is the decision of the project before the
    change.
    """
    same = before.text == after.text
    return not same and not is_compatible_version(
        parse_rules(before), parse_rules(after), header_word
    )


def draft_next_version(profile: ProfileVersion) -> str:
    """Return the initial text of the next version."""
    rules = parse_rules(profile)
    return profile.text.replace(
        f"version = {rules.version}", f"version = {get_next_version(profile.name)}", 1
    )
