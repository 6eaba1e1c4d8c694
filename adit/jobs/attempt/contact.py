"""Contact: which of a task's nodes have answered in this attempt; what the breaker is told."""

from contextlib import suppress
from dataclasses import dataclass, field

from django.db import Error

from adit.jobs.kinds.base import Yielded
from adit.nodes import breaker
from adit.nodes.models import Node
from adit_engine.errors import AditError
from adit_engine.outcome import Event, State

_TAKEN = (State.STORED, State.DELIVERED)


@dataclass
class Contact:
    """Whatever is told comes from the source; only a taken instance is the destination's word."""

    source: Node | None
    destination: Node | None
    _heard: set[int] = field(default_factory=set)

    def answered(self) -> None:
        """The source has."""
        self._hear(self.source)

    def take(self, told: Yielded) -> None:
        self.answered()
        if isinstance(told, Event) and told.state in _TAKEN:
            self._hear(self.destination)

    def end(self, error: AditError) -> None:
        """The attempt ended so: a node that has said nothing may be the reason."""
        for node in (self.source, self.destination):
            if node is not None and node.pk not in self._heard:
                with suppress(Error):  # a database that is away counts nothing
                    breaker.failed(node, error)

    def _hear(self, node: Node | None) -> None:
        if node is not None and node.pk not in self._heard:
            self._heard.add(node.pk)
            breaker.answered(node)
