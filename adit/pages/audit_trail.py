"""Find, show, export and verify events of the audit trail. Used by the pages of the audit trail."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db.models import CharField, F, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.audit.models import AuditEvent
from adit.audit.trail import record, verify_chain
from adit.jobs.models import Job, Task
from adit.message_templates import EVENT_ACTIONS
from adit.nodes.models import Node
from adit.pages.audit_sentences import (
    EventNames,
    describe_event,
    describe_event_html,
    format_value,
)
from adit.projects import services
from adit.projects.models import Project
from adit.projects.services import audit_subject

PER_PAGE = 50
READ, EXPORTED, VERIFIED = "trail.read", "trail.exported", "trail.verified"
READ_INTERVAL = timedelta(hours=1)
"""Reading is recorded once per person in this time."""

VIEWS = frozenset(
    {
        *("search.run", "node.remembered", "job.seen", "pseudonyms.seen", "basket.seen"),
        "withheld.seen",
        *("quarantine.viewed", "profile.tried", "patient.reidentified"),
        *("job.results_downloaded", "job.result_downloaded", "job.names_downloaded"),
        *("job.report_downloaded", "archive.downloaded"),
        *("project.map_exported", "project.uids_exported", "project.key_exported"),
        *("trail.read", "trail.exported", "trail.patient_searched"),
    }
)
"""The actions by which a person saw or got data."""

_SIGN_IN = {"signin", "signout", "session", "password", "second_factor"}
_SYSTEM = {"system", "mail", "directory", "configuration", "retention"}
CATEGORIES: dict[str, tuple[Any, frozenset[str]]] = {
    "viewed": (_("Data seen or downloaded"), VIEWS),
    **{
        noun: (label, frozenset(one for one in EVENT_ACTIONS if one.partition(".")[0] in nouns))
        for noun, label, nouns in (
            ("job", _("Jobs"), {"job", "rows", "order"}),
            ("task", _("Studies of jobs"), {"task"}),
            ("withheld", _("Withheld images"), {"withheld"}),
            ("archive", _("7-Zip files"), {"archive"}),
            ("search", _("Searches"), {"search"}),
            ("node", _("PACS and folders"), {"node", "identified", "quarantine"}),
            ("project", _("Research projects"), {"project"}),
            ("patient", _("Pseudonyms"), {"patient", "pseudonym", "pseudonyms", "basket"}),
            ("profile", _("Profiles"), {"profile"}),
            ("user", _("Users and groups"), {"user", "group", "budget", "setup", "link"}),
            ("token", _("API tokens and webhooks"), {"token", "webhook"}),
            ("dicomweb", _("DICOMweb"), {"dicomweb"}),
            ("signin", _("Sign-in"), _SIGN_IN),
            ("recall", _("Block list, recalls and consent"), {"blocklist", "recall", "consent"}),
            ("system", _("System, mail and retention"), _SYSTEM),
            ("trail", _("Audit trail"), {"trail"}),
        )
    },
}
_PSEUDONYM_DETAILS = frozenset({"pseudonym", "before"})
"""Only for readers of the whole trail, because others may know the patient."""

_SUBJECT_VALIDATOR = RegexValidator(
    r"\A(job|node|project|profile|user|group|token|webhook):[A-Za-z0-9_.-]*\Z",
    _("For example job:12, node:3 or project:LUNG. Never a patient."),
)

_POSSIBLE_DAYS = [MinValueValidator(date(1900, 1, 1)), MaxValueValidator(date(2999, 12, 31))]
"""A day before or after the first or last day of the calendar cannot be computed."""


def _date_widget() -> forms.DateInput:
    return forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")


class AuditTrailForm(forms.Form):
    """Filter of events that the reader may see.

    Its values are part of the URL and are recorded in the audit trail, so none of them is a
    patient.
    """

    def __init__(self, reader: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = reader
        fields: dict[str, Any] = self.fields
        reads_all = has_right(reader, Right.READ_TRAIL)
        every = Project.objects.filter(is_default=False)
        fields["project"].queryset = every if reads_all else member_projects(reader)
        if not reads_all and not has_right(reader, Right.MANAGE_NODES):
            fields["node"].queryset = Node.objects.none()
            colleagues = User.objects.filter(groups__projects__in=member_projects(reader))
            fields["person"].queryset = colleagues.distinct().order_by("username")
        chosen = self.data.get("action", "")
        if chosen in EVENT_ACTIONS:  # linked from other pages
            fields["action"].choices = [*fields["action"].choices, (chosen, chosen)]

    person = forms.ModelChoiceField(
        User.objects.order_by("username"),
        label=_("User"),
        required=False,
        to_field_name="username",
        empty_label=_("All users"),
    )
    action = forms.ChoiceField(
        label=_("What"),
        required=False,
        choices=[("", _("All actions")), *((key, one[0]) for key, one in CATEGORIES.items())],
    )
    project = forms.ModelChoiceField(
        Project.objects.none(),
        label=_("Project"),
        required=False,
        to_field_name="protocol_id",
        empty_label=_("All projects"),
    )
    node = forms.ModelChoiceField(
        Node.objects.order_by("name"),
        label=_("PACS or folder"),
        required=False,
        empty_label=_("All PACS and folders"),
    )
    job = forms.IntegerField(label=_("Job number"), required=False, min_value=1, max_value=2**62)
    about = forms.CharField(
        required=False,
        max_length=128,
        validators=[_SUBJECT_VALIDATOR],
        widget=forms.HiddenInput,
    )
    """An object, for links from other pages."""
    since = forms.DateField(
        label=_("From"), required=False, widget=_date_widget(), validators=_POSSIBLE_DAYS
    )
    until = forms.DateField(
        label=_("Until"), required=False, widget=_date_widget(), validators=_POSSIBLE_DAYS
    )
    before = forms.IntegerField(
        required=False, min_value=1, max_value=2**62, widget=forms.HiddenInput
    )
    """The oldest event of the previous page."""

    @property
    def asked(self) -> dict[str, str]:
        """Return the filter as in the URL and in the audit trail."""
        given = {name: self.cleaned_data.get(name) for name in self.fields if name != "before"}
        return {name: _to_query(value) for name, value in given.items() if value}


def _to_query(value: Any) -> str:
    if isinstance(value, Project):
        return value.protocol_id
    return str(value.pk if isinstance(value, Node) else value)


@dataclass(frozen=True, slots=True)
class AuditTrailRow:
    """One event as a sentence, with readable details. The patient stays encrypted."""

    event: AuditEvent
    sentence: SafeString
    details: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class AuditTrailPage:
    lines: list[AuditTrailRow]
    older: str
    """The URL query of the next page; empty on the last one."""


def may_read(user: User) -> bool:
    """Return whether the user may see at least a part of the audit trail."""
    return (
        has_right(user, Right.READ_TRAIL)
        or has_right(user, Right.MANAGE_NODES)
        or member_projects(user).exists()
    )


def member_projects(user: User) -> QuerySet[Project]:
    """Return the projects whose part of the audit trail the user may read.

    As in projects.services.is_member, who manages research projects counts as a member.
    """
    if not user.is_active:
        return Project.objects.none()
    if has_right(user, Right.MANAGE_PROJECTS):
        return Project.objects.filter(is_default=False)
    return services.member_projects(user)


def visible_events(user: User) -> QuerySet[AuditEvent]:
    """Return the events that the user may read.

    These are all with the permission; otherwise those of nodes for users who manage nodes, and
    those of a project and of its jobs for its members.
    """
    events = AuditEvent.objects.select_related("user").defer("patient_sealed").order_by("-id")
    if has_right(user, Right.READ_TRAIL):
        return events
    projects = member_projects(user)
    subjects = [audit_subject(project) for project in projects]
    mine = Q(about__in=subjects) | Q(
        about__in=_job_subjects(Job.objects.filter(project__in=projects))
    )
    if has_right(user, Right.MANAGE_NODES):
        mine |= Q(about__startswith="node:")
    return events.filter(mine)


def _job_subjects(jobs: QuerySet[Job]) -> QuerySet[Any]:
    """Return the subjects of jobs as a subquery."""
    subject = Concat(Value("job:"), Cast(F("pk"), CharField()), output_field=CharField())
    return jobs.order_by().values_list(subject, flat=True)


def read_page(form: AuditTrailForm) -> AuditTrailPage:
    """Return the newest matching events and record the access.

    With `before`, only events below it.
    """
    events = find_events(form)
    before = form.cleaned_data.get("before")
    if before:
        events = events.filter(pk__lt=before)
    rows = list(events[: PER_PAGE + 1])
    older = ""
    if len(rows) > PER_PAGE:
        rows.pop()
        older = urlencode({**form.asked, "before": rows[-1].pk})
    record_reading(form.reader, {"asked": form.asked, "events": len(rows)})
    return AuditTrailPage(make_rows(form.reader, rows), older)


def record_reading(user: User, details: dict[str, Any]) -> None:
    """Record that the user reads the audit trail, once in READ_INTERVAL."""
    since = timezone.now() - READ_INTERVAL
    if not AuditEvent.objects.filter(user=user, action=READ, at__gt=since).exists():
        record(READ, user=user, details=details)


def find_events(form: AuditTrailForm) -> QuerySet[AuditEvent]:
    """Return the matching events that the reader may see, newest first."""
    asked = form.cleaned_data
    wanted = Q()
    if asked.get("person"):
        wanted &= Q(user=asked["person"])
    if action := asked.get("action"):
        wanted &= Q(action__in=CATEGORIES[action][1] if action in CATEGORIES else [action])
    if asked.get("about"):
        wanted &= Q(about=asked["about"])
    if asked.get("job"):
        wanted &= Q(about=f"job:{asked['job']}")
    if project := asked.get("project"):
        jobs = _job_subjects(Job.objects.filter(project=project))
        wanted &= Q(about=audit_subject(project)) | Q(about__in=jobs)
    if node := asked.get("node"):
        used = Q(destination=node) | Q(pk__in=Task.objects.filter(source=node).values("job"))
        jobs = _job_subjects(Job.objects.filter(used))
        wanted &= Q(about=f"node:{node.pk}") | Q(about__in=jobs)
    if asked.get("since"):
        wanted &= Q(at__gte=_start_of_day(asked["since"]))
    if asked.get("until"):
        wanted &= Q(at__lt=_start_of_day(asked["until"] + timedelta(days=1)))
    return visible_events(form.reader).filter(wanted)


EXPORT_COLUMNS = (
    *("number", "at", "person", "what", "action", "about", "details"),
    *("concerns_a_patient", "hash"),
)


def export_rows(reader: User, events: QuerySet[AuditEvent]) -> Iterator[tuple[str | int, ...]]:
    """Yield a row for each event."""
    found = events.iterator(chunk_size=1000)
    while some := list(islice(found, 1000)):
        names = EventNames(reader, some)
        for event in some:
            details = "; ".join(f"{name}: {text}" for name, text in _list_details(reader, event))
            yield (
                event.pk,
                event.at.isoformat(timespec="seconds"),
                event.user.get_username() if event.user else "",
                describe_event(event, names),
                event.action,
                event.about,
                details,
                "yes" if event.patient_index else "no",
                event.hash,
            )


def verify_and_record(user: User) -> AuditEvent:
    """Verify the whole chain, record the result and return the recorded event."""
    broken = verify_chain()
    details: dict[str, Any] = {"whole": broken is None}
    if broken is not None:
        details = {"whole": False, "event": broken.row, "why": broken.reason.to_json()}
    return record(VERIFIED, user=user, details=details)


def get_last_verification() -> AuditEvent | None:
    events = (
        AuditEvent.objects.filter(action=VERIFIED).defer("patient_sealed").select_related("user")
    )
    return events.order_by("-id").first()


def make_rows(reader: User, events: list[AuditEvent]) -> list[AuditTrailRow]:
    names = EventNames(reader, events)
    return [
        AuditTrailRow(event, describe_event_html(event, names), _list_details(reader, event))
        for event in events
    ]


def explain_break(event: AuditEvent) -> str:
    """Return why the chain is broken, if the event is a failed verification."""
    return format_value(event.details.get("why"))


def _list_details(reader: User, event: AuditEvent) -> list[tuple[str, str]]:
    hidden = frozenset() if has_right(reader, Right.READ_TRAIL) else _PSEUDONYM_DETAILS
    pairs = [(str(name), format_value(value)) for name, value in sorted(event.details.items())]
    return [(name, text) for name, text in pairs if text and name not in hidden]


def _start_of_day(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
