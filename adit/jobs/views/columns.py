"""Columns: the page that asks which column of a sheet is what, with guesses."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from adit.jobs import sheet
from adit.jobs.preparing import uploads
from adit.jobs.preparing.uploads import Upload
from adit.jobs.sheet import Field, Mapping, SheetKind
from adit.jobs.views.desk import Desk, gone, upload_at
from adit.jobs.views.door import person
from adit_engine.errors import WrongInput

LINES_SHOWN = 8
MOST_HEADER_LINE = 20


@require_http_methods(["GET", "HEAD", "POST"])
def columns_page(request: HttpRequest, desk: Desk, key: str) -> HttpResponse:
    """Which column is what: with guesses, and remembered for sheets with the same headers."""
    user = person(request)
    upload = upload_at(user, desk, key)
    if upload is None:
        return gone(request, desk, key)
    if request.method != "POST":
        return _columns(request, desk, upload, _with_header(upload, request.GET.get("header")))
    said = _with_header(upload, request.POST.get("header"))
    if request.POST.get("do") == "header":
        return HttpResponseRedirect(f"{desk.address('columns', key)}?header={said.header_line}")
    try:
        mapping = sheet.chosen(upload.table, desk.sheet, said.header_line, _places(request, upload))
        if not mapping.enough():
            raise WrongInput(_enough(desk.sheet))
    except WrongInput as error:
        return _columns(request, desk, upload, said, str(error), _said(request, upload))
    uploads.settle(user, upload, mapping)
    return HttpResponseRedirect(desk.address("rows", key))


def _columns(
    request: HttpRequest,
    desk: Desk,
    upload: Upload,
    mapping: Mapping,
    trouble: str = "",
    said: dict[int, str] | None = None,
) -> HttpResponse:
    table = upload.table
    guessed = {column: str(place) for place, column in mapping.places}
    chosen = guessed if said is None else said
    examples = [line for line in table.lines if line.number > mapping.header_line][:3]
    context = {
        "desk": desk,
        "new_address": reverse(f"job_new_{desk.word}"),
        "upload": upload,
        "mapping": mapping,
        "lines": table.lines[:LINES_SHOWN],
        "header_lines": [line.number for line in table.lines if line.number <= MOST_HEADER_LINE],
        "columns": [
            {
                "number": column,
                "letter": sheet.letters(column + 1),
                "header": mapping.name(column),
                "field": chosen.get(column, ""),
                "examples": [line.cell(column).text for line in examples],
            }
            for column in range(table.width)
        ],
        "fields": sheet.FIELDS[desk.sheet],
        "trouble": trouble,
    }
    return render(request, "jobs/sheet_columns.html", context, status=422 if trouble else 200)


def _with_header(upload: Upload, text: str | None) -> Mapping:
    """The mapping with the headers in that line; as it is where nothing sensible was said."""
    if text is None or not text.isdecimal() or len(text) > 4:
        return upload.mapping
    try:
        return sheet.mapping_at(upload.table, upload.kind, int(text))
    except WrongInput:
        return upload.mapping


def _said(request: HttpRequest, upload: Upload) -> dict[int, str]:
    said = {n: request.POST.get(f"column-{n}", "") for n in range(upload.table.width)}
    return {column: text for column, text in said.items() if text in set(Field)}


def _places(request: HttpRequest, upload: Upload) -> dict[Field, int]:
    """Raises WrongInput when two columns are said to be the same."""
    said = _said(request, upload)
    if len(set(said.values())) < len(said):
        raise WrongInput(_("Two columns are said to be the same: each can be one thing only."))
    return {Field(text): column for column, text in said.items()}


def _enough(kind: SheetKind) -> str:
    if kind is SheetKind.QUERY:
        return _(
            "Say at least which column holds the patient ID, or name and birth date, or the "
            "accession number."
        )
    return _(
        "Say at least which columns hold patient ID and study UID, or the accession number, or "
        "patient ID, study date and modality."
    )
