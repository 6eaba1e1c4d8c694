"""Projects: making a research project, who may use it, and the key that its secrets follow from.
Proposals: anyone may propose a research project; it may be used once a manager has accepted it."""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person, Refused, Right, may, require, require_active
from adit.audit.trail import record
from adit.nodes.models import Node
from adit.projects import risks
from adit.projects.models import Profile, Project
from adit.projects.profile_versions import opens_generation, rules_of
from adit.projects.validators import check_pattern
from adit.vault.cipher import Box, SealBroken
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.keys import ProjectKey, format_key
from adit_engine.pseudonymize.parameters import ClinicalTrialAttributes
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules
from adit_engine.pseudonymize.profile import is_compatible_decision

DEFAULT_ID = "site-default"

OWN_WORDS = ("protocol_name", "sponsor", "site_name", "site_id", "pattern")
"""What headers and pseudonyms are made of: stays as it is once the project has patients."""
PAPERS = (
    "approval_number",
    "responsible",
    "purpose",
    "legal_basis",
    "recipient",
    "expires_on",
    "deletion_on",
)
"""What was applied for and approved."""
LIMITS = ("modalities", "patient_cap", "second_person")
_CHANGEABLE = (*OWN_WORDS, *PAPERS, *LIMITS, *risks.FIELDS, "profile")


class KeyDestroyed(SealBroken):
    """The project's key is gone for good, and with it what was sealed under it."""


def create_project(
    user: Person,
    project: Project,
    *,
    members: Iterable[Group] = (),
    sources: Iterable[Node] = (),
    destinations: Iterable[Node] = (),
) -> Project:
    """Saves a project that was only filled in, with a key of its own. Raises Refused, WrongInput."""
    require(user, Right.MANAGE_TRIALS)
    project.is_accepted = True
    relations = {"members": members, "sources": sources, "destinations": destinations}
    return made(user, project, "project.created", relations)


def made(
    user: Person, project: Project, action: str, relations: Mapping[str, Iterable[Any]]
) -> Project:
    """Saves a project with a key of its own; who may is asked before. Raises WrongInput."""
    project.key = secrets.token_hex(32)
    project.is_default = False
    risks.check(project)
    if project.profile_id is None:
        project.profile = default_profile()
    if project.pattern:
        check_pattern(project.pattern)
    try:
        project.full_clean()
    except ValidationError as error:
        raise InvalidInput(_sentences(error)) from None
    stamp_of(project)
    with transaction.atomic():
        project.save(force_insert=True)
        for name, rows in relations.items():
            getattr(project, name).set(rows)
        details = {"profile": str(project.profile), **risks.facts(project)}
        record(action, user=user, about=about(project), details=details)
    return project


def change_project(
    user: Person,
    project: Project,
    *,
    members: Iterable[Group],
    sources: Iterable[Node],
    destinations: Iterable[Node],
) -> None:
    """Saves what was changed in a project.

    Another profile opens a new generation of UIDs, and so may another choice for the header's word.

    Raises Refused, and WrongInput for what may not change any more.
    """
    require(user, Right.MANAGE_TRIALS)
    stamp_of(project)
    risks.check(project)
    if project.pattern:
        check_pattern(project.pattern)
    with transaction.atomic():
        before = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        changed = [name for name in _CHANGEABLE if getattr(before, name) != getattr(project, name)]
        if is_used(before) and set(changed) & set(OWN_WORDS):
            raise InvalidInput(
                _("This research project has patients: what stands in their images stays as it is.")
            )
        project.generation = before.generation + _opens_generation(before, project)
        project.save(update_fields=[*changed, "generation"])
        groups = (("members", members), ("sources", sources), ("destinations", destinations))
        for name, rows in groups:
            if _set(getattr(project, name), rows):
                changed.append(name)
        details = {
            "changed": changed,
            "profile": str(project.profile),
            "generation": project.generation,
            **risks.facts(project),
        }
        record("project.changed", user=user, about=about(project), details=details)


def _opens_generation(before: Project, after: Project) -> bool:
    words = [risks.chosen(project)["header_word"] for project in (before, after)]
    return opens_generation(before.profile, after.profile, words[0]) or not is_compatible_decision(
        rules_of(after.profile), *words
    )


def _set(relation: Any, rows: Iterable[Any]) -> bool:
    """Whether it holds others now than before."""
    before = set(relation.values_list("pk", flat=True))
    relation.set(rows)
    return before != set(relation.values_list("pk", flat=True))


def revoke(user: Person, project: Project) -> None:
    """Nothing leaves for this project any more; what waits is stopped when it is opened."""
    require(user, Right.MANAGE_TRIALS)
    with transaction.atomic():
        project.is_revoked = True
        project.save(update_fields=["is_revoked"])
        record("project.revoked", user=user, about=about(project))


def choose_profile(user: Person, project: Project, profile: Profile) -> None:
    """Another profile opens a new generation of UIDs, so that one UID never has two contents.

    A version that only opens what was withheld does not: see continuation.py.
    """
    require(user, Right.MANAGE_TRIALS)
    with transaction.atomic():
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if project.profile_id == profile.pk:
            return
        word = risks.chosen(project)["header_word"]
        project.generation += opens_generation(project.profile, profile, word)
        project.profile = profile
        project.save(update_fields=["profile", "generation"])
        details = {"profile": str(profile), "generation": project.generation}
        record("project.changed", user=user, about=about(project), details=details)


def default_project() -> Project:
    """The site's own project, used where none is chosen; made when first asked for."""
    return Project.objects.get_or_create(
        is_default=True,
        protocol_id=DEFAULT_ID,
        defaults={
            "protocol_name": "No research project",
            "sponsor": "-",
            "key": secrets.token_hex(32),
            "profile": default_profile(),
        },
    )[0]


def default_profile() -> Profile:
    """The row of the profile that comes with the engine."""
    rules = Rules.default()
    return Profile.objects.get_or_create(
        name=rules.name, version=rules.version, defaults={"text": rules.to_text()}
    )[0]


def usable_by(user: Person) -> QuerySet[Project]:
    """The projects that the user may choose now; the site's default is not among them."""
    if not user.is_active:
        return Project.objects.none()
    projects = Project.objects.filter(is_default=False, is_revoked=False, is_accepted=True)
    projects = projects.exclude(expires_on__lt=timezone.localdate())
    if may(user, Right.MANAGE_TRIALS):
        return projects
    return projects.filter(members__in=user.groups.all()).distinct()


def visible_to(user: Person) -> QuerySet[Project]:
    """Those of one's groups and one's own proposals, ended ones too; all for managers."""
    if not user.is_active:
        return Project.objects.none()
    if may(user, Right.MANAGE_TRIALS):
        return Project.objects.all()
    mine = Project.members.through.objects.filter(group__in=user.groups.all())
    mine_or_proposed = Q(pk__in=mine.values("project")) | Q(proposed_by=user.pk)
    return Project.objects.filter(mine_or_proposed, is_default=False)


def may_link(user: Person, project: Project) -> bool:
    """Whether the user may see a pseudonym of the project together with its patient.

    This is the one rule for it: the right to re-identify, in a project that the user may see. The
    site's default has no members; there the right is enough.
    """
    return may(user, Right.REIDENTIFY) and (
        project.is_default or visible_to(user).filter(pk=project.pk).exists()
    )


def require_link(user: Person, project: Project) -> None:
    """Raises Refused where `may_link` says no."""
    require(user, Right.REIDENTIFY)
    if not may_link(user, project):
        raise Refused(
            _(
                "None of your groups is a member of the research project %(project)s. Ask its manager."
            )
            % {"project": project.protocol_id}
        )


def is_used(project: Project) -> bool:
    """Somebody has a pseudonym in it: images may have left that name it."""
    return project.patients.exists()


def may_use(user: Person, project: Project) -> bool:
    try:
        require_use(user, project)
    except Refused:
        return False
    return True


def require_use(user: Person, project: Project) -> None:
    """Raises Refused for an ended or revoked project, and for who is no member of it."""
    require_active(user)
    words = {"project": project.protocol_id}
    over = why_over(project)
    if over:
        raise Refused(over)
    if project.is_default or may(user, Right.MANAGE_TRIALS):
        return
    if not project.members.filter(pk__in=user.groups.values("pk")).exists():
        raise Refused(
            _(
                "None of your groups is a member of the research project %(project)s. Ask its manager."
            )
            % words
        )


def why_over(project: Project) -> str:
    """Why nobody may use it now, whoever it is; empty when it runs."""
    words = {"project": project.protocol_id}
    if project.key_destroyed_at is not None:
        return _destroyed(project)
    if not project.is_accepted:
        return (
            _("The research project %(project)s is proposed; a manager has to accept it first.")
            % words
        )
    if project.is_revoked:
        return (
            _("The research project %(project)s was revoked: nothing leaves for it any more.")
            % words
        )
    if project.is_over(timezone.localdate()):
        return (
            _("The research project %(project)s has ended. Ask its manager to extend it.") % words
        )
    return ""


def over() -> Q:
    """Which projects' rows `why_over` has something to say of."""
    return (
        Q(key_destroyed_at__isnull=False)
        | Q(is_accepted=False)
        | Q(is_revoked=True)
        | Q(expires_on__lt=timezone.localdate())
    )


def key_of(project: Project, generation: int | None = None) -> ProjectKey:
    """From which UIDs, dates and generated pseudonyms follow; now, or in an earlier generation.

    Raises KeyDestroyed.
    """
    return ProjectKey(_secret(project), project.generation if generation is None else generation)


def box_of(project: Project) -> Box:
    """Seals what belongs to the project. Raises KeyDestroyed, a SealBroken, once its key is gone."""
    return Box(HKDF(SHA256(), 32, None, b"adit project box").derive(_secret(project)))


def stamp_of(project: Project) -> ClinicalTrialAttributes | None:
    """What the header says of the project; nothing for the site's own. Raises WrongInput."""
    if project.is_default:
        return None
    return ClinicalTrialAttributes(
        project.sponsor,
        project.protocol_id,
        project.protocol_name,
        project.site_name,
        project.site_id,
    )


def require_key(project: Project) -> None:
    """Raises Refused once the key is destroyed."""
    if project.key is None:
        raise Refused(_destroyed(project))


def _destroyed(project: Project) -> str:
    return _(
        "The key of the research project %(project)s was destroyed: it has ended for good."
    ) % {"project": project.protocol_id}


def _secret(project: Project) -> bytes:
    if project.key is None:
        raise KeyDestroyed(f"The key of {project.protocol_id} was destroyed.")
    return bytes.fromhex(project.key)


def export_key(user: Person, project: Project) -> str:
    """The key file with which the command line makes the same UIDs, dates and pseudonyms.

    Whoever holds it can link pseudonyms to patients, hence both rights. Raises Refused.
    """
    require(user, Right.MANAGE_TRIALS)
    require_link(user, project)
    require_key(project)
    record("project.key_exported", user=user, about=about(project))
    return format_key(key_of(project))


def about(project: Project) -> str:
    """How the trail names it."""
    return f"project:{project.protocol_id}"


def _sentences(error: ValidationError) -> str:
    names = {field.name: field.verbose_name for field in Project._meta.fields}
    parts = (
        " ".join(sentences) if name not in names else f"{names[name]}: {' '.join(sentences)}"
        for name, sentences in error.message_dict.items()
    )
    return " ".join(parts)


def propose(
    user: Person,
    project: Project,
    *,
    members: Iterable[Group] = (),
    sources: Iterable[Node] = (),
    destinations: Iterable[Node] = (),
) -> Project:
    """Saves a project that was only filled in; nothing leaves for it yet. Raises Refused, WrongInput."""
    require_active(user)
    if not user.pk:
        raise Refused(_("Sign in first."))
    project.proposed_by_id = user.pk
    project.is_accepted = False
    relations = {"members": members, "sources": sources, "destinations": destinations}
    return made(user, project, "project.proposed", relations)


def accept(user: Person, project: Project) -> None:
    """Raises Refused; nobody accepts the own proposal."""
    require(user, Right.MANAGE_TRIALS)
    with transaction.atomic():
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if project.is_accepted:
            return
        if project.proposed_by_id == user.pk:
            raise Refused(_("Somebody else has to accept what you proposed yourself."))
        project.is_accepted = True
        project.save(update_fields=["is_accepted"])
        record("project.accepted", user=user, about=about(project))
