"""The meaning of DIMSE statuses and association rejections, in words (PS3.7 Annex C).

Used to decide about retries and to make error texts.
"""

from adit_engine.errors import AditError, AssociationRejected, NodeBusy, NodeRefused, NotSupported

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
_MEANINGS = {
    0x0105: "it knows no such attribute",
    0x0106: "an attribute's value is not allowed there",
    0x0110: "it failed while working on it",
    0x0117: "the instance UID is not allowed there",
    0x0118: "it does not know this kind of object",
    0x0119: "class and instance do not fit",
    0x0120: "an attribute is missing",
    0x0121: "an attribute's value is missing",
    0x0122: "it does not take this kind of object or request",
    0x0124: "we are not authorised: ask its administrator to allow it for our AE title",
    0x0210: "it saw a message number twice",
    0x0211: "it does not know this operation",
    0x0212: "it found the message mistyped",
    0x0213: "it is out of resources",
}
_RETRY_HINT = "Retry; if it happens again, ask its administrator to look into its log."
_PERMANENT, _TRANSIENT = 1, 2
_USER, _ACSE, _PRESENTATION = 1, 2, 3


def describe_status(status: int) -> str:
    """Return a clause such as "it is out of resources".

    The comment of the peer is not used: it may contain the name of a patient.
    """
    if status in _MEANINGS:
        return _MEANINGS[status]
    high = status >> 8
    if high == 0xA7:
        return "it is out of resources"
    if high == 0xA9:
        return "the object does not fit its class"
    if high >> 4 == 0xC:
        return "it cannot process it"
    return "it gave no reason that we know"


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


def describe_store_warning(status: int) -> str:
    if status == DUPLICATE:
        return "it was there already"
    if status in (0xB000, 0xB006, 0xB007):
        return f"kept, but the PACS changed or left out elements (status {status:04X})"
    return f"kept with a warning (status {status:04X})"


def describe_store_error(status: int) -> str:
    again = ": try again later" if is_busy(status) else ""
    return f"refused with status {status:04X}, {describe_status(status)}{again}"


def status_error(node: str, what: str, status: int) -> AditError:
    """Return the error for a final status other than success.

    `what` is such as "the search".
    """
    if status == UNABLE_TO_PERFORM_SUBOPERATIONS:
        return NodeBusy(
            node,
            "could not send any of the images that it was asked for (status A702). Try again "
            "later; if it happens again, fetch by C-MOVE instead, or ask its administrator to look "
            "into its log.",
            status,
        )
    text = f"refused {what} with status {status:04X}: {describe_status(status)}."
    if is_busy(status):
        return NodeBusy(node, f"{text} Try again later.", status)
    if status == CANCELLED:
        return NodeRefused(node, f"cancelled {what}. {_RETRY_HINT}", status)
    if status == NOT_AUTHORISED:
        return NodeRefused(node, text, status)
    return NodeRefused(node, f"{text} {_RETRY_HINT}", status)


def move_status_error(node: str, status: int, ae_title: str, address: str) -> AditError:
    """Return the error for the final status of a C-MOVE that failed (PS3.4 C.4.2.1.5).

    `ae_title` and `address` are those of our receiver, as the archive has to know them.
    """
    if status == UNKNOWN_DESTINATION:
        return NodeRefused(
            node,
            f"does not know where to send images for {ae_title} (status A801): ask its "
            f"administrator to register the AE title {ae_title} at {address}. Some PACS say so when "
            "we turned them away: check its senders, images from others are refused.",
            status,
        )
    if status == UNABLE_TO_PERFORM_SUBOPERATIONS:
        return NodeBusy(
            node,
            f"could not send its images to us (status A702). Ask its administrator whether "
            f"{ae_title} is registered at {address} and no firewall stands in between, and check "
            "the PACS's senders: images from others are refused. Try again later.",
            status,
        )
    if is_retryable(status):
        # Orthanc 1.12.7 responds with C000 when it cannot reach us, or loses the connection.
        return NodeBusy(
            node,
            f"could not process the retrieval (status {status:04X}). Some PACS answer so when they "
            f"cannot reach us: ask its administrator whether {ae_title} is registered at "
            f"{address}. Try again later.",
            status,
        )
    if status == UNABLE_TO_COUNT_MATCHES:
        return NodeBusy(
            node, "has no resources to count what it should send (status A701). Try again later."
        )
    return status_error(node, "the retrieval", status)


def rejection_error(
    node: str, calling: str, called: str, result: int, source: int, reason: int
) -> AditError:
    """Return the error for an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    if source == _PRESENTATION and reason == 2:
        return NodeBusy(node, "has no free association for us now. Try again later.")
    if source == _USER and reason == 3:
        return AssociationRejected(
            node, f"refused our AE title {calling}: ask its administrator to register it."
        )
    if source == _USER and reason == 7:
        return AssociationRejected(
            node,
            f"does not answer to the AE title {called}: check the called AE title in its settings.",
        )
    if result == _TRANSIENT or source == _PRESENTATION:
        return NodeBusy(node, "refused the association for now. Try again later.")
    if source == _ACSE and reason == 2:
        return AssociationRejected(node, "does not speak our version of the DICOM protocol.")
    return AssociationRejected(
        node,
        f"refused the association without a reason: ask its administrator whether {calling} and "
        "our address are registered.",
    )


def not_offered_error(node: str, service: str) -> NotSupported:
    return NotSupported(node, f"does not offer {service} to us: ask its administrator to allow it.")


def describe_uid(class_uid: str) -> str:
    """Return the standard's name of a SOP class or transfer syntax, or else its UID."""
    from pydicom.uid import UID  # slow to load, and needed only for error texts

    return UID(class_uid).name
