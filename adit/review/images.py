"""Fetch a withheld image for a reviewer.

It stays in memory, for a short time. Used by the review pages.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

from adit.accounts.models import User
from adit.accounts.permissions import Right, require
from adit.audit.trail import record
from adit.blocklist.blocking import PatientBlocked
from adit.jobs import block_check, encrypted_payload
from adit.jobs.models import WithheldImages
from adit.nodes.access import get_domain
from adit.nodes.sample_images import SampleImage, inspect_images
from adit.review import groups
from adit.review.groups import WithheldGroup
from adit.vault.cipher import DecryptionError
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.errors import InstanceWithheld, Malformed, NotFound
from adit_engine.messages import Message
from adit_engine.pseudonymize.pixel_rules import Rectangle
from adit_engine.pseudonymize.text_detection.detector import is_installed
from adit_engine.pseudonymize.text_detection.layouts import group_by_layout
from adit_engine.pseudonymize.text_detection.proposal import find_text_places
from adit_engine.values.device import ImagingDevice
from adit_engine.values.instance import Instance
from adit_engine.values.references import InstanceRef

CACHE_S = 600
MAX_CACHE_BYTES = 512 << 20
MAX_SHOWN_SERIES = 12
"""Maximum number of series from which one image each is shown to compare their layouts."""
MAX_DEVICES = 60
"""Maximum number of series from which one image each is fetched at a time to detect the device."""


@dataclass
class _ImageCache:
    """A few images in this process, each for the one user who opened it."""

    _kept: OrderedDict[tuple[int, int], tuple[float, Instance]] = field(default_factory=OrderedDict)
    _text: dict[tuple[int, int], tuple[Rectangle, ...] | None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def get(self, key: tuple[int, int]) -> Instance | None:
        with self._lock:
            self._forget()
            found = self._kept.get(key)
            return None if found is None else found[1]

    def put(self, key: tuple[int, int], instance: Instance) -> None:
        with self._lock:
            self._text.pop(key, None)
            self._kept[key] = (time.monotonic() + CACHE_S, instance)
            self._kept.move_to_end(key)
            self._forget()

    def find_text(self, key: tuple[int, int]) -> tuple[Rectangle, ...] | None:
        """Return where text stands in a kept image; None if that is unknown."""
        image = self.get(key)
        if image is None or not is_installed():
            return None
        if key not in self._text:
            self._text[key] = find_text_places(image)
        return self._text[key]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._text.clear()

    def _forget(self) -> None:
        now, size = time.monotonic(), 0
        for key, (until, instance) in reversed(list(self._kept.items())):
            size += instance.size_bytes
            if until < now or size > MAX_CACHE_BYTES:
                del self._kept[key]
                self._text.pop(key, None)


image_cache = _ImageCache()


def get_image(user: User, row: WithheldImages) -> Instance:
    """Return one of the images that the row counts, from the cache or the source.

    Raises NotPermitted, PatientBlocked, NotFound, NodeUnavailable, TimedOut, NodeError.
    """
    _require_reviewer(user)
    why = _find_block(row)
    if why is not None:
        raise PatientBlocked(why.code, **why.values)
    kept = image_cache.get((user.pk, row.pk))
    if kept is not None:
        return kept
    assert row.item.task.source is not None
    (found,) = inspect_images(user, row.item.task.source, [_find_wanted(row)], _decode)
    _record_view(user, [row])
    if found is None:
        raise NotFound("review.image-unavailable", node=row.item.task.source.name)
    groups.set_device(row, ImagingDevice.from_instance(found))
    image_cache.put((user.pk, row.pk), found)
    return found


def get_cached(user: User, row: WithheldImages) -> Instance | None:
    """Return the image if it was fetched for the user and may still be shown."""
    kept = image_cache.get((user.pk, row.pk))
    return kept if kept is not None and _find_block(row) is None else None


def list_viewable(group: WithheldGroup) -> list[WithheldImages]:
    """Return the first rows whose images may be shown. If there is none, the first row."""
    viewable = (row for row in group.rows if _find_block(row) is None)
    return list(islice(viewable, MAX_SHOWN_SERIES)) or [group.rows[0]]


def get_images(user: User, group: WithheldGroup) -> None:
    """Fetch an image of each of several series of the group, so that their layouts can be compared.

    Raises what `get_image` raises, if the first one is not available.
    """
    first, *others = list_viewable(group)
    get_image(user, first)
    source = first.item.task.source
    assert source is not None
    missing = [
        row
        for row in others
        if row.item.task.source_id == source.pk and image_cache.get((user.pk, row.pk)) is None
    ]
    if not missing:
        return
    found = inspect_images(user, source, [_find_wanted(row) for row in missing], _decode)
    shown = [(row, image) for row, image in zip(missing, found, strict=True) if image is not None]
    _record_view(user, [row for row, _image in shown])
    for row, image in shown:
        image_cache.put((user.pk, row.pk), image)


@dataclass(frozen=True, slots=True)
class Layout:
    """Images of a group in which text stands at the same places, the longest first."""

    rows: tuple[WithheldImages, ...]

    @property
    def pk(self) -> int:
        """Return the primary key of the row whose image represents the layout."""
        return self.rows[0].pk


def list_layouts(user: User, group: WithheldGroup) -> list[Layout]:
    """Return the layouts of the images that were fetched for the user; none if there are none.

    Without the text detection each image is a layout of its own.
    """
    shown = [row for row in group.rows if get_cached(user, row) is not None]
    text = [image_cache.find_text((user.pk, row.pk)) for row in shown] if len(shown) > 1 else [()]
    members = group_by_layout(text) if shown else []
    return [Layout(tuple(shown[number] for number in alike)) for alike in members]


def detect_devices(user: User, rows: Sequence[WithheldImages]) -> int:
    """Inspect one image of each series to detect the device; return how many are left.

    The time limit of a search applies.
    """
    _require_reviewer(user)
    source = rows[0].item.task.source
    assert source is not None
    mine = [row for row in rows if row.item.task.source_id == source.pk][:MAX_DEVICES]
    found = inspect_images(
        user,
        source,
        [_find_wanted(row) for row in mine],
        lambda i: ImagingDevice.from_instance(_decode(i)),
    )
    known = [(row, device) for row, device in zip(mine, found, strict=True) if device]
    _record_view(user, [row for row, _device in known])
    for row, device in known:
        groups.set_device(row, device)
    return len(rows) - len(known)


def _require_reviewer(user: User) -> None:
    require(user, Right.REVIEW_WITHHELD)
    require(user, Right.SEE_IDENTIFIED)


def _find_block(row: WithheldImages) -> Message | None:
    try:
        return block_check.find_block_of_task(row.item.task)
    except DecryptionError:
        return Message("review.key-destroyed")


def _find_wanted(row: WithheldImages) -> SampleImage:
    """Raises NotFound if it is not known any more which images they were."""
    try:
        manifest = encrypted_payload.open_series(row.item).manifest
        patient_id = encrypted_payload.open_task(row.item.task).patient_id
    except DecryptionError:
        raise NotFound("review.key-destroyed") from None
    uids = sorted(
        uid for uid, entry in manifest.entries.items() if groups.is_counted_in(entry, row)
    )
    if not uids:
        raise NotFound("review.not-withheld")
    ref = InstanceRef(manifest.ref.study_uid, manifest.ref.series_uid, uids[0])
    return SampleImage(ref, patient_id)


def _decode(instance: Instance) -> Instance:
    """A copy in our own memory, in little endian if possible."""
    try:
        plain = to_little_endian(instance)
    except (Malformed, InstanceWithheld):
        return instance
    return Instance(
        plain.sop_class_uid,
        plain.instance_uid,
        plain.transfer_syntax_uid,
        bytes(plain.header),
        tuple(bytes(part) for part in plain.rest),
        instance.defect,
    )


def _record_view(user: User, rows: Sequence[WithheldImages]) -> None:
    """Record access to identified data, by patient and job."""
    for task in {row.item.task for row in rows}:
        assert task.source is not None
        patient_id = encrypted_payload.open_task(task).patient_id
        record(
            "withheld.seen",
            user=user,
            about=f"job:{task.job_id}",
            details={"task": task.position, "node": task.source.name},
            patient=(get_domain(task.source), patient_id) if patient_id else None,
        )
