"""The only place that opens engine nodes for users: checks permissions, takes a slot, records it.

Used by the worker, the queue, searches and tests of nodes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import (
    AnyUser,
    NotPermitted,
    Right,
    has_right,
    require,
    require_active,
)
from adit.audit.trail import record
from adit.nodes import folder_rules, shared_folders
from adit.nodes.access import may_read, may_write
from adit.nodes.limits import budgets, slots
from adit.nodes.limits.unavailable import (
    ConnectionEnded,
    NodePaused,
    NodeStopped,
    NodeUnavailable,
    NoSlot,
)
from adit.nodes.models import Lane, Node, Slot
from adit.nodes.receiving.retrievals import make_receiver_client
from adit.nodes.usage import metering
from adit.nodes.usage.metering import ASSOCIATIONS_OF_MOVE, TransferMeter
from adit_engine import nodes as engine
from adit_engine.errors import InvalidInput, NodeError

MAX_CONTACT_LENGTH = 80
"""Maximum length of the contact in an error. The page of the node shows all of it."""


class Purpose(StrEnum):
    """What a node is opened for. Determines the permission that is needed and the lane."""

    SEARCH = "search"
    RETRIEVE = "retrieve"
    STORE = "store"
    CHECK = "check"

    def lane(self, urgent: bool) -> Lane:
        if self in (Purpose.SEARCH, Purpose.CHECK):
            return Lane.SEARCH
        return Lane.URGENT if urgent else Lane.RETRIEVE

    @property
    def slot_duration_s(self) -> int:
        """How long a slot counts if it is not renewed."""
        if self is Purpose.SEARCH:
            return settings.SEARCH_DEADLINE_S + settings.LEASE_S
        if self is Purpose.CHECK:
            return 2 * settings.SEARCH_DEADLINE_S + settings.LEASE_S
        return settings.LEASE_S


@contextmanager
def open_node(
    user: AnyUser, row: Node, purpose: Purpose, *, holder: str, urgent: bool = False
) -> Iterator[Any]:
    """Open the engine node for the duration of the block; abort it if the block fails.

    `holder` identifies the user of the slot (task:12). A slot that it already holds is used and not
    released; otherwise one is taken for the block. A caller that stays longer than a lease must
    renew the slot. User and row are reloaded each time. Raise NotPermitted, NodeUnavailable,
    InvalidInput, NodeError.
    """
    user, row = _reload(user, row)
    with _add_contact_to_errors(row):
        require_purpose(user, row, purpose, urgent=urgent)
        waits = get_unavailability(row, purpose, urgent=urgent)
        if waits is not None and (isinstance(waits, NodeStopped) or not _may_test(user, purpose)):
            raise waits
        if purpose is Purpose.RETRIEVE and not slots.holds_slot(row, holder):
            budgets.require_budget(user.pk)
        hold = make_slot_request(row, (purpose,), user.pk)
        slot = slots.acquire_slot(row, purpose.lane(urgent), holder, purpose.slot_duration_s, hold)
        try:
            record(
                "node.opened",
                user=user,
                about=f"node:{row.pk}",
                details={"node": row.name, "purpose": purpose.value, "holder": holder},
            )
            reception = make_receiver_client(row, slot)
            values = _limit_associations(get_engine_settings(row), slot)
            if purpose is Purpose.STORE:
                shared_folders.require_shared(row, values)
            meter = TransferMeter(slot)
            node = engine.open_node(row.kind, row.name, values, reception=reception, observer=meter)
            try:
                metering.start_metering(meter, node.rate_limiter)
                yield node
            except BaseException:
                node.abort()
                raise
            finally:
                node.close()
                metering.stop_metering(slot)
        finally:
            if slot.is_new:
                slots.release_slot(slot)


@contextmanager
def _add_contact_to_errors(row: Node) -> Iterator[None]:
    """Add the contact of the node to its errors. NodeUnavailable is no fault of the node."""
    try:
        yield
    except NodeError as error:
        if error.node == row.name and not isinstance(error, NodeUnavailable):
            error.contact = _get_contact(row)
        raise


def _get_contact(row: Node) -> str:
    return str(row.settings.get("contact") or "")[:MAX_CONTACT_LENGTH]


def require_purpose(user: AnyUser, row: Node, purpose: Purpose, *, urgent: bool = False) -> None:
    """Raise NotPermitted unless the user may use the node for this. Also called by orders."""
    require_active(user)
    if urgent:
        require(user, Right.BE_URGENT)
    if purpose is Purpose.STORE:
        if not row.takes_images:
            raise NotPermitted("node-access.source-only", node=row.name)
        if row.is_clinical:
            require(user, Right.WRITE_CLINICAL)
        if not may_write(user, row):
            raise NotPermitted("node-access.not-writable", node=row.name)
    elif not _may_test(user, purpose) and not may_read(user, row):
        raise NotPermitted("node-access.not-readable", node=row.name)


def make_slot_request(
    row: Node, purposes: Iterable[Purpose], user: int | None, job: int | None = None
) -> slots.SlotRequest:
    """Return the slot request for these purposes: for whom, and how many associations at once."""
    purposes = tuple(purposes)
    ranges = [_association_range(row, purpose) for purpose in purposes]
    least, most = (sum(numbers) for numbers in zip(*ranges, strict=True))
    return slots.SlotRequest(user, job, least, most, counts_for_budget=Purpose.RETRIEVE in purposes)


def _association_range(row: Node, purpose: Purpose) -> tuple[int, int]:
    """The minimum and maximum number of associations."""
    if purpose is Purpose.STORE:
        return 1, int(row.settings.get("store_associations") or 1)
    if row.capabilities.uses_receiver and purpose is Purpose.RETRIEVE and settings.RECEIVER_PORT:
        way = row.settings.get("retrieve", "auto")
        if way == "move" or (way == "auto" and row.uses_c_move):
            return ASSOCIATIONS_OF_MOVE, ASSOCIATIONS_OF_MOVE
    return 1, 1


def _limit_associations(values: dict[str, Any], slot: Slot) -> dict[str, Any]:
    """Limit the associations for sending to the weight of the slot."""
    if "store_associations" in values:
        values["store_associations"] = min(values["store_associations"] or 1, slot.weight)
    return values


def get_unavailability(
    row: Node, purpose: Purpose, *, urgent: bool = False
) -> NodeUnavailable | None:
    """Return why the node is unavailable now, or None. Connections in use are not considered."""
    if not row.is_open:
        return NodeUnavailable(row.name, "node-unavailable.closed")
    if row.paused_at is not None:
        waits = _make_pause_error(row)
        waits.contact = _get_contact(row)
        return waits
    return slots.get_closed_reason(row, purpose.lane(urgent), timezone.now())


def get_release_reason(
    row: Node, purpose: Purpose, holder: str, *, urgent: bool = False
) -> NodeUnavailable | None:
    """Return why the holder of a slot has to stop using the node, or None.

    The node became unavailable, a user ended this connection, or the limit becomes lower.
    """
    lane = purpose.lane(urgent)
    slot = row.slots.select_related("ended_by").filter(holder=holder, lane=lane).first()
    if slot is not None and slot.ended_by is not None:
        who = slot.ended_by.get_full_name() or slot.ended_by.username
        return ConnectionEnded(row.name, "node-unavailable.connection-ended", user=who)
    waits = get_unavailability(row, purpose, urgent=urgent)
    if waits is None and slot is not None and slots.exceeds_limit(row, slot, timezone.now()):
        return NoSlot(row.name, "node-unavailable.limit-lowered")
    return waits


def require_still_available(row: Node, purpose: Purpose, holder: str) -> None:
    """Raise NodeUnavailable if the holder of a slot has to end now.

    Tests of a paused node may continue.
    """
    fresh = Node.objects.select_related("paused_by").filter(pk=row.pk).first()
    waits = get_release_reason(fresh, purpose, holder) if fresh is not None else None
    if waits is not None and (
        purpose is not Purpose.CHECK or isinstance(waits, (NodeStopped, ConnectionEnded))
    ):
        raise waits


def get_engine_settings(row: Node) -> dict[str, Any]:
    """Return the arguments of the settings dataclass of the kind.

    They are the values of the row and the secrets that were entered for the current address. Links
    to folders are resolved, so that the folder that was checked is the one that is used.

    Raise InvalidInput, FolderRefused.
    """
    names = {field.name for field in fields(engine.kind_class(row.kind).Settings)}
    values = {**row.settings, **row.get_secrets(row.settings)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise InvalidInput(
            "node.settings-unknown", node=row.name, kind=row.kind, names=tuple(unknown)
        )
    values.update(folder_rules.validate_folders(row, values))
    for name, folder in (_DEFAULT_FOLDERS if row.capabilities.is_archive else {}).items():
        if not values.get(name):
            values[name] = str(_create_folder(folder()))
    if "calling_ae_title" in names and not values.get("calling_ae_title"):
        values["calling_ae_title"] = settings.CALLING_AE_TITLE
    return values


_DEFAULT_FOLDERS: Mapping[str, Callable[[], Path]] = {
    "path": lambda: settings.ARCHIVE_DIR,
    "staging": lambda: settings.GATHERED_DIR,
}
"""The settings of archives that default to a folder of this installation."""


def _create_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _reload(user: AnyUser, row: Node) -> tuple[AnyUser, Node]:
    person = User.objects.filter(pk=user.pk or 0).first()
    node = Node.objects.select_related("paused_by").filter(pk=row.pk).first()
    if person is None:
        raise NotPermitted("node-access.signed-out")
    if node is None:
        raise NotPermitted("node-access.node-removed", node=row.name)
    return person, node


def _may_test(user: AnyUser, purpose: Purpose) -> bool:
    """A manager of nodes may test a closed or paused node, but not use it."""
    return purpose is Purpose.CHECK and has_right(user, Right.MANAGE_NODES)


def _make_pause_error(row: Node) -> NodePaused | NodeStopped:
    reason = row.pause_reason or "–"
    if row.paused_by is None:
        if row.stopped_at is None:
            return NodePaused(row.name, "node-unavailable.paused", reason=reason)
        return NodeStopped(row.name, "node-unavailable.stopped", reason=reason)
    who = row.paused_by.get_full_name() or row.paused_by.username
    if row.stopped_at is None:
        return NodePaused(row.name, "node-unavailable.paused-by", user=who, reason=reason)
    return NodeStopped(row.name, "node-unavailable.stopped-by", user=who, reason=reason)
