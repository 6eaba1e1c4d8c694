"""Record which images are withheld, by device and reason, and group them for reviewers.

Used by the worker and the review pages.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.jobs import visibility
from adit.jobs.models import DeviceDecision, ReviewDecision, SeriesResult, Task, WithheldImages
from adit.projects.models import Project
from adit_engine.messages import Message
from adit_engine.pseudonymize.admission import LIFTED_BY_PIXEL_RULE
from adit_engine.pseudonymize.tables import admitted_sop_classes
from adit_engine.values.device import ImagingDevice
from adit_engine.values.outcome import InstanceState, LedgerEntry, SeriesLedger

MAX_TEXT_LENGTH = 256
_DEVICE = ("sop_class", "manufacturer", "model", "software", "rows", "columns")
_DECIDED_BY_RULE = (ReviewDecision.MASKED, ReviewDecision.RELEASED)

GroupKey = tuple[str, ImagingDevice]


def record_withheld(item: SeriesResult, manifest: SeriesLedger) -> None:
    """Record which images of a series are withheld now.

    Decisions on images that are still withheld are kept. A decision to mask or release becomes open
    again if the task has run under it.
    """
    found: Counter[GroupKey] = Counter()
    reasons: dict[GroupKey, Message] = {}
    for entry in manifest.entries.values():
        if entry.state is InstanceState.WITHHELD and entry.reason is not None:
            key = (entry.reason.category, _entry_device(entry))
            found[key] += 1
            reasons.setdefault(key, entry.reason)
    known = {(row.code, get_device(row)): row for row in item.withheld_images.all()}
    kept = set()
    for key, images in found.items():
        row = known.get(key) or _find_inspected(known, key)
        row = row or WithheldImages(item=item, code=key[0], **key[1].to_json())
        row.reason, row.images = reasons[key], images
        if row.decision in _DECIDED_BY_RULE and _has_run_under_decision(row, item.task):
            row.decision = ReviewDecision.OPEN
        row.save()
        kept.add(row.pk)
    item.withheld_images.exclude(pk__in=kept).delete()


def record_ruled(item: SeriesResult, manifest: SeriesLedger) -> None:
    """Record how many delivered images of a series a pixel rule covers, by device."""
    found = Counter(
        _truncate(entry.device)
        for entry in manifest.delivered_entries().values()
        if entry.device is not None
    )
    if not found:
        return
    last = item.task.rules[-1]
    for device, images in found.items():
        item.task.ruled_images.update_or_create(
            index=item.index,
            generation=last["generation"],
            **device.to_json(),
            defaults={"images": images},
            create_defaults={"images": images, "profile_id": last["profile"]},
        )


def get_device(row: WithheldImages | DeviceDecision) -> ImagingDevice:
    return ImagingDevice(**{name: getattr(row, name) for name in _DEVICE})


def match_device(device: ImagingDevice) -> dict[str, str | int]:
    """Return what rows of the device are filtered by: texts ignore case, as in pixel rules."""
    return {
        f"{name}__iexact" if isinstance(value, str) else name: value
        for name, value in device.to_json().items()
    }


def is_counted_in(entry: LedgerEntry, row: WithheldImages) -> bool:
    """Return whether the row counts this image of the ledger."""
    if entry.state is not InstanceState.WITHHELD or entry.reason is None:
        return False
    if entry.reason.category != row.code:
        return False
    device = _entry_device(entry)
    return device == get_device(row) if device.is_known else device.sop_class == row.sop_class


def set_device(row: WithheldImages, device: ImagingDevice) -> None:
    """Set the device of a row after one of its images was inspected."""
    for name, value in _truncate(device).to_json().items():
        setattr(row, name, value)
    row.save(update_fields=_DEVICE)


def _entry_device(entry: LedgerEntry) -> ImagingDevice:
    return _truncate(entry.device or ImagingDevice(""))


def _truncate(device: ImagingDevice) -> ImagingDevice:
    maker, model, software = (text[:MAX_TEXT_LENGTH] for text in _device_texts(device))
    return ImagingDevice(device.sop_class[:64], maker, model, software, device.rows, device.columns)


def _device_texts(device: ImagingDevice) -> tuple[str, str, str]:
    return device.manufacturer, device.model, device.software


def _find_inspected(
    known: Mapping[GroupKey, WithheldImages], key: GroupKey
) -> WithheldImages | None:
    """For images that were not fetched, the ledger knows only the SOP class. The row may know the
    device from an inspection.
    """
    code, device = key
    if device.is_known:
        return None
    rows = (row for (c, d), row in known.items() if (c, d.sop_class) == (code, device.sop_class))
    return next(rows, None)


def _has_run_under_decision(row: WithheldImages, task: Task) -> bool:
    """Whether the task has run under the profile version of the decision, or a later one."""
    last = task.rules[-1]["profile"] if task.rules else 0
    return row.profile_id is not None and last >= row.profile_id


# Groups --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WithheldGroup:
    """Images of one device that one project withholds for one reason, in several jobs."""

    project: Project
    code: str
    reason: Message
    device: ImagingDevice
    decision: ReviewDecision
    rows: tuple[WithheldImages, ...] = field(repr=False)

    @property
    def pk(self) -> int:
        """Return the primary key of the row that represents the group in URLs."""
        return self.rows[0].pk

    def get_row(self, pk: int) -> WithheldImages | None:
        return next((row for row in self.rows if row.pk == pk), None)

    @property
    def images(self) -> int:
        return sum(row.images for row in self.rows)

    @property
    def jobs(self) -> list[int]:
        return sorted({row.item.task.job_id for row in self.rows})

    @property
    def is_liftable(self) -> bool:
        """Return whether a pixel rule can lift the reason."""
        return self.code in LIFTED_BY_PIXEL_RULE and self.device.sop_class in admitted_sop_classes()

    @property
    def has_device(self) -> bool:
        texts = _device_texts(self.device)
        return all(texts[:2]) and all(len(t) < MAX_TEXT_LENGTH and _is_printable(t) for t in texts)

    @property
    def kind(self) -> str:
        """Return the name of the SOP class in the standard."""
        return describe_kind(self.device.sop_class)

    @property
    def title(self) -> str:
        if not self.device.is_known:
            return self.kind
        named = " ".join(text for text in _device_texts(self.device)[:2] if text)
        return named or _("Device without a name")


def describe_kind(sop_class: str) -> str:
    """Return the name of a SOP class in the standard."""
    from pydicom.uid import UID  # slow to import, and needed by web processes only

    name = UID(sop_class).name if sop_class else ""
    return name.removesuffix(" Storage") if name != sop_class else _("Unknown kind of image")


def list_groups(user: User, *decisions: ReviewDecision) -> list[WithheldGroup]:
    """Return groups from the jobs that the user may see, those with most images first."""
    rows = _visible_rows(user).filter(decision__in=decisions)
    found: dict[object, list[WithheldImages]] = {}
    for row in rows:
        key = (row.item.task.job.project_id, row.code, get_device(row), row.decision)
        found.setdefault(key, []).append(row)
    return sorted(map(_make_group, found.values()), key=lambda group: -group.images)


def find_group(user: User, pk: int) -> WithheldGroup | None:
    """Return the group of a row; None if it does not exist or the user may not see it."""
    row = _visible_rows(user).filter(pk=pk).first()
    if row is None:
        return None
    device = {name: getattr(row, name) for name in _DEVICE}
    alike = _visible_rows(user).filter(
        item__task__job__project=row.item.task.job.project_id,
        code=row.code,
        decision=row.decision,
        **device,
    )
    return _make_group(alike)


def _make_group(rows: Iterable[WithheldImages]) -> WithheldGroup:
    rows = tuple(rows)
    first = rows[0]
    project = first.item.task.job.project
    assert project is not None
    return WithheldGroup(
        project, first.code, first.reason, get_device(first), ReviewDecision(first.decision), rows
    )


def _visible_rows(user: User) -> QuerySet[WithheldImages]:
    rows = WithheldImages.objects.filter(item__task__job__in=visibility.visible_jobs(user))
    return rows.select_related(
        "item__task__job__project__profile",
        "item__task__source",
        "item__task__job__owner",
        "decided_by",
    ).order_by("pk")


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()
