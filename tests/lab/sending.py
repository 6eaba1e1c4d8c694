"""Sending by the test PACS: unchanged from disk if the peer accepts the transfer syntax."""

from collections.abc import Iterable, Iterator, Mapping

from adit.demo.pacs_index import StoredInstance
from adit_engine.dicom_file import part10
from adit_engine.dicom_ul.command_set import CommandField, FieldValue, Operation
from adit_engine.errors import AditError
from adit_engine.nodes.reencode import reencode
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE
from lab.association import Association, Ended
from lab.negotiation import Context

_CONTEXTS_AT_ONCE = 64
_MEDIUM = 0


def contexts_for(held: Iterable[StoredInstance]) -> Iterator[tuple[Context, ...]]:
    """Yield the contexts to propose: one for each class and syntax, and an uncompressed one.

    Several tuples if one association cannot hold that many contexts (PS3.8 9.3.2.2).
    """
    by_class: dict[str, set[str]] = {}
    for one in held:
        by_class.setdefault(one.class_uid, set()).add(one.syntax)
    proposed: list[tuple[str, tuple[str, ...]]] = []
    for class_uid, syntaxes in sorted(by_class.items()):
        wanted = [
            (class_uid, (syntax,)) for syntax in sorted(syntaxes - {EXPLICIT_LE, IMPLICIT_LE})
        ]
        wanted += [(class_uid, (EXPLICIT_LE,)), (class_uid, (IMPLICIT_LE,))]
        if len(proposed) + len(wanted) > _CONTEXTS_AT_ONCE:
            yield _numbered(proposed)
            proposed = []
        proposed += wanted
    if proposed:
        yield _numbered(proposed)


def _numbered(proposed: list[tuple[str, tuple[str, ...]]]) -> tuple[Context, ...]:
    return tuple(Context(2 * n + 1, *one) for n, one in enumerate(proposed))


class Sender:
    """C-STORE requests over one association. `classes` are those that the peer accepts."""

    def __init__(
        self,
        association: Association,
        classes: frozenset[str],
        originator: Mapping[CommandField, FieldValue] | None = None,
    ) -> None:
        self.association = association
        self.cancelled = False
        self._originator = originator or {}
        self._contexts: dict[tuple[str, str], int] = {}
        for context in association.contexts.values():
            if context.class_uid in classes:
                self._contexts.setdefault((context.class_uid, context.syntaxes[0]), context.id)

    def takes(self, held: StoredInstance) -> bool:
        return self._context(held) is not None

    def send(self, held: StoredInstance, message_id: int) -> int | None:
        """Return the status of the peer; None if the instance could not be sent."""
        found = self._context(held)
        data = _encoded(held, found[1]) if found else None
        if found is None or data is None:
            return None
        command = {
            CommandField.CLASS_UID: held.class_uid,
            CommandField.OPERATION: Operation.STORE,
            CommandField.MESSAGE_ID: message_id,
            CommandField.PRIORITY: _MEDIUM,
            CommandField.INSTANCE_UID: held.uid,
            **self._originator,
        }
        self.association.send(found[0], command, [data])
        return self._answer(message_id)

    def _answer(self, message_id: int) -> int | None:
        while True:
            message = self.association.receive()
            if message is None:
                raise Ended("released before the answer")
            if message.operation == Operation.CANCEL:
                self.cancelled = True
            elif message.command.number(CommandField.ANSWERS_TO) == message_id:
                return message.command.number(CommandField.STATUS)

    def _context(self, held: StoredInstance) -> tuple[int, str] | None:
        for syntax in (held.syntax, EXPLICIT_LE, IMPLICIT_LE):
            context_id = self._contexts.get((held.class_uid, syntax))
            if context_id is not None:
                return context_id, syntax
        return None


def _encoded(held: StoredInstance, syntax: str) -> bytes | None:
    """Return the data set in a syntax; None if the file is missing or cannot be decoded."""
    try:
        content = held.path.read_bytes()
        if syntax == held.syntax:
            return content[held.offset :]
        made = reencode(part10.parse_file(content), [syntax])
    except (AditError, OSError):
        return None
    return b"".join(made.parts()) if made is not None else None
