"""A person who has left is made anonymous on request: what goes, what stays."""

import json
from collections.abc import Callable
from datetime import date

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.db import models
from django.test import Client
from django.utils import timezone

from adit.accounts import permissions as standard
from adit.accounts.models import KnownBrowser, User
from adit.accounts.permissions import NotPermitted
from adit.administration import users
from adit.administration.anonymization import anonymize_user
from adit.administration.users import UserData
from adit.api_tokens import tokens
from adit.audit.models import AuditEvent, AuditSegment
from adit.audit.trail import verify_chain
from adit.blocklist.blocking import block_patient
from adit.jobs.models import Job, JobMail, JobState, LastClaim, OrderDraft, SheetColumns
from adit.nodes.models import AlarmMail, UserDailyUsage
from adit.notifications.models import NotificationKind
from adit.notifications.services import notify, save_mailed_kinds
from adit.projects.models import Project
from adit.webhooks.models import WebhookEvent
from adit.webhooks.services import create_webhook
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db
NAMES = ("hannelore", "Hannelore", "Wiesengrund", "wiesengrund@hospital.example")
TRAIL = (AuditEvent, AuditSegment)
"""A record that cannot be changed."""


@pytest.fixture
def leaver(
    make_user: Callable[..., User],
    make_job: Callable[..., Job],
    make_project: Callable[..., Project],
    root: User,
    admin: User,
) -> User:
    """A deactivated coordinator who used everything that ADIT has."""
    user = make_user(
        "hannelore",
        standard.COORDINATORS,
        first_name="Hannelore",
        last_name="Wiesengrund",
        email="wiesengrund@hospital.example",
    )
    user.set_password("four words in a row")
    user.save()
    user.user_permissions.add(Permission.objects.get(codename="download"))
    now = timezone.now()
    job = make_job(user, state=JobState.SUCCESS, ended_at=now)
    JobMail.objects.create(job=job, reason="ended", number=1, state="success", address=user.email)
    again = user.email.upper()  # as in ADIT_MAIL_ADMINS
    JobMail.objects.create(job=job, reason="ended", number=1, state="success", address=again)
    AlarmMail.objects.create(address=user.email.upper())
    project = make_project("LUNG")
    for members in (project.member_users, project.list_holder_users, project.reidentifier_users):
        members.add(user)
    block_patient(root, None, "", "PID-1", reason="objection", withdrawn_on=date.today())
    Client().force_login(user)
    tokens.create_token(user, user, "Hannelore's script", ["query"], days=7, nodes=None)
    create_webhook(user, "Wiesengrund", "https://hooks.example.org/", WebhookEvent.values, None)
    notify([user], NotificationKind.JOB_FINISHED, Message("job.not-yours"), "/jobs/1/")
    save_mailed_kinds(user, [])
    KnownBrowser.objects.create(user=user, digest="1", last_used_at=now)
    SocialAccount.objects.create(
        user=user, provider="ldap", uid="hannelore", extra_data={"cn": "Hannelore"}
    )
    EmailAddress.objects.create(user=user, email=user.email)
    Authenticator.objects.create(user=user, type="totp", data={"secret": "x"})
    OrderDraft.objects.create(user=user, key="k", content={"title": "Hannelore's list"})
    SheetColumns.objects.create(user=user, kind="query", signature="s", header_line=1, used_at=now)
    LastClaim.objects.create(owner=user, at=now)
    UserDailyUsage.objects.create(user=user, day=timezone.localdate())
    users.deactivate_user(admin, user, successor=None)
    user.refresh_from_db()
    return user


def find_in_database(words: tuple[str, ...], without: tuple[type[models.Model], ...]) -> list[str]:
    """Return the columns of all tables, also those of libraries, whose values contain a word."""
    found = []
    for model in apps.get_models(include_auto_created=True):
        if model in without:
            continue
        for row in model._default_manager.all().values():
            text = json.dumps(row, default=str, ensure_ascii=False).lower()
            found += [f"{model._meta.label}: {word}" for word in words if word.lower() in text]
    return found


def test_nothing_but_the_trail_knows_the_name_afterwards(leaver: User, admin: User) -> None:
    before = find_in_database(NAMES, TRAIL)

    anonymize_user(admin, leaver, "hannelore")

    assert any(one.startswith("accounts.User") for one in before)
    assert any(one.startswith("jobs.JobMail") for one in before)
    assert find_in_database(NAMES, TRAIL) == []
    assert verify_chain() is None


def test_rows_of_the_account_alone_go_and_records_stay(leaver: User, admin: User) -> None:
    job = Job.objects.get(owner=leaver)

    anonymize_user(admin, leaver, "hannelore")

    leaver.refresh_from_db()
    kept = {
        relation.related_model
        for relation in User._meta.get_fields(include_hidden=True)
        if isinstance(relation, models.ManyToOneRel)
        and relation.related_model._default_manager.filter(**{relation.field.name: leaver}).exists()
    }
    assert kept == {Job, AuditEvent}
    assert leaver.username == f"former-user-{leaver.pk}"
    assert leaver.first_name == leaver.last_name == leaver.email == ""
    assert leaver.last_login is None
    assert not leaver.has_usable_password()
    job.refresh_from_db()
    assert job.owner == leaver


def test_mails_that_wait_are_not_sent(leaver: User, admin: User) -> None:
    anonymize_user(admin, leaver, "hannelore")

    mails = JobMail.objects.order_by("pk")
    assert all(mail.given_up for mail in mails)
    assert [mail.address for mail in mails] == [
        f"former-user-{leaver.pk}.{mail.pk}@anonymous.invalid" for mail in mails
    ]


def test_mails_of_another_account_with_the_same_address_are_sent(
    leaver: User, admin: User, make_user: Callable[..., User]
) -> None:
    make_user("ward", email=leaver.email.title())

    anonymize_user(admin, leaver, "hannelore")

    assert not JobMail.objects.filter(given_up=True).exists()
    assert not JobMail.objects.filter(address__endswith=".invalid").exists()


def test_the_trail_names_the_memberships_that_ended(
    leaver: User, admin: User, as_user: Callable[[User], Client]
) -> None:
    users.reactivate_user(admin, leaver)
    users.change_user(admin, leaver, UserData("hannelore", last_name="Wiesengrund", groups=[]))
    leaver.groups.add(Group.objects.get(name="Coordinators"))
    users.deactivate_user(admin, leaver, successor=None)

    anonymize_user(admin, leaver, "hannelore")

    event = AuditEvent.objects.get(action="user.anonymized")
    assert event.details == {"groups": ["Coordinators"], "projects": ["LUNG"]}
    history = as_user(admin).get(f"/history/user/{leaver.pk}/").content.decode()
    assert "changed (not shown)" in history
    assert "Coordinators" in history


def test_the_pages_show_an_anonymous_account(
    leaver: User, admin: User, as_user: Callable[[User], Client]
) -> None:
    client, path = as_user(admin), f"/users/{leaver.pk}/"
    offered = client.get(path).content.decode()
    wrong = client.post(f"{path}anonymize/", {"typed": "somebody"})
    done = client.post(f"{path}anonymize/", {"typed": " hannelore "}, follow=True)
    page = done.content.decode()
    history = client.get(f"/history/user/{leaver.pk}/").content.decode()

    assert f"{path}anonymize/" in offered
    assert wrong.status_code == 422
    assert "Enter the user name of the account" in wrong.content.decode()
    assert "made anonymous" in page
    assert f"{path}anonymize/" not in page
    assert f"{path}reactivate/" not in page
    assert f"{path}edit/" not in page
    assert "Add the user to a group" not in page
    for name in NAMES:
        assert name not in page
        assert name not in history


def test_an_anonymous_account_cannot_be_used_again(leaver: User, admin: User) -> None:
    anonymize_user(admin, leaver, "hannelore")

    for use in (
        lambda: users.reactivate_user(admin, leaver),
        lambda: users.change_user(admin, leaver, UserData("hannelore")),
        lambda: anonymize_user(admin, leaver, f"former-user-{leaver.pk}"),
    ):
        with pytest.raises(InvalidInput, match="made anonymous"):
            use()
    leaver.refresh_from_db()
    assert not leaver.is_active


def test_only_deactivated_accounts_are_made_anonymous(admin: User, coordinator: User) -> None:
    with pytest.raises(InvalidInput, match="Deactivate the account first"):
        anonymize_user(admin, coordinator, coordinator.username)

    coordinator.refresh_from_db()
    assert coordinator.username != f"former-user-{coordinator.pk}"


def test_who_holds_less_does_not_make_an_administrator_anonymous(
    clerk: User, root: User, make_user: Callable[..., User]
) -> None:
    chief = make_user("chief", standard.ADMINISTRATORS)
    users.deactivate_user(root, chief, successor=None)

    with pytest.raises(NotPermitted):
        anonymize_user(clerk, chief, "chief")

    assert User.objects.filter(username="chief").exists()
    assert AuditEvent.objects.filter(action="user.refused").exists()


def test_the_substitute_name_is_not_taken_from_another_account(
    leaver: User, admin: User, make_user: Callable[..., User]
) -> None:
    make_user(f"Former-user-{leaver.pk}")

    anonymize_user(admin, leaver, "hannelore")

    leaver.refresh_from_db()
    assert leaver.username == f"former-user-{leaver.pk}-x"
