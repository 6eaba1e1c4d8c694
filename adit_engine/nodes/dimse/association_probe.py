"""Probe what a PACS accepts, by one association that proposes everything.

Used by the check of the DIMSE node.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.association import ClientAssociation, OpenAssociations
from adit_engine.dicom_ul.command_set import Operation, make_request
from adit_engine.dicom_ul.pdu import NegotiatedAssociation, PresentationContext
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal
from adit_engine.nodes.dimse import c_find, settings
from adit_engine.nodes.dimse.c_get import PATIENT_ROOT_GET, STUDY_ROOT_GET
from adit_engine.nodes.dimse.c_move import PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE
from adit_engine.values.commitment_report import STORAGE_COMMITMENT_PUSH_MODEL
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
RELATIONAL_QUERIES = b"\1"
"""Extended negotiation of a search: series and images without their study (PS3.4 C.5.1.1)."""
TYPICAL_PDU_BYTES = 131072

_UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)
_FINDS = (c_find.STUDY_ROOT, c_find.PATIENT_ROOT)
_GETS = (STUDY_ROOT_GET, PATIENT_ROOT_GET)
_MOVES = (STUDY_ROOT_MOVE, PATIENT_ROOT_MOVE)
_ROOTS = ("study", "patient")

_PROPOSED_CONTEXTS = (
    PresentationContext(VERIFICATION, _UNCOMPRESSED),
    *(PresentationContext(one, _UNCOMPRESSED, extended=RELATIONAL_QUERIES) for one in _FINDS),
    *(
        PresentationContext(one, _UNCOMPRESSED)
        for one in (*_GETS, *_MOVES, STORAGE_COMMITMENT_PUSH_MODEL, CT_IMAGE)
    ),
    PresentationContext(MR_IMAGE, _UNCOMPRESSED, scp_role=True),
)


@dataclass(frozen=True, slots=True)
class ProbedSettings:
    """The current settings, to be compared with what the PACS accepts."""

    query_root: str
    retrieve: str
    calling: str
    max_pdu: int
    proof: str


class AssociationProbe:
    """Probes a PACS. `root` is the query root to use, once the findings have been read."""

    def __init__(self, associations: OpenAssociations, settings: ProbedSettings) -> None:
        self._associations = associations
        self._name = associations.peer.name
        self._chosen = settings
        self.root = ""

    def findings(self) -> Iterator[NodeFinding]:
        """Yield the findings. Lazy. Raises NodeError where the PACS does not answer."""
        started = time.monotonic()
        with self._associations.open(_PROPOSED_CONTEXTS) as association:
            echo(association)
            took_ms = (time.monotonic() - started) * 1000
            agreement, seal = association.negotiated, association.tls_session
        yield NodeFinding(
            Grade.GOOD,
            Message("test.echo", node=self._name, milliseconds=f"{took_ms:.0f}"),
        )
        yield from settings.check_encryption(seal)
        yield self._implementation_finding(agreement)
        yield self._query_finding(agreement)
        yield self._retrieve_finding(agreement)
        yield self._store_finding(agreement)
        yield from self._commitment_findings(agreement)

    def _implementation_finding(self, agreement: NegotiatedAssociation) -> NodeFinding:
        values = {
            "name": agreement.implementation or Message("clause.unnamed"),
            "pdu_size": (
                Message("clause.up-to-bytes", size=agreement.max_pdu)
                if agreement.max_pdu
                else Message("clause.any-size")
            ),
        }
        if self._chosen.max_pdu >= TYPICAL_PDU_BYTES:
            return NodeFinding(Grade.GOOD, Message("test.implementation", **values))
        why = Message("proposal.max-pdu")
        proposal = SettingProposal("max_pdu", TYPICAL_PDU_BYTES, why)
        return NodeFinding(
            Grade.WARNING,
            Message("test.small-pdu", own_size=self._chosen.max_pdu, **values),
            Message("step.max-pdu", size=TYPICAL_PDU_BYTES),
            (proposal,),
        )

    def _query_finding(self, agreement: NegotiatedAssociation) -> NodeFinding:
        roots = [
            root for root, one in zip(_ROOTS, _FINDS, strict=True) if _is_accepted(agreement, one)
        ]
        if not roots:
            return self._missing_finding(Message("test.no-search"))
        is_relational = any(
            agreement.extended.get(one, b"")[:1] == RELATIONAL_QUERIES for one in _FINDS
        )
        code = "test.search-roots-relational" if is_relational else "test.search-roots"
        what = Message(code, roots=tuple(roots))
        self.root = self._chosen.query_root if self._chosen.query_root in roots else roots[0]
        if self.root == self._chosen.query_root:
            return NodeFinding(Grade.GOOD, what)
        why = Message("proposal.query-root", root=self._chosen.query_root)
        proposal = SettingProposal("query_root", self.root, why)
        step = Message("step.query-root", root=self.root)
        return NodeFinding(Grade.WARNING, what, step, (proposal,))

    def _retrieve_finding(self, agreement: NegotiatedAssociation) -> NodeFinding:
        """Report whether images can be retrieved at all, and by the configured method."""
        by_get = any(_is_accepted(agreement, one) for one in _GETS)
        sends = agreement.context_of(MR_IMAGE) is not None
        ways = [
            way
            for way, has in (
                ("get", by_get and sends),
                ("move", any(_is_accepted(agreement, one) for one in _MOVES)),
            )
            if has
        ]
        if not ways:
            code = "test.c-get-without-images" if by_get else "test.no-retrieval"
            return self._missing_finding(Message(code))
        what = Message("test.retrieval", methods=tuple(f"C-{way.upper()}" for way in ways))
        if self._chosen.retrieve in ("auto", *ways):
            return NodeFinding(Grade.GOOD, what)
        method = f"C-{self._chosen.retrieve.upper()}"
        why = Message("proposal.method-not-offered", method=method)
        step = Message("step.retrieve-by", method=ways[0])
        return NodeFinding(Grade.WARNING, what, step, (SettingProposal("retrieve", ways[0], why),))

    def _store_finding(self, agreement: NegotiatedAssociation) -> NodeFinding:
        if agreement.context_of(CT_IMAGE) is not None:
            return NodeFinding(Grade.GOOD, Message("test.accepts-images"))
        return self._missing_finding(Message("test.refuses-images"))

    def _commitment_findings(self, agreement: NegotiatedAssociation) -> Iterator[NodeFinding]:
        """Report on Storage Commitment, for a PACS that accepts images."""
        if agreement.context_of(CT_IMAGE) is None:
            return
        is_chosen = self._chosen.proof == "commitment"
        if _is_accepted(agreement, STORAGE_COMMITMENT_PUSH_MODEL):
            code = "test.commitment-used" if is_chosen else "test.commitment-offered"
            yield NodeFinding(Grade.GOOD, Message(code))
        elif is_chosen and self.root:
            proposal = SettingProposal("proof", "find", Message("proposal.commitment-missing"))
            yield NodeFinding(
                Grade.WARNING,
                Message("test.commitment-missing"),
                Message("step.choose-find"),
                (proposal,),
            )
        elif self.root:
            yield NodeFinding(Grade.GOOD, Message("test.commitment-not-needed"))
        else:
            step = Message("step.allow-proof", ae_title=self._chosen.calling)
            yield NodeFinding(Grade.WARNING, Message("test.no-proof"), step)

    def _missing_finding(self, what: Message) -> NodeFinding:
        step = Message("step.allow-for-title", ae_title=self._chosen.calling)
        return NodeFinding(Grade.WARNING, what, step)


def echo(association: ClientAssociation) -> None:
    """Send a C-ECHO and wait for its answer. Raises NodeError."""
    name = association.peer.name
    context_id = association.negotiated.context_of(VERIFICATION)
    if context_id is None:
        raise statuses.not_offered_error(name, "C-ECHO")
    number = association.next_message_id()
    association.send(context_id, make_request(Operation.ECHO, number, VERIFICATION, data=False))
    within_s = association.peer.timeouts.association_s
    answer = association.receive(within_s, "clause.await-echo").command
    if not answer.is_response_to(Operation.ECHO, number) or answer.status is None:
        raise association.protocol_error(
            "association.wrong-response", request=Message("clause.request-echo")
        )
    if answer.status != statuses.SUCCESS:
        raise statuses.status_error(name, "clause.request-echo", answer.status)


def _is_accepted(agreement: NegotiatedAssociation, class_uid: str) -> bool:
    return agreement.context_of(class_uid) is not None
