"""Offers: what a PACS agrees to do for us, learned by one association that asks for everything."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.association import Association, Associations
from adit_engine.dicom_ul.command_set import Operation, request
from adit_engine.dicom_ul.pdu import Agreement, Context
from adit_engine.nodes.base import Finding, Grade, Proposal
from adit_engine.nodes.dimse import c_find, settings
from adit_engine.nodes.dimse.c_get import PATIENT_ROOT_GET, STUDY_ROOT_GET
from adit_engine.nodes.dimse.c_move import PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE
from adit_engine.values.commitment_report import COMMITMENT
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
RELATIONAL = b"\1"
"""Extended negotiation of a search: series and images without their study (PS3.4 C.5.1.1)."""
USUAL_PDU = 131072

_PLAIN = (EXPLICIT_LE, IMPLICIT_LE)
_FINDS = (c_find.STUDY_ROOT, c_find.PATIENT_ROOT)
_GETS = (STUDY_ROOT_GET, PATIENT_ROOT_GET)
_MOVES = (STUDY_ROOT_MOVE, PATIENT_ROOT_MOVE)
_ROOTS = ("study", "patient")

_ASKED = (
    Context(VERIFICATION, _PLAIN),
    *(Context(one, _PLAIN, extended=RELATIONAL) for one in _FINDS),
    *(Context(one, _PLAIN) for one in (*_GETS, *_MOVES, COMMITMENT, CT_IMAGE)),
    Context(MR_IMAGE, _PLAIN, received=True),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the settings say now, to be compared with what the PACS agrees to."""

    query_root: str
    retrieve: str
    calling: str
    max_pdu: int
    proof: str


class Offers:
    """`root` is the query root to go on with, once the findings have been read."""

    def __init__(self, associations: Associations, chosen: Chosen) -> None:
        self._associations = associations
        self._name = associations.peer.name
        self._chosen = chosen
        self.root = ""

    def findings(self) -> Iterator[Finding]:
        """Lazy. Raises NodeError where the PACS does not answer."""
        started = time.monotonic()
        with self._associations.open(_ASKED) as association:
            self._echo(association)
            took_ms = (time.monotonic() - started) * 1000
            agreement, seal = association.agreement, association.seal
        yield Finding(Grade.GOOD, f"{self._name} answers (C-ECHO, {took_ms:.0f} ms).")
        yield from settings.findings(seal)
        yield self._itself(agreement)
        yield self._searching(agreement)
        yield self._fetching(agreement)
        yield self._storing(agreement)
        yield from self._committing(agreement)

    def _echo(self, association: Association) -> None:
        context_id = association.agreement.context_of(VERIFICATION)
        if context_id is None:
            raise statuses.not_offered(self._name, "C-ECHO")
        number = association.next_message_id()
        association.send(context_id, request(Operation.ECHO, number, VERIFICATION, data=False))
        within_s = association.peer.patience.association_s
        answer = association.receive(within_s, "answer the C-ECHO").command
        if not answer.is_answer(Operation.ECHO, number) or answer.status is None:
            raise association.fault("did not answer the C-ECHO in order")
        if answer.status != statuses.SUCCESS:
            raise statuses.failure(self._name, "the C-ECHO", answer.status)

    def _itself(self, agreement: Agreement) -> Finding:
        size = f"up to {agreement.max_pdu} bytes" if agreement.max_pdu else "any size"
        name = agreement.implementation or "nothing"
        what = f"Its software calls itself {name} and takes messages in pieces of {size}."
        if self._chosen.max_pdu >= USUAL_PDU:
            return Finding(Grade.GOOD, what)
        why = "Smaller pieces cost time with every image."
        proposal = Proposal("max_pdu", USUAL_PDU, why)
        step = f"Enter {USUAL_PDU} as the largest PDU we take."
        small = f"{what} From it we take only {self._chosen.max_pdu} bytes at a time."
        return Finding(Grade.WARNING, small, step, (proposal,))

    def _searching(self, agreement: Agreement) -> Finding:
        roots = [root for root, one in zip(_ROOTS, _FINDS, strict=True) if _has(agreement, one)]
        if not roots:
            return self._lacking("It does not let us search (C-FIND).")
        relational = any(agreement.extended.get(one, b"")[:1] == RELATIONAL for one in _FINDS)
        also = ", across studies too (relational)" if relational else ""
        what = f"It can be searched (C-FIND) by {' and '.join(roots)} root{also}."
        self.root = self._chosen.query_root if self._chosen.query_root in roots else roots[0]
        if self.root == self._chosen.query_root:
            return Finding(Grade.GOOD, what)
        why = f"It does not accept searches by {self._chosen.query_root} root."
        proposal = Proposal("query_root", self.root, why)
        return Finding(Grade.WARNING, what, f"Enter {self.root} as query root.", (proposal,))

    def _fetching(self, agreement: Agreement) -> Finding:
        """Whether images can come at all, and by the way that the settings name."""
        by_get = any(_has(agreement, one) for one in _GETS)
        sends = agreement.context_of(MR_IMAGE) is not None
        ways = [
            way
            for way, has in (
                ("get", by_get and sends),
                ("move", any(_has(agreement, one) for one in _MOVES)),
            )
            if has
        ]
        if not ways:
            lacks = " It agrees to C-GET, but not to send images over it." if by_get else ""
            return self._lacking(f"It does not let us fetch images.{lacks}")
        what = f"Images can be fetched by {' or '.join(f'C-{way.upper()}' for way in ways)}."
        if self._chosen.retrieve in ("auto", *ways):
            return Finding(Grade.GOOD, what)
        why = f"It does not offer C-{self._chosen.retrieve.upper()} to us."
        step = f"Choose {ways[0]} for Retrieve by."
        return Finding(Grade.WARNING, what, step, (Proposal("retrieve", ways[0], why),))

    def _storing(self, agreement: Agreement) -> Finding:
        if agreement.context_of(CT_IMAGE) is not None:
            return Finding(Grade.GOOD, "It takes images from us (C-STORE).")
        return self._lacking("It does not take images from us (C-STORE).")

    def _committing(self, agreement: Agreement) -> Iterator[Finding]:
        """Of interest for a PACS that takes images only."""
        if agreement.context_of(CT_IMAGE) is None:
            return
        if _has(agreement, COMMITMENT):
            use = (
                "and is asked to"
                if self._chosen.proof == "commitment"
                else "try by sending a test image whether its report comes"
            )
            what = f"It offers to confirm that it keeps images (Storage Commitment); {use}."
            yield Finding(Grade.GOOD, what)
        elif self._chosen.proof == "commitment" and self.root:
            proposal = Proposal("proof", "find", "It offers no Storage Commitment to us.")
            what = "It offers no Storage Commitment, though that is chosen; ADIT asks by a search."
            step = "Choose find for the proof that images are kept."
            yield Finding(Grade.WARNING, what, step, (proposal,))
        elif self.root:
            what = "It offers no Storage Commitment; ADIT asks by a search whether images are kept."
            yield Finding(Grade.GOOD, what)
        else:
            yield Finding(
                Grade.WARNING,
                "It offers neither Storage Commitment nor searches, so nothing that is sent to it "
                "can be proven to be kept.",
                "Ask its administrator to allow one of them for the AE title "
                f"{self._chosen.calling}.",
            )

    def _lacking(self, what: str) -> Finding:
        step = (
            "If it should, ask its administrator to allow it for the AE title "
            f"{self._chosen.calling}."
        )
        return Finding(Grade.WARNING, what, step)


def _has(agreement: Agreement, class_uid: str) -> bool:
    return agreement.context_of(class_uid) is not None
