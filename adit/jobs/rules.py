"""Rules: by which profile, tables and program the images of a task were changed."""

from dataclasses import asdict, dataclass
from typing import Any

from adit.jobs.models import Task, TaskState
from adit.jobs.queue import LeaseLost
from adit.profiles import faces, trials
from adit_engine import __version__
from adit_engine.pseudonymize.tables import EDITION


@dataclass(frozen=True, slots=True)
class Rules:
    """`profile` is a row's key: versions are never altered. `generation` is that of the UIDs."""

    profile: int
    generation: int
    engine: str
    edition: str
    faces: str = "undecided"
    """What the project had chosen for images that may show a face, and why it accepts the risk."""
    faces_reason: str = ""


def note(task: Task) -> None:
    """Writes down by which rules this attempt goes, under its fence. Raises LeaseLost."""
    trial = task.job.trial or trials.default_trial()
    chosen = faces.chosen(trial).value
    used: dict[str, Any] = asdict(
        Rules(
            trial.profile_id, trial.generation, __version__, EDITION, chosen, trial.faces_reason
        )
    )
    if used in task.rules:
        return
    task.rules = [*task.rules, used]
    mine = Task.objects.filter(pk=task.pk, attempt=task.attempt, state=TaskState.IN_PROGRESS)
    if mine.update(rules=task.rules) != 1:
        raise LeaseLost("Another worker has taken over this task.")


def rules_of(task: Task) -> list[Rules]:
    """In the order of attempts; one in almost every case."""
    return [Rules(**used) for used in task.rules]
