"""Record by which profile, tables and engine version the images of a task were changed.

Used by the worker, orders and reports.
"""

from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction
from django.db.models import Sum

from adit.jobs.models import Job, Task
from adit.jobs.queue import LeaseLost
from adit.projects import risks, services
from adit_engine import __version__
from adit_engine.pseudonymize.tables import EDITION


@dataclass(frozen=True, slots=True)
class AppliedRules:
    """The rules of one attempt.

    `profile` is the primary key of a profile version, which is never altered. `generation` is the
    generation of the UIDs.
    """

    profile: int
    generation: int
    engine: str
    edition: str
    faces: str = "undecided"
    """The decision of the project on each risk, and the reason if it was accepted."""
    faces_reason: str = ""
    header_word: str = "undecided"
    header_word_reason: str = ""
    superseded: int = 0
    """Images delivered under these rules that a later generation has sent again with new UIDs."""


def current_rules(job: Job) -> AppliedRules:
    """Return the rules that an attempt would use now."""
    project = job.project or services.default_project()
    facts = risks.facts(project)
    return AppliedRules(project.profile_id, project.generation, __version__, EDITION, **facts)


def record_rules(task: Task) -> None:
    """Record the rules of this attempt, fenced by worker and attempt number.

    All entries in the ledger of a task belong to one generation, so that references within a study
    remain valid. In another generation the ledger starts empty and the whole study is sent. Raises
    LeaseLost.
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
            raise LeaseLost("task.taken-over")


def get_rules(task: Task) -> list[AppliedRules]:
    """Return the rules in the order of attempts; almost always one."""
    return [AppliedRules(**used) for used in task.rules]
