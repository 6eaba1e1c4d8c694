"""Pages of the results of a batch query: view, pick, download, and start a batch transfer."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
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
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import has_right, order_right
from adit.audit import trail
from adit.jobs import encrypted_payload
from adit.jobs.disclosure import Disclosure, get_disclosure
from adit.jobs.models import Job
from adit.jobs.views.access import current_user, get_visible_job, record_view
from adit.orders import drafts, uploads
from adit.results import query_results
from adit.results.query_results import PickRule, QueryResult, QueryResultAccess, QueryRowOutcome
from adit.results.sheet_summary import summarize_query
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.table import make_table
from adit.spreadsheets.writer import add_own_columns
from adit.table_files import make_table_response
from adit.vault.cipher import DecryptionError

ROWS_PER_PAGE = 50
ROW_FILTERS = (*QueryRowOutcome, "note")
TRANSFER = "batch_transfer"


@dataclass
class QueryResultsPage:
    """The results of a query in one request. The user's picks are stored in a draft."""

    request: HttpRequest
    user: User
    job: Job

    @classmethod
    def from_request(cls, request: HttpRequest, pk: int) -> "QueryResultsPage":
        """Return the page of a batch query; raise Http404 for other jobs."""
        user = current_user(request)
        job = get_visible_job(user, pk)
        if not job.capabilities.has_result_table:
            raise Http404
        return cls(request, user, job)

    @property
    def key(self) -> str:
        return f"results.{self.job.pk}"

    @cached_property
    def saved_state(self) -> dict[str, Any]:
        """Return the draft.

        `picks` has the primary keys of the picked lines; None means all results. `text` is the
        search text.
        """
        return drafts.load_draft(self.user, self.key) or {"picks": None, "text": ""}

    def save_state(self, **values: Any) -> None:
        self.saved_state = {**self.saved_state, **values}
        drafts.save_draft(self.user, self.key, self.saved_state)

    @cached_property
    def access(self) -> QueryResultAccess:
        sees = self.disclosure
        return QueryResultAccess(identified=sees.identified, own=sees.rows, pseudonyms=sees.given)

    @cached_property
    def disclosure(self) -> Disclosure:
        return get_disclosure(self.user, self.job)

    @cached_property
    def all_results(self) -> list[QueryResult]:
        """Return all results; empty if the key of the project is destroyed."""
        return self._open_results(query_results.result_lines(self.job))

    def _open_results(self, rows: Any) -> list[QueryResult]:
        try:
            opened = query_results.open_results(
                encrypted_payload.get_cipher(self.job.project), rows
            )
        except DecryptionError:
            return []
        return opened if self.access.own else [query_results.mask_invalid(one) for one in opened]

    def view(self) -> tuple[str, str]:
        """Return the sort order and the filter. Neither contains patient data."""
        asked = self.request.POST if self.request.method == "POST" else self.request.GET
        sort, show = asked.get("sort", ""), asked.get("show", "")
        is_known = sort.removeprefix("-") in query_results.SORTS and self.access.identified
        return sort if is_known else "", show if show in ROW_FILTERS else ""

    def page(self, number: str | None) -> tuple[Any, list[QueryResult]]:
        """Return the page and its results.

        Without a sort order or a search text, only the results of this page are decrypted.
        """
        sort, show = self.view()
        rows = query_results.filter_by_outcome(query_results.result_lines(self.job), show)
        if not sort and not self.saved_state["text"]:
            stored = Paginator(rows, ROWS_PER_PAGE).get_page(number)
            return stored, self._open_results(stored)
        box = encrypted_payload.get_cipher(self.job.project)
        try:
            pks = query_results.sort_and_search(
                box, rows, sort, self.saved_state["text"], self.access
            )
        except DecryptionError:
            pks = []
        page = Paginator(pks, ROWS_PER_PAGE).get_page(number)
        by_pk = {
            r.pk: r
            for r in self._open_results(query_results.result_lines(self.job).filter(pk__in=page))
        }
        return page, [by_pk[pk] for pk in page if pk in by_pk]

    def redirect(self, number: str = "1") -> HttpResponse:
        sort, show = self.view()
        said = {"sort": sort, "show": show, "page": number if number.isdecimal() else "1"}
        query = urlencode({name: word for name, word in said.items() if word})
        address = reverse("job_results", args=[self.job.pk])
        return HttpResponseRedirect(f"{address}?{query}#results")

    def is_picked(self, result: QueryResult) -> bool:
        picks = self.saved_state["picks"]
        return bool(result.values) and (picks is None or result.pk in set(picks))


@require_http_methods(["GET", "HEAD", "POST"])
def results_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the results. Each button also saves the checkboxes of the page."""
    query_page = QueryResultsPage.from_request(request, pk)
    if request.method != "POST":
        return _render_results(query_page)
    _save_ticks(query_page)
    verb, _colon, what = request.POST.get("do", "").partition(":")
    if verb == "transfer":
        return _start_batch_transfer(query_page)
    if verb == "rule":
        _apply_pick_rule(query_page)
    elif verb in ("all", "none"):
        query_page.save_state(picks=None if verb == "all" else [])
    elif verb == "look":
        query_page.save_state(text=request.POST.get("text", "").strip()[:100])
    return query_page.redirect(what)


@require_safe
def results_file(request: HttpRequest, pk: int, form: str) -> HttpResponseBase:
    """Download all rows.

    With ?picked, only the picked results and the rows without a result. With ?again, only the rows
    without a result, as they were in the sheet.
    """
    query_page = QueryResultsPage.from_request(request, pk)
    picks = query_page.saved_state["picks"] if "picked" in request.GET else None
    only = None if picks is None else frozenset(picks)
    columns = query_results.export_columns()
    rows = query_results.export_rows(
        query_page.job, query_page.all_results, query_page.access, only
    )
    if "again" in request.GET:
        if not query_page.access.own:
            raise PermissionDenied(_("You do not have the permission to see the uploaded rows."))
        columns = query_results.unanswered_columns()
        rows = query_results.unanswered_rows(
            query_page.job, query_page.all_results, query_page.access
        )
    columns = add_own_columns(columns, query_results.own_headers(query_page.job))
    trail.record(
        "job.results_downloaded",
        user=query_page.user,
        about=f"job:{query_page.job.pk}",
        details={
            "rows": len(query_page.all_results),
            "identified": query_page.access.identified,
            "form": form,
        },
    )
    totals = query_results.summarize_outcomes(query_page.job, query_page.all_results)
    summary = summarize_query(query_page.job, totals)
    return make_table_response(form, f"adit-query-{pk}", columns, rows, summary)


def _render_results(query_page: QueryResultsPage) -> HttpResponse:
    page, results = query_page.page(query_page.request.GET.get("page"))
    sort, show = query_page.view()
    counts = query_results.count_outcomes(query_page.job)
    picks = query_page.saved_state["picks"]
    found = query_results.result_lines(query_page.job).filter(is_found=True)
    if query_page.access.own and results:
        record_view(query_page.user, query_page.job, query_page.disclosure)
    context = {
        "job": query_page.job,
        "page": page,
        "rows": [
            {
                "result": result,
                "reason": query_results.describe_notes(result),
                "is_picked": query_page.is_picked(result),
                "user_cells": result.user_cells
                if query_page.access.own
                else ("•••",) * len(result.user_cells),
            }
            for result in results
        ],
        "sorts": _SORTS,
        "own_headers": query_results.own_headers(query_page.job),
        "has_series": any(result.text("SeriesInstanceUID") for result in results),
        "has_sources": query_page.job.tasks.order_by().values("source").distinct().count() > 1,
        "sort": sort,
        "show": show,
        "text": query_page.saved_state["text"],
        "filters": _filter_links(counts, found.count(), query_page),
        "picked": found.count() if picks is None else found.filter(pk__in=picks).count(),
        "all_picked": picks is None,
        "found": found.count(),
        "sees_identified": query_page.access.identified,
        "sees_own": query_page.access.own,
        "sees_pseudonyms": query_page.access.pseudonyms,
        "without_result": sum(
            counts[outcome]
            for outcome in (
                QueryRowOutcome.NOTHING,
                QueryRowOutcome.FAILED,
                QueryRowOutcome.INVALID,
            )
        ),
        "may_transfer": query_page.access.identified
        and bool(_transfer_url("x"))
        and has_right(query_page.user, order_right(TRANSFER)),
        "is_gone": not results and bool(page.paginator.count),
        "is_live": bool(counts[QueryRowOutcome.OPEN]) and query_page.job.ended_at is None,
    }
    return render(query_page.request, "results/results.html", context)


_SORTS = (
    ("patient", _lazy("Patient ID")),
    ("name", _lazy("Patient name")),
    ("born", _lazy("Birth date")),
    ("date", _lazy("Study date")),
    ("modality", _lazy("Modality")),
    ("description", _lazy("Study description")),
    ("images", _lazy("Images")),
)


def _filter_links(
    counts: dict[QueryRowOutcome, int], found: int, query_page: QueryResultsPage
) -> list[tuple[str, str, int]]:
    noted = query_results.filter_by_outcome(query_results.result_lines(query_page.job), "note")
    rows = [
        ("", _("All rows"), sum(counts.values())),
        (QueryRowOutcome.FOUND, _("Found"), counts[QueryRowOutcome.FOUND]),
        (QueryRowOutcome.NOTHING, _("Not found"), counts[QueryRowOutcome.NOTHING]),
        (QueryRowOutcome.FAILED, _("Failed"), counts[QueryRowOutcome.FAILED]),
        (QueryRowOutcome.OPEN, _("Not queried yet"), counts[QueryRowOutcome.OPEN]),
        (QueryRowOutcome.INVALID, _("Errors"), counts[QueryRowOutcome.INVALID]),
        (QueryRowOutcome.EXCLUDED, _("Excluded"), counts[QueryRowOutcome.EXCLUDED]),
        ("note", _("Warnings"), noted.values("line").distinct().count()),
    ]
    return [row for row in rows if row[2] or not row[0]]


def _save_ticks(query_page: QueryResultsPage) -> None:
    """Save the checkboxes of the lines that were shown."""
    posted = query_page.request.POST
    shown = {int(text) for text in posted.getlist("shown") if text.isdecimal()}
    ticked = {int(text) for text in posted.getlist("pick") if text.isdecimal()} & shown
    if not shown - ticked and query_page.saved_state["picks"] is None:
        return
    if query_page.saved_state["picks"] is None:
        found = query_results.result_lines(query_page.job).filter(is_found=True)
        picks = set(found.values_list("pk", flat=True))
    else:
        picks = set(query_page.saved_state["picks"])
    query_page.save_state(picks=sorted((picks - shown) | ticked))


def _apply_pick_rule(query_page: QueryResultsPage) -> None:
    """Select results by a rule.

    Users who see no dates cannot limit the number: what is newest, or nearest to a day, would tell
    the date.
    """
    posted = query_page.request.POST
    most = posted.get("most", "")
    if most and not query_page.access.identified:
        raise PermissionDenied(
            _("You cannot select by date: you do not have the permission to see identified data.")
        )
    words = posted.get("modalities", "").upper().replace(",", " ").split()
    rule = PickRule(
        limit=int(most) if most.isascii() and most.isdecimal() and 0 < int(most) < 1000 else None,
        near=_parse_date(posted.get("near", "")) if posted.get("order") == "near" else None,
        modalities=tuple(words),
    )
    picks = query_results.pick_results(query_page.all_results, rule)
    query_page.save_state(picks=picks)
    messages.success(query_page.request, _("%(n)d results selected.") % {"n": len(picks)})


def _parse_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _start_batch_transfer(query_page: QueryResultsPage) -> HttpResponse:
    """Start a batch transfer with the picked results, as if their file was uploaded."""
    address = _transfer_url("")
    if not has_right(query_page.user, order_right(TRANSFER)) or not address:
        raise PermissionDenied(_("You do not have the permission to order batch transfers."))
    if not query_page.access.identified:
        raise PermissionDenied(
            _(
                "The list would show patient data, which you do not have the permission to see. "
                "Ask a colleague with this permission to order the transfer."
            )
        )
    picks = query_page.saved_state["picks"]
    chosen = [
        r for r in query_page.all_results if r.values and (picks is None or r.pk in set(picks))
    ]
    if not chosen:
        messages.error(query_page.request, _("Select at least one result."))
        return query_page.redirect()
    sees_both = query_page.access.own and query_page.access.pseudonyms
    if not sees_both and any(result.pseudonym for result in chosen):
        raise PermissionDenied(
            _(
                "This list contains pseudonyms, which you are not allowed to see together with the "
                "patients. Ask the owner of the job to order the transfer."
            )
        )
    columns = add_own_columns(
        query_results.export_columns(), query_results.own_headers(query_page.job)
    )
    rows = query_results.export_rows(query_page.job, chosen, query_page.access)
    name = _("Results of job %(n)d") % {"n": query_page.job.pk}
    table = make_table(name, columns, rows)
    upload = uploads.store_table(query_page.user, table, SheetKind.TRANSFER, job=query_page.job.pk)
    return HttpResponseRedirect(_transfer_url(upload.key))


def _transfer_url(key: str) -> str:
    try:
        return reverse("job_transfer_rows", args=[key or "x"])
    except NoReverseMatch:
        return ""
