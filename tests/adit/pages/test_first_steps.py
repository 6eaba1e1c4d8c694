"""The checklist of a new installation: on the administrators' home page until all is done."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import ADMINISTRATORS
from adit.audit.models import AuditEvent
from adit.audit.trail import record
from adit.nodes.models import Node, NodeTestResult
from adit.pages.first_steps import list_first_steps
from adit.projects.models import Project

pytestmark = pytest.mark.django_db
AsUser = Callable[[User | None], Client]
HEADING = "First steps of this installation"


def test_each_step_is_done_by_what_the_administrator_does_and_the_list_then_disappears(
    make_user: Callable[..., User],
    make_node: Callable[..., Node],
    make_project: Callable[..., Project],
    as_user: AsUser,
    settings: Any,
) -> None:
    User.objects.update(is_active=False)  # the maker of the project
    admin = make_user("ada", ADMINISTRATORS)
    client = as_user(admin)

    def done() -> list[bool]:
        return [step.is_done for step in list_first_steps(admin)]

    assert done() == [False] * 6
    assert HEADING in client.get("/").content.decode()

    client.post("/first-steps/key/")
    client.post("/first-steps/key/")
    assert AuditEvent.objects.filter(action="system.key_backed_up").count() == 1
    settings.MAIL = True
    record("system.test_mail", user=admin)
    assert done() == [True, True, False, False, False, False]

    node = make_node("PACS-1", kind="dimse", windows=[])
    bad = [{"grade": "bad"}]
    test = NodeTestResult.objects.create(node=node, kind="plain", at=timezone.now(), findings=bad)
    assert not done()[2], "hours are missing"
    node.windows = [{"days": ["mon"], "from": "20:00", "to": "06:00"}]
    node.save()
    assert not done()[2], "the test found a problem"
    NodeTestResult.objects.filter(pk=test.pk).update(findings=[{"grade": "good"}])
    assert done()[2]
    make_user("cora", "Coordinators")
    assert done() == [True, True, True, True, False, True]
    make_project("LUNG")
    assert list_first_steps(admin) == []
    assert HEADING not in client.get("/").content.decode()


def test_other_users_neither_see_the_checklist_nor_confirm_its_steps(
    pacsadmin: User, as_user: AsUser
) -> None:
    client = as_user(pacsadmin)
    assert HEADING not in client.get("/").content.decode()
    assert client.post("/first-steps/key/").status_code == 403
    assert not AuditEvent.objects.filter(action="system.key_backed_up").exists()
