"""All errors of the engine. Each says whether a retry makes sense.

AditError
├── InvalidInput             an impossible request: a UID, pseudonym, query or setting
│   └── ProfileError         an ambiguous or broken profile, with the line
├── Malformed                bytes that are not the DICOM they claim to be
├── InstanceWithheld         one instance must not leave, with a reason that names no person
│   └── VerificationFailed   the second check found something in what was about to leave
├── Stopped                  a person, the end of a window or a shutdown stopped the work
├── NotFound                 the node answered, and does not have it
├── RuleViolation            the task must end: two patients in one study, a foreign object
├── PatientChanged           the source has a new patient ID: a person has to confirm it
└── NodeError                a node did not do its part; names the node
    ├── Unreachable          no connection could be made                          (again)
    ├── Untrusted            no TLS: a certificate, a name or a version does not fit
    ├── AssociationRejected  the node rejected the association permanently
    ├── NodeBusy             the node refused for now: out of resources, limit    (again)
    ├── TimedOut             connected, but no answer within the deadline         (again)
    ├── ConnectionLost       the connection broke off                             (again)
    ├── NodeRefused          the node answered with a failure status
    ├── NotSupported         the node has no such service
    └── StorageError         a folder cannot be read or written
        └── StorageFull      the disk or the quota is full                        (again)
"""

from typing import Any

from adit_engine.messages import Message


class AditError(Exception):
    """Base of all engine errors: `code` names a template, `values` complete it (messages.py).

    The sentence is for people: what, where and the next step. It never names a patient.
    """

    is_transient: bool = False
    """True if the same call may succeed later without any change."""

    def __init__(self, code: str, /, **values: Any) -> None:
        super().__init__(code)
        self._message = Message(code, **values)

    @property
    def message(self) -> Message:
        return self._message

    def __str__(self) -> str:
        return str(self.message)


class InvalidInput(AditError):
    """An impossible request; the text names the field and the form that it must have."""


class ProfileError(InvalidInput):
    """A profile that is ambiguous or unreadable; the text names the line."""


class Malformed(AditError):
    """Bytes that are not the DICOM they claim to be.

    The text names offset and tag, never a value.
    """


class InstanceWithheld(AditError):
    """One instance must not leave. The category of its message is the reason that is counted."""


class VerificationFailed(InstanceWithheld):
    """The second check found something in what was about to leave."""


class Stopped(AditError):
    """The work was stopped between instances; what was delivered is in the ledger."""

    is_transient = True


class NotFound(AditError):
    """The node answered and does not have what was requested."""


class RuleViolation(AditError):
    """The whole task must end: continuing could mix patients or studies."""


class PatientChanged(AditError):
    """The study has another patient ID than ordered, for example after a merge.

    Nothing was sent. `found` is the new ID: only for authorized users, never for messages or logs.
    """

    def __init__(self, found: str) -> None:
        super().__init__("patient-changed")
        self.found = found


class NodeError(AditError):
    """A node did not do its part. `node` is its display name, {node} in the template.

    `contact` names the node's administrator, if the caller that opened the node set it.
    """

    def __init__(self, node: str, code: str, /, **values: Any) -> None:
        super().__init__(code, node=node, **values)
        self.node = node
        self.contact = ""

    @property
    def message(self) -> Message:
        if not self.contact:
            return self._message
        return Message("node-error.with-contact", error=self._message, contact=self.contact)


def _shown_status(status: int | None) -> dict[str, str]:
    return {} if status is None else {"status": f"{status:04X}"}


class Unreachable(NodeError):
    is_transient = True


class Untrusted(NodeError):
    pass


class AssociationRejected(NodeError):
    pass


class NodeBusy(NodeError):
    """The node refused for now. `status` is the DIMSE status (PS3.7 Annex C), {status} if any."""

    is_transient = True

    def __init__(self, node: str, code: str, /, status: int | None = None, **values: Any) -> None:
        super().__init__(node, code, **_shown_status(status), **values)
        self.status = status


class TimedOut(NodeError):
    is_transient = True


class ConnectionLost(NodeError):
    is_transient = True


class NodeRefused(NodeError):
    """A final failure status. `status` is the DIMSE status (PS3.7 Annex C), {status} if any."""

    def __init__(self, node: str, code: str, /, status: int | None = None, **values: Any) -> None:
        super().__init__(node, code, **_shown_status(status), **values)
        self.status = status


class NotSupported(NodeError):
    pass


class StorageError(NodeError):
    pass


class StorageFull(StorageError):
    is_transient = True
