"""Find, show, export and verify events of the audit trail. Used by the pages of the audit trail."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.audit.trail import record, verify_chain
from adit_engine.messages import Message

PER_PAGE = 50
READ, EXPORTED, VERIFIED = "trail.read", "trail.exported", "trail.verified"

_ACTION_VALIDATOR = RegexValidator(
    r"\A[a-z_]+(\.[a-z_]*)?\Z", _("For example job.created, or job for all actions on jobs.")
)
_SUBJECT_VALIDATOR = RegexValidator(
    r"\A(job|node|project|profile|user|group|token):[A-Za-z0-9_.-]*\Z",
    _("For example job:12, node:3 or project:LUNG. Never a patient."),
)

_POSSIBLE_DAYS = [MinValueValidator(date(1900, 1, 1)), MaxValueValidator(date(2999, 12, 31))]
"""A day before or after the first or last day of the calendar cannot be computed."""


def _date_widget() -> forms.DateInput:
    return forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")


class AuditTrailForm(forms.Form):
    """Filter of events.

    Its values are part of the URL and are recorded in the audit trail, so none of them is a
    patient.
    """

    person = forms.ModelChoiceField(
        User.objects.order_by("username"),
        label=_("User"),
        required=False,
        to_field_name="username",
        empty_label=_("All users"),
    )
    action = forms.CharField(
        label=_("Action"), required=False, max_length=64, validators=[_ACTION_VALIDATOR]
    )
    about = forms.CharField(
        label=_("Object"), required=False, max_length=128, validators=[_SUBJECT_VALIDATOR]
    )
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
        return {name: str(value) for name, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class AuditTrailRow:
    """One event with readable details. The patient stays encrypted."""

    event: AuditEvent
    who: str
    details: list[tuple[str, str]]

    @property
    def problem(self) -> str:
        """Why the chain is broken, if the event is a failed verification."""
        return dict(self.details).get("why", "")


@dataclass(frozen=True, slots=True)
class AuditTrailPage:
    lines: list[AuditTrailRow]
    older: str
    """The URL query of the next page; empty on the last one."""


def read_page(user: User, form: AuditTrailForm) -> AuditTrailPage:
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
    record(READ, user=user, details={"asked": form.asked, "events": len(rows)})
    return AuditTrailPage([make_row(event) for event in rows], older)


def find_events(form: AuditTrailForm) -> QuerySet[AuditEvent]:
    """Return the matching events, newest first."""
    asked = form.cleaned_data
    wanted = Q()
    if asked.get("person"):
        wanted &= Q(user=asked["person"])
    if asked.get("action"):
        action = asked["action"]
        wanted &= Q(action=action) if action.count(".") else Q(action__startswith=f"{action}.")
    if asked.get("about"):
        wanted &= Q(about=asked["about"])
    if asked.get("since"):
        wanted &= Q(at__gte=_start_of_day(asked["since"]))
    if asked.get("until"):
        wanted &= Q(at__lt=_start_of_day(asked["until"] + timedelta(days=1)))
    events = AuditEvent.objects.filter(wanted).select_related("user")
    return events.defer("patient_sealed").order_by("-id")


EXPORT_COLUMNS = (
    *("number", "at", "person", "action", "about", "details"),
    *("concerns_a_patient", "hash"),
)


def export_rows(events: QuerySet[AuditEvent]) -> Iterator[tuple[str | int, ...]]:
    """Yield a row for each event."""
    for event in events.iterator(chunk_size=1000):
        line = make_row(event)
        details = "; ".join(f"{name}: {text}" for name, text in line.details)
        concerns = "yes" if event.patient_index else "no"
        at = event.at.isoformat(timespec="seconds")
        who = event.user.get_username() if event.user else ""
        yield (event.pk, at, who, event.action, event.about, details, concerns, event.hash)


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


def make_row(event: AuditEvent) -> AuditTrailRow:
    user = event.user
    who = (user.get_full_name() or user.get_username()) if user else ""
    details = [(str(name), _format_value(value)) for name, value in sorted(event.details.items())]
    return AuditTrailRow(event, who, [(name, text) for name, text in details if text])


def _format_value(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"code", "values"}:
        return str(Message.from_json(value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_format_value(inner)}" for name, inner in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(_format_value(inner) for inner in value)
    return "" if value is None else str(value)


def _start_of_day(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
