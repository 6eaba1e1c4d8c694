"""Report what happened to the images of a job, by study, and under which rules.

No value identifies a patient: UIDs are those of the outputs, never of the originals. Used by the
report page and download.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from adit.jobs import encrypted_payload, progress
from adit.jobs.disclosure import NO_PATIENTS, Disclosure
from adit.jobs.encrypted_payload import TaskContent
from adit.jobs.models import DeliveredCounts, Job, SeriesResult, Task, TaskState
from adit.projects import risks, services
from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import parse_rules as rules_in
from adit.projects.risks import RISKS
from adit.results.applied_rules import AppliedRules, get_rules
from adit.results.deliveries import keeps_uids
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.profile import BASIC
from adit_engine.pseudonymize.statistics import report_rows
from adit_engine.values.outcome import ChangeRow, ElementChanges, SeriesLedger, sum_changes


class StudyReports:
    """Reports on the studies of one job.

    Keys and profiles that studies share are read once.
    """

    def __init__(self, job: Job, disclosure: Disclosure = NO_PATIENTS) -> None:
        self._job = job
        self.disclosure = disclosure
        self._project = job.project or services.default_project()
        self._profiles: dict[int, ProfileVersion | None] = {}
        self._keys: dict[tuple[AppliedRules, ...], ProjectKey | None] = {}

    def iter_reports(self, tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
        """Yield a report as JSON values for each task, in order.

        Lazy; one query reads the series of all tasks.
        """
        items: dict[int, list[SeriesResult]] = defaultdict(list)
        for item in SeriesResult.objects.filter(task__in=tasks).defer("elements"):
            items[item.task_id].append(item)
        for task in tasks:
            yield self._study(task, items[task.pk])

    def rules(self, rules: AppliedRules) -> dict[str, Any]:
        profile = self._profile(rules.profile)
        return {
            "profile": profile.name if profile else None,
            "version": profile.version if profile else None,
            "option_codes": [BASIC, *sorted(rules_in(profile).options)] if profile else [],
            "generation": rules.generation,
            "tables": f"PS3.15 {rules.edition}",
            "engine": f"ADIT {rules.engine}",
            **{name: getattr(rules, name) for name in risks.FIELDS},
        }

    def _study(self, task: Task, items: Sequence[SeriesResult]) -> dict[str, Any]:
        used = get_rules(task)
        key = self._key(used)
        manifests = [self._manifest(item) for item in items]
        study_uid = next((each.ref.study_uid for each in manifests if each is not None), None)
        return {
            "number": task.position,
            "pseudonym": self._pseudonym(task),
            "visit": self._visit(task),
            "state": task.state,
            "nothing_delivered": task.state == TaskState.SUCCESS and _nothing_delivered(items),
            "study_uid": _output_uid(key, study_uid),
            "versions": [self._version(rules) for rules in used],
            "series": [_series_report(*each, key) for each in zip(items, manifests, strict=True)],
        }

    def _version(self, rules: AppliedRules) -> dict[str, Any]:
        """The rules of one attempt. `superseded` images were delivered under them and sent again
        later.
        """
        profile = self._profile(rules.profile)
        return {
            "profile": profile.name if profile else None,
            "version": profile.version if profile else None,
            "generation": rules.generation,
            "superseded": rules.superseded,
        }

    def _profile(self, pk: int) -> ProfileVersion | None:
        if pk not in self._profiles:
            self._profiles[pk] = ProfileVersion.objects.filter(pk=pk).first()
        return self._profiles[pk]

    def _key(self, used: list[AppliedRules]) -> ProjectKey | None:
        """The key for output UIDs; None if they cannot be determined."""
        same = tuple(replace(rules, superseded=0) for rules in used)
        if same not in self._keys:
            self._keys[same] = self._key_of(used)
        return self._keys[same]

    def _key_of(self, used: list[AppliedRules]) -> ProjectKey | None:
        if not used or self._job.is_as_is or keeps_uids(used):
            return None
        try:
            return services.get_project_key(self._project, used[-1].generation)
        except DecryptionError:
            return None

    @cached_property
    def _box(self) -> ValueCipher | None:
        try:
            return services.get_project_cipher(self._project)
        except DecryptionError:
            return None

    def _manifest(self, item: SeriesResult) -> SeriesLedger | None:
        try:
            return (
                None
                if self._box is None
                else encrypted_payload.open_series(item, self._box).manifest
            )
        except DecryptionError:
            return None

    def _content(self, task: Task) -> TaskContent | None:
        try:
            return None if self._box is None else encrypted_payload.open_task(task, self._box)
        except DecryptionError:
            return None

    def _visit(self, task: Task) -> dict[str, str] | None:
        content = self._content(task)
        return None if content is None or content.visit is None else asdict(content.visit)

    def _pseudonym(self, task: Task) -> str | None:
        content = self._content(task)
        if content is None or not self.disclosure.shows_pseudonym(content):
            return None
        return content.pseudonym or None


def _nothing_delivered(items: Sequence[SeriesResult]) -> bool:
    withheld = sum(item.withheld + item.skipped for item in items)
    return DeliveredCounts(sum(item.delivered for item in items), withheld).is_nothing


def _series_report(
    item: SeriesResult, manifest: SeriesLedger | None, key: ProjectKey | None
) -> dict[str, Any]:
    return {
        "number": item.number,
        "modality": item.modality,
        "series_uid": _output_uid(key, manifest.ref.series_uid if manifest else None),
        "expected": item.expected,
        "delivered": item.delivered,
        "withheld": item.withheld,
        "failed": item.failed,
        "skipped": item.skipped,
        "size_bytes": item.size_bytes,
        "left_out": None if item.skip_reason is None else item.skip_reason.to_report(),
        "reasons": [{**reason.to_report(), "images": n} for reason, n in item.reasons],
        "notes": [note.to_report() for note in item.notes],
        "remarks": [remark.to_report() for remark in item.remarks],
        "outputs": sorted(_instance_reports(manifest, key), key=lambda each: str(each["sha256"])),
    }


def _instance_reports(
    manifest: SeriesLedger | None, key: ProjectKey | None
) -> Iterator[dict[str, Any]]:
    """Sorted by digest, so that the order discloses nothing about the originals."""
    for uid, entry in (manifest.delivered_entries() if manifest else {}).items():
        yield {
            "instance_uid": _output_uid(key, uid),
            "sha256": entry.sha256,
            "size_bytes": entry.size_bytes,
        }


def _output_uid(key: ProjectKey | None, original: str | None) -> str | None:
    return key.uid(original) if key is not None and original is not None else None


FORMAT = 1
TASKS_PER_QUERY = 50
"""Number of studies that are in memory at a time."""
MAX_TEXTS = 2000
"""Number of different texts that are counted before their counts are added up."""


def build_report(job: Job, disclosure: Disclosure = NO_PATIENTS) -> dict[str, Any]:
    """Return the report as JSON values. UIDs are those of the outputs, or None.

    They are None if the key of the project is destroyed, or if the images kept their own UIDs
    (identified transfer, or option 113110). The ledger of a study contains only the last
    generation.
    """
    reports = StudyReports(job, disclosure)
    return {
        **report_header(job, reports),
        **report_totals(job),
        "studies": list(_study_reports(job, reports)),
    }


def stream_report(job: Job, disclosure: Disclosure) -> Iterator[str]:
    """Yield the report as JSON, one study per line.

    A long report is never held in memory as a whole.
    """
    reports = StudyReports(job, disclosure)
    yield json.dumps(report_header(job, reports)).removesuffix("}")
    yield f",\n{json.dumps(report_totals(job))[1:-1]},\n" + '"studies": ['
    for number, study in enumerate(_study_reports(job, reports)):
        yield (",\n" if number else "\n") + json.dumps(study)
    yield "\n]}\n"


def report_header(job: Job, reports: StudyReports) -> dict[str, Any]:
    """Return the part of the report that is known without reading the ledgers."""
    counts = progress.count_images(SeriesResult.objects.filter(task__job=job))
    return {
        "format": FORMAT,
        "made_at": timezone.now().isoformat(timespec="seconds"),
        "job": {
            "number": job.pk,
            "kind": job.kind,
            "state": job.state,
            "nothing_delivered": job.delivered_nothing,
            "destination": job.destination.name if job.destination else None,
            "project": job.project.protocol_id
            if job.project and not job.project.is_default
            else None,
            "ordered_at": _isoformat(job.created_at),
            "started_at": _isoformat(job.started_at),
            "ended_at": _isoformat(job.ended_at),
            "identified": job.is_as_is,
            "pseudonyms_shown": reports.disclosure.generated,
            "recalled_studies": progress.count_recalled(job),
        },
        "rules": [reports.rules(rules) for rules in _used_rules(job)],
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


def report_totals(job: Job) -> dict[str, Any]:
    """Return the totals of all series: images by risk, and changes by data element.

    Element changes count the images that were delivered.
    """
    items = SeriesResult.objects.filter(task__job=job)
    done = _element_changes(items)
    reasons = items.exclude(reasons=[]).order_by().values_list("reasons", flat=True)
    held = [(reason.category, images) for each in reasons for reason, images in each]
    return {
        **{
            risk.name: {
                "accepted": sum(n for _tag, what, n in done if what == risk.mark.value),
                "withheld": sum(n for category, n in held if category == risk.code),
            }
            for risk in RISKS
        },
        "elements": report_rows(done),
    }


def reported_tasks(job: Job) -> QuerySet[Task]:
    """Return the tasks in the order of the report."""
    return progress.transfer_tasks(job).order_by("position")


def _study_reports(job: Job, reports: StudyReports) -> Iterator[dict[str, Any]]:
    """Read in parts, so that a slow client keeps no query open."""
    at = 0
    while part := list(reported_tasks(job).filter(position__gt=at)[:TASKS_PER_QUERY]):
        yield from reports.iter_reports(part)
        at = part[-1].position


def _element_changes(items: QuerySet[SeriesResult]) -> list[ChangeRow]:
    """Most series are changed in the same way: equal texts are counted and parsed once."""
    rows: list[ChangeRow] = []
    for texts in _count_texts(items.order_by(), "elements"):
        many = [(ElementChanges((*rows,)), 1)]
        many += [(ElementChanges.from_json(json.loads(text)), n) for text, n in texts.items()]
        rows = sum_changes(many)
    return rows


def _used_rules(job: Job) -> list[AppliedRules]:
    texts = [text for counted in _count_texts(reported_tasks(job), "rules") for text in counted]
    every = (AppliedRules(**used) for text in texts for used in json.loads(text))
    return list(dict.fromkeys(replace(rules, superseded=0) for rules in every))


def _count_texts(rows: QuerySet[Any], name: str) -> Iterator[Counter[str]]:
    """Yield the different texts of a JSON column with their counts, in the order of rows."""
    counted: Counter[str] = Counter()
    texts = rows.annotate(text=Cast(name, TextField())).values_list("text", flat=True)
    for text in texts.iterator(chunk_size=500):
        counted[text] += 1
        if len(counted) == MAX_TEXTS:
            yield counted
            counted = Counter()
    yield counted


def _isoformat(at: Any) -> str | None:
    return at.isoformat(timespec="seconds") if at is not None else None
