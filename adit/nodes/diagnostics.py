"""Test nodes within a web request, store the findings, and adopt proposed settings.

Used by the pages of nodes. Each test has a deadline.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import AnyUser, NotPermitted, Right, require
from adit.audit.trail import record
from adit.nodes import services
from adit.nodes.bounded_call import CallGuard, run_bounded
from adit.nodes.forms import get_settings_form_class, is_secret
from adit.nodes.gateway import Purpose, lend_connections, open_node, require_still_available
from adit.nodes.limits import breaker
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.nodes.models import Node, NodeTestResult
from adit.nodes.search import acquire_search_thread
from adit_engine.errors import InvalidInput, NodeError, NotFound, TimedOut
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    Grade,
    NodeFinding,
    SettingProposal,
    SupportsParallelTest,
    SupportsTestTransfer,
)
from adit_engine.nodes.diagnostics.parallel_probe import COUNTS
from adit_engine.nodes.diagnostics.sample_series import choose_image
from adit_engine.values.references import StudyRef

CANCEL_GRACE_S = 15
"""Extra time to cancel a C-MOVE in an orderly way and to wait for late images."""

MEASURED_WITHIN_S = 20.0
"""Time to compare numbers of connections."""

_WORST_FIRST = (Grade.BAD, Grade.WARNING, Grade.GOOD)
_Kind = NodeTestResult.TestKind

RunTest = Callable[[Any], Iterable[NodeFinding]]


@dataclass(frozen=True, slots=True)
class FindingLine:
    """One finding and its proposals that were not adopted yet, each with the label of its field."""

    finding: NodeFinding
    proposals: list[tuple[str, SettingProposal]]


@dataclass(frozen=True, slots=True)
class NodeTestReport:
    """The findings of the last test of one kind."""

    check: NodeTestResult
    lines: list[FindingLine]

    @property
    def problems(self) -> list[FindingLine]:
        """Findings that need attention: problems, and settings that could be better."""
        return [line for line in self.lines if not _needs_no_action(line)]

    @property
    def passed(self) -> list[FindingLine]:
        return [line for line in self.lines if _needs_no_action(line)]

    @property
    def is_passed(self) -> bool:
        return bool(self.lines) and all(line.finding.grade is not Grade.BAD for line in self.lines)

    @property
    def tested_by(self) -> str:
        by = self.check.by
        return (by.get_full_name() or by.get_username()) if by is not None else "–"


def _needs_no_action(line: FindingLine) -> bool:
    return line.finding.grade is Grade.GOOD and not line.proposals


def check_node(user: AnyUser, node: Node) -> list[NodeFinding]:
    """Test the node, for users who manage it or may fetch from it.

    Errors of the node, and a timeout, are findings. Raise NotPermitted, NodeUnavailable.
    """
    return _run_and_store(user, node, _Kind.PLAIN, lambda opened: opened.check())


def try_fetching(user: AnyUser, node: Node, study: StudyRef | None) -> list[NodeFinding]:
    """Fetch one image of the study, or of a recent one, by each retrieval method.

    Raise NotPermitted, NodeUnavailable.
    """
    require(user, Right.MANAGE_NODES)

    def ask(opened: Any) -> Iterator[NodeFinding]:
        if not isinstance(opened, SupportsTestTransfer):
            yield NodeFinding(Grade.WARNING, Message("node-test.not-possible"))
            return
        image, patient_id = choose_image(opened, study)
        within_s = settings.SEARCH_DEADLINE_S
        yield from opened.try_fetching(image, within_s=within_s, patient_id=patient_id)
        if isinstance(opened, SupportsParallelTest):
            with lend_connections(user, node, max(COUNTS)) as most:
                yield from opened.measure_fetching(
                    image, most=most, within_s=MEASURED_WITHIN_S, patient_id=patient_id
                )

    return _run_and_store(user, node, _Kind.FETCH, ask)


def try_writing(user: AnyUser, node: Node) -> list[NodeFinding]:
    """Send a synthetic image, or write a file and delete it.

    Raise NotPermitted, NodeUnavailable.
    """
    require(user, Right.MANAGE_NODES)
    if node.is_clinical:
        require(user, Right.WRITE_CLINICAL)

    def ask(opened: Any) -> Iterable[NodeFinding]:
        if isinstance(opened, SupportsTestTransfer):
            return opened.try_writing()
        return [NodeFinding(Grade.WARNING, Message("node-test.not-possible"))]

    return _run_and_store(user, node, _Kind.WRITE, ask)


def measure_sending(user: AnyUser, node: Node) -> list[NodeFinding]:
    """Send synthetic images over one, two and four connections, and compare.

    A clinical PACS and a source only are never measured: the images stay there.

    Raise NotPermitted, NodeUnavailable.
    """
    require(user, Right.MANAGE_NODES)
    if node.is_clinical or not node.takes_images:
        raise NotPermitted("node-test.not-measured", node=node.name)

    def ask(opened: Any) -> Iterator[NodeFinding]:
        if not isinstance(opened, SupportsParallelTest):
            yield NodeFinding(Grade.WARNING, Message("node-test.not-possible"))
            return
        with lend_connections(user, node, max(COUNTS), Purpose.STORE) as most:
            yield from opened.measure_storing(most=most, within_s=MEASURED_WITHIN_S)

    return _run_and_store(user, node, _Kind.WRITE, ask)


def get_last_reports(node: Node, *, manages: bool) -> list[NodeTestReport]:
    """Return the reports of the last tests. Fetch and write tests are for managers only."""
    held = node.test_results.select_related("by").order_by("pk")
    mine = held if manages else held.filter(kind=_Kind.PLAIN)
    return [
        NodeTestReport(one, [_make_line(finding, node) for finding in one.findings]) for one in mine
    ]


def adopt_proposal(user: User, node: Node, setting: str, value: str) -> SettingProposal:
    """Save a setting that a test proposed, as the form of the node would.

    Raise NotPermitted, NotFound, InvalidInput.
    """
    require(user, Right.MANAGE_NODES)
    lines = (line for told in get_last_reports(node, manages=True) for line in told.lines)
    proposals = (proposal for line in lines for _label, proposal in line.proposals)
    meant = (one for one in proposals if (one.setting, str(one.value)) == (setting, value))
    proposal = next(meant, None)
    if proposal is None:
        raise NotFound("node-test.proposal-outdated")
    field = get_settings_form_class(node.kind).base_fields.get(proposal.setting)
    if field is None or is_secret(field):
        raise InvalidInput("node-test.setting-unknown", node=node.name, setting=proposal.setting)
    node.settings = {**node.settings, proposal.setting: proposal.value}
    services.save_node(user, node)
    return proposal


def get_setting_label(node: Node, proposal: SettingProposal) -> str:
    """Return the label of the setting in the form of the node."""
    field = get_settings_form_class(node.kind).base_fields.get(proposal.setting)
    return str(field.label) if field is not None else proposal.setting


# Running a test -----------------------------------------------------------------------------------


class _TestGuard(CallGuard):
    def check(self, node: str) -> None:
        if time.monotonic() > self.deadline:
            raise TimedOut(node, "node-test.too-slow")


def _run_and_store(
    user: AnyUser, node: Node, kind: NodeTestResult.TestKind, ask: RunTest
) -> list[NodeFinding]:
    findings = _collect_findings(user, node, kind, ask)
    grades = {finding.grade for finding in findings}
    worst = next((grade for grade in _WORST_FIRST if grade in grades), Grade.WARNING)
    values = {
        "at": timezone.now(),
        "by_id": user.pk,
        "findings": [finding.to_json() for finding in findings],
    }
    NodeTestResult.objects.update_or_create(node=node, kind=kind, defaults=values)
    if worst is not Grade.BAD:
        breaker.record_answer(node)
    details = {"node": node.name, "test": kind.value, "worst": worst.value}
    record("node.checked", user=user, about=f"node:{node.pk}", details=details)
    return findings


def _collect_findings(
    user: AnyUser, node: Node, kind: NodeTestResult.TestKind, ask: RunTest
) -> list[NodeFinding]:
    """Return the findings; those before the deadline are kept."""
    findings: list[NodeFinding] = []

    def gather(stop: threading.Event) -> None:
        for finding in ask(opened):
            if stop.is_set():
                return
            findings.append(finding)

    until = time.monotonic() + _get_time_limit_s(kind)
    holder = f"check:{secrets.token_hex(8)}"
    try:
        with (
            acquire_search_thread(node),
            open_node(user, node, Purpose.CHECK, holder=holder) as opened,
        ):
            require = partial(require_still_available, node, Purpose.CHECK, holder)
            run_bounded(opened, gather, _TestGuard(until, lambda: False, require))
    except NodeUnavailable:
        raise
    except (NodeError, NotFound, InvalidInput) as error:
        findings = [*findings, NodeFinding(Grade.BAD, error.message)]
    return findings


def _get_time_limit_s(kind: NodeTestResult.TestKind) -> float:
    """A fetch test may try two methods, each with its own limit."""
    ways = 2 if kind is _Kind.FETCH else 1
    more_s = CANCEL_GRACE_S + MEASURED_WITHIN_S if kind is _Kind.FETCH else 0
    return ways * settings.SEARCH_DEADLINE_S + more_s


def _make_line(kept: dict[str, Any], node: Node) -> FindingLine:
    fields = get_settings_form_class(node.kind).base_fields
    finding = NodeFinding.from_json(kept)
    still = [
        (str(fields[one.setting].label), one)
        for one in finding.proposals
        if one.setting in fields
        and node.settings.get(one.setting, fields[one.setting].initial) != one.value
    ]
    return FindingLine(finding, still)
