"""Report: what became of a job's images and by which rules; no value in it identifies anybody."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from django.utils import timezone

from adit.jobs import progress, sealed
from adit.jobs.models import Item, Job, Task
from adit.jobs.ordering import AS_IS
from adit.jobs.provenance.outputs import keeps_uids
from adit.jobs.provenance.rules import Rules, rules_of
from adit.profiles import trials
from adit.profiles.models import Profile
from adit.profiles.versions import rules_of as rules_in
from adit.vault.box import SealBroken
from adit_engine.outcome import Manifest
from adit_engine.pseudonymize.face import CODE as FACE
from adit_engine.pseudonymize.profile import BASIC
from adit_engine.pseudonymize.pseudonym import TrialKey
from adit_engine.pseudonymize.tally import Done, named
from adit_engine.treatment import Row, Treatment, added_up

FORMAT = 1


def report_of(job: Job) -> dict[str, Any]:
    """As JSON can hold it. UIDs are those of the outputs, or None where they cannot be told:

    the project's key is destroyed, or the images kept their own (as they are, or by 113110). A
    study's ledger holds one generation alone, the last.
    """
    items = Item.objects.filter(task__job=job)
    counts = progress.counts_of(items)
    tasks = list(progress.studies_of(job).select_related("job__trial").order_by("position"))
    done = _done(items)
    return {
        "format": FORMAT,
        "made_at": timezone.now().isoformat(timespec="seconds"),
        "job": {
            "number": job.pk,
            "kind": job.kind,
            "state": job.state,
            "destination": job.destination.name if job.destination else None,
            "project": job.trial.protocol_id if job.trial and not job.trial.is_default else None,
            "ordered_at": _moment(job.created_at),
            "started_at": _moment(job.started_at),
            "ended_at": _moment(job.ended_at),
            "identified": job.order.get("change") == AS_IS,
        },
        "rules": [_rules(rules) for rules in _used(tasks)],
        "totals": {
            "series": counts.series,
            "expected": counts.expected,
            "delivered": counts.delivered,
            "withheld": counts.withheld,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "size_bytes": counts.size_bytes,
        },
        "faces": {
            "accepted": sum(count for _tag, what, count in done if what == Done.FACE.value),
            "withheld": sum(
                images for item in items for code, _why, images in item.reasons if code == FACE
            ),
        },
        "elements": named(done),
        "studies": [_study(task) for task in tasks],
    }


def _done(items: Iterable[Item]) -> list[Row]:
    """What was done to the elements of the images that arrived, and to no others."""
    return added_up((Treatment.from_json(item.elements), 1) for item in items)


def _used(tasks: list[Task]) -> list[Rules]:
    all_used = (rules for task in tasks for rules in rules_of(task))
    return list(dict.fromkeys(replace(rules, superseded=0) for rules in all_used))


def _rules(rules: Rules) -> dict[str, Any]:
    profile = Profile.objects.filter(pk=rules.profile).first()
    return {
        "profile": profile.name if profile else None,
        "version": profile.version if profile else None,
        "option_codes": [BASIC, *sorted(rules_in(profile).options)] if profile else [],
        "generation": rules.generation,
        "tables": f"PS3.15 {rules.edition}",
        "engine": f"ADIT {rules.engine}",
        "faces": rules.faces,
        "faces_reason": rules.faces_reason,
    }


def _version(rules: Rules) -> dict[str, Any]:
    """One of the attempts' rules. `superseded` images arrived under them, and came again later."""
    profile = Profile.objects.filter(pk=rules.profile).first()
    return {
        "profile": profile.name if profile else None,
        "version": profile.version if profile else None,
        "generation": rules.generation,
        "superseded": rules.superseded,
    }


def _study(task: Task) -> dict[str, Any]:
    key = _key(task)
    manifests = list(_manifests(task))
    study_uid = next((m.series.study_uid for _item, m in manifests if m is not None), None)
    return {
        "number": task.position,
        "pseudonym": _pseudonym(task),
        "state": task.state,
        "study_uid": _out(key, study_uid),
        "versions": [_version(rules) for rules in rules_of(task)],
        "series": [_series(item, manifest, key) for item, manifest in manifests],
    }


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


def _key(task: Task) -> TrialKey | None:
    used = rules_of(task)
    if not used or task.job.order.get("change") == AS_IS or keeps_uids(used):
        return None
    try:
        return trials.key_of(task.job.trial or trials.default_trial(), used[-1].generation)
    except SealBroken:
        return None


def _manifests(task: Task) -> Iterator[tuple[Item, Manifest | None]]:
    for item in Item.objects.filter(task=task).select_related("task__job__trial"):
        try:
            yield item, sealed.open_item(item).manifest
        except SealBroken:
            yield item, None


def _pseudonym(task: Task) -> str | None:
    try:
        return sealed.open_task(task).pseudonym or None
    except SealBroken:
        return None


def _moment(at: Any) -> str | None:
    return at.isoformat(timespec="seconds") if at is not None else None
