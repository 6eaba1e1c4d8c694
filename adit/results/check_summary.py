"""Summarize the check of a sheet: what can be transferred and what needs attention.

Used by the batch transfer pages.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adit.jobs.kinds.base import RowNote
from adit.jobs.models import Job, TaskState
from adit.nodes.models import Lane
from adit.projects.risks import RISKS
from adit_engine.messages import Message


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """Totals of the check of a sheet.

    `images` is None if the source did not report a number for some row. Rows are counted as they
    are; studies, series, images and bytes that several rows name are counted once.
    """

    rows: int = 0
    to_check: int = 0
    checked: int = 0
    ready: int = 0
    """Rows that can be transferred."""
    studies: int = 0
    """The studies of these rows."""
    several_lines: tuple[int, ...] = ()
    """Rows for which the user has to choose a study."""
    not_found: int = 0
    delivered_before: int = 0
    conflicts: int = 0
    """Rows whose pseudonym contradicts another row or the project."""
    blocked: int = 0
    """Rows with a patient on the block list."""
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
    several: list[int] = []
    counted: list[Mapping[str, Any]] = []
    values = job.lines.order_by("line").values_list(*_FIELDS)
    for line, is_asked, is_found, notes, facts, lane, state in values:
        counts["rows"] += 1
        counts["to_check"] += lane is not None
        counts["checked"] += is_asked
        sort = _classify(is_asked, is_found, set(notes), lane, state)
        counts[sort] += 1
        if sort == "several":
            several.append(line)
        if sort in ("ready", "delivered_before") and facts:
            counted.append(facts)
    once = count_once(counted)
    images = [one["images"] for one in once]
    withheld: Counter[tuple[Message, bool]] = Counter()
    risky: Counter[str] = Counter()
    for one in once:
        for code, n in one["risks"]:
            risky[code] += n
        for reason, is_sure, n in one["withheld"]:
            withheld[Message.from_json(reason), is_sure] += n
    return CheckSummary(
        studies=count_studies(once),
        series=sum(one["series"] for one in once),
        images=None if None in images else sum(images),
        size_bytes=sum_bytes(once),
        series_delivered_before=sum(one["there"] for one in once),
        not_allowed=sum(one["not_allowed"] for one in once),
        several_lines=tuple(several),
        withheld=tuple((reason, is_sure, n) for (reason, is_sure), n in withheld.most_common()),
        risks=tuple((str(risk.unless), risky[risk.code]) for risk in RISKS if risk.code in risky),
        **{name: n for name, n in counts.items() if name not in ("waiting", "several")},
    )


def count_once(facts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the facts of rows without those of studies and series that another row includes."""
    parts: dict[tuple[str, str], Mapping[str, Any]] = {}
    for number, one in enumerate(facts):
        # Rows that were checked by an earlier version have no keys.
        study = one.get("study_key") or f"row {number}"
        parts.setdefault((study, one.get("series_key", "")), one)
    whole = {study for study, series in parts if not series}
    return [one for (study, series), one in parts.items() if not series or study not in whole]


def count_studies(facts: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of studies with series to send, from the facts of rows."""
    once = [one for one in count_once(facts) if one["series"]]
    keys = {one["study_key"] for one in once if "study_key" in one}
    return len(keys) + sum("study_key" not in one for one in once)


def sum_bytes(facts: Iterable[Mapping[str, Any]]) -> int:
    """Return the estimated size of the series to send, from the facts of rows."""
    return sum(one["bytes"] for one in count_once(facts))


def _classify(
    is_asked: bool, is_found: bool, notes: set[str], lane: str | None, state: str | None
) -> str:
    if RowNote.INVALID in notes:
        return "invalid"
    if RowNote.LEFT_OUT in notes:
        return "left_out"
    if RowNote.BLOCKED in notes:
        return "blocked"
    if RowNote.PSEUDONYM in notes:
        return "conflicts"
    if not is_asked:
        return "unanswered" if state in (TaskState.FAILURE, TaskState.CANCELED) else "waiting"
    if RowNote.DELIVERED in notes:
        return "delivered_before"
    if not is_found:
        return "not_found"
    if RowNote.SEVERAL in notes and lane == Lane.SEARCH:
        return "several"
    return "ready"
