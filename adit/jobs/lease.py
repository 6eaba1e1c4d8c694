"""The lease of a worker on one task. Used by the runner and by query batches.

A thread of its own renews the lease and stops the task when it has to end.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import Error, connection
from django.utils import timezone

from adit.jobs import block_check, queue
from adit.jobs.models import JobState, Task, TaskState
from adit.nodes.gateway import Purpose, get_release_reason
from adit.nodes.limits.unavailable import ConnectionEnded, NodePaused, NodeStopped, NodeUnavailable
from adit.nodes.models import Node
from adit.nodes.usage import metering
from adit.notifications.outbox import get_boot_time
from adit.projects import services
from adit.projects.models import Project
from adit.vault.cipher import DecryptionError
from adit_engine.bounded_stream import Stop
from adit_engine.messages import Message

POLL_S = 0.5
NODE_POLL_S = 2.0
ABORT_AFTER_S = 3.0
"""Seconds that the engine has to end between two instances after a stop.

Then the connections are aborted.
"""

log = logging.getLogger(__name__)


class Shutdown:
    """Whether this process has to end. Set once, by a signal handler."""

    requested = False


SHUTDOWN = Shutdown()


class StopReason(Message):
    """Why a task is stopped. The class decides how the attempt ends."""

    @classmethod
    def of(cls, message: Message) -> Self:
        return cls(message.code, **message.values)


class Canceled(StopReason):
    """A user has canceled the task for good."""


class Interrupted(StopReason):
    """The task continues later; not counted as a failure."""


class ProjectEnded(StopReason):
    """The research project has ended, for good or until it is extended."""


class PatientNowBlocked(StopReason):
    """The patient was added to the block list, or the consent has ended."""


class ClaimLost(StopReason):
    """Another worker holds the task now."""


class Stalled(StopReason):
    """No progress for too long; counted as a failure."""


class LeasedStop(Stop):
    """A stop that is also set when the lease has expired.

    It uses a clock that also counts while the machine sleeps: nothing is sent on a lease that
    another worker may hold by now.
    """

    def __init__(self, left_s: float) -> None:
        super().__init__()
        self.valid_until = get_boot_time() + left_s

    def is_set(self) -> bool:
        self._check_lease()
        return super().is_set()

    def check(self) -> None:
        self._check_lease()
        super().check()

    def _check_lease(self) -> None:
        if get_boot_time() > self.valid_until:
            self.set(ClaimLost("task.lease-expired"))


@dataclass
class Lease:
    """A held lease. Use as `with Lease(task) as lease:` and call `progress` on each progress."""

    task: Task
    nodes: tuple[tuple[Node, Purpose], ...]
    aborts: list[Callable[[], None]] = field(default_factory=list)
    """Called some seconds after a stop if the work has not ended by itself."""
    modalities: tuple[str, ...] | None = None
    """The modalities with which the transfer has begun; None before."""
    expires_at: datetime | None = None
    """After an interruption by a node: when the node opens again, if known."""

    def __post_init__(self) -> None:
        self.stop = LeasedStop(self._left_s())
        self._ended = threading.Event()
        self._heard_at = time.monotonic()
        self._eased_at: float | None = None
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._watch,), name="lease", daemon=True
        )

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(settings.LEASE_S)

    def touch(self) -> None:
        self._heard_at = time.monotonic()

    def _left_s(self) -> float:
        """Seconds that are left of the lease taken with the claim."""
        if self.task.lease_until is None:
            return 0.0
        return (self.task.lease_until - timezone.now()).total_seconds()

    def _watch(self) -> None:
        beat_at, nodes_at, abort_at = time.monotonic() + settings.BEAT_S, 0.0, 0.0
        try:
            while not self._ended.wait(POLL_S):
                now = time.monotonic()
                if now >= beat_at:
                    self._renew()
                    beat_at = now + settings.BEAT_S
                self._poll(check_nodes=now >= nodes_at)
                nodes_at = now + NODE_POLL_S if now >= nodes_at else nodes_at
                if self.stop.is_set():
                    abort_at = abort_at or now + ABORT_AFTER_S
                    if now >= abort_at:
                        self._abort()
                        abort_at = now + ABORT_AFTER_S
        finally:
            connection.close()

    def _renew(self) -> None:
        """Renew the lease. Short outages of the database do no harm while the lease is valid."""
        if time.monotonic() - self._heard_at > settings.STALL_S:
            self.stop.set(Stalled("task.no-progress", seconds=settings.STALL_S))
            return
        asked_at = get_boot_time()
        try:
            queue.renew_lease(self.task)
        except queue.LeaseLost as error:
            self.stop.set(ClaimLost.of(error.message))
        except Error as error:
            log.warning("task %d: lease not renewed (%s)", self.task.pk, type(error).__name__)
            connection.close()
        else:
            self.stop.valid_until = asked_at + settings.LEASE_S

    def _poll(self, *, check_nodes: bool) -> None:
        if SHUTDOWN.requested:
            self.stop.set(Interrupted("task.worker-stopped"))
            return
        try:
            self._check_rows()
            if check_nodes:
                self._check_project()
                self._check_patient()
                self._check_nodes()
        except Error as error:
            log.warning("task %d: database unavailable (%s)", self.task.pk, type(error).__name__)
            connection.close()

    def _check_rows(self) -> None:
        row = (
            Task.objects.filter(pk=self.task.pk)
            .values_list("state", "attempt", "worker", "stop_requested", "job__state")
            .first()
        )
        mine = (TaskState.IN_PROGRESS, self.task.attempt, self.task.worker)
        if row is None or row[:3] != mine:
            self.stop.set(ClaimLost("task.taken-over"))
        elif row[3] or row[4] in (JobState.CANCELING, JobState.CANCELED):
            self.stop.set(Canceled("task.canceled"))

    def _check_project(self) -> None:
        for project in Project.objects.filter(jobs=self.task.job_id):
            over = services.explain_ended(project)
            if over:
                self.stop.set(ProjectEnded.of(over))

    def _check_patient(self) -> None:
        try:
            why = block_check.find_block_of_task(self.task, started_with=self.modalities)
        except DecryptionError:  # without its key, the project has ended
            return
        if why is not None:
            self.stop.set(PatientNowBlocked.of(why))

    def _check_nodes(self) -> None:
        """React to pauses, stops and the end of allowed hours, which urgent jobs ignore."""
        metering.update_meters(queue.get_holder(self.task))
        purposes = {node.pk: purpose for node, purpose in self.nodes}
        rows = Node.objects.select_related("paused_by").filter(pk__in=purposes)
        holder, urgent = queue.get_holder(self.task), self.task.job.urgent
        found = [get_release_reason(row, purposes[row.pk], holder, urgent=urgent) for row in rows]
        pauses = [waits for waits in found if isinstance(waits, NodePaused)]
        self._stop_after_series(pauses[0] if pauses else None)
        for waits in found:
            if waits is not None and not isinstance(waits, NodePaused):
                self._stop_for(waits)

    def _stop_after_series(self, pause: NodePaused | None) -> None:
        """Handle a pause: the current series may be finished unless it takes too long."""
        self.stop.set_after_series(Interrupted.of(pause.message) if pause is not None else None)
        if pause is None:
            self._eased_at = None
            return
        now = time.monotonic()
        self._eased_at = self._eased_at or now
        if now - self._eased_at > settings.PAUSE_GRACE_S:
            self.stop.set(Interrupted.of(pause.message))

    def _stop_for(self, waits: NodeUnavailable) -> None:
        if isinstance(waits, ConnectionEnded):
            self.stop.set(Canceled.of(waits.message))
            return
        self.expires_at = waits.until
        self.stop.set(Interrupted.of(waits.message))
        if isinstance(waits, NodeStopped):
            self._abort()

    def _abort(self) -> None:
        for abort in self.aborts:
            abort()
