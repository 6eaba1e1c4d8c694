"""The kinds of jobs, one module each, and their registry KINDS.

Used by orders, the worker and the pages.
"""

from collections.abc import Mapping

from adit.jobs.kinds.base import Kind
from adit.jobs.kinds.batch_query import BatchQuery
from adit.jobs.kinds.batch_transfer import BatchTransfer
from adit.jobs.kinds.selective import Selective
from adit_engine.errors import InvalidInput

KINDS: Mapping[str, Kind] = {
    kind.word: kind for kind in (Selective(), BatchQuery(), BatchTransfer())
}


def get_kind(word: str) -> Kind:
    """Return the kind with this name. Raises InvalidInput."""
    try:
        return KINDS[word]
    except KeyError:
        raise InvalidInput(f"There is no kind of job called {word}.") from None
