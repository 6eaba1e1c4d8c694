"""The tables of a consent list and of its versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.consent.models import ConsentEntry, ConsentVersion
from adit.consent.uploads import EFFECT_NAMES, RowEffect, UploadedList
from adit.dates import format_date, format_datetime
from adit.spreadsheets.columns import SheetField
from adit.spreadsheets.row_verdicts import RowVerdict
from adit.tables import (
    NUMBER,
    ROW_HEADER,
    ActionColumn,
    ComputedColumn,
    DateColumn,
    Table,
    state_badge,
)
from adit_engine.messages import Message


class ConsentTable(Table):
    label = _lazy("Consent list")
    patient = Column(_lazy("Patient ID"), accessor="patient_id", orderable=False, attrs=ROW_HEADER)
    domain = ComputedColumn(_lazy("Issued by"))
    state = ComputedColumn(_lazy("State"))
    modalities = ComputedColumn(_lazy("Modalities"))
    valid_until = DateColumn(_lazy("Valid until"), order_by=("valid_until", "pk"), orderable=True)
    actions = ActionColumn(
        verbose_name=_lazy("Actions"), template_name="consent/_consent_cell.html", attrs=NUMBER
    )

    def render_domain(self, record: ConsentEntry) -> str:
        return record.domain

    def render_state(self, record: ConsentEntry) -> str:
        if record.withdrawn_on is not None:
            day = format_date(record.withdrawn_on)
            return state_badge("failure", _("withdrawn on %s") % day)
        if record.valid_until is not None and record.valid_until < timezone.localdate():
            return state_badge("closed", _("expired"))
        return state_badge("success", _("valid"))

    def render_modalities(self, record: ConsentEntry) -> str:
        return record.modalities or _("all")


class OldConsentTable(ConsentTable):
    """The entries of an earlier version; nothing can be changed there."""

    change = ComputedColumn(_lazy("Change"))

    class Meta:
        exclude = ("actions",)
        sequence = ("patient", "domain", "change", "...")

    def __init__(self, data: Any, request: HttpRequest, version: ConsentVersion) -> None:
        self._version = version
        super().__init__(data, request)

    def render_state(self, record: ConsentEntry) -> str:
        """Return the state without expiry, which depends on the day."""
        if record.withdrawn_on is not None:
            return super().render_state(record)
        return state_badge("success", _("consented"))

    def render_change(self, record: ConsentEntry) -> str:
        is_new = record.added_in_id == self._version.pk
        return _("added or changed in this version") if is_new else ""


class RemovedConsentTable(ConsentTable):
    label = _lazy("Patients who are removed from the list")

    class Meta:
        exclude = ("actions",)


class ConsentVersionTable(Table):
    label = _lazy("Versions")
    number = ComputedColumn(_lazy("Version"), attrs=ROW_HEADER)
    created = ComputedColumn(_lazy("Saved"))
    change = ComputedColumn(_lazy("Change"))
    reason = ComputedColumn(_lazy("Reason"))

    def render_number(self, record: ConsentVersion) -> SafeString:
        address = reverse("project_consent_version", args=[record.project_id, record.number])
        return format_html('<a href="{}">{}</a>', address, record.number)

    def render_created(self, record: ConsentVersion) -> str:
        day = format_datetime(record.created_at)
        return _("%(date)s by %(user)s") % {"date": day, "user": record.created_by}

    def render_change(self, record: ConsentVersion) -> str:
        """A version changes one patient, is a complete list, or takes the list out of use."""
        if record.upload_index:
            return _("list uploaded")
        if not record.is_in_use and not record.has_added:  # type: ignore[attr-defined]
            return _("list removed")
        if record.has_withdrawn:  # type: ignore[attr-defined]
            return _("consent withdrawn")
        if record.has_replaced:  # type: ignore[attr-defined]
            return _("consent changed")
        return _("patient added")

    def render_reason(self, record: ConsentVersion) -> str:
        return str(record.reason)


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row of an uploaded list with its verdict and its effect."""

    line: int
    verdict: RowVerdict
    values: Mapping[str, str]
    findings: Sequence[Message]
    effect: RowEffect | None


class CheckedRowTable(Table):
    label = _lazy("Rows of the list")
    line = Column(_lazy("Line"), attrs=ROW_HEADER)
    verdict = ComputedColumn(_lazy("Verdict"))
    effect = ComputedColumn(_lazy("Change"))
    patient = ComputedColumn(_lazy("Patient ID"))
    domain = ComputedColumn(_lazy("Issued by"))
    modalities = ComputedColumn(_lazy("Modalities"))
    valid_until = ComputedColumn(_lazy("Valid until"))
    withdrawn_on = ComputedColumn(_lazy("Withdrawn on"))

    def render_verdict(self, record: CheckedRow) -> str:
        state, word = _VERDICTS[record.verdict]
        notes = format_html_join("", '<br><span class="quiet">{}</span>', zip(record.findings))
        return format_html("{}{}", state_badge(state, word), notes)

    def render_effect(self, record: CheckedRow) -> str:
        return "" if record.effect is None else str(EFFECT_NAMES[record.effect])

    def render_patient(self, record: CheckedRow) -> str:
        return record.values.get(SheetField.PATIENT_ID, "")

    def render_domain(self, record: CheckedRow) -> str:
        return record.values.get(SheetField.DOMAIN, "")

    def render_modalities(self, record: CheckedRow) -> str:
        return record.values.get(SheetField.MODALITY, "")

    def render_valid_until(self, record: CheckedRow) -> str:
        return record.values.get(SheetField.VALID_UNTIL, "")

    def render_withdrawn_on(self, record: CheckedRow) -> str:
        return record.values.get(SheetField.WITHDRAWN_ON, "")


_VERDICTS = {
    RowVerdict.OK: ("success", _lazy("ok")),
    RowVerdict.WARNING: ("warning", _lazy("check")),
    RowVerdict.ERROR: ("failure", _lazy("error")),
    RowVerdict.LEFT_OUT: ("canceled", _lazy("excluded")),
}
_WORST_FIRST = (RowVerdict.ERROR, RowVerdict.WARNING, RowVerdict.OK, RowVerdict.LEFT_OUT)


def list_checked_rows(uploaded: UploadedList) -> list[CheckedRow]:
    """Return the rows of an uploaded list, those with problems first."""
    rows = [
        CheckedRow(
            row.line,
            row.verdict,
            uploaded.validated.get_requested(row),
            [finding.describe_for(row.line) for finding in row.findings],
            uploaded.effects_by_line.get(row.line),
        )
        for row in uploaded.validated.rows
    ]
    return sorted(rows, key=lambda row: (_WORST_FIRST.index(row.verdict), row.line))
