"""The report of a job as a PDF file: what was sent, what was not and why, and under which rules.

Like the report, it names no patient and no original UID. Used by the API.
"""

from collections.abc import Iterator

from django.utils.translation import gettext as _

from adit.dates import format_datetime
from adit.jobs import progress
from adit.jobs.disclosure import Disclosure
from adit.jobs.kinds import KINDS
from adit.jobs.models import DeliveredCounts, Job, SeriesResult, state_label
from adit.results import report
from adit.results.pdf_writer import MAX_PDF_ROWS, PdfWriter
from adit.results.report import StudyReports
from adit.table_files import Cell


def write_report(job: Job, disclosure: Disclosure) -> bytes:
    """Return the report as a PDF file. Of a large job it has the first studies."""
    writer = PdfWriter()
    writer.cut_note = _("Only the first %d rows are shown. The JSON report has all of them.")
    writer.unknown_note = _("%s stands for a character that this file cannot show.")
    reports = StudyReports(job, disclosure)
    title = _("Report of job %(n)d") % {"n": job.pk}
    writer.pdf.set_title(title)
    writer.pdf.add_page()
    writer.add_heading(title, 16)
    writer.add_table((), _facts(job), (1, 4))
    writer.add_heading(_("Rules"), 10)
    rules = [
        (f"{used['profile']} {used['version']}", ", ".join(used["option_codes"]), used["tables"])
        for used in report.report_header(job, reports)["rules"]
    ]
    writer.add_table((_("Profile"), _("Options"), _("Tables")), rules, (2, 4, 2))
    writer.add_heading(_("Images withheld or failed"), 10)
    reasons = progress.count_reasons(SeriesResult.objects.filter(task__job=job))
    rows = ((str(reason), count) for reason, count in reasons)
    writer.add_table((_("Reason"), _("Images")), rows, (6, 1))
    writer.add_heading(_("Studies"), 10)
    columns = (
        *(_("Number"), _("Pseudonym"), _("State"), _("Study UID"), _("Series")),
        *(_("Delivered"), _("Withheld"), _("Failed"), _("Skipped")),
    )
    writer.add_table(columns, _studies(job, reports), (1, 2, 2, 5, 1, 1, 1, 1, 1))
    return writer.finish()


def _facts(job: Job) -> Iterator[tuple[str, Cell]]:
    counts = progress.count_images(SeriesResult.objects.filter(task__job=job))
    kind = KINDS.get(job.kind)
    project = job.project
    unknown = _("unknown: a source did not list its images")
    yield _("Kind"), _(kind.label) if kind else job.kind
    yield _("State"), job.state_text
    yield _("Destination"), job.destination.name if job.destination else ""
    yield _("Project"), "" if project is None or project.is_default else project.protocol_id
    yield _("De-identified"), _("no") if job.is_as_is else _("yes")
    yield _("Ordered on"), format_datetime(job.created_at)
    yield _("Finished on"), format_datetime(job.ended_at) if job.ended_at else ""
    yield _("Images expected"), unknown if counts.expected is None else counts.expected
    yield _("Images delivered"), counts.delivered
    yield _("Images withheld"), counts.withheld
    yield _("Images failed"), counts.failed
    yield _("Images skipped"), counts.skipped


def _studies(job: Job, reports: StudyReports) -> Iterator[tuple[Cell, ...]]:
    """One more than the table shows, so that it says that there are more."""
    tasks = list(report.reported_tasks(job)[: MAX_PDF_ROWS + 1])
    for begin in range(0, len(tasks), report.TASKS_PER_QUERY):
        for study in reports.iter_reports(tasks[begin : begin + report.TASKS_PER_QUERY]):
            series = study["series"]
            sums = [
                sum(one[name] for one in series)
                for name in ("delivered", "withheld", "failed", "skipped")
            ]
            yield (
                study["number"],
                study["pseudonym"] or "",
                _state(study, sums),
                study["study_uid"] or "",
                len(series),
                *sums,
            )


def _state(study: dict[str, object], sums: list[int]) -> str:
    delivered, withheld, _failed, skipped = sums
    return state_label(str(study["state"]), DeliveredCounts(delivered, withheld, skipped))
