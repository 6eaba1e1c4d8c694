"""The kinds of jobs, one module each, and their registry KINDS.

Used by orders, the worker and the pages.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from adit.jobs.kinds.base import Kind, OrderRequest, TaskContext, TaskOutput, TaskPlan
from adit.jobs.kinds.batch_query import BatchQuery
from adit.jobs.kinds.batch_transfer import BatchTransfer
from adit.jobs.kinds.selective import Selective
from adit_engine.errors import InvalidInput

KINDS: Mapping[str, Kind] = {
    kind.code: kind for kind in (Selective(), BatchQuery(), BatchTransfer())
}


class UninstalledKind(Kind):
    """What pages assume about jobs of a kind that is not installed any more."""

    code: ClassVar[str] = ""
    label: ClassVar[str] = ""

    def plan(self, request: OrderRequest[Any]) -> list[TaskPlan]:
        raise InvalidInput("kind.uninstalled")

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        raise InvalidInput("kind.uninstalled")


_UNINSTALLED = UninstalledKind()


def get_capabilities(code: str) -> Kind:
    """Return the kind, or one with the default capabilities if it is not installed any more."""
    return KINDS.get(code, _UNINSTALLED)


def get_kind(code: str) -> Kind:
    """Return the kind with this name. Raises InvalidInput."""
    try:
        return KINDS[code]
    except KeyError:
        raise InvalidInput("kind.unknown", kind=code) from None
