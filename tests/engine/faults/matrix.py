"""The fault matrix: the result of each fault of a peer, for each service.

A row is a fault, a column a service. Each result is tested by `test_matrix.py`, or by the test that
is named here. If a fault cannot occur, the row says why. `docs/faults.md` is generated from this.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lab.lies import Kind, Lie, Part
from lab.orders import Plan

OFTEN = 99


class Service(StrEnum):
    FIND = "C-FIND"
    GET = "C-GET"
    MOVE = "C-MOVE"
    SUB = "its C-STORE to us"
    STORE = "C-STORE"
    QIDO = "QIDO-RS"
    WADO = "WADO-RS"
    STOW = "STOW-RS"


FIND, GET, MOVE, SUB, STORE, QIDO, WADO, STOW = Service
_ABOUT = {
    FIND: Part.FIND,
    GET: Part.GET,
    MOVE: Part.MOVE,
    SUB: Part.SUB,
    STORE: Part.STORE,
    QIDO: Part.FIND,
    WADO: Part.GET,
    STOW: Part.STORE,
}
DESTINATIONS = (STORE, STOW)


@dataclass(frozen=True)
class Comes:
    """The expected result of the first attempt: "dd--- TimedOut".

    First the state of each of the five images of the first series: d delivered, f failed,
    w withheld, s sent but not confirmed, - not reached. Then the completeness of the series, if its
    outcome was reported, and the name of the error that ended the attempt, if any.
    """

    text: str


@dataclass(frozen=True)
class Tried:
    """One cell that `test_matrix.py` tests."""

    row: str
    service: Service
    plan: Plan
    comes: Comes
    sends_move_originator: bool = True

    @property
    def name(self) -> str:
        return f"{self.service}: {self.row}"


Making = Callable[[Service], Plan]


def lie(kind: Kind, at: int | None = None, on: Part | None = None) -> Making:
    """Make the peer repeat the fault for the same image until the attempt ends."""

    def made(service: Service) -> Plan:
        image = at if at is not None else 0 if service in (QIDO, STOW) else 2
        lies = (Lie(kind, image, OFTEN, on or _ABOUT[service]),)
        return Plan(keeper_lies=lies) if service in DESTINATIONS else Plan(lies)

    return made


def always(kind: Kind) -> Making:
    """Make the peer repeat the fault for each image of the series."""

    def made(service: Service) -> Plan:
        return Plan(tuple(Lie(kind, at, OFTEN, _ABOUT[service]) for at in range(5)))

    return made


@dataclass(frozen=True)
class Row:
    """By service: `comes` is the result, `elsewhere` a separate test, `not_here` why it cannot occur."""

    fault: str
    making: Making | Mapping[Service, Making] = field(repr=False)
    comes: Mapping[Service, str] = field(default_factory=dict)
    elsewhere: Mapping[Service, str] = field(default_factory=dict)
    not_here: Mapping[Service, str] = field(default_factory=dict)
    sends_move_originator: bool = True

    def plan(self, service: Service) -> Plan:
        making = self.making if callable(self.making) else self.making[service]
        return making(service)


def tried() -> Iterator[Tried]:
    for row in ROWS:
        for service, text in row.comes.items():
            yield Tried(
                row.fault, service, row.plan(service), Comes(text), row.sends_move_originator
            )


_SEARCH, _FETCH = (FIND, QIDO), (GET, MOVE, WADO)


def _no(*services: Service, because: str) -> dict[Service, str]:
    return dict.fromkeys(services, because)


_NO_IMAGE = "transfers no image"
_NO_ANSWER = "the responses are ours"
_ONE_EACH = "each image has its own response"
_KEEPS = "stores nothing here"
_ASKS_NOT = "no images are requested"
_MOVES = "only a C-MOVE sends images to another application"

ROWS = (
    Row(
        "a PDU or a response with a length of 4 GiB",
        lie(Kind.HUGE),
        {
            FIND: "----- ConnectionLost",
            GET: "dd--- ConnectionLost",
            MOVE: "ddd-- ConnectionLost",
            SUB: "ddddd complete",
            STORE: "ddddd complete",
            QIDO: "----- ConnectionLost",
            WADO: "d---- ConnectionLost",
            STOW: "----- TimedOut",
        },
    ),
    Row(
        "half a PDU or response, then nothing",
        lie(Kind.HALF),
        {
            FIND: "----- TimedOut",
            GET: "dd--- TimedOut",
            MOVE: "ddd-- TimedOut",
            SUB: "dd--- TimedOut",
            STORE: "dd--- TimedOut",
            QIDO: "----- TimedOut",
            WADO: "dd--- TimedOut",
            STOW: "----- TimedOut",
        },
    ),
    Row(
        "nothing between two messages",
        lie(Kind.STALL),
        {
            FIND: "----- TimedOut",
            GET: "dd--- TimedOut",
            MOVE: "ddd-- TimedOut",
            SUB: "dd--- TimedOut",
            STORE: "dd--- TimedOut",
            QIDO: "----- TimedOut",
            WADO: "d---- TimedOut",
            STOW: "----- TimedOut",
        },
    ),
    Row(
        "a few bytes per second",
        lie(Kind.TRICKLE),
        {
            FIND: "----- TimedOut",
            GET: "dd--- TimedOut",
            MOVE: "ddd-- TimedOut",
            SUB: "dd--- TimedOut",
            STORE: "dd--- TimedOut",
            QIDO: "----- TimedOut",
            WADO: "d---- TimedOut",
            STOW: "----- TimedOut",
        },
    ),
    Row(
        "FIN within an instance or response",
        lie(Kind.FIN),
        {
            FIND: "----- ConnectionLost",
            GET: "dd--- ConnectionLost",
            MOVE: "ddd-- ConnectionLost",
            SUB: "ddddd complete",
            STORE: "ddddd complete",
            QIDO: "----- ConnectionLost",
            WADO: "dd--- ConnectionLost",
            STOW: "----- ConnectionLost",
        },
    ),
    Row(
        "RST within an instance or response",
        lie(Kind.RST),
        {
            FIND: "----- ConnectionLost",
            GET: "dd--- ConnectionLost",
            MOVE: "ddd-- ConnectionLost",
            SUB: "ddddd complete",
            STORE: "ddddd complete",
            QIDO: "----- ConnectionLost",
            WADO: "dd--- ConnectionLost",
            STOW: "----- ConnectionLost",
        },
    ),
    Row(
        "A-ABORT (DICOMweb: a reset between two images)",
        lie(Kind.ABORT),
        {
            FIND: "----- ConnectionLost",
            GET: "dd--- ConnectionLost",
            MOVE: "ddd-- ConnectionLost",
            SUB: "ddddd complete",
            STORE: "ddddd complete",
            QIDO: "----- ConnectionLost",
            WADO: "d---- ConnectionLost",
            STOW: "----- ConnectionLost",
        },
    ),
    Row(
        "no final status",
        lie(Kind.NO_STATUS),
        {
            FIND: "----- ConnectionLost",
            GET: "ddddd NodeRefused",
            MOVE: "ddddd NodeRefused",
            STORE: "ddddd complete",
            QIDO: "----- ConnectionLost",
            WADO: "dddd- ConnectionLost",
            STOW: "ddddd complete",
        },
        not_here=_no(SUB, because=_NO_ANSWER),
    ),
    Row(
        "success with failed sub-operations",
        lie(Kind.ADMIT),
        {
            GET: "ddddd complete",
            MOVE: "ddddd complete",
            STORE: "ddddd complete",
            STOW: "fdddd partial",
        },
        not_here={
            **_no(*_SEARCH, because=_NO_IMAGE),
            **_no(SUB, because=_NO_ANSWER),
            **_no(WADO, because="reports no failures: the images are missing, see below"),
        },
    ),
    Row(
        "success, but an image is missing",
        lie(Kind.DROP),
        dict.fromkeys(_FETCH, "ddddd complete"),
        not_here={
            **_no(*_SEARCH, because="a truncated list, see below"),
            **_no(SUB, because=_NO_ANSWER),
            **_no(STORE, STOW, because=_ONE_EACH),
        },
    ),
    Row(
        "success, but no image is sent",
        always(Kind.DROP),
        dict.fromkeys(_FETCH, "fffff partial"),
        not_here={
            **_no(*_SEARCH, because="a truncated list, see below"),
            **_no(SUB, because=_NO_ANSWER),
            **_no(STORE, STOW, because=_ONE_EACH),
        },
    ),
    Row(
        "success before the images are sent or stored",
        {
            GET: lie(Kind.NOTHING),
            MOVE: lie(Kind.EARLY),
            WADO: lie(Kind.NOTHING),
            STORE: lie(Kind.FORGET),
            STOW: lie(Kind.FORGET),
        },
        {
            GET: "fffff partial",
            MOVE: "ddddd complete",
            STORE: "ddfdd partial",
            WADO: "fffff partial",
            STOW: "fdddd partial",
        },
        not_here={**_no(*_SEARCH, because=_NO_IMAGE), **_no(SUB, because=_NO_ANSWER)},
    ),
    Row(
        "endless pending responses",
        lie(Kind.ENDLESS),
        {
            FIND: "----- TimedOut",
            GET: "dd--- TimedOut",
            MOVE: "dd--- TimedOut",
            STORE: "dd--- ConnectionLost",
            QIDO: "----- TimedOut",
            WADO: "d---- TimedOut",
            STOW: "----- TimedOut",
        },
        not_here=_no(SUB, because=_NO_ANSWER),
    ),
    Row(
        "the same instance or record twice",
        {
            **dict.fromkeys((*_SEARCH, *_FETCH), lie(Kind.TWICE)),
            **dict.fromkeys(DESTINATIONS, lie(Kind.DUPLICATE)),
        },
        dict.fromkeys((*_SEARCH, *_FETCH, *DESTINATIONS), "ddddd complete"),
        elsewhere={
            SUB: "storage_scp/test_server.py::test_a_duplicate_is_accepted_unless_its_content_differs"
        },
    ),
    Row(
        "an instance twice, with different content",
        lie(Kind.TWIN),
        dict.fromkeys(_FETCH, "ddddd partial"),
        elsewhere={
            SUB: "storage_scp/test_server.py::test_a_duplicate_is_accepted_unless_its_content_differs"
        },
        not_here={
            **_no(*_SEARCH, because=_NO_IMAGE),
            **_no(*DESTINATIONS, because="we send each image once"),
        },
    ),
    Row(
        "another patient with the same study UID",
        lie(Kind.FOREIGN),
        {
            **dict.fromkeys(_SEARCH, "ddddd complete"),
            **dict.fromkeys(_FETCH, "ddfff partial RuleViolation"),
        },
        not_here={
            **_no(SUB, because="detected by the C-MOVE"),
            **_no(*DESTINATIONS, because="images that we send have passed the check"),
        },
    ),
    Row(
        "SOP class, transfer syntax or service refused",
        lie(Kind.NO_CLASS),
        {
            FIND: "----- NotSupported",
            GET: "----- NotSupported",
            MOVE: "----- NotSupported",
            STORE: "fffff partial",
            QIDO: "----- NodeRefused",
            WADO: "----- NodeRefused",
            STOW: "fffff partial",
        },
        elsewhere={
            SUB: "storage_scp/test_server.py::test_only_storage_classes_with_known_syntaxes_are_accepted",
        },
    ),
    Row(
        "the PACS is full or out of resources",
        {
            **dict.fromkeys((*_SEARCH, *_FETCH), lie(Kind.EXHAUSTED)),
            **dict.fromkeys(DESTINATIONS, lie(Kind.NO_ROOM)),
        },
        {
            **dict.fromkeys((*_SEARCH, *_FETCH), "----- NodeBusy"),
            STORE: "ddddd complete",
            STOW: "fdddd partial",
        },
        not_here=_no(SUB, because="the disk is that of our receiver, see below"),
    ),
    Row(
        "association or request refused permanently",
        lie(Kind.REJECT),
        {
            **dict.fromkeys((FIND, GET, MOVE, STORE), "----- AssociationRejected"),
            **dict.fromkeys((QIDO, WADO, STOW), "----- NodeRefused"),
        },
        not_here=_no(SUB, because="we refuse, see below"),
    ),
    Row(
        "association or request refused temporarily",
        lie(Kind.BUSY),
        dict.fromkeys((FIND, GET, MOVE, STORE, QIDO, WADO, STOW), "----- NodeBusy"),
        not_here=_no(SUB, because="we refuse, see below"),
    ),
    Row(
        "the disk of our receiver is full",
        lambda service: Plan(spool_is_full=True),
        {MOVE: "----- StorageFull"},
        elsewhere={
            GET: "faults/test_full_disk.py::test_a_large_image_without_disk_space_raises_storage_full",
            SUB: "storage_scp/test_server.py::test_a_full_spool_refuses_images_until_space_is_available",
            WADO: "faults/test_full_disk.py::test_a_large_image_without_disk_space_raises_storage_full",
        },
        not_here=_no(*_SEARCH, *DESTINATIONS, because=_KEEPS),
    ),
    Row(
        "the originator is not named",
        lambda service: Plan(),
        {MOVE: "ddddd complete"},
        elsewhere={
            SUB: "storage_scp/test_server.py::test_without_originator_two_moves_of_one_study_run_in_sequence"
        },
        not_here=_no(*_SEARCH, GET, STORE, WADO, STOW, because=_MOVES),
        sends_move_originator=False,
    ),
    Row(
        "sub-operations from another AE title",
        lie(Kind.OTHER_TITLE),
        {MOVE: "----- NodeBusy"},
        elsewhere={SUB: "storage_scp/test_server.py::test_an_image_from_another_sender_is_refused"},
        not_here=_no(*_SEARCH, GET, STORE, WADO, STOW, because=_MOVES),
    ),
    Row(
        "sub-operations from another address",
        lambda service: Plan(sends_from="127.0.0.2"),
        {MOVE: "----- NodeBusy"},
        elsewhere={
            SUB: "storage_scp/test_server.py::test_a_known_ae_title_from_another_address_is_rejected"
        },
        not_here=_no(*_SEARCH, GET, STORE, WADO, STOW, because=_MOVES),
    ),
    Row(
        "a presentation state that is created at retrieval",
        lie(Kind.PRESENTS),
        {GET: "ddddd complete", MOVE: "ddddd partial", WADO: "ddddd partial"},
        not_here={
            **_no(*_SEARCH, *DESTINATIONS, because=_ASKS_NOT),
            **_no(SUB, because="detected by the C-MOVE"),
        },
    ),
    Row(
        "nearline: long wait for the first image",
        lie(Kind.SLOW),
        dict.fromkeys(_FETCH, "ddddd complete"),
        not_here={
            **_no(*_SEARCH, *DESTINATIONS, because=_ASKS_NOT),
            **_no(SUB, because="detected by the C-MOVE"),
        },
    ),
    Row(
        "one object of 1 GB",
        lie(Kind.SLOW),
        elsewhere={
            **dict.fromkeys(
                (GET, MOVE, SUB, STORE, WADO, STOW),
                "faults/test_large_object.py::test_memory_stays_bounded_for_one_large_object",
            )
        },
        not_here=_no(*_SEARCH, because=_NO_IMAGE),
    ),
    Row(
        "the destination accepts only Implicit VR Little Endian",
        lie(Kind.IMPLICIT_ONLY),
        {STORE: "ddddd complete"},
        not_here={
            **_no(FIND, GET, MOVE, SUB, QIDO, WADO, because="not a destination"),
            **_no(STOW, because="DICOMweb has no implicit transfer syntax (PS3.18 8.7.3)"),
        },
    ),
    Row(
        "the destination changes the patient ID",
        lie(Kind.COERCE),
        dict.fromkeys(DESTINATIONS, "ddddd complete"),
        not_here=_no(FIND, GET, MOVE, SUB, QIDO, WADO, because="not a destination"),
    ),
    Row(
        "a truncated list",
        lie(Kind.CAP, 1, Part.FIND),
        {
            **dict.fromkeys(_SEARCH, "ddddd unverifiable"),
            **dict.fromkeys(DESTINATIONS, "ddddd complete"),
        },
        not_here=_no(GET, MOVE, SUB, WADO, because="does not list images"),
    ),
    Row(
        "the broker is unavailable during a hand-over",
        lie(Kind.SLOW),
        not_here={
            **_no(FIND, GET, STORE, QIDO, WADO, STOW, because="needs no broker"),
            **_no(
                MOVE, SUB, because="tested for the hand-over between machines in tests/adit/nodes"
            ),
        },
    ),
)
