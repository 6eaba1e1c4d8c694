"""Sheets: the pages from a dropped file to an order, whatever kind of job it becomes.

File → which column is what, where that is in doubt → a verdict on each row → order. Nothing is
created before the order; what was uploaded lies sealed in a draft, and addresses hold its key alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.rights import Right, may
from adit.jobs import sheet
from adit.jobs.preparing import drafts, passwords, uploads
from adit.jobs.preparing.uploads import Upload
from adit.jobs.sheet import DateOrder, Judged, Verdict
from adit.jobs.views.columns import columns_page
from adit.jobs.views.desk import Desk, gone, upload_at
from adit.jobs.views.door import orders, person
from adit.jobs.views.download import XLSX
from adit.jobs.views.verdicts import SHOWN, rows_shown, shown_row
from adit_engine.errors import AditError

ROWS_PER_PAGE = 100
PASSWORD_FIELDS = (passwords.FIELD, passwords.AGAIN, passwords.KEPT)
"""The entries are kept apart from the rest; the confirmation has to be given with each order."""
NOT_KEPT = ("csrfmiddlewaretoken", "do", "shown", "out", "show", "skip_errors", *PASSWORD_FIELDS)


@dataclass
class Sheet:
    """One request's view of an upload."""

    request: HttpRequest
    desk: Desk
    user: User
    upload: Upload

    @cached_property
    def judged(self) -> Judged[Any]:
        """All rows with their verdicts; those left out by hand say nothing about the others.

        Raises sheet.Unreadable.
        """
        return self.desk.judge(self.user, self.upload)

    @property
    def chosen(self) -> Judged[Any]:
        return self.judged.without(self.upload.left_out)

    def form(self, *, bound: bool) -> Any:
        typed = self.upload.typed
        confirmed = self.request.POST.getlist(passwords.KEPT)
        data = forms_data({**typed, passwords.KEPT: confirmed}) if bound else None
        initial = {name: v if len(v) > 1 else v[0] for name, v in typed.items() if v}
        return self.desk.form(
            data, user=self.user, upload=self.upload, judged=self.chosen, initial=initial
        )

    def take(self) -> None:
        """Keeps what was ticked and typed on the page."""
        posted = self.request.POST
        shown = _numbers(posted.getlist("shown"))
        upload = self.upload.without(shown, _numbers(posted.getlist("out")))
        typed = {name: values for name, values in posted.lists() if name not in NOT_KEPT}
        password = upload.password.with_entries(posted)
        self.upload = replace(upload, typed=typed, password=password)
        self.upload.keep(self.user)

    def again(self, page: str = "1", show: str = "") -> HttpResponse:
        address = self.desk.address("rows", self.upload.key)
        query = f"?page={page}" if page.isdecimal() else "?page=1"
        shown = f"&show={show}" if show in SHOWN else ""
        return HttpResponseRedirect(f"{address}{query}{shown}#rows")

    def page(self, form: Any = None, notice: str = "") -> HttpResponse:
        show = self.request.GET.get("show", "")
        rows = rows_shown(self.judged, self.upload, show)
        page = Paginator(rows, ROWS_PER_PAGE).get_page(self.request.GET.get("page"))
        counts = self.chosen.counts
        context = {
            "desk": self.desk,
            "new_address": reverse(f"job_new_{self.desk.word}"),
            "rows_address": self.desk.address("rows", self.upload.key),
            "upload": self.upload,
            "judged": self.judged,
            "rows": [shown_row(row, self.upload) for row in page],
            "page": page,
            "show": show if show in SHOWN else "",
            "counts": counts,
            "ok": counts[Verdict.OK],
            "warned": counts[Verdict.WARNING],
            "wrong": counts[Verdict.ERROR],
            "ready": len(self.chosen.good),
            "left_out": len(self.judged.rows) - len(self.chosen.rows) + counts[Verdict.LEFT_OUT],
            "form": form or self.form(bound=False),
            "sees_identified": may(self.user, Right.SEE_IDENTIFIED),
            "notice": notice,
        }
        wrong = bool(notice) or form is not None
        return render(self.request, "jobs/sheet_rows.html", context, status=422 if wrong else 200)


def routes(desk: Desk) -> list[URLPattern]:
    """The addresses of one kind of sheet: job_new_<word>, job_<word>_template, …"""

    def view(function: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        def bound(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            return function(request, desk, **kwargs)

        return orders(desk.kind)(bound)

    base = f"new/{desk.word}/"
    return [
        path(base, view(new_sheet), name=f"job_new_{desk.word}"),
        path(f"{base}template.<str:form>", view(template), name=f"job_{desk.word}_template"),
        path(f"{base}<str:key>/columns/", view(columns_page), name=f"job_{desk.word}_columns"),
        path(f"{base}<str:key>/", view(rows_page), name=f"job_{desk.word}_rows"),
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def new_sheet(request: HttpRequest, desk: Desk) -> HttpResponse:
    """Where a file is dropped; a good one leads on, a broken one is refused in words."""
    if request.method != "POST":
        return _upload_page(request, desk)
    file = request.FILES.get("sheet")
    if file is None:
        return _upload_page(request, desk, _why_no_file(request))
    order = DateOrder.MONTH_FIRST if request.POST.get("dates") == "month" else DateOrder.DAY_FIRST
    try:
        upload = uploads.take(person(request), file, file.name or "sheet", desk.sheet, order)
    except AditError as error:
        return _upload_page(request, desk, str(error))
    page = "rows" if upload.mapping.sure else "columns"
    return HttpResponseRedirect(desk.address(page, upload.key))


@require_safe
def template(request: HttpRequest, desk: Desk, form: str) -> HttpResponse:
    """An empty sheet with text columns and two examples."""
    makers = {"xlsx": (sheet.template_xlsx, XLSX), "csv": (sheet.template_csv, "text/csv")}
    if form not in makers:
        raise Http404
    make, content_type = makers[form]
    headers = {"Content-Disposition": f'attachment; filename="adit-{desk.word}.{form}"'}
    return HttpResponse(make(desk.sheet), content_type=content_type, headers=headers)


@require_http_methods(["GET", "HEAD", "POST"])
def rows_page(request: HttpRequest, desk: Desk, key: str) -> HttpResponse:
    """Each row with its verdict, and below them the order. Each button keeps what was ticked."""
    user = person(request)
    upload = upload_at(user, desk, key)
    if upload is None:
        return gone(request, desk, key)
    one = Sheet(request, desk, user, upload)
    if not upload.mapping.sure:
        return HttpResponseRedirect(desk.address("columns", key))
    try:
        if request.method != "POST":
            return one.page()
        one.take()
        verb, _colon, what = request.POST.get("do", "").partition(":")
        if verb == "start":
            return _start(one)
        show = request.POST.get("show", "")
        return one.again(what, show) if verb == "page" else one.again(show=what)
    except sheet.Unreadable as error:
        return _upload_page(request, desk, str(error))


def forms_data(typed: dict[str, list[str]]) -> Any:
    """What was typed, as a form takes it."""
    data = QueryDict(mutable=True)
    for name, values in typed.items():
        data.setlist(name, values)
    return data


def _start(one: Sheet) -> HttpResponse:
    form = one.form(bound=True)
    if not one.chosen.good:
        return one.page(form, _("No row is left that could be ordered."))
    wrong = one.chosen.counts[Verdict.ERROR]
    if wrong and "skip_errors" not in one.request.POST:
        return one.page(
            form,
            ngettext(
                "%(n)d row has an error. Correct it in the file and upload it again, or tick that "
                "it is to be left out.",
                "%(n)d rows have errors. Correct them in the file and upload it again, or tick that "
                "they are to be left out.",
                wrong,
            )
            % {"n": wrong},
        )
    if not form.is_valid():
        return one.page(form)
    try:
        job = one.desk.start(one.user, one.upload, one.chosen, form)
    except AditError as error:
        form.add_error(None, str(error))
        return one.page(form)
    drafts.drop(one.user, one.upload.key)
    messages.success(one.request, _("The job is ordered."))
    return HttpResponseRedirect(reverse("job", args=[job.pk]))


def _upload_page(request: HttpRequest, desk: Desk, trouble: str = "") -> HttpResponse:
    templates = (("xlsx", _("Template for Excel")), ("csv", _("Template as CSV")))
    context = {
        "desk": desk,
        "trouble": trouble,
        "forms": [(desk.address("template", form), word) for form, word in templates],
        "columns": sheet.columns(desk.sheet),
        "examples": sheet.examples(desk.sheet),
        "month_first": request.POST.get("dates") == "month",
    }
    return render(request, "jobs/sheet_new.html", context, status=422 if trouble else 200)


def _why_no_file(request: HttpRequest) -> str:
    """The handler lets nothing through that is too large to be kept in memory."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > sheet.MOST_FILE_BYTES:
        return _("The file has more than %(most)d MB. Split it, or save it as CSV.") % {
            "most": sheet.MOST_FILE_BYTES // 1_000_000
        }
    return _("Choose a file first.")


def _numbers(texts: list[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) < 9]
