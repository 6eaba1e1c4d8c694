"""Watch a request while images move: is the client there, may it still have them.

Also gets and renews the slot of the node. Used by `image_request` and `storing`.
"""

import logging
import select
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any, Self

from django.conf import settings
from django.db import Error, connection

from adit.dicomweb.authentication import Caller
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Node
from adit.nodes.usage import metering
from adit_engine.bounded_stream import Stop
from adit_engine.errors import AditError
from adit_engine.messages import Message

CLIENT_POLL_S = 0.25
CHECK_S = 2.0
SLOT_POLL_S = 0.5

log = logging.getLogger(__name__)

_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


def get_client_socket(environ: dict[str, Any]) -> Any:
    """Return the socket of the client; None if the server does not tell it."""
    return environ.get("gunicorn.socket")


def has_client_left(client: Any) -> bool:
    """Return whether the client has left; it may be a function that says so for several."""
    if client is None:
        return False
    if callable(client):
        return bool(client())
    try:
        poll = select.poll()
        poll.register(client.fileno(), select.POLLRDHUP)
        return any(event & _GONE for _fd, event in poll.poll(0))
    except (OSError, ValueError):
        return True


def open_node_patiently(
    stack: ExitStack, caller: Caller, node: Node, purpose: Purpose, holder: str, client: Any
) -> Any:
    """Open the node; wait some seconds for a free connection. Raise AditError."""
    deadline = time.monotonic() + settings.DICOMWEB_SLOT_WAIT_S
    while True:
        try:
            return stack.enter_context(open_node(caller.user, node, purpose, holder=holder))
        except NoSlot:
            if time.monotonic() > deadline or has_client_left(client):
                raise
            time.sleep(SLOT_POLL_S)


class ClientWatch:
    """Sets `stop` when the work has to end, and then calls `abort`. Use as a context manager.

    `check` raises the error that ends the work; it is called every two seconds in a thread.
    """

    def __init__(
        self,
        client: Any,
        holder: str,
        stop: Stop,
        check: Callable[[], None],
        abort: Callable[[], None],
    ) -> None:
        self._client = client
        self._holder = holder
        self._stop = stop
        self._check = check
        self._abort = abort
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._watch,), name="client watch", daemon=True
        )

    def __enter__(self) -> Self:
        if self._client is not None and not callable(self._client):
            self._client.settimeout(settings.DICOMWEB_WRITE_S)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(settings.LEASE_S)

    def _watch(self) -> None:
        check_at = time.monotonic() + CHECK_S
        renew_at = time.monotonic() + settings.BEAT_S
        try:
            while not self._ended.wait(CLIENT_POLL_S):
                if has_client_left(self._client):
                    self._end(Message("dicomweb.client-left"))
                    return
                now = time.monotonic()
                if now >= renew_at:
                    renew_at = now + settings.BEAT_S
                    self._renew()
                if now >= check_at and not self._stop.is_set():
                    check_at = now + CHECK_S
                    self._recheck()
        finally:
            connection.close()

    def _renew(self) -> None:
        try:
            slots.renew_slots(self._holder, settings.LEASE_S)
            metering.update_meters(self._holder)
        except Error as error:
            log.warning("slot of %s not renewed (%s)", self._holder, type(error).__name__)
            connection.close()

    def _recheck(self) -> None:
        try:
            self._check()
        except AditError as error:
            self._end(error.message)
        except Error as error:
            log.warning("%s: database unavailable (%s)", self._holder, type(error).__name__)
            connection.close()

    def _end(self, reason: Message) -> None:
        self._stop.set(reason)
        self._abort()
