"""Verdicts: the rows of a judged sheet as its page shows them, each with what was found about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.jobs import sheet
from adit.jobs.preparing.uploads import Upload
from adit.jobs.sheet import Judged, Verdict

SHOWN = ("error", "warning", "out")


@dataclass(frozen=True, slots=True)
class ShownRow:
    line: int
    verdict: str
    """A state that the badge knows."""
    word: Any
    findings: tuple[str, ...]
    cells: tuple[str, ...]
    is_out: bool
    may_be_left_out: bool


def rows_shown(judged: Judged[Any], upload: Upload, show: str) -> Sequence[Any]:
    if show == "out":
        return [
            row
            for row in judged.rows
            if row.line in upload.left_out or row.verdict is Verdict.LEFT_OUT
        ]
    if show in ("error", "warning"):
        return [row for row in judged.rows if row.verdict == show]
    return judged.rows


def shown_row(row: Any, upload: Upload) -> ShownRow:
    is_out = row.line in upload.left_out or row.verdict is Verdict.LEFT_OUT
    badge, word = ("canceled", _("left out")) if is_out else _BADGES[row.verdict]
    return ShownRow(
        row.line,
        badge,
        word,
        tuple(f"{f.column}: {f.text}" if f.column else f.text for f in _about(row)),
        row.shown,
        is_out,
        row.verdict is not Verdict.LEFT_OUT,
    )


def _about(row: Any) -> list[Any]:
    """Findings of several rows name the others."""
    found = []
    for finding in row.findings:
        if len(finding.lines) > 1:
            others = sheet.lines_in_words([n for n in finding.lines if n != row.line])
            words = {"text": finding.text, "lines": others}
            with_others = _("%(text)s (Other lines: %(lines)s)") % words
            found.append(replace(finding, text=with_others))
        else:
            found.append(finding)
    return found


_BADGES: dict[Verdict, tuple[str, Any]] = {
    Verdict.OK: ("success", _lazy("ok")),
    Verdict.WARNING: ("warning", _lazy("look")),
    Verdict.ERROR: ("failure", _lazy("error")),
    Verdict.LEFT_OUT: ("canceled", _lazy("left out")),
}
