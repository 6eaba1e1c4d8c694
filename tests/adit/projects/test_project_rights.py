"""Access to each route of projects and profiles, for each role."""

from collections.abc import Callable
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import reverse
from lab.undone import undone

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs.models import Job
from adit.jobs.visibility import visible_jobs
from adit.nodes.models import Node
from adit.projects import services
from adit.projects import urls as addresses
from adit.projects.models import Project
from adit.projects.pseudonyms import get_or_create_pseudonym

pytestmark = pytest.mark.django_db

NODES = ("sources", "destinations")
ROLES = ("nobody", "stranger", "outsider", "member", "keyholder", "pacsadmin", "dpo", "root")
SIGN_IN, OK, AWAY, NO, HIDDEN = 302, 200, 302, 403, 404


def who(default: int, **others: int) -> dict[str, int]:
    return dict.fromkeys(ROLES, default) | {"nobody": SIGN_IN} | others


SEES = {"member": OK, "keyholder": OK, "dpo": OK, "root": OK}
MANAGES = who(HIDDEN, member=NO, keyholder=NO, dpo=OK, root=OK)
KEY = who(HIDDEN, member=NO, keyholder=OK, dpo=NO, root=OK)

# route name -> (method, arguments, expected status per role)
MATRIX = {
    "projects": ("get", (), who(OK)),
    "project_new": ("get", (), who(OK)),
    "project": ("get", ("project",), who(HIDDEN, **SEES)),
    "project_edit": ("get", ("project",), MANAGES),
    "project_accept": (
        "post",
        ("project",),
        {r: AWAY if s == OK else s for r, s in MANAGES.items()},
    ),
    "project_extend": ("get", ("project",), MANAGES),
    "project_document": ("get", ("project",), MANAGES),
    # No document is stored; see test_approval_documents.py.
    "project_document_file": ("get", ("project",), who(HIDDEN)),
    "project_revoke": (
        "post",
        ("project",),
        {r: AWAY if s == OK else s for r, s in MANAGES.items()},
    ),
    "project_destroy": ("get", ("project",), MANAGES),
    "project_pseudonyms": ("get", ("project",), who(HIDDEN, **SEES)),
    "project_reidentify": ("get", ("project", "patient"), KEY),
    "project_merge_patient": ("get", ("project", "patient"), KEY),
    "project_export": ("get", ("project",), KEY),
    "project_import": ("get", ("project",), who(HIDDEN, member=OK, keyholder=OK, dpo=NO, root=OK)),
    "profiles": ("get", (), who(OK)),
    "profile_version": ("get", ("profile",), who(OK)),
    "profile_as_text": ("get", ("profile",), who(OK)),
    "profile_new": ("get", ("profile",), who(NO, dpo=OK, root=OK)),
    "profile_pixels": ("get", ("profile",), who(NO, dpo=OK, root=OK)),
    "profile_preview_page": ("get", ("profile",), who(NO, member=OK, keyholder=OK, root=OK)),
}


@pytest.fixture
def people(make_user: Callable[..., User], keyholder: User, root: User) -> dict[str, User | None]:
    outsider = make_user("outsider")
    outsider.groups.add(Group.objects.create(name="Others"))
    return {
        "nobody": None,
        "stranger": make_user("stranger"),
        "outsider": outsider,
        "member": make_user("member", "Coordinators"),
        "keyholder": keyholder,
        "pacsadmin": make_user("pacsadmin", "PACS administrators"),
        "dpo": make_user("dpo", "Data protection"),
        "root": root,
    }


def address(name: str, arguments: tuple[object, ...], project: Project) -> str:
    get_or_create_pseudonym(project, "PACS1", "4711-canary")
    values = {
        "project": project.pk,
        "patient": project.patients.get().pk,
        "profile": project.profile_id,
    }
    return reverse(name, args=[values[str(a)] for a in arguments])


def test_the_matrix_covers_every_route() -> None:
    assert {pattern.name for pattern in addresses.urlpatterns} == set(MATRIX)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_the_expected_status(
    role: str,
    people: dict[str, User | None],
    project: Project,
    as_user: Callable[..., Client],
) -> None:
    client, wrong = as_user(people[role]), []
    for name, (method, arguments, expected) in MATRIX.items():
        with undone():
            answer = getattr(client, method)(address(name, arguments, project))

        if answer.status_code != expected[role]:
            wrong.append(f"{name}: {answer.status_code} instead of {expected[role]}")
        if b"canary" in answer.content:
            wrong.append(f"{name}: shows a patient ID")
        if people[role] is None and not answer["Location"].startswith("/accounts/login/"):
            wrong.append(f"{name}: leads to {answer['Location']}")
        elif answer.status_code == OK and "no-store" not in answer["Cache-Control"]:
            wrong.append(f"{name}: may be cached")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row[1]])
def test_an_unknown_id_returns_404(
    name: str, root: User, project: Project, as_user: Callable[..., Client]
) -> None:
    method, arguments, _ = MATRIX[name]

    path = reverse(name, args=[999 for _ in arguments])

    assert getattr(as_user(root), method)(path).status_code == HIDDEN


def test_a_patient_of_another_project_returns_404(
    root: User,
    project: Project,
    make_project: Callable[..., Project],
    as_user: Callable[..., Client],
) -> None:
    other = make_project("HEART")
    get_or_create_pseudonym(other, "PACS1", "1")

    path = reverse("project_reidentify", args=[project.pk, other.patients.get().pk])

    assert as_user(root).post(path, {"reason": "x"}).status_code == HIDDEN


@pytest.mark.parametrize("role", ["member", "outsider", "pacsadmin"])
def test_users_without_permission_cannot_change_a_project_by_post(
    role: str, people: dict[str, User | None], project: Project, as_user: Callable[..., Client]
) -> None:
    client = as_user(people[role])
    for name in (
        "project_revoke",
        "project_extend",
        "project_document",
        "project_destroy",
        "project_edit",
        "project_export",
        "project_reidentify",
    ):
        path = address(name, MATRIX[name][1], project)
        answer = client.post(path, {"reason": "because", "typed": "LUNG", "sponsor": "Mine"})
        assert answer.status_code in (NO, HIDDEN)

    project.refresh_from_db()
    assert (project.is_revoked, project.sponsor) == (False, "Test University")
    assert project.key is not None


def test_a_manager_chooses_who_links_pseudonyms_and_patients_on_the_projects_page(
    dpo: User,
    coordinator: User,
    project: Project,
    groups: dict[str, Group],
    as_user: Callable[..., Client],
) -> None:
    mine = groups["Coordinators"].pk
    typed = {
        **{"protocol_id": "LUNG", "sponsor": "Test University", "profile": project.profile_id},
        **{"protocol_name": "Lung study", "pattern": "LUNG-####", "members": [mine]},
        **{"faces": "withhold", "header_word": "withhold", "all_modalities": "on"},
    }
    edit = reverse("project_edit", args=[project.pk])
    assert not services.may_hold_list(coordinator, project)

    as_user(dpo).post(edit, {**typed, "list_holders": [mine]})
    assert services.may_hold_list(coordinator, project)
    assert not services.may_reidentify(coordinator, project)
    as_user(dpo).post(edit, {**typed, "reidentifiers": [mine]})
    assert not services.may_hold_list(coordinator, project)
    assert services.may_reidentify(coordinator, project)

    events = AuditEvent.objects.filter(action="project.changed").order_by("pk")
    assert [event.details["list_holders"] for event in events] == [["Coordinators"], []]
    assert events[1].details["reidentifiers"] == ["Coordinators"]
    page = as_user(coordinator).get(reverse("project", args=[project.pk])).content.decode()
    assert "Hold the identification list" in page
    own = services.default_project()
    defaults = {"profile": own.profile_id, "faces": "withhold", "header_word": "withhold"}
    edit = reverse("project_edit", args=[own.pk])
    as_user(dpo).post(edit, {**defaults, "list_holders": [mine]})
    assert services.may_hold_list(coordinator, own)


def test_a_single_user_is_a_member_with_the_same_effect_as_a_group(
    dpo: User,
    stranger: User,
    project: Project,
    make_job: Callable[..., Job],
    coordinator: User,
    root: User,
    as_user: Callable[..., Client],
) -> None:
    job = make_job(coordinator, project=project)
    typed = {
        **{"protocol_id": "LUNG", "sponsor": "Test University", "profile": project.profile_id},
        **{"protocol_name": "Lung study", "pattern": "LUNG-####", "all_modalities": "on"},
        **{"faces": "withhold", "header_word": "withhold"},
        **{name: list(Node.objects.values_list("pk", flat=True)) for name in NODES},
    }
    edit, page = reverse("project_edit", args=[project.pk]), f"/projects/{project.pk}/"
    visitor = as_user(stranger)
    assert visitor.get(page).status_code == HIDDEN

    as_user(dpo).post(edit, {**typed, "list_holder_users": [stranger.pk]})
    assert not services.may_hold_list(stranger, project), "not a member"
    as_user(dpo).post(
        edit,
        {**typed, "member_users": [stranger.pk], "list_holder_users": [stranger.pk]},
    )

    assert services.may_use(stranger, project)
    assert project in services.usable_projects(stranger)
    assert services.may_hold_list(stranger, project)
    assert not services.may_reidentify(stranger, project)
    assert visible_jobs(stranger).get() == job
    assert visitor.get(page).status_code == OK
    assert visitor.get(f"/trail/?project={project.protocol_id}").status_code == OK
    assert "stranger" in as_user(dpo).get(page).content.decode()
    account = as_user(root).get(f"/users/{stranger.pk}/").content.decode()
    assert "LUNG <span" in account
    assert "(as a single member)" in account
    changes = AuditEvent.objects.filter(action="project.changed").latest("pk").details["changes"]
    assert changes["member_users"] == {"from": [], "to": ["stranger"]}

    stranger.is_active = False
    assert not services.may_use(stranger, project)
    stranger.is_active = True
    as_user(dpo).post(edit, typed)
    assert not services.may_use(stranger, project)
    assert not visible_jobs(stranger).exists()
    assert visitor.get(page).status_code == HIDDEN


def test_a_proposer_can_name_no_other_user(
    coordinator: User, stranger: User, as_user: Callable[..., Client]
) -> None:
    page = as_user(coordinator).get("/projects/new/").content.decode()

    users = {field.split('"')[0] for field in page.split('name="member_users" value="')[1:]}
    assert users == {str(coordinator.pk)}
    assert "list_holder_users" not in page


def test_a_proposer_who_is_no_member_sees_neither_pseudonyms_nor_jobs_of_the_project(
    project: Project,
    coordinator: User,
    make_user: Callable[..., User],
    make_job: Callable[..., Job],
    as_user: Callable[..., Client],
) -> None:
    proposer = make_user("proposer")
    group = Group.objects.create(name="Proposers")
    group.permissions.set(Permission.objects.filter(codename="choose_pseudonyms"))
    proposer.groups.add(group)
    project.proposed_by = proposer
    project.save()
    project.list_holders.add(group)
    project.reidentifiers.add(group)
    patients = [
        address(name, arguments, project)
        for name, (_method, arguments, _statuses) in MATRIX.items()
        if "patient" in arguments or name.endswith(("pseudonyms", "export", "import"))
    ]
    job = make_job(coordinator, project=project)
    client = as_user(proposer)

    page = client.get(reverse("project", args=[project.pk])).content.decode()

    assert "Lung study" in page
    assert not [path for path in patients if path in page]
    for path in (*patients, reverse("job", args=[job.pk])):
        assert client.get(path).status_code == HIDDEN, path
        assert client.post(path, {"reason": "mine"}).status_code in (HIDDEN, 405), path
    assert client.get(reverse("uid_map", args=[project.pk])).status_code == NO
    assert client.get(reverse("jobs")).content.decode().count(reverse("job", args=[job.pk])) == 0


def test_groups_with_the_former_permission_keep_it_in_their_existing_projects(
    project: Project, make_project: Callable[..., Project], make_user: Callable[..., User]
) -> None:
    migration = import_module("adit.projects.migrations.0002_link_permissions")
    content_type = ContentType.objects.get_for_model(User)
    former = Permission.objects.create(codename="reidentify", content_type=content_type)
    holders, alone = make_user("holder", "Coordinators"), make_user("alone", "Coordinators")
    member, outsider = make_user("member", "Coordinators"), make_user("outsider")
    group = Group.objects.create(name="Key holders")
    group.permissions.add(former)
    holders.groups.add(group)
    outsider.groups.add(group)
    alone.user_permissions.add(former)

    migration.give_both_permissions(apps, None)

    later = make_project("LATER")
    for check in (services.may_hold_list, services.may_reidentify):
        assert [check(user, project) for user in (holders, alone, member, outsider)] == [
            *(True, True),
            *(False, False),
        ]
        assert not check(holders, later)
    assert not Permission.objects.filter(codename="reidentify").exists()
