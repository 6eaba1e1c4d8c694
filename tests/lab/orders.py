"""Random orders with faults: drawn from a seed and executed on a bench."""

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adit.demo.pacs_index import FolderIndex
from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import part10
from adit_engine.errors import AditError
from adit_engine.messages import Message
from adit_engine.nodes.dicomweb.node import DicomwebNode, DicomwebSettings
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import (
    AsIs,
    Change,
    ClinicalTrialAttributes,
    Pseudonymization,
)
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import StudyRef
from lab import receiving
from lab.archive import Lying
from lab.auditor import Kept, Ledger
from lab.lies import BREAKS, Kind, Liar, Lie, Part, Sent, Site, holdings
from lab.samples import ROOT, ct, instance
from lab.web import LyingWeb
from lab.wire import HARMS, Wire

ATTEMPTS = 3
TIMES = {"connect_s": 2.0, "first_byte_s": 2.0, "no_progress_s": 2.0}
NEARLINE_TIMES = {**TIMES, "first_byte_s": 8.0}
PATIENT_TIMES = {"connect_s": 20.0, "first_byte_s": 30.0, "no_progress_s": 30.0}
"""For attempts that no time limit has to end, so that a slow machine does not cause a timeout."""
SILENT = frozenset(
    {Kind.STALL, Kind.HALF, Kind.TRICKLE, Kind.HUGE, Kind.ENDLESS, Kind.SLOW}
    | {"stall", "trickle", "blackhole", "delay", "rate"}
)
"""Faults that a time limit ends."""
DRAIN_S = 2.0
DEADLINE_S, SPARE_S = 25.0, 20.0
"""An attempt is stopped at the deadline and must end within the spare seconds."""

SOURCE_LIES = (
    Kind.DROP,
    Kind.TWICE,
    Kind.TWIN,
    Kind.TRUNCATE,
    Kind.FOREIGN,
    Kind.EARLY,
    Kind.COUNTS,
    Kind.ENDLESS,
    Kind.REFUSE,
    Kind.BUSY,
    Kind.CAP,
    Kind.OMIT,
    Kind.NOTHING,
    Kind.NO_STATUS,
    Kind.ADMIT,
    Kind.EXHAUSTED,
    Kind.REJECT,
    Kind.NO_CLASS,
    Kind.PRESENTS,
    Kind.SLOW,
    Kind.OTHER_TITLE,
    *BREAKS,
)
KEEPER_LIES = (
    Kind.FORGET,
    Kind.COERCE,
    Kind.NO_ROOM,
    Kind.DUPLICATE,
    Kind.BUSY,
    Kind.REJECT,
    Kind.NO_CLASS,
    Kind.IMPLICIT_ONLY,
    Kind.NO_STATUS,
    Kind.ENDLESS,
    *BREAKS,
)
COMMIT_LIES = (
    Kind.VOUCH,
    Kind.NOTHING,
    Kind.ADMIT,
    Kind.TWIN,
    Kind.TWICE,
    Kind.OTHER_TITLE,
    Kind.EARLY,
    Kind.OMIT,
    Kind.FOREIGN,
    Kind.BOAST,
    Kind.EXHAUSTED,
    Kind.NO_CLASS,
    *BREAKS,
)
"""Faults of Storage Commitment reports."""
PROOFS = ("find", "commitment", "commitment")
REPORTS = ("asking", "there", "elsewhere")
"""On the association of the request, or on a new one from the same or another address."""
ROUTES = ("get", "get", "move", "move", "auto", "web", "web")
KEEPERS = ("dimse", "dimse", "folder", "web")

# Studies 1 and 2 belong to one patient, 3 and 4 to another.
PATIENTS = {"1": "PID-4711-0815", "2": "PID-4711-0815", "3": "PID-4711-0816", "4": "PID-4711-0816"}

Node = DimseNode | DicomwebNode | FolderNode


def images() -> list[Instance]:
    return [
        instance(ct(n, study=study, series=series, PatientID=patient))
        for study, patient in PATIENTS.items()
        for series in ("1", "2")
        for n in range(1, 6)
    ]


def change_for(project: str) -> Pseudonymization:
    stamp = ClinicalTrialAttributes("University Hospital", project, f"{project} Study")
    key = ProjectKey(project.encode().ljust(32, b"k"))
    return Pseudonymization(ConfidentialityProfile.default(), f"{project}-0001", key, stamp)


CHANGES: tuple[Change, ...] = (AsIs(), change_for("LUNG"), change_for("HEART"))


# Orders and faults ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Harm:
    """A network fault after a number of bytes; see lab.wire."""

    how: str
    after_bytes: int
    heals: bool = False


@dataclass(frozen=True)
class Plan:
    """The faults of one attempt, drawn before it begins."""

    lies: tuple[Lie, ...] = ()
    keeper_lies: tuple[Lie, ...] = ()
    harm: Harm | None = None
    keeper_harm: Harm | None = None
    stop_after: int | None = None
    sends_from: str = ""
    """The local address from which the PACS sends images, if it is a different one."""
    reports: str = "asking"
    spool_is_full: bool = False

    @property
    def commitment_s(self) -> float:
        """Time limit for reports, some of which do not come if there are faults."""
        return 20.0 if replace(self, reports="asking") == Plan() else 2.0

    @property
    def times(self) -> dict[str, float]:
        faults = {lie.kind for lie in (*self.lies, *self.keeper_lies)}
        harms = {one.how for one in (self.harm, self.keeper_harm) if one is not None}
        if not (faults | harms) & SILENT:
            return PATIENT_TIMES
        return NEARLINE_TIMES if any(lie.kind is Kind.SLOW for lie in self.lies) else TIMES


@dataclass
class Case:
    """One order and its results."""

    number: int
    study: str
    route: str
    keeper: str
    change: Change
    plans: list[Plan]
    sends_move_originator: bool = True
    proof: str = "find"
    """How storage in a destination PACS is verified."""
    lists_concurrently: bool = False
    """Whether the source is listed while it is read, as by the command line."""
    associations: int = 1
    """How many associations may be open at once at each PACS."""
    ledger: Ledger = field(default_factory=Ledger)
    sent: list[list[Sent]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    errors: list[AditError | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kept: list[dict[str, Kept]] = field(default_factory=list)
    """What the destination stored after each attempt."""

    @property
    def order(self) -> StudyRequest:
        return StudyRequest(StudyRef(f"{ROOT}.{self.study}"), PATIENTS[self.study])


def case(number: int, seed: int) -> Case:
    rng = random.Random(f"{seed}-{number}")
    route = rng.choice(ROUTES)
    plans = [_plan(rng, route) for _ in range(rng.randint(1, ATTEMPTS - 1))]
    made = Case(
        number,
        rng.choice(sorted(PATIENTS)),
        route,
        rng.choice(KEEPERS),
        rng.choice(CHANGES),
        [*plans, Plan()],
        rng.random() < 0.6,
        lists_concurrently=rng.random() < 0.5,
        associations=rng.choice((1, 4)),
    )
    proof = rng.choice(PROOFS)
    if made.keeper == "dimse" and proof == "commitment":
        return replace(made, proof=proof, plans=[_committed(rng, plan) for plan in made.plans])
    return made


def _committed(rng: random.Random, plan: Plan) -> Plan:
    """Add Storage Commitment reports to the plan; those of the last attempt are correct."""
    if plan == Plan():
        return replace(plan, reports=rng.choice(REPORTS[:2]))
    plan = replace(plan, reports=rng.choice(REPORTS))
    if rng.random() < 0.3:
        return plan
    lie = Lie(rng.choice(COMMIT_LIES), rng.randrange(5), 99, Part.COMMIT)
    lies = (*plan.keeper_lies, lie)
    if lie.kind in (Kind.VOUCH, Kind.BOAST):
        lies = (*lies, Lie(Kind.FORGET, rng.randrange(5), 1, Part.STORE))
    return replace(plan, keeper_lies=lies)


def _plan(rng: random.Random, route: str) -> Plan:
    kinds = rng.sample(SOURCE_LIES, rng.choice((0, 1, 1, 2, 3)))
    if {Kind.CAP, Kind.OMIT} <= set(kinds):
        kinds.remove(Kind.OMIT)  # a capped list without any count cannot be detected
    plan = Plan(tuple(Lie(k, rng.randrange(5), rng.choice((1, 1, 2, 99))) for k in kinds))
    if not kinds or rng.random() < 0.25:
        # A flipped bit in an image cannot be detected over TCP; in the response to an
        # association request it can.
        how = rng.choice(HARMS if route != "web" else [one for one in HARMS if one != "flip"])
        after = rng.randrange(6, 180) if how == "flip" else rng.randrange(12_000)
        plan = replace(plan, harm=Harm(how, after, rng.random() < 0.5))
    if rng.random() < 0.3:
        lie = Lie(rng.choice(KEEPER_LIES), rng.randrange(5), rng.choice((1, 2)))
        plan = replace(plan, keeper_lies=(lie,))
    if rng.random() < 0.15:
        how = rng.choice(("stall", "cut", "reset"))
        plan = replace(plan, keeper_harm=Harm(how, 9000, heals=True))
    if rng.random() < 0.05:
        plan = replace(plan, sends_from="127.0.0.2")
    if rng.random() < 0.1:
        plan = replace(plan, stop_after=rng.randrange(6))
    return plan


# Execution --------------------------------------------------------------------------------------


class Bench:
    """What all orders of a run share: the objects of the PACS and our receiver."""

    def __init__(self, folder: Path, received: receiving.Received, held: FolderIndex) -> None:
        self.folder = folder
        self.received = received
        self.held = held

    def run(self, one: Case) -> None:
        """Execute all attempts of an order; each continues from the previous ledger."""
        base = self.folder / f"{one.number}"
        (base / "scratch").mkdir(parents=True)
        (base / "kept").mkdir()
        for plan in one.plans:
            with ExitStack() as stack:
                _Attempt(self, one, plan, base, stack).run()
            one.kept.append(kept(base / "kept"))


class _Attempt:
    """One attempt of an order, with the servers and network faults of its plan."""

    def __init__(self, bench: Bench, one: Case, plan: Plan, base: Path, stack: ExitStack) -> None:
        self._bench = bench
        self._case = one
        self._plan = plan
        self._base = base
        self._stack = stack
        self._wires: list[tuple[str, Wire]] = []

    def run(self) -> None:
        one = self._case
        self._bench.received.spool.reserve_bytes = 2**60 * self._plan.spool_is_full
        archive, source = self._source()
        keeper, destination = self._keeper()
        self._transfer(source, destination)
        for node in (source, destination):
            getattr(node, "close", lambda: None)()
        one.sent.append(list(archive.log.sent))
        for liar in (archive, keeper):
            if liar is not None:
                one.faults.update(kind.value for kind in liar.log.lies.elements())
        one.faults.update(f"wire: {how}" for how, wire in self._wires if wire.reached.is_set())

    def _source(self) -> tuple[Liar, Node]:
        one, plan, bench = self._case, self._plan, self._bench
        title = "NAMES" if one.sends_move_originator else "SILENT"
        port = bench.received.port
        if self._plan.sends_from:
            wire = Wire(port, sys.maxsize, "delay", source=self._plan.sends_from)
            port = self._stack.enter_context(wire).port
        site = Site(title, bench.held, {"ADIT": ("127.0.0.1", port)})
        scratch = self._base / "scratch"
        names = one.sends_move_originator
        made: Liar = (
            LyingWeb(site, plan.lies, scratch)
            if one.route == "web"
            else Lying(site, plan.lies, scratch=scratch, sends_move_originator=names)
        )
        archive = self._stack.enter_context(made)
        port = self._wired(archive.port, plan.harm, forth=False)
        if one.route == "web":
            return archive, self._web(title, port)
        return archive, self._dimse(title, port, retrieve=one.route)

    def _keeper(self) -> tuple[Liar | None, Node]:
        folder, plan = self._base / "kept", self._plan
        if self._case.keeper == "folder":
            settings = FolderSettings(path=str(folder), reserve_mb=0)
            return None, FolderNode("Research", settings)
        site = Site("KEEPER", holdings(folder), self._report_to())
        scratch = self._base / "scratch"
        is_web = self._case.keeper == "web"
        made: Liar = (
            LyingWeb(site, plan.keeper_lies, scratch)
            if is_web
            else Lying(site, plan.keeper_lies, scratch=scratch)
        )
        keeper = self._stack.enter_context(made)
        port = self._wired(keeper.port, plan.keeper_harm, forth=True)
        if is_web:
            return keeper, self._web("KEEPER", port)
        more = {"proof": self._case.proof, "commitment_s": plan.commitment_s}
        return keeper, self._dimse("KEEPER", port, **more)

    def _report_to(self) -> dict[str, tuple[str, int]]:
        """Return our addresses for reports; if empty, reports use our association."""
        port = self._bench.received.port
        if self._plan.reports == "elsewhere":
            wire = Wire(port, sys.maxsize, "delay", source="127.0.0.2")
            port = self._stack.enter_context(wire).port
        return {} if self._plan.reports == "asking" else {"ADIT": ("127.0.0.1", port)}

    def _wired(self, port: int, harm: Harm | None, *, forth: bool) -> int:
        if harm is None:
            return port
        amount = 4000.0 if harm.how == "rate" else 0.05
        wire = Wire(port, harm.after_bytes, harm.how, amount=amount, forth=forth, heals=harm.heals)
        self._wires.append((harm.how, self._stack.enter_context(wire)))
        return wire.port

    def _dimse(self, title: str, port: int, **more: Any) -> DimseNode:
        times = self._plan.times
        settings = DimseSettings(
            called_ae_title=title,
            host="127.0.0.1",
            port=port,
            association_s=times["connect_s"],
            drain_s=DRAIN_S,
            retrieve_associations=self._case.associations,
            store_associations=self._case.associations,
            **times,
            **more,
        )
        node = DimseNode(title, settings, self._bench.received.reception)
        node.lists_concurrently = self._case.lists_concurrently
        return self._stack.enter_context(closing(node))

    def _web(self, name: str, port: int) -> DicomwebNode:
        url = f"http://127.0.0.1:{port}/"
        node = DicomwebNode(name, DicomwebSettings(url, allow_local=True, **self._plan.times))
        return self._stack.enter_context(closing(node))

    def _transfer(self, source: Node, keeper: Node) -> None:
        one, plan, stop = self._case, self._plan, Stop()
        stop.add_callback(source.abort)
        stop.add_callback(keeper.abort)
        window = threading.Timer(DEADLINE_S, stop.set, (Message("node.stopped", node="A"),))
        window.start()
        ledger, error, started = one.ledger, None, time.monotonic()
        ledger.begin()
        try:
            held = dict(ledger.manifests)
            if one.lists_concurrently:
                list(source.find(Query.study(one.order.study)))
            for told in transfer(one.order, source, keeper, one.change, held, stop):
                ledger.flush(told)
                if plan.stop_after is not None and len(ledger.attempts[-1]) > plan.stop_after:
                    one.faults["stopped"] += not stop.is_set()
                    stop.set(Message("node.stopped", node="A"))
        except AditError as raised:
            error = raised
        finally:
            window.cancel()
            window.join()
        one.errors.append(error)
        one.seconds.append(time.monotonic() - started)


def kept(folder: Path) -> dict[str, Kept]:
    """Return the images in a folder without its content lists, duplicate UIDs separately."""
    found: dict[str, Kept] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith((".", "contents-")):
            one = part10.read_file(path)
            seen = one.in_header
            name = one.instance_uid if one.instance_uid not in found else str(path)
            found[name] = Kept(one.sha256(), seen.patient_id, seen.ref.study_uid)
    return found


def shelf(folder: Path, sent: Iterable[Instance]) -> FolderIndex:
    """Write the instances to a folder and return its index."""
    folder.mkdir()
    for one in sent:
        (folder / f"{one.instance_uid}.dcm").write_bytes(b"".join(part10.file_parts(one)))
    return holdings(folder)
