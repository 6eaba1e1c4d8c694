"""Download: a table as a file that a spreadsheet opens."""

import io
from collections.abc import Iterable, Sequence

from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse

from adit.spreadsheets import sheet

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def sheet_file(
    form: str, name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> HttpResponseBase:
    """`form` is csv, which is streamed, or xlsx; `name` goes without it. Raises Http404 for others."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    if form == "csv":
        chunks = sheet.csv_chunks(columns, rows)
        return StreamingHttpResponse(chunks, content_type="text/csv", headers=headers)
    if form != "xlsx":
        raise Http404
    target = io.BytesIO()
    sheet.write_xlsx(columns, rows, target)
    return HttpResponse(target.getvalue(), content_type=XLSX, headers=headers)
