"""Pass on rows of a check that one source does not have to the next chosen source.

Used by the worker.
"""

from django.db.models import Max

from adit.jobs import encrypted_payload, task_groups
from adit.jobs.kinds.base import RowNote
from adit.jobs.kinds.batch_transfer import plan_check_at
from adit.jobs.models import Task, TaskType
from adit.nodes.models import Lane, Node
from adit.projects import services


def insert_check_at_next_source(task: Task) -> bool:
    """Insert a check at the next source; return whether one was needed.

    It processes the rows that were not found here. The caller ends the check of a locked job. Rows
    for which the source reported an error are not passed on: the source may well have the study.
    """
    source = get_next_source(task)
    if source is None:
        return False
    lines = task.lines.filter(is_asked=True, is_found=False, notes=[RowNote.NOTHING.value])
    numbers = set(lines.values_list("line", flat=True))
    if not numbers:
        return False
    job, project = task.job, task.job.project or services.default_project()
    plan = plan_check_at(encrypted_payload.open_task(task).payload, source.pk, numbers)
    position = (job.tasks.aggregate(last=Max("position"))["last"] or 0) + 1
    laid = Task.objects.create(
        job=job,
        position=position,
        source=source,
        lane=Lane.SEARCH,
        payload=encrypted_payload.seal_task(project, job, position, plan, ""),
    )
    lines.update(task=laid, is_asked=False, notes=[])
    task_groups.assign_groups(job)
    return True


def get_next_source(task: Task) -> Node | None:
    """Return the source to query next; None if there is none or the task is no check."""
    if task.type != TaskType.ORDERED or task.lane != Lane.SEARCH or task.source_id is None:
        return None
    order = task.job.order
    chosen = [order.get("source"), *order.get("further", [])]
    at = chosen.index(task.source_id) + 1 if task.source_id in chosen else len(chosen)
    for pk in chosen[at:]:
        node = Node.objects.filter(pk=pk).first()
        if node is not None:
            return node
    return None
