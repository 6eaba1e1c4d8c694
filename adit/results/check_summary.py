"""Summarize the check of a sheet: what can be transferred and what needs attention.

Used by the batch transfer pages.
"""

from collections import Counter
from dataclasses import dataclass, field

from adit.jobs.kinds.base import RowNote
from adit.jobs.models import Job, TaskState
from adit.nodes.models import Lane
from adit.projects.risks import RISKS
from adit_engine.messages import Message


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """Totals of the check of a sheet.

    `images` is None if the source did not report a number for some row. A study that is named by
    two rows counts twice.
    """

    rows: int = 0
    to_check: int = 0
    checked: int = 0
    ready: int = 0
    several_lines: tuple[int, ...] = ()
    """Rows for which the user has to choose a study."""
    not_found: int = 0
    delivered_before: int = 0
    left_out: int = 0
    invalid: int = 0
    """Rows with an error in the sheet. They are not checked."""
    series: int = 0
    images: int | None = 0
    size_bytes: int = 0
    series_delivered_before: int = 0
    not_allowed: int = 0
    withheld: tuple[tuple[Message, bool, int], ...] = ()
    """The reason, whether it is certain, and the number of images, most frequent first."""
    risks: tuple[tuple[str, int], ...] = ()
    """What is withheld for a risk that the project does not accept: a sentence, and the number of
    images.
    """
    unanswered: int = field(default=0)
    """Rows whose task failed, so that their result is unknown."""

    @property
    def percent(self) -> int:
        return 100 * self.checked // self.to_check if self.to_check else 0

    @property
    def several(self) -> int:
        return len(self.several_lines)

    @property
    def failing(self) -> int:
        return self.not_found + self.unanswered


_FIELDS = ("line", "is_asked", "is_found", "notes", "facts", "task__lane", "task__state")


def summarize_check(job: Job) -> CheckSummary:
    """Return the totals, with one query and without decryption."""
    counts: Counter[str] = Counter()
    withheld: Counter[tuple[Message, bool]] = Counter()
    risky: Counter[str] = Counter()
    all_counted = True
    several: list[int] = []
    values = job.lines.order_by("line").values_list(*_FIELDS)
    for line, is_asked, is_found, notes, facts, lane, state in values:
        counts["rows"] += 1
        counts["to_check"] += lane is not None
        counts["checked"] += is_asked
        sort = _classify(is_asked, is_found, set(notes), lane, state)
        counts[sort] += 1
        if sort == "several":
            several.append(line)
        counts["series_delivered_before"] += facts.get("there", 0)
        if sort != "ready" or not facts:
            continue
        all_counted = all_counted and facts["images"] is not None
        counts["series"] += facts["series"]
        counts["images"] += facts["images"] or 0
        counts["size_bytes"] += facts["bytes"]
        counts["not_allowed"] += facts["not_allowed"]
        for code, n in facts["risks"]:
            risky[code] += n
        for reason, is_sure, n in facts["withheld"]:
            withheld[Message.from_json(reason), is_sure] += n
    images = counts.pop("images", 0) if all_counted else counts.pop("images", 0) and None
    return CheckSummary(
        images=images,
        several_lines=tuple(several),
        withheld=tuple((reason, is_sure, n) for (reason, is_sure), n in withheld.most_common()),
        risks=tuple((str(risk.unless), risky[risk.code]) for risk in RISKS if risk.code in risky),
        **{name: n for name, n in counts.items() if name not in ("waiting", "several")},
    )


def _classify(
    is_asked: bool, is_found: bool, notes: set[str], lane: str | None, state: str | None
) -> str:
    if RowNote.INVALID in notes:
        return "invalid"
    if RowNote.LEFT_OUT in notes:
        return "left_out"
    if not is_asked:
        return "unanswered" if state in (TaskState.FAILURE, TaskState.CANCELED) else "waiting"
    if RowNote.DELIVERED in notes:
        return "delivered_before"
    if not is_found:
        return "not_found"
    if RowNote.SEVERAL in notes and lane == Lane.SEARCH:
        return "several"
    return "ready"
