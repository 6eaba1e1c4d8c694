"""Protocols and values that all kinds of nodes share.

A node implements some of the four basic protocols Checkable, Searchable, Retrievable and Storable.
The `Supports...` protocols are optional; SupportsTestTransfer serves the test of a node only. A
TrafficObserver counts the instances of an open node. Used by the nodes, `transfer`, the command
line and the project.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol, runtime_checkable

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.delivery_list import DeliveryListLine
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.rate_limit import RateLimiter
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, Ref, SeriesRef


class Grade(StrEnum):
    """How serious a finding of a check is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class SettingProposal:
    """A value that a check proposes for one setting of the node, and the reason why."""

    setting: str
    value: str | int | bool | None
    reason: Message

    def to_json(self) -> dict[str, Any]:
        return {"setting": self.setting, "value": self.value, "why": self.reason.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SettingProposal":
        return cls(data["setting"], data["value"], Message.from_json(data["why"]))


@dataclass(frozen=True, slots=True)
class NodeFinding:
    """One finding of a check.

    `next_step` is an instruction to the reader; None when there is nothing to do.
    """

    grade: Grade
    what: Message
    next_step: Message | None = None
    proposals: tuple[SettingProposal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "grade": self.grade.value,
            "what": self.what.to_json(),
            "next_step": None if self.next_step is None else self.next_step.to_json(),
            "proposals": [one.to_json() for one in self.proposals],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NodeFinding":
        step = data["next_step"]
        return cls(
            Grade(data["grade"]),
            Message.from_json(data["what"]),
            None if step is None else Message.from_json(step),
            tuple(SettingProposal.from_json(one) for one in data["proposals"]),
        )


@dataclass(frozen=True, slots=True)
class StoreResult:
    """The result of storing one instance. `ref` holds the UIDs under which it was sent.

    `status` is the DIMSE status (PS3.7 C): 0 is success, 0xBxxx success with a warning, anything
    else a refusal. `error` is the reason of a refusal, its code begins with "refused."; `warning` is
    that of a warning, "warning.".
    """

    ref: InstanceRef
    status: int = 0
    warning: Message | None = None
    error: Message | None = None
    size_bytes: int = 0
    sha256: str = ""
    class_uid: str = ""
    """Its SOP class UID; empty where nothing needs it to confirm the storage."""
    path: str = ""
    """Path of the file below the base folder of the node; empty for nodes without files."""

    @property
    def is_stored(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class NotConfirmed:
    """An instance that the node reports as not stored, and the reason."""

    instance_uid: str
    reason: Message


@dataclass(frozen=True, slots=True)
class ConfirmationRemark:
    """How storage was confirmed, for the remarks of the outcome."""

    text: Message


StorageConfirmation = str | NotConfirmed | ConfirmationRemark
"""A string is the output instance UID of an image that is proven to be stored."""


class FindResults(Iterator[Record]):
    """The records of one search, lazy.

    Once they are exhausted, `capped` says whether the result cap of the node was hit.
    """

    def __init__(self, records: Iterator[Record], cap: int | None = None) -> None:
        self._records = records
        self._cap = cap
        self.count = 0

    def __next__(self) -> Record:
        record = next(self._records)
        self.count += 1
        return record

    @property
    def is_capped(self) -> bool:
        return self._cap is not None and self.count >= self._cap

    @property
    def shortfall(self) -> Message:
        """A clause that says why `capped` answers are incomplete; its subject is the node."""
        return Message("clause.truncated-list")

    def close(self) -> None:
        """End the search early and release its resources."""
        close = getattr(self._records, "close", None)
        if close is not None:
            close()


@runtime_checkable
class Checkable(Protocol):
    """A node that can be tested."""

    name: str

    def check(self) -> Iterator[NodeFinding]:
        """Yield what works and what does not. A NodeError becomes a finding."""
        ...


@runtime_checkable
class SupportsTestTransfer(Protocol):
    """The parts of a check that run only on request: images move, or something is written."""

    name: str

    def try_fetching(
        self, image: InstanceRef, *, within_s: float, patient_id: str = ""
    ) -> Iterator[NodeFinding]:
        """Fetch this one image by each available method, `within_s` seconds each.

        The findings say how long it took, or why the image did not arrive. Lazy. Never raises
        NodeError. An `abort` ends it with Stopped.
        """
        ...

    def try_writing(self) -> Iterator[NodeFinding]:
        """Write a made-up object that belongs to no patient.

        The findings say what remains at the node. Lazy. Never raises NodeError. An `abort` ends it
        with Stopped.
        """
        ...


@runtime_checkable
class SupportsParallelTest(Protocol):
    """A node of which the useful number of connections can be measured, on request only."""

    def measure_fetching(
        self, image: InstanceRef, *, most: int, within_s: float, patient_id: str = ""
    ) -> Iterator[NodeFinding]:
        """Fetch images of the study of this one over up to `most` connections, and compare.

        Proposes a number. Lazy. An `abort` ends it with Stopped.
        """
        ...

    def measure_storing(self, *, most: int, within_s: float) -> Iterator[NodeFinding]:
        """Store made-up images, which stay there, over up to `most` connections, and compare.

        Proposes a number. Lazy. An `abort` ends it with Stopped.
        """
        ...


@runtime_checkable
class SupportsEcho(Protocol):
    """A node whose response time can be measured without a patient's data."""

    def measure_echo(self) -> float:
        """Return the seconds that the node takes to answer the smallest request. Raises NodeError."""
        ...


@runtime_checkable
class Searchable(Protocol):
    """A node that can be searched."""

    name: str

    def find(self, query: Query) -> FindResults:
        """Search. Lazy. Closing the results closes the association. Raises NodeError."""
        ...


@runtime_checkable
class SupportsSharedAssociation(Protocol):
    """A node where several requests in a row cost less over one association."""

    def share_association(self) -> AbstractContextManager[None]:
        """Share one association among consecutive searches, storage and proofs in the block.

        After a fault, or some seconds without use, a new one is opened.
        """
        ...


@runtime_checkable
class Retrievable(Protocol):
    """A node from which images can be fetched."""

    name: str

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        """Fetch instances. Lazy, bounded in bytes, in order of arrival.

        A normal end means that the node gave its final response; whether all instances arrived is
        for the caller's ledger to decide. Anything else raises NodeError. Closing the iterator ends
        the association.
        """
        ...

    def cancel_fetches(self) -> None:
        """End the waits of the running fetches, from any thread; they raise Stopped.

        Unlike `abort`, it leaves the node usable for further requests.
        """
        ...


class SourceNode(Searchable, Retrievable, Protocol):
    """A node that can be searched and fetched from."""


@runtime_checkable
class SupportsPrefetch(Protocol):
    """A source that can send the images of a series while it is searched for their list."""

    def prefetch(
        self,
        series: SeriesRef,
        *,
        patient_id: str,
        count: int | None,
        expected_uids: Callable[[str], bool],
    ) -> Iterator[Instance] | None:
        """Return the whole series, lazily, over a second association.

        The caller pulls it in another thread than the one that requests the list. Returns None
        where a second association is not allowed, where the SOP classes to come are not known, or
        where `may_come` refuses one of them. Yields nothing, and raises nothing, when the node does
        not accept it: then the series has to be fetched as usual.
        """
        ...


@runtime_checkable
class Storable(Protocol):
    """A node that stores images."""

    name: str

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Pull and store instances; yield one result per instance, in order.

        Raises NodeError. When the iterable raises, instances that are not yet visible at the node
        are removed. If it raises NodeError, which does not invalidate the instances before it, they
        are stored.
        """
        ...

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[StorageConfirmation]:
        """Yield the instances that the node proves to store.

        Those not yielded are not stored. Raises NotSupported where a node has no means to prove
        anything.
        """
        ...


@runtime_checkable
class SupportsConcurrentListing(Protocol):
    """A source that can list a series while its images arrive, over a connection of its own."""

    lists_concurrently: bool


class SupportsStop(Protocol):
    """A Storable that names its files itself, some time after it has pulled the instances."""

    def set_stop(self, stop: Stop) -> None:
        """Check `stop` before each file is named from now on.

        Once it is stopped, no more files become visible.
        """
        ...


@dataclass(frozen=True, slots=True)
class StagedImage:
    """One image that is staged until it is packed.

    `ref` holds the UIDs under which it is delivered. `sha256` and `size_bytes` are those of its
    data set, as in StoreResult.
    """

    ref: InstanceRef
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArchiveRequest:
    """The content of one archive called `name` (without suffix) and of its parts.

    `images` and `size_bytes` are the sums over `staged_images`, which is read once. `other_lines`
    are lines of the delivery list for images that were not delivered; `metadata` is its header.
    """

    name: str
    images: int
    size_bytes: int
    staged_images: Iterable[StagedImage]
    other_lines: Iterable[DeliveryListLine] = ()
    metadata: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PackingProgress:
    """Bytes written or tested since the last report. Each image counts twice."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArchivesTested:
    """Everything is written and tested; files of these names become visible next.

    A caller that records finished files has to record the names now: the process may be killed
    between this report and the end.
    """

    names: tuple[str, ...]


Report = Callable[[PackingProgress | ArchivesTested], None]
"""Called while archives are built. An exception that it raises ends the build."""


@dataclass(frozen=True, slots=True)
class FinishedArchive:
    """A finished file below the node's folder."""

    name: str
    size_bytes: int
    images: int


@runtime_checkable
class SupportsPacking(Protocol):
    """A Storable that stages images until all have arrived, and then packs them into files."""

    name: str

    def set_archive_title(self, title: str) -> None:
        """Set the title under which images are staged from now on."""
        ...

    def pack(
        self, bundle: ArchiveRequest, password: str, stop: Stop, report: Report = ...
    ) -> list[FinishedArchive]:
        """Pack the staged images and return once the files are visible.

        May be repeated until `forget`.
        """
        ...

    def discard_staged(self) -> None:
        """Remove the staged images."""
        ...


class TrafficObserver:
    """Is notified of the instances that an open node receives and sends.

    A subclass overrides what it needs. The methods are called in the threads that pull the
    instances, before an instance is handed on. They must not block.
    """

    def instance_received(self, instance: Instance) -> None:
        """Called for each instance that `fetch` or `prefetch` yields."""

    def instance_sent(self, instance: Instance) -> None:
        """Called for each instance that `store` pulls, whatever its result."""

    def retrieval_answered(self, seconds: float) -> None:
        """Called once per fetch with the seconds from the request until the first image."""


NOT_OBSERVED = TrafficObserver()


def observe_received(
    fetched: Generator[Instance, None, None], observer: TrafficObserver
) -> Iterator[Instance]:
    """Yield what is fetched and notify the observer. Closing it closes the fetch."""
    with closing(fetched):
        for instance in fetched:
            observer.instance_received(instance)
            yield instance
            del instance  # it may be large: release it before the next one is awaited


def observe_sent(instances: Iterable[Instance], observer: TrafficObserver) -> Iterator[Instance]:
    """Yield what is to be sent and notify the observer."""
    for instance in instances:
        observer.instance_sent(instance)
        yield instance
        del instance


class NodeCapabilities:
    """What all nodes of a kind can do; the classes of the kinds override what differs."""

    uses_receiver: ClassVar[bool] = False
    """Its images may arrive through our Storage SCP, which is the third argument of the class."""
    uses_several_associations: ClassVar[bool] = False
    """It fetches and sends over several associations at once, and learns how many are useful."""
    answers_echo: ClassVar[bool] = False
    """Its response time can be measured, see SupportsEcho."""
    is_remote: ClassVar[bool] = False
    """Another system, on which a test leaves an image."""
    is_archive: ClassVar[bool] = False
    """It packs what it receives into encrypted files and returns nothing."""
    is_for_tests: ClassVar[bool] = False
    """Not offered on pages."""
    needs_hours: ClassVar[bool] = False
    """A new node is a source only, with hours at night, until its manager changes that."""
    has_delivery_list: ClassVar[bool] = False
    """Users open its files directly: a list of what was delivered is written beside them."""
    folder_settings: ClassVar[tuple[str, ...]] = ()
    """The settings that are folders on this machine."""


class OpenedNode(Protocol):
    """An open node. `close` ends it in an orderly way.

    `abort` ends every wait at once, from any thread.
    """

    name: str

    @property
    def rate_limiter(self) -> RateLimiter | None:
        """The rate limit of all traffic of the node; None where the kind has none."""
        ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


MIN_FACTOR, MAX_FACTOR = 1.5, 100


def check_factors(slow: float, pause: float) -> None:
    """Check how many times its usual time a node takes when it is slow. Raise InvalidInput."""
    for factor, label in (
        (slow, "Slow from (times the usual time)"),
        (pause, "Pause from (times the usual time)"),
    ):
        if factor != 0 and not MIN_FACTOR <= factor <= MAX_FACTOR:
            raise InvalidInput("setting.factor", setting=label, min=MIN_FACTOR, max=MAX_FACTOR)


def setting_field(
    default: Any,
    label: str,
    *,
    help: str = "",
    secret: bool = False,
    advanced: bool = False,
    choices: Sequence[str] = (),
    pem: bool = False,
    belongs_to: str = "",
    replaced_by: str = "",
    recipient: Callable[[Any], object] | None = None,
    example: str = "",
) -> Any:
    """Declare a field of the settings dataclass of a node.

    Forms, API schema and URLs are made from it. `pem` marks text of several lines. `belongs_to`
    names the field without which a secret has no use; `field=value` requires one value of that
    field. `replaced_by` names the field that new nodes use instead. `recipient` normalizes a value
    that decides who receives the node's secrets: the address, and how the other side is verified;
    None if the value decides nothing. `example` is a valid value of a field whose default is not.
    """
    return field(
        default=default,
        repr=not secret,
        metadata={
            "label": label,
            "help": help,
            "secret": secret,
            "advanced": advanced,
            "choices": tuple(choices),
            "pem": pem,
            "belongs_to": belongs_to,
            "replaced_by": replaced_by,
            "recipient": recipient,
            "example": example or default,
        },
    )
