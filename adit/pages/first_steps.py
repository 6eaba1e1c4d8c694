"""The checklist of a new installation on the administrators' home page, until all is done."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.accounts.permissions import ADMINISTRATORS, Right, has_right
from adit.audit.models import AuditEvent
from adit.audit.trail import record
from adit.nodes.models import NodeTestResult
from adit.projects.models import Project
from adit_engine.nodes.base import Grade

KEY_SAVED = "system.key_backed_up"
MAIL_TESTED = "system.test_mail"


@dataclass(frozen=True, slots=True)
class FirstStep:
    title: str | Promise
    text: str | Promise
    is_done: bool
    link: str = ""
    """The page on which to do it; empty: confirmed by the button of the checklist."""


def list_first_steps(user: User) -> list[FirstStep]:
    """Return all steps for an administrator; none once all are done, or for other users."""
    if not (has_right(user, Right.ADMINISTER) and has_right(user, Right.MANAGE_USERS)):
        return []
    steps = list(_make_steps())
    return [] if all(step.is_done for step in steps) else steps


def confirm_key_backup(user: User) -> None:
    """Record that the user has a copy of the master key in another place."""
    if not _has_happened(KEY_SAVED):
        record(KEY_SAVED, user=user)


def _make_steps() -> Iterator[FirstStep]:
    yield FirstStep(
        _("Back up the master key"),
        _("Without it nothing in the database can be read. Keep a copy in another place."),
        _has_happened(KEY_SAVED),
    )
    yield FirstStep(
        _("Set up the mail server"),
        _("Set ADIT_MAIL_HOST on the server, then send a test mail."),
        settings.MAIL and _has_happened(MAIL_TESTED),
        reverse("system_status"),
    )
    yield FirstStep(
        _("Add the first PACS"),
        _("Add it, set its allowed hours, open it, and press Test."),
        _has_tested_pacs(),
        reverse("nodes"),
    )
    yield FirstStep(
        _("Form the first group"),
        _("Choose its permissions and add a member."),
        Group.objects.exclude(name=ADMINISTRATORS).filter(user__is_active=True).exists(),
        reverse("groups"),
    )
    yield FirstStep(
        _("Create the first research project"),
        _("A project has members, pseudonyms and a profile that says what is removed."),
        Project.objects.filter(is_default=False).exists(),
        reverse("projects"),
    )
    yield FirstStep(
        _("Invite people"),
        _("Create their accounts and give them the link to set a password."),
        User.objects.filter(is_active=True, is_service=False).count() > 1,
        reverse("users"),
    )


def _has_happened(action: str) -> bool:
    return AuditEvent.objects.filter(action=action).exists()


def _has_tested_pacs() -> bool:
    tests = NodeTestResult.objects.filter(node__is_open=True).select_related("node")
    return any(
        test.node.windows
        and test.node.capabilities.needs_hours
        and all(finding["grade"] != Grade.BAD.value for finding in test.findings)
        for test in tests
    )
