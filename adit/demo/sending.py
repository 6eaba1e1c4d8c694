"""Sending: one held instance over an association, as it lies on disk wherever the peer takes it."""

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from adit.demo import command as commands
from adit.demo.association import Association, Ended
from adit.demo.holdings import Held
from adit.demo.negotiation import Context
from adit_engine.instance import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

_CONTEXTS_AT_ONCE = 64
_MEDIUM = 0


def contexts_for(held: Iterable[Held]) -> Iterator[tuple[Context, ...]]:
    """What to propose for these instances: one context for each class and syntax, and one plain.

    Several tuples where one association cannot carry that many contexts (PS3.8 9.3.2.2).
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
    """C-STORE requests over one association. `classes` are those that the peer takes from us."""

    def __init__(
        self,
        association: Association,
        classes: frozenset[str],
        originator: Mapping[int, int | str] | None = None,
    ) -> None:
        self.association = association
        self.cancelled = False
        self._originator = originator or {}
        self._contexts: dict[tuple[str, str], int] = {}
        for context in association.contexts.values():
            if context.class_uid in classes:
                self._contexts.setdefault((context.class_uid, context.syntaxes[0]), context.id)

    def takes(self, held: Held) -> bool:
        return self._context(held) is not None

    def send(self, held: Held, message_id: int) -> int | None:
        """The status of the peer; None where the instance could not be sent at all."""
        found = self._context(held)
        data = _encoded(held, found[1]) if found else None
        if found is None or data is None:
            return None
        command = {
            commands.AFFECTED_CLASS: held.class_uid,
            commands.FIELD: commands.STORE,
            commands.MESSAGE_ID: message_id,
            commands.PRIORITY: _MEDIUM,
            commands.AFFECTED_INSTANCE: held.uid,
            **self._originator,
        }
        self.association.send(found[0], command, [data])
        return self._answer(message_id)

    def _answer(self, message_id: int) -> int:
        while True:
            message = self.association.receive()
            if message is None:
                raise Ended("released before the answer")
            if message.field == commands.CANCEL:
                self.cancelled = True
            elif commands.number(message.command, commands.RESPONDED_TO) == message_id:
                return commands.number(message.command, commands.STATUS)

    def _context(self, held: Held) -> tuple[int, str] | None:
        for syntax in (held.syntax, EXPLICIT_LE, IMPLICIT_LE):
            context_id = self._contexts.get((held.class_uid, syntax))
            if context_id is not None:
                return context_id, syntax
        return None


def _encoded(held: Held, syntax: str) -> memoryview | bytes | None:
    """The data set in a syntax; None for a file that vanished or that no decoder understands."""
    try:
        content = held.path.read_bytes()
        return (
            memoryview(content)[held.offset :] if syntax == held.syntax else _again(content, syntax)
        )
    except (OSError, ValueError, AttributeError, NotImplementedError, RuntimeError):
        return None


def _again(content: bytes, syntax: str) -> bytes:
    dataset = dcmread(BytesIO(content))
    before = dataset.file_meta.TransferSyntaxUID
    if before.is_compressed and not before.is_deflated:
        dataset.decompress(generate_instance_uid=False)
    if before == EXPLICIT_BE:
        _swap(dataset)
    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = syntax == IMPLICIT_LE
    plain = Dataset(dataset)
    plain.set_original_encoding(UID(syntax).is_implicit_VR, True)
    write_dataset(out, plain)
    return bytes(out.getvalue())


def _swap(dataset: Dataset) -> None:
    """PS3.5 7.3: words of pixel data stand the other way round in big endian."""
    if "PixelData" in dataset and dataset["PixelData"].VR == "OW" and dataset.BitsAllocated > 8:
        words = bytearray(dataset.PixelData)
        size = dataset.BitsAllocated // 8
        for byte in range(size // 2):
            low, high = slice(byte, None, size), slice(size - 1 - byte, None, size)
            words[low], words[high] = words[high], words[low]
        dataset.PixelData = bytes(words)
