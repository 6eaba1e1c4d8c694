"""Errors that say why a node is unavailable now, and until when. Raised by gateway and limits."""

from datetime import datetime
from typing import Any

from adit_engine.errors import NodeError


class NodeUnavailable(NodeError):
    """The node is closed, paused, outside its hours, or fully used. Not a failure: retry later.

    `until` is when a retry makes sense (UTC), or None if that depends on a person or on the end of
    another connection.
    """

    is_transient = True

    def __init__(
        self, node: str, code: str, /, until: datetime | None = None, **values: Any
    ) -> None:
        super().__init__(node, code, **values)
        self.until = until


class NoSlot(NodeUnavailable):
    """All connections that the node allows are in use."""


class NodePaused(NodeUnavailable):
    """A user paused the node: no new work starts, running work may finish its series."""


class NodeSlow(NodePaused):
    """The node answers far more slowly than usual: ADIT pauses by itself, and ends the pause."""


class NodeStopped(NodeUnavailable):
    """A user stopped the node: all connections are cut."""


class ConnectionEnded(NodeUnavailable):
    """A user ended this connection."""


class OverBudget(NodeUnavailable):
    """A group has used up its budget of today. `node` names the group."""
