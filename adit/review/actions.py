"""The action that follows a review: retry withheld images with the current rules."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from adit.jobs import states
from adit.jobs.actions import Action, ActionRequest, register
from adit.jobs.models import JobState, TaskState
from adit.results import applied_rules, archives
from adit.review.decisions import tasks_with_released_images
from adit_engine.messages import Message

J = JobState


def _has_released_images(request: ActionRequest) -> Message | None:
    if request.job.state != J.CANCELED and tasks_with_released_images(request.job):
        return None
    return Message("review.nothing-to-retry")


def _retry_withheld(request: ActionRequest) -> dict[str, Any]:
    """Retry withheld images with the current rules; delivered images stay delivered."""
    job = request.job
    now = applied_rules.current_rules(job)
    tasks = job.tasks.filter(pk__in=tasks_with_released_images(job))
    states.move_tasks(job, tasks, TaskState.PENDING, **states.RESET_FIELDS)
    return {"profile": now.profile, "generation": now.generation}


def register_actions() -> None:
    """Add the actions of this app to the table. Called when the apps are ready."""
    register(RETRY_WITHHELD)


RETRY_WITHHELD = Action(
    name="retry_withheld",
    label=_("Retry withheld images"),
    order=40,
    job_states=states.ENDED_JOBS,
    condition=_has_released_images,
    done=frozenset({J.PENDING, J.IN_PROGRESS}),
    execute=archives.creates_archive_again(_retry_withheld),
    needs_password=True,
    event="job.withheld_retried",
    event_label=_("withheld images are retried"),
    success_message=_("The withheld images are retried with the current rules."),
    tone="primary",
    icon="refresh",
    help=_(
        "Shown when a pixel rule, a reviewer or a decision of the project now covers images that "
        "were withheld. Only these images are fetched; delivered images stay unchanged."
    ),
)
