"""Rules: by which profile, tables and program the images of a task were changed."""

from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction
from django.db.models import Sum

from adit.jobs.models import Job, Task, TaskState
from adit.jobs.queue import LeaseLost
from adit.projects import risks, services
from adit_engine import __version__
from adit_engine.pseudonymize.tables import EDITION


@dataclass(frozen=True, slots=True)
class AppliedRules:
    """`profile` is a row's key: versions are never altered. `generation` is that of the UIDs."""

    profile: int
    generation: int
    engine: str
    edition: str
    faces: str = "undecided"
    """What the project had chosen for each risk, and why it accepts it."""
    faces_reason: str = ""
    header_word: str = "undecided"
    header_word_reason: str = ""
    superseded: int = 0
    """Images that arrived under them, and that a later generation has sent again with new UIDs."""


def current_rules(job: Job) -> AppliedRules:
    """Those by which an attempt would go now."""
    project = job.project or services.default_project()
    facts = risks.facts(project)
    return AppliedRules(project.profile_id, project.generation, __version__, EDITION, **facts)


def record_rules(task: Task) -> None:
    """Writes down by which rules this attempt goes, under its fence. Raises LeaseLost.

    All that a task's ledger holds is of one generation, so that the links within a study hold: in
    another one the ledger begins anew, and the whole study is sent.
    """
    used: dict[str, Any] = asdict(current_rules(task.job))
    before = list(task.rules)
    if before and before[-1] == used:
        return
    with transaction.atomic():
        mine = task.current_attempt()
        if before and before[-1]["generation"] != used["generation"]:
            arrived = task.items.aggregate(n=Sum("delivered"))["n"] or 0
            before[-1] = {**before[-1], "superseded": arrived}
            task.items.all().delete()
        task.rules = [*before, used]
        if mine.update(rules=task.rules) != 1:
            raise LeaseLost("Another worker has taken over this task.")


def tasks_judged_anew(job: Job) -> list[int]:
    """Ended tasks with withheld images which rules of the same generation judge anew by now."""
    now = current_rules(job)
    ended = (TaskState.SUCCESS, TaskState.WARNING, TaskState.FAILURE)
    held = Task.objects.filter(job=job, state__in=ended, items__withheld__gt=0).distinct()
    return [
        task.pk
        for task in held.only("rules")
        if task.rules
        and AppliedRules(**task.rules[-1]) != now
        and task.rules[-1]["generation"] == now.generation
    ]


def get_rules(task: Task) -> list[AppliedRules]:
    """In the order of attempts; one in almost every case."""
    return [AppliedRules(**used) for used in task.rules]
