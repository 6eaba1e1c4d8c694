"""Stage: fills an empty installation with people, nodes and jobs in every state, to be looked at.

Run in a process of its own; prints what it made as JSON. Nothing here is real, and nothing runs.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

DATA = Path(os.environ["ADIT_DATA"])
PASSWORD = "a long enough password"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
    from adit.vault.master import make_key

    make_key(DATA / "keys" / "master.key")
    make_key(DATA / "keys" / "web.key")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("createcachetable")
    made = fill()
    json.dump(made, sys.stdout)


def fill() -> dict[str, object]:
    from adit.accounts.groups import make_standard_groups
    from adit.accounts.models import User

    groups = make_standard_groups()
    people = {}
    for name, full, group in (
        ("coordinator", ("Clara", "Ordner"), "Coordinators"),
        ("pacsadmin", ("Paul", "Archiv"), "PACS administrators"),
        ("dpo", ("Dora", "Schutz"), "Data protection"),
        ("keyholder", ("Karla", "Schlüssel"), "Coordinators"),
        ("stranger", ("", ""), ""),
    ):
        user = User.objects.create_user(
            name, password=PASSWORD, first_name=full[0], last_name=full[1]
        )
        if group:
            user.groups.add(groups[group])
        people[name] = user
    nodes = make_nodes(groups, people["pacsadmin"])
    jobs = make_jobs(people["coordinator"], nodes)
    make_projects(people, groups)
    return {"jobs": jobs, "nodes": {name: node.pk for name, node in nodes.items()}}


def make_projects(people: dict, groups: dict) -> None:
    """LUNG (2) with patients, OVER (3) whose key is gone; the key holder may do all with them."""
    from django.contrib.auth.models import Group, Permission

    from adit.audit.trail import record
    from adit.profiles import destruction, trials
    from adit.profiles.mapping import pseudonym_for
    from adit.profiles.models import Trial

    holders = Group.objects.create(name="Key holders")
    rights = ("reidentify", "manage_profiles", "manage_trials")
    holders.permissions.set(Permission.objects.filter(codename__in=rights))
    people["keyholder"].groups.add(holders)
    for name in ("LUNG", "OVER"):
        trial = Trial(
            protocol_id=name,
            protocol_name=f"{name.capitalize()} screening",
            sponsor="University Hospital",
            pattern=f"{name}-####",
        )
        trials.create_trial(people["dpo"], trial, members=[groups["Coordinators"]])
        for number in range(60):
            pseudonym_for(trial, "PACS1", f"{number}")
    destruction.destroy_key(people["dpo"], trial, "the study is over", "OVER")
    record("trail.verified", user=people["dpo"], details={"whole": True})


def make_nodes(groups: dict, admin: object) -> dict:
    from django.utils import timezone

    from adit.nodes.models import Access, Lane, Node, Slot

    folder = DATA / "research"
    folder.mkdir()
    dimse = {"host": "127.0.0.1", "port": 11112, "called_ae_title": "PACS1"}
    rows = {
        "PACS1": Node(kind="dimse", settings=dimse, is_open=True, is_clinical=True),
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
        taken_at=now,
        expires_at=now + timedelta(days=1),
    )
    for name, reads in (("PACS1", True), ("Old archive", True)):
        Access.objects.create(group=groups["Coordinators"], node=rows[name], may_read=reads)
    for name in ("Research PACS", "Research folder"):
        Access.objects.create(group=groups["Coordinators"], node=rows[name], may_write=True)
    return rows


def make_jobs(owner: object, nodes: dict) -> dict[str, int]:
    from django.utils import timezone

    from adit.jobs import sealed
    from adit.jobs.kinds.base import TaskPlan
    from adit.jobs.models import Item, Job, JobState, Task, TaskState
    from adit.profiles import trials

    trial = trials.default_trial()
    made = {}
    now = timezone.now()
    for place, state in enumerate(JobState.values):
        job = Job.objects.create(
            kind="selective",
            owner=owner,
            destination=nodes["Research folder" if place % 2 else "Research PACS"],
            trial=trial,
            state=state,
            idempotency_key=f"stage-{place}",
            message=MESSAGES.get(state, ""),
            started_at=now - timedelta(minutes=9),
            ended_at=now - timedelta(minutes=4) if state in MESSAGES else None,
        )
        plan = TaskPlan(nodes["PACS1"].pk, {}, patient_id="", pseudonym=f"LUNG-{place:04}")
        task_state = state if state in TaskState.values else TaskState.PENDING
        task = Task.objects.create(
            job=job,
            position=1,
            source=nodes["PACS1"],
            payload=sealed.seal_task(trial, job, 1, plan, plan.pseudonym),
            state=task_state,
            waits_for="PACS1 opens at 20:00" if state == JobState.PENDING else "",
            message=MESSAGES.get(state, ""),
        )
        delivered, withheld, failed = COUNTS.get(state, (0, 0, 0))
        if state in COUNTS:
            Item.objects.create(
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
    "canceled": "Canceled by Clara Ordner after 40 of 120 images.",
    "success": "120 of 120 images delivered.",
    "warning": "114 of 120 images delivered, 6 withheld: text may be burned into the picture.",
    "failure": "PACS1 refused our AE title ADIT: ask its administrator to register it.",
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
