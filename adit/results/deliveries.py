"""Deliveries: which series a project has delivered whole to a destination; so they need not go again."""

from collections.abc import Iterable

from adit.jobs import encrypted_payload
from adit.jobs.models import AS_IS, Delivery, Item, Job, Task, TaskState
from adit.projects import services
from adit.results import archives
from adit.vault.cipher import ValueCipher


def note(task: Task) -> None:
    """Notes what an ended task has delivered whole, or as it was announced.

    What lies in one 7-Zip file is not there in the next one, which may be for somebody else.
    """
    job = task.job
    if job.destination is None or job.project is None or archives.is_archive(job.destination):
        return
    box = encrypted_payload.box_of(job.project)
    for item in Item.objects.filter(task=task, is_final=True, left_out="", delivered__gt=0):
        if item.expected is None:
            continue
        if task.state != TaskState.SUCCESS and item.delivered < item.expected:
            continue
        uid = encrypted_payload.open_item(item, box).manifest.series.series_uid
        Delivery.objects.update_or_create(
            project=job.project,
            destination=job.destination,
            index=_index(box, job, uid),
            defaults={"images": item.expected, "job": job},
        )


def made(job: Job, series_uids: Iterable[str]) -> dict[str, int]:
    """How many images the source had listed of those series that are there already."""
    if job.destination is None:
        return {}
    project = job.project or services.default_project()
    box = encrypted_payload.box_of(project)
    by_index = {_index(box, job, uid): uid for uid in series_uids}
    rows = Delivery.objects.filter(
        project=project, destination=job.destination, index__in=list(by_index)
    )
    return {by_index[index]: images for index, images in rows.values_list("index", "images")}


def _index(box: ValueCipher, job: Job, series_uid: str) -> str:
    """In another generation the same series gets other UIDs, and is another delivery."""
    project = job.project or services.default_project()
    how = AS_IS if job.is_as_is else f"generation {project.generation}"
    return box.index(f"{how}\0{series_uid}", "delivered")
