"""The receiver's side of the image transport: send the images in its spool to the workers.

Used by the receiver process. A file is deleted from the spool when the worker has confirmed the
complete image. What is lost in the broker or by a crash is sent again. The worker accepts each
image once.
"""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from django.db import Error, connection

from adit.nodes.models import MoveInProgress
from adit.nodes.receiving import amqp, sealed_message
from adit.nodes.receiving.amqp import BrokerConnection, BrokerUnavailable
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.errors import StorageError
from adit_engine.storage_scp.spool import Spool

BEAT_INTERVAL_S = 2.0
"""How often the worker is notified that images wait."""
RESEND_S = 30.0
"""With an empty queue and no receipt for this time, the messages count as lost."""

_RECONNECT_S = 0.5
_LISTEN_S = 0.02
_RECEIVING_S = 30.0

log = logging.getLogger(__name__)


class BrokerSender:
    """Runs one thread with one connection for each pending C-MOVE."""

    def __init__(self, spool: Spool, url: str) -> None:
        self._spool = spool
        self._url = url
        self._carriers: dict[str, MoveSenderThread] = {}

    def follow(self, live: Mapping[str, bytes]) -> None:
        """Start and end threads so that there is one for each C-MOVE in `live`. Does not block.

        `live` maps tokens to keys. Images for other C-MOVEs are refused from now on.
        """
        for token, carrier in list(self._carriers.items()):
            if carrier.has_died:
                del self._carriers[token]
        for token in live.keys() - self._carriers.keys():
            try:
                self._spool.open(token)
            except StorageError as error:
                log.error("%s", error)
                continue
            self._carriers[token] = MoveSenderThread(self._spool, self._url, token, live[token])
            self._carriers[token].start()
        for token in self._carriers.keys() - live.keys():
            self._carriers.pop(token).end()

    def stop(self) -> None:
        """End the threads. Images that are not sent yet stay in the spool."""
        for carrier in self._carriers.values():
            carrier.leave()
        for carrier in self._carriers.values():
            carrier.join(2 * _RECONNECT_S)


class _MoveEnded(Exception):
    """The C-MOVE has ended."""


class MoveSenderThread(threading.Thread):
    """Sends the images of one C-MOVE."""

    def __init__(self, spool: Spool, url: str, token: str, secret: bytes) -> None:
        super().__init__(name=f"carrier {token[:8]}", daemon=True)
        self._spool = spool
        self._url = url
        self._token = token
        self._secret = secret
        self._cipher = ValueCipher(secret)
        self._over = threading.Event()
        self._leaving = False
        self._sent: set[str] = set()
        self._receipt_at = 0.0
        self._patience_s = RESEND_S
        self._beat_at = 0.0
        self._activity_count = 0
        self._was_full = False
        self._rest_until = 0.0

    @property
    def has_died(self) -> bool:
        """Whether the thread ended without being asked to."""
        return self.ident is not None and not self.is_alive() and not self._over.is_set()

    def end(self) -> None:
        """End the thread because the C-MOVE has ended. Images for it are refused from now on."""
        self._over.set()
        self._spool.close(self._token)

    def leave(self) -> None:
        """End the thread because the receiver shuts down."""
        self._over.set()

    def run(self) -> None:
        is_told = False
        while not self._over.is_set():
            self._sent.clear()
            try:
                with suppress(_MoveEnded), amqp.open_connection(self._url) as wire:
                    wire.subscribe(amqp.get_receipts_queue(self._token), self._receipt)
                    is_told = False
                    self._send_all(wire)
            except BrokerUnavailable as error:
                if not is_told:
                    is_told = True
                    log.warning("images wait in the spool: the broker is unavailable (%s)", error)
                self._tell_worker(len(self._waiting()))
                self._over.wait(_RECONNECT_S)
        connection.close()

    def _send_all(self, wire: BrokerConnection) -> None:
        while True:
            self._check()
            waiting = self._waiting()
            for path in waiting:
                if path.name not in self._sent:
                    self._send(wire, path)
            if waiting:
                wire.settle(self._check)
                self._resend_lost(wire)
            self._tell_worker(len(waiting))
            while wire.listen(_LISTEN_S if not waiting else 0.001):
                self._check()

    def _send(self, wire: BrokerConnection, path: Path) -> None:
        try:
            for message in sealed_message.seal_image(path, self._token, self._secret):
                wire.send(amqp.get_images_queue(self._token), message, self._check)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("an image in the spool cannot be read: %s", error.strerror)
            return
        self._sent.add(path.name)
        self._receipt_at = time.monotonic()

    def _resend_lost(self, wire: BrokerConnection) -> None:
        """Mark everything as unsent if it is neither in the broker nor with the worker."""
        if time.monotonic() - self._receipt_at < self._patience_s:
            return
        self._receipt_at = time.monotonic()
        if wire.depth(amqp.get_images_queue(self._token)) == 0:
            # A slow worker may hold unprocessed messages: double the interval each time.
            self._patience_s *= 2
            self._sent.clear()

    def _receipt(self, message: bytes) -> None:
        try:
            said = self._cipher.open(message, sealed_message.get_receipt_context(self._token))
        except DecryptionError:
            log.error("a receipt was dropped: it was not encrypted by the worker")
            return
        self._receipt_at = time.monotonic()
        self._patience_s = RESEND_S
        if said.get("end"):
            self.end()
        elif said["taken"] in self._sent:
            self._spool.path_in(self._token, Path(said["taken"]).stem).unlink(missing_ok=True)
            self._sent.discard(said["taken"])

    def _check(self) -> None:
        if self._over.is_set():
            raise _MoveEnded
        self._tell_worker(max(1, len(self._sent)))

    def _waiting(self) -> list[Path]:
        try:
            return self._spool.waiting(self._token)
        except StorageError:
            # The folder is deleted, so the C-MOVE has ended.
            self._over.set()
            return []

    def _is_receiving(self) -> bool:
        spool = self._spool
        return spool.is_throttled(self._token) or spool.last_activity_s() < _RECEIVING_S

    def _tell_worker(self, waiting_count: int) -> None:
        """Update the row: its counter changes while images are on their way to the worker."""
        now = time.monotonic()
        coming = waiting_count or self._is_receiving()
        is_full = not self._spool.has_space()
        is_news = bool(coming) != bool(self._activity_count) or is_full != self._was_full
        if now < self._rest_until or not (is_news or (coming and now > self._beat_at)):
            return
        self._beat_at = now + BEAT_INTERVAL_S
        beats = self._activity_count + 1 if coming else 0
        rows = MoveInProgress.objects.filter(token=self._token)
        try:
            rows.update(activity_count=beats, waiting_count=waiting_count, is_full=is_full)
            self._activity_count, self._was_full = beats, is_full
        except Error:
            self._rest_until = now + BEAT_INTERVAL_S
        finally:
            connection.close()
