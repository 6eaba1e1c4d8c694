"""Views of orders by sheet, from the uploaded file to the job, for all kinds of sheets.

The steps are: file; column mapping, where it is in doubt; verdict on each row; order. Nothing is
created before the order. The upload is stored encrypted in a draft, and URLs contain only its key.
Used by batch_query.py and batch_transfer.py, which describe their kind with a SheetWorkflow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.jobs.kinds.base import OrderRequest
from adit.jobs.views.access import current_user, order_permission_required
from adit.numbers import parse_number
from adit.orders import archive_passwords, drafts, service, uploads
from adit.orders.uploads import Upload
from adit.spreadsheets.columns import FIELDS, SheetField, SheetKind
from adit.spreadsheets.limits import MAX_CHARACTERS, MAX_FILE_BYTES
from adit.spreadsheets.mapping import ColumnMapping, guess_mapping_at, make_mapping
from adit.spreadsheets.row_reader import DateOrder
from adit.spreadsheets.row_verdicts import RowVerdict, ValidatedSheet
from adit.spreadsheets.table import UnreadableSheet, column_letters
from adit.spreadsheets.template import (
    get_template_columns,
    get_template_examples,
    make_template_csv,
    make_template_xlsx,
)
from adit.table_files import XLSX
from adit_engine.errors import AditError, InvalidInput


@dataclass(frozen=True, slots=True)
class SheetWorkflow:
    """What differs between the kinds of sheets; `word` is part of URLs and route names."""

    kind: str
    code: str
    sheet: SheetKind
    title: Any
    lead: Any
    help: str
    order_template: str
    """Included below the rows, within the form; its context has `form`, `validated` and `upload`."""
    validate: Callable[[User, Upload], ValidatedSheet[Any]]
    form: Callable[..., forms.Form]
    """form(data, user=…, upload=…, validated=…, initial=…)."""
    request: Callable[[Upload, ValidatedSheet[Any], Any], OrderRequest[Any]]
    """Makes the order of a valid form, from all rows of the sheet. Raises InvalidInput."""

    def address(self, page: str, *args: Any) -> str:
        return reverse(f"job_{self.code}_{page}", args=args)


def get_upload(user: User, workflow: SheetWorkflow, key: str) -> Upload | None:
    """Return the user's upload of this kind, as long as it is stored."""
    return uploads.load_upload(user, key, workflow.sheet)


def redirect_without_upload(
    request: HttpRequest, workflow: SheetWorkflow, key: str
) -> HttpResponse:
    """Redirect a request for an upload that is no longer stored.

    After the start, Back or a second Start leads to the existing job.
    """
    if not drafts.is_key(key):
        raise Http404
    if jobs := service.find_jobs(current_user(request), key):
        return HttpResponseRedirect(reverse("job", args=[jobs[0].pk]))
    messages.info(request, _("This sheet has expired. Please upload it again."))
    return HttpResponseRedirect(reverse(f"job_new_{workflow.code}"))


PREVIEW_LINES = 8
MAX_HEADER_LINE = 20


@require_http_methods(["GET", "HEAD", "POST"])
def columns_page(request: HttpRequest, workflow: SheetWorkflow, key: str) -> HttpResponse:
    """Ask for the column mapping, with guesses; it is remembered for the same headers."""
    user = current_user(request)
    upload = get_upload(user, workflow, key)
    if upload is None:
        return redirect_without_upload(request, workflow, key)
    if request.method != "POST":
        return _render_columns(
            request, workflow, upload, _mapping_at(upload, request.GET.get("header"))
        )
    said = _mapping_at(upload, request.POST.get("header"))
    if request.POST.get("do") == "header":
        return HttpResponseRedirect(f"{workflow.address('columns', key)}?header={said.header_line}")
    try:
        mapping = make_mapping(
            upload.table, workflow.sheet, said.header_line, _read_places(request, upload)
        )
        if not mapping.enough():
            is_query = workflow.sheet is SheetKind.QUERY
            raise InvalidInput(
                "columns.missing-for-query" if is_query else "columns.missing-for-transfer"
            )
    except InvalidInput as error:
        return _render_columns(
            request, workflow, upload, said, str(error), _read_columns(request, upload)
        )
    uploads.set_mapping(user, upload, mapping)
    return HttpResponseRedirect(workflow.address("rows", key))


def _render_columns(
    request: HttpRequest,
    workflow: SheetWorkflow,
    upload: Upload,
    mapping: ColumnMapping,
    problem: str = "",
    input_values: dict[int, str] | None = None,
) -> HttpResponse:
    table = upload.table
    guessed = {column: str(place) for place, column in mapping.columns}
    chosen = guessed if input_values is None else input_values
    examples = [line for line in table.lines if line.number > mapping.header_line][:3]
    context = {
        "desk": workflow,
        "new_address": reverse(f"job_new_{workflow.code}"),
        "upload": upload,
        "mapping": mapping,
        "lines": table.lines[:PREVIEW_LINES],
        "header_lines": [line.number for line in table.lines if line.number <= MAX_HEADER_LINE],
        "columns": [
            {
                "number": column,
                "letter": column_letters(column + 1),
                "header": mapping.name(column),
                "field": chosen.get(column, ""),
                "examples": [line.cell(column).text for line in examples],
            }
            for column in range(table.width)
        ],
        "fields": FIELDS[workflow.sheet],
        "trouble": problem,
    }
    return render(request, "orders/sheet_columns.html", context, status=422 if problem else 200)


def _mapping_at(upload: Upload, text: str | None) -> ColumnMapping:
    """The mapping with the headers in that line; the current mapping if the input is invalid."""
    line = parse_number(text or "")
    if line is None:
        return upload.mapping
    try:
        return guess_mapping_at(upload.table, upload.kind, line)
    except InvalidInput:
        return upload.mapping


def _read_columns(request: HttpRequest, upload: Upload) -> dict[int, str]:
    said = {n: request.POST.get(f"column-{n}", "") for n in range(upload.table.width)}
    return {column: text for column, text in said.items() if text in set(SheetField)}


def _read_places(request: HttpRequest, upload: Upload) -> dict[SheetField, int]:
    """The chosen columns. Raises InvalidInput if two columns are mapped to the same field."""
    said = _read_columns(request, upload)
    if len(set(said.values())) < len(said):
        raise InvalidInput("columns.duplicate-field")
    return {SheetField(text): column for column, text in said.items()}


ROW_FILTERS = ("error", "warning", "out")


@dataclass(frozen=True, slots=True)
class ShownCell:
    text: str
    header: str
    column: int
    is_field: bool
    """The cell is an input field: it has an error, or was corrected."""
    is_invalid: bool


@dataclass(frozen=True, slots=True)
class ShownRow:
    line: int
    verdict: str
    """A state that the badge template tag knows."""
    label: Any
    findings: tuple[str, ...]
    cells: tuple[ShownCell, ...]
    is_out: bool
    may_be_left_out: bool


def filter_rows(sheet: ValidatedSheet[Any], upload: Upload, show: str) -> Sequence[Any]:
    """Return the rows that the filter `show` selects; all rows for an unknown filter."""
    if show == "out":
        return [
            row
            for row in sheet.rows
            if row.line in upload.left_out or row.verdict is RowVerdict.LEFT_OUT
        ]
    if show in ("error", "warning"):
        return [row for row in sheet.rows if row.verdict == show]
    return sheet.rows


def make_shown_row(row: Any, upload: Upload, headers: Sequence[str]) -> ShownRow:
    """Return a row as the page shows it."""
    is_out = row.line in upload.left_out or row.verdict is RowVerdict.LEFT_OUT
    badge, word = ("canceled", _("excluded")) if is_out else _BADGES[row.verdict]
    return ShownRow(
        row.line,
        badge,
        word,
        tuple(str(finding.describe_for(row.line)) for finding in row.findings),
        _make_cells(row, upload, headers, is_out=is_out),
        is_out,
        row.verdict is not RowVerdict.LEFT_OUT,
    )


def _make_cells(
    row: Any, upload: Upload, headers: Sequence[str], *, is_out: bool
) -> tuple[ShownCell, ...]:
    """The cells of a row. An error that names no column may be corrected in any of them."""
    wrong = {f.column for f in row.findings if f.verdict is RowVerdict.ERROR and not is_out}
    cells = []
    for text, header, (_field, column) in zip(
        row.values, headers, upload.mapping.columns, strict=True
    ):
        is_invalid = bool(wrong & {header, ""})
        is_corrected = (row.line, column) in upload.corrected and not is_out
        cells.append(ShownCell(text, header, column, is_invalid or is_corrected, is_invalid))
    return tuple(cells)


_BADGES: dict[RowVerdict, tuple[str, Any]] = {
    RowVerdict.OK: ("success", _lazy("OK")),
    RowVerdict.WARNING: ("warning", _lazy("warning")),
    RowVerdict.ERROR: ("failure", _lazy("error")),
    RowVerdict.LEFT_OUT: ("canceled", _lazy("excluded")),
}


ROWS_PER_PAGE = 100
CELL_PREFIX = "cell-"
"""The name of the field of a cell: this, its line and its column."""
PASSWORD_FIELDS = (archive_passwords.FIELD, archive_passwords.AGAIN, archive_passwords.KEPT)
"""Stored apart from the other input; the confirmation has to be given with each order."""
FIELDS_NOT_KEPT = (
    "csrfmiddlewaretoken",
    "do",
    "shown",
    "out",
    "show",
    "skip_errors",
    *PASSWORD_FIELDS,
)


@dataclass
class SheetReview:
    """The state of an upload within one request."""

    request: HttpRequest
    workflow: SheetWorkflow
    user: User
    upload: Upload

    @cached_property
    def validated(self) -> ValidatedSheet[Any]:
        """All rows with their verdicts. Raises UnreadableSheet.

        Rows excluded by the user do not affect the verdicts of others.
        """
        return self.workflow.validate(self.user, self.upload)

    @property
    def selected(self) -> ValidatedSheet[Any]:
        return self.validated.without(self.upload.left_out)

    def form(self, *, bound: bool) -> Any:
        typed = self.upload.form_data
        confirmed = self.request.POST.getlist(archive_passwords.KEPT)
        data = as_form_data({**typed, archive_passwords.KEPT: confirmed}) if bound else None
        initial = {name: v if len(v) > 1 else v[0] for name, v in typed.items() if v}
        return self.workflow.form(
            data, user=self.user, upload=self.upload, validated=self.selected, initial=initial
        )

    def save_input(self) -> None:
        """Store what was ticked and entered on the page."""
        posted = self.request.POST
        shown = _parse_numbers(posted.getlist("shown"))
        upload = self.upload.without(shown, _parse_numbers(posted.getlist("out")))
        upload = upload.with_corrections(_parse_cells(posted))
        typed = {
            name: values
            for name, values in posted.lists()
            if name not in FIELDS_NOT_KEPT and not name.startswith(CELL_PREFIX)
        }
        password = upload.password.with_entries(posted)
        self.upload = replace(upload, form_data=typed, password=password)
        self.upload.save(self.user)

    def redirect(self, page: str = "1", show: str = "") -> HttpResponse:
        address = self.workflow.address("rows", self.upload.key)
        query = f"?page={parse_number(page) or 1}"
        shown = f"&show={show}" if show in ROW_FILTERS else ""
        return HttpResponseRedirect(f"{address}{query}{shown}#rows")

    def render(self, form: Any = None, notice: str = "") -> HttpResponse:
        show = self.request.GET.get("show", "")
        rows = filter_rows(self.validated, self.upload, show)
        page = Paginator(rows, ROWS_PER_PAGE).get_page(self.request.GET.get("page"))
        counts = self.selected.counts
        context = {
            "desk": self.workflow,
            "new_address": reverse(f"job_new_{self.workflow.code}"),
            "rows_address": self.workflow.address("rows", self.upload.key),
            "upload": self.upload,
            "validated": self.validated,
            "rows": [make_shown_row(row, self.upload, self.validated.columns) for row in page],
            "max_characters": MAX_CHARACTERS,
            "page": page,
            "show": show if show in ROW_FILTERS else "",
            "counts": counts,
            "ok": counts[RowVerdict.OK],
            "warned": counts[RowVerdict.WARNING],
            "wrong": counts[RowVerdict.ERROR],
            "ready": len(self.selected.valid_rows),
            "left_out": len(self.validated.rows)
            - len(self.selected.rows)
            + counts[RowVerdict.LEFT_OUT],
            "form": form or self.form(bound=False),
            "sees_identified": has_right(self.user, Right.SEE_IDENTIFIED),
            "notice": notice,
        }
        wrong = bool(notice) or form is not None
        return render(self.request, "orders/sheet_rows.html", context, status=422 if wrong else 200)


def make_urls(workflow: SheetWorkflow) -> list[URLPattern]:
    """Return the URLs of one kind of sheet: job_new_<word>, job_<word>_template, …"""

    def view(function: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        def bound(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            return function(request, workflow, **kwargs)

        return order_permission_required(workflow.kind)(bound)

    base = f"new/{workflow.code}/"
    return [
        path(base, view(new_sheet), name=f"job_new_{workflow.code}"),
        path(
            f"{base}template.<str:form>", view(sheet_template), name=f"job_{workflow.code}_template"
        ),
        path(f"{base}<str:key>/columns/", view(columns_page), name=f"job_{workflow.code}_columns"),
        path(f"{base}<str:key>/", view(rows_page), name=f"job_{workflow.code}_rows"),
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def new_sheet(request: HttpRequest, workflow: SheetWorkflow) -> HttpResponse:
    """Upload a file; an unreadable file is rejected with a message."""
    if request.method != "POST":
        return _render_upload(request, workflow)
    file = request.FILES.get("sheet")
    if file is None:
        return _render_upload(request, workflow, _explain_missing_file(request))
    order = DateOrder.MONTH_FIRST if request.POST.get("dates") == "month" else DateOrder.DAY_FIRST
    try:
        upload = uploads.read_upload(
            current_user(request), file, file.name or "sheet", workflow.sheet, order
        )
    except AditError as error:
        return _render_upload(request, workflow, str(error))
    page = "rows" if upload.mapping.is_certain else "columns"
    return HttpResponseRedirect(workflow.address(page, upload.key))


@require_safe
def sheet_template(request: HttpRequest, workflow: SheetWorkflow, form: str) -> HttpResponse:
    """Download an empty sheet with text columns and two examples."""
    makers = {"xlsx": (make_template_xlsx, XLSX), "csv": (make_template_csv, "text/csv")}
    if form not in makers:
        raise Http404
    make, content_type = makers[form]
    headers = {"Content-Disposition": f'attachment; filename="adit-{workflow.code}.{form}"'}
    return HttpResponse(make(workflow.sheet), content_type=content_type, headers=headers)


@require_http_methods(["GET", "HEAD", "POST"])
def rows_page(request: HttpRequest, workflow: SheetWorkflow, key: str) -> HttpResponse:
    """Show each row with its verdict, and the order form.

    Each button stores the input.
    """
    user = current_user(request)
    upload = get_upload(user, workflow, key)
    if upload is None:
        return redirect_without_upload(request, workflow, key)
    one = SheetReview(request, workflow, user, upload)
    if not upload.mapping.is_certain:
        return HttpResponseRedirect(workflow.address("columns", key))
    try:
        if request.method != "POST":
            return one.render()
        one.save_input()
        verb, _colon, what = request.POST.get("do", "").partition(":")
        if verb == "start":
            return _place_order(one)
        show = request.POST.get("show", "")
        return one.redirect(what, show) if verb == "page" else one.redirect(show=what)
    except UnreadableSheet as error:
        return _render_upload(request, workflow, str(error))


def as_form_data(input_data: dict[str, list[str]]) -> Any:
    """Return stored input as data for a form."""
    data = QueryDict(mutable=True)
    for name, values in input_data.items():
        data.setlist(name, values)
    return data


def _place_order(review: SheetReview) -> HttpResponse:
    form = review.form(bound=True)
    if not review.selected.valid_rows:
        return review.render(form, _("There is no row that can be ordered."))
    wrong = review.selected.counts[RowVerdict.ERROR]
    if wrong and "skip_errors" not in review.request.POST:
        return review.render(
            form,
            ngettext(
                "%(n)d row has an error. Correct it in the list and choose Check again, or choose to "
                "exclude this row.",
                "%(n)d rows have errors. Correct them in the list and choose Check again, or choose "
                "to exclude these rows.",
                wrong,
            )
            % {"n": wrong},
        )
    if not form.is_valid():
        return review.render(form)
    try:
        order = review.workflow.request(review.upload, review.validated, form)
        job, *_others = service.place_order(review.user, order)
    except AditError as error:
        form.add_error(None, str(error))
        return review.render(form)
    drafts.delete_draft(review.user, review.upload.key)
    messages.success(review.request, _("The job was created."))
    return HttpResponseRedirect(reverse("job", args=[job.pk]))


def _render_upload(
    request: HttpRequest, workflow: SheetWorkflow, problem: str = ""
) -> HttpResponse:
    templates = (("xlsx", _("Download Excel template")), ("csv", _("Download CSV template")))
    context = {
        "desk": workflow,
        "trouble": problem,
        "forms": [(workflow.address("template", form), word) for form, word in templates],
        "columns": get_template_columns(workflow.sheet),
        "examples": get_template_examples(workflow.sheet),
        "month_first": request.POST.get("dates") == "month",
    }
    return render(request, "orders/sheet_new.html", context, status=422 if problem else 200)


def _explain_missing_file(request: HttpRequest) -> str:
    """The message for a missing file. The upload handler drops files too large for memory."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_FILE_BYTES:
        return _("The file is larger than %(most)d MB. Split it, or save it as CSV.") % {
            "most": MAX_FILE_BYTES // 1_000_000
        }
    return _("Select a file first.")


def _parse_cells(posted: QueryDict) -> dict[tuple[int, int], str]:
    """The texts of the cells that are input fields, by line and column."""
    cells: dict[tuple[int, int], str] = {}
    for name in posted:
        place = _parse_numbers(name.removeprefix(CELL_PREFIX).split("-"))
        if name.startswith(CELL_PREFIX) and len(place) == 2:
            cells[place[0], place[1]] = str(posted[name])
    return cells


def _parse_numbers(texts: list[str]) -> list[int]:
    return [number for text in texts if (number := parse_number(text)) is not None]
