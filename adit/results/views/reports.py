"""Report of a job as a page and a JSON file, and the UID map of a project as a CSV file.

Everyone who may see the job may see the report. The UID map requires a permission and a reason, and
is recorded in the audit trail.
"""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.permissions import NotPermitted
from adit.audit import trail
from adit.jobs import progress
from adit.jobs.disclosure import get_disclosure
from adit.jobs.views.access import current_user, get_visible_job
from adit.jobs.views.task_labels import kind_label
from adit.projects import risks, services
from adit.projects.forms import ReasonForm
from adit.projects.profile_text import OPTION_MEANINGS
from adit.results import report
from adit.results.report import StudyReports
from adit.results.tables import ElementTable, SeriesReportTable
from adit.results.uid_map import HEADING, export_uid_map
from adit.table_files import make_table_response
from adit_engine.errors import AditError

STUDIES_PER_PAGE = 50


@require_safe
def job_report(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    job = get_visible_job(user, pk)
    reports = StudyReports(job, get_disclosure(user, job))
    page = Paginator(report.reported_tasks(job), STUDIES_PER_PAGE).get_page(request.GET.get("page"))
    report_data = report.report_header(job, reports) | report.report_totals(job)
    codes = sorted({code for rules in report_data["rules"] for code in rules["option_codes"]})
    context = {
        "job": job,
        "kind": kind_label(job),
        "recalled": progress.count_recalled(job),
        "report": report_data,
        "page": page,
        "studies": [
            {**study, "table": SeriesReportTable(study, request)}
            for study in reports.iter_reports(list(page))
        ],
        "elements": ElementTable(report_data["elements"], request, per_page=None),
        "codes": [(code, OPTION_MEANINGS.get(code, "")) for code in codes],
        "risks": _risks(report_data) if report_data["rules"] else [],
    }
    return render(request, "results/report.html", context)


def _risks(report_data: dict[str, Any]) -> list[dict[str, Any]]:
    """The decisions on each risk in all attempts, and the number of affected images."""
    chosen = [one for rules in report_data["rules"] for one in risks.parse_decisions(rules)]
    return [
        {
            "name": risk.name,
            "title": risk.title,
            "sentences": dict.fromkeys(one.sentence for one in chosen if one.risk == risk.name),
            **report_data[risk.name],
        }
        for risk in risks.RISKS
    ]


@require_safe
def job_report_file(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    user = current_user(request)
    job = get_visible_job(user, pk)
    trail.record("job.report_downloaded", user=user, about=f"job:{job.pk}")
    headers = {"Content-Disposition": f'attachment; filename="job-{job.pk}-report.json"'}
    text = report.stream_report(job, get_disclosure(user, job))
    return StreamingHttpResponse(text, content_type="application/json", headers=headers)


@require_http_methods(["GET", "HEAD", "POST"])
def uid_map(request: HttpRequest, pk: int) -> HttpResponseBase:
    user = current_user(request)
    project = services.visible_projects(user).filter(pk=pk).first()
    if project is None:
        raise Http404
    try:
        services.require_reidentify(user, project)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            rows = export_uid_map(user, project, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            return make_table_response("csv", f"{project.protocol_id}-uids", HEADING, rows)
    status = 422 if form.errors else 200
    return render(
        request, "results/uid_map.html", {"project": project, "form": form}, status=status
    )
