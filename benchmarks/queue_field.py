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
    from adit.accounts.models import User
    from adit.jobs import roads
    from adit.jobs.models import Job, Task
    from adit.nodes.models import Node
    from adit.profiles import trials

    nodes = {node.name: node for node in Node.objects.all()}
    for number in range(int(tasks) // TASKS_EACH):
        job = Job.objects.create(
            kind="selective",
            owner=User.objects.get(username=f"person{number % OWNERS}"),
            destination=nodes["to"],
            trial=trials.default_trial(),
            order={"change": "pseudonymized", "reason": "", "announced": []},
            idempotency_key=f"{time.time_ns()}",
        )
        Task.objects.bulk_create(
            Task(job=job, position=position, source=nodes[source], payload=bytes(300))
            for position in range(1, TASKS_EACH + 1)
        )
        roads.lay(job)
    return int(tasks)


def clear() -> None:
    """Ends all that waits."""
    from adit.jobs.models import Job, JobState, Task, TaskState

    Task.objects.update(state=TaskState.SUCCESS)
    Job.objects.update(state=JobState.SUCCESS)


def claim_all(name: str, at: str) -> dict[str, Any]:
    """From this moment on claims and finishes until nothing is due."""
    from adit.jobs import queue
    from adit.jobs.models import TaskState

    queue.roads.in_turn()
    time.sleep(max(0.0, float(at) - time.time()))
    begun, count, spent = time.time(), 0, time.process_time()
    while True:
        task = queue.claim(name)
        if task is None:
            break
        queue.finish(task, TaskState.SUCCESS, "done")
        count += 1
    cpu_ms = 1000 * (time.process_time() - spent) / max(count, 1)
    return {"begun": begun, "ended": time.time(), "count": count, "cpu_ms": cpu_ms}


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


def order_now() -> tuple[int, float]:
    """A job of one task, and the second in which its order was committed."""
    return _order(1, "from"), time.time()


def waited(job: str, ordered: str) -> float:
    """Milliseconds from then to the claim of its task."""
    from adit.jobs.models import Job

    started_at = Job.objects.get(pk=job).started_at
    if started_at is None:
        raise RuntimeError(f"job {job} was not begun in time")
    return 1000 * (started_at.timestamp() - float(ordered))


def _order(tasks: int, source: str, owner: int = 0) -> int:
    from adit.accounts.models import User
    from adit.jobs import actions
    from adit.jobs.kinds.selective import Order, Pick
    from adit.nodes.models import Node

    person = User.objects.get(username=f"person{owner}")
    person.is_superuser = True
    nodes = {node.name: node for node in Node.objects.all()}
    picks = tuple(Pick(nodes[source].pk, f"1.2.3.{n}", "P1") for n in range(1, tasks + 1))
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
    "order-now": order_now,
    "waited": waited,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
