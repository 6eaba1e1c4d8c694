"""The consent list of a project by the API: the permissions, rules and records of its pages."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from lab.api import ApiClient, make_api_client

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.nodes.models import Node
from adit.projects.models import Project

pytestmark = pytest.mark.django_db

PATIENT = "PID-4711-0815"


@pytest.fixture
def holder(keyholder: User) -> ApiClient:
    return make_api_client(keyholder)


def ask(client: ApiClient, action: str, node: Node, **more: Any) -> Any:
    return send(client, action, node=node.name, **more)


def send(client: ApiClient, action: str, **fields: Any) -> Any:
    return client.post(f"projects/LUNG/consent/{action}", {"patient_id": PATIENT, **fields})


def refusal(project: Project, patient_id: str = PATIENT) -> str:
    why = blocking.explain_refusal(project, "PACS1", patient_id, ())
    return "" if why is None else why.code


def test_consents_are_added_looked_up_and_withdrawn(
    holder: ApiClient, source: Node, project: Project
) -> None:
    today = timezone.localdate()
    unused = holder.get("projects/LUNG/consent").json()

    added = ask(holder, "patients", source, modalities="mr;CT", reason="form received")
    state = holder.get("projects/LUNG/consent").json()
    found = ask(holder, "lookup", source)
    allowed, other = refusal(project), refusal(project, "PID-2")
    withdrawn = ask(holder, "withdraw", source, withdrawn_on=str(today), reason="by phone")

    assert (unused["version"], unused["is_in_use"]) == (0, False)
    assert added.status_code == 201, added.content
    assert found.json() == added.json()
    assert found.json() == {
        "domain": "PACS1",
        "patient_id": PATIENT,
        "modalities": ["CT", "MR"],
        "valid_until": None,
        "withdrawn_on": None,
    }
    assert (state["version"], state["is_in_use"], state["patients"]) == (1, True, 1)
    assert PATIENT not in str(state)
    assert (allowed, other) == ("", "consent.not-listed")
    assert withdrawn.json()["withdrawn_on"] == str(today)
    assert refusal(project) == "consent.withdrawn"
    assert holder.get("projects/LUNG/consent").json()["withdrawn"] == 1
    actions = AuditEvent.objects.filter(action__startswith="consent.").order_by("pk")
    assert [(event.action, event.details["token"]) for event in actions] == [
        ("consent.added", "script"),
        ("consent.viewed", "script"),
        ("consent.withdrawn", "script"),
    ]


def test_the_whole_list_needs_a_reason_and_the_permission_to_re_identify(
    holder: ApiClient, keyholder: User, source: Node, project: Project
) -> None:
    ask(holder, "patients", source, reason="form received")
    reason = {"reason": "sent to the trial office"}

    exported = holder.post("projects/LUNG/consent/export", reason)
    without = holder.post("projects/LUNG/consent/export", {"reason": " "})
    project.reidentifiers.clear()
    refused = holder.post("projects/LUNG/consent/export", reason)

    assert [one["patient_id"] for one in exported.json()["results"]] == [PATIENT]
    assert without.json()["errors"].keys() == {"reason"}
    assert refused.status_code == 403
    assert AuditEvent.objects.get(action="consent.exported").details["patients"] == 1


def test_only_holders_of_the_list_with_an_identified_token_may_use_it(
    api: ApiClient, keyholder: User, source: Node, make_node: Any, project: Project
) -> None:
    narrow = make_api_client(keyholder, scopes=["jobs:read", "jobs:write"])
    elsewhere = make_api_client(keyholder, nodes=[make_node("PACS2")])
    more = {"reason": "form received"}

    assert ask(api, "patients", source, **more).json()["code"].startswith("project.not-")
    assert api.get("projects/LUNG/consent").status_code == 403
    for action in ("lookup", "patients", "withdraw", "export"):
        refused = narrow.post(f"projects/LUNG/consent/{action}", {})
        assert refused.json()["code"] == "api-token.scope-not-granted", action
    limited = ask(elsewhere, "patients", source, **more)
    assert limited.json()["errors"].keys() == {"node"}
    assert refusal(project) == ""


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("patients", {"reason": ""}, "reason"),
        ("patients", {"reason": "x", "patient_id": ""}, "patient_id"),
        ("patients", {"reason": "x", "modalities": "C-T!"}, "modalities"),
        ("patients", {"reason": "x", "valid_until": "31.12.2026"}, "valid_until"),
        ("patients", {"reason": "x", "withdrawn_on": "2026-01-01"}, "withdrawn_on"),
        ("withdraw", {"reason": "x", "withdrawn_on": "2026-01-01"}, "patient_id"),
        ("withdraw", {"reason": "x"}, "withdrawn_on"),
        ("lookup", {}, "patient_id"),
        ("lookup", {"node": "PACS9"}, "node"),
    ],
)
def test_a_wrong_field_is_named(
    action: str, body: dict[str, str], field: str, holder: ApiClient, source: Node
) -> None:
    answer = send(holder, action, **{"node": source.name, **body})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_a_consent_cannot_be_withdrawn_in_the_future_or_twice(
    holder: ApiClient, source: Node
) -> None:
    today = timezone.localdate()
    ask(holder, "patients", source, reason="form received")

    later = ask(holder, "withdraw", source, withdrawn_on=str(today + timedelta(days=1)), reason="x")
    once, twice = (
        ask(holder, "withdraw", source, withdrawn_on=str(today), reason="x") for _ in range(2)
    )

    assert later.json()["code"] == "consent.withdrawn-in-future"
    assert (once.status_code, twice.json()["code"]) == (200, "consent.changed-before")
