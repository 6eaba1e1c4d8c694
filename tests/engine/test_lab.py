"""A randomised run of mixed faults: nothing is called complete that is not, nothing goes astray.

`ADIT_LAB_RUNS` says how many transfers (40 without), `ADIT_LAB_SEED` repeats a run.
"""

import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import receiving
from lab import auditor as audits
from lab.archive import Kind, Lie, Lying, Sent, holdings
from lab.auditor import Auditor, Kept, Ledger
from lab.wire import Wire
from samples import ROOT, ct, instance

from adit.demo.holdings import Holdings
from adit.demo.services import Site
from adit_engine import part10
from adit_engine.errors import AditError
from adit_engine.handoff import Stop
from adit_engine.instance import Instance
from adit_engine.nodes.dimse import DimseNode, DimseSettings
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.outcome import Outcome, Verdict
from adit_engine.pseudonymize.change import AsIs, Change, Pseudonymized, TrialStamp
from adit_engine.pseudonymize.profile import Profile
from adit_engine.pseudonymize.pseudonym import TrialKey
from adit_engine.reference import StudyRef
from adit_engine.transfer import Order, transfer

RUNS = int(os.environ.get("ADIT_LAB_RUNS", "40"))
SEED = int(os.environ.get("ADIT_LAB_SEED", "0")) or secrets.randbelow(2**31) + 1
AT_A_TIME = 6
ATTEMPTS = 3
TIMES = {
    "connect_s": 1.0,
    "association_s": 1.0,
    "first_byte_s": 1.5,
    "no_progress_s": 1.0,
    "drain_s": 0.6,
}
DEADLINE_S, SPARE_S = 40.0, 5.0
"""A window that ends: then the attempt is stopped, and has to end within the spare seconds."""

SOURCE_LIES = (
    Kind.DROP,
    Kind.TWICE,
    Kind.TWIN,
    Kind.TRUNCATE,
    Kind.FOREIGN,
    Kind.EARLY,
    Kind.COUNTS,
    Kind.ENDLESS,
    Kind.STALL,
    Kind.ABORT,
    Kind.REFUSE,
    Kind.BUSY,
    Kind.CAP,
    Kind.OMIT,
    Kind.NOTHING,
)
KEEPER_LIES = (Kind.FORGET, Kind.COERCE, Kind.NO_ROOM, Kind.STALL, Kind.ABORT, Kind.BUSY)
HARMS = ("delay", "rate", "stall", "trickle", "cut", "reset", "blackhole", "flip")

# Studies 1 and 2 are one patient's, 3 and 4 another's.
PATIENTS = {"1": "PID-4711-0815", "2": "PID-4711-0815", "3": "PID-4711-0816", "4": "PID-4711-0816"}


def images() -> list[Instance]:
    return [
        instance(ct(n, study=study, series=series, PatientID=patient))
        for study, patient in PATIENTS.items()
        for series in ("1", "2")
        for n in range(1, 6)
    ]


def change_for(pseudonym: str) -> Pseudonymized:
    stamp = TrialStamp("University Hospital", "LUNG", "Lung Study")
    return Pseudonymized(Profile.default(), pseudonym, TrialKey(b"k" * 32), stamp)


CHANGES: tuple[Change, ...] = (AsIs(), change_for("LUNG-0001"), change_for("LUNG-0002"))


# What a run consists of -------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One attempt's faults, drawn before it begins."""

    lies: tuple[Lie, ...] = ()
    keeper_lies: tuple[Lie, ...] = ()
    harm: tuple[str, int, bool] | None = None
    keeper_harm: tuple[str, int] | None = None
    stop_after: int | None = None


@dataclass
class Case:
    """One order, and what became of it."""

    number: int
    study: str
    route: str
    keeper: str
    change: Change
    plans: list[Plan]
    names_originator: bool
    ledger: Ledger = field(default_factory=Ledger)
    sent: list[list[Sent]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    errors: list[AditError | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)

    @property
    def order(self) -> Order:
        return Order(StudyRef(f"{ROOT}.{self.study}"), PATIENTS[self.study])


def case(number: int, seed: int) -> Case:
    rng = random.Random(f"{seed}-{number}")
    plans = [_plan(rng) for _ in range(rng.randint(1, ATTEMPTS - 1))]
    return Case(
        number,
        rng.choice(sorted(PATIENTS)),
        rng.choice(("get", "move", "move", "auto")),
        rng.choice(("dimse", "folder")),
        rng.choice(CHANGES),
        [*plans, Plan()],
        rng.random() < 0.6,
    )


def _plan(rng: random.Random) -> Plan:
    kinds = rng.sample(SOURCE_LIES, rng.choice((0, 1, 1, 2, 3)))
    if {Kind.CAP, Kind.OMIT} <= set(kinds):
        kinds.remove(Kind.OMIT)  # a list cut short without any count beside it is beyond proof
    plan = Plan(tuple(Lie(k, rng.randrange(5), rng.choice((1, 1, 2, 99))) for k in kinds))
    if not kinds or rng.random() < 0.25:
        how = rng.choice(HARMS)
        # A flipped bit in an image is beyond what TCP's users can see; in an answer it is not.
        after = rng.randrange(6, 180) if how == "flip" else rng.randrange(12_000)
        plan = replace(plan, harm=(how, after, rng.random() < 0.5))
    if rng.random() < 0.3:
        lie = Lie(rng.choice(KEEPER_LIES), rng.randrange(5), rng.choice((1, 2)))
        plan = replace(plan, keeper_lies=(lie,))
    if rng.random() < 0.15:
        plan = replace(plan, keeper_harm=(rng.choice(("stall", "cut", "reset")), 9000))
    if rng.random() < 0.1:
        plan = replace(plan, stop_after=rng.randrange(6))
    return plan


class Bench:
    """What all orders of a run share: the archive's holdings, and a receiver of ours."""

    def __init__(self, folder: Path, received: receiving.Received, held: Holdings) -> None:
        self.folder = folder
        self.received = received
        self.held = held

    def run(self, one: Case) -> None:
        """All attempts of an order; each goes on from the ledger of those before."""
        base = self.folder / f"{one.number}"
        (base / "scratch").mkdir(parents=True)
        (base / "kept").mkdir()
        for plan in one.plans:
            with ExitStack() as stack:
                self._attempt(one, plan, base, stack)
        one.kept = kept(base / "kept")

    def _attempt(self, one: Case, plan: Plan, base: Path, stack: ExitStack) -> None:
        title = "NAMES" if one.names_originator else "SILENT"
        site = Site(title, self.held, {"ADIT": ("127.0.0.1", self.received.port)})
        archive = stack.enter_context(
            Lying(
                site,
                plan.lies,
                scratch=base / "scratch",
                names_originator=one.names_originator,
            )
        )
        port = archive.port
        wires: list[tuple[str, Wire]] = []
        if plan.harm is not None:
            how, after, heals = plan.harm
            amount = 4000.0 if how == "rate" else 0.05
            wire = stack.enter_context(Wire(port, after, how, amount=amount, heals=heals))
            port, wires = wire.port, [(how, wire)]
        settings = DimseSettings(
            called_ae_title=title, host="127.0.0.1", port=port, retrieve=one.route, **TIMES
        )
        source = DimseNode(title, settings, self.received.reception)
        stack.enter_context(closing(source))
        keeper, log = self._keeper(one, plan, base, stack, wires)
        self._transfer(one, plan, source, keeper)
        source.close()
        one.sent.append(list(archive.log.sent))
        one.faults.update(kind.value for kind in archive.log.lies.elements())
        one.faults.update(kind.value for kind in log.elements())
        one.faults.update(f"wire: {how}" for how, wire in wires if wire.reached.is_set())

    def _keeper(
        self,
        one: Case,
        plan: Plan,
        base: Path,
        stack: ExitStack,
        wires: list[tuple[str, Wire]],
    ) -> tuple[FolderNode | DimseNode, Counter[Kind]]:
        folder = base / "kept"
        if one.keeper == "folder":
            return FolderNode("Research", FolderSettings(path=str(folder), reserve_mb=0)), Counter()
        site = Site("KEEPER", holdings(folder))
        archive = stack.enter_context(Lying(site, plan.keeper_lies, scratch=base / "scratch"))
        port = archive.port
        if plan.keeper_harm is not None:
            how, after = plan.keeper_harm
            wire = stack.enter_context(Wire(port, after, how, forth=True, heals=True))
            port = wire.port
            wires.append((how, wire))
        settings = DimseSettings(called_ae_title="KEEPER", host="127.0.0.1", port=port, **TIMES)
        node = DimseNode("KEEPER", settings)
        stack.enter_context(closing(node))
        return node, archive.log.lies

    def _transfer(
        self, one: Case, plan: Plan, source: DimseNode, keeper: FolderNode | DimseNode
    ) -> None:
        stop = Stop()
        stop.then(source.abort)
        stop.then(keeper.abort)
        window = threading.Timer(DEADLINE_S, stop.set, ("the window has ended",))
        window.start()
        ledger, error, started = one.ledger, None, time.monotonic()
        ledger.begin()
        try:
            held = dict(ledger.manifests)
            for told in transfer(one.order, source, keeper, one.change, held, stop):
                ledger.write(told)
                if plan.stop_after is not None and len(ledger.attempts[-1]) > plan.stop_after:
                    one.faults["stopped"] += not stop.is_set()
                    stop.set("the job was canceled")
        except AditError as raised:
            error = raised
        finally:
            window.cancel()
            window.join()
        one.errors.append(error)
        one.seconds.append(time.monotonic() - started)


def kept(folder: Path) -> dict[str, Kept]:
    """What truly lies in a folder; two files of one UID are two."""
    found: dict[str, Kept] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            one = part10.read(path)
            seen = one.in_header
            name = one.instance_uid if one.instance_uid not in found else str(path)
            found[name] = Kept(one.sha256(), seen.patient_id, seen.ref.study_uid)
    return found


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails when threads or sockets are not back to where they were."""
    threads, before = set(threading.enumerate()), open_sockets()
    yield
    until = time.monotonic() + 10
    while open_sockets() > before or not set(threading.enumerate()) <= threads:
        left = [thread.name for thread in threading.enumerate() if thread not in threads]
        assert time.monotonic() < until, (left, open_sockets(), before)
        time.sleep(0.05)


def open_sockets() -> int:
    links = (Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(str(link.readlink()).startswith("socket:") for link in links if link.is_symlink())


def shelf(folder: Path, sent: Iterable[Instance]) -> Holdings:
    folder.mkdir()
    for one in sent:
        (folder / f"{one.instance_uid}.dcm").write_bytes(b"".join(part10.file_parts(one)))
    return holdings(folder)


# The run ----------------------------------------------------------------------------------------


@pytest.mark.timeout(120 + 6 * RUNS)
def test_in_mixed_faults_nothing_is_called_complete_that_is_not(
    tmp_path: Path, nothing_left: None, capsys: pytest.CaptureFixture[str]
) -> None:
    began, everything = time.monotonic(), images()
    cases = [case(number, SEED) for number in range(RUNS)]
    with receiving.receiving(tmp_path) as received:
        bench = Bench(tmp_path / "runs", received, shelf(tmp_path / "source", everything))
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(bench.run, cases))
        assert received.spool.tokens() == []
    auditor, faults = Auditor(), Counter[str]()
    for one in cases:
        truth = audits.expectations(everything, one.order.study, one.change)
        before = len(auditor.found)
        auditor.audit(truth, one.ledger, one.kept, one.sent)
        if len(auditor.found) > before:
            auditor.found.append(f"... in {one.number}: {one.route} {one.keeper} {one.plans}")
        faults += one.faults
    seconds = [second for one in cases for second in one.seconds]
    with capsys.disabled():
        print(
            f"\nlab: seed {SEED}, {RUNS} orders, {len(seconds)} transfers, {faults.total()} faults "
            f"of {len(faults)} kinds, {auditor.delivered} instances, {auditor.complete} complete, "
            f"{auditor.violations.total()} violations, longest {max(seconds):.1f} s, "
            f"all in {time.monotonic() - began:.0f} s"
        )

    assert not auditor.violations, "\n".join([f"seed {SEED}", *auditor.found])
    assert max(seconds) < DEADLINE_S + SPARE_S, f"seed {SEED}"
    for one in cases:
        assert_delivered_in_the_end(one)


def assert_delivered_in_the_end(one: Case) -> None:
    """The last attempt met no fault: all is delivered, by it or by those before."""
    last = [told for told in one.ledger.attempts[-1] if isinstance(told, Outcome)]
    about = f"seed {SEED}, order {one.number}: {one.plans} {one.errors} {last}"
    assert one.errors[-1] is None, about
    assert [outcome.verdict for outcome in last] == [Verdict.COMPLETE] * 2, about
