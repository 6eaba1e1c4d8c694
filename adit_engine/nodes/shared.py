"""Shared: one association for searches that follow each other, so that each costs a question only."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from adit_engine.errors import ConnectionLost, Stopped
from adit_engine.nodes.association import Association, Associations
from adit_engine.nodes.negotiation import Context
from adit_engine.record import Record

Ask = Callable[[Association], Iterator[Record]]


class Shared:
    """Use with `with`: the association is released at its end. One search at a time."""

    def __init__(self, associations: Associations, context: Context) -> None:
        self._associations = associations
        self._context = context
        self._stack = ExitStack()
        self._association: Association | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def records(self, ask: Ask) -> Iterator[Record]:
        """The answers to one search. Raises NodeError, Stopped.

        Peers close what was idle for long: a lost association is opened once more, as long as
        nothing was answered yet.
        """
        is_old = self._association is not None
        is_begun = False
        try:
            for record in ask(self._opened()):
                is_begun = True
                yield record
        except ConnectionLost:
            self._drop()
            if is_begun or not is_old:
                raise
        except BaseException:
            self._drop()
            raise
        else:
            return
        yield from self.records(ask)

    def _opened(self) -> Association:
        self._associations.check_aborted()
        if self._association is None:
            opened = self._associations.open([self._context])
            self._association = self._stack.enter_context(opened)
        return self._association

    def _drop(self) -> None:
        """What is in the middle of an answer, or broken, is aborted: nobody can ask by it."""
        if self._association is not None:
            self._association = None
            unusable = Stopped("The association is not used any more.")
            self._stack.__exit__(type(unusable), unusable, None)
