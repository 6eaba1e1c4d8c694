"""Projects: who may make and use one, and what its key gives."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import timezone

from adit.accounts.permissions import COORDINATORS, DATA_PROTECTION, NotPermitted
from adit.audit.models import AuditEvent
from adit.projects.models import ProfileVersion, ProfileVersionIsFrozen, Project
from adit.projects.services import (
    choose_profile,
    create_project,
    default_project,
    export_key,
    get_project_cipher,
    get_project_key,
    may_use,
    require_use,
    revoke_project,
    usable_projects,
)
from adit.vault.cipher import DecryptionError
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.keys import read_key_file
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules

MATRIX = {"coordinator": False, "pacsadmin": False, "stranger": False, "dpo": True, "root": True}


def unsaved(**values):
    return Project(**{"protocol_id": "HEART", "sponsor": "University", **values})


def other_profile():
    rules = Rules("Other", 1, frozenset())
    return ProfileVersion.objects.create(name="Other", text=rules.to_text())


@pytest.mark.parametrize(("who", "allowed"), MATRIX.items())
def test_only_project_managers_make_revoke_and_change_projects(request, project, who, allowed):
    user = request.getfixturevalue(who)
    for action in (
        lambda: create_project(user, unsaved()),
        lambda: choose_profile(user, project, other_profile()),
        lambda: revoke_project(user, project),
    ):
        if allowed:
            action()
        else:
            with pytest.raises(NotPermitted, match="Manage research projects"):
                action()


def test_a_new_project_has_a_key_of_its_own_and_the_default_profile(dpo, groups):
    one = create_project(dpo, unsaved(), members=[groups[COORDINATORS]])
    two = create_project(dpo, unsaved(protocol_id="LIVER"))

    assert len(bytes.fromhex(one.key)) == 32
    assert one.key != two.key
    assert Rules.from_toml(one.profile.text) == Rules.default()
    assert AuditEvent.objects.get(action="project.created", about="project:HEART").user == dpo


def test_the_key_does_not_stand_in_the_database(project):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM projects_project")
        rows = repr(cursor.fetchall())

    assert project.protocol_id in rows
    assert project.key not in rows
    assert repr(bytes.fromhex(project.key))[2:-1] not in rows


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"protocol_id": "LÜNG"}, "Only letters, digits, dots, hyphens and underscores"),
        ({"protocol_id": "LUNG"}, "already exists"),
        ({"sponsor": ""}, "sponsor: "),
        ({"pattern": "LUNG"}, "one sequence of #"),
        ({"pattern": "A##-##"}, "one sequence of #"),
        ({"pattern": "Ä-##"}, "one sequence of #"),
    ],
)
def test_a_project_that_cannot_be_is_refused_with_a_sentence(dpo, project, values, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        create_project(dpo, unsaved(**values))


def test_the_default_project_is_made_once_and_is_everybodys(stranger):
    assert default_project() == default_project()
    assert may_use(stranger, default_project())
    assert default_project() not in usable_projects(stranger)


@pytest.mark.parametrize(
    ("who", "allowed"),
    {"coordinator": True, "pacsadmin": False, "stranger": False, "dpo": True, "root": True}.items(),
)
def test_members_and_project_managers_use_a_project(request, project, who, allowed):
    user = request.getfixturevalue(who)

    assert may_use(user, project) is allowed
    assert (project in usable_projects(user)) is allowed


def test_a_closed_account_uses_no_project(coordinator, project):
    coordinator.is_active = False

    assert not may_use(coordinator, project)
    assert not usable_projects(coordinator).exists()


def test_an_ended_project_is_for_nobody(coordinator, root, project):
    project.expires_on = timezone.localdate() - timedelta(days=1)
    project.save()

    for user in (coordinator, root):
        assert project not in usable_projects(user)
        with pytest.raises(NotPermitted, match="LUNG has ended"):
            require_use(user, project)


def test_a_project_may_be_used_on_its_last_day(coordinator, project):
    project.expires_on = timezone.localdate()
    project.save()

    assert may_use(coordinator, project)
    assert project in usable_projects(coordinator)


def test_a_revoked_project_is_for_nobody(coordinator, dpo, project):
    revoke_project(dpo, project)

    assert project not in usable_projects(coordinator)
    with pytest.raises(NotPermitted, match="LUNG was revoked"):
        require_use(coordinator, project)


def test_what_one_project_sealed_no_other_opens(make_project):
    lung, heart = make_project("LUNG"), make_project("HEART")
    sealed = get_project_cipher(lung).seal("secret", "here")

    assert get_project_cipher(lung).open(sealed, "here") == "secret"
    with pytest.raises(DecryptionError):
        get_project_cipher(heart).open(sealed, "here")


def test_the_exported_key_makes_the_same_uids(root, project, tmp_path):
    file = tmp_path / "lung.key"
    file.write_text(export_key(root, project))

    assert read_key_file(file).uid("1.2.3") == get_project_key(project).uid("1.2.3")
    assert AuditEvent.objects.filter(action="project.key_exported", user=root).exists()


def test_exporting_a_key_needs_two_rights(dpo, coordinator, project, groups, make_user):
    for user in (dpo, coordinator):
        with pytest.raises(NotPermitted):
            export_key(user, project)
    groups[DATA_PROTECTION].permissions.add(Permission.objects.get(codename="reidentify"))

    assert export_key(make_user("keyholder", DATA_PROTECTION), project)


def test_another_profile_gives_other_uids(dpo, project):
    before = get_project_key(project).uid("1.2.3")

    choose_profile(dpo, project, project.profile)
    assert get_project_key(project).uid("1.2.3") == before
    choose_profile(dpo, project, other_profile())
    assert get_project_key(project).uid("1.2.3") != before
    assert get_project_key(project).generate_pseudonym("PACS1", "4711") == get_project_key(
        Project.objects.get(pk=project.pk)
    ).generate_pseudonym("PACS1", "4711")


def test_a_used_profile_does_not_change_any_more(db):
    profile = other_profile()
    profile.frozen_at = timezone.now()
    profile.save()

    profile.text = "changed"
    with pytest.raises(ProfileVersionIsFrozen):
        profile.save()
