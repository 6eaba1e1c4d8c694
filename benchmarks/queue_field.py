"""An installation in a folder of its own for `benchmarks.queue`: orders, backlogs and claimers.

Run as `python -m benchmarks.queue_field COMMAND …` with ADIT_DATA set; prints JSON.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"

TASKS_EACH = 500
OWNERS = 5


def main(command: str, *arguments: str) -> None:
    from adit import cli

    if command == "prepare":
        cli.prepare()
    else:
        import django

        django.setup()
    print(json.dumps(COMMANDS[command](*arguments)), flush=True)


def prepare() -> None:
    """Two open nodes without a limit that matters, and some people."""
    from adit.accounts.models import User
    from adit.nodes.models import Node

    for name in ("from", "to"):
        Node.objects.create(name=name, kind="memory", is_open=True, retrieve_limit=1000)
    Node.objects.create(name="closed", kind="memory", is_open=False)
    for number in range(OWNERS):
        User.objects.create_user(f"person{number}", is_staff=True)


def order(tasks: str, source: str = "from") -> int:
    """One job of so many tasks; its number."""
    return _order(int(tasks), source)


def backlog(tasks: str, source: str) -> int:
    """So many waiting tasks in jobs of 500, of several owners; how many."""
    for number in range(int(tasks) // TASKS_EACH):
        _order(TASKS_EACH, source, owner=number % OWNERS)
    return int(tasks)


def clear() -> None:
    """Ends all that waits."""
    from adit.jobs.models import Job, JobState, Task, TaskState

    Task.objects.update(state=TaskState.SUCCESS)
    Job.objects.update(state=JobState.SUCCESS)


def claim_all(name: str) -> dict[str, Any]:
    """Claims and finishes until nothing is due."""
    from adit.jobs import queue
    from adit.jobs.models import TaskState

    begun, count, held = time.time(), 0, []
    while True:
        at = time.perf_counter()
        task = queue.claim(name)
        held.append(time.perf_counter() - at)
        if task is None:
            break
        queue.finish(task, TaskState.SUCCESS, "done")
        count += 1
    return {"begun": begun, "ended": time.time(), "count": count, "slowest": max(held)}


def claim_some(times: str) -> dict[str, float]:
    """Milliseconds of a claim by one process, the task given back each time."""
    from adit.jobs import queue

    spent = []
    for _ in range(int(times)):
        begun = time.perf_counter()
        task = queue.claim("bench")
        spent.append(1000 * (time.perf_counter() - begun))
        if task is not None:
            queue.give_back(task, "bench")
    return {"median": statistics.median(spent), "most": max(spent), "claimed": task is not None}


def page() -> dict[str, float]:
    """Milliseconds of the jobs page, for a person who sees all."""
    from django.conf import settings
    from django.test import Client

    from adit.accounts.models import User

    settings.ALLOWED_HOSTS = ["*"]
    root, _ = User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)
    told = {}
    for name, address in (("jobs", "/jobs/"), ("home", "/"), ("job", "/jobs/1/")):
        client = Client()
        client.force_login(root)
        spent = []
        for _ in range(5):
            begun = time.perf_counter()
            assert client.get(address).status_code == 200
            spent.append(1000 * (time.perf_counter() - begun))
        told[name] = statistics.median(spent[1:])
    return told


def waited(job: str) -> float:
    """Milliseconds from the order to the claim of a job's first task; -1: not yet."""
    from adit.jobs.models import Job

    row = Job.objects.get(pk=job)
    if row.started_at is None:
        return -1.0
    return 1000 * (row.started_at - row.created_at).total_seconds()


def _order(tasks: int, source: str, owner: int = 0) -> int:
    from adit.accounts.models import User
    from adit.jobs import actions
    from adit.jobs.kinds.selective import Order, Pick
    from adit.nodes.models import Access, Node

    person = User.objects.get(username=f"person{owner}")
    person.is_superuser = True
    nodes = {node.name: node for node in Node.objects.all()}
    picks = tuple(Pick(nodes[source].pk, f"1.2.3.{n}", "P1") for n in range(1, tasks + 1))
    del Access
    key = f"{time.time_ns()}"
    return actions.create(person, "selective", Order(picks, nodes["to"].pk), key=key).pk


COMMANDS: dict[str, Callable[..., Any]] = {
    "prepare": prepare,
    "order": order,
    "backlog": backlog,
    "clear": clear,
    "claim-all": claim_all,
    "claim-some": claim_some,
    "page": page,
    "waited": waited,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
