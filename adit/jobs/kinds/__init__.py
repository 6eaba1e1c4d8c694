"""Kinds of jobs: one file each; a new kind is one word more in KINDS."""

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
    """Raises WrongInput."""
    try:
        return KINDS[word]
    except KeyError:
        raise InvalidInput(f"There is no kind of job called {word}.") from None
