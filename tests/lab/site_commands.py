"""Commands for an installation in the folder ADIT_DATA: `site_commands.py COMMAND …`.

Tests that kill processes cannot share their own database with these processes.
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

DATA = Path(os.environ["ADIT_DATA"])
FOLDERS = DATA / "folders"


def main(command: str, *arguments: str) -> None:
    from adit import cli

    if command == "prepare":
        cli.prepare()
    else:
        os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
        import django

        django.setup()
    COMMANDS[command](*arguments)


def prepare() -> None:
    """Create a coordinator and folder nodes as source and destination."""
    from django.contrib.auth.models import Group

    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS
    from adit.nodes.models import Node, NodeAccess

    group = Group.objects.get(name=COORDINATORS)
    User.objects.create_user("coordinator").groups.add(group)
    for name in ("from", "to"):
        (FOLDERS / name).mkdir(parents=True)
        node = Node.objects.create(
            name=name, kind="folder", is_open=True, settings={"path": str(FOLDERS / name)}
        )
        NodeAccess.objects.create(
            group=group, node=node, may_read=name == "from", may_write=name == "to"
        )


def fill(series: str, images: str) -> None:
    """Add one study with the given number of series and images per series to the source."""
    from lab import samples

    for number in range(1, int(series) + 1):
        folder = FOLDERS / "from" / str(number)
        folder.mkdir()
        for image in range(1, int(images) + 1):
            content = samples.file_bytes(samples.ct(image, series=str(number)))
            (folder / f"{image}.dcm").write_bytes(content)


def fill_studies(studies: str) -> None:
    """Add the given number of studies with one image each to the source."""
    from lab import samples

    for number in range(1, int(studies) + 1):
        content = samples.file_bytes(samples.ct(1, study=str(number)))
        (FOLDERS / "from" / f"{number}.dcm").write_bytes(content)


def order_dead(studies: str) -> None:
    """Order the given number of studies from a PACS that is not running."""
    from adit.nodes.models import Node, NodeAccess
    from lab.ports import free_port

    port = free_port()
    settings = {"host": "127.0.0.1", "port": port, "called_ae_title": "DEAD"}
    node = Node.objects.create(
        name="dead", kind="dimse", is_open=True, settings=settings, retrieve_limit=20
    )
    group = NodeAccess.objects.get(node__name="from").group
    NodeAccess.objects.create(group=group, node=node, may_read=True)
    _order(studies, "dead", key="dead")


def add_pacs(
    name: str,
    port: str,
    limit: str = "2",
    retrieve: str = "get",
    patience: str = "",
    called: str = "",
) -> None:
    """Add a PACS from which the coordinator may fetch, also identified, and to which to send.

    `patience`: seconds without progress after which it is given up. `called`: its AE title if it
    differs from the name.
    """
    from django.contrib.auth.models import Permission

    from adit.accounts.models import User
    from adit.nodes.models import Node, NodeAccess

    user = User.objects.get()
    user.user_permissions.add(Permission.objects.get(codename="transfer_identified"))
    node = Node.objects.create(
        name=name,
        kind="dimse",
        is_open=True,
        settings={
            "host": "127.0.0.1",
            "port": int(port),
            "called_ae_title": called or name,
            "retrieve": retrieve,
            **({"no_progress_s": float(patience)} if patience else {}),
        },
        api_ae_title=name,
        retrieve_limit=int(limit),
        search_limit=20,
    )
    group = user.groups.get()
    NodeAccess.objects.create(group=group, node=node, may_read=True, may_write=True)


def add_viewer_token() -> None:
    """Create an API token of the coordinator for identified images; print its text."""
    from adit.accounts.models import User
    from adit.api_tokens import tokens

    scopes = ("query", "retrieve", "identified")
    print(tokens.create_token(None, User.objects.get(), "viewer", scopes, days=1, nodes=None)[1])


def add_tokens(*names: str) -> None:
    """Create API tokens of the coordinator; print their texts."""
    from adit.accounts.models import User
    from adit.api_tokens import tokens

    user, scopes = User.objects.get(), ("query", "retrieve", "store")
    for name in names:
        print(tokens.create_token(None, user, name, scopes, days=1, nodes=None)[1])


def work(seconds: str) -> None:
    """Claim and execute tasks from a slow source; print how many were successful.

    It creates the file `ready-PID` and starts as soon as the file `go` exists.
    """
    from adit.jobs import queue
    from adit.worker import runner
    from adit_engine.nodes.folder import FolderNode

    fetch = FolderNode.fetch

    def slowly(self, *args, **values):  # type: ignore[no-untyped-def]
        time.sleep(1.5)
        yield from fetch(self, *args, **values)

    FolderNode.fetch = slowly  # type: ignore[method-assign]
    (DATA / f"ready-{os.getpid()}").touch()
    while not (DATA / "go").exists():
        time.sleep(0.05)
    end, done = time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        task = queue.claim("field")
        if task is None:
            time.sleep(0.1)
            continue
        runner.run_task(task)
        task.refresh_from_db()
        done += task.state == "success"
    print(json.dumps(done))


def order(studies: str = "1", key: str = "a") -> None:
    _order(studies, "from", key)


def _order(studies: str, source_name: str, key: str) -> None:
    from adit.accounts.models import User
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.nodes.models import Node
    from lab import samples
    from lab.jobs import PATIENT
    from lab.ordering import order_job

    source, destination = Node.objects.get(name=source_name), Node.objects.get(name="to")
    picks = [
        PickedStudy.by_uid(source.pk, f"{samples.ROOT}.{number}", PATIENT)
        for number in range(1, int(studies) + 1)
    ]
    user = User.objects.get()
    user.is_staff = True  # permits orders of any size
    job = order_job(user, "selective", picks, destination.pk, key=key)
    print(job.pk)


def pace(kb_s: str) -> None:
    """Limit the rate of the source in kB/s; 0 for no limit."""
    from adit.nodes.models import Node

    Node.objects.filter(name="from").update(rate_kb_s=int(kb_s) or None)


def reopen() -> None:
    """Reopen all nodes as a node manager and remove their rate limits."""
    from adit.accounts.models import User
    from adit.nodes import pause
    from adit.nodes.models import Node

    manager = User.objects.create_superuser("manager")
    for node in Node.objects.all():
        pause.reopen_node(manager, node)
    Node.objects.update(rate_kb_s=None)


def limit(connections: str) -> None:
    from adit.nodes.models import Node

    Node.objects.update(retrieve_limit=int(connections))


def claim_all(name: str) -> None:
    """Claim and finish tasks until none is pending or in progress; print a line for each."""
    from adit.jobs import queue
    from adit.jobs.models import Task, TaskState

    while Task.objects.filter(state__in=(TaskState.PENDING, TaskState.IN_PROGRESS)).exists():
        task = queue.claim(name)
        if task is None:
            time.sleep(0.01)
            continue
        begun = time.monotonic()
        time.sleep(0.15)
        ended = time.monotonic()
        queue.finish(task, TaskState.SUCCESS, None)
        print(json.dumps([task.pk, task.attempt, begun, ended]), flush=True)


def claim_and_run(name: str) -> None:
    """Claim a task, print its attempt, and execute it as soon as the file `go-NAME` exists."""
    from adit.jobs import queue
    from adit.worker import runner

    task = queue.claim(name)
    assert task is not None
    print(task.attempt, flush=True)
    while not (DATA / f"go-{name}").exists():
        time.sleep(0.02)
    runner.run_task(task)


def claim_none() -> None:
    from adit.jobs import queue

    assert queue.claim("test") is None


def ledger() -> None:
    """Print the database rows and the encrypted ledgers as one JSON object."""
    from adit.jobs import encrypted_payload
    from adit.jobs.models import Job, Task

    job, task = Job.objects.get(), Task.objects.get()
    items = list(task.items.all())
    manifests = [encrypted_payload.open_series(item).manifest for item in items]
    told = {
        "job": job.state,
        "message": str(job.message or ""),
        "attempt": task.attempt,
        "expected": sum(item.expected or 0 for item in items),
        "delivered": sum(item.delivered for item in items),
        "others": sum(item.withheld + item.failed + item.skipped for item in items),
        "ledger": sum(len(manifest.delivered_entries()) for manifest in manifests),
    }
    print(json.dumps(told))


COMMANDS = {
    "prepare": prepare,
    "fill": fill,
    "order": order,
    "pace": pace,
    "limit": limit,
    "reopen": reopen,
    "fill-studies": fill_studies,
    "order-dead": order_dead,
    "add-pacs": add_pacs,
    "add-tokens": add_tokens,
    "add-viewer-token": add_viewer_token,
    "work": work,
    "claim-all": claim_all,
    "claim-and-run": claim_and_run,
    "claim-none": claim_none,
    "ledger": ledger,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
