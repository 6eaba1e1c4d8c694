"""A rule violation ends the transfer promptly, even if the source has stopped sending."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from lab import peers, receiving
from lab.archive import plain_archive
from lab.samples import ROOT, ct, instance
from lab.web_peers import Liar, Request, Said, serve_one_series
from lab.wire import Wire
from pydicom.dataset import Dataset

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import part10
from adit_engine.errors import RuleViolation
from adit_engine.messages import Message
from adit_engine.nodes.dicomweb import multipart
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize import instance_pseudonymizer
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
from adit_engine.values.outcome import InstanceEvent, InstanceState, SeriesOutcome
from adit_engine.values.references import StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

PATIENT = "PID-4711-0815"
STUDY = StudyRef(f"{ROOT}.1")
SILENT_S = 100.0
AT_ONCE_S = 40.0
"""Includes the regular cancellation of a C-MOVE, which may take some seconds."""

STALL_AFTER = 60_000
BODIES = {"connect_s": 30.0, "first_byte_s": SILENT_S, "no_progress_s": SILENT_S}


def large(number: int) -> Dataset:
    one = ct(number)
    one.Rows = one.Columns = 512
    one.PixelData = bytes(512 * 512 * 2)
    return one


def holding(folder: Path, *held: Dataset) -> Path:
    folder.mkdir()
    for one in held:
        made = instance(one)
        path = folder / f"{made.instance_uid}.dcm"
        path.write_bytes(b"".join(part10.file_parts(made)))
    return folder


def run(
    source: Any, change: Change
) -> tuple[list[InstanceEvent], list[SeriesOutcome], Exception | None, float]:
    destination = MemoryNode("B", MemorySettings())
    destination.held = {}
    events, outcomes, error = [], [], None
    started = time.monotonic()
    try:
        for told in transfer(StudyRequest(STUDY, PATIENT), source, destination, change, {}, Stop()):
            events += [told] if isinstance(told, InstanceEvent) else []
            outcomes += [told] if isinstance(told, SeriesOutcome) else []
    except RuleViolation as raised:
        error = raised
    return events, outcomes, error, time.monotonic() - started


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A node of an archive that holds these objects and stalls within the large one."""
    with ExitStack() as stack:

        def made(route: str, *held: Dataset) -> Any:
            folder = holding(tmp_path / "held", *held)
            received = stack.enter_context(receiving.receiving(tmp_path))
            back = Wire(received.port, STALL_AFTER, "stall", forth=True, heals=True)
            port = stack.enter_context(back).port
            archive = plain_archive("DEMO", folder, {"ADIT": ("127.0.0.1", port)})
            stack.enter_context(archive)
            port = archive.port
            if route == "get":
                wire = Wire(archive.port, STALL_AFTER, "stall", heals=True)
                port = stack.enter_context(wire).port
            node = peers.node(port, "DEMO", received.reception, retrieve=route, **BODIES)
            return stack.enter_context(closing(node))

        yield made


@pytest.mark.parametrize("route", ["get", "move"])
def test_an_image_of_another_patient_ends_the_task_of_a_stalled_source(
    stalling: Callable[..., Any], route: str
) -> None:
    node = stalling(route, ct(1), ct(2, PatientID="SOMEBODY-ELSE"), large(3))

    events, _, error, seconds = run(node, AsIs())

    assert isinstance(error, RuleViolation)
    assert seconds < AT_ONCE_S
    ends = {
        one.ref.instance_uid[-1]: one.reason for one in events if one.state is InstanceState.FAILED
    }
    broken = Message("rule-broken", error=Message("study.second-patient"))
    assert ends == {"2": broken, "3": broken}


@pytest.mark.parametrize("route", ["get", "move"])
def test_a_verification_hit_ends_a_stalled_series_and_the_next_is_delivered(
    stalling: Callable[..., Any], route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = instance_pseudonymizer.apply

    def leaky(change: Change, one: Instance, *others: object) -> Instance:
        return one if one.instance_uid.endswith(".1.2") else real(change, one)

    monkeypatch.setattr(instance_pseudonymizer, "apply", leaky)
    node = stalling(route, ct(1), ct(2), large(3), *(ct(n, series="2") for n in (1, 2)))
    stamp = ClinicalTrialAttributes("University Hospital", "LUNG", "Lung Study")
    change = Pseudonymization(
        ConfidentialityProfile.default(), "LUNG-0001", ProjectKey(b"k" * 32), stamp
    )

    _, outcomes, error, seconds = run(node, change)

    assert error is None
    assert seconds < AT_ONCE_S
    sums = {one.ref.series_uid[-1]: (one.delivered, one.withheld) for one in outcomes}
    assert sums == {"1": (1, 2), "2": (2, 0)}


def test_a_stalled_dicomweb_retrieval_can_be_broken_off_and_repeated() -> None:
    files = [b"".join(part10.file_parts(instance(one))) for one in (ct(1), ct(2, PatientID="X"))]

    def wado(request: Request) -> Iterator[Said]:
        kind = multipart.content_type("edge")
        yield f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode()
        for one in files:
            yield multipart.make_part_head("edge") + one
        yield multipart.make_part_head("edge")
        yield SILENT_S

    with Liar(serve_one_series(wado)) as liar, closing(liar.node(**BODIES)) as node:
        _, _, error, seconds = run(node, AsIs())

        assert isinstance(error, RuleViolation)
        assert seconds < AT_ONCE_S
        with pytest.raises(RuleViolation):
            for _ in transfer(StudyRequest(STUDY, "PID-4711-0815"), node, *_nowhere()):
                pass


def _nowhere() -> tuple[Any, ...]:
    destination = MemoryNode("B", MemorySettings())
    destination.held = {}
    return destination, AsIs(), {}, Stop()
