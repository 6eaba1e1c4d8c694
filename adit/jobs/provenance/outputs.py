"""Outputs: under which UIDs the images of a task went out, and what became of each, as lines."""

from collections.abc import Callable, Iterable, Iterator

from django.utils import timezone

from adit.jobs import sealed
from adit.jobs.models import Item, Job, Task, Work
from adit.jobs.provenance.rules import Rules, rules_of
from adit.profiles import trials
from adit.profiles.models import Profile
from adit.profiles.versions import rules_of as rules_in
from adit_engine.contents import Line
from adit_engine.nodes.base import Bundle, Gathered
from adit_engine.outcome import Manifest, State
from adit_engine.pseudonymize.profile import RETAIN_UIDS
from adit_engine.reference import InstanceRef


def bundle(
    job: Job, name: str, each: Iterable[Gathered], images: int = 0, size_bytes: int = 0
) -> Bundle:
    """What a list of contents, or a 7-Zip file, is made of."""
    has_project = job.trial is not None and not job.trial.is_default
    about: dict[str, str | int] = {
        "job": job.pk,
        "project": job.trial.protocol_id if job.trial is not None and has_project else "",
        "made_at": timezone.now().isoformat(timespec="seconds"),
    }
    return Bundle(name, images, size_bytes, each, not_delivered(job), about)


def gathered(job: Job) -> Iterator[Gathered]:
    """Every image that arrived and lies somewhere as a file, in the order of tasks. One item is
    opened after the other. Raises SealBroken.
    """
    for uid_of, manifest in _manifests(job):
        series = manifest.series
        for original, entry in manifest.delivered_entries().items():
            if entry.path:
                ref = InstanceRef(
                    uid_of(series.study_uid), uid_of(series.series_uid), uid_of(original)
                )
                yield Gathered(ref, entry.path, entry.sha256, entry.size_bytes)


def not_delivered(job: Job) -> Iterator[Line]:
    """What did not arrive, and why; under the UIDs that it would have gone out with."""
    for uid_of, manifest in _manifests(job):
        series = manifest.series
        for original, entry in manifest.entries.items():
            if entry.state is not State.DELIVERED:
                uids = (uid_of(series.study_uid), uid_of(series.series_uid), uid_of(original))
                yield Line(*uids, entry.state.value, entry.reason)


def _manifests(job: Job) -> Iterator[tuple[Callable[[str], str], Manifest]]:
    tasks = Task.objects.filter(job=job, work=Work.KIND).select_related("job__trial")
    box = sealed.box_of(job.trial)
    for task in tasks.order_by("position"):
        uid_of = uids_of(task)
        for item in Item.objects.filter(task=task).iterator(chunk_size=16):
            yield uid_of, sealed.open_item(item, box).manifest


def uids_of(task: Task) -> Callable[[str], str]:
    """From an original UID to the one that left; the same where UIDs were kept. Raises SealBroken."""
    used = rules_of(task)
    if not used or task.job.is_as_is or keeps_uids(used):
        return str
    return trials.key_of(task.job.trial or trials.default_trial(), used[-1].generation).uid


def keeps_uids(used: list[Rules]) -> bool:
    profiles = Profile.objects.filter(pk__in={rules.profile for rules in used})
    return any(RETAIN_UIDS in rules_in(profile).options for profile in profiles)
