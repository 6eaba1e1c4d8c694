"""Result sheet: the rows of a batch transfer as they were uploaded, and beside them what became of each."""

from collections.abc import Iterator, Sequence

from adit.jobs import sheet
from adit.jobs.disclosure import Disclosure
from adit.jobs.models import Job
from adit.jobs.rows.answers import Answer, answers_of, as_disclosed, has_sources, rows_of
from adit.jobs.sheet import RESULT_LINE, RESULT_OUTCOME, RESULT_REASON, SheetKind

COUNTS = ("expected", "delivered", "withheld", "failed", "skipped")
SOURCE = "ADIT source"
PLACE = "ADIT place"
GENERATED = "ADIT pseudonym"
CHUNK = 200


def columns_of(job: Job, sees: Disclosure, *, names: bool = False) -> tuple[str, ...]:
    """`names`: with a column for the pseudonyms that ADIT has made."""
    ours = [RESULT_LINE, RESULT_OUTCOME, RESULT_REASON, *(f"ADIT {name}" for name in COUNTS)]
    ours += [SOURCE, PLACE] if has_sources(job) else [PLACE]
    if names:
        ours.append(GENERATED)
    own = job.order.get("own_headers", []) if sees.rows else []
    return sheet.with_own((*sheet.columns(SheetKind.TRANSFER), *ours), own)


def rows(job: Job, sees: Disclosure, *, names: bool = False) -> Iterator[Sequence[str]]:
    """One for each row of the sheet, in its order; lazy."""
    for answer in _answers(job, sees):
        given = [*_said(answer, sees), *_ours(answer)]
        given += [answer.source, answer.place] if has_sources(job) else [answer.place]
        if names:
            given.append(answer.generated)
        yield [*given, *_own(job, answer, sees)]


def columns_again(job: Job) -> tuple[str, ...]:
    return sheet.with_own(sheet.columns(SheetKind.TRANSFER), job.order.get("own_headers", []))


def rows_again(job: Job, sees: Disclosure) -> Iterator[Sequence[str]]:
    """Those that want to be looked at, without our columns: to be corrected and uploaded again."""
    for answer in _answers(job, sees):
        if answer.needs_a_look and answer.content is not None:
            yield [*_said(answer, sees), *_own(job, answer, sees)]


def _answers(job: Job, sees: Disclosure) -> Iterator[Answer]:
    every = list(rows_of(job))
    for at in range(0, len(every), CHUNK):
        for answer in answers_of(job, every[at : at + CHUNK], places=True):
            yield as_disclosed(job, answer, sees)


def _said(answer: Answer, sees: Disclosure) -> list[str]:
    """By the template's columns. A study that was found stands there by its UID."""
    asked = dict(answer.content.asked) if answer.content else {}
    if not sees.rows:
        asked = {"Pseudonym": asked.get("Pseudonym", "")}
    elif answer.content and answer.content.study is not None:
        study = answer.content.study.record
        asked = {"PatientID": study.patient_id, **asked, "StudyInstanceUID": study.study_uid}
    return [asked.get(str(column), "") for column in sheet.columns(SheetKind.TRANSFER)]


def _ours(answer: Answer) -> list[str]:
    counts = answer.counts
    numbers = [getattr(counts, name) if counts else None for name in COUNTS]
    said = ["" if number is None else str(number) for number in numbers]
    return [str(answer.line), answer.word, answer.why, *said]


def _own(job: Job, answer: Answer, sees: Disclosure) -> list[str]:
    if not sees.rows:
        return []
    width = len(job.order.get("own_headers", []))
    own = list(answer.content.own) if answer.content else []
    return (own + [""] * width)[:width]
