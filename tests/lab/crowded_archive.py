"""A PACS whose service suffers from several associations at once, and that counts them."""

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from select import select as select_sockets
from typing import Any

from adit.demo import header
from adit.demo.pacs_index import StoredInstance, select
from lab.archive import _GONE, Lying, _about
from lab.association import Association, Ended, Message, Refused
from lab.lies import Lie, Part, Site
from lab.negotiation import Proposal
from lab.sending import Sender

IMAGE_S = 0.01
"""How long the archive takes for an image."""


class Manner(StrEnum):
    """What happens with more associations for images than the archive likes."""

    SERVE = "serves them all"
    REJECT = "rejects them for now"
    QUEUE = "serves them after those before"
    LOCK = "serves all from one lock, slower than one alone"
    DIE = "ends all associations"
    MIX = "sends images that another one requested"
    WHOLE = "sends the whole series for any part of it"


class Crowded(Lying):
    """A PACS that serves `limit` associations for images at once. Use it with `with`."""

    def __init__(
        self,
        site: Site,
        manner: Manner,
        limit: int = 8,
        lies: Iterable[Lie] = (),
        *,
        scratch: Path,
        **more: Any,
    ) -> None:
        super().__init__(site, lies, scratch=scratch, **more)
        self.manner = manner
        self.most = 0
        """Maximum number of associations for images at the same time."""
        self.first_s = 0.0
        """How long it takes before the first image of the next answer."""
        self._limit = limit
        self._present = 0
        self._life = 0
        """How often it has died."""
        self._count = threading.Lock()
        self._one_by_one = threading.Lock()
        self._turn = threading.Semaphore(limit)
        self._asked: list[StoredInstance] = []

    def converse(self, one: socket.socket) -> None:
        entered = threading.local()
        born = self._life

        def choose(proposal: Proposal) -> dict[int, str | int]:
            entered.on = _about(proposal)
            if entered.on in (Part.GET, Part.MOVE, Part.STORE):
                entered.life = self._enter(one, born)
            return self._choose(proposal)

        try:
            with suppress(*_GONE):
                association = Association.accepted(one, choose)
                while (message := association.receive()) is not None:
                    self._answer(association, message)
        finally:
            self._leave(getattr(entered, "life", None))

    def _enter(self, one: socket.socket, born: int) -> int:
        if _is_closed(one):
            raise Ended("the other side has gone")
        if self.manner is Manner.QUEUE:
            while not self._turn.acquire(timeout=0.02):
                if self._ending.is_set():
                    raise Refused(2, 3, 2)
        with self._count:
            if born != self._life:
                raise Refused(2, 3, 2)  # it has died since this connection began
            is_too_many = self._present >= self._limit
            if is_too_many and self.manner is Manner.REJECT:
                raise Refused(2, 3, 2)
            self._present += 1
            self.most = max(self.most, self._present)
            if is_too_many and self.manner is Manner.DIE:
                self._present, self._life = 0, self._life + 1
                for other in tuple(self._open):
                    with suppress(OSError):
                        other.shutdown(socket.SHUT_RDWR)
                raise Refused(2, 3, 2)
            return self._life

    def _leave(self, life: int | None) -> None:
        with self._count:
            self._present -= life == self._life
        if life is not None and self.manner is Manner.QUEUE:
            self._turn.release()

    @property
    def is_idle(self) -> bool:
        return self._present == 0

    def _take_time(self) -> None:
        if self.manner is Manner.LOCK and self._present > self._limit:
            with self._one_by_one:
                time.sleep(2 * IMAGE_S * self._present)
        else:
            time.sleep(IMAGE_S)

    def _hand_over(
        self,
        association: Association,
        message: Message,
        held: list[StoredInstance],
        senders: list[Sender],
    ) -> None:
        first_s, self.first_s = self.first_s, 0.0
        self._ending.wait(first_s)
        if self.manner is Manner.WHOLE:
            syntax = association.contexts[message.context_id].syntaxes[0]
            keys = header.texts(message.data or b"", syntax, None)
            level = {"QueryRetrieveLevel": "SERIES", "SOPInstanceUID": ""}
            held = select(self.site.index, {**keys, **level}) or []
        elif self.manner is Manner.MIX and self._present > 1:
            held, self._asked = [*held[: len(held) // 2], *self._asked], held[len(held) // 2 :]
        super()._hand_over(association, message, held, senders)

    def _send(self, senders: list[Sender], held: StoredInstance, at: int, first_id: int) -> bool:
        self._take_time()
        return super()._send(senders, held, at, first_id)

    def _store(self, association: Association, message: Message) -> None:
        self._take_time()
        with self._one_by_one:
            super()._store(association, message)


def _is_closed(one: socket.socket) -> bool:
    try:
        return bool(select_sockets([one], [], [], 0)[0]) and not one.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True
