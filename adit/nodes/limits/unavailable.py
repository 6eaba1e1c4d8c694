"""Waits: why a node may not be used just now, and until when that is known."""

from datetime import datetime

from adit_engine.errors import NodeError


class NodeUnavailable(NodeError):
    """Closed, paused, outside its hours, or all connections in use: nothing failed, ask later.

    `until` is when it is worth asking again (UTC), or None where a person or another one's
    end decides.
    """

    again = True

    def __init__(self, node: str, text: str, until: datetime | None = None) -> None:
        super().__init__(node, text)
        self.until = until


class NoSlot(NodeUnavailable):
    """All connections that this node allows are in use."""


class NodePaused(NodeUnavailable):
    """A person paused it: nothing new starts, and what runs may finish its series."""


class NodeStopped(NodeUnavailable):
    """A person stopped it: every connection is cut."""


class ConnectionEnded(NodeUnavailable):
    """A person ended this one connection."""


class OverBudget(NodeUnavailable):
    """A group has fetched as much today as it may; `node` names the budget."""
