"""Export what was sent for research projects, for the data protection officer.

One PDF or one workbook: projects, persons, rules, transfers and approvals. No patient data: titles
and reasons, which users type, are not included.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, require
from adit.audit.models import AuditEvent
from adit.audit.trail import record
from adit.dates import format_date, format_datetime
from adit.jobs.kinds import KINDS
from adit.jobs.models import Job, SeriesResult, Task, TaskType
from adit.nodes.models import Node
from adit.projects import risks, services
from adit.projects.models import Project
from adit.projects.profile_text import list_options
from adit.projects.profile_versions import parse_rules
from adit.projects.tables import describe_state
from adit.results.pdf_writer import PdfWriter
from adit.table_files import Cell


@dataclass(frozen=True, slots=True)
class Period:
    """Days, both included; None is unlimited."""

    since: date | None = None
    until: date | None = None

    def filter(self, field: str) -> Q:
        found = Q()
        if self.since is not None:
            found &= Q(**{f"{field}__gte": _start_of_day(self.since)})
        if self.until is not None:
            found &= Q(**{f"{field}__lt": _start_of_day(self.until + timedelta(days=1))})
        return found

    def __str__(self) -> str:
        since = _("the beginning") if self.since is None else format_date(self.since)
        until = _("today") if self.until is None else format_date(self.until)
        return _("from %(since)s to %(until)s") % {"since": since, "until": until}


def transfer_columns() -> tuple[str, ...]:
    return (
        *(_("Project"), _("Job"), _("Ordered on"), _("Ordered by"), _("Kind")),
        *(_("Sources"), _("Destination"), _("De-identified"), _("State"), _("Studies")),
        *(_("Images delivered"), _("Images withheld"), _("Images failed"), _("Approved by")),
    )


class DataProtectionRecord:
    """The record of the projects in a period. Its transfers are read lazily."""

    def __init__(self, projects: QuerySet[Project], period: Period, created_by: str) -> None:
        self.projects = list(projects.select_related("profile").order_by("protocol_id"))
        self.period = period
        self.created_by = created_by
        self.created_at = timezone.now()

    def iter_transfers(self) -> Iterator[tuple[Cell, ...]]:
        """Yield a row for each job of each project, in the order of `transfer_columns`."""
        for project in self.projects:
            yield from iter_transfers(self.jobs(project))

    def jobs(self, project: Project) -> QuerySet[Job]:
        jobs = Job.objects.filter(self.period.filter("created_at"), project=project)
        return jobs.select_related("owner", "project", "destination", "approved_by").order_by("pk")

    def facts(self, project: Project) -> list[tuple[str, Cell]]:
        """Return what the project is, who may do what, its rules, and the numbers."""
        sums = SeriesResult.objects.filter(task__job__in=self.jobs(project)).aggregate(
            delivered=Sum("delivered", default=0),
            withheld=Sum("withheld", default=0),
            failed=Sum("failed", default=0),
        )
        new_patients = project.patients.filter(self.period.filter("created_at")).count()
        return [
            *_describe_approval(project),
            *_describe_persons(project),
            *_describe_rules(project),
            (_("Patients with a pseudonym"), project.patients.count()),
            (_("Patients added in the period"), new_patients),
            (_("Jobs in the period"), self.jobs(project).count()),
            (_("Images delivered"), sums["delivered"]),
            (_("Images withheld"), sums["withheld"]),
            (_("Images failed"), sums["failed"]),
        ]

    def summary(self) -> Iterator[tuple[str, Cell]]:
        """Yield the facts of all projects for the second sheet of the workbook."""
        yield from self.about()
        for project in self.projects:
            yield "", ""
            yield from self.facts(project)

    def about(self) -> list[tuple[str, Cell]]:
        return [
            (_("Period"), str(self.period)),
            (_("Created on"), format_datetime(self.created_at)),
            (_("Created by"), self.created_by),
        ]

    def iter_events(self, project: Project) -> Iterator[tuple[str, ...]]:
        """Yield the events of the project in the audit trail: time, person, action."""
        found = AuditEvent.objects.filter(
            self.period.filter("at"),
            about=services.audit_subject(project),
            action__startswith="project.",
        )
        for event in found.defer("patient_sealed").select_related("user").order_by("pk"):
            who = _name(event.user)
            yield format_datetime(event.at), who, event.action


def export_record(
    user: User, projects: QuerySet[Project], period: Period, form: str
) -> DataProtectionRecord:
    """Return the record for a file, and record the export. Raises NotPermitted."""
    require(user, Right.MANAGE_PROJECTS)
    found = DataProtectionRecord(projects, period, _name(user))
    details = {
        "projects": [project.protocol_id for project in found.projects],
        "since": "" if period.since is None else period.since.isoformat(),
        "until": "" if period.until is None else period.until.isoformat(),
        "format": form,
    }
    about = services.audit_subject(found.projects[0]) if len(found.projects) == 1 else ""
    record("project.record_exported", user=user, about=about, details=details)
    return found


def iter_transfers(jobs: QuerySet[Job]) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each job, in the order of `transfer_columns`. Nothing is decrypted."""
    items = SeriesResult.objects.filter(task__job__in=jobs).order_by()
    images = items.values_list("task__job").annotate(
        Sum("delivered"), Sum("withheld"), Sum("failed")
    )
    sums = {pk: counts for pk, *counts in images}
    tasks = Task.objects.filter(job__in=jobs, type=TaskType.ORDERED).order_by()
    studies = dict(tasks.values_list("job").annotate(Count("pk")))
    sources: dict[int, list[str]] = {}
    used = tasks.filter(source__isnull=False).values_list("job", "source__name").distinct()
    for pk, name in used.order_by("source__name"):
        sources.setdefault(pk, []).append(name)
    for job in jobs.iterator(chunk_size=500):
        kind = KINDS.get(job.kind)
        is_sent = job.destination is not None
        yield (
            job.project.protocol_id if job.project else "",
            job.pk,
            format_datetime(job.created_at),
            _name(job.owner),
            _(kind.label) if kind else job.kind,
            ", ".join(sources.get(job.pk, [])),
            job.destination.name if job.destination else "",
            (_("no") if job.is_as_is else _("yes")) if is_sent else "",
            job.state_text,
            studies.get(job.pk, 0),
            *sums.get(job.pk, (0, 0, 0)),
            _name(job.approved_by),
        )


def write_pdf(found: DataProtectionRecord) -> bytes:
    """Return the record as a PDF file."""
    return _RecordWriter().write(found)


class _RecordWriter(PdfWriter):
    """Lays out a record."""

    def write(self, found: DataProtectionRecord) -> bytes:
        self.pdf.set_title(_("Record for data protection"))
        self.pdf.add_page()
        self.add_heading(_("Record for data protection"), 16)
        self.add_table((), found.about(), (1, 4))
        for number, project in enumerate(found.projects):
            if number:
                self.pdf.add_page()
            self.add_heading(f"{project} ({project.protocol_id})", 13)
            self.add_table((), found.facts(project), (1, 4))
            self.add_heading(_("Transfers and queries"), 10)
            rows = (row[1:] for row in iter_transfers(found.jobs(project)))
            widths = (2, 4, 4, 4, 4, 4, 3, 4, 2, 3, 3, 3, 4)
            self.add_table(transfer_columns()[1:], rows, widths)
            self.add_heading(_("Approvals and changes"), 10)
            columns = (_("Time"), _("User"), _("Action"))
            self.add_table(columns, found.iter_events(project), (1, 1, 2))
        return self.finish()


def _describe_approval(project: Project) -> list[tuple[str, Cell]]:
    def day(value: date | None) -> str:
        return "" if value is None else format_date(value)

    return [
        (_("Project ID"), project.protocol_id),
        (_("Project name"), project.protocol_name),
        (_("State"), str(describe_state(project)[1])),
        (_("Sponsor"), project.sponsor),
        (_("Responsible"), project.responsible),
        (_("Purpose"), project.purpose),
        (_("Legal basis"), project.legal_basis),
        (_("Recipient"), project.recipient),
        (_("Approval number"), project.approval_number),
        (_("Proposed by"), _name(project.proposed_by)),
        (_("Ends on"), day(project.expires_on)),
        (_("Data must be deleted by"), day(project.deletion_on)),
    ]


def _describe_persons(project: Project) -> list[tuple[str, Cell]]:
    """The groups, each with the persons in it now, and the persons without a group."""
    relations = (
        (_("Members"), project.members, project.member_users),
        (_("Hold the identification list"), project.list_holders, project.list_holder_users),
        (_("May re-identify"), project.reidentifiers, project.reidentifier_users),
    )
    rows: list[tuple[str, Cell]] = []
    for label, relation, persons in relations:
        texts = []
        for group in relation.order_by("name"):
            users = User.objects.filter(groups=group, is_active=True).order_by("username")
            texts.append(f"{group.name}: {', '.join(map(_name, users)) or _('nobody')}")
        single = persons.filter(is_active=True).order_by("username")
        if single:
            texts.append(f"{_('single members')}: {', '.join(map(_name, single))}")
        rows.append((label, "; ".join(texts) or _("nobody")))
    return rows


def _describe_rules(project: Project) -> list[tuple[str, Cell]]:
    def names(nodes: QuerySet[Node], otherwise: str) -> str:
        return ", ".join(nodes.values_list("name", flat=True).order_by("name")) or otherwise

    nodes = _("not limited") if project.is_default else _("none")
    options = ", ".join(
        f"{one.code} {one.meaning}" for one in list_options(parse_rules(project.profile))
    )
    return [
        (_("Sources"), names(project.sources.all(), nodes)),
        (_("Destinations"), names(project.destinations.all(), nodes)),
        (_("Modalities"), _("all") if project.all_modalities else project.modalities or _("none")),
        (
            _("Maximum number of patients"),
            _("no limit") if project.patient_cap is None else project.patient_cap,
        ),
        (
            _("Approval by a second person"),
            _("each transfer") if project.second_person else _("not required by the project"),
        ),
        (_("Profile"), f"{project.profile} ({options})"),
        (_("Generation"), project.generation),
        *((one.title, one.sentence) for one in risks.decisions(project)),
    ]


def _name(user: User | None) -> str:
    return "" if user is None else user.get_full_name() or user.get_username()


def _start_of_day(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
