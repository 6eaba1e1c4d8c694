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

from adit.accounts.permissions import AnyUser, NotPermitted, Right, may, require, require_active
from adit.audit.trail import record
from adit.nodes.models import Node
from adit.projects import risks
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import needs_new_generation, parse_rules
from adit.projects.validators import validate_pattern
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.keys import ProjectKey, format_key
from adit_engine.pseudonymize.parameters import ClinicalTrialAttributes
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules
from adit_engine.pseudonymize.profile import is_compatible_decision

DEFAULT_PROTOCOL_ID = "site-default"

IMAGE_FIELDS = ("protocol_name", "sponsor", "site_name", "site_id", "pattern")
"""What headers and pseudonyms are made of: stays as it is once the project has patients."""
APPROVAL_FIELDS = (
    "approval_number",
    "responsible",
    "purpose",
    "legal_basis",
    "recipient",
    "expires_on",
    "deletion_on",
)
"""What was applied for and approved."""
LIMIT_FIELDS = ("modalities", "patient_cap", "second_person")
_CHANGEABLE_FIELDS = (*IMAGE_FIELDS, *APPROVAL_FIELDS, *LIMIT_FIELDS, *risks.FIELDS, "profile")


class KeyDestroyed(DecryptionError):
    """The project's key is gone for good, and with it what was sealed under it."""


def create_project(
    user: AnyUser,
    project: Project,
    *,
    members: Iterable[Group] = (),
    sources: Iterable[Node] = (),
    destinations: Iterable[Node] = (),
) -> Project:
    """Saves a project that was only filled in, with a key of its own. Raises NotPermitted, WrongInput."""
    require(user, Right.MANAGE_PROJECTS)
    project.is_accepted = True
    relations = {"members": members, "sources": sources, "destinations": destinations}
    return save_new_project(user, project, "project.created", relations)


def save_new_project(
    user: AnyUser, project: Project, action: str, relations: Mapping[str, Iterable[Any]]
) -> Project:
    """Saves a project with a key of its own; who may is asked before. Raises WrongInput."""
    project.key = secrets.token_hex(32)
    project.is_default = False
    risks.check(project)
    if project.profile_id is None:
        project.profile = default_profile()
    if project.pattern:
        validate_pattern(project.pattern)
    try:
        project.full_clean()
    except ValidationError as error:
        raise InvalidInput(_format_errors(error)) from None
    get_trial_attributes(project)
    with transaction.atomic():
        project.save(force_insert=True)
        for name, rows in relations.items():
            getattr(project, name).set(rows)
        details = {"profile": str(project.profile), **risks.facts(project)}
        record(action, user=user, about=audit_subject(project), details=details)
    return project


def change_project(
    user: AnyUser,
    project: Project,
    *,
    members: Iterable[Group],
    sources: Iterable[Node],
    destinations: Iterable[Node],
) -> None:
    """Saves what was changed in a project.

    Another profile opens a new generation of UIDs, and so may another choice for the header's word.

    Raises NotPermitted, and WrongInput for what may not change any more.
    """
    require(user, Right.MANAGE_PROJECTS)
    get_trial_attributes(project)
    risks.check(project)
    if project.pattern:
        validate_pattern(project.pattern)
    with transaction.atomic():
        before = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        changed = [
            name for name in _CHANGEABLE_FIELDS if getattr(before, name) != getattr(project, name)
        ]
        if has_patients(before) and set(changed) & set(IMAGE_FIELDS):
            raise InvalidInput(
                _("This research project has patients: what stands in their images stays as it is.")
            )
        project.generation = before.generation + _opens_generation(before, project)
        project.save(update_fields=[*changed, "generation"])
        groups = (("members", members), ("sources", sources), ("destinations", destinations))
        for name, rows in groups:
            if _set_relation(getattr(project, name), rows):
                changed.append(name)
        details = {
            "changed": changed,
            "profile": str(project.profile),
            "generation": project.generation,
            **risks.facts(project),
        }
        record("project.changed", user=user, about=audit_subject(project), details=details)


def _opens_generation(before: Project, after: Project) -> bool:
    words = [risks.chosen(project)["header_word"] for project in (before, after)]
    return needs_new_generation(
        before.profile, after.profile, words[0]
    ) or not is_compatible_decision(parse_rules(after.profile), *words)


def _set_relation(relation: Any, rows: Iterable[Any]) -> bool:
    """Whether it holds others now than before."""
    before = set(relation.values_list("pk", flat=True))
    relation.set(rows)
    return before != set(relation.values_list("pk", flat=True))


def revoke_project(user: AnyUser, project: Project) -> None:
    """Nothing leaves for this project any more; what waits is stopped when it is opened."""
    require(user, Right.MANAGE_PROJECTS)
    with transaction.atomic():
        project.is_revoked = True
        project.save(update_fields=["is_revoked"])
        record("project.revoked", user=user, about=audit_subject(project))


def choose_profile(user: AnyUser, project: Project, profile: ProfileVersion) -> None:
    """Another profile opens a new generation of UIDs, so that one UID never has two contents.

    A version that only opens what was withheld does not: see continuation.py.
    """
    require(user, Right.MANAGE_PROJECTS)
    with transaction.atomic():
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if project.profile_id == profile.pk:
            return
        word = risks.chosen(project)["header_word"]
        project.generation += needs_new_generation(project.profile, profile, word)
        project.profile = profile
        project.save(update_fields=["profile", "generation"])
        details = {"profile": str(profile), "generation": project.generation}
        record("project.changed", user=user, about=audit_subject(project), details=details)


def default_project() -> Project:
    """The site's own project, used where none is chosen; made when first asked for."""
    return Project.objects.get_or_create(
        is_default=True,
        protocol_id=DEFAULT_PROTOCOL_ID,
        defaults={
            "protocol_name": "No research project",
            "sponsor": "-",
            "key": secrets.token_hex(32),
            "profile": default_profile(),
        },
    )[0]


def default_profile() -> ProfileVersion:
    """The row of the profile that comes with the engine."""
    rules = Rules.default()
    return ProfileVersion.objects.get_or_create(
        name=rules.name, version=rules.version, defaults={"text": rules.to_text()}
    )[0]


def usable_projects(user: AnyUser) -> QuerySet[Project]:
    """The projects that the user may choose now; the site's default is not among them."""
    if not user.is_active:
        return Project.objects.none()
    projects = Project.objects.filter(is_default=False, is_revoked=False, is_accepted=True)
    projects = projects.exclude(expires_on__lt=timezone.localdate())
    if may(user, Right.MANAGE_PROJECTS):
        return projects
    return projects.filter(members__in=user.groups.all()).distinct()


def visible_projects(user: AnyUser) -> QuerySet[Project]:
    """Those of one's groups and one's own proposals, ended ones too; all for managers."""
    if not user.is_active:
        return Project.objects.none()
    if may(user, Right.MANAGE_PROJECTS):
        return Project.objects.all()
    mine = Project.members.through.objects.filter(group__in=user.groups.all())
    mine_or_proposed = Q(pk__in=mine.values("project")) | Q(proposed_by=user.pk)
    return Project.objects.filter(mine_or_proposed, is_default=False)


def may_link(user: AnyUser, project: Project) -> bool:
    """Whether the user may see a pseudonym of the project together with its patient.

    This is the one rule for it: the right to re-identify, in a project that the user may see. The
    site's default has no members; there the right is enough.
    """
    return may(user, Right.REIDENTIFY) and (
        project.is_default or visible_projects(user).filter(pk=project.pk).exists()
    )


def require_link(user: AnyUser, project: Project) -> None:
    """Raises NotPermitted where `may_link` says no."""
    require(user, Right.REIDENTIFY)
    if not may_link(user, project):
        raise NotPermitted(
            _(
                "None of your groups is a member of the research project %(project)s. Ask its manager."
            )
            % {"project": project.protocol_id}
        )


def has_patients(project: Project) -> bool:
    """Somebody has a pseudonym in it: images may have left that name it."""
    return project.patients.exists()


def may_use(user: AnyUser, project: Project) -> bool:
    try:
        require_use(user, project)
    except NotPermitted:
        return False
    return True


def require_use(user: AnyUser, project: Project) -> None:
    """Raises NotPermitted for an ended or revoked project, and for who is no member of it."""
    require_active(user)
    words = {"project": project.protocol_id}
    over = explain_ended(project)
    if over:
        raise NotPermitted(over)
    if project.is_default or may(user, Right.MANAGE_PROJECTS):
        return
    if not project.members.filter(pk__in=user.groups.values("pk")).exists():
        raise NotPermitted(
            _(
                "None of your groups is a member of the research project %(project)s. Ask its manager."
            )
            % words
        )


def explain_ended(project: Project) -> str:
    """Why nobody may use it now, whoever it is; empty when it runs."""
    words = {"project": project.protocol_id}
    if project.key_destroyed_at is not None:
        return _describe_destroyed(project)
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


def ended_filter() -> Q:
    """Which projects' rows `why_over` has something to say of."""
    return (
        Q(key_destroyed_at__isnull=False)
        | Q(is_accepted=False)
        | Q(is_revoked=True)
        | Q(expires_on__lt=timezone.localdate())
    )


def get_project_key(project: Project, generation: int | None = None) -> ProjectKey:
    """From which UIDs, dates and generated pseudonyms follow; now, or in an earlier generation.

    Raises KeyDestroyed.
    """
    return ProjectKey(
        _get_secret(project), project.generation if generation is None else generation
    )


def get_project_cipher(project: Project) -> ValueCipher:
    """Seals what belongs to the project. Raises KeyDestroyed, a DecryptionError, once its key is gone."""
    return ValueCipher(HKDF(SHA256(), 32, None, b"adit project box").derive(_get_secret(project)))


def get_trial_attributes(project: Project) -> ClinicalTrialAttributes | None:
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
    """Raises NotPermitted once the key is destroyed."""
    if project.key is None:
        raise NotPermitted(_describe_destroyed(project))


def _describe_destroyed(project: Project) -> str:
    return _(
        "The key of the research project %(project)s was destroyed: it has ended for good."
    ) % {"project": project.protocol_id}


def _get_secret(project: Project) -> bytes:
    if project.key is None:
        raise KeyDestroyed(f"The key of {project.protocol_id} was destroyed.")
    return bytes.fromhex(project.key)


def export_key(user: AnyUser, project: Project) -> str:
    """The key file with which the command line makes the same UIDs, dates and pseudonyms.

    Whoever holds it can link pseudonyms to patients, hence both rights. Raises NotPermitted.
    """
    require(user, Right.MANAGE_PROJECTS)
    require_link(user, project)
    require_key(project)
    record("project.key_exported", user=user, about=audit_subject(project))
    return format_key(get_project_key(project))


def audit_subject(project: Project) -> str:
    """How the trail names it."""
    return f"project:{project.protocol_id}"


def _format_errors(error: ValidationError) -> str:
    names = {field.name: field.verbose_name for field in Project._meta.fields}
    parts = (
        " ".join(sentences) if name not in names else f"{names[name]}: {' '.join(sentences)}"
        for name, sentences in error.message_dict.items()
    )
    return " ".join(parts)


def propose_project(
    user: AnyUser,
    project: Project,
    *,
    members: Iterable[Group] = (),
    sources: Iterable[Node] = (),
    destinations: Iterable[Node] = (),
) -> Project:
    """Saves a project that was only filled in; nothing leaves for it yet. Raises NotPermitted, WrongInput."""
    require_active(user)
    if not user.pk:
        raise NotPermitted(_("Sign in first."))
    project.proposed_by_id = user.pk
    project.is_accepted = False
    relations = {"members": members, "sources": sources, "destinations": destinations}
    return save_new_project(user, project, "project.proposed", relations)


def accept_project(user: AnyUser, project: Project) -> None:
    """Raises NotPermitted; nobody accepts the own proposal."""
    require(user, Right.MANAGE_PROJECTS)
    with transaction.atomic():
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if project.is_accepted:
            return
        if project.proposed_by_id == user.pk:
            raise NotPermitted(_("Somebody else has to accept what you proposed yourself."))
        project.is_accepted = True
        project.save(update_fields=["is_accepted"])
        record("project.accepted", user=user, about=audit_subject(project))
