"""Views of one task: its series and their results, or its search and its rows.

Also the decision on a study whose patient ID has changed.
"""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.jobs import actions, encrypted_payload, patient_id_changes, progress, states
from adit.jobs.disclosure import get_disclosure
from adit.jobs.models import SeriesResult, Task, TaskState
from adit.jobs.tables import SeriesRow, SeriesTable
from adit.jobs.views.access import current_user, get_visible_task, record_view
from adit.jobs.views.task_labels import get_task_labels
from adit.nodes.models import Lane
from adit.results import archives
from adit.spreadsheets.row_verdicts import format_line_numbers
from adit.vault.cipher import DecryptionError
from adit_engine.errors import AditError


def _patient_decision_context(user: User, task: Task) -> dict[str, Any]:
    """The context of a held task; empty for others. IDs only for users who may see them."""
    if task.state != TaskState.HELD:
        return {}
    ids = None
    if has_right(user, Right.SEE_IDENTIFIED):
        try:
            ids = patient_id_changes.get_patient_ids(task)
        except DecryptionError:
            ids = None
    return {
        "held": {"ids": ids, "may_decide": ids is not None and patient_id_changes.may_decide(user)}
    }


@require_POST
def task_decide(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    user = current_user(request)
    task = get_visible_task(user, pk, position)
    if not patient_id_changes.may_decide(user):
        raise PermissionDenied(_("You do not have the permission to confirm changed patient IDs."))
    confirms = request.POST.get("do") == "confirm"
    try:
        (patient_id_changes.confirm_patient if confirms else patient_id_changes.reject_patient)(
            user, task, request.POST.get("reason", "")
        )
    except AditError as error:
        messages.error(request, str(error))
    else:
        done = _("Confirmed. The study continues.") if confirms else _("Rejected. Nothing is sent.")
        messages.success(request, done)
    return HttpResponseRedirect(reverse("job_task", args=[pk, position]))


@require_safe
def task_page(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    user = current_user(request)
    task = get_visible_task(user, pk, position)
    context = _task_context(request, user, task)
    return render(request, "jobs/task.html", context)


@require_safe
def task_live(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    """The part of the task page that is reloaded while the task is active."""
    user = current_user(request)
    context = _task_context(request, user, get_visible_task(user, pk, position))
    return render(request, "jobs/_task_live.html", context)


@require_POST
def task_action(request: HttpRequest, pk: int, position: int, verb: str) -> HttpResponse:
    user = current_user(request)
    task = get_visible_task(user, pk, position)
    action = actions.task_actions().get(verb)
    if action is None:
        raise Http404
    on_job = actions.job_actions().get(verb)
    # The password page continues with the action of this name on the whole job.
    has_page = action.needs_password and on_job is not None and on_job.needs_password
    is_closed = has_page and archives.lacks_password(task.job)
    if is_closed and verb in actions.allowed(user, task):
        return HttpResponseRedirect(reverse("job_password", args=[pk, verb]))
    try:
        actions.perform(user, task, verb)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, str(action.success_message))
    if not Task.objects.filter(pk=task.pk).exists():
        return HttpResponseRedirect(reverse("job", args=[pk]))
    return HttpResponseRedirect(reverse("job_task", args=[pk, position]))


def _task_context(request: HttpRequest, user: User, task: Task) -> dict[str, Any]:
    items = SeriesResult.objects.filter(task=task)
    disclosure = get_disclosure(user, task.job)
    if disclosure.identified and task.lane != Lane.SEARCH:
        record_view(user, task.job, disclosure)
    sees_identified = disclosure.identified
    counts = progress.count_images(items)
    task.delivered_counts = counts.at_end
    return {
        "task": task,
        "job": task.job,
        "name": _task_name(task),
        "asks": task.lane == Lane.SEARCH,
        "lines": format_line_numbers(_sheet_lines(task)) if task.lane == Lane.SEARCH else "",
        "about": get_task_labels(task, disclosure),
        "sees_identified": sees_identified,
        "counts": counts,
        "series": SeriesTable(
            [
                _series_row(item, sees_identified)
                for item in items.select_related("task__job__project")
            ],
            request,
            per_page=None,
        ),
        "is_live": task.state in states.LIVE_TASKS,
        "is_running": task.state == TaskState.IN_PROGRESS,
        "allowed": actions.allowed(user, task),
        **_patient_decision_context(user, task),
        "is_staff": user.is_staff or has_right(user, Right.MANAGE_NODES),
    }


def _task_name(task: Task) -> str:
    """The display name of this part of the job."""
    words = _("Study %(n)d")
    if task.lane == Lane.SEARCH:
        is_query = task.job.capabilities.has_result_table
        words = _("Query %(n)d") if is_query else _("Check, part %(n)d")
    return words % {"n": task.position}


def _sheet_lines(task: Task) -> list[int]:
    """The lines of the sheet that the task processes, without those passed on to another task."""
    return list(task.lines.order_by("line").values_list("line", flat=True).distinct())


def _series_row(item: SeriesResult, sees_identified: bool) -> SeriesRow:
    try:
        content = encrypted_payload.open_series(item)
    except DecryptionError:
        return SeriesRow(item)
    return SeriesRow(
        item, content.description if sees_identified else "", content.reason_without_list
    )
