"""What a node can do: four small protocols, all that `transfer` knows; Triable is for tests alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.delivery_list import DeliveryListLine
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, Ref, SeriesRef


class Grade(StrEnum):
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class SettingProposal:
    """What a check proposes for one setting of the node, and the sentence why."""

    setting: str
    value: str | int | bool | None
    why: str


@dataclass(frozen=True, slots=True)
class NodeFinding:
    """One thing that a check learned. `next_step` says in words what to do; empty when all is well."""

    grade: Grade
    what: str
    next_step: str = ""
    proposals: tuple[SettingProposal, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreResult:
    """The answer to one stored instance. `ref` holds the UIDs under which it went out.

    `status` is the DIMSE status (PS3.7 C): 0 kept, 0xBxxx kept with a warning, else refused.
    `error` is the sentence when it was refused, `warning` when it was kept with one.
    """

    ref: InstanceRef
    status: int = 0
    warning: str = ""
    error: str = ""
    size_bytes: int = 0
    sha256: str = ""
    class_uid: str = ""
    """Its SOP class; empty where nobody will ask for it by that."""
    path: str = ""
    """Where it lies, below the node's base folder; empty for nodes without files."""

    @property
    def kept(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class NotConfirmed:
    """An image of which the node says itself that, or why, it does not keep it."""

    instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConfirmationRemark:
    """A sentence on how the proof came about, for the remarks of the outcome."""

    text: str


StorageConfirmation = str | NotConfirmed | ConfirmationRemark
"""A string is the output instance UID of an image that is proven to be kept."""


class FindResults(Iterator[Record]):
    """The records of one find, lazy; afterwards `capped` tells if the node's result cap was hit."""

    def __init__(self, records: Iterator[Record], cap: int | None = None) -> None:
        self._records = records
        self._cap = cap
        self.count = 0

    def __next__(self) -> Record:
        record = next(self._records)
        self.count += 1
        return record

    @property
    def capped(self) -> bool:
        return self._cap is not None and self.count >= self._cap

    @property
    def shortfall(self) -> str:
        """What is to be said of a node whose answers were `capped`."""
        return "cut its answer short"

    def close(self) -> None:
        """Ends the search early and releases what it holds."""
        close = getattr(self._records, "close", None)
        if close is not None:
            close()


@runtime_checkable
class Checkable(Protocol):
    name: str

    def check(self) -> Iterator[NodeFinding]:
        """What works and what does not, in words; never raises NodeError, it finds it."""
        ...


@runtime_checkable
class SupportsTestTransfer(Protocol):
    """What a check does only when asked: images move, or something is written."""

    name: str

    def try_fetching(
        self, image: InstanceRef, *, within_s: float, patient_id: str = ""
    ) -> Iterator[NodeFinding]:
        """Fetches this one image by each way there is, `within_s` each; says how long it took, or
        why it did not come. Lazy; never raises NodeError. An `abort` ends it with Stopped.
        """
        ...

    def try_writing(self) -> Iterator[NodeFinding]:
        """Writes something made up, of no patient; the findings say what stays there. Likewise."""
        ...


@runtime_checkable
class Searchable(Protocol):
    name: str

    def find(self, query: Query) -> FindResults:
        """Lazy. Closing the answers closes the association. Raises NodeError."""
        ...


@runtime_checkable
class SupportsSharedAssociation(Protocol):
    """A node whose searches cost less in a row."""

    def share_association(self) -> AbstractContextManager[None]:
        """Within the block searches share one association, opened anew after a fault."""
        ...


@runtime_checkable
class Retrievable(Protocol):
    name: str

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        """Pulled, bounded in bytes, in order of arrival.

        A normal end means that the node gave its final answer; whether all came is for the ledger
        to say. Anything else raises NodeError. Closing the iterator ends the association.
        """
        ...

    def break_off(self) -> None:
        """Ends the waits of the fetches under way, from any thread; they raise Stopped.

        Unlike `abort` it leaves a node that can be asked again.
        """
        ...


class SourceNode(Searchable, Retrievable, Protocol):
    """What can be found in and fetched from."""


@runtime_checkable
class SupportsPrefetch(Protocol):
    """A source that can send the images of a series while it is asked for their list."""

    def fetch_early(
        self,
        series: SeriesRef,
        *,
        patient_id: str,
        count: int | None,
        may_come: Callable[[str], bool],
    ) -> Iterator[Instance] | None:
        """The whole series, lazily, by a second association; to be pulled by another thread than
        the one that asks for the list. None where there is to be no second one, or where it is not
        known which SOP classes come, or one of them may not. Nothing comes, and nothing is raised,
        when the node does not take part: then it has to be fetched as usual.
        """
        ...


@runtime_checkable
class Storable(Protocol):
    name: str

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Pulls, stores, and answers once for each instance, in order. Raises NodeError.

        When the iterable raises, what is not yet visible at the node is taken back; after a NodeError,
        which says nothing against what came before, it is stored.
        """
        ...

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[StorageConfirmation]:
        """Names what the node proves that it keeps; what it does not name is not kept.

        Raises CannotDo where a node has no means to prove anything.
        """
        ...


class SupportsStop(Protocol):
    """A Storable that gives files their names by itself, some time after it has pulled them."""

    def set_stop(self, stop: Stop) -> None:
        """Asks it from now on before each name: what is stopped shows nothing more."""
        ...


@dataclass(frozen=True, slots=True)
class StagedImage:
    """One image that lies apart until it is packed. `ref` holds the UIDs under which it goes out.

    `sha256` and `size_bytes` are those of its data set, as Stored said.
    """

    ref: InstanceRef
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArchiveRequest:
    """What one build puts into the file called `name`, without ending, and its parts.

    `images` and `size_bytes` are the sums of `gathered`, which is read once. `others` are lines of
    the contents for images that did not come; `about` stands at their head.
    """

    name: str
    images: int
    size_bytes: int
    gathered: Iterable[StagedImage]
    others: Iterable[DeliveryListLine] = ()
    about: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PackingProgress:
    """So much more was written, or tested: each image counts twice."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArchivesTested:
    """All is written and tested; files of these names become visible next.

    Whoever lists finished files writes the names down now: after that it may be killed in between.
    """

    names: tuple[str, ...]


Report = Callable[[PackingProgress | ArchivesTested], None]
"""Called while archives are built. What it raises ends the build."""


@dataclass(frozen=True, slots=True)
class FinishedArchive:
    """A finished file below the node's folder."""

    name: str
    size_bytes: int
    images: int


@runtime_checkable
class SupportsPacking(Protocol):
    """A Storable that keeps images apart until all have come, and then makes files of them."""

    name: str

    def set_archive_title(self, title: str) -> None:
        """Under which title images are gathered from now on."""
        ...

    def pack(
        self, bundle: ArchiveRequest, password: str, stop: Stop, report: Report = ...
    ) -> list[FinishedArchive]:
        """Return once the files are visible. May be begun anew until `forget`."""
        ...

    def forget(self) -> None:
        """Removes what was gathered."""
        ...


class OpenedNode(Protocol):
    """An opened node. `close` ends it in good order; `abort` ends every wait at once, from any thread."""

    name: str

    def close(self) -> None: ...

    def abort(self) -> None: ...


def setting(
    default: Any,
    label: str,
    *,
    help: str = "",
    secret: bool = False,
    advanced: bool = False,
    choices: Sequence[str] = (),
    pem: bool = False,
    belongs_to: str = "",
    recipient: Callable[[Any], object] | None = None,
) -> Any:
    """A field of a node's settings dataclass, from which forms, API schema and URLs are made.

    `pem` is text of many lines; a secret is of no use without the field that it `belongs_to`, or
    unless that field has one value (`field=value`). `recipient` normalizes a value that decides who
    receives the node's secrets: the address, and how the other side is verified.
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
            "recipient": recipient,
        },
    )
