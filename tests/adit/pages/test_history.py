"""The history of nodes, projects, profiles, groups and users: who changed what, from and to."""

from collections.abc import Callable
from datetime import date

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.administration.groups import GroupData, save_group
from adit.administration.users import UserData, change_user
from adit.audit.changes import read_fields
from adit.audit.models import AuditEvent
from adit.nodes import services as node_services
from adit.nodes.models import Node
from adit.projects import profile_versions, services
from adit.projects.models import Project

AsUser = Callable[[User], Client]
CANARY = "canary-4711"

pytestmark = pytest.mark.django_db


def text_of(client: Client, kind: str, pk: int) -> str:
    answer = client.get(f"/history/{kind}/{pk}/")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def change_project(user: User, project: Project, members: list[Group]) -> None:
    none: list[Group] = []
    services.change_project(
        user,
        project,
        members=members,
        sources=[],
        destinations=[],
        list_holders=none,
        reidentifiers=none,
    )


def test_the_history_of_a_node_shows_old_and_new_values_and_never_a_secret(
    pacsadmin: User, as_user: AsUser, groups: dict[str, Group]
) -> None:
    settings = {"url": "https://one.example/rs", "sign_in": "basic", "user": "adit"}
    node = Node(name="Web", kind="dicomweb", settings=settings)
    node.set_secrets({"password": f"{CANARY}-old"})
    node_services.save_node(pacsadmin, node)
    node.settings = {**settings, "url": "https://two.example/rs"}
    node.set_secrets({"password": f"{CANARY}-new", "token": CANARY})
    node.retrieve_limit = 3
    # A secret that got among the settings stays out of the trail.
    Node.objects.filter(pk=node.pk).update(settings={**settings, "password": CANARY})
    node_services.save_node(pacsadmin, node, {groups[standard.COORDINATORS]: (True, False)})

    page = text_of(as_user(pacsadmin), "node", node.pk)

    assert "pacsadmin changed Web." in page
    assert "<strong>Connections for transfers</strong>: from 2 to 3" in page
    assert "from https://one.example/rs to https://two.example/rs" in page
    assert "<strong>Access</strong>: from – to Coordinators=read" in page
    assert "<strong>Passwords and keys</strong>: changed (not shown)" in page
    assert CANARY not in page
    assert CANARY not in repr(list(AuditEvent.objects.values_list("details", flat=True)))


def test_fields_that_hold_secrets_are_left_out_by_their_type(
    project: Project, source: Node, coordinator: User
) -> None:
    for row in (project, source, coordinator):
        names = [field.name for field in row._meta.fields]
        values = read_fields(row, names)
        assert not {"key", "secrets", "password"} & values.keys()
    assert project.key not in repr(read_fields(project, [f.name for f in project._meta.fields]))


def test_the_history_of_a_project_is_for_its_members(
    dpo: User,
    root: User,
    coordinator: User,
    stranger: User,
    as_user: AsUser,
    project: Project,
    groups: dict[str, Group],
) -> None:
    project.expires_on = date(2030, 1, 31)
    project.purpose = "Nodules"
    members = [groups[standard.COORDINATORS], groups[standard.REVIEWERS]]
    change_project(root, project, members)

    page = text_of(as_user(coordinator), "project", project.pk)

    assert "root changed project LUNG." in page
    assert "<strong>Ends on</strong>: from – to 2030-01-31" in page
    assert "<strong>Purpose</strong>: from – to Nodules" in page
    assert "<strong>Members</strong>: from Coordinators to Coordinators, Reviewers" in page
    assert f'href="/history/project/{project.pk}/"' in (
        as_user(coordinator).get(f"/projects/{project.pk}/").content.decode()
    )
    assert as_user(stranger).get(f"/history/project/{project.pk}/").status_code == 404
    assert text_of(as_user(dpo), "project", project.pk)


def test_the_history_of_a_group_and_a_user_shows_what_changed(
    root: User, dpo: User, coordinator: User, as_user: AsUser, groups: dict[str, Group]
) -> None:
    group = groups[standard.COORDINATORS]
    new = GroupData("Study nurses", [coordinator], list(group.permissions.all()), {})
    save_group(root, group, new)
    data = UserData("coordinator", "Carla", "C", "carla@example.org", groups=[group])
    change_user(root, coordinator, data)
    client = as_user(dpo)

    assert "from Coordinators to Study nurses" in text_of(client, "group", group.pk)
    page = text_of(client, "user", coordinator.pk)
    assert "<strong>First name</strong>: from – to Carla" in page
    assert as_user(coordinator).get(f"/history/user/{coordinator.pk}/").status_code == 404
    assert as_user(coordinator).get(f"/history/group/{group.pk}/").status_code == 404
    root_page = as_user(root).get(f"/users/{coordinator.pk}/").content.decode()
    assert f'href="/history/user/{coordinator.pk}/"' in root_page


def test_the_history_of_a_profile_shows_the_changed_rules(
    dpo: User, as_user: AsUser, project: Project
) -> None:
    first = project.profile
    text = first.text.replace(f"version = {first.version}", f"version = {first.version + 1}")
    second = profile_versions.create_version(dpo, text)

    page = text_of(as_user(dpo), "profile", second.pk)

    assert f"from version = {first.version} to version = {first.version + 1}" in page


def test_an_unknown_object_has_no_history(root: User, as_user: AsUser) -> None:
    for path in ("/history/job/1/", "/history/node/4711/", "/history/user/0/"):
        assert as_user(root).get(path).status_code == 404


def test_a_long_history_has_pages(
    dpo: User, pacsadmin: User, as_user: AsUser, source: Node
) -> None:
    for limit in range(3, 56):
        source.retrieve_limit = limit
        node_services.save_node(pacsadmin, source)
    client = as_user(dpo)

    answer = client.get(f"/history/node/{source.pk}/")
    older = answer.context["history"].older
    rest = client.get(f"/history/node/{source.pk}/?before={older}").context["history"]

    assert len(answer.context["history"].entries) == 50
    assert len(rest.entries) == 3
    assert AuditEvent.objects.filter(action="trail.read").count() == 1
