"""Kind: what a person can order, as a plan of tasks and a way to run one; knows no database.
Sending: how every kind that delivers images carries one study, once its task runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from adit_engine.bounded_stream import Stop
from adit_engine.errors import InvalidInput
from adit_engine.nodes.base import SourceNode, Storable
from adit_engine.pseudonymize.parameters import Change
from adit_engine.transfer.study import StudyRequest as Transfer
from adit_engine.transfer.study import transfer
from adit_engine.values.outcome import InstanceEvent, SeriesLedger, SeriesOutcome, SourceListing
from adit_engine.values.record import Record
from adit_engine.values.references import StudyRef
from adit_engine.values.selection import Selection

MAX_REASON_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Pseudonymize:
    """Ordered: each patient under a pseudonym of the project, given with the pick or generated."""


@dataclass(frozen=True, slots=True)
class SendAsIs:
    """Ordered: identified, byte for byte, for a reason that stands in the trail."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise InvalidInput("Say in a few words why identified data must be sent.")
        if len(self.reason) > MAX_REASON_LENGTH:
            raise InvalidInput(f"The reason may have {MAX_REASON_LENGTH} characters.")


OrderedChange = Pseudonymize | SendAsIs


class JobOrder(Protocol):
    """What every kind's order says. Node and project are row ids; no project = the site's own.

    `announced` are the codes of withholding that were shown before the start and accepted.
    """

    @property
    def destination(self) -> int | None: ...

    @property
    def project(self) -> int | None: ...

    @property
    def change(self) -> OrderedChange: ...

    @property
    def announced(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One line of a sheet that a task answers. `own` stands beside the sheet's own headers."""

    line: int
    own: tuple[str, ...] = field(default=(), repr=False)
    pseudonym: str = ""
    asked: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What its known columns say, by the template's header: so an export can be asked again."""


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """One task to be made. All of it is sealed but the source.

    `patient_id` is the source's; `pseudonym` is empty where it is to be generated.
    """

    source: int
    payload: Mapping[str, Any] = field(repr=False)
    patient_id: str = field(default="", repr=False)
    pseudonym: str = ""
    title: str = field(default="", repr=False)
    """What the task's page calls it, for those who may see it."""
    searches: bool = False
    """It only asks the source, in the lane of searches; no destination is opened for it."""
    rows: tuple[SheetRow, ...] = field(default=(), repr=False)
    """The lines of the sheet that it answers: each gets a line of result, whatever comes of it."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a running task works with. `held` maps series UIDs to ledgers of earlier attempts."""

    source: SourceNode
    destination: Storable | None
    """None for a task that only searches."""
    change: Change | None
    """None for a task that only searches: nothing leaves."""
    held: Mapping[str, SeriesLedger]
    stop: Stop
    modalities: tuple[str, ...] = ()
    """Those that the project allows; empty = all."""


class RowNote(StrEnum):
    """What may be wrong with the answer to a row; pages and exports say it in words."""

    NOTHING = "nothing"
    CAPPED = "capped"
    """The node gives no more answers at a time: there may be more."""
    PATIENTS = "patients"
    """Studies of several patient IDs match."""
    OTHER_PERSON = "other_person"
    """The ID or accession number is there, with another name, birth date or ID."""
    NOT_ASKED = "not_asked"
    """The node refused a key: the answers were sorted by us alone."""
    SEVERAL = "several"
    """More than one study matches: a person chooses."""
    SERIES_GONE = "series_gone"
    """The study is there, and does not have the series that the row names."""
    NO_ANSWER = "no_answer"
    """The node could not answer for this row alone; the sentence stands with it."""
    DELIVERED = "delivered"
    """All of it was delivered before, to the same place for the same project."""
    LEFT_OUT = "left_out"
    """A person left the row out before the start."""


@dataclass(frozen=True, slots=True)
class RowMatches:
    """The studies or series that answer one line of a sheet: all of them, in one."""

    line: int
    records: tuple[Record, ...] = field(repr=False)
    """Of level SERIES when the line asks for series: those have their study's values, too."""
    notes: tuple[RowNote, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """One series as the source lists it. `classes` are images by SOP class; None: not told."""

    record: Record = field(repr=False)
    classes: Mapping[str, int] | None = None

    @property
    def images(self) -> int | None:
        return sum(self.classes.values()) if self.classes else self.record.instance_count


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """One study that a row may mean, with those of its series that the row names."""

    record: Record = field(repr=False)
    series: tuple[ListedSeries, ...] = ()


@dataclass(frozen=True, slots=True)
class RowCheck:
    """What a source holds for one line of a sheet, before anything is fetched."""

    line: int
    studies: tuple[ListedStudy, ...] = field(repr=False)
    notes: tuple[RowNote, ...] = ()
    why: str = ""
    """The node's sentence where it could not answer."""


TaskOutput = SourceListing | InstanceEvent | SeriesOutcome | RowMatches | RowCheck


class Kind(Protocol):
    """One file per kind; actions and the runner make rows of what it plans and yields."""

    word: ClassVar[str]
    """As in the right to order it, order:<word>, and in addresses."""
    label: ClassVar[str]

    def plan(self, order: Any) -> list[TaskPlan]:
        """Raises WrongInput."""
        ...

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        """Lazy. Raises the engine's errors."""
        ...


def transfer_study(payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
    """The study of a payload with study_uid, patient_id and series_uids (none = all), and
    `renamed` where a person has confirmed another id of the patient. Lazy.

    Raises the engine's errors.
    """
    assert context.destination is not None, "an order that delivers has a destination"
    assert context.change is not None, "and says what happens to its images"
    order = Transfer(
        StudyRef(payload["study_uid"]),
        payload["patient_id"],
        Selection(tuple(payload["series_uids"]), context.modalities),
        payload.get("renamed", ""),
    )
    return transfer(
        order,
        context.source,
        context.destination,
        context.change,
        context.held,
        context.stop,
    )
