"""Views of the job list, of one job with its progress, and of the actions on it."""

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right, order_right
from adit.jobs import actions, progress, states, task_groups, visibility
from adit.jobs.disclosure import get_disclosure
from adit.jobs.estimates import estimate_job
from adit.jobs.filters import JobFilter
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskType
from adit.jobs.tables import JobTable, SearchTaskTable, StudyTable
from adit.jobs.views.access import (
    current_user,
    get_visible_job,
    record_view,
    require_may_act,
)
from adit.jobs.views.approval import get_approval_facts
from adit.jobs.views.task_labels import kind_label
from adit.jobs.views.timeline import get_timeline
from adit.results import archives
from adit.results.archives import make_file_rows
from adit.results.tables import ArchiveTable
from adit_engine.errors import AditError
from adit_engine.messages import Message

LIVE_JOB_STATES = frozenset({JobState.PENDING, JobState.IN_PROGRESS, JobState.CANCELING})
"""States that change without user action; pages of such jobs reload automatically."""

JOBS_PER_PAGE = 25


@require_safe
def job_list(request: HttpRequest) -> HttpResponse:
    user = current_user(request)
    jobs = visibility.visible_jobs(user).select_related("owner", "project", "destination")
    found = JobFilter(request.GET, queryset=jobs, request=request)
    sees_all = has_right(user, Right.SEE_ALL_JOBS)
    table = JobTable(
        found.qs, request, per_page=JOBS_PER_PAGE, exclude=() if sees_all else ("owner",)
    )
    context = {
        "filter": found,
        "table": table,
        "is_filtered": any(request.GET.get(name) for name in found.filters),
        "is_live": any(job.state in LIVE_JOB_STATES for job in table.records),
        "sees_all": sees_all,
        "may_order": has_right(user, order_right("selective")),
    }
    return render(request, "jobs/job_list.html", context)


@require_safe
def job_page(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    job = get_visible_job(user, pk)
    return render(request, "jobs/job.html", _job_context(request, user, job))


@require_safe
def job_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of the job page that is reloaded while the job is active."""
    user = current_user(request)
    job = get_visible_job(user, pk)
    return render(request, "jobs/_job_live.html", _job_context(request, user, job))


@require_POST
def job_action(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Perform an action on a job, such as cancel, resume or retry."""
    user = current_user(request)
    job = get_visible_job(user, pk)
    action = actions.job_actions().get(verb)
    if action is None or action.has_page:
        raise Http404
    is_closed = action.needs_password and archives.lacks_password(job)
    if is_closed and verb in actions.allowed(user, job):
        return HttpResponseRedirect(reverse("job_password", args=[pk, verb]))
    reason = request.POST.get("reason", "").strip()[: actions.MAX_REASON_LENGTH]
    try:
        actions.perform(user, job, verb, reason)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, str(action.success_message))
    return HttpResponseRedirect(reverse("job", args=[pk]))


@require_http_methods(["GET", "HEAD", "POST"])
def job_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a job after confirmation; its timeline is no longer available then."""
    user = current_user(request)
    job = get_visible_job(user, pk)
    require_may_act(user, job)
    if request.method != "POST":
        return render(request, "jobs/job_delete.html", {"job": job})
    try:
        actions.perform(user, job, "delete")
    except AditError as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(reverse("job", args=[pk]))
    messages.success(request, str(actions.get(job, "delete").success_message) % {"number": pk})
    return HttpResponseRedirect(reverse("jobs"))


def _job_context(request: HttpRequest, user: User, job: Job) -> dict[str, Any]:
    items = SeriesResult.objects.filter(task__job=job)
    far = progress.get_progress(job)
    tasks = _listed_tasks(job, far.asks)
    table: SearchTaskTable | StudyTable
    if far.asks:
        table = SearchTaskTable(tasks, request)
    else:
        disclosure = get_disclosure(user, job)
        table = StudyTable(tasks, request, disclosure)
        if disclosure.identified and table.records:
            record_view(user, job, disclosure)
    job.delivered_counts = far.counts.at_end
    allowed = actions.allowed(user, job)
    return {
        "job": job,
        "kind": kind_label(job),
        "state_label": job.state_text_for(user),
        "owner_name": job.owner.get_full_name() or job.owner.get_username(),
        "is_live": job.state in LIVE_JOB_STATES,
        "is_running": job.state in (JobState.IN_PROGRESS, JobState.CANCELING),
        "progress": far,
        "counts": far.counts,
        "reasons": progress.count_reasons(items),
        "left_out": progress.count_left_out(items),
        "waits": _wait_reasons(job),
        "estimate": estimate_job(job),
        "table": table,
        "allowed": {name: each for name, each in allowed.items() if name != "approve"},
        "approval": get_approval_facts(user, job) if "approve" in allowed else None,
        "approve": {name: each for name, each in allowed.items() if name == "approve"},
        "start": job.tasks.filter(type=TaskType.START, state__in=states.LIVE_TASKS).first(),
        "packing": job.tasks.filter(type=TaskType.PACK).first(),
        "archives": ArchiveTable(
            make_file_rows(user, job.archives.order_by("round", "pk")),
            request,
            exclude=("job", "built_at"),
            prefix="file-",
        ),
        "recalled": progress.count_recalled(job),
        "timeline": get_timeline(job),
    }


def _listed_tasks(job: Job, asks: bool) -> QuerySet[Task]:
    asked = Task.objects.filter(job=job, type=TaskType.ORDERED)
    tasks = asked if asks else progress.transfer_tasks(job)
    return tasks.select_related("source", "job__project").order_by("position")


def _wait_reasons(job: Job) -> list[Message]:
    """Why pending tasks do not start, without duplicates."""
    return list(dict.fromkeys(task_groups.wait_reasons(job)))[:5]
