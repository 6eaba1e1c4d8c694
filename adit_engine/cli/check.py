"""The subcommands `check` and `sheet`: test a node, and print what its administrator needs."""

import argparse
import json
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from adit_engine.cli import node_url
from adit_engine.errors import AditError, NotSupported, Stopped
from adit_engine.messages import Message
from adit_engine.nodes import kind_class
from adit_engine.nodes.base import Grade, NodeFinding, SupportsParallelTest, SupportsTestTransfer
from adit_engine.nodes.diagnostics.parallel_probe import COUNTS
from adit_engine.storage_scp.pending_moves import MoveReceiver
from adit_engine.values.references import StudyRef

CHECK_TIMEOUT_S = 60.0
NEWEST_STUDY = "newest"

_GRADE_LABELS = {Grade.GOOD: "good", Grade.WARNING: "WARN", Grade.BAD: "BAD "}


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="NODE", help="dimse://CALLED@host:port?calling=ADIT, …")
    parser.add_argument(
        "--fetch",
        metavar="STUDY",
        help="fetch one image of this study by each available method; newest: of a recent study",
    )
    parser.add_argument(
        "--write", action="store_true", help="send an artificial test image, or write a test file"
    )
    parser.add_argument(
        "--within",
        type=float,
        default=CHECK_TIMEOUT_S,
        metavar="SECONDS",
        help="time limit of the check and of each fetch (60)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")


def add_sheet_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", help="dimse://CALLED@host:port?calling=ADIT, …")
    parser.add_argument(
        "--address", default="", help="address of this computer, as the node sees it"
    )
    parser.add_argument(
        "--receiver", type=int, metavar="PORT", help="port on which this computer receives images"
    )
    parser.add_argument("--receiver-tls", action="store_true", help="receive images only by TLS")


def check_node(options: argparse.Namespace, reception: MoveReceiver | None) -> bool:
    """Print findings as they come; return whether no problem was found."""
    findings = []
    for finding in _findings(options, reception):
        findings.append(finding)
        if not options.json:
            print("\n".join(_format_finding(finding)), flush=True)
    if options.json:
        print(json.dumps([_finding_to_json(finding) for finding in findings]))
    return not any(finding.grade is Grade.BAD for finding in findings)


def write_sheet(options: argparse.Namespace) -> None:
    from adit_engine import (
        registration_sheet,  # knows all services, which other commands need not load
    )

    kind, name, values = node_url.parse_url(options.node)
    given = kind_class(kind).Settings(**values)
    host, port = getattr(given, "host", ""), getattr(given, "port", 0)
    us = registration_sheet.LocalApplication(
        getattr(given, "calling_ae_title", ""),
        options.address or (registration_sheet.find_own_address(host, port) if host else ""),
        options.receiver,
        options.receiver_tls,
    )
    print(
        registration_sheet.format_sheet(
            f"ADIT and {name}", registration_sheet.build_sheet(kind, given, us)
        )
    )


def _findings(options: argparse.Namespace, reception: MoveReceiver | None) -> Iterator[NodeFinding]:
    with node_url.open_url(options.source, reception=reception) as node:
        yield from _check_with_timeout(node, options.within)
    if not (options.fetch or options.write):
        return
    with node_url.open_url(options.source, reception=reception) as node:
        if not isinstance(node, SupportsTestTransfer):
            raise NotSupported(node.name, "cli.no-test-transfer")
        if options.fetch:
            yield from _test_fetch(node, options)
        if options.write:
            yield from node.try_writing()


def _check_with_timeout(node: Any, within_s: float) -> Iterator[NodeFinding]:
    """Yield the findings of the plain check; a node that does not answer ends it at the timeout."""
    over = threading.Event()

    def end() -> None:
        over.set()
        node.abort()

    timer = threading.Timer(within_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield from node.check()
    except Stopped:
        if not over.is_set():
            raise
        what = Message("cli.check-timed-out", node=node.name, seconds=f"{within_s:g}")
        yield NodeFinding(Grade.BAD, what, Message("cli.try-later"))
    finally:
        timer.cancel()


def _test_fetch(node: Any, options: argparse.Namespace) -> Iterable[NodeFinding]:
    from adit_engine.nodes.diagnostics.sample_series import (
        choose_image,  # needed by no other subcommand
    )

    study = None if options.fetch == NEWEST_STUDY else StudyRef(options.fetch)
    try:
        image, patient_id = choose_image(node, study)
    except AditError as error:
        return [NodeFinding(Grade.BAD, error.message)]
    findings: Iterable[NodeFinding] = node.try_fetching(
        image, within_s=options.within, patient_id=patient_id
    )
    if not isinstance(node, SupportsParallelTest):
        return findings
    more = node.measure_fetching(
        image, most=max(COUNTS), within_s=options.within, patient_id=patient_id
    )
    return chain(findings, more)


def _finding_to_json(finding: NodeFinding) -> dict[str, Any]:
    return {
        "grade": finding.grade,
        "what": finding.what.to_report(),
        "next_step": None if finding.next_step is None else finding.next_step.to_report(),
        "proposals": [
            {"setting": one.setting, "value": one.value, "why": one.reason.to_report()}
            for one in finding.proposals
        ],
    }


def _format_finding(finding: NodeFinding) -> Iterator[str]:
    yield f"{_GRADE_LABELS[finding.grade]}  {finding.what}"
    if finding.next_step is not None:
        yield f"      -> {finding.next_step}"
    for one in finding.proposals:
        yield f"      => {one.setting} = {one.value}   ({one.reason})"
