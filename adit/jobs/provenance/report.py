"""Report: what became of a job's images and by which rules; no value in it identifies anybody."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from adit.jobs import progress
from adit.jobs.disclosure import NO_PATIENTS, Disclosure
from adit.jobs.models import Item, Job, Task
from adit.jobs.provenance.rules import Rules
from adit.jobs.provenance.study_report import StudyReports
from adit.profiles.risks import RISKS
from adit_engine.pseudonymize.tally import named
from adit_engine.treatment import Row, Treatment, added_up

FORMAT = 1
AT_ONCE = 50
"""So many studies are in memory at a time."""
MOST_TEXTS = 2000
"""So many different texts are counted before their numbers are added up."""


def report_of(job: Job, disclosure: Disclosure = NO_PATIENTS) -> dict[str, Any]:
    """As JSON can hold it. UIDs are those of the outputs, or None where they cannot be told:

    the project's key is destroyed, or the images kept their own (as they are, or by 113110). A
    study's ledger holds one generation alone, the last.
    """
    reports = StudyReports(job, disclosure)
    return {**head(job, reports), **sums(job), "studies": list(_studies(job, reports))}


def as_text(job: Job, disclosure: Disclosure) -> Iterator[str]:
    """The same as JSON, a study a line, so that a long report is never in memory."""
    reports = StudyReports(job, disclosure)
    yield json.dumps(head(job, reports)).removesuffix("}")
    yield f",\n{json.dumps(sums(job))[1:-1]},\n" + '"studies": ['
    for number, study in enumerate(_studies(job, reports)):
        yield (",\n" if number else "\n") + json.dumps(study)
    yield "\n]}\n"


def head(job: Job, reports: StudyReports) -> dict[str, Any]:
    """What is known at once."""
    counts = progress.counts_of(Item.objects.filter(task__job=job))
    return {
        "format": FORMAT,
        "made_at": timezone.now().isoformat(timespec="seconds"),
        "job": {
            "number": job.pk,
            "kind": job.kind,
            "state": job.state,
            "nothing_delivered": job.came_empty,
            "destination": job.destination.name if job.destination else None,
            "project": job.trial.protocol_id if job.trial and not job.trial.is_default else None,
            "ordered_at": _moment(job.created_at),
            "started_at": _moment(job.started_at),
            "ended_at": _moment(job.ended_at),
            "identified": job.is_as_is,
            "pseudonyms_shown": reports.disclosure.generated,
        },
        "rules": [reports.rules(rules) for rules in _used(job)],
        "totals": {
            "series": counts.series,
            "expected": counts.expected,
            "delivered": counts.delivered,
            "withheld": counts.withheld,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "size_bytes": counts.size_bytes,
        },
    }


def sums(job: Job) -> dict[str, Any]:
    """Over all series: of each risk, and of what was done to the elements of images that arrived."""
    items = Item.objects.filter(task__job=job)
    done = _done(items)
    reasons = items.exclude(reasons=[]).order_by().values_list("reasons", flat=True)
    held = [(code, images) for each in reasons for code, _why, images in each]
    return {
        **{
            risk.name: {
                "accepted": sum(n for _tag, what, n in done if what == risk.mark.value),
                "withheld": sum(n for code, n in held if code == risk.code),
            }
            for risk in RISKS
        },
        "elements": named(done),
    }


def studies_of(job: Job) -> QuerySet[Task]:
    """In the order in which the report names them."""
    return progress.studies_of(job).order_by("position")


def _studies(job: Job, reports: StudyReports) -> Iterator[dict[str, Any]]:
    """Asked for in parts: whoever reads slowly keeps no query open."""
    at = 0
    while part := list(studies_of(job).filter(position__gt=at)[:AT_ONCE]):
        yield from reports.of(part)
        at = part[-1].position


def _done(items: QuerySet[Item]) -> list[Row]:
    """Most series are treated alike: their text is counted, and read once."""
    rows: list[Row] = []
    for texts in _texts(items.order_by(), "elements"):
        many = [(Treatment((*rows,)), 1)]
        many += [(Treatment.from_json(json.loads(text)), n) for text, n in texts.items()]
        rows = added_up(many)
    return rows


def _used(job: Job) -> list[Rules]:
    texts = [text for counted in _texts(studies_of(job), "rules") for text in counted]
    every = (Rules(**used) for text in texts for used in json.loads(text))
    return list(dict.fromkeys(replace(rules, superseded=0) for rules in every))


def _texts(rows: QuerySet[Any], name: str) -> Iterator[Counter[str]]:
    """A column of JSON as it is written, each text with its number, in the order of the rows."""
    counted: Counter[str] = Counter()
    texts = rows.annotate(text=Cast(name, TextField())).values_list("text", flat=True)
    for text in texts.iterator(chunk_size=500):
        counted[text] += 1
        if len(counted) == MOST_TEXTS:
            yield counted
            counted = Counter()
    yield counted


def _moment(at: Any) -> str | None:
    return at.isoformat(timespec="seconds") if at is not None else None
