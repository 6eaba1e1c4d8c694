"""Users: who may create, change and deactivate them, and what that ends."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.administration import users
from adit.administration.users import UserData
from adit.api_tokens import tokens
from adit.api_tokens.tokens import TokenRefused
from adit.audit.models import AuditEvent
from adit.jobs.models import Job, JobState
from adit.pages.audit_sentences import EventNames, describe_event
from adit.projects.models import Project
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db
Groups = dict[str, Group]


def data_of(user: User, *groups: Group, **values: object) -> UserData:
    kept = {name: getattr(user, name) for name in ("first_name", "last_name", "email", "is_staff")}
    return UserData(**{"username": user.username, **kept, "groups": groups, **values})


def names_of(user: User) -> set[str]:
    return set(user.groups.values_list("name", flat=True))


def test_a_created_user_has_groups_but_no_password(admin: User, groups: Groups) -> None:
    user, _token = users.create_user(
        admin, UserData("nora", "Nora", "Neu", groups=[groups["Coordinators"]])
    )

    assert names_of(user) == {"Coordinators"}
    assert not user.has_usable_password()
    event = AuditEvent.objects.get(action="user.created")
    assert (event.user, event.about) == (admin, f"user:{user.pk}")
    assert event.details["groups"] == ["Coordinators"]


def test_who_manages_users_grants_only_what_they_hold(clerk: User, groups: Groups) -> None:
    users.create_user(clerk, UserData("nora", groups=[groups["Coordinators"]]))

    with pytest.raises(NotPermitted, match="Manage PACS and folders"):
        users.create_user(clerk, UserData("paul", groups=[groups["PACS administrators"]]))

    assert not User.objects.filter(username="paul").exists()


def test_nobody_gets_more_permissions_by_changing_their_own_groups(
    clerk: User, groups: Groups
) -> None:
    before = names_of(clerk)

    with pytest.raises(NotPermitted, match="grant any permission"):
        users.change_user(clerk, clerk, data_of(clerk, groups["Administrators"]))

    assert names_of(clerk) == before


def test_membership_in_a_project_is_granted_only_by_members(
    clerk: User, stranger: User, project: Project, make_project: Callable[..., Project]
) -> None:
    heart = Group.objects.create(name="Heart team")
    make_project("HEART", members=()).members.add(heart)

    with pytest.raises(NotPermitted, match="HEART"):
        users.change_user(clerk, stranger, data_of(stranger, heart))


def test_the_account_of_a_single_member_is_out_of_reach_of_others(
    clerk: User, stranger: User, make_project: Callable[..., Project]
) -> None:
    users.reset_password(clerk, stranger)
    make_project("HEART", members=()).member_users.add(stranger)

    with pytest.raises(NotPermitted, match="HEART"):
        users.reset_password(clerk, stranger)


@pytest.mark.parametrize("relation", ["list_holders", "reidentifiers"])
def test_who_links_pseudonyms_with_patients_is_appointed_only_by_those_who_may(
    relation: str, clerk: User, project: Project
) -> None:
    holders = Group.objects.create(name="Key holders")
    getattr(project, relation).add(holders)

    with pytest.raises(NotPermitted, match=f"dentif.* of {project}"):
        users.change_user(clerk, clerk, data_of(clerk, *clerk.groups.all(), holders))

    assert "Key holders" not in names_of(clerk)


@pytest.mark.parametrize("relation", ["list_holder_users", "reidentifier_users"])
def test_the_password_of_who_links_pseudonyms_with_patients_is_out_of_reach(
    relation: str, clerk: User, coordinator: User, project: Project
) -> None:
    users.reset_password(clerk, coordinator)
    getattr(project, relation).add(coordinator)

    with pytest.raises(NotPermitted, match=f"dentif.* of {project}"):
        users.reset_password(clerk, coordinator)


DEEDS: dict[str, Callable[[User, User], object]] = {
    "change": lambda actor, user: users.change_user(actor, user, data_of(user)),
    "deactivate": lambda actor, user: users.deactivate_user(actor, user, successor=None),
    "reset the password": users.reset_password,
    "reactivate": users.reactivate_user,
}


@pytest.mark.parametrize("deed", DEEDS)
def test_the_account_of_a_person_with_more_permissions_is_out_of_reach(
    deed: str, clerk: User, pacsadmin: User
) -> None:
    with pytest.raises(NotPermitted):
        DEEDS[deed](clerk, pacsadmin)

    pacsadmin.refresh_from_db()
    assert pacsadmin.is_active
    assert names_of(pacsadmin) == {"PACS administrators"}
    event = AuditEvent.objects.get(action="user.refused")
    assert (event.user_id, event.about) == (clerk.pk, f"user:{pacsadmin.pk}")
    assert event.details["reason"]["code"] == "grant.not-held"


def test_only_administrators_appoint_staff(admin: User, clerk: User, coordinator: User) -> None:
    with pytest.raises(NotPermitted, match="staff"):
        users.change_user(clerk, coordinator, data_of(coordinator, is_staff=True))

    users.change_user(admin, coordinator, data_of(coordinator, is_staff=True))
    coordinator.refresh_from_db()
    assert coordinator.is_staff


def test_the_last_administrator_cannot_leave_the_group(admin: User, groups: Groups) -> None:
    with pytest.raises(InvalidInput, match="administrator must remain"):
        users.change_user(admin, admin, data_of(admin, groups["Coordinators"]))

    assert names_of(admin) == {"Administrators"}
    event = AuditEvent.objects.get(action="user.refused")
    sentence = describe_event(event, EventNames(admin, [event]))
    assert sentence.startswith("admin was refused a change of admin: ")
    assert "administrator must remain" in sentence


def test_the_last_administrator_stays_active(
    admin: User, make_user: Callable[..., User], groups: Groups
) -> None:
    other = make_user("other", "Administrators")
    with pytest.raises(InvalidInput, match="your own account"):
        users.deactivate_user(admin, admin, successor=None)

    users.deactivate_user(other, admin, successor=None)

    with pytest.raises(InvalidInput, match="administrator must remain"):
        users.change_user(other, other, data_of(other))


def test_deactivation_ends_sessions_and_tokens_for_good(
    admin: User, coordinator: User, as_user: Callable[[User], Client]
) -> None:
    browser, other_browser = as_user(coordinator), as_user(admin)
    _token, text = tokens.create_token(
        coordinator, coordinator, "script", ["query"], days=7, nodes=None
    )

    users.deactivate_user(admin, coordinator, successor=None)
    users.reactivate_user(admin, coordinator)

    assert browser.get("/accounts/profile/").status_code == 302
    assert other_browser.get("/accounts/profile/").status_code == 200
    with pytest.raises(TokenRefused, match="revoked"):
        tokens.authenticate_token(f"Token {text}")
    details = AuditEvent.objects.get(action="user.deactivated").details
    assert (details["sessions"], details["tokens"]) == (1, 1)


def test_jobs_of_a_deactivated_user_are_canceled(
    admin: User, coordinator: User, make_job: Callable[..., Job]
) -> None:
    waiting = make_job(coordinator, state=JobState.PENDING)
    ended = make_job(coordinator, state=JobState.SUCCESS)

    users.deactivate_user(admin, coordinator, successor=None)

    waiting.refresh_from_db()
    ended.refresh_from_db()
    assert waiting.state in (JobState.CANCELING, JobState.CANCELED)
    assert ended.state == JobState.SUCCESS
    canceled = AuditEvent.objects.get(about=f"job:{waiting.pk}")
    assert canceled.user == admin


def test_jobs_of_a_deactivated_user_go_on_with_another_owner(
    admin: User, coordinator: User, make_user: Callable[..., User], make_job: Callable[..., Job]
) -> None:
    colleague = make_user("colleague", "Coordinators")
    job = make_job(coordinator, state=JobState.IN_PROGRESS)

    users.deactivate_user(admin, coordinator, successor=colleague)

    job.refresh_from_db()
    assert (job.owner, job.state) == (colleague, JobState.IN_PROGRESS)


def test_jobs_are_handed_over_only_to_people_who_may_order_them(
    admin: User, coordinator: User, dpo: User, make_job: Callable[..., Job]
) -> None:
    make_job(coordinator, state=JobState.PENDING)

    with pytest.raises(NotPermitted, match="dpo may not order"):
        users.deactivate_user(admin, coordinator, successor=dpo)

    coordinator.refresh_from_db()
    assert coordinator.is_active


@pytest.mark.django_db(transaction=True)
def test_two_administrators_cannot_remove_each_other_at_the_same_time(
    admin: User, make_user: Callable[..., User]
) -> None:
    other = make_user("other", "Administrators")
    start = threading.Barrier(2)

    def deactivate(actor: User, user: User) -> bool:
        try:
            start.wait()
            users.deactivate_user(actor, user, successor=None)
        except (NotPermitted, InvalidInput):
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(deactivate, (admin, other), (other, admin)))

    assert sorted(done) == [False, True]
    assert User.objects.filter(is_active=True, groups__name="Administrators").count() == 1
