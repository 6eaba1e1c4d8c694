"""The meaning of DIMSE statuses and association rejections (PS3.7 Annex C).

Used to decide about retries and to make error messages.
"""

from adit_engine.errors import AditError, AssociationRejected, NodeBusy, NodeRefused, NotSupported
from adit_engine.messages import Message

SUCCESS = 0x0000
PENDING = frozenset({0xFF00, 0xFF01})
CANCELLED = 0xFE00
PROCESSING_FAILURE = 0x0110
DUPLICATE = 0x0111
NO_SUCH_EVENT = 0x0113
INVALID_VALUE = 0x0115
NO_SUCH_CLASS = 0x0122
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
UNABLE_TO_COUNT_MATCHES, UNABLE_TO_PERFORM_SUBOPERATIONS, UNKNOWN_DESTINATION = (
    0xA701,
    0xA702,
    0xA801,
)

_STORE_WARNINGS = frozenset({0x0107, 0x0116, DUPLICATE})
_REASONS = {
    0x0105: "clause.status-unknown-attribute",
    0x0106: "clause.status-invalid-attribute",
    0x0110: "clause.status-processing-failure",
    0x0117: "clause.status-invalid-instance",
    0x0118: "clause.status-unknown-class",
    0x0119: "clause.status-class-conflict",
    0x0120: "clause.status-missing-attribute",
    0x0121: "clause.status-missing-value",
    0x0122: "clause.status-unsupported-class",
    0x0124: "clause.status-not-authorized",
    0x0210: "clause.status-duplicate-message",
    0x0211: "clause.status-unknown-operation",
    0x0212: "clause.status-invalid-message",
    0x0213: "clause.status-out-of-resources",
}
_PERMANENT, _TRANSIENT = 1, 2
_USER, _ACSE, _PRESENTATION = 1, 2, 3


def describe_status(status: int) -> Message:
    """Return the reason as a clause, such as "out of resources".

    The comment of the peer is not used: it may contain the name of a patient.
    """
    if status in _REASONS:
        return Message(_REASONS[status])
    high = status >> 8
    if high == 0xA7:
        return Message("clause.status-out-of-resources")
    if high == 0xA9:
        return Message("clause.status-class-mismatch")
    if high >> 4 == 0xC:
        return Message("clause.status-cannot-process")
    return Message("clause.status-unknown")


def is_busy(status: int) -> bool:
    return status >> 8 == 0xA7 or status == 0x0213


def is_retryable(status: int) -> bool:
    """Return whether the failure sometimes disappears over a new association."""
    return status == 0x0110 or status >> 12 == 0xC


def is_retrieve_failure(status: int | None) -> bool:
    """Return whether a retrieval could send nothing, for whatever reason."""
    return status is not None and (
        status == UNABLE_TO_PERFORM_SUBOPERATIONS or is_retryable(status)
    )


def is_find_unsupported(status: int | None) -> bool:
    """Return whether the node does not support a search at this level.

    These are A900 and Cxxx (PS3.4 C.4.1.1.4), and 0122.
    """
    return status is not None and (status in (0xA900, NO_SUCH_CLASS) or status >> 12 == 0xC)


def is_stored_with_warning(status: int) -> bool:
    return status in _STORE_WARNINGS or status >> 12 == 0xB


def describe_store_warning(status: int) -> Message:
    if status == DUPLICATE:
        return Message("warning.already-stored")
    if status in (0xB000, 0xB006, 0xB007):
        return Message("warning.elements-changed", status=f"{status:04X}")
    return Message("warning.status", status=f"{status:04X}")


def describe_store_error(status: int) -> Message:
    code = "refused.busy" if is_busy(status) else "refused.status"
    return Message(code, status=f"{status:04X}", reason=describe_status(status))


def describe_re_encoding(syntax: str, warning: Message | None = None) -> Message:
    """Return the remark on a re-encoded image; `warning` is that of the destination, if any."""
    name = describe_uid(syntax)
    if warning is None:
        return Message("warning.re-encoded", transfer_syntax=name)
    return Message("warning.re-encoded-with-warning", transfer_syntax=name, warning=warning)


def status_error(node: str, request: str, status: int) -> AditError:
    """Return the error for a final status other than success.

    `request` is the code of a clause such as "clause.request-query".
    """
    if status == UNABLE_TO_PERFORM_SUBOPERATIONS:
        return NodeBusy(node, "status.no-image-sent", status)
    refused = Message(request)
    if status == CANCELLED:
        return NodeRefused(node, "status.canceled", status, request=refused)
    reason = describe_status(status)
    if is_busy(status):
        return NodeBusy(node, "status.busy", status, request=refused, reason=reason)
    code = "status.refused" if status == NOT_AUTHORISED else "status.failed"
    return NodeRefused(node, code, status, request=refused, reason=reason)


def move_status_error(node: str, status: int, ae_title: str, address: str | Message) -> AditError:
    """Return the error for the final status of a C-MOVE that failed (PS3.4 C.4.2.1.5).

    `ae_title` and `address` are those of our receiver, as the archive has to know them.
    """
    receiver = {"ae_title": ae_title, "address": address}
    if status == UNKNOWN_DESTINATION:
        return NodeRefused(node, "c-move.unknown-destination", status, **receiver)
    if status == UNABLE_TO_PERFORM_SUBOPERATIONS:
        return NodeBusy(node, "c-move.no-image-sent", status, **receiver)
    if is_retryable(status):
        # Orthanc 1.12.7 responds with C000 when it cannot reach us, or loses the connection.
        return NodeBusy(node, "c-move.failed", status, **receiver)
    if status == UNABLE_TO_COUNT_MATCHES:
        return NodeBusy(node, "c-move.cannot-count", status)
    return status_error(node, "clause.request-retrieval", status)


def rejection_error(
    node: str, calling: str, called: str, result: int, source: int, reason: int
) -> AditError:
    """Return the error for an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    if source == _PRESENTATION and reason == 2:
        return NodeBusy(node, "association.no-free")
    if source == _USER and reason == 3:
        return AssociationRejected(node, "association.unknown-calling-title", calling_title=calling)
    if source == _USER and reason == 7:
        return AssociationRejected(node, "association.unknown-called-title", called_title=called)
    if result == _TRANSIENT or source == _PRESENTATION:
        return NodeBusy(node, "association.rejected-temporarily")
    if source == _ACSE and reason == 2:
        return AssociationRejected(node, "association.protocol-version")
    return AssociationRejected(node, "association.rejected", calling_title=calling)


def not_offered_error(node: str, service: str | Message) -> NotSupported:
    return NotSupported(node, "association.service-not-offered", service=service)


def describe_uid(class_uid: str) -> str:
    """Return the standard's name of a SOP class or transfer syntax, or else its UID."""
    from pydicom.uid import UID  # slow to load, and needed only for error texts

    return UID(class_uid).name
