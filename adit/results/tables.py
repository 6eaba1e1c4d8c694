"""Tables of 7-Zip files, and of the series and elements in a report."""

from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column, TemplateColumn

from adit.dates import format_date
from adit.jobs.progress import format_size
from adit.results.archives import ArchiveFileRow
from adit.tables import (
    NO_WRAP,
    ROW_HEADER,
    ActionColumn,
    ComputedColumn,
    LocalDateTimeColumn,
    NumberColumn,
    Table,
    format_number,
    muted,
)


class ArchiveTable(Table):
    label = _lazy("Encrypted 7-Zip files")
    name = Column(_lazy("File"), accessor="file__name", orderable=True)
    job = ComputedColumn(_lazy("Job"), order_by="file__job_id", orderable=True)
    built_at = LocalDateTimeColumn(_lazy("Created"), accessor="file__built_at", orderable=True)
    images = NumberColumn(_lazy("Images"), accessor="file__images", orderable=True)
    size = NumberColumn(_lazy("Size"), accessor="file__size_bytes", orderable=True)
    kept_until = ComputedColumn(
        _lazy("Available until"), attrs=NO_WRAP, order_by="file__expires_at", orderable=True
    )
    download = ActionColumn(
        verbose_name=_lazy("Action"), template_name="results/_download_cell.html"
    )

    def render_name(self, record: ArchiveFileRow) -> str:
        if not record.path or record.file.removed_at:
            return record.file.name
        return format_html('{}<div class="quiet">{}</div>', record.file.name, record.path)

    def render_job(self, record: ArchiveFileRow) -> str:
        job = record.file.job
        name = f"{job.pk} · {job.title}" if job.title else str(job.pk)
        return format_html('<a href="{}">{}</a>', reverse("job", args=[job.pk]), name)

    def render_size(self, value: int) -> str:
        return format_size(value)

    def render_kept_until(self, record: ArchiveFileRow) -> str:
        if record.file.removed_at is None:
            return format_date(timezone.localdate(record.file.expires_at))
        day = format_date(timezone.localdate(record.file.removed_at))
        return muted(_("deleted %(at)s") % {"at": day})


class SeriesReportTable(Table):
    """The series of one study, with the new study UID as caption."""

    series = ComputedColumn(_lazy("Series"), attrs=ROW_HEADER)
    expected = NumberColumn(_lazy("Expected"))
    delivered = NumberColumn(_lazy("Delivered"))
    withheld = NumberColumn(_lazy("Withheld"))
    failed = NumberColumn(_lazy("Failed"))
    skipped = NumberColumn(_lazy("Skipped"))
    remarks = TemplateColumn(
        verbose_name=_lazy("Remarks"), template_name="results/_remarks_cell.html"
    )

    def __init__(self, study: dict[str, Any], *args: Any) -> None:
        super().__init__(
            study["series"], *args, per_page=None, empty_text=_("No series were transferred.")
        )
        self.label = _("Series of study %(n)d") % {"n": study["number"]}
        self.caption = f"{_('New study UID:')} {study['study_uid'] or _('unknown')}"

    def render_series(self, record: dict[str, Any]) -> str:
        number = "–" if record["number"] is None else record["number"]
        return f"{record['modality']} {number}"

    def render_expected(self, value: int | None) -> str:
        return muted(_("unknown")) if value is None else format_number(value)


class ElementTable(Table):
    label = _lazy("Changes of the headers")
    name = Column(_lazy("Element"), attrs=ROW_HEADER, orderable=True)
    tag = Column(_lazy("Tag"), orderable=True, attrs=NO_WRAP)
    action = Column(_lazy("Action"), orderable=True)
    count = NumberColumn(_lazy("Count"), orderable=True)
