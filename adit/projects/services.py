"""Create, propose, accept, change, extend and revoke research projects, and derive their keys.

Also decides who may use a project. Used wherever a project is involved.
"""

import secrets
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import (
    AnyUser,
    NotPermitted,
    Right,
    has_right,
    require,
    require_active,
)
from adit.audit.changes import compare_values, read_fields
from adit.audit.trail import record
from adit.nodes.models import Node
from adit.projects import risks
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import needs_new_generation, parse_rules
from adit.projects.validators import validate_pattern, validate_reason
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.pseudonymize.keys import ProjectKey, format_key
from adit_engine.pseudonymize.parameters import ClinicalTrialAttributes
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules
from adit_engine.pseudonymize.profile import is_compatible_decision

DEFAULT_PROTOCOL_ID = "site-default"

IMAGE_FIELDS = ("protocol_name", "sponsor", "site_name", "site_id", "pattern")
"""Headers and pseudonyms are built from these fields. They cannot change once the project has
patients.
"""
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
LIMIT_FIELDS = ("all_modalities", "modalities", "patient_cap", "second_person")
REQUIRED_FIELDS = (*APPROVAL_FIELDS, "sources", "destinations", "modalities")
"""Nothing of these is empty in a project that is accepted. See list_missing()."""
LINK_FIELDS = ("list_holders", "list_holder_users", "reidentifiers", "reidentifier_users")
"""The groups and persons that may link pseudonyms and patients."""
USER_FIELDS = {
    "members": "member_users",
    "list_holders": "list_holder_users",
    "reidentifiers": "reidentifier_users",
}
"""For each relation to groups the one to persons, which gives them the same."""
_RELATIONS = ("members", "member_users", "sources", "destinations", *LINK_FIELDS)
_CHANGEABLE_FIELDS = (*IMAGE_FIELDS, *APPROVAL_FIELDS, *LIMIT_FIELDS, *risks.FIELDS, "profile")


class KeyDestroyed(DecryptionError):
    """The key of the project is destroyed; what it encrypted cannot be read any more."""


def create_project(
    user: AnyUser,
    project: Project,
    *,
    members: Iterable[Group] = (),
    sources: Iterable[Node] = (),
    destinations: Iterable[Node] = (),
    list_holders: Iterable[Group] = (),
    reidentifiers: Iterable[Group] = (),
    member_users: Iterable[User] = (),
    list_holder_users: Iterable[User] = (),
    reidentifier_users: Iterable[User] = (),
) -> Project:
    """Save a new, accepted project with its own key.

    `project` is an unsaved instance. Raises NotPermitted, and InvalidInput if it is incomplete.
    """
    require(user, Right.MANAGE_PROJECTS)
    project.is_accepted = True
    relations = {
        "members": members,
        "sources": sources,
        "destinations": destinations,
        "list_holders": list_holders,
        "reidentifiers": reidentifiers,
        "member_users": member_users,
        "list_holder_users": list_holder_users,
        "reidentifier_users": reidentifier_users,
    }
    _require_complete(list_missing(project, relations))
    return save_new_project(user, project, "project.created", relations)


def list_missing(
    project: Project, relations: Mapping[str, Iterable[Any]] | None = None
) -> list[str]:
    """Return the names of the fields that must be filled in before the project is accepted.

    Without `relations`, the stored nodes count. The site's default project needs nothing.
    """
    if project.is_default:
        return []

    def is_empty(name: str) -> bool:
        if name == "modalities":
            return not (project.all_modalities or project.modalities)
        if name in _RELATIONS:
            return not (getattr(project, name).all() if relations is None else relations[name])
        return not getattr(project, name)

    return [name for name in REQUIRED_FIELDS if is_empty(name)]


def name_fields(names: Iterable[str]) -> str:
    """Return the names of fields for a sentence."""
    fields = {field.name: field for field in (*Project._meta.fields, *Project._meta.many_to_many)}
    return ", ".join(str(fields[name].verbose_name) for name in names)


def _require_complete(missing: Iterable[str]) -> None:
    if names := list(missing):
        raise InvalidInput("project.incomplete", fields=name_fields(names))


def save_new_project(
    user: AnyUser, project: Project, action: str, relations: Mapping[str, Iterable[Any]]
) -> Project:
    """Save a new project with its own key. The caller checks the permission.

    Raises InvalidInput.
    """
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
        raise InvalidInput("project.invalid-fields", problems=_format_errors(error)) from None
    get_trial_attributes(project)
    with transaction.atomic():
        project.save(force_insert=True)
        for name, rows in relations.items():
            getattr(project, name).set(rows)
        details = {
            "profile": str(project.profile),
            **risks.facts(project),
            **{name: _names(project, name) for name in LINK_FIELDS if relations.get(name)},
        }
        record(action, user=user, about=audit_subject(project), details=details)
    return project


def change_project(
    user: AnyUser,
    project: Project,
    *,
    members: Iterable[Group],
    sources: Iterable[Node],
    destinations: Iterable[Node],
    list_holders: Iterable[Group],
    reidentifiers: Iterable[Group],
    member_users: Iterable[User] | None = None,
    list_holder_users: Iterable[User] | None = None,
    reidentifier_users: Iterable[User] | None = None,
) -> None:
    """Save the changes of a project. Without persons, those of the project stay.

    Another profile starts a new generation of UIDs; another decision on `header_word` may do so
    too. Raises NotPermitted, and InvalidInput for fields that cannot change any more or that an
    accepted project must not lose.
    """
    require(user, Right.MANAGE_PROJECTS)
    get_trial_attributes(project)
    risks.check(project)
    if project.pattern:
        validate_pattern(project.pattern)
    with transaction.atomic():
        before = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        values = read_fields(before, (*_CHANGEABLE_FIELDS, *_RELATIONS))
        changed = [
            name for name in _CHANGEABLE_FIELDS if getattr(before, name) != getattr(project, name)
        ]
        if has_patients(before) and set(changed) & set(IMAGE_FIELDS):
            raise InvalidInput("project.fixed-fields")
        if is_extendable(before) and _ends_later(before, project):
            raise InvalidInput("project.end-needs-reason")
        relations: dict[str, list[Any]] = {
            "members": list(members),
            "sources": list(sources),
            "destinations": list(destinations),
            "list_holders": list(list_holders),
            "reidentifiers": list(reidentifiers),
        }
        persons = {
            "member_users": member_users,
            "list_holder_users": list_holder_users,
            "reidentifier_users": reidentifier_users,
        }
        relations |= {name: list(rows) for name, rows in persons.items() if rows is not None}
        if before.is_accepted:
            stays = list_missing(before)
            _require_complete(
                name for name in list_missing(project, relations) if name not in stays
            )
        project.generation = before.generation + _opens_generation(before, project)
        project.save(update_fields=[*changed, "generation"])
        for name, rows in relations.items():
            if _set_relation(getattr(project, name), rows):
                changed.append(name)
        changes = compare_values(values, read_fields(project, (*_CHANGEABLE_FIELDS, *_RELATIONS)))
        details = {
            "changed": changed,
            "changes": changes,
            "profile": str(project.profile),
            "generation": project.generation,
            **risks.facts(project),
            **{name: _names(project, name) for name in LINK_FIELDS if name in changed},
        }
        record("project.changed", user=user, about=audit_subject(project), details=details)


def _ends_later(before: Project, after: Project) -> bool:
    if before.expires_on is None:
        return False
    return after.expires_on is None or after.expires_on > before.expires_on


def _names(project: Project, relation: str) -> list[str]:
    """The names of groups, or the user names of persons."""
    return sorted(str(one) for one in getattr(project, relation).all())


def _opens_generation(before: Project, after: Project) -> bool:
    words = [risks.get_chosen(project)["header_word"] for project in (before, after)]
    return needs_new_generation(
        before.profile, after.profile, words[0]
    ) or not is_compatible_decision(parse_rules(after.profile), *words)


def _set_relation(relation: Any, rows: Iterable[Any]) -> bool:
    """Return whether the related rows have changed."""
    before = set(relation.values_list("pk", flat=True))
    relation.set(rows)
    return before != set(relation.values_list("pk", flat=True))


def revoke_project(user: AnyUser, project: Project) -> None:
    """Revoke the project: nothing is sent for it any more.

    Its pending tasks fail, its running tasks are stopped.
    """
    require(user, Right.MANAGE_PROJECTS)
    with transaction.atomic():
        project.is_revoked = True
        project.save(update_fields=["is_revoked"])
        record("project.revoked", user=user, about=audit_subject(project))


def extend_project(user: AnyUser, project: Project, until: date, reason: str) -> None:
    """Move the end of a project to a later day. A project that has ended can be used again.

    Raises NotPermitted, and InvalidInput if the new end is not later, has passed, or is after the
    day by which the data must be deleted.
    """
    require(user, Right.MANAGE_PROJECTS)
    reason = validate_reason(reason)
    with transaction.atomic():
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if not is_extendable(project):
            raise InvalidInput("project.not-extendable", project=project.protocol_id)
        before = project.expires_on
        if before is None or until <= before or until < timezone.localdate():
            raise InvalidInput("project.end-not-later", project=project.protocol_id)
        if project.deletion_on is not None and until > project.deletion_on:
            day = project.deletion_on.isoformat()
            raise InvalidInput("project.end-after-deletion", day=day)
        project.expires_on = until
        project.save(update_fields=["expires_on"])
        details = {"from": before.isoformat(), "until": until.isoformat(), "reason": reason}
        record("project.extended", user=user, about=audit_subject(project), details=details)


def is_extendable(project: Project) -> bool:
    """Return whether the project has an end that can be moved; a revocation is permanent."""
    return (
        project.expires_on is not None
        and project.is_accepted
        and not project.is_revoked
        and project.key_destroyed_at is None
    )


def choose_profile(user: AnyUser, project: Project, profile: ProfileVersion) -> None:
    """Set the profile of the project.

    Another profile starts a new generation of UIDs, so that one UID never has two contents. A
    version that only lets previously withheld images pass does not: see `is_compatible_version` in
    adit_engine/pseudonymize/profile.py.
    """
    require(user, Right.MANAGE_PROJECTS)
    with transaction.atomic():
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if project.profile_id == profile.pk:
            return
        word = risks.get_chosen(project)["header_word"]
        changes = compare_values({"profile": str(project.profile)}, {"profile": str(profile)})
        project.generation += needs_new_generation(project.profile, profile, word)
        project.profile = profile
        project.save(update_fields=["profile", "generation"])
        details = {
            "changes": changes,
            "profile": str(profile),
            "generation": project.generation,
        }
        record("project.changed", user=user, about=audit_subject(project), details=details)


def default_project() -> Project:
    """Return the default project of the site, for jobs without a research project.

    It is created on first use.
    """
    return Project.objects.get_or_create(
        is_default=True,
        protocol_id=DEFAULT_PROTOCOL_ID,
        defaults={
            "protocol_name": "No research project",
            "sponsor": "-",
            "key": secrets.token_hex(32),
            "profile": default_profile(),
            "all_modalities": True,
        },
    )[0]


def default_profile() -> ProfileVersion:
    """Return the default profile of the engine; it is created on first use."""
    rules = Rules.default()
    return ProfileVersion.objects.get_or_create(
        name=rules.name, version=rules.version, defaults={"text": rules.to_text()}
    )[0]


def usable_projects(user: AnyUser) -> QuerySet[Project]:
    """Return the projects that the user may choose now.

    The default project of the site is not included.
    """
    if not user.is_active:
        return Project.objects.none()
    projects = Project.objects.filter(is_default=False, is_revoked=False, is_accepted=True)
    projects = projects.exclude(expires_on__lt=timezone.localdate())
    if has_right(user, Right.MANAGE_PROJECTS):
        return projects
    return projects.filter(pk__in=member_projects(user).values("pk"))


def member_projects(user: AnyUser) -> QuerySet[Project]:
    """Return the projects of which the user is a member, by a group or as a person."""
    through, persons = Project.members.through, Project.member_users.through
    by_group = through.objects.filter(group__in=user.groups.all())
    by_person = persons.objects.filter(user=user.pk)
    mine = Q(pk__in=by_group.values("project")) | Q(pk__in=by_person.values("project"))
    return Project.objects.filter(mine, is_default=False)


def visible_projects(user: AnyUser) -> QuerySet[Project]:
    """Return the projects of which the user is a member, and the user's own proposals.

    Ended projects are included. Project managers see all projects.
    """
    if not user.is_active:
        return Project.objects.none()
    if has_right(user, Right.MANAGE_PROJECTS):
        return Project.objects.all()
    mine_or_proposed = Q(pk__in=member_projects(user).values("pk")) | Q(proposed_by=user.pk)
    return Project.objects.filter(mine_or_proposed, is_default=False)


def is_member(user: AnyUser, project: Project) -> bool:
    """Return whether the user is a member, by a group or as a person, or manages projects."""
    if not user.is_active:
        return False
    return has_right(user, Right.MANAGE_PROJECTS) or _is_named(user, project, "members")


def _is_named(user: AnyUser, project: Project, relation: str) -> bool:
    """Return whether the project names the user in this relation, by a group or as a person."""
    groups, persons = getattr(project, relation), getattr(project, USER_FIELDS[relation])
    return (
        groups.filter(pk__in=user.groups.values("pk")).exists()
        or persons.filter(pk=user.pk).exists()
    )


def may_hold_list(user: AnyUser, project: Project) -> bool:
    """Return whether the user may see the pseudonym of a patient whom the user sees.

    This is the only rule for a pseudonym beside its patient, on pages and in files.
    """
    return _may_link(user, project, "list_holders")


def may_reidentify(user: AnyUser, project: Project) -> bool:
    """Return whether the user may find the patient of a pseudonym.

    Each use needs a reason and is recorded.
    """
    return _may_link(user, project, "reidentifiers")


def _may_link(user: AnyUser, project: Project, relation: str) -> bool:
    """Members who have the permission, by a group or as a person. The site's default project has
    no members.
    """
    if not user.is_active:
        return False
    if user.is_superuser:
        return True
    return _is_named(user, project, relation) and (project.is_default or is_member(user, project))


def require_list(user: AnyUser, project: Project) -> None:
    """Raise NotPermitted unless `may_hold_list`."""
    if not may_hold_list(user, project):
        raise NotPermitted("project.not-list-holder", project=project.protocol_id)


def require_reidentify(user: AnyUser, project: Project) -> None:
    """Raise NotPermitted unless `may_reidentify`."""
    if not may_reidentify(user, project):
        raise NotPermitted("project.not-reidentifier", project=project.protocol_id)


def has_patients(project: Project) -> bool:
    """Return whether a patient has a pseudonym in the project.

    If so, images that name the project may already have been delivered.
    """
    return project.patients.exists()


def may_use(user: AnyUser, project: Project) -> bool:
    try:
        require_use(user, project)
    except NotPermitted:
        return False
    return True


def require_use(user: AnyUser, project: Project) -> None:
    """Raise NotPermitted if the project has ended or the user is not a member."""
    require_active(user)
    reason = explain_ended(project)
    if reason is not None:
        raise NotPermitted(reason.code, **reason.values)
    if project.is_default:
        return
    if not is_member(user, project):
        raise NotPermitted("project.not-member", project=project.protocol_id)


def needs_project(kind_sends_images: bool, is_as_is: bool) -> bool:
    """Return whether an order is only allowed for a research project.

    Without one, all pseudonymized orders share the key of the site: it would link a patient across
    unrelated work.
    """
    return kind_sends_images and not is_as_is and not settings.ORDERS_WITHOUT_PROJECT


def explain_ended(project: Project) -> Message | None:
    """Return why nobody may use the project now; None if it is active."""
    if project.key_destroyed_at is not None:
        return Message("project.key-destroyed", project=project.protocol_id)
    if not project.is_accepted:
        return Message("project.not-accepted", project=project.protocol_id)
    if project.is_revoked:
        return Message("project.revoked", project=project.protocol_id)
    if project.is_over(timezone.localdate()):
        return Message("project.ended", project=project.protocol_id)
    return None


def ended_filter() -> Q:
    """Return the filter for projects for which `explain_ended` gives a reason."""
    return (
        Q(key_destroyed_at__isnull=False)
        | Q(is_accepted=False)
        | Q(is_revoked=True)
        | Q(expires_on__lt=timezone.localdate())
    )


def get_project_key(project: Project, generation: int | None = None) -> ProjectKey:
    """Return the key from which UIDs, dates and generated pseudonyms are derived.

    Without `generation` it is the key of the current one. Raises KeyDestroyed.
    """
    return ProjectKey(
        _get_secret(project), project.generation if generation is None else generation
    )


def get_project_cipher(project: Project) -> ValueCipher:
    """Return the cipher for data of the project.

    Raises KeyDestroyed (a DecryptionError) if the key has been destroyed.
    """
    return ValueCipher(HKDF(SHA256(), 32, None, b"adit project box").derive(_get_secret(project)))


def get_trial_attributes(project: Project) -> ClinicalTrialAttributes | None:
    """Return the header attributes of the project.

    None for the site's default project. Raises InvalidInput.
    """
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
    """Raise NotPermitted if the key has been destroyed."""
    if project.key is None:
        raise NotPermitted("project.key-destroyed", project=project.protocol_id)


def _get_secret(project: Project) -> bytes:
    if project.key is None:
        raise KeyDestroyed(f"The key of {project.protocol_id} was destroyed.")
    return bytes.fromhex(project.key)


def export_key(user: AnyUser, project: Project) -> str:
    """Return the key file of the project.

    With it, the command line creates the same UIDs, dates and pseudonyms. Managing projects is not
    sufficient, because the key links pseudonyms to patients. Raises NotPermitted.
    """
    require(user, Right.MANAGE_PROJECTS)
    require_reidentify(user, project)
    require_key(project)
    record("project.key_exported", user=user, about=audit_subject(project))
    return format_key(get_project_key(project))


def audit_subject(project: Project) -> str:
    """Return the name of the project in the audit trail."""
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
    member_users: Iterable[User] = (),
    list_holders: Iterable[Group] = (),
    reidentifiers: Iterable[Group] = (),
) -> Project:
    """Save a proposed project. Nothing is sent for it until it is accepted.

    `project` is an unsaved instance. Only managers of projects choose who may link pseudonyms and
    patients. Raises NotPermitted, InvalidInput.
    """
    require_active(user)
    if list_holders or reidentifiers:
        require(user, Right.MANAGE_PROJECTS)
    if not user.pk:
        raise NotPermitted("project.not-signed-in")
    project.proposed_by_id = user.pk
    project.is_accepted = False
    relations: dict[str, Iterable[Any]] = {
        "members": members,
        "member_users": member_users,
        "sources": sources,
        "destinations": destinations,
        "list_holders": list_holders,
        "reidentifiers": reidentifiers,
    }
    return save_new_project(user, project, "project.proposed", relations)


def accept_project(user: AnyUser, project: Project) -> None:
    """Accept a proposed project.

    Raises NotPermitted, because nobody may accept their own proposal, and InvalidInput if it is
    incomplete.
    """
    require(user, Right.MANAGE_PROJECTS)
    with transaction.atomic():
        project.refresh_from_db(from_queryset=Project.objects.select_for_update(no_key=True))
        if project.is_accepted:
            return
        if project.proposed_by_id == user.pk:
            raise NotPermitted("project.own-proposal")
        _require_complete(list_missing(project))
        project.is_accepted = True
        project.save(update_fields=["is_accepted"])
        record("project.accepted", user=user, about=audit_subject(project))
