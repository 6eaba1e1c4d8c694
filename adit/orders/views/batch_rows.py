"""Rows of a batch transfer: what the check found, the start, and what became of each row."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from django.contrib import messages
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
from adit.jobs.disclosure import disclosed
from adit.jobs.estimates import when
from adit.jobs.kinds.batch_transfer import BatchTransfer
from adit.jobs.models import Job, JobState, Stage, Work
from adit.jobs.views.access import note_look, person, visible_job
from adit.jobs.visibility import may_act_on
from adit.nodes import destination_folders
from adit.nodes.models import Node
from adit.orders import batch_start, permissions, service
from adit.orders.batch_start import Wishes
from adit.orders.summary import size_in_words
from adit.projects import services
from adit.results import storage_quota, transfer_results
from adit.results.check_summary import Tally, tally_of
from adit.results.transfer_results import answers_of, as_disclosed, rows_of
from adit.spreadsheets.writer import make_sheet_response
from adit_engine.errors import AditError, InvalidInput

ROWS_PER_PAGE = 100
MOST_CHOICES = 200
MOST_REASON = 200
MOVING = frozenset({JobState.PENDING, JobState.IN_PROGRESS, JobState.CANCELING})


@require_safe
def transfer_rows(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    job = _visible(user, pk)
    return _page(request, user, job)


@require_POST
def transfer_start(request: HttpRequest, pk: int) -> HttpResponse:
    """Starts after the check, or goes on after the pilot."""
    user = person(request)
    job = _visible(user, pk)
    try:
        wishes = _wishes(request)
        batch_start.start(user, job, wishes)
    except AditError as error:
        return _page(request, user, job, str(error))
    messages.success(request, _("The transfer is being prepared: it starts by itself."))
    return HttpResponseRedirect(reverse("job", args=[pk]))


@require_safe
def transfer_result(request: HttpRequest, pk: int, form: str) -> HttpResponseBase:
    """The result sheet: each row as uploaded, and what became of it. Given pseudonyms alone."""
    user = person(request)
    job = _visible(user, pk)
    disclosure = disclosed(user, job)
    if disclosure.rows:
        # Beside the rows, those that ADIT made need a reason: see `transfer_names`.
        disclosure = replace(disclosure, generated=False)
    trail.record("job.result_downloaded", user=user, about=f"job:{job.pk}")
    columns = transfer_results.columns_of(job, disclosure)
    rows = transfer_results.rows(job, disclosure)
    return make_sheet_response(form, f"job-{job.pk}-result", columns, rows)


@require_POST
def transfer_names(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The result sheet with the pseudonyms that ADIT has made: a right, a reason, a record."""
    user = person(request)
    job = _visible(user, pk)
    reason = request.POST.get("reason", "").strip()[:MOST_REASON]
    try:
        services.require_link(user, job.project or services.default_project())
        if not reason:
            raise InvalidInput(_("Say why you need the pseudonyms beside the patients."))
    except AditError as error:
        return _page(request, user, job, str(error))
    details = {"reason": reason}
    trail.record("job.names_downloaded", user=user, about=f"job:{job.pk}", details=details)
    disclosure = disclosed(user, job)
    columns = transfer_results.columns_of(job, disclosure, names=True)
    rows = transfer_results.rows(job, disclosure, names=True)
    return make_sheet_response("xlsx", f"job-{job.pk}-pseudonyms", columns, rows)


@require_safe
def transfer_again(request: HttpRequest, pk: int, form: str) -> HttpResponseBase:
    """The rows that failed, as a sheet to be corrected and uploaded again."""
    user = person(request)
    job = _visible(user, pk)
    disclosure = disclosed(user, job)
    if not disclosure.rows:
        raise Http404
    trail.record("job.result_downloaded", user=user, about=f"job:{job.pk}")
    rows = transfer_results.rows_again(job, disclosure)
    return make_sheet_response(
        form, f"job-{job.pk}-rows-again", transfer_results.columns_again(job), rows
    )


def _visible(user: User, pk: int) -> Job:
    job = visible_job(user, pk)
    if job.kind != BatchTransfer.word:
        raise Http404
    return job


def _page(request: HttpRequest, user: User, job: Job, trouble: str = "") -> HttpResponse:
    disclosure = disclosed(user, job)
    sees = disclosure.rows
    show = request.GET.get("show", "")
    rows = _filtered(job, show)
    page = Paginator(rows, ROWS_PER_PAGE).get_page(request.GET.get("page"))
    answers = [as_disclosed(job, answer, disclosure) for answer in answers_of(job, list(page))]
    if sees:
        note_look(user, job, {"rows": True})
    tally = tally_of(job)
    typed = request.POST if trouble else _typed_before(job)
    start = job.tasks.filter(work=Work.START, state__in=states.LIVE_TASKS).first()
    waits = job.state == JobState.WAITING_FOR_OWNER
    context = {
        "job": job,
        "answers": answers,
        "page": page,
        "query": f"show={show}&" if show in SHOWN else "",
        "show": show if show in SHOWN else "",
        "tally": tally,
        "sees": sees,
        "is_live": job.state in MOVING,
        "is_check": job.stage == Stage.CHECK,
        "may_start": waits and may_act_on(user, job),
        "may_reidentify": services.may_link(user, job.project or services.default_project()),
        "hides_pseudonyms": any(answer.is_hidden for answer in answers),
        "trouble": trouble,
        "start": start,
        "typed": typed,
        **_room(job, tally),
        **(_before(job, tally, sees, typed) if waits else {}),
    }
    return render(request, "orders/transfer_rows.html", context, status=422 if trouble else 200)


def _before(job: Job, tally: Tally, sees: bool, typed: Mapping[str, str]) -> dict[str, Any]:
    """What is to be known before the start."""
    sources = _sources(job)
    source = sources[0] if sources else None
    nodes = [node for node in (*sources, job.destination) if node is not None]
    end = None
    if source is not None and job.destination is not None:
        end = estimates.finish(
            source, job.destination, tally.size_bytes, tally.ready, urgent=job.urgent
        )
    several = rows_of(job).filter(line__in=tally.several_lines[:MOST_CHOICES]) if sees else []
    return {
        "sources": sources,
        "size": size_in_words(tally.size_bytes),
        "when": when(nodes, is_urgent=job.urgent, owner=job.owner_id, studies=tally.ready),
        "finish": end,
        "choices": [
            (answer, typed.get(f"choice-{answer.line}", ""))
            for answer in answers_of(job, list(several))
        ],
        "more_choices": max(0, tally.several - MOST_CHOICES),
        "needs_approval": job.approved_by_id is None
        and service.needs_approval(job.owner, tally.ready + tally.several, job.kind, job.project),
    }


def _sources(job: Job) -> list[Node]:
    """In the order in which they are asked."""
    chosen = [job.order["source"], *job.order.get("further", [])]
    nodes = Node.objects.in_bulk(chosen)
    return [nodes[pk] for pk in chosen if pk in nodes]


def _room(job: Job, tally: Tally) -> dict[str, Any]:
    """Whether it fits where it shall go, as long as somebody can still say no."""
    if job.state not in permissions.UNSTARTED or job.destination is None:
        return {}
    return {
        "no_room": storage_quota.why_no_room(job.destination, tally.size_bytes),
        "is_measured": destination_folders.can_measure_space(job.destination),
    }


def _typed_before(job: Job) -> dict[str, str]:
    """What was typed for a start that came to nothing."""
    wishes = batch_start.last_wishes(job)
    if wishes is None:
        return {}
    return {
        "leave_out": _spans(wishes.left_out),
        "pilot": str(wishes.pilot or ""),
        **{f"choice-{line}": str(which) for line, which in wishes.choices.items()},
    }


SHOWN = ("found", "open")


def _filtered(job: Job, show: str) -> Any:
    """All rows, those that were found, or those that were not, or not for certain."""
    rows = rows_of(job)
    if show == "found":
        return rows.filter(is_found=True, notes=[])
    if show == "open":
        return rows.exclude(is_found=True, notes=[])
    return rows


def _wishes(request: HttpRequest) -> Wishes:
    """Raises WrongInput."""
    choices: dict[int, int] = {}
    for name in request.POST:
        line, value = re.fullmatch(r"choice-(\d{1,6})", name), request.POST.get(name, "")
        if line and re.fullmatch(r"\d{1,3}", value):
            choices[int(line[1])] = int(value)
    pilot = request.POST.get("pilot", "").strip()
    if pilot and not re.fullmatch(r"\d{1,5}", pilot):
        raise InvalidInput(_("Pilot: write a number of studies, or leave it empty."))
    left_out = _lines(request.POST.get("leave_out", ""))
    return Wishes(choices, left_out, int(pilot or 0))


def _lines(text: str) -> frozenset[int]:
    """From `3, 7-12` as messages name lines. Raises WrongInput."""
    lines: set[int] = set()
    for part in re.split(r"[,;\s]+", text.strip()):
        found = re.fullmatch(r"(\d{1,6})(?:[-–](\d{1,6}))?", part)
        if part and not found:
            raise InvalidInput(_("Lines to leave out: write them like 3, 7-12."))
        if found:
            lines |= set(range(int(found[1]), min(int(found[2] or found[1]), 20_000) + 1))
    return frozenset(lines)


def _spans(lines: Collection[int]) -> str:
    """As `_lines` reads them."""
    spans: list[list[int]] = []
    for line in sorted(lines):
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in spans)
