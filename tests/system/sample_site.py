"""Fill an empty installation with sample users, nodes and jobs in every state.

Run as a separate process; prints the created IDs as JSON. All data are synthetic; no job runs.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

from sample_batches import make_lists

from adit_engine.messages import Message

sys.path.insert(0, str(Path(__file__).parents[1]))

DATA = Path(os.environ["ADIT_DATA"])
PASSWORD = "a long enough password"
HOURS = [
    {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "20:00", "to": "06:00", "limit": 2},
    {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "12:00", "to": "13:00", "limit": 1},
    {"days": ["sat", "sun"], "from": "00:00", "to": "24:00"},
    {"days": ["sat", "sun"], "from": "06:00", "to": "22:00", "lane": "search"},
    {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "00:00", "to": "24:00", "lane": "search"},
]


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
    from adit_engine.pseudonymize.keys import create_key_file

    create_key_file(DATA / "keys" / "master.key")
    create_key_file(DATA / "keys" / "web.key")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    made = fill()
    json.dump(made, sys.stdout)


def fill() -> dict[str, object]:
    from adit.accounts.models import User
    from adit.accounts.permissions import create_standard_groups

    groups = create_standard_groups()
    people = {}
    for name, full, group in (
        ("coordinator", ("Clara", "Ordner"), "Coordinators"),
        ("pacsadmin", ("Paul", "Archiv"), "PACS administrators"),
        ("dpo", ("Dora", "Schutz"), "Data protection"),
        ("keyholder", ("Karla", "Schlüssel"), "Coordinators"),
        ("stranger", ("", ""), ""),
        ("admin", ("Ada", "Leitung"), "Administrators"),
        ("auditor", ("Anton", "Prüfer"), "Data protection"),
    ):
        user = User.objects.create_user(
            name, password=PASSWORD, first_name=full[0], last_name=full[1]
        )
        if group:
            user.groups.add(groups[group])
        people[name] = user
    people["auditor"].groups.add(groups["Re-identification"])
    robot = User.objects.create(username="robot", first_name="Evaluation", is_service=True)
    robot.groups.add(groups["Coordinators"])
    nodes = make_nodes(groups, people["pacsadmin"])
    make_checks(nodes["PACS1"], people["pacsadmin"])
    make_uses(nodes["PACS1"], groups, people["pacsadmin"])
    make_strays()
    jobs = make_jobs(people["coordinator"], nodes)
    make_projects(people, groups)
    make_tokens(people["coordinator"])
    make_tokens(robot)
    make_webhook(people["coordinator"])
    lists = make_lists(people["coordinator"], nodes, jobs["held"], PASSWORD)
    make_recall(people, nodes)
    make_account_request()
    return {"lists": lists, "jobs": jobs, "nodes": {name: node.pk for name, node in nodes.items()}}


def make_tokens(user: object) -> None:
    """Create a valid and a revoked API token."""
    from adit.api_tokens import tokens

    tokens.create_token(user, user, "nightly script", ["query"], days=90, nodes=None)
    old, _text = tokens.create_token(user, user, "old script", ["query"], days=7, nodes=[])
    tokens.revoke_token(user, old)


def make_account_request() -> None:
    """Somebody asks for an account (1)."""
    from adit.administration.models import AccountRequest

    AccountRequest.objects.create(
        username="n.neu",
        first_name="Nora",
        last_name="Neu",
        email="nora.neu@hospital.example",
        reason="Study LUNG, department of pneumology.\nI collect the CT images.",
    )


def make_webhook(user: object) -> None:
    """Create a webhook (1) with a failed and a waiting call."""
    from adit.webhooks.models import WebhookEvent
    from adit.webhooks.services import create_webhook
    from adit_engine.messages import Message

    url = "https://hooks.example.org/"
    webhook, _secret = create_webhook(user, "Evaluation server", url, WebhookEvent.values, None)
    refused = Message("webhook.refused", host="hooks.example.org", http_status=404)
    webhook.deliveries.create(
        event="job.ended", job=1, body="{}", attempt=3, status=404, message=refused, given_up=True
    )
    webhook.deliveries.create(event="test", body="{}")


def make_recall(people: dict, nodes: dict) -> None:
    """Block a patient (1) and create an overdue recall (1) with deliveries in every state."""
    from django.utils import timezone

    from adit.blocklist.blocking import block_patient
    from adit.projects.models import Project
    from adit.recall.models import Recall, RecallState
    from adit_engine.messages import Message

    today = timezone.localdate()
    manager = people["dpo"]
    entry = block_patient(
        manager, None, "PACS1", "BLOCKED-1", reason="objection", withdrawn_on=today
    )
    recall = Recall.objects.create(
        entry=entry,
        reason="objection",
        deletes_shared_archives=False,
        confirm_by=today - timedelta(days=1),
        created_by=manager,
        continued_by=manager,
        quarantine_checked_at=timezone.now(),
    )
    for position, state in enumerate(RecallState.values, start=1):
        recall.deliveries.create(
            job_number=3,
            position=position,
            destination=nodes["Research folder"] if position % 2 else nodes["Research PACS"],
            state=state,
            images=120,
            deleted=40 * (position % 4),
            message=Message("recall.pacs-deletes"),
            checked_at=timezone.now() if state != RecallState.WAITING else None,
        )
    project = Project.objects.get(protocol_id="LUNG")
    recall.confirmations.create(destination=nodes["Research PACS"], project=project)
    recall.confirmations.create(receiver=people["coordinator"], project=project)
    recall.confirmations.create(
        destination=nodes["Research folder"],
        confirmed_at=timezone.now(),
        confirmed_by=manager,
        note="letter of 3 May",
    )


def make_projects(people: dict, groups: dict) -> None:
    """Create LUNG (2) with patients and OVER (3) with a destroyed key; the key holder manages both."""
    from django.contrib.auth.models import Group, Permission
    from lab.projects import create_complete_project

    from adit.audit.trail import record
    from adit.projects import key_destruction
    from adit.projects.pseudonyms import get_or_create_pseudonym

    holders = Group.objects.create(name="Key holders")
    rights = ("manage_profiles", "manage_projects")
    holders.permissions.set(Permission.objects.filter(codename__in=rights))
    people["keyholder"].groups.add(holders)
    for name in ("LUNG", "OVER"):
        project = create_complete_project(
            people["dpo"],
            name,
            protocol_name=f"{name.capitalize()} screening",
            pattern=f"{name}-####",
            members=[groups["Coordinators"]],
            list_holders=[holders],
            reidentifiers=[holders],
        )
        for number in range(60):
            get_or_create_pseudonym(project, "PACS1", f"{number}")
    key_destruction.destroy_key(people["dpo"], project, "the study is over", "OVER")
    record("trail.verified", user=people["dpo"], details={"whole": True})


def make_nodes(groups: dict, admin: object) -> dict:
    from django.utils import timezone

    from adit.nodes.models import Lane, Node, NodeAccess, Slot

    folder = DATA / "folders" / "research"
    folder.mkdir(parents=True)
    dimse = {"host": "127.0.0.1", "port": 11112, "called_ae_title": "PACS1"}
    rows = {
        "PACS1": Node(
            kind="dimse",
            settings=dimse,
            is_open=True,
            is_clinical=True,
            retrieve_limit=4,
            windows=HOURS,
            special_days=[{"from": str(timezone.localdate()), "as": "sun", "why": "holiday"}],
        ),
        "Research PACS": Node(kind="dimse", settings=dimse, is_open=True),
        "Research folder": Node(kind="folder", settings={"path": str(folder)}, is_open=True),
        "Old archive": Node(
            kind="dimse",
            settings=dimse,
            is_open=True,
            is_clinical=True,
            paused_at=timezone.now(),
            paused_by=admin,
            pause_reason="it is being moved to new hardware until Friday",
        ),
        "Not yet open": Node(kind="dimse", settings=dimse),
    }
    for name, node in rows.items():
        node.name = name
        node.save()
    now = timezone.now()
    Slot.objects.create(
        node=rows["PACS1"],
        lane=Lane.RETRIEVE,
        holder="task:1",
        user=admin,
        job=3,
        weight=2,
        images=1200,
        size_bytes=640_000_000,
        taken_at=now - timedelta(minutes=2),
        expires_at=now + timedelta(days=1),
    )
    for name, reads in (("PACS1", True), ("Old archive", True)):
        NodeAccess.objects.create(group=groups["Coordinators"], node=rows[name], may_read=reads)
    for name in ("Research PACS", "Research folder"):
        NodeAccess.objects.create(group=groups["Coordinators"], node=rows[name], may_write=True)
    return rows


def make_uses(node: object, groups: dict, manager: object) -> None:
    """Create 90 days of usage, one day over the limit, a budget and alarms."""
    from django.utils import timezone

    from adit.nodes import alarms
    from adit.nodes.models import Alarm, Budget, Lane, NodeDailyUsage

    today = timezone.localdate()
    for n in range(90):
        if n % 7 == 6:
            continue
        NodeDailyUsage.objects.create(
            node=node,
            day=today - timedelta(days=n),
            lane=Lane.RETRIEVE,
            connections=n % 11 * 7 + 4,
            peak_connections=6 if n == 40 else n % 4 + 1,
            allowed=4,
            images=n % 13 * 900 + 50,
            size_bytes=(n % 9 + 1) * 1_500_000_000,
        )
    Budget.objects.create(group=groups["Coordinators"], studies=50)
    silent = Message("alarm.no-answer", since="2026-06-01 07:12", failures=3)
    alarms.raise_alarm(Alarm.Cause.BREAKER, "staged", silent, node)
    alarms.raise_hours_changed(manager, node, ["windows"])


def make_checks(node: object, admin: object) -> None:
    """Create node test results with proposals and a failed C-MOVE."""
    from django.utils import timezone

    from adit.nodes.models import NodeTestResult
    from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal

    why = Message("proposal.result-cap")
    stranger = {"sender": "PACS1B", "sender_address": "10.0.0.7"}
    senders = Message("proposal.senders", **stranger)
    found = {
        "plain": [
            NodeFinding(Grade.GOOD, Message("test.echo", node="PACS1", milliseconds="12")),
            NodeFinding(Grade.GOOD, Message("test.search-roots", roots=("study", "patient"))),
            NodeFinding(Grade.GOOD, Message("test.retrieval", methods=("C-GET", "C-MOVE"))),
            NodeFinding(
                Grade.WARNING,
                Message("test.truncated", count=200),
                Message("step.result-cap", count=200),
                (SettingProposal("result_cap", 200, why),),
            ),
        ],
        "fetch": [
            NodeFinding(
                Grade.GOOD,
                Message(
                    "test.image-received",
                    method="C-GET",
                    size=Message("clause.megabytes", size="0.52"),
                    duration="180 ms",
                ),
            ),
            NodeFinding(
                Grade.BAD,
                Message(
                    "test.image-not-received",
                    method="C-MOVE",
                    duration="10.4 s",
                    reason=Message("fetch.nothing-sent"),
                ),
            ),
            NodeFinding(
                Grade.WARNING,
                Message("test.sender-rejected", **stranger),
                Message("step.add-sender", node="PACS1", **stranger),
                (SettingProposal("senders", "PACS1@10.0.0.5, PACS1B@10.0.0.7", senders),),
            ),
        ],
    }
    for what, findings in found.items():
        rows = [finding.to_json() for finding in findings]
        NodeTestResult.objects.create(
            node=node, kind=what, at=timezone.now(), by=admin, findings=rows
        )


def make_strays() -> None:
    """Create rejected associations, refused images, and images in quarantine."""
    import json

    from adit.nodes.receiving import unexpected_senders
    from adit.nodes.receiving.retrievals import open_spool
    from adit_engine.storage_scp.pending_moves import Disposition, UnexpectedArrival

    ct = "1.2.840.10008.5.1.4.1.1.2"
    gatherer = unexpected_senders.SenderCounter()
    for fate, title, kind, source in (
        (Disposition.REJECTED, "PACS1B", "", ""),
        (Disposition.REFUSED, "FARM2", ct, "PACS1"),
        (Disposition.REFUSED, "MODALITY7", ct, ""),
    ):
        gatherer.add(
            UnexpectedArrival(fate, title, "ADIT", "10.0.0.7", kind, 500_000 if kind else 0, source)
        )
    unexpected_senders.write_counts(gatherer.take())
    folder = open_spool().folder / "_quarantine"
    folder.mkdir(parents=True)
    for number in range(3):
        name = f"{number:020d}-000000"
        (folder / f"{name}.dcm").write_bytes(bytes(500_000))
        note = {"calling": "FARM2", "address": "10.0.0.8", "class_uid": ct}
        (folder / f"{name}.json").write_text(json.dumps({**note, "at": "2026-11-24T03:00+00:00"}))


def make_jobs(owner: object, nodes: dict) -> dict[str, int]:
    from django.utils import timezone

    from adit.jobs import encrypted_payload, task_groups
    from adit.jobs.kinds.base import TaskPlan
    from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskGroup, TaskState
    from adit.projects import services

    project = services.default_project()
    made = {}
    now = timezone.now()
    for place, state in enumerate(JobState.values):
        job = Job.objects.create(
            kind="selective",
            owner=owner,
            destination=nodes["Research folder" if place % 2 else "Research PACS"],
            project=project,
            state=state,
            idempotency_key=f"stage-{place}",
            message=MESSAGES.get(state),
            started_at=now - timedelta(minutes=9),
            ended_at=now - timedelta(minutes=4) if state in MESSAGES else None,
        )
        plan = TaskPlan(nodes["PACS1"].pk, {}, patient_id="", pseudonym=f"LUNG-{place:04}")
        task_state = state if state in TaskState.values else TaskState.PENDING
        task = Task.objects.create(
            job=job,
            position=1,
            source=nodes["PACS1"],
            payload=encrypted_payload.seal_task(project, job, 1, plan, plan.pseudonym),
            state=task_state,
            message=MESSAGES.get(state),
        )
        task_groups.assign_groups(job)
        if state == JobState.PENDING:
            TaskGroup.objects.filter(job=job).update(
                wait_reason=Message("node-unavailable.outside-hours", node="PACS1", time="20:00")
            )
        delivered, withheld, failed = COUNTS.get(state, (0, 0, 0))
        if state in COUNTS:
            SeriesResult.objects.create(
                task=task,
                attempt=1,
                index=f"{place}",
                sealed=b"",
                modality="CT",
                number=2,
                expected=120,
                delivered=delivered,
                withheld=withheld,
                failed=failed,
            )
        made[str(state)] = job.pk
    return made


MESSAGES = {
    "canceled": Message("job.canceled", count=40),
    "success": Message("delivery.complete", count=120),
    "warning": Message("delivery.partial", delivered=114, count=120),
    "failure": Message(
        "text",
        text="PACS1 rejected our AE title ADIT. Ask its administrator to register it.",
    ),
}
COUNTS = {
    "in_progress": (56, 2, 0),
    "canceling": (40, 0, 0),
    "canceled": (40, 0, 0),
    "success": (120, 0, 0),
    "warning": (114, 6, 0),
    "failure": (0, 0, 120),
}

if __name__ == "__main__":
    main()
