"""Report of a job: a page to print, and a JSON file; for everyone who may see the job."""

import json

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from adit.audit import trail
from adit.jobs.report import report_of
from adit.jobs.views.about import kind_label
from adit.jobs.views.door import person, visible_job
from adit.profiles.options import WORDS


@require_safe
def job_report(request: HttpRequest, pk: int) -> HttpResponse:
    job = visible_job(person(request), pk)
    report = report_of(job)
    codes = sorted({code for rules in report["rules"] for code in rules["option_codes"]})
    context = {
        "job": job,
        "kind": kind_label(job),
        "report": report,
        "codes": [(code, WORDS.get(code, "")) for code in codes],
    }
    return render(request, "jobs/report.html", context)


@require_safe
def job_report_file(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    job = visible_job(user, pk)
    text = json.dumps(report_of(job), indent=2)
    trail.record("job.report_downloaded", user=user, about=f"job:{job.pk}")
    response = HttpResponse(text, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="job-{job.pk}-report.json"'
    return response
