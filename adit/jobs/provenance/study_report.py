"""Study report: what became of one study's series and images; it names outputs, never originals."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from adit.jobs import sealed
from adit.jobs.disclosure import NO_PATIENTS, Disclosure
from adit.jobs.models import Item, Job, Task, TaskState
from adit.jobs.progress import Counts
from adit.jobs.provenance.outputs import keeps_uids
from adit.jobs.provenance.rules import Rules, rules_of
from adit.profiles import risks, trials
from adit.profiles.models import Profile
from adit.profiles.versions import rules_of as rules_in
from adit.vault.box import Box, SealBroken
from adit_engine.outcome import Manifest
from adit_engine.pseudonymize.profile import BASIC
from adit_engine.pseudonymize.pseudonym import TrialKey


class StudyReports:
    """Those of one job. What its studies share, keys and profiles, is looked up once."""

    def __init__(self, job: Job, disclosure: Disclosure = NO_PATIENTS) -> None:
        self._job = job
        self.disclosure = disclosure
        self._trial = job.trial or trials.default_trial()
        self._profiles: dict[int, Profile | None] = {}
        self._keys: dict[tuple[Rules, ...], TrialKey | None] = {}

    def of(self, tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
        """As JSON can hold them, in the order of the tasks; lazy, by one query for all series."""
        items: dict[int, list[Item]] = defaultdict(list)
        for item in Item.objects.filter(task__in=tasks).defer("elements"):
            items[item.task_id].append(item)
        for task in tasks:
            yield self._study(task, items[task.pk])

    def rules(self, rules: Rules) -> dict[str, Any]:
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

    def _study(self, task: Task, items: Sequence[Item]) -> dict[str, Any]:
        used = rules_of(task)
        key = self._key(used)
        manifests = [self._manifest(item) for item in items]
        study_uid = next((each.series.study_uid for each in manifests if each is not None), None)
        return {
            "number": task.position,
            "pseudonym": self._pseudonym(task),
            "state": task.state,
            "nothing_delivered": task.state == TaskState.SUCCESS and _is_empty(items),
            "study_uid": _out(key, study_uid),
            "versions": [self._version(rules) for rules in used],
            "series": [_series(*each, key) for each in zip(items, manifests, strict=True)],
        }

    def _version(self, rules: Rules) -> dict[str, Any]:
        """One of the attempts' rules. `superseded` images arrived under them, and came again later."""
        profile = self._profile(rules.profile)
        return {
            "profile": profile.name if profile else None,
            "version": profile.version if profile else None,
            "generation": rules.generation,
            "superseded": rules.superseded,
        }

    def _profile(self, pk: int) -> Profile | None:
        if pk not in self._profiles:
            self._profiles[pk] = Profile.objects.filter(pk=pk).first()
        return self._profiles[pk]

    def _key(self, used: list[Rules]) -> TrialKey | None:
        """None where no UID can be told."""
        same = tuple(replace(rules, superseded=0) for rules in used)
        if same not in self._keys:
            self._keys[same] = self._key_of(used)
        return self._keys[same]

    def _key_of(self, used: list[Rules]) -> TrialKey | None:
        if not used or self._job.is_as_is or keeps_uids(used):
            return None
        try:
            return trials.key_of(self._trial, used[-1].generation)
        except SealBroken:
            return None

    @cached_property
    def _box(self) -> Box | None:
        try:
            return trials.box_of(self._trial)
        except SealBroken:
            return None

    def _manifest(self, item: Item) -> Manifest | None:
        try:
            return None if self._box is None else sealed.open_item(item, self._box).manifest
        except SealBroken:
            return None

    def _pseudonym(self, task: Task) -> str | None:
        try:
            content = None if self._box is None else sealed.open_task(task, self._box)
        except SealBroken:
            return None
        if content is None or not self.disclosure.shows(content):
            return None
        return content.pseudonym or None


def _is_empty(items: Sequence[Item]) -> bool:
    held = sum(item.withheld + item.skipped for item in items)
    return Counts(delivered=sum(item.delivered for item in items), withheld=held).is_empty


def _series(item: Item, manifest: Manifest | None, key: TrialKey | None) -> dict[str, Any]:
    return {
        "number": item.number,
        "modality": item.modality,
        "series_uid": _out(key, manifest.series.series_uid if manifest else None),
        "expected": item.expected,
        "delivered": item.delivered,
        "withheld": item.withheld,
        "failed": item.failed,
        "skipped": item.skipped,
        "size_bytes": item.size_bytes,
        "left_out": item.left_out,
        "reasons": [
            {"code": code, "reason": sentence, "images": n} for code, sentence, n in item.reasons
        ],
        "notes": item.notes,
        "remarks": item.remarks,
        "outputs": sorted(_outputs(manifest, key), key=lambda each: str(each["sha256"])),
    }


def _outputs(manifest: Manifest | None, key: TrialKey | None) -> Iterator[dict[str, Any]]:
    """Sorted by digest, so that their order tells nothing of the originals."""
    for uid, entry in (manifest.delivered_entries() if manifest else {}).items():
        yield {
            "instance_uid": _out(key, uid),
            "sha256": entry.sha256,
            "size_bytes": entry.size_bytes,
        }


def _out(key: TrialKey | None, original: str | None) -> str | None:
    return key.uid(original) if key is not None and original is not None else None
