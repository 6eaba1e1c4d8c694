"""Over: what still waits for a research project that has ended does not start any more."""

from django.db import transaction
from django.utils.translation import gettext as _

from adit.jobs import states
from adit.jobs.models import Task, TaskState
from adit.profiles import trials
from adit.profiles.models import Trial


def fail_what_waits() -> int:
    """With the sentence that says why; how many tasks. What runs is stopped by its own lease."""
    count = 0
    for trial in Trial.objects.filter(trials.over(), is_default=False):
        waiting = Task.objects.filter(
            state=TaskState.PENDING, job__trial=trial, job__state__in=states.RUNNABLE_JOBS
        )
        for pk in list(waiting.values_list("pk", flat=True)):
            count += _fail(pk, trials.why_over(trial))
    return count


def _fail(pk: int, why: str) -> bool:
    with transaction.atomic():
        task = Task.objects.filter(pk=pk, state=TaskState.PENDING).first()
        if task is None:
            return False
        states.locked(task.job_id)
        try:
            states.move(task, TaskState.FAILURE, why or _("The research project has ended."))
        except states.Overtaken:
            return False
    return True
