"""The second sheet of a result workbook: the order, and totals of its rows and images.

Used by the downloads of queries and batch transfers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from django.utils.translation import gettext as _

from adit.dates import format_datetime
from adit.jobs import progress
from adit.jobs.kinds import get_capabilities
from adit.jobs.models import Job, SeriesResult
from adit.nodes.models import Node
from adit.table_files import Cell

T = TypeVar("T", bound=Sequence[str])


class RowCounter:
    """Counts the rows of a sheet by the word in one column while they are written."""

    def __init__(self, column: int) -> None:
        self._column = column
        self.rows = 0
        self.by_word: Counter[str] = Counter()

    def count(self, rows: Iterable[T]) -> Iterator[T]:
        """Yield the rows unchanged. Lazy."""
        for row in rows:
            self.rows += 1
            self.by_word[row[self._column]] += 1
            yield row


def summarize_transfer(job: Job, counter: RowCounter) -> Iterator[tuple[str, Cell]]:
    """Yield the summary of a batch transfer; read it after the rows. Lazy.

    Several rows may name one study: studies and images are counted once, as on the page of the job.
    """
    yield from _describe_order(job)
    yield _("Rows"), counter.rows
    for word, count in sorted(counter.by_word.items()):
        yield _("Rows: %(outcome)s") % {"outcome": word}, count
    counts = progress.count_images(SeriesResult.objects.filter(task__job=job))
    yield _("Studies"), progress.transfer_tasks(job).count()
    unknown = _("unknown: a source did not list its images")
    if counts.series:
        yield _("Images expected"), unknown if counts.expected is None else counts.expected
    yield _("Images delivered"), counts.delivered
    yield _("Images withheld"), counts.withheld
    yield _("Images failed"), counts.failed
    yield _("Images skipped"), counts.skipped


def summarize_query(job: Job, totals: Iterable[tuple[str, Cell]]) -> Iterator[tuple[str, Cell]]:
    """Yield the order of a batch query and these totals. Lazy."""
    yield from _describe_order(job)
    yield from totals


def _describe_order(job: Job) -> Iterator[tuple[str, Cell]]:
    project = job.project
    has_project = project is not None and not project.is_default
    yield _("Job"), job.pk
    yield _("Kind"), _(get_capabilities(job.kind).label)
    yield _("Title"), job.title
    yield _("Research project"), str(project) if has_project else _("none")
    yield _("Source"), ", ".join(_source_names(job))
    if job.destination is not None:
        yield _("Destination"), job.destination.name
    yield _("Ordered by"), job.owner.get_full_name() or job.owner.get_username()
    yield _("Ordered"), format_datetime(job.created_at)
    yield _("Finished"), format_datetime(job.ended_at) if job.ended_at else _("not yet")
    yield _("State"), job.state_text
    yield _("Result"), str(job.message or "")


def _source_names(job: Job) -> list[str]:
    used = job.tasks.exclude(source=None).order_by().values("source")
    return list(Node.objects.filter(pk__in=used).order_by("name").values_list("name", flat=True))
