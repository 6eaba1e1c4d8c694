"""Report of a job: a page to print, and a JSON file; for everyone who may see the job."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from adit.audit import trail
from adit.jobs.provenance.report import report_of
from adit.jobs.views.about import kind_label
from adit.jobs.views.door import person, visible_job
from adit.profiles import faces
from adit.profiles.options import WORDS
from adit_engine.pseudonymize.face import Faces


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
        "faces": list(dict.fromkeys(_faces(rules) for rules in report["rules"])),
    }
    return render(request, "jobs/report.html", context)


def _faces(rules: dict[str, Any]) -> str:
    return faces.sentence(Faces(rules["faces"]), rules["faces_reason"])


@require_safe
def job_report_file(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    job = visible_job(user, pk)
    text = json.dumps(report_of(job), indent=2)
    trail.record("job.report_downloaded", user=user, about=f"job:{job.pk}")
    response = HttpResponse(text, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="job-{job.pk}-report.json"'
    return response
