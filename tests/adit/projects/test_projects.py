"""Project services: permissions, validation, keys and profiles."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from lab.projects import APPROVAL, create_complete_project

from adit.accounts.models import User
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
    basis = {"sponsor": "University", "all_modalities": True, **APPROVAL}
    return Project(**{"protocol_id": "HEART", **basis, **values})


def other_profile():
    rules = Rules("Other", 1, frozenset())
    return ProfileVersion.objects.create(name="Other", text=rules.to_text())


@pytest.mark.parametrize(("who", "allowed"), MATRIX.items())
def test_only_project_managers_create_change_and_revoke_projects(
    request, project, source, who, allowed
):
    user = request.getfixturevalue(who)
    for action in (
        lambda: create_complete_project(user, "HEART"),
        lambda: choose_profile(user, project, other_profile()),
        lambda: revoke_project(user, project),
    ):
        if allowed:
            action()
        else:
            with pytest.raises(NotPermitted, match="Manage research projects"):
                action()


def test_a_new_project_has_its_own_key_and_the_default_profile(dpo, source, groups):
    one = create_complete_project(dpo, "HEART", members=[groups[COORDINATORS]])
    two = create_complete_project(dpo, "LIVER")

    assert len(bytes.fromhex(one.key)) == 32
    assert one.key != two.key
    assert Rules.from_toml(one.profile.text) == Rules.default()
    assert AuditEvent.objects.get(action="project.created", about="project:HEART").user == dpo


def test_the_key_is_not_stored_in_plain_text(project):
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
def test_an_invalid_project_is_rejected_with_a_message(dpo, project, source, values, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        create_project(dpo, unsaved(**values), sources=[source], destinations=[source])


@pytest.mark.parametrize("lacking", [*APPROVAL, "sources", "destinations", "modalities"])
def test_a_project_is_not_created_without_what_it_needs(dpo, source, lacking):
    nodes = {"sources": [source], "destinations": [source], lacking: []}
    values = {"all_modalities": lacking != "modalities"}
    if lacking in APPROVAL:
        values[lacking] = None if lacking.endswith("_on") else ""

    with pytest.raises(InvalidInput) as refused:
        create_project(
            dpo,
            unsaved(**values),
            sources=nodes["sources"],
            destinations=nodes["destinations"],
        )
    assert refused.value.message.code == "project.incomplete"
    assert not Project.objects.filter(protocol_id="HEART").exists()


def test_the_default_project_is_created_once_and_everybody_may_use_it(stranger):
    assert default_project() == default_project()
    assert may_use(stranger, default_project())
    assert default_project() not in usable_projects(stranger)


@pytest.mark.parametrize(
    ("who", "allowed"),
    {"coordinator": True, "pacsadmin": False, "stranger": False, "dpo": True, "root": True}.items(),
)
def test_only_members_and_project_managers_may_use_a_project(request, project, who, allowed):
    user = request.getfixturevalue(who)

    assert may_use(user, project) is allowed
    assert (project in usable_projects(user)) is allowed


def test_an_inactive_user_may_not_use_a_project(coordinator, project):
    coordinator.is_active = False

    assert not may_use(coordinator, project)
    assert not usable_projects(coordinator).exists()


def test_nobody_may_use_an_expired_project(coordinator, root, project):
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


def test_nobody_may_use_a_revoked_project(coordinator, dpo, project):
    revoke_project(dpo, project)

    assert project not in usable_projects(coordinator)
    with pytest.raises(NotPermitted, match="LUNG was revoked"):
        require_use(coordinator, project)


def test_another_project_cannot_decrypt_a_sealed_value(make_project):
    lung, heart = make_project("LUNG"), make_project("HEART")
    sealed = get_project_cipher(lung).seal("secret", "here")

    assert get_project_cipher(lung).open(sealed, "here") == "secret"
    with pytest.raises(DecryptionError):
        get_project_cipher(heart).open(sealed, "here")


def test_the_exported_key_generates_the_same_uids(root, project, tmp_path):
    file = tmp_path / "lung.key"
    file.write_text(export_key(root, project))

    assert read_key_file(file).uid("1.2.3") == get_project_key(project).uid("1.2.3")
    assert AuditEvent.objects.filter(action="project.key_exported", user=root).exists()


def test_exporting_a_key_requires_two_permissions(dpo, keyholder, project, groups):
    for user in (dpo, keyholder):
        with pytest.raises(NotPermitted):
            export_key(user, project)
    keyholder.groups.add(groups[DATA_PROTECTION])

    assert export_key(User.objects.get(pk=keyholder.pk), project)


def test_changing_the_profile_changes_the_uids_but_not_the_pseudonyms(dpo, project):
    before = get_project_key(project).uid("1.2.3")

    choose_profile(dpo, project, project.profile)
    assert get_project_key(project).uid("1.2.3") == before
    choose_profile(dpo, project, other_profile())
    assert get_project_key(project).uid("1.2.3") != before
    assert get_project_key(project).generate_pseudonym("PACS1", "4711") == get_project_key(
        Project.objects.get(pk=project.pk)
    ).generate_pseudonym("PACS1", "4711")


def test_a_used_profile_version_cannot_be_changed(db):
    profile = other_profile()
    profile.frozen_at = timezone.now()
    profile.save()

    profile.text = "changed"
    with pytest.raises(ProfileVersionIsFrozen):
        profile.save()
