"""The worker's side of the image transport: receive the images of one C-MOVE from the broker.

Used by `retrievals` if the receiver runs on another machine.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path

from django.db import Error

from adit.nodes.models import MoveInProgress
from adit.nodes.receiving import amqp
from adit.nodes.receiving.amqp import BrokerConnection, BrokerUnavailable
from adit.nodes.receiving.sealed_message import ImageUnpacker, get_receipt_context
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.errors import ConnectionLost, StorageError, StorageFull
from adit_engine.storage_scp.inbox import spool_full_error
from adit_engine.storage_scp.pending_moves import PendingMove as Expected
from adit_engine.values.instance import Instance

RECEIVER, WORKER = "ADIT receiver", "ADIT worker"
"""Names in errors."""
STALL_TIMEOUT_S = 120.0
"""How long images may wait without any arriving, or the broker may be unavailable."""

_LISTEN_S = 0.001
_RECONNECT_S = 0.5
_POLL_S = 1.0
_ACTIVE_S = 10.0

log = logging.getLogger(__name__)


class BrokerReceiver:
    """The images of one C-MOVE, decrypted as they arrive. Use it in one thread at a time."""

    def __init__(self, url: str, pending_move: Expected, secret: bytes, folder: Path) -> None:
        self.message_id = pending_move.message_id
        self._url = url
        self._token = pending_move.token
        self._cipher = ValueCipher(secret)
        self._unpacker = ImageUnpacker(pending_move.token, secret, folder)
        self._wire: BrokerConnection | None = None
        self._whole: deque[Instance] = deque()
        self._taken: set[str] = set()
        self._in_vain_since: float | None = None
        self._connect_at = 0.0
        self._signs = _ReceiverActivity(pending_move.token)

    def open(self) -> None:
        """Connect. Raise ConnectionLost if the broker is unavailable; nothing is requested yet."""
        try:
            self._wire = self._connected()
        except BrokerUnavailable as error:
            raise _make_connection_lost() from error

    def close(self) -> None:
        """Tell the receiver that no more images are accepted, and delete the queues."""
        self._unpacker.close()
        try:
            wire = self._wire or self._connected()
            try:
                self._send_receipt(wire, {"end": True})
                wire.settle(lambda: None)
                wire.remove_queues(self._token)
            except BrokerUnavailable:
                wire.drop()
                raise
            wire.close()
        except BrokerUnavailable as error:
            log.warning("the queues of a C-MOVE were not deleted (%s): they expire", error)

    def take_images(self) -> Iterator[Instance]:
        """Yield the images that have arrived.

        Raise ConnectionLost if images wait and none arrives for `STALL_TIMEOUT_S`.
        """
        yield from self._take_complete()
        try:
            if self._wire is None:
                if time.monotonic() < self._connect_at:
                    return
                self._connect_at = time.monotonic() + _RECONNECT_S
                self._wire = self._connected()
            while self._wire.listen(_LISTEN_S):
                yield from self._take_complete()
        except BrokerUnavailable as error:
            self._handle_disconnect(error)
        self._raise_if_stalled()

    def is_coming(self) -> bool:
        return self._wire is None or self._unpacker.has_partial_images or self._signs.is_receiving()

    def is_throttled(self) -> bool:
        return self._signs.is_receiving()

    def check_space(self) -> None:
        if self._signs.is_full():
            raise spool_full_error()

    def _take_complete(self) -> Iterator[Instance]:
        while self._whole:
            yield self._whole.popleft()

    def _connected(self) -> BrokerConnection:
        wire = amqp.connect(self._url)
        try:
            wire.make_queues(self._token)
            wire.subscribe(amqp.get_images_queue(self._token), lambda body: self._open(wire, body))
        except BaseException:
            wire.drop()
            raise
        return wire

    def _open(self, wire: BrokerConnection, message: bytes) -> None:
        try:
            unpacked = self._unpacker.add(message)
        except DecryptionError as error:
            log.error("a message of the broker was dropped: %s", error)
            return
        except OSError as error:
            kind = StorageFull if error.errno in (ENOSPC, EDQUOT) else StorageError
            problem = error.strerror or type(error).__name__
            raise kind(WORKER, "receiver.image-not-stored", problem=problem) from error
        self._in_vain_since = None
        if unpacked is None:
            return
        if unpacked.name not in self._taken:
            self._taken.add(unpacked.name)
            self._whole.append(unpacked.instance)
        self._send_receipt(wire, {"taken": unpacked.name})

    def _send_receipt(self, wire: BrokerConnection, receipt: dict[str, object]) -> None:
        """Send a receipt. If it gets lost, the receiver sends the image again."""
        sealed = self._cipher.seal(receipt, get_receipt_context(self._token))
        wire.send(amqp.get_receipts_queue(self._token), sealed, lambda: None)

    def _handle_disconnect(self, error: BrokerUnavailable) -> None:
        if self._wire is not None:
            log.warning("the broker is unavailable (%s): images wait at the receiver", error)
            self._wire.drop()
            self._wire = None

    def _raise_if_stalled(self) -> None:
        now = time.monotonic()
        if self._wire is not None and not self._signs.has_waiting_images():
            self._in_vain_since = None
        elif self._in_vain_since is None:
            self._in_vain_since = now
        elif now - self._in_vain_since > STALL_TIMEOUT_S:
            raise _make_connection_lost()


class _ReceiverActivity:
    """The activity of the receiver, read from the counters in the row of the C-MOVE."""

    def __init__(self, token: str) -> None:
        self._rows = MoveInProgress.objects.filter(token=token)
        self._activity_count = self._waiting_count = 0
        self._is_full = False
        self._changed_at = 0.0
        self._ask_at = 0.0

    def is_receiving(self) -> bool:
        """Whether an image is in the spool of the receiver or is being written to it."""
        self._refresh()
        return bool(self._activity_count) and time.monotonic() - self._changed_at < _ACTIVE_S

    def has_waiting_images(self) -> bool:
        return self.is_receiving() and bool(self._waiting_count)

    def is_full(self) -> bool:
        self._refresh()
        return self._is_full

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + _POLL_S
        with suppress(Error):
            row = self._rows.values_list("activity_count", "waiting_count", "is_full").first()
            beats, self._waiting_count, self._is_full = row or (0, 0, False)
            if beats != self._activity_count:
                self._changed_at = now
            self._activity_count = beats


def _make_connection_lost() -> ConnectionLost:
    return ConnectionLost(RECEIVER, "receiver.images-not-forwarded", seconds=f"{STALL_TIMEOUT_S:g}")
