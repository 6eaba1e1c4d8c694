"""Report of a job: a page to print, and a JSON file; for everyone who may see the job."""

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from adit.audit import trail
from adit.jobs.disclosure import disclosed
from adit.jobs.provenance import report
from adit.jobs.provenance.study_report import StudyReports
from adit.jobs.views.about import kind_label
from adit.jobs.views.door import person, visible_job
from adit.profiles import risks
from adit.profiles.options import WORDS

STUDIES_PER_PAGE = 50


@require_safe
def job_report(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    job = visible_job(user, pk)
    reports = StudyReports(job, disclosed(user, job))
    page = Paginator(report.studies_of(job), STUDIES_PER_PAGE).get_page(request.GET.get("page"))
    told = report.head(job, reports) | report.sums(job)
    codes = sorted({code for rules in told["rules"] for code in rules["option_codes"]})
    context = {
        "job": job,
        "kind": kind_label(job),
        "report": told,
        "page": page,
        "studies": reports.of(list(page)),
        "codes": [(code, WORDS.get(code, "")) for code in codes],
        "risks": _risks(told) if told["rules"] else [],
    }
    return render(request, "jobs/report.html", context)


def _risks(told: dict[str, Any]) -> list[dict[str, Any]]:
    """What was chosen for each, in all attempts, and how many images it concerned."""
    chosen = [one for rules in told["rules"] for one in risks.decisions_in(rules)]
    return [
        {
            "name": risk.name,
            "title": risk.title,
            "sentences": dict.fromkeys(one.sentence for one in chosen if one.risk == risk.name),
            **told[risk.name],
        }
        for risk in risks.RISKS
    ]


@require_safe
def job_report_file(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    user = person(request)
    job = visible_job(user, pk)
    trail.record("job.report_downloaded", user=user, about=f"job:{job.pk}")
    headers = {"Content-Disposition": f'attachment; filename="job-{job.pk}-report.json"'}
    text = report.as_text(job, disclosed(user, job))
    return StreamingHttpResponse(text, content_type="application/json", headers=headers)
