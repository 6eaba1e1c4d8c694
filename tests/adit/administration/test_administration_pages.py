"""Pages of users, groups and API tokens: what each role gets, and what a person does there."""

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.administration import urls as administration
from adit.administration.models import AccountRequest, OneTimeLink
from adit.api_tokens import tokens
from adit.api_tokens import urls as api_tokens
from adit.api_tokens.models import ApiToken
from adit.audit.models import AuditEvent
from adit.jobs.models import Job, JobState
from adit.nodes.models import Node, NodeAccess

pytestmark = pytest.mark.django_db
AsUser = Callable[[User | None], Client]

ROLES = ("nobody", "stranger", "coordinator", "pacsadmin", "dpo", "admin", "root")
SIGN_IN, OK, AWAY, NO, HIDDEN, GONE = 302, 200, 302, 403, 404, 410
MANAGERS = dict.fromkeys(ROLES, NO) | {"nobody": SIGN_IN, "admin": OK, "root": OK}
MANAGERS_AWAY = MANAGERS | {"admin": AWAY, "root": AWAY}
CONFIGURERS = MANAGERS | {"pacsadmin": OK, "dpo": OK}
CONFIGURERS_WRONG = CONFIGURERS | dict.fromkeys(("pacsadmin", "dpo", "admin", "root"), 422)
ALL = dict.fromkeys(ROLES, OK) | {"nobody": SIGN_IN}
ANYBODY = dict.fromkeys(ROLES, GONE)
"""Pages behind a link, opened without one."""

# URL name -> (method, arguments, status code of each role); the user and the token are another's
MATRIX = {
    "users": ("get", (), MANAGERS),
    "user_new": ("get", (), MANAGERS),
    "service_account_new": ("get", (), MANAGERS),
    "user_token_new": ("get", ("user",), MANAGERS_AWAY),
    "user": ("get", ("user",), MANAGERS),
    "user_edit": ("get", ("user",), MANAGERS),
    "user_deactivate": ("get", ("user",), MANAGERS),
    "user_reactivate": ("post", ("user",), MANAGERS_AWAY),
    "user_anonymize": ("get", ("user",), MANAGERS),
    "account_requests": ("get", (), MANAGERS),
    "account_request": ("get", ("request",), MANAGERS),
    "account_request_decline": ("post", ("request",), MANAGERS_AWAY),
    "ask_for_account": ("get", (), dict.fromkeys(ROLES, HIDDEN)),
    "user_password": ("post", ("user",), MANAGERS),
    "user_second_factor_reset": ("post", ("user",), MANAGERS_AWAY),
    "groups": ("get", (), MANAGERS),
    "group_new": ("get", (), MANAGERS),
    "group": ("get", ("group",), MANAGERS),
    "configuration": ("get", (), CONFIGURERS),
    "configuration_export": ("post", (), CONFIGURERS_WRONG),
    "configuration_import": ("post", (), CONFIGURERS_WRONG),
    "password_link": ("get", (), ANYBODY),
    "password_forgotten": ("get", (), dict.fromkeys(ROLES, OK)),
    "setup": ("get", (), ANYBODY),
    "own_tokens": ("get", (), ALL),
    "token_new": ("get", (), ALL),
    "token_revoke": (
        "post",
        ("token",),
        dict.fromkeys(ROLES, HIDDEN) | {"nobody": SIGN_IN, "admin": AWAY, "root": AWAY},
    ),
    "all_tokens": ("get", (), MANAGERS),
}


@pytest.fixture
def people(make_user: Callable[..., User], admin: User, root: User) -> dict[str, User | None]:
    return {
        "nobody": None,
        "stranger": make_user("stranger"),
        "coordinator": make_user("coordinator", standard.COORDINATORS),
        "pacsadmin": make_user("pacsadmin", standard.PACS_ADMINISTRATORS),
        "dpo": make_user("dpo", standard.DATA_PROTECTION),
        "admin": admin,
        "root": root,
    }


def make_token(user: User) -> ApiToken:
    return tokens.create_token(user, user, "script", ["query"], days=7, nodes=None)[0]


def test_every_url_of_users_groups_and_tokens_is_in_the_matrix() -> None:
    patterns = [*administration.urlpatterns, *api_tokens.urlpatterns]

    assert {pattern.name for pattern in patterns} == set(MATRIX)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_the_expected_status(
    role: str, people: dict[str, User | None], make_user: Callable[..., User], as_user: AsUser
) -> None:
    other = make_user("other", standard.COORDINATORS)
    values = {
        "user": other.pk,
        "group": other.groups.get().pk,
        "token": make_token(other).pk,
        "request": AccountRequest.objects.create(username="new").pk,
    }
    client = as_user(people[role])

    found = {
        name: getattr(client, method)(
            reverse(name, args=[values[one] for one in arguments])
        ).status_code
        for name, (method, arguments, _expected) in MATRIX.items()
    }

    assert found == {name: row[2][role] for name, row in MATRIX.items()}


@pytest.mark.parametrize("role", ["stranger", "coordinator", "pacsadmin", "dpo"])
def test_people_without_the_permission_change_nothing(
    role: str, people: dict[str, User | None], admin: User, as_user: AsUser
) -> None:
    client = as_user(people[role])

    for path, typed in (
        ("/users/new/", {"username": "mallory"}),
        (f"/users/{admin.pk}/edit/", {"username": "mallory"}),
        (f"/users/{admin.pk}/deactivate/", {}),
        (f"/users/{admin.pk}/password/", {}),
        ("/groups/new/", {"name": "mallory"}),
        (f"/groups/{admin.groups.get().pk}/", {"name": "Administrators"}),
    ):
        assert client.post(path, typed).status_code == 403

    admin.refresh_from_db()
    assert admin.is_active
    assert admin.groups.get().name == "Administrators"
    assert not User.objects.filter(username="mallory").exists()
    assert not OneTimeLink.objects.exists()


def hidden_fields(page: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page):
        fields.setdefault(name, []).append(value)
    return fields


def test_a_user_is_created_after_a_look_at_what_the_groups_allow(
    admin: User, as_user: AsUser, source: Node, groups: dict[str, Group]
) -> None:
    client = as_user(admin)
    typed = {"username": "nora", "last_name": "Neu", "groups": groups["Coordinators"].pk}

    question = client.post("/users/new/", typed).content.decode()
    assert "Fetch from PACS1" in question
    assert not User.objects.filter(username="nora").exists()

    shown = client.post("/users/new/", hidden_fields(question)).content.decode()

    nora = User.objects.get(username="nora")
    link = re.search(r"/accounts/password/link/\?token=[\w-]+", shown)
    assert link is not None
    assert "No mail was sent" in shown
    assert Client().get(link[0]).status_code == 200
    assert "token=" not in client.get(f"/users/{nora.pk}/").content.decode()


def test_a_taken_user_name_keeps_what_was_typed(
    admin: User, coordinator: User, as_user: AsUser
) -> None:
    answer = as_user(admin).post("/users/new/", {"username": "coordinator", "last_name": "Neu"})

    assert answer.status_code == 422
    assert "already exists" in answer.content.decode()
    assert 'value="Neu"' in answer.content.decode()


def test_users_are_searched_and_sorted(
    admin: User, make_user: Callable[..., User], as_user: AsUser
) -> None:
    make_user("zoe", first_name="Zoë", last_name="Müller")
    make_user("amir", first_name="Amir", last_name="Müller", is_active=False)
    client = as_user(admin)

    names = re.compile(r'<a href="/users/\d+/">([^<]+)</a>')
    found = names.findall(client.get("/users/?text=müller&sort=-name").content.decode())
    active = names.findall(client.get("/users/?text=Müller&state=True").content.decode())

    assert found == ["Zoë Müller", "Amir Müller"]
    assert active == ["Zoë Müller"]


def test_the_page_of_a_user_names_the_group_of_each_permission(
    admin: User, coordinator: User, groups: dict[str, Group], source: Node, as_user: AsUser
) -> None:
    readers = Group.objects.create(name="Readers")
    readers.permissions.set(groups["Coordinators"].permissions.filter(codename="download"))
    NodeAccess.objects.create(group=readers, node=source, may_read=True)
    coordinator.groups.add(readers)

    page = as_user(admin).get(f"/users/{coordinator.pk}/").content.decode()

    rows = [" ".join(row.split()) for row in re.findall(r"<li>(.*?)</li>", page, re.DOTALL)]
    (download,) = [row for row in rows if "Download in the browser" in row]
    assert "From: Coordinators, Readers" in download
    assert "Order batch queries" in page
    assert re.search(r"PACS1</th>\s*<td>yes</td>\s*<td>no</td>\s*<td>Coordinators, Readers", page)


def test_a_group_is_changed_after_a_look_at_what_it_newly_allows(
    admin: User, stranger: User, source: Node, groups: dict[str, Group], as_user: AsUser
) -> None:
    group, client = groups["Reviewers"], as_user(admin)
    path = f"/groups/{group.pk}/"
    typed = {
        "name": group.name,
        "members": stranger.pk,
        "permissions": [one.pk for one in group.permissions.all()],
        f"write_{source.pk}": "on",
    }

    question = client.post(path, typed).content.decode()
    assert "Send to PACS1" in question
    assert "stranger becomes a member" in question
    assert not group.user_set.exists()

    back = client.post(path, {**hidden_fields(question), "back": "1"}).content.decode()
    assert f'name="write_{source.pk}" id="id_write_{source.pk}" checked' in back.replace(
        ' class="form-check-input"', ""
    )
    saved = client.post(path, hidden_fields(question))

    assert saved["Location"] == "/groups/"
    assert group.user_set.get() == stranger
    assert NodeAccess.objects.get(group=group, node=source).may_write


def test_a_confirmation_does_not_cover_another_change(
    admin: User, stranger: User, source: Node, groups: dict[str, Group], as_user: AsUser
) -> None:
    client, typed = as_user(admin), {"name": "New", f"read_{source.pk}": "on"}
    question = client.post("/groups/new/", typed).content.decode()

    more = {**hidden_fields(question), f"write_{source.pk}": "on"}
    answer = client.post("/groups/new/", more)

    assert "Send to PACS1" in answer.content.decode()
    assert not Group.objects.filter(name="New").exists()


def test_the_name_of_a_standard_group_is_fixed(
    admin: User, groups: dict[str, Group], as_user: AsUser
) -> None:
    group = groups["Coordinators"]

    as_user(admin).post(f"/groups/{group.pk}/", {"name": "Helpers"})

    group.refresh_from_db()
    assert group.name == "Coordinators"


def test_the_last_administrator_is_told_why_the_form_is_refused(
    admin: User, as_user: AsUser
) -> None:
    answer = as_user(admin).post(f"/users/{admin.pk}/edit/", {"username": "admin"})

    assert answer.status_code == 422
    assert "At least one active administrator must remain" in answer.content.decode()
    assert admin.groups.count() == 1


def test_the_last_administrator_cannot_deactivate_themselves(admin: User, as_user: AsUser) -> None:
    answer = as_user(admin).post(f"/users/{admin.pk}/deactivate/", {"open_jobs": "cancel"})

    admin.refresh_from_db()
    assert answer.status_code == 422
    assert "your own account" in answer.content.decode()
    assert admin.is_active
    assert not AuditEvent.objects.filter(action="user.deactivated").exists()
    assert AuditEvent.objects.filter(action="user.refused", user=admin).count() == 1


def test_a_group_that_grants_more_than_its_author_holds_is_refused(
    clerk: User, as_user: AsUser
) -> None:
    permission = Permission.objects.get(codename="approve_jobs")
    typed = {"name": "Shortcut", "permissions": [permission.pk], "members": [clerk.pk]}
    client = as_user(clerk)
    shown = client.post("/groups/new/", typed).content.decode()

    answer = client.post("/groups/new/", {**typed, **hidden_fields(shown)})

    assert answer.status_code == 422
    assert "Approve jobs" in answer.content.decode()
    assert not Group.objects.filter(name="Shortcut").exists()
    events = AuditEvent.objects.filter(action__startswith="group.")
    assert [event.action for event in events] == ["group.refused"]


def test_a_deactivation_asks_what_happens_to_open_jobs(
    admin: User,
    coordinator: User,
    make_user: Callable[..., User],
    make_job: Callable[..., Job],
    as_user: AsUser,
) -> None:
    colleague = make_user("colleague", standard.COORDINATORS)
    job = make_job(coordinator, state=JobState.PENDING)
    client, path = as_user(admin), f"/users/{coordinator.pk}/deactivate/"

    assert "1 job has not ended" in client.get(path).content.decode()
    assert client.post(path, {}).status_code == 422
    assert client.post(path, {"jobs": "hand_over"}).status_code == 422
    client.post(path, {"jobs": "hand_over", "successor": colleague.pk})

    job.refresh_from_db()
    coordinator.refresh_from_db()
    assert (job.owner, coordinator.is_active) == (colleague, False)
    client.post(f"/users/{coordinator.pk}/reactivate/")
    coordinator.refresh_from_db()
    assert coordinator.is_active


def test_a_person_creates_and_revokes_an_api_token(
    coordinator: User, source: Node, as_user: AsUser
) -> None:
    client = as_user(coordinator)
    typed = {"name": "nightly", "days": "7", "scopes": ["query"], "all_nodes": "some"}
    assert client.post("/accounts/tokens/new/", typed).status_code == 422

    page = client.post("/accounts/tokens/new/", {**typed, "nodes": source.pk}).content.decode()

    found = re.search(r"adit_[\w-]+", page)
    assert found is not None
    user, token = tokens.authenticate_token(f"Token {found[0]}")
    assert (user, list(token.nodes.all())) == (coordinator, [source])
    own = client.get("/accounts/tokens/").content.decode()
    assert "nightly" in own
    assert found[0] not in own
    client.post(f"/accounts/tokens/{token.pk}/revoke/")
    with pytest.raises(tokens.TokenRefused):
        tokens.authenticate_token(f"Token {found[0]}")


def test_a_token_cannot_be_limited_to_a_node_that_the_user_may_not_use(
    coordinator: User, as_user: AsUser
) -> None:
    secret = Node.objects.create(name="Secret PACS", kind="memory")
    typed = {"name": "x", "days": "7", "scopes": ["query"], "all_nodes": "some"}

    answer = as_user(coordinator).post("/accounts/tokens/new/", {**typed, "nodes": secret.pk})

    assert answer.status_code == 422
    assert "Secret PACS" not in answer.content.decode()


def test_never_is_offered_only_with_the_permission(
    coordinator: User, root: User, as_user: AsUser
) -> None:
    typed = {"name": "x", "days": "never", "scopes": ["query"], "all_nodes": "all"}

    assert as_user(coordinator).post("/accounts/tokens/new/", typed).status_code == 422
    assert as_user(root).post("/accounts/tokens/new/", typed).status_code == 200
