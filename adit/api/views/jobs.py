"""Jobs: list, one job, its tasks, series and rows, its files, and the actions on it."""

from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer
from rest_framework.request import Request
from rest_framework.response import Response

from adit.api.idempotency import answer_once, make_order_key
from adit.api.pagination import PARAMETERS, make_page, make_page_by_offset
from adit.api.problems import ApiProblem, invalid_field
from adit.api.representations import (
    represent_job,
    represent_jobs,
    represent_query_rows,
    represent_series,
    represent_tasks,
    represent_transfer_rows,
)
from adit.api.response_serializers import (
    STATES,
    JobAnswer,
    JobDetailAnswer,
    RowAnswer,
    SeriesAnswer,
    TaskAnswer,
    page_of,
)
from adit.api.schema import PAGE_PARAMETERS, describe
from adit.api.serializers import ActionSerializer, StartSerializer
from adit.api.views.base import (
    ApiView,
    get_job,
    get_task,
    get_token,
    get_user,
    limited_jobs,
    read_body,
)
from adit.api.views.orders import ORDER, OrderView, created, place
from adit.api_tokens.tokens import Scope, require_scope
from adit.audit import trail
from adit.jobs import actions
from adit.jobs.disclosure import get_disclosure
from adit.jobs.filters import JobFilter
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskType, name_for_programs
from adit.jobs.views.access import record_view
from adit.numbers import parse_number
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.orders.views import batch_rows
from adit.projects.models import Project
from adit.results import archives, query_results, report_pdf, transfer_results
from adit.results.views import query_results as query_result_views
from adit.results.views import reports
from adit.results.views.archives import archive_file
from adit_engine.errors import AditError, InvalidInput
from adit_engine.messages import Message

START = "start"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SEND_NOTHING = frozenset(
    {"archive", "cancel", "delete", "mail", "no_mail", "return", "stop", "unarchive"}
)
"""Actions after which no image leaves that would not have left without them."""
READ = (Scope.JOBS_READ,)
FILTERS = {
    "text": "Job number, title or user name.",
    "kind": "",
    "state": ", ".join(STATES),
    "project": "Protocol ID.",
    "since": "Ordered from this day, YYYY-MM-DD.",
    "until": "Ordered until this day, YYYY-MM-DD.",
    "archived": "`all` or `only`; archived jobs are hidden otherwise.",
}
FILTER_PARAMETERS = [
    OpenApiParameter(name, str, description=text) for name, text in FILTERS.items()
]
ACTION = PolymorphicProxySerializer(
    component_name="ActionBody",
    serializers=[ActionSerializer, StartSerializer],
    resource_type_field_name=None,
)
"""The action `start` has options of its own."""


class JobsView(OrderView):
    scopes = {"GET": READ, "POST": (Scope.JOBS_WRITE,)}
    parameters = PARAMETERS | frozenset(FILTERS)

    @describe(
        "jobs_list",
        "Jobs that you see, newest first.",
        page_of(JobAnswer),
        parameters=[*PAGE_PARAMETERS, *FILTER_PARAMETERS],
    )
    def get(self, request: Request) -> Response:
        jobs = _filter_jobs(request)
        return Response(make_page(request, jobs, represent_jobs, newest_first=True))

    @describe("jobs_create", "Order a job.", JobDetailAnswer, status=201, request=ORDER)
    @answer_once
    def post(self, request: Request) -> Response:
        values, file = self.read_order(request)
        return created(request, place(request, values, file, make_order_key(request)))


def _filter_jobs(request: Request) -> Any:
    """Filter as the list of the pages does. Raises ApiProblem that names the parameter."""
    given = request.query_params.copy()
    jobs = limited_jobs(request)
    if state := given.pop("state", [""])[-1]:
        if state not in STATES:
            raise invalid_field("state", Message("api.unknown-state", states=STATES))
        jobs = jobs.filter(state__in=[one for one in JobState if name_for_programs(one) == state])
    if "project" in given:
        project = Project.objects.filter(protocol_id=given["project"]).first()
        given["project"] = str(project.pk) if project else "0"
    found = JobFilter(given, queryset=jobs, request=request._request)
    if not found.form.is_valid():
        errors = {name: [str(text) for text in texts] for name, texts in found.form.errors.items()}
        raise ApiProblem(400, Message("api.invalid"), errors=errors)
    return found.qs


class JobView(ApiView):
    scopes = {"GET": READ}

    @describe("jobs_get", "One job with its numbers and reasons.", JobDetailAnswer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(represent_job(get_user(request), get_job(request, pk)))


class TasksView(ApiView):
    scopes = {"GET": READ}
    parameters = PARAMETERS

    @describe(
        "jobs_tasks",
        "The studies or queries of a job.",
        page_of(TaskAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request, pk: int) -> Response:
        user, job = get_user(request), get_job(request, pk)
        tasks = job.tasks.exclude(type=TaskType.START).select_related("source", "job__project")
        _record_view(request, job)
        page = make_page(
            request, tasks, lambda rows: represent_tasks(user, job, rows), field="position"
        )
        return Response(page)


class TaskView(ApiView):
    scopes = {"GET": READ}

    @describe("jobs_task", "One study or query of a job.", TaskAnswer)
    def get(self, request: Request, pk: int, position: int) -> Response:
        task = get_task(request, pk, position)
        _record_view(request, task.job)
        return Response(represent_tasks(get_user(request), task.job, [task])[0])


class SeriesView(ApiView):
    scopes = {"GET": READ}
    parameters = PARAMETERS

    @describe(
        "jobs_series", "The series of a job.", page_of(SeriesAnswer), parameters=PAGE_PARAMETERS
    )
    def get(self, request: Request, pk: int) -> Response:
        items = _series().filter(task__job=get_job(request, pk))
        return Response(make_page(request, items, represent_series))


class TaskSeriesView(ApiView):
    scopes = {"GET": READ}
    parameters = PARAMETERS

    @describe(
        "jobs_task_series",
        "The series of one study.",
        page_of(SeriesAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request, pk: int, position: int) -> Response:
        items = _series().filter(task=get_task(request, pk, position))
        return Response(make_page(request, items, represent_series))


def _series() -> QuerySet[SeriesResult]:
    return SeriesResult.objects.select_related("task").defer("elements", "sealed")


class RowsView(ApiView):
    """The rows of the sheet of a batch query or batch transfer, with their results."""

    scopes = {"GET": READ}
    parameters = PARAMETERS

    @describe(
        "jobs_rows",
        "The rows of the list, each with its result.",
        page_of(RowAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request, pk: int) -> Response:
        user, job = get_user(request), get_job(request, pk)
        represent: Callable[[Any, Job, Sequence[Any]], list[dict[str, Any]]]
        if job.capabilities.has_result_table:
            rows, represent = query_results.result_lines(job), represent_query_rows
        elif job.capabilities.has_transfer_rows:
            rows, represent = transfer_results.transfer_lines(job), represent_transfer_rows
        else:
            raise Http404
        disclosure = get_disclosure(user, job)
        if disclosure.rows:
            record_view(user, job, disclosure)
        page = make_page_by_offset(request, rows, lambda some: represent(user, job, some))
        return Response(page)


def _record_view(request: Request, job: Job) -> None:
    disclosure = get_disclosure(get_user(request), job)
    if disclosure.identified:
        record_view(get_user(request), job, disclosure)


# Files: those of the pages, with the same rules and the same events in the trail -------------------


class ReportView(ApiView):
    scopes = {"GET": READ}

    @describe("jobs_report", "The report as JSON.", "application/json")
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        get_job(request, pk)
        return reports.job_report_file(request._request, pk)


class ReportPdfView(ApiView):
    scopes = {"GET": READ}

    @describe("jobs_report_pdf", "The report as PDF.", "application/pdf")
    def get(self, request: Request, pk: int) -> HttpResponse:
        user, job = get_user(request), get_job(request, pk)
        trail.record("job.report_downloaded", user=user, about=f"job:{job.pk}")
        content = report_pdf.write_report(job, get_disclosure(user, job))
        headers = {"Content-Disposition": f'attachment; filename="job-{job.pk}-report.pdf"'}
        return HttpResponse(content, content_type="application/pdf", headers=headers)


class ResultView(ApiView):
    """The result sheet of a batch query or batch transfer."""

    scopes = {"GET": READ}

    @describe("jobs_result", "The result sheet: csv or xlsx.", ("text/csv", XLSX))
    def get(self, request: Request, pk: int, form: str) -> HttpResponseBase:
        job = get_job(request, pk)
        if job.capabilities.has_result_table:
            return query_result_views.results_file(request._request, pk, form)
        return batch_rows.transfer_result(request._request, pk, form)


class ArchiveView(ApiView):
    """The 7-Zip file of a job. `file` chooses one of several, by the ID that the job lists."""

    scopes = {"GET": (Scope.JOBS_READ, Scope.RETRIEVE)}
    parameters = frozenset({"file"})

    @describe(
        "jobs_archive",
        "The encrypted 7-Zip file.",
        "application/x-7z-compressed",
        parameters=[OpenApiParameter("file", int)],
    )
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        job = get_job(request, pk)
        if job.is_as_is:
            require_scope(get_token(request), Scope.IDENTIFIED)
        files = list(archives.visible_archives(get_user(request)).filter(job=job))
        if "file" in request.query_params:
            number = parse_number(request.query_params["file"])
            files = [file for file in files if file.pk == number]
        if not files:
            raise Http404
        if len(files) > 1:
            raise ApiProblem(409, Message("api.several-files"))
        return archive_file(request._request, pk, files[0].pk)


# Actions ------------------------------------------------------------------------------------------


class JobActionView(ApiView):
    scopes = {"POST": (Scope.JOBS_WRITE,)}

    @describe(
        "jobs_action",
        "Act on a job; 409 if it is not possible.",
        JobDetailAnswer,
        request=ACTION,
        empty="The job was deleted.",
    )
    @answer_once
    def post(self, request: Request, pk: int, name: str) -> HttpResponseBase:
        """Perform an action of the table; a refusal is a 409 with the code why not."""
        job = get_job(request, pk)
        if name == START:
            return _start(request, job)
        if name not in actions.job_actions():
            raise Http404
        _perform(request, job, name)
        return _answer(request, pk)


class TaskActionView(ApiView):
    scopes = {"POST": (Scope.JOBS_WRITE,)}

    @describe(
        "jobs_task_action", "Act on a part of a job.", JobDetailAnswer, request=ActionSerializer
    )
    @answer_once
    def post(self, request: Request, pk: int, position: int, name: str) -> HttpResponseBase:
        task = get_task(request, pk, position)
        if name not in actions.task_actions():
            raise Http404
        _perform(request, task, name)
        return _answer(request, pk)


def _perform(request: Request, target: Job | Task, name: str) -> None:
    values, user = read_body(request, ActionSerializer), get_user(request)
    job = target.job if isinstance(target, Task) else target
    _require_identified_scope(request, job, name)
    action = actions.get(target, name)
    try:
        with transaction.atomic():
            if action.needs_password and archives.lacks_password(job):
                _save_password(request, job, values["archive_password"])
            actions.perform(user, target, name, values["reason"].strip())
    except InvalidInput as error:
        raise invalid_field("reason", error.message) from None
    except AditError as error:
        raise ApiProblem(409, error.message) from None


def _require_identified_scope(request: Request, job: Job, name: str) -> None:
    if job.is_as_is and name not in SEND_NOTHING:
        require_scope(get_token(request), Scope.IDENTIFIED)


def _save_password(request: Request, job: Job, password: str) -> None:
    try:
        checked = archives.validate_archive_password(password)
    except InvalidInput as error:
        raise invalid_field("archive_password", error.message) from None
    archives.save_password(get_user(request), job, checked)


def _start(request: Request, job: Job) -> HttpResponseBase:
    """Start a checked batch transfer, or continue it after its pilot."""
    values = read_body(request, StartSerializer)
    if not job.capabilities.has_transfer_rows:
        raise Http404
    _require_identified_scope(request, job, START)
    lines = {line: parse_number(line) for line in values["choices"]}
    if None in lines.values():
        raise invalid_field("choices", Message("api.choices"))
    choices = {
        number: values["choices"][line] for line, number in lines.items() if number is not None
    }
    options = StartOptions(choices, frozenset(values["leave_out"]), values["pilot"])
    try:
        batch_start.request_start(get_user(request), job, options)
    except AditError as error:
        raise ApiProblem(409, error.message) from None
    return _answer(request, job.pk)


def _answer(request: Request, pk: int) -> HttpResponseBase:
    """The job after an action, or nothing if it was deleted."""
    job = limited_jobs(request).filter(pk=pk).first()
    if job is None:
        return HttpResponse(status=204)
    return Response(represent_job(get_user(request), job))
