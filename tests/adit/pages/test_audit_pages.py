"""Page of the audit trail: filters, pagination, verification, export."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.audit.trail import record

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


@pytest.mark.parametrize("who", ["coordinator", "pacsadmin", "stranger"])
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
    record("jobless.thing", about="node:3")
    today = timezone.localdate()

    assert numbers(client, person="coordinator") == [mine]
    assert numbers(client, action="job.created") == [mine]
    assert numbers(client, action="job") == [other, mine]
    assert numbers(client, about="job:13") == [other]
    assert numbers(client, about="job:12", since=today, until=today) == [mine]
    assert numbers(client, about="job:12", until=today - timedelta(days=1)) == []
    assert numbers(client, about="job:12", since=today + timedelta(days=1)) == []


def test_reading_the_audit_trail_is_audited(client: Client, dpo: User) -> None:
    client.get("/trail/", {"about": "job:12"})

    event = AuditEvent.objects.get(action="trail.read")
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
    names = ("number", "at", "person", "action", "about", "details", "concerns_a_patient", "hash")
    assert head == ",".join(f'"{name}"' for name in names)
    assert len(rows) == 2
    assert """ ,"'=cmd.run","job:1", """.strip() in rows[0]
    assert ',"coordinator","job.created","job:1","reason: a, b","no",' in rows[1]
    assert "canary" not in text
    assert AuditEvent.objects.get(action="trail.exported").details == {
        "asked": {"about": "job:1"},
        "events": 2,
    }
