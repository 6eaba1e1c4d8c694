"""Tables of an order: its patients, and the rows of a batch transfer. Nothing is sorted: the values
are encrypted, or may be masked.
"""

from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column, TemplateColumn

from adit.jobs.kinds.picked_study import PickedPatient
from adit.jobs.models import Job
from adit.jobs.templatetags.dicom_format import masked, person_name
from adit.results.transfer_results import TransferRowResult
from adit.tables import NO_WRAP, ComputedColumn, NumberColumn, Table, muted

MAX_CELL_LENGTH = 60


class PatientTable(Table):
    """Rows are a patient of the basket, the known pseudonym, and the visits of the studies."""

    label = _lazy("Patients and pseudonyms")
    name = Column(_lazy("Patient"), accessor="0")
    patient_id = Column(_lazy("Patient ID"), accessor="0__patient_id", attrs=NO_WRAP)
    pseudonym = ComputedColumn(_lazy("Pseudonym"), accessor="1")
    visits = Column(_lazy("Visits"), accessor="2")

    def __init__(
        self, *args: Any, sees_identified: bool, is_identified: bool, **kwargs: Any
    ) -> None:
        super().__init__(*args, per_page=None, **kwargs)
        self.sees_identified = sees_identified
        self.is_identified = is_identified

    def render_name(self, value: PickedPatient) -> str:
        return masked(person_name(value.name), self.sees_identified)

    def render_pseudonym(self, value: str) -> str:
        if self.is_identified:
            return _("none (identified)")
        if value:
            return format_html("<strong>{}</strong>", value)
        return muted(_("existing or generated at the start"))


class OwnColumn(Column):
    """A column of the user's sheet that ADIT does not use."""

    def render(self, value: str) -> str:
        return Truncator(value).chars(MAX_CELL_LENGTH)


class RowResultTable(Table):
    """The rows of a batch transfer, already paged, with the user's own columns if shown."""

    label = _lazy("Rows")
    css_class = "rows-table"
    line = Column(_lazy("Line"))
    outcome = TemplateColumn(
        verbose_name=_lazy("Outcome"), template_name="orders/_row_outcome_cell.html"
    )
    study = TemplateColumn(
        verbose_name=_lazy("Study"),
        template_name="orders/_row_study_cell.html",
        attrs={"td": {"class": "row-study"}},
    )
    pseudonym = ComputedColumn(_lazy("Pseudonym"), attrs=NO_WRAP)
    visit = Column(_lazy("Visit"), accessor="content__visit__id", default="")
    expected = NumberColumn(_lazy("Expected"), accessor="counts__expected")
    delivered = NumberColumn(_lazy("Delivered"), accessor="counts__delivered")
    withheld = NumberColumn(_lazy("Withheld"), accessor="counts__withheld")
    failed = NumberColumn(_lazy("Failed"), accessor="counts__failed")

    def __init__(
        self, rows: list[TransferRowResult], request: HttpRequest, job: Job, *, shows_own: bool
    ) -> None:
        headers = job.order.get("own_headers", []) if shows_own else []
        super().__init__(
            rows,
            request,
            per_page=None,
            exclude=() if any(row.content and row.content.visit for row in rows) else ("visit",),
            row_attrs={"id": lambda record: f"line-{record.line}"},
            extra_columns=[
                (f"own_{n}", OwnColumn(header, accessor=f"content__own__{n}", default=""))
                for n, header in enumerate(headers)
            ],
        )
        self.is_identified = bool(job.order.get("reason"))

    def render_pseudonym(self, record: TransferRowResult) -> str:
        content = record.content
        if content is None:
            return ""
        if record.generated:
            return record.generated
        if record.is_hidden:
            return muted(_("not shown"))
        if not content.pseudonym and content.study and not self.is_identified:
            return muted(_("existing or generated at the start"))
        return content.pseudonym
