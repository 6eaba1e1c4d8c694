"""Tables of jobs and of the tasks of one job."""

from dataclasses import dataclass, field
from typing import Any, cast

from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext
from django_tables2 import Column, TemplateColumn

from adit.accounts.models import User
from adit.jobs import progress
from adit.jobs.disclosure import Disclosure
from adit.jobs.models import Job, SeriesResult, Task, TaskState
from adit.jobs.progress import ImageCounts, Progress
from adit.jobs.templatetags.dicom_format import dicom_date
from adit.jobs.views.task_labels import TaskLabels, get_task_labels, kind_label
from adit.tables import (
    NO_WRAP,
    NONE,
    ComputedColumn,
    LocalDateTimeColumn,
    NumberColumn,
    Table,
    format_number,
    muted,
    nowrap,
    show_reason,
    state_badge,
)
from adit_engine.messages import Message


class JobTable(Table):
    label = _lazy("Jobs")
    job = ComputedColumn(_lazy("Job"), order_by="pk", orderable=True)
    state = Column(_lazy("State"), order_by=("state", "-pk"), orderable=True)
    done = ComputedColumn(_lazy("Done"), attrs=NO_WRAP)
    destination = Column(_lazy("To"), order_by=("destination__name", "-pk"), orderable=True)
    project = Column(_lazy("Research project"), order_by=("project__name", "-pk"), orderable=True)
    owner = Column(_lazy("Ordered by"), order_by=("owner__username", "-pk"), orderable=True)
    created_at = LocalDateTimeColumn(
        _lazy("Ordered"), order_by=("created_at", "pk"), orderable=True
    )

    def __init__(self, data: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(data, request, **kwargs)
        self.viewer = cast(User, request.user)
        self.progress = progress.count_tasks(job.pk for job in self.records)
        progress.set_delivered_counts(self.records)

    def render_job(self, record: Job) -> str:
        name = record.title or kind_label(record)
        link = format_html(
            '<a href="{}">{} · {}</a>', reverse("job", args=[record.pk]), record.pk, name
        )
        marks = [_("urgent")] * record.urgent + [_("archived")] * bool(record.archived_at)
        badges = format_html_join(
            "", ' <span class="state state-info">{}</span>', ([mark] for mark in marks)
        )
        return link + badges

    def render_state(self, record: Job) -> str:
        return state_badge(record.displayed_state, record.state_text_for(self.viewer))

    def render_done(self, record: Job) -> str:
        far = self.progress.get(record.pk, Progress(0, 0))
        if not far.tasks:
            return muted(NONE)
        if not far.asks:
            text = ngettext("%(n)d of %(of)d study", "%(n)d of %(of)d studies", far.tasks)
        elif record.capabilities.has_result_table:
            text = ngettext("%(n)d of %(of)d query", "%(n)d of %(of)d queries", far.tasks)
        else:
            text = ngettext(
                "check: %(n)d of %(of)d part", "check: %(n)d of %(of)d parts", far.tasks
            )
        return text % {"n": far.tasks_ended, "of": far.tasks}

    def render_project(self, record: Job) -> str:
        project = record.project
        return muted(NONE) if project is None or project.is_default else str(project)

    def render_owner(self, value: User) -> str:
        return value.get_full_name() or value.get_username()


class StudyTable(Table):
    """The studies of a job. What identifies a patient is encrypted, and cannot be sorted."""

    label = _lazy("Studies")
    position = Column(_lazy("No."), orderable=True)
    study = ComputedColumn(_lazy("Study"))
    pseudonym = ComputedColumn(_lazy("Pseudonym"), attrs=NO_WRAP)
    source = Column(
        _lazy("From"), default="", order_by=("source__name", "position"), orderable=True
    )
    state = Column(_lazy("State"), order_by=("state", "position"), orderable=True)
    delivered = NumberColumn(_lazy("Delivered"))
    withheld = NumberColumn(_lazy("Withheld"))
    failed = NumberColumn(_lazy("Failed"))
    expected = NumberColumn(_lazy("Expected"))

    def __init__(
        self, data: Any, request: HttpRequest, disclosure: Disclosure, **kwargs: Any
    ) -> None:
        super().__init__(data, request, **kwargs)
        self.counts = progress.count_images_by_task(self.records)
        self.labels = {task.pk: get_task_labels(task, disclosure) for task in self.records}
        for task in self.records:
            task.delivered_counts = self.count(task).at_end

    @property
    def hides_pseudonyms(self) -> bool:
        return any(labels.is_pseudonym_hidden for labels in self.labels.values())

    def count(self, task: Task) -> ImageCounts:
        return self.counts.get(task.pk, ImageCounts())

    def render_study(self, record: Task) -> str:
        labels = self.labels[record.pk]
        return format_html(
            '<a href="{}">{}</a> {}{}',
            reverse("job_task", args=[record.job_id, record.position]),
            _study_name(record, labels),
            muted(labels.modalities),
            format_html('<div class="quiet task-message">{}</div>', show_reason(record.message))
            if record.message
            else "",
        )

    def render_pseudonym(self, record: Task) -> str:
        labels = self.labels[record.pk]
        return muted(_("not shown")) if labels.is_pseudonym_hidden else labels.pseudonym

    def render_state(self, record: Task) -> str:
        return state_badge(record.displayed_state, record.state_text)

    def render_delivered(self, record: Task) -> str:
        return format_number(self.count(record).delivered)

    def render_withheld(self, record: Task) -> str:
        return format_number(self.count(record).withheld)

    def render_failed(self, record: Task) -> str:
        return format_number(self.count(record).failed)

    def render_expected(self, record: Task) -> str:
        expected = self.count(record).expected
        if expected is not None:
            return format_number(expected)
        is_live = record.state in (TaskState.PENDING, TaskState.IN_PROGRESS)
        return NONE if is_live else muted(_("unknown"))


@dataclass(frozen=True, slots=True)
class SeriesRow:
    item: SeriesResult
    description: str = field(default="", repr=False)
    """Empty for users who may not see it."""
    reason_without_list: Message | None = None

    @property
    def counts(self) -> SeriesResult | None:
        """Return the item, or None if the series was left out on purpose."""
        return None if self.item.skip_reason is not None else self.item


class SeriesTable(Table):
    """The series of one study. Descriptions are encrypted, and cannot be sorted."""

    label = _lazy("Series")
    number = NumberColumn(_lazy("No."), accessor="item__number", orderable=True)
    series = ComputedColumn(_lazy("Series"))
    expected = NumberColumn(_lazy("Expected"), accessor="counts__expected", orderable=True)
    delivered = NumberColumn(_lazy("Delivered"), accessor="counts__delivered", orderable=True)
    withheld = NumberColumn(_lazy("Withheld"), accessor="counts__withheld", orderable=True)
    skipped = NumberColumn(_lazy("Skipped"), accessor="counts__skipped", orderable=True)
    failed = NumberColumn(_lazy("Failed"), accessor="counts__failed", orderable=True)
    size = NumberColumn(_lazy("Size"), accessor="counts__size_bytes", orderable=True)
    remarks = TemplateColumn(
        verbose_name=_lazy("Remarks"), template_name="jobs/_series_remarks_cell.html"
    )

    def render_series(self, record: SeriesRow) -> str:
        return f"{record.item.modality} {record.description}"

    def render_expected(self, record: SeriesRow, value: int | None) -> str:
        if value is not None:
            return format_number(value)
        return NONE if record.item.skip_reason is not None else muted(_("unknown"))

    def render_size(self, value: int | None) -> str:
        return progress.format_size(value) if value else NONE


class SearchTaskTable(Table):
    """The tasks of a batch query or of a check."""

    label = _lazy("Queries")
    position = Column(
        _lazy("No."),
        orderable=True,
        linkify=lambda record: reverse("job_task", args=[record.job_id, record.position]),
    )
    source = Column(
        _lazy("Source"), default="", order_by=("source__name", "position"), orderable=True
    )
    message = Column(_lazy("Result"), default="")
    state = Column(_lazy("State"), order_by=("state", "position"), orderable=True)

    def render_state(self, record: Task) -> str:
        return state_badge(record.displayed_state, record.state_text)


def _study_name(task: Task, labels: TaskLabels) -> str:
    if labels.is_masked or labels.is_closed:
        return _("Study %(n)d") % {"n": task.position}
    day = nowrap(dicom_date(labels.study_date))
    return format_html("{} · {}", day, labels.description or _("(no description)"))
