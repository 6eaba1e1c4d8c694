"""Holdings: what was held back, by device and reason: rows beside the ledger, groups for people."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from pydicom.uid import UID

from adit.accounts.models import User
from adit.jobs import visibility
from adit.jobs.models import Decision, HeldBack, Item, Task
from adit.projects.models import Project
from adit_engine.pseudonymize.admission import LIFTED_BY_PIXEL_RULE
from adit_engine.pseudonymize.tables import admitted_sop_classes
from adit_engine.values.device import ImagingDevice
from adit_engine.values.outcome import InstanceState, LedgerEntry, SeriesLedger

LONGEST_TEXT = 256
_DEVICE = ("sop_class", "manufacturer", "model", "software", "rows", "columns")
_RULED = (Decision.MASKED, Decision.RELEASED)

Key = tuple[str, ImagingDevice]


def note(item: Item, manifest: SeriesLedger) -> None:
    """Writes down what of a series is held back now. Decisions stay with what is still there."""
    found: Counter[Key] = Counter()
    reasons: dict[Key, str] = {}
    for entry in manifest.entries.values():
        if entry.state is InstanceState.WITHHELD:
            key = (entry.code, _device_of(entry))
            found[key] += 1
            reasons.setdefault(key, entry.reason)
    known = {(row.code, device_of(row)): row for row in item.held_back.all()}
    kept = set()
    for key, images in found.items():
        row = known.get(key) or _looked_at_before(known, key)
        row = row or HeldBack(item=item, code=key[0], **key[1].to_json())
        row.reason, row.images = reasons[key], images
        if row.decision in _RULED and _was_tried(row, item.task):
            row.decision = Decision.OPEN
        row.save()
        kept.add(row.pk)
    item.held_back.exclude(pk__in=kept).delete()


def device_of(row: HeldBack) -> ImagingDevice:
    return ImagingDevice(**{name: getattr(row, name) for name in _DEVICE})


def is_of(entry: LedgerEntry, row: HeldBack) -> bool:
    """Whether a line of the ledger is one of the images that the row counts."""
    if entry.state is not InstanceState.WITHHELD or entry.code != row.code:
        return False
    device = _device_of(entry)
    return device == device_of(row) if device.is_known else device.sop_class == row.sop_class


def set_device(row: HeldBack, device: ImagingDevice) -> None:
    """Somebody has looked at one image of it."""
    for name, value in _cut(device).to_json().items():
        setattr(row, name, value)
    row.save(update_fields=_DEVICE)


def _device_of(entry: LedgerEntry) -> ImagingDevice:
    return _cut(entry.device or ImagingDevice(""))


def _cut(device: ImagingDevice) -> ImagingDevice:
    maker, model, software = (text[:LONGEST_TEXT] for text in _texts(device))
    return ImagingDevice(device.sop_class[:64], maker, model, software, device.rows, device.columns)


def _texts(device: ImagingDevice) -> tuple[str, str, str]:
    return device.manufacturer, device.model, device.software


def _looked_at_before(known: Mapping[Key, HeldBack], key: Key) -> HeldBack | None:
    """The ledger knows the class alone of what is not fetched; a person may know more."""
    code, device = key
    if device.is_known:
        return None
    rows = (row for (c, d), row in known.items() if (c, d.sop_class) == (code, device.sop_class))
    return next(rows, None)


def _was_tried(row: HeldBack, task: Task) -> bool:
    """Whether the task has run under the decision's version or a later one."""
    last = task.rules[-1]["profile"] if task.rules else 0
    return row.profile_id is not None and last >= row.profile_id


# Groups --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """What one device made for one project and was held back for one reason, in several jobs."""

    project: Project
    code: str
    reason: str
    device: ImagingDevice
    decision: Decision
    rows: tuple[HeldBack, ...] = field(repr=False)

    @property
    def pk(self) -> int:
        """The row that stands for all in addresses."""
        return self.rows[0].pk

    @property
    def images(self) -> int:
        return sum(row.images for row in self.rows)

    @property
    def jobs(self) -> list[int]:
        return sorted({row.item.task.job_id for row in self.rows})

    @property
    def may_be_opened(self) -> bool:
        """Whether a pixel rule could lift the reason at all."""
        return self.code in LIFTED_BY_PIXEL_RULE and self.device.sop_class in admitted_sop_classes()

    @property
    def names_its_device(self) -> bool:
        texts = _texts(self.device)
        return all(texts[:2]) and all(len(t) < LONGEST_TEXT and _is_plain(t) for t in texts)

    @property
    def kind(self) -> str:
        """What the standard calls such objects."""
        uid = self.device.sop_class
        name = UID(uid).name if uid else ""
        return name.removesuffix(" Storage") if name != uid else _("Objects of an unknown kind")

    @property
    def title(self) -> str:
        if not self.device.is_known:
            return self.kind
        named = " ".join(text for text in _texts(self.device)[:2] if text)
        return named or _("A device that does not say its name")


def groups_of(user: User, *decisions: Decision) -> list[Group]:
    """Of the jobs that the person may see; those with most images first."""
    rows = _rows(user).filter(decision__in=decisions)
    found: dict[object, list[HeldBack]] = {}
    for row in rows:
        key = (row.item.task.job.project_id, row.code, device_of(row), row.decision)
        found.setdefault(key, []).append(row)
    return sorted(map(_group, found.values()), key=lambda group: -group.images)


def group_of(user: User, pk: int) -> Group | None:
    """The group in which a row stands; None for what is not there or not this person's business."""
    row = _rows(user).filter(pk=pk).first()
    if row is None:
        return None
    device = {name: getattr(row, name) for name in _DEVICE}
    alike = _rows(user).filter(
        item__task__job__project=row.item.task.job.project_id,
        code=row.code,
        decision=row.decision,
        **device,
    )
    return _group(alike)


def _group(rows: Iterable[HeldBack]) -> Group:
    rows = tuple(rows)
    first = rows[0]
    project = first.item.task.job.project
    assert project is not None
    return Group(
        project, first.code, first.reason, device_of(first), Decision(first.decision), rows
    )


def _rows(user: User) -> QuerySet[HeldBack]:
    rows = HeldBack.objects.filter(item__task__job__in=visibility.visible(user))
    return rows.select_related(
        "item__task__job__project__profile",
        "item__task__source",
        "item__task__job__owner",
        "decided_by",
    ).order_by("pk")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
