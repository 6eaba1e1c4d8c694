"""Deliveries: which series a trial has delivered whole to a destination; so they need not go again."""

from collections.abc import Iterable

from adit.jobs import sealed
from adit.jobs.files import archives
from adit.jobs.models import AS_IS, Delivery, Item, Job, Task, TaskState
from adit.profiles import trials
from adit.vault.box import Box


def note(task: Task) -> None:
    """Notes what an ended task has delivered whole, or as it was announced.

    What lies in one 7-Zip file is not there in the next one, which may be for somebody else.
    """
    job = task.job
    if job.destination is None or job.trial is None or archives.is_archive(job.destination):
        return
    box = sealed.box_of(job.trial)
    for item in Item.objects.filter(task=task, is_final=True, left_out="", delivered__gt=0):
        if item.expected is None:
            continue
        if task.state != TaskState.SUCCESS and item.delivered < item.expected:
            continue
        uid = sealed.open_item(item, box).manifest.series.series_uid
        Delivery.objects.update_or_create(
            trial=job.trial,
            destination=job.destination,
            index=_index(box, job, uid),
            defaults={"images": item.expected, "job": job},
        )


def made(job: Job, series_uids: Iterable[str]) -> dict[str, int]:
    """How many images the source had listed of those series that are there already."""
    if job.destination is None:
        return {}
    trial = job.trial or trials.default_trial()
    box = sealed.box_of(trial)
    by_index = {_index(box, job, uid): uid for uid in series_uids}
    rows = Delivery.objects.filter(
        trial=trial, destination=job.destination, index__in=list(by_index)
    )
    return {by_index[index]: images for index, images in rows.values_list("index", "images")}


def _index(box: Box, job: Job, series_uid: str) -> str:
    """In another generation the same series gets other UIDs, and is another delivery."""
    trial = job.trial or trials.default_trial()
    how = AS_IS if job.is_as_is else f"generation {trial.generation}"
    return box.index(f"{how}\0{series_uid}", "delivered")
