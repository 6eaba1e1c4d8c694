"""The monthly sheet of a node for its administrator: page, Excel and PDF file."""

import io
from datetime import date

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from adit.nodes.usage import monthly_sheet
from adit.nodes.usage.monthly_sheet import MonthlySheet, UseTotals, sheet_columns
from adit.nodes.views.nodes import current_user, get_managed_node
from adit.results.pdf_writer import PdfWriter
from adit.table_files import XLSX, write_xlsx

_WIDTHS = (3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)


@require_safe
def month_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the use of the month in the query, or of the present one."""
    sheet = _get_sheet(request, pk)
    context = {
        "node": sheet.node,
        "sheet": sheet,
        "months": monthly_sheet.list_months(sheet.node),
        "tables": [
            (_("Days"), sheet_columns(_("Day")), sheet.days),
            (_("Hours of the day"), sheet_columns(_("Hour")), sheet.hours_of_day),
        ],
    }
    return render(request, "monitoring/node_month.html", context)


@require_safe
def month_xlsx(request: HttpRequest, pk: int) -> HttpResponse:
    sheet = _get_sheet(request, pk)
    target = io.BytesIO()
    rows = (hour.cells for hour in sheet.each_hour)
    write_xlsx(sheet_columns(_("Hour")), rows, target, [*sheet.facts, *sheet.events])
    return _make_download(target.getvalue(), sheet, XLSX, "xlsx")


@require_safe
def month_pdf(request: HttpRequest, pk: int) -> HttpResponse:
    sheet = _get_sheet(request, pk)
    writer = PdfWriter()
    writer.pdf.set_title(sheet.title)
    writer.pdf.add_page()
    writer.add_heading(sheet.title, 16)
    writer.add_table((), sheet.facts, (3, 1))
    writer.add_heading(_("Pauses"), 10)
    writer.add_table((_("Time"), _("What happened")), sheet.events, (1, 4))
    for title, first, totals in (
        (_("Days"), _("Day"), sheet.days),
        (_("Hours of the day"), _("Hour"), sheet.hours_of_day),
    ):
        writer.add_heading(title, 10)
        writer.add_table(sheet_columns(first), _get_cells(totals), _WIDTHS)
    return _make_download(writer.finish(), sheet, "application/pdf", "pdf")


def _get_cells(totals: list[UseTotals]) -> list[list[str | int]]:
    return [one.cells for one in totals]


def _get_sheet(request: HttpRequest, pk: int) -> MonthlySheet:
    """Return the sheet for users who manage nodes. Raise Http404 for a month that is none."""
    node = get_managed_node(current_user(request), pk)
    wanted = request.GET.get("month")
    month: date | None = timezone.localdate().replace(day=1)
    if wanted:
        month = monthly_sheet.parse_month(wanted)
    if month is None:
        raise Http404
    return monthly_sheet.make_monthly_sheet(node, month)


def _make_download(
    content: bytes, sheet: MonthlySheet, content_type: str, form: str
) -> HttpResponse:
    name = f"use-{sheet.node.pk}-{sheet.month:%Y-%m}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(content, content_type=content_type, headers=headers)
