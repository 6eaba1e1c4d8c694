"""A randomised run of mixed faults: nothing is called complete that is not, nothing goes astray.

`ADIT_LAB_RUNS` says how many transfers (40 without), `ADIT_LAB_SEED` repeats a run.
"""

import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import receiving
from lab import auditor as audits
from lab.archive import Kind, Lie, Lying, Sent, holdings
from lab.auditor import Auditor, Expected, Kept, Ledger
from lab.wire import HARMS, Wire
from samples import ROOT, ct, instance

from adit.demo.holdings import Holdings
from adit.demo.services import Site
from adit_engine import part10
from adit_engine.errors import AditError
from adit_engine.handoff import Stop
from adit_engine.instance import Instance
from adit_engine.nodes.base import Stored
from adit_engine.nodes.dimse import DimseNode, DimseSettings
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.outcome import Event, Outcome, State, Verdict
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
DEADLINE_S, SPARE_S = 20.0, 5.0
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

# Studies 1 and 2 are one patient's, 3 and 4 another's.
PATIENTS = {"1": "PID-4711-0815", "2": "PID-4711-0815", "3": "PID-4711-0816", "4": "PID-4711-0816"}


def images() -> list[Instance]:
    return [
        instance(ct(n, study=study, series=series, PatientID=patient))
        for study, patient in PATIENTS.items()
        for series in ("1", "2")
        for n in range(1, 6)
    ]


def change_for(trial: str) -> Pseudonymized:
    stamp = TrialStamp("University Hospital", trial, f"{trial} Study")
    key = TrialKey(trial.encode().ljust(32, b"k"))
    return Pseudonymized(Profile.default(), f"{trial}-0001", key, stamp)


CHANGES: tuple[Change, ...] = (AsIs(), change_for("LUNG"), change_for("HEART"))


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
    slowest = max(cases, key=lambda one: max(one.seconds))
    with capsys.disabled():
        print(
            f"\nlab: seed {SEED}, {RUNS} orders, {len(seconds)} transfers, {faults.total()} faults "
            f"of {len(faults)} kinds, {auditor.delivered} instances, {auditor.complete} complete, "
            f"{auditor.violations.total()} violations, longest {max(seconds):.1f} s, "
            f"all in {time.monotonic() - began:.0f} s"
        )
        if os.environ.get("ADIT_LAB_RUNS"):
            for name, count in faults.most_common():
                print(f"{count:6} {name}")
            print(f"slowest: {slowest.route} {slowest.seconds} {slowest.plans} {slowest.errors}")

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


# Trials side by side ----------------------------------------------------------------------------


@pytest.mark.parametrize("names_originator", [True, False])
def test_four_moves_of_overlapping_studies_for_two_trials_lose_and_misroute_nothing(
    tmp_path: Path, nothing_left: None, names_originator: bool
) -> None:
    everything = images()
    pairs = [("1", "LUNG"), ("1", "HEART"), ("2", "LUNG"), ("1", "LUNG")]
    cases = [
        Case(number, study, "move", "folder", change_for(trial), [Plan()], names_originator)
        for number, (study, trial) in enumerate(pairs)
    ]
    with receiving.receiving(tmp_path) as received:
        bench = Bench(tmp_path / "runs", received, shelf(tmp_path / "source", everything))
        with ThreadPoolExecutor(len(cases)) as pool:
            list(pool.map(bench.run, cases))
        assert received.spool.tokens() == []

    for one in cases:
        truth = audits.expectations(everything, one.order.study, one.change)
        auditor = Auditor()
        auditor.audit(truth, one.ledger, one.kept, one.sent)
        assert auditor.found == []
        assert one.kept.keys() == {expected.uid for expected in truth.values()}
        assert_delivered_in_the_end(one)


# The auditor audited ----------------------------------------------------------------------------


@dataclass
class Books:
    """An order that went well, to be doctored."""

    truth: dict[str, Expected]
    ledger: Ledger
    kept: dict[str, Kept]
    sent: list[list[Sent]] = field(default_factory=list)

    def violations(self) -> set[str]:
        auditor = Auditor()
        auditor.audit(self.truth, self.ledger, self.kept, self.sent)
        assert auditor.violations.total() == len(auditor.found)
        return set(auditor.violations)

    @property
    def first(self) -> str:
        return min(self.truth)

    def event(self, uid: str) -> Event:
        return next(
            told
            for told in self.ledger.attempts[-1]
            if isinstance(told, Event)
            and told.ref.instance_uid == uid
            and told.state is State.DELIVERED
        )


def keep_books(tmp_path: Path, change: Change, keeper: type[MemoryNode] = MemoryNode) -> Books:
    source, destination = (
        kind(name, MemorySettings(shelf=f"{tmp_path}/{name}"))
        for kind, name in ((MemoryNode, "A"), (keeper, "B"))
    )
    everything = images()
    source.held.update({one.instance_uid: one for one in everything})
    order, ledger = Order(StudyRef(f"{ROOT}.1"), PATIENTS["1"]), Ledger()
    ledger.begin()
    for told in transfer(order, source, destination, change, {}, Stop()):
        ledger.write(told)
    there = {
        uid: Kept(one.sha256(), one.in_header.patient_id, one.in_header.ref.study_uid)
        for uid, one in destination.held.items()
    }
    for name in "AB":
        del MemoryNode.shelves[f"{tmp_path}/{name}"]
    return Books(audits.expectations(everything, order.study, change), ledger, there)


@pytest.mark.parametrize("change", CHANGES[:2])
def test_good_books_have_no_violation(tmp_path: Path, change: Change) -> None:
    assert keep_books(tmp_path, change).violations() == set()


class Forgets(MemoryNode):
    """Swears that it keeps an image which it has lost."""

    def confirm(self, stored: Sequence[Stored]) -> Iterator[str]:
        del self.held[stored[0].ref.instance_uid]
        return (one.ref.instance_uid for one in stored)


def test_a_destination_that_forgets_and_swears_otherwise_is_found_out(tmp_path: Path) -> None:
    books = keep_books(tmp_path, AsIs(), Forgets)

    assert books.violations() == {audits.NOT_HELD, audits.FALSE_COMPLETE}


def _lose(books: Books) -> None:
    del books.kept[books.truth[books.first].uid]


def _exchange(books: Books) -> None:
    uid = books.truth[books.first].uid
    books.kept[uid] = replace(books.kept[uid], sha256="0" * 64)


def _mix_up_patients(books: Books) -> None:
    uid = books.truth[books.first].uid
    books.kept[uid] = replace(books.kept[uid], patient_id=b"SOMEBODY")


def _misroute(books: Books) -> None:
    books.kept["1.2.3"] = Kept("0" * 64, b"", f"{ROOT}.2")


def _tell_twice(books: Books) -> None:
    books.ledger.write(books.event(books.first))


def _tell_of_others(books: Books) -> None:
    event = books.event(books.first)
    books.ledger.write(replace(event, ref=replace(event.ref, instance_uid="1.2.3")))


def _add_wrongly(books: Books) -> None:
    told = books.ledger.attempts[-1]
    last = told.pop()
    assert isinstance(last, Outcome)
    told.append(replace(last, delivered=last.delivered + 1))


def _forget_a_failure(books: Books) -> None:
    """The outcome stays complete, and the ledger knows better."""
    event = books.event(books.first)
    manifest = books.ledger.manifests[event.ref.series_uid]
    manifest.add(replace(event, state=State.FAILED, code="not-kept"))


def _send_twins(books: Books) -> None:
    contents = ((books.truth[books.first].sha256, None), ("0" * 64, Kind.TWIN))
    books.sent = [[Sent(books.first, digest, kind, 0) for digest, kind in contents]]


@pytest.mark.parametrize(
    ("doctor", "kinds"),
    [
        (_lose, {audits.NOT_HELD, audits.FALSE_COMPLETE}),
        (_exchange, {audits.OTHER_CONTENT}),
        (_mix_up_patients, {audits.FOREIGN}),
        (_misroute, {audits.MISROUTED}),
        (_tell_twice, {audits.TWICE}),
        (_tell_of_others, {audits.UNNAMED, audits.SUMS}),
        (_add_wrongly, {audits.SUMS}),
        (_forget_a_failure, {audits.FALSE_COMPLETE, audits.SUMS}),
        (_send_twins, {audits.TWINS}),
    ],
)
def test_doctored_books_are_found_out(
    tmp_path: Path, doctor: Callable[[Books], None], kinds: set[str]
) -> None:
    books = keep_books(tmp_path, change_for("LUNG"))

    doctor(books)

    assert books.violations() == kinds
