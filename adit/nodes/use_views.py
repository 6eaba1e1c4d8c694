"""Pages of use: the record of ninety days as a file, and the end of one connection."""

from collections.abc import Iterator
from io import BytesIO

import xlsxwriter
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from adit.audit import table
from adit.nodes import pause, uses
from adit.nodes.models import Node
from adit.nodes.views import managed_node, person
from adit_engine.errors import AditError

_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@require_POST
def node_end(request: HttpRequest, pk: int, slot: int) -> HttpResponse:
    """Ends one connection."""
    user = person(request)
    node = managed_node(user, pk)
    try:
        pause.end_one(user, node, slot)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("This connection ends within ten seconds."))
    return redirect("node", pk)


@require_safe
def node_use_csv(request: HttpRequest, pk: int) -> HttpResponse:
    node = managed_node(person(request), pk)
    lines = "".join(table.csv_lines([_columns(), *_rows(node)]))
    return _file(lines.encode(), "text/csv; charset=utf-8", f"use-{pk}.csv")


@require_safe
def node_use_xlsx(request: HttpRequest, pk: int) -> HttpResponse:
    node = managed_node(person(request), pk)
    target = BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True})
    page, head = book.add_worksheet("ADIT"), book.add_format({"bold": True})
    page.write_row(0, 0, _columns(), head)
    page.set_column(0, len(_columns()) - 1, 18)
    for number, row in enumerate(_rows(node), 1):
        for column, value in enumerate(row):
            write = page.write_string if isinstance(value, str) else page.write_number
            write(number, column, value)
    page.freeze_panes(1, 0)
    book.close()
    return _file(target.getvalue(), _XLSX, f"use-{pk}.xlsx")


def _columns() -> list[str]:
    return [
        _("Day"),
        _("Lane"),
        _("Opened"),
        _("Most at once"),
        _("Allowed at once"),
        _("Images"),
        _("Bytes"),
    ]


def _rows(node: Node) -> Iterator[list[str | int]]:
    for use in uses.of(node):
        yield [
            use.day.isoformat(),
            use.lane,
            use.connections,
            use.most_at_once,
            use.allowed,
            use.images,
            use.size_bytes,
        ]


def _file(content: bytes, kind: str, name: str) -> HttpResponse:
    answer = HttpResponse(content, content_type=kind)
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
