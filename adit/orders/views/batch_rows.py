"""Views of the rows of a batch transfer: check results, start, and the result of each row."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from adit.accounts.models import User
from adit.audit import trail
from adit.jobs import estimates, states
from adit.jobs.disclosure import Disclosure, get_disclosure, shows_pseudonyms
from adit.jobs.estimates import describe_start
from adit.jobs.models import Job, JobStage, JobState, TaskType
from adit.jobs.views.access import (
    current_user,
    get_visible_job,
    record_view,
    require_may_act,
)
from adit.jobs.visibility import may_act_on
from adit.nodes import destination_folders
from adit.nodes.models import Node
from adit.orders import batch_start, service
from adit.orders.batch_start import StartOptions
from adit.orders.summary import format_estimated_size
from adit.orders.tables import RowResultTable
from adit.results import storage_quota, transfer_results
from adit.results.check_summary import CheckSummary, summarize_check
from adit.results.sheet_summary import RowCounter, summarize_transfer
from adit.results.transfer_results import as_disclosed, get_row_results, transfer_lines
from adit.spreadsheets.writer import RESULT_OUTCOME
from adit.table_files import make_table_response
from adit_engine.errors import AditError, InvalidInput

ROWS_PER_PAGE = 100
MAX_CHOICES = 200
LIVE_JOB_STATES = frozenset({JobState.PENDING, JobState.IN_PROGRESS, JobState.CANCELING})


@require_safe
def transfer_rows(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    job = _get_batch_transfer(user, pk)
    return _render_rows(request, user, job)


@require_POST
def transfer_start(request: HttpRequest, pk: int) -> HttpResponse:
    """Start the transfer after the check, or continue it after the pilot."""
    user = current_user(request)
    job = _get_batch_transfer(user, pk)
    require_may_act(user, job)
    try:
        wishes = _read_options(request)
        batch_start.request_start(user, job, wishes)
    except AditError as error:
        return _render_rows(request, user, job, str(error))
    messages.success(request, _("The transfer is being prepared and starts automatically."))
    return HttpResponseRedirect(reverse("job", args=[pk]))


@require_safe
def transfer_result(request: HttpRequest, pk: int, form: str) -> HttpResponseBase:
    """Download the result sheet: each uploaded row and its result."""
    user = current_user(request)
    job = _get_batch_transfer(user, pk)
    disclosure = get_disclosure(user, job)
    _record_download(user, job, disclosure)
    columns = transfer_results.result_columns(job, disclosure)
    counter = RowCounter(columns.index(RESULT_OUTCOME))
    rows = counter.count(transfer_results.result_rows(job, disclosure))
    summary = summarize_transfer(job, counter)
    return make_table_response(form, f"job-{job.pk}-result", columns, rows, summary)


@require_safe
def transfer_failed_rows(request: HttpRequest, pk: int, form: str) -> HttpResponseBase:
    """Download the failed rows as a sheet that can be corrected and uploaded again."""
    user = current_user(request)
    job = _get_batch_transfer(user, pk)
    disclosure = get_disclosure(user, job)
    if not disclosure.rows:
        raise PermissionDenied(_("You do not have the permission to see the uploaded rows."))
    _record_download(user, job, disclosure)
    rows = transfer_results.failed_rows(job, disclosure)
    return make_table_response(
        form, f"job-{job.pk}-rows-again", transfer_results.failed_columns(job), rows
    )


def _record_download(user: User, job: Job, disclosure: Disclosure) -> None:
    details = {"patients": disclosure.rows, "pseudonyms": shows_pseudonyms(job, disclosure)}
    trail.record("job.result_downloaded", user=user, about=f"job:{job.pk}", details=details)


def _get_batch_transfer(user: User, pk: int) -> Job:
    job = get_visible_job(user, pk)
    if not job.capabilities.has_transfer_rows:
        raise Http404
    return job


def _render_rows(request: HttpRequest, user: User, job: Job, problem: str = "") -> HttpResponse:
    disclosure = get_disclosure(user, job)
    sees = disclosure.rows
    show = request.GET.get("show", "")
    rows = _filter_rows(job, show)
    page = Paginator(rows, ROWS_PER_PAGE).get_page(request.GET.get("page"))
    answers = [as_disclosed(job, answer, disclosure) for answer in get_row_results(job, list(page))]
    if sees:
        record_view(user, job, disclosure)
    check_summary = summarize_check(job)
    typed = request.POST if problem else _failed_start_input(job)
    start = job.tasks.filter(type=TaskType.START, state__in=states.LIVE_TASKS).first()
    waits = job.state == JobState.WAITING_FOR_OWNER
    context = {
        "job": job,
        "table": RowResultTable(answers, request, job, shows_own=sees),
        "page": page,
        "show": show if show in ROW_FILTERS else "",
        "check_summary": check_summary,
        "sees": sees,
        "is_live": job.state in LIVE_JOB_STATES,
        "is_check": job.stage == JobStage.CHECK,
        "may_start": waits and may_act_on(user, job),
        "hides_pseudonyms": any(answer.is_hidden for answer in answers),
        "trouble": problem,
        "start": start,
        "typed": typed,
        **_storage_context(job, check_summary),
        **(_start_context(job, check_summary, sees, typed) if waits else {}),
    }
    return render(request, "orders/transfer_rows.html", context, status=422 if problem else 200)


def _start_context(
    job: Job, check_summary: CheckSummary, access: bool, form_data: Mapping[str, str]
) -> dict[str, Any]:
    """The context that is needed before the start."""
    sources = _sources_in_order(job)
    source = sources[0] if sources else None
    nodes = [node for node in (*sources, job.destination) if node is not None]
    end = None
    if source is not None and job.destination is not None:
        end = estimates.estimate_transfer_end(
            source,
            job.destination,
            check_summary.size_bytes,
            check_summary.studies,
            urgent=job.urgent,
        )
    several = (
        transfer_lines(job).filter(line__in=check_summary.several_lines[:MAX_CHOICES])
        if access
        else []
    )
    return {
        "sources": sources,
        "size": format_estimated_size(check_summary.size_bytes),
        "when": describe_start(
            nodes, is_urgent=job.urgent, owner=job.owner_id, studies=check_summary.studies
        ),
        "finish": end,
        "choices": [
            (answer, form_data.get(f"choice-{answer.line}", ""))
            for answer in get_row_results(job, list(several))
        ],
        "more_choices": max(0, check_summary.several - MAX_CHOICES),
        "needs_approval": job.approved_by_id is None
        and service.needs_approval(
            job.owner, check_summary.studies + check_summary.several, job.kind, job.project
        ),
    }


def _sources_in_order(job: Job) -> list[Node]:
    """The sources, in the order in which they are queried."""
    chosen = [job.order["source"], *job.order.get("further", [])]
    nodes = Node.objects.in_bulk(chosen)
    return [nodes[pk] for pk in chosen if pk in nodes]


def _storage_context(job: Job, check_summary: CheckSummary) -> dict[str, Any]:
    """Whether the destination has enough space, as long as the job has not been started."""
    if job.state not in states.UNSTARTED_JOBS or job.destination is None:
        return {}
    return {
        "no_room": storage_quota.explain_no_space(job.destination, check_summary.size_bytes),
        "is_measured": destination_folders.can_measure_space(job.destination),
    }


def _failed_start_input(job: Job) -> dict[str, str]:
    """The input of a failed start."""
    wishes = batch_start.failed_start_options(job)
    if wishes is None:
        return {}
    return {
        "leave_out": _format_lines(wishes.left_out),
        "pilot": str(wishes.pilot or ""),
        **{f"choice-{line}": str(which) for line, which in wishes.choices.items()},
    }


ROW_FILTERS = ("found", "open")


def _filter_rows(job: Job, show: str) -> Any:
    """All rows, those found for certain, or those not found or not for certain."""
    rows = transfer_lines(job)
    if show == "found":
        return rows.filter(is_found=True, notes=[])
    if show == "open":
        return rows.exclude(is_found=True, notes=[])
    return rows


def _read_options(request: HttpRequest) -> StartOptions:
    """The options of the start. Raises InvalidInput."""
    choices: dict[int, int] = {}
    for name in request.POST:
        line, value = re.fullmatch(r"choice-(\d{1,6})", name), request.POST.get(name, "")
        if line and re.fullmatch(r"\d{1,3}", value):
            choices[int(line[1])] = int(value)
    pilot = request.POST.get("pilot", "").strip()
    if pilot and not re.fullmatch(r"\d{1,5}", pilot):
        raise InvalidInput("start.invalid-pilot")
    left_out = _parse_lines(request.POST.get("leave_out", ""))
    return StartOptions(choices, left_out, int(pilot or 0))


def _parse_lines(text: str) -> frozenset[int]:
    """Parse lines such as `3, 7-12`, the form used in messages. Raises InvalidInput."""
    lines: set[int] = set()
    for part in re.split(r"[,;\s]+", text.strip()):
        found = re.fullmatch(r"(\d{1,6})(?:[-–](\d{1,6}))?", part)
        if part and not found:
            raise InvalidInput("start.invalid-lines")
        if found:
            lines |= set(range(int(found[1]), min(int(found[2] or found[1]), 20_000) + 1))
    return frozenset(lines)


def _format_lines(lines: Collection[int]) -> str:
    """Format lines as _parse_lines() reads them."""
    spans: list[list[int]] = []
    for line in sorted(lines):
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in spans)
