"""Each fault with each service: time limit, result of each image, no leaks.

The table is in `matrix.py`; `docs/faults.md` is generated from it.
"""

import ast
import os
from dataclasses import replace
from pathlib import Path

import pytest
from lab import auditor as audits
from lab import receiving
from lab.auditor import Auditor
from lab.leaks import nothing_left, resident_mib
from lab.orders import Bench, Case, images, shelf
from lab.samples import ROOT
from matrix import FIND, GET, MOVE, QIDO, ROWS, STORE, STOW, SUB, WADO, Service, Tried, tried
from page import PAGE, page

from adit_engine.errors import Stopped
from adit_engine.nodes.dimse import association_limits, parallel_retrieve
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.retry import RetryPolicy
from adit_engine.values.outcome import Completeness, InstanceEvent, SeriesOutcome

MOST_MIB = 64.0
SERIES = f"{ROOT}.1.1"
_STEP = int(os.environ.get("ADIT_MATRIX_STEP", "8"))
"""Every so many faults are also tried with several associations; 1: all of them."""
TESTS = Path(__file__).parents[1]

_IN_PARALLEL = [cell for cell in tried() if cell.service in (GET, MOVE, SUB, STORE)][::_STEP]


@pytest.mark.parametrize("cell", list(tried()), ids=lambda cell: cell.name)
def test_a_fault_ends_in_time_with_the_expected_result_of_each_image(
    cell: Tried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy.__init__, "__defaults__", ((0.05, 0.05),))
    everything = [one for one in images() if one.in_header.ref.study_uid == f"{ROOT}.1"]
    order = order_of(cell)
    before_mib = resident_mib()
    with nothing_left(), receiving.receiving(tmp_path) as received:
        bench = Bench(tmp_path / "runs", received, shelf(tmp_path / "source", everything))
        bench.run(order)
        assert received.spool.tokens() == []

    assert came(order) == cell.comes.text
    assert not isinstance(order.errors[0], Stopped), "its own time limits did not end the attempt"
    assert resident_mib() - before_mib < MOST_MIB
    for lie in (*cell.plan.lies, *cell.plan.keeper_lies)[:1]:
        assert order.faults[lie.kind.value], "the fault did not occur"
    auditor = Auditor()
    truth = audits.expectations(everything, order.order.study, order.change)
    auditor.audit(truth, order.ledger, order.kept, order.sent)
    assert auditor.found == []
    assert_the_next_attempt_heals(order)


@pytest.mark.parametrize("cell", _IN_PARALLEL, ids=lambda cell: cell.name)
def test_a_fault_with_four_associations_neither_misroutes_nor_repeats_an_image(
    cell: Tried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy.__init__, "__defaults__", ((0.05, 0.05),))
    monkeypatch.setattr(parallel_retrieve, "MIN_BLOCK", 1)
    monkeypatch.setattr(parallel_retrieve, "MIN_SHARED_IMAGES", 2)
    monkeypatch.setattr(association_limits, "SINGLE_IMAGES", 1)
    everything = [one for one in images() if one.in_header.ref.study_uid == f"{ROOT}.1"]
    order = replace(order_of(cell), associations=4)
    with nothing_left(), receiving.receiving(tmp_path) as received:
        bench = Bench(tmp_path / "runs", received, shelf(tmp_path / "source", everything))
        bench.run(order)
        assert received.spool.tokens() == []

    assert not isinstance(order.errors[0], Stopped), "its own time limits did not end the attempt"
    auditor = Auditor()
    truth = audits.expectations(everything, order.order.study, order.change)
    auditor.audit(truth, order.ledger, order.kept, order.sent)
    assert auditor.found == []
    assert_the_next_attempt_heals(order)


def order_of(cell: Tried) -> Case:
    route = {MOVE: "move", SUB: "move", QIDO: "web", WADO: "web"}.get(cell.service, "get")
    keeper = {FIND: "folder", QIDO: "folder", STOW: "web", STORE: "dimse"}
    healing = type(cell.plan)()
    plans = [cell.plan, healing]
    kept_by = keeper.get(cell.service, "dimse")
    return Case(1, "1", route, kept_by, AsIs(), plans, cell.sends_move_originator)


def came(order: Case) -> str:
    """Return the result of the first attempt in the notation of the table."""
    ends, verdict = dict.fromkeys(range(1, 6), "-"), ""
    for told in order.ledger.attempts[0]:
        if isinstance(told, InstanceEvent) and told.ref.series_uid == SERIES:
            ends[int(told.ref.instance_uid.rpartition(".")[2])] = told.state.value[0]
        elif isinstance(told, SeriesOutcome) and told.ref.series_uid == SERIES:
            verdict = told.completeness.value
    error = type(order.errors[0]).__name__ if order.errors[0] else ""
    return " ".join(filter(None, ("".join(ends.values()), verdict, error)))


def assert_the_next_attempt_heals(order: Case) -> None:
    last = [told for told in order.ledger.attempts[-1] if isinstance(told, SeriesOutcome)]
    assert order.errors[-1] is None
    assert [outcome.completeness for outcome in last] == [Completeness.COMPLETE] * 2


# The table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_each_cell_is_tested_here_or_elsewhere_or_cannot_occur(row) -> None:  # type: ignore[no-untyped-def]
    places = [*row.comes, *row.elsewhere, *row.not_here]

    assert sorted(places) == sorted(Service)


def test_each_referenced_test_exists() -> None:
    for row in ROWS:
        for named in row.elsewhere.values():
            path, _, name = named.partition("::")
            tree = ast.parse((TESTS / path).read_text())
            assert any(isinstance(one, ast.FunctionDef) and one.name == name for one in tree.body)


def test_the_documentation_page_matches_the_table() -> None:
    assert PAGE.read_text() == page(), "regenerate it: python tests/engine/faults/page.py"
