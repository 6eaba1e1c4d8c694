"""The actions that discard results or hide them: restart, delete, archive."""

from django.utils import timezone
from django.utils.translation import gettext_lazy as _lazy

from adit.jobs import progress, states
from adit.jobs.actions import Action, ActionRequest, explain_state, owner_or_staff, register
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState, TaskType
from adit.results import archives
from adit_engine.messages import Message

T, J = TaskState, JobState


def _staff_only(request: ActionRequest) -> Message | None:
    why = owner_or_staff(request)
    if why or request.user.is_staff:
        return why
    return Message("restart.staff-only")


def _unfinished(request: ActionRequest) -> Message | None:
    return Message("delete.job-not-finished")


def _nothing_stored(request: ActionRequest) -> Message | None:
    return Message("delete.images-stored") if request.job.may_have_stored else None


def _has_stored(request: ActionRequest) -> Message | None:
    return None if request.job.may_have_stored else Message("archiving.nothing-stored")


def _archived(request: ActionRequest) -> Message | None:
    return None if request.job.archived_at is not None else explain_state(request)


def _has_studies_left(request: ActionRequest) -> Message | None:
    """A job does not run again if all its images were recalled."""
    left = progress.retryable_tasks(request.job).filter(type=TaskType.ORDERED)
    return None if left.exists() else Message("recall.job-recalled")


def _restart(request: ActionRequest) -> None:
    """Clear the ledger, fetch and store all images again."""
    job = request.job
    archives.delete_job_files(job)
    rows = Task.objects.filter(job=job, recalled_at=None)
    SeriesResult.objects.filter(task__in=rows).delete()
    rows.update(rules=[])
    tasks = progress.retryable_tasks(job).exclude(state=T.PENDING)
    states.move_tasks(job, tasks, T.PENDING, **states.RESET_FIELDS)


def _reset_task(request: ActionRequest) -> None:
    """Clear the ledger of one study, fetch and store its images again."""
    assert request.task is not None
    SeriesResult.objects.filter(task=request.task.pk).delete()
    row = Task.objects.filter(pk=request.task.pk)
    row.update(rules=[])
    states.move_tasks(request.job, row, T.PENDING, **states.RESET_FIELDS)


def _delete(request: ActionRequest) -> None:
    """Delete a job that stored nothing, and its tasks; the audit trail keeps its events."""
    archives.delete_job_files(request.job)
    request.job.delete()


def _archive(request: ActionRequest) -> None:
    """Hide a job from lists. Its tasks and its ledger stay."""
    Job.objects.filter(pk=request.job.pk).update(archived_at=timezone.now())


def _unarchive(request: ActionRequest) -> None:
    Job.objects.filter(pk=request.job.pk).update(archived_at=None)


def register_actions() -> None:
    """Add the actions of this app to the table. Called when the apps are ready."""
    register(*_ACTIONS)


_ACTIONS = (
    Action(
        name="restart",
        label=_lazy("Restart from the beginning"),
        order=80,
        who=_staff_only,
        job_states=states.ENDED_JOBS,
        condition=_has_studies_left,
        done=frozenset({J.PENDING, J.IN_PROGRESS}),
        execute=archives.creates_archive_again(_restart),
        needs_password=True,
        event="job.restarted",
        event_label=_lazy("restarted from the beginning"),
        success_message=_lazy("The job restarts from the beginning."),
        confirmation=_lazy("Fetch and send all images of this job again?"),
        help=_lazy(
            "For staff: discards the list of delivered images and repeats the complete job."
        ),
    ),
    Action(
        name="delete",
        label=_lazy("Delete"),
        order=90,
        job_states=states.ENDED_JOBS | states.UNSTARTED_JOBS,
        explain_state=_unfinished,
        condition=_nothing_stored,
        execute=_delete,
        event="job.deleted",
        event_label=_lazy("deleted"),
        success_message=_lazy("Job %(number)d was deleted."),
        url_name="job_delete",
        has_page=True,
        tone="danger",
        icon="trash",
        help=_lazy("Deletes a job that delivered nothing. Other jobs can be archived."),
    ),
    Action(
        name="archive",
        label=_lazy("Archive"),
        order=95,
        job_states=states.ENDED_JOBS,
        explain_state=_unfinished,
        condition=_has_stored,
        execute=_archive,
        event="job.archived",
        event_label=_lazy("archived"),
        success_message=_lazy(
            "The job was archived. To list it, filter the jobs for archived ones."
        ),
        confirmation=_lazy(
            "Archive this job? It is hidden from lists until you unarchive it. Nothing is deleted."
        ),
        help=_lazy(
            "Hides a finished job from lists. Its studies, results and report stay, and so do the "
            "delivered images. It cannot be retried until it is unarchived."
        ),
    ),
    Action(
        name="unarchive",
        label=_lazy("Unarchive"),
        order=96,
        job_states=states.ENDED_JOBS,
        condition=_archived,
        execute=_unarchive,
        is_for_archived=True,
        event="job.unarchived",
        event_label=_lazy("unarchived"),
        success_message=_lazy("The job is listed again."),
        tone="primary",
        help=_lazy("Lists an archived job again."),
    ),
    Action(
        name="reset",
        label=_lazy("Restart from the beginning"),
        order=30,
        who=_staff_only,
        job_states=frozenset(J) - {J.WAITING_FOR_APPROVAL, J.CANCELING},
        task_states=states.ENDED_TASKS,
        done=states.LIVE_TASKS,
        execute=archives.creates_archive_again(_reset_task),
        needs_password=True,
        event="task.reset",
        event_label=_lazy("one task restarted from the beginning"),
        success_message=_lazy("It restarts from the beginning."),
        confirmation=_lazy("Fetch and send all images of this study again?"),
        search_confirmation=_lazy("Repeat this query from the beginning?"),
    ),
)
