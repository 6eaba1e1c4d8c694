"""The only place that opens engine nodes for users: checks permissions, takes a slot, records it.

Used by the worker, the queue, searches and tests of nodes.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
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
from adit.nodes.limits import budgets, learned_limits, response_times, slots
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
from adit.nodes.usage.daily_usage import ECHO_PREFIX
from adit.nodes.usage.metering import ASSOCIATIONS_OF_MOVE, TransferMeter
from adit_engine import nodes as engine
from adit_engine.errors import InvalidInput, NodeError, TimedOut
from adit_engine.nodes.base import SupportsEcho

ECHO_WITHIN_S = 10.0
"""Time limit of each step of an echo. A node that exceeds it is slow."""

_ECHO_LIMITS = {"connect_s", "association_s", "no_progress_s"}

MAX_CONTACT_LENGTH = 80
"""Maximum length of the contact in an error. The page of the node shows all of it."""


class Purpose(StrEnum):
    """What a node is opened for. Determines the permission that is needed and the lane."""

    SEARCH = "search"
    RETRIEVE = "retrieve"
    STORE = "store"
    CHECK = "check"
    RECALL = "recall"
    """Delete what was delivered, or ask whether it is still there."""

    def lane(self, urgent: bool) -> Lane:
        if self in (Purpose.SEARCH, Purpose.CHECK, Purpose.RECALL):
            return Lane.SEARCH
        return Lane.URGENT if urgent else Lane.RETRIEVE

    @property
    def slot_duration_s(self) -> int:
        """How long a slot counts if it is not renewed."""
        if self is Purpose.SEARCH:
            return settings.SEARCH_DEADLINE_S + settings.LEASE_S
        if self in (Purpose.CHECK, Purpose.RECALL):
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
        lane, expires_s = purpose.lane(urgent), purpose.slot_duration_s
        details = {"node": row.name, "purpose": purpose.value, "holder": holder}
        with transaction.atomic():
            slot = slots.acquire_slot(row, lane, holder, expires_s, hold)
            record("node.opened", user=user, about=f"node:{row.pk}", details=details)
        try:
            reception = make_receiver_client(row, slot)
            values = _limit_associations(get_engine_settings(row), row, slot)
            if purpose in (Purpose.STORE, Purpose.RECALL):
                shared_folders.require_shared(row, values)
            meter = TransferMeter(slot)
            learned = learned_limits.load(row)
            node = engine.open_node(
                row.kind, row.name, values, reception=reception, observer=meter, learned=learned
            )
            try:
                metering.start_metering(meter, node.rate_limiter, learned)
                yield node
            except BaseException:
                node.abort()
                raise
            finally:
                node.close()
                metering.stop_metering(slot)
                learned_limits.save(row, learned)
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
    if purpose is Purpose.RECALL:
        # Who orders a recall manages the block list, and needs no access to the destinations.
        require(user, Right.MANAGE_BLOCK_LIST)
    elif purpose is Purpose.STORE:
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
    """Return the slot request for these purposes: for whom, and how many associations at once.

    A node with several purposes at once gets no more associations for each than it needs.
    """
    purposes = tuple(purposes)
    ranges = [_association_range(row, purpose) for purpose in purposes]
    least, most = (sum(numbers) for numbers in zip(*ranges, strict=True))
    return slots.SlotRequest(
        user,
        job,
        least,
        most if len(purposes) == 1 else least,
        counts_for_budget=Purpose.RETRIEVE in purposes,
        purposes=len(purposes),
    )


def _association_range(row: Node, purpose: Purpose) -> tuple[int, int]:
    """The minimum and maximum number of associations."""
    learned = learned_limits.load(row)
    if purpose is Purpose.STORE:
        return 1, learned.store.apply(int(row.settings.get("store_associations") or 1))
    if purpose is not Purpose.RETRIEVE:
        return 1, 1
    most = learned.retrieve.apply(int(row.settings.get("retrieve_associations") or 1))
    each = _associations_per_fetch(row)
    return each, each * most


@contextmanager
def lend_connections(
    user: AnyUser, row: Node, most: int, purpose: Purpose = Purpose.RETRIEVE
) -> Iterator[int]:
    """Take up to `most` free connections, to measure them; yield how many fetch, or send.

    A user who manages nodes measures a node that `open_node` has opened for a check. Yields 0 while
    none may be used.
    """
    require(user, Right.MANAGE_NODES)
    each = _associations_per_fetch(row) if purpose is Purpose.RETRIEVE else 1
    holder = f"measure:{secrets.token_hex(8)}"
    hold = slots.SlotRequest(user.pk, None, each, each * most)
    try:
        duration_s = Purpose.CHECK.slot_duration_s
        slot = slots.acquire_slot(row, Lane.RETRIEVE, holder, duration_s, hold)
    except NodeUnavailable:
        yield 0
        return
    try:
        yield slot.weight // each
    finally:
        slots.release_slot(slot)


def measure_echo(row: Node) -> None:
    """Measure how fast a node answers an echo, over a free connection for searches.

    The last free connection is left to searches, unless the node allows only one.
    """
    response_times.mark_measured(row)
    if row.search_limit > 1 and slots.count_free(row, Lane.SEARCH) < 2:
        return
    holder = f"{ECHO_PREFIX}{secrets.token_hex(8)}"
    try:
        slot = slots.acquire_slot(row, Lane.SEARCH, holder, Purpose.CHECK.slot_duration_s)
    except NodeUnavailable:
        return
    node = None
    began = time.monotonic()
    try:
        fresh = Node.objects.select_related("paused_by").filter(pk=row.pk).first()
        if fresh is None or get_unavailability(fresh, Purpose.SEARCH) is not None:
            return
        limits = {
            field.name for field in fields(engine.kind_class(row.kind).Settings)
        } & _ECHO_LIMITS
        values = get_engine_settings(row) | dict.fromkeys(limits, ECHO_WITHIN_S)
        node = engine.open_node(row.kind, row.name, values)
        if isinstance(node, SupportsEcho):
            seconds = node.measure_echo()
            response_times.record_times(row, response_times.Measure.ECHO, [seconds])
    except TimedOut:
        seconds = time.monotonic() - began
        response_times.record_times(row, response_times.Measure.ECHO, [seconds])
    except (NodeError, InvalidInput):
        return  # the circuit breaker and the test of the node report what does not work
    finally:
        if node is not None:
            node.close()
        slots.release_slot(slot)


def _associations_per_fetch(row: Node) -> int:
    """A C-MOVE takes two: our own, and the one over which the images come."""
    if row.capabilities.uses_receiver and settings.RECEIVER_PORT:
        way = row.settings.get("retrieve", "auto")
        if way == "move" or (way == "auto" and row.uses_c_move):
            return ASSOCIATIONS_OF_MOVE
    return 1


def _limit_associations(values: dict[str, Any], row: Node, slot: Slot) -> dict[str, Any]:
    """Limit the associations for fetching and sending to the weight of the slot."""
    weight = slot.weight if slot.purposes == 1 else 1
    if row.capabilities.uses_several_associations:
        for name, most in (
            ("retrieve_associations", weight // _associations_per_fetch(row)),
            ("store_associations", weight),
        ):
            values[name] = max(1, min(values.get(name) or 1, most))
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
    if (
        purpose.lane(urgent) == Lane.RETRIEVE
        and (slow := response_times.get_slow_error(row)) is not None
    ):
        slow.contact = _get_contact(row)
        return slow
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
