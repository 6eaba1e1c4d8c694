"""Page of the audit trail: filters, pagination, verification, export."""

import ast
import re
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from openpyxl import load_workbook

import adit
from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.audit.trail import record
from adit.jobs.models import Job
from adit.message_templates import EVENT_ACTIONS, TEMPLATES
from adit.nodes.models import Node
from adit.pages import audit_trail
from adit.projects.models import Project
from adit.webhooks.models import WebhookEvent

AsUser = Callable[[User], Client]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def client(dpo: User, as_user: AsUser) -> Client:
    """Client signed in as a user who may read the audit trail."""
    return as_user(dpo)


def numbers(client: Client, **asked: object) -> list[int]:
    answer = client.get("/trail/", asked)
    assert answer.status_code == 200
    return [line.event.pk for line in answer.context["page"].lines]


@pytest.mark.parametrize("who", ["coordinator", "stranger"])
def test_the_audit_trail_requires_the_permission(
    request: pytest.FixtureRequest, who: str, as_user: AsUser
) -> None:
    client = as_user(request.getfixturevalue(who))

    assert client.get("/trail/").status_code == 403
    assert client.post("/trail/verify/").status_code == 403
    assert client.post("/trail/export/").status_code == 403
    assert not AuditEvent.objects.filter(action__startswith="trail.").exists()
    assert 'href="/trail/"' not in client.get("/").content.decode()


def test_the_audit_trail_requires_sign_in(db: None) -> None:
    assert Client().get("/trail/")["Location"].startswith("/accounts/login/")


def test_the_home_page_links_to_the_audit_trail(client: Client) -> None:
    assert 'href="/trail/"' in client.get("/").content.decode()


@pytest.mark.parametrize("path", ["/trail/verify/", "/trail/export/"])
def test_a_get_of_verify_and_export_leads_to_the_audit_trail(client: Client, path: str) -> None:
    assert client.get(path)["Location"] == "/trail/"


def test_events_are_filtered_by_person_action_object_and_date(
    client: Client, coordinator: User
) -> None:
    mine = record("job.created", user=coordinator, about="job:12").pk
    other = record("job.ended", about="job:13").pk
    record("node.paused", about="node:3")
    today = timezone.localdate()

    assert numbers(client, person="coordinator") == [mine]
    assert numbers(client, action="job.created") == [mine]
    assert numbers(client, action="job") == [other, mine]
    assert numbers(client, about="job:13") == [other]
    assert numbers(client, job=13) == [other]
    assert numbers(client, about="job:12", since=today, until=today) == [mine]
    assert numbers(client, about="job:12", until=today - timedelta(days=1)) == []
    assert numbers(client, about="job:12", since=today + timedelta(days=1)) == []


def test_reading_the_audit_trail_is_audited_once_per_person_and_hour(
    client: Client, dpo: User, root: User, as_user: AsUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("/trail/", {"about": "job:12"})
    client.get("/trail/")

    event = AuditEvent.objects.get(action="trail.read")
    as_user(root).get("/trail/")
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(minutes=61))
    client.get("/trail/")

    readers = AuditEvent.objects.filter(action="trail.read").values_list(
        "user__username", flat=True
    )
    assert list(readers) == ["dpo", "root", "dpo"]
    assert event.user == dpo
    assert event.details == {"asked": {"about": "job:12"}, "events": 0}


@pytest.mark.parametrize(
    "asked",
    [
        {"about": "Canary Clara"},
        {"about": "patient:4711"},
        {"action": HOSTILE},
        {"person": HOSTILE},
        {"since": "yesterday"},
        {"before": "x"},
        {"before": str(2**70)},
    ],
)
def test_an_invalid_filter_is_rejected_and_not_audited(
    client: Client, asked: dict[str, str]
) -> None:
    answer = client.get("/trail/", asked)

    assert answer.status_code == 422
    assert HOSTILE not in answer.content.decode()
    assert not AuditEvent.objects.filter(action="trail.read").exists()


def test_pagination_shows_each_event_once_while_events_are_added(client: Client) -> None:
    made = {record("job.created", about=f"job:{n}").pk for n in range(120)}
    seen: list[int] = []
    path = "/trail/?action=job.created"

    while path:
        page = client.get(path).context["page"]
        assert len(page.lines) <= 50
        seen += [line.event.pk for line in page.lines]
        path = f"/trail/?{page.older}" if page.older else ""

    assert seen == sorted(made, reverse=True)


def test_values_are_escaped_and_patients_stay_sealed(client: Client) -> None:
    record("job.created", details={"reason": HOSTILE}, patient=("PACS1", "4711-canary"))

    page = client.get("/trail/").content.decode()

    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "concerns a patient" in page
    assert "canary" not in page


def test_verifying_the_chain_shows_the_result_and_its_date(client: Client) -> None:
    record("job.created", about="job:1")

    page = client.post("/trail/verify/", follow=True).content.decode()

    assert "The audit trail is intact" in page
    assert "Last verified" in page
    assert AuditEvent.objects.get(action="trail.verified").details == {"whole": True}


def test_verification_reports_a_changed_event(client: Client) -> None:
    event = record("job.created", about="job:1")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_auditevent SET about = 'job:2' WHERE id = %s", [event.pk])

    page = client.post("/trail/verify/", follow=True).content.decode()

    assert f"broken at event {event.pk}" in page
    assert AuditEvent.objects.get(action="trail.verified").details["whole"] is False


def test_the_export_contains_matching_events_escapes_formulas_and_is_audited(
    client: Client, coordinator: User
) -> None:
    record("job.created", user=coordinator, about="job:1", details={"reason": "a, b"})
    record("=cmd.run", about="job:1")
    record("job.created", about="job:2", patient=("PACS1", "4711-canary"))

    answer = client.post("/trail/export/", {"about": "job:1"})

    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    head, *rows = text.splitlines()
    names = ("number", "at", "person", "what", "action", "about", "details")
    names += ("concerns_a_patient", "hash")
    assert head == ",".join(f'"{name}"' for name in names)
    assert len(rows) == 2
    assert """ ,"'=cmd.run","job:1", """.strip() in rows[0]
    assert ',"coordinator","coordinator ordered job 1: ' in rows[1]
    assert ',"job.created","job:1","reason: a, b","no",' in rows[1]
    assert "canary" not in text
    assert AuditEvent.objects.get(action="trail.exported").details == {
        "asked": {"about": "job:1"},
        "events": 2,
    }


NOUNS = {action.partition(".")[0] for action in EVENT_ACTIONS}


def actions_in_the_code() -> set[str]:
    """Literals of the form noun.verb that are no message code."""
    found = set()
    for path in Path(adit.__file__).parent.rglob("*.py"):
        if path.name == "message_templates.py" or "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                noun, _dot, verb = node.value.partition(".")
                if verb.isidentifier() and noun in NOUNS:
                    found.add(node.value)
    return found - TEMPLATES.keys()


def recorded_actions() -> set[str]:
    """First arguments of the functions that record, and the events of the table of actions."""
    found = set()
    for path in Path(adit.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            given = [one.value for one in call.keywords if one.arg == "event"]
            if "record" in name or name in ("_update_row", "_update_rows", "save_new_project"):
                given += call.args
            found |= {
                part.value
                for one in given
                for part in ast.walk(one)
                if isinstance(part, ast.Constant)
                and isinstance(part.value, str)
                and re.fullmatch(r"[a-z_]+\.[a-z_]+", part.value)
            }
    return found


def test_every_action_that_is_recorded_has_a_sentence() -> None:
    recorded = recorded_actions()

    assert len(recorded) > 60
    assert recorded <= EVENT_ACTIONS
    of_webhooks = set(WebhookEvent.values)
    assert actions_in_the_code() - EVENT_ACTIONS - of_webhooks - {"job.created.query"} == set()


def test_every_action_is_found_by_one_of_the_filters() -> None:
    found = frozenset().union(*(actions for _label, actions in audit_trail.CATEGORIES.values()))

    assert found == EVENT_ACTIONS


def test_an_event_is_a_sentence_with_links_to_what_the_reader_may_open(
    client: Client,
    dpo: User,
    coordinator: User,
    pacsadmin: User,
    as_user: AsUser,
    project: Project,
    source: Node,
    make_job: Callable[..., Job],
) -> None:
    User.objects.filter(pk=coordinator.pk).update(first_name="Carla", last_name="<Coordinator>")
    job = make_job(coordinator, project=project)
    details = {"tasks": 3, "destination": "Research folder", "project": "LUNG", "sources": ["P"]}
    record("job.created", user=coordinator, about=f"job:{job.pk}", details=details)
    alone = {"tasks": 1, "destination": "Research folder", "project": "site-default"}
    record("job.created", user=coordinator, about=f"job:{job.pk}", details=alone)
    record("project.changed", user=dpo, about="project:LUNG")
    record("node.paused", user=dpo, about=f"node:{source.pk}", details={"reason": "Night."})
    record("task.ended", about="job:99999", details={"task": 2, "delivered": 1, "withheld": 0})

    page = client.get("/trail/").content.decode()
    for_admin = as_user(pacsadmin).get("/trail/").content.decode()

    assert (
        f'Carla &lt;Coordinator&gt; ordered <a href="/jobs/{job.pk}/">job {job.pk}</a>: '
        "3 studies to Research folder, project LUNG." in page
    )
    assert "1 study to Research folder, project none." in page
    assert f'dpo changed <a href="/projects/{project.pk}/">project LUNG</a>.' in page
    assert "dpo paused PACS1: Night." in page
    assert f'dpo paused <a href="/nodes/{source.pk}/">PACS1</a>: Night.' in for_admin
    assert "Study 2 of job 99999 ended: 1 image delivered, 0 withheld, ? failed." in page


def test_pacs_administrators_and_members_see_their_part_of_the_trail_only(
    coordinator: User,
    pacsadmin: User,
    root: User,
    as_user: AsUser,
    groups: dict[str, Group],
    make_project: Callable[..., Project],
    make_job: Callable[..., Job],
    source: Node,
) -> None:
    mine = make_project("LUNG")
    foreign = make_project("HEART", members=())
    job, other = make_job(root, project=mine), make_job(root, project=foreign)
    node = record("node.changed", user=root, about=f"node:{source.pk}").pk
    secret = {"pseudonym": "LUNG-0001", "reason": "tumor"}
    of_mine = record("patient.reidentified", user=root, about="project:LUNG", details=secret).pk
    of_job = record("job.canceled", user=root, about=f"job:{job.pk}").pk
    record("job.canceled", user=root, about=f"job:{other.pk}")
    record("project.changed", user=root, about="project:HEART")
    record("user.changed", user=root, about=f"user:{root.pk}")
    member, admin = as_user(coordinator), as_user(pacsadmin)

    shown = numbers(member)
    assert {of_job, of_mine} <= set(shown)
    assert set(AuditEvent.objects.filter(pk__in=shown).values_list("about", flat=True)) == {
        "project:LUNG",
        f"job:{job.pk}",
    }
    assert "LUNG-0001" not in member.get("/trail/").content.decode()
    assert "HEART" not in member.get("/trail/").content.decode()
    assert numbers(admin) == [node]
    assert numbers(member, project="LUNG") == shown
    assert member.get("/trail/", {"project": "HEART"}).status_code == 422
    assert member.post("/trail/verify/").status_code == 403
    exported = b"".join(member.post("/trail/export/").streaming_content)  # type: ignore[attr-defined]
    assert b"HEART" not in exported
    assert b"LUNG-0001" not in exported


def test_what_a_person_saw_and_what_concerns_a_project_or_node_are_filters(
    client: Client,
    coordinator: User,
    project: Project,
    source: Node,
    make_job: Callable[..., Job],
) -> None:
    job = make_job(coordinator, project=project)
    seen = record("job.seen", user=coordinator, about=f"job:{job.pk}").pk
    searched = record("search.run", user=coordinator, about=f"node:{source.pk}").pk
    record("job.canceled", user=coordinator, about="job:4711")

    assert numbers(client, person="coordinator", action="viewed") == [searched, seen]
    assert numbers(client, project="LUNG", action="viewed") == [seen]
    assert numbers(client, node=source.pk, action="viewed") == [searched, seen]


def test_a_page_needs_the_same_number_of_queries_for_few_and_for_many_events(
    client: Client, coordinator: User, source: Node, make_job: Callable[..., Job]
) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/trail/").status_code == 200
        return len(queries)

    jobs = [make_job(coordinator) for _ in range(5)]

    def add(number: int) -> None:
        for _ in range(number):
            record("node.changed", user=coordinator, about=f"node:{source.pk}")
            for job in jobs:
                record("job.seen", user=coordinator, about=f"job:{job.pk}")

    add(1)
    client.get("/trail/")
    few = count()
    add(8)

    assert count() == few


def test_the_events_of_a_person_an_action_or_an_object_are_found_by_an_index(dpo: User) -> None:
    for number in range(3):
        record("job.seen", user=dpo, about=f"job:{number}")
    newest = AuditEvent.objects.order_by("-id")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")

    for found in (
        newest.filter(user=dpo),
        newest.filter(about="job:1"),
        newest.filter(action="job.seen"),
        newest.filter(user=dpo, action="job.seen"),
    ):
        plan = found[:51].explain()
        assert "auditevent_" in plan.lower() or "audit_audit" in plan.lower(), plan
        assert "TEMP B-TREE" not in plan, plan
        assert "Seq Scan" not in plan, plan


def test_the_export_as_excel_has_the_filtered_events(client: Client) -> None:
    record("job.canceled", about="job:1")

    answer = client.post("/trail/export/", {"job": "1", "form": "xlsx"})

    assert 'filename="trail-' in answer["Content-Disposition"]
    book = load_workbook(BytesIO(answer.content))
    assert [row[3] for row in book["ADIT"].values] == ["what", "ADIT canceled job 1."]
