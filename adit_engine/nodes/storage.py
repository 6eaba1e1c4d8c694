"""Storage: instances sent by C-STORE, each answered for (PS3.4 B.2)."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from adit_engine.errors import AditError, ConnectionLost, NodeRefused
from adit_engine.instance import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance
from adit_engine.nodes import statuses
from adit_engine.nodes.association import Association, Associations
from adit_engine.nodes.base import Stored
from adit_engine.nodes.command import Operation, request
from adit_engine.nodes.negotiation import MAX_CONTEXTS, Context
from adit_engine.nodes.reencode import reencoded

VAIN_RETRIES = 5
"""After so many second tries that did not help, a failure is taken at its word."""

_BYTES_PER_S = 5_000_000
"""A node may take its time over a large object before it answers."""


class Storage:
    """Stores one stream over one association at a time; a new kind of object may need another."""

    def __init__(self, associations: Associations) -> None:
        self._associations = associations
        self._name = associations.peer.name
        self._offered: dict[str, list[str]] = {}
        self._stack = ExitStack()
        self._association: Association | None = None
        self._proposed: dict[str, tuple[str, ...]] = {}
        self._retries = VAIN_RETRIES

    def answers(self, instances: Iterable[Instance]) -> Iterator[Stored]:
        """One for each instance, in order; lazy. Raises NodeError, Stopped."""
        with self._stack:
            for instance in instances:
                self._associations.check_aborted()
                yield self._store(instance)

    def _store(self, instance: Instance) -> Stored:
        ref = instance.in_header.ref
        self._prepare(instance)
        outgoing, warning = self._acceptable(instance)
        if outgoing is None:
            return Stored(ref, statuses.NO_SUCH_CLASS, error=warning)
        status = self._send_twice(outgoing)
        if status != statuses.SUCCESS and not statuses.is_stored_with_warning(status):
            return Stored(ref, status, error=statuses.store_error(status))
        if status != statuses.SUCCESS:
            words = statuses.store_warning(status)
            warning = f"{words}; {warning}" if warning else words
        digest = outgoing.sha256()
        return Stored(ref, status, warning, size_bytes=outgoing.size_bytes, sha256=digest)

    def _acceptable(self, instance: Instance) -> tuple[Instance | None, str]:
        """The instance as the node takes it, with a remark; or None with the reason."""
        assert self._association is not None
        kind = instance.sop_class_uid
        syntaxes = self._association.agreement.syntaxes(kind)
        syntax = instance.transfer_syntax_uid
        if syntax in syntaxes:
            return instance, ""
        if not syntaxes:
            return None, f"the node does not take {statuses.class_name(kind)}"
        other = reencoded(instance, syntaxes)
        if other is None:
            name = statuses.class_name(syntax)
            return None, f"the node does not take {name}, and it could not be re-encoded"
        name = statuses.class_name(other.transfer_syntax_uid)
        return other, f"re-encoded without loss as {name}, which the node takes"

    def _send_twice(self, instance: Instance) -> int:
        """The node's status; some failures and a lost connection are tried once more, afresh."""
        try:
            status = self._send(instance)
        except ConnectionLost:
            self._renew()
            return self._send(instance)
        if statuses.may_pass_once_more(status) and self._retries > 0:
            self._renew()
            status = self._send(instance)
            if statuses.may_pass_once_more(status):
                self._retries -= 1
        return status

    def _send(self, instance: Instance) -> int:
        association = self._association
        assert association is not None
        kind, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
        context_id = association.agreement.context_for(kind, syntax)
        if context_id is None:
            raise NodeRefused(self._name, "took this kind of object a moment ago, and not now.")
        number = association.next_message_id()
        uid = instance.in_header.ref.instance_uid
        command = request(Operation.STORE, number, kind, data=True, instance_uid=uid)
        association.send(context_id, command, instance.parts())
        patience_s = association.peer.patience.no_progress_s + instance.size_bytes / _BYTES_PER_S
        answer = association.receive(patience_s, "answer a stored image").command
        if not answer.is_answer(Operation.STORE, number) or answer.status is None:
            raise self._confused()
        return answer.status

    def _confused(self) -> AditError:
        return ConnectionLost(self._name, "did not answer a stored image in order. Retry.")

    # Associations ------------------------------------------------------------------------------

    def _prepare(self, instance: Instance) -> None:
        """Makes sure that an association is open which has offered this class and syntax."""
        kind, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
        offered = self._offered.setdefault(kind, [EXPLICIT_LE, IMPLICIT_LE])
        if syntax not in offered and syntax not in (DEFLATED_LE, EXPLICIT_BE):
            offered.append(syntax)
        usable = self._association is not None and not self._association.over
        if not usable or not set(offered) <= set(self._proposed.get(kind, ())):
            self._forget_oldest(kind)
            self._renew()

    def _forget_oldest(self, kind: str) -> None:
        while sum(len(syntaxes) for syntaxes in self._offered.values()) > MAX_CONTEXTS:
            del self._offered[next(other for other in self._offered if other != kind)]

    def _renew(self) -> None:
        self._stack.close()
        self._association = None
        contexts = [Context(k, (syntax,)) for k, held in self._offered.items() for syntax in held]
        self._association = self._stack.enter_context(self._associations.open(contexts))
        self._proposed = {kind: tuple(held) for kind, held in self._offered.items()}
