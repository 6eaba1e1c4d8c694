"""List and delete quarantined images and rejected senders. Used by their page, and by recalls."""

import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from django.conf import settings

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right, require
from adit.audit.trail import record
from adit.nodes.models import UnexpectedSender
from adit.nodes.receiving.retrievals import open_spool
from adit_engine.dicom_file.part10 import parse_file
from adit_engine.dicom_ul.statuses import describe_uid
from adit_engine.errors import AditError
from adit_engine.storage_scp.quarantine import Quarantine, QuarantinedInstance

SenderKey = tuple[str, str, str]
"""AE title, address and SOP class."""


@dataclass(frozen=True, slots=True)
class QuarantineGroup:
    """Images in quarantine of one sender and one kind of object."""

    calling: str
    address: str
    class_uid: str
    first_at: datetime
    last_at: datetime
    names: tuple[str, ...] = ()
    size_bytes: int = 0

    @property
    def kind(self) -> str:
        return describe_uid(self.class_uid) if self.class_uid else ""

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def key(self) -> str:
        """The value of the form field that deletes this lot."""
        return json.dumps([self.calling, self.address, self.class_uid])

    def with_image(self, image: QuarantinedInstance) -> "QuarantineGroup":
        return replace(
            self,
            first_at=min(self.first_at, image.at),
            last_at=max(self.last_at, image.at),
            names=(*self.names, image.name),
            size_bytes=self.size_bytes + image.size_bytes,
        )


@dataclass(frozen=True, slots=True)
class RejectedSender:
    """What one sender sent that was turned away or refused, in total."""

    row: UnexpectedSender

    @property
    def kind(self) -> str:
        return describe_uid(self.row.class_uid) if self.row.class_uid else ""


@dataclass(frozen=True, slots=True)
class QuarantineContent:
    """The whole quarantine. `limit_bytes` is 0 if quarantine is off."""

    groups: list[QuarantineGroup]
    rejected: list[RejectedSender]
    limit_bytes: int
    elsewhere: bool
    """The images are on the machine of the receiver, which may be another one."""

    @property
    def used_bytes(self) -> int:
        return sum(lot.size_bytes for lot in self.groups)

    @property
    def percent(self) -> int:
        return min(100, round(100 * self.used_bytes / self.limit_bytes)) if self.limit_bytes else 0


def list_quarantine(user: User) -> QuarantineContent:
    """Return the quarantine without patient data, and record the access. Raise NotPermitted."""
    require(user, Right.MANAGE_NODES)
    lots: dict[SenderKey, QuarantineGroup] = {}
    for image in _open_quarantine().contents():
        key = (image.calling, image.address, image.class_uid)
        lots[key] = lots.get(key, QuarantineGroup(*key, image.at, image.at)).with_image(image)
    turned = [
        RejectedSender(row)
        for row in UnexpectedSender.objects.exclude(disposition=UnexpectedSender.Fate.QUARANTINED)
    ]
    found = QuarantineContent(
        list(lots.values()), turned, _get_limit_bytes(), bool(settings.HAND_OVER_URL)
    )
    images = sum(lot.count for lot in found.groups)
    record("quarantine.viewed", user=user, details={"images": images})
    return found


def delete_images(user: User, senders: Iterable[SenderKey]) -> int:
    """Delete the quarantined images of these senders permanently; return their number.

    Raise NotPermitted.
    """
    require(user, Right.MANAGE_NODES)
    meant, quarantine = set(senders), _open_quarantine()
    names = [
        one.name
        for one in quarantine.contents()
        if (one.calling, one.address, one.class_uid) in meant
    ]
    count = quarantine.remove(names)
    details = {"images": count, "from": sorted({f"{ae}@{address}" for ae, address, _ in meant})}
    record("quarantine.deleted", user=user, details=details)
    return count


def find_old_images(before: datetime) -> list[QuarantinedInstance]:
    """Return the images of this machine's quarantine that came before this time, oldest first."""
    return [one for one in reversed(_open_quarantine().contents()) if one.at < before]


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """To whom and to what an image belongs, by its header. Empty as far as it is damaged."""

    patient_id: str = field(default="", repr=False)
    study_uid: str = ""
    series_uid: str = ""


def list_identities() -> Iterator[tuple[QuarantinedInstance, ImageIdentity]]:
    """Yield the images of this machine's quarantine with their identities."""
    quarantine = _open_quarantine()
    for image in quarantine.contents():
        yield image, _read_identity(quarantine.path_of(image.name))


def _read_identity(path: Path) -> ImageIdentity:
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header = parse_file(memoryview(data)).in_header
    except (OSError, ValueError, AditError):
        return ImageIdentity()
    value = bytes(header.patient_id)
    try:
        patient_id = value.decode()
    except UnicodeDecodeError:
        patient_id = value.decode("latin-1")
    try:
        return ImageIdentity(patient_id, header.ref.study_uid, header.ref.series_uid)
    except (ValueError, AditError):
        return ImageIdentity(patient_id)


def remove_image(image: QuarantinedInstance) -> int:
    """Delete one image permanently; return 0 if it was gone. Raises OSError."""
    return _open_quarantine().remove([image.name])


def clear_rejected(user: User) -> int:
    """Delete the list of rejected senders; return the number of rows. Raise NotPermitted."""
    require(user, Right.MANAGE_NODES)
    count, _ = UnexpectedSender.objects.all().delete()
    record("quarantine.forgotten", user=user, details={"lines": count})
    return count


def needs_attention(user: User) -> bool:
    """Return whether the user manages nodes and the quarantine or the list is not empty."""
    if not has_right(user, Right.MANAGE_NODES):
        return False
    turned = UnexpectedSender.objects.exclude(disposition=UnexpectedSender.Fate.QUARANTINED)
    return turned.exists() or not _open_quarantine().is_empty()


def count_images() -> int:
    """Return the number of images in the quarantine on this machine."""
    return sum(1 for _ in _open_quarantine().contents())


def _open_quarantine() -> Quarantine:
    return Quarantine(open_spool(), _get_limit_bytes())


def _get_limit_bytes() -> int:
    return int(settings.RECEIVER_QUARANTINE_MB) * 1024 * 1024
