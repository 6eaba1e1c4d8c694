"""Every error of the engine on one screen; each says by itself if trying again makes sense.

AditError
├── WrongInput               what was asked for cannot be: a UID, pseudonym, query or setting
│   └── ProfileError         a profile that is ambiguous or broken, with the line
├── Malformed                bytes that are not DICOM as they claim to be
├── Withhold                 one instance must not leave, with a reason that names no person
│   └── Hit                  the second look found something in what was about to leave
├── Stopped                  a person, a window's end or a shutdown stopped the work
├── NotFound                 the node answered, and does not have it
├── RuleBroken               the task must not go on: two patients under one study, a foreign object
├── PatientChanged           the source gives the patient another id now: a person has to say who it is
└── NodeError                a node did not do its part; names the node
    ├── Unreachable          no connection could be made                          (again)
    ├── Untrusted            no TLS with it: a certificate, a name or a version does not fit
    ├── AssociationRejected  the node refused the association for good
    ├── NodeBusy             the node refused for now: out of resources, limit    (again)
    ├── TimedOut             connected, but silent beyond the deadline            (again)
    ├── ConnectionLost       the conversation broke off                           (again)
    ├── NodeRefused          the node answered with a failure status
    ├── CannotDo             this node has no such service
    └── StorageTrouble       a folder cannot be read or written
        └── StorageFull      the disk or the quota is full                        (again)
"""


class AditError(Exception):
    """Anything the engine says no to. The text is for people: what, where, next step, no patient."""

    again: bool = False
    """True when the same call may succeed later without anyone changing anything."""


class InvalidInput(AditError):
    """What was asked for cannot be; the text names the field and the form it must have."""


class ProfileError(InvalidInput):
    """A profile that cannot be read in one way only; the text names the line."""


class Malformed(AditError):
    """Bytes that are not DICOM as they claim to be; the text names offset and tag, never a value."""


class InstanceWithheld(AditError):
    """One instance stays here. `reason` is a sentence and `code` a short key to count by."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class VerificationFailed(InstanceWithheld):
    """The second look found something in what was about to leave."""


class Stopped(AditError):
    """The work was stopped between instances; what was delivered is in the ledger."""

    again = True


class NotFound(AditError):
    """The node answered and does not have what was asked for."""


class RuleViolation(AditError):
    """The whole task must end: going on could mix patients or studies."""


class PatientChanged(AditError):
    """The study is the patient's under another id than ordered, as after a merge; nothing was sent.

    `found` is that id: for those who may see it, never for a message or a log.
    """

    def __init__(self, found: str) -> None:
        super().__init__(
            "The source has given the patient of this study another ID since the order, as after a "
            "merge. Nothing more of it is sent: somebody has to confirm that it is the same person."
        )
        self.found = found


class NodeError(AditError):
    """A node did not do its part. `node` is its name as people know it.

    `contact` is who looks after the node, where whoever opened it has said so.
    """

    def __init__(self, node: str, text: str) -> None:
        super().__init__(f"{node}: {text}")
        self.node = node
        self.contact = ""

    def __str__(self) -> str:
        text = super().__str__()
        if not self.contact:
            return text
        return f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} Contact: {self.contact}"


class Unreachable(NodeError):
    again = True


class Untrusted(NodeError):
    pass


class AssociationRejected(NodeError):
    pass


class NodeBusy(NodeError):
    """The node refused for now. `status` is the DIMSE status (PS3.7 Annex C) where there is one."""

    again = True

    def __init__(self, node: str, text: str, status: int | None = None) -> None:
        super().__init__(node, text)
        self.status = status


class TimedOut(NodeError):
    again = True


class ConnectionLost(NodeError):
    again = True


class NodeRefused(NodeError):
    """A final failure status. `status` is the DIMSE status (PS3.7 Annex C) where there is one."""

    def __init__(self, node: str, text: str, status: int | None = None) -> None:
        super().__init__(node, text)
        self.status = status


class NotSupported(NodeError):
    pass


class StorageError(NodeError):
    pass


class StorageFull(StorageError):
    again = True
