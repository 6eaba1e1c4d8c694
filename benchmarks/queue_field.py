"""Orders, backlogs and claiming processes in an installation for `benchmarks.queue`.

Run as `python -m benchmarks.queue_field COMMAND …` with ADIT_DATA set; prints JSON.
"""

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["ADIT_ORDERS_WITHOUT_PROJECT"] = "true"
os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"

TASKS_EACH = 500
OWNERS = 5
LOT = 64


def main(command: str, *arguments: str) -> None:
    from adit import cli

    if command == "prepare":
        cli.prepare()
    else:
        import django

        django.setup()
    print(json.dumps(COMMANDS[command](*arguments)), flush=True)


def prepare() -> None:
    """Create two open nodes with an irrelevant limit, and some users."""
    from adit.accounts.models import User
    from adit.nodes.models import Node

    for name in ("from", "to"):
        Node.objects.create(name=name, kind="memory", is_open=True, retrieve_limit=1000)
    Node.objects.create(name="closed", kind="memory", is_open=False)
    for number in range(OWNERS):
        User.objects.create_user(f"person{number}", is_staff=True)


def backlog(tasks: str, source: str) -> int:
    """Create waiting tasks in jobs of 500, of several owners; return their number."""
    from adit.accounts.models import User
    from adit.jobs import task_groups
    from adit.jobs.models import Job, Task
    from adit.nodes.models import Node
    from adit.projects import services

    nodes = {node.name: node for node in Node.objects.all()}
    for number in range(int(tasks) // TASKS_EACH):
        job = Job.objects.create(
            kind="selective",
            owner=User.objects.get(username=f"person{number % OWNERS}"),
            destination=nodes["to"],
            project=services.default_project(),
            order={"change": "pseudonymized", "reason": "", "announced": []},
            idempotency_key=f"{time.time_ns()}",
        )
        Task.objects.bulk_create(
            Task(job=job, position=position, source=nodes[source], payload=bytes(300))
            for position in range(1, TASKS_EACH + 1)
        )
        task_groups.assign_groups(job)
    return int(tasks)


def clear() -> None:
    """End all waiting tasks and jobs."""
    from adit.jobs.models import Job, JobState, Task, TaskState

    Task.objects.update(state=TaskState.SUCCESS)
    Job.objects.update(state=JobState.SUCCESS)


def claim_all(name: str, at: str) -> dict[str, Any]:
    """Claim and finish tasks from this moment on, until none is due."""
    from adit.jobs import queue
    from adit.jobs.models import TaskState

    def work() -> int:
        task = queue.claim(name)
        if task is None:
            return 0
        queue.finish(task, TaskState.SUCCESS, "done")
        return 1

    return _at(at, work)


def claim_lots(name: str, at: str) -> dict[str, Any]:
    """As `claim_all`, but in lots, as a batch of searches does it.

    One transaction ends a lot and claims the next one.
    """
    from django.db import transaction

    from adit.jobs import queue, states
    from adit.jobs.models import TaskState
    from adit.nodes.limits import slots

    def work() -> int:
        first = queue.claim(name)
        lot = [first] if first is not None else []
        count = len(lot)
        while lot:
            with transaction.atomic():
                job, holder = states.lock_job(lot[0].job_id), queue.get_holder(lot[0])
                states.end_tasks(job, {(TaskState.SUCCESS, "done"): lot})
                lot = queue.claim_more(job, lot[0], LOT)
                if lot:
                    slots.change_holder(holder, queue.get_holder(lot[0]))
                else:
                    slots.release_slots(holder)
            count += len(lot)
        return count

    return _at(at, work)


def _at(at: str, work: Callable[[], int]) -> dict[str, Any]:
    from adit.jobs import task_groups

    task_groups.candidates()
    time.sleep(max(0.0, float(at) - time.time()))
    begun, count, spent = time.time(), 0, time.process_time()
    while done := work():
        count += done
    cpu_s = time.process_time() - spent
    return {"begun": begun, "ended": time.time(), "count": count, "cpu_s": cpu_s}


def claim_some(times: str) -> dict[str, float]:
    """Return milliseconds of claims by one process; each task is released again."""
    from adit.jobs import queue

    spent = []
    for _ in range(int(times)):
        begun = time.perf_counter()
        task = queue.claim("bench")
        spent.append(1000 * (time.perf_counter() - begun))
        if task is None:
            raise RuntimeError("nothing was claimed")
        queue.release_task(task, "bench")
    first, *others = spent
    return {"first": first, "median": statistics.median(others), "most": max(others)}


def page() -> dict[str, float]:
    """Return milliseconds of the pages of jobs, for a user who may see all jobs."""
    from django.conf import settings
    from django.test import Client

    from adit.accounts.models import User
    from adit.jobs.models import Job

    settings.ALLOWED_HOSTS = ["*"]
    root, _ = User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)
    newest = Job.objects.order_by("-id").first()
    assert newest is not None
    told = {}
    for name, address in (("jobs", "/jobs/"), ("home", "/"), ("job", f"/jobs/{newest.pk}/")):
        client = Client()
        client.force_login(root)
        spent = []
        for _ in range(5):
            begun = time.perf_counter()
            assert client.get(address).status_code == 200
            spent.append(1000 * (time.perf_counter() - begun))
        told[name] = statistics.median(spent[1:])
    return told


def wake_ups(times: str) -> list[float]:
    """Return milliseconds from the commit of an order to the claim of its task.

    The time starts before the wake-up is sent.
    """
    from django.db import transaction

    found = []
    for _ in range(int(times)):
        time.sleep(random.uniform(0.5, 1.5))
        ordered: list[float] = []
        with transaction.atomic():
            transaction.on_commit(lambda seen=ordered: seen.append(time.time()))  # type: ignore[misc]
            job = _order(1, "from")
        found.append(1000 * (_started(job) - ordered[0]))
    return found


def _started(job: int) -> float:
    from adit.jobs.models import Job

    end = time.monotonic() + 60
    while time.monotonic() < end:
        started_at = Job.objects.values_list("started_at", flat=True).get(pk=job)
        if started_at is not None:
            return started_at.timestamp()
        time.sleep(0.1)
    raise RuntimeError(f"job {job} was not begun in time")


def _order(tasks: int, source: str, owner: int = 0) -> int:
    from adit.accounts.models import User
    from adit.jobs.kinds.base import OrderRequest
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.nodes.models import Node
    from adit.orders.service import place_order

    person = User.objects.get(username=f"person{owner}")
    person.is_superuser = True
    nodes = {node.name: node for node in Node.objects.all()}
    picks = tuple(
        PickedStudy.by_uid(nodes[source].pk, f"1.2.3.{n}", "P1") for n in range(1, tasks + 1)
    )
    key = f"{time.time_ns()}"
    request = OrderRequest("selective", picks, key=key, destinations=(nodes["to"].pk,))
    return place_order(person, request)[0].pk


COMMANDS: dict[str, Callable[..., Any]] = {
    "prepare": prepare,
    "backlog": backlog,
    "clear": clear,
    "claim-all": claim_all,
    "claim-lots": claim_lots,
    "claim-some": claim_some,
    "page": page,
    "wake-ups": wake_ups,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
