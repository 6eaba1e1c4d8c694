"""Association negotiation of the test PACS, with PDUs of pynetdicom (PS3.8 9.3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

IMPLEMENTATION_UID = "2.25.217049870301549265470216382117290163254"
MAX_PDU = 262144

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLICIT_LE = "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context: proposed with several syntaxes, accepted with one."""

    id: int
    class_uid: str
    syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Content of an A-ASSOCIATE-RQ. `roles` are (SCU, SCP) by SOP class."""

    called: str
    calling: str
    contexts: tuple[Context, ...]
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    max_pdu: int = MAX_PDU

    @property
    def taken(self) -> frozenset[str]:
        """The SOP classes that the requestor wants to receive on this association."""
        return frozenset(uid for uid, (_, as_scp) in self.roles.items() if as_scp)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Content of an A-ASSOCIATE-AC: the syntax of each accepted context by its ID."""

    syntaxes: Mapping[int, str]
    max_pdu: int


def encode_proposal(proposal: Proposal) -> bytes:
    """Encode an A-ASSOCIATE-RQ."""
    request = _primitive(proposal, {})
    request.presentation_context_definition_list = [
        _context(one.id, one.class_uid, list(one.syntaxes)) for one in proposal.contexts
    ]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return bytes(pdu.encode())


def decode_proposal(data: bytes) -> Proposal:
    """Decode a complete A-ASSOCIATE-RQ. Raises ValueError."""
    request = _decoded(A_ASSOCIATE_RQ(), data)
    contexts = tuple(
        Context(
            int(one.context_id or 0),
            str(one.abstract_syntax),
            tuple(str(syntax) for syntax in one.transfer_syntax),
        )
        for one in request.presentation_context_definition_list
    )
    roles = {
        str(one.sop_class_uid): (bool(one.scu_role), bool(one.scp_role))
        for one in request.user_information
        if isinstance(one, SCP_SCU_RoleSelectionNegotiation)
    }
    called, calling = str(request.called_ae_title), str(request.calling_ae_title)
    return Proposal(called, calling, contexts, roles, request.maximum_length_received or 0)


def encode_acceptance(proposal: Proposal, answers: Mapping[int, str | int]) -> bytes:
    """Encode an A-ASSOCIATE-AC that grants all requested roles.

    `answers` has the transfer syntax of each context ID, or the rejection reason (PS3.8 9.3.3.2).
    """
    response = _primitive(proposal, proposal.roles)
    results: list[PresentationContext] = []
    for one in proposal.contexts:
        answer = answers[one.id]
        is_refused = isinstance(answer, int)
        syntax = _IMPLICIT_LE if is_refused else str(answer)
        results.append(_context(one.id, one.class_uid, [syntax]))
        results[-1].result = answer if is_refused else 0
    response.presentation_context_definition_results_list = results
    response.result = 0
    response.result_source = 1
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(response)
    return bytes(pdu.encode())


def decode_acceptance(data: bytes) -> Acceptance:
    """Decode a complete A-ASSOCIATE-AC. Raises ValueError."""
    response = _decoded(A_ASSOCIATE_AC(), data)
    syntaxes = {
        int(one.context_id or 0): str(one.transfer_syntax[0])
        for one in response.presentation_context_definition_results_list
        if one.result == 0
    }
    return Acceptance(syntaxes, response.maximum_length_received or 0)


def _decoded(pdu: A_ASSOCIATE_AC | A_ASSOCIATE_RQ, data: bytes) -> A_ASSOCIATE:
    try:
        pdu.decode(data)
        return pdu.to_primitive()
    except Exception as error:  # any error is possible after a bit flip
        raise ValueError("The association PDU is broken.") from error


def _primitive(proposal: Proposal, roles: Mapping[str, tuple[bool, bool]]) -> A_ASSOCIATE:
    made = A_ASSOCIATE()
    made.application_context_name = _APPLICATION_CONTEXT
    made.called_ae_title, made.calling_ae_title = proposal.called, proposal.calling
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = MAX_PDU
    implementation.implementation_class_uid = IMPLEMENTATION_UID
    made.user_information = [length, implementation]
    for class_uid, (as_scu, as_scp) in roles.items():
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = class_uid, as_scu, as_scp
        made.user_information.append(role)
    return made


def _context(context_id: int, class_uid: str, syntaxes: list[str]) -> PresentationContext:
    made = build_context(class_uid, syntaxes)
    made.context_id = context_id
    return made
