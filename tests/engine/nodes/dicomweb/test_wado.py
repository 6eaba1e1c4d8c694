"""WADO-RS retrieval from a node that misbehaves: no silent loss, no images of other studies."""

import itertools
import threading
from collections.abc import Callable, Iterable
from contextlib import closing

import pytest
from lab import peers, web_peers
from lab.samples import ROOT, ct, file_bytes
from lab.web_peers import (
    BODY,
    CLOSE,
    FILES,
    RESET,
    SERIES,
    STUDY,
    TYPE,
    Liar,
    Request,
    Said,
    answer,
    chunk,
    failed,
    fetch,
    head,
    image_uids,
    related,
    scripted,
    serve_one_series,
)

from adit_engine.bounded_stream import Stop
from adit_engine.errors import (
    ConnectionLost,
    NodeError,
    TimedOut,
)
from adit_engine.messages import Message
from adit_engine.nodes.base import TrafficObserver
from adit_engine.nodes.dicomweb import multipart
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.outcome import Completeness, SeriesOutcome
from adit_engine.values.references import InstanceRef

nothing_left = web_peers.nothing_left


# Retrieval ---------------------------------------------------------------------------------------


def cuts() -> dict[str, list[Said]]:
    part = BODY[: len(BODY) // 2]
    no_end = BODY[: BODY.rindex(b"\r\n--")]
    return {
        "closed within its length": [head(200, TYPE, len(BODY)), part, CLOSE],
        "reset within its length": [head(200, TYPE, len(BODY)), part, RESET],
        "closed within a chunk": [head(200, TYPE), f"{len(BODY):x}\r\n".encode(), part, CLOSE],
        "closed between chunks": [head(200, TYPE), chunk(part), CLOSE],
        "ended between parts": [*answer(200, TYPE, no_end)],
        "ended within a part": [head(200, TYPE), chunk(part), chunk(b"")],
        "until closed, and closed early": [
            f"HTTP/1.1 200 OK\r\nContent-Type: {TYPE}\r\n\r\n".encode(),
            part,
            CLOSE,
        ],
        "broken chunk": [head(200, TYPE), chunk(part), b"xyz\r\n", CLOSE],
    }


@pytest.mark.parametrize("how", cuts())
def test_a_truncated_response_yields_its_complete_images_and_then_raises(how: str) -> None:
    with Liar(scripted(cuts()[how])) as liar, closing(liar.node()) as node:
        came: list[str] = []
        with pytest.raises(
            ConnectionLost, match=r"did not complete|was lost|incomplete or invalid"
        ):
            came.extend(one.instance_uid for one in node.fetch([SERIES]))

    assert came == [f"{ROOT}.1.1.{number}" for number in range(1, len(came) + 1)]
    # A reset may discard data that was sent just before it.
    least = {"ended between parts": 2, "reset within its length": 0}.get(how, 1)
    assert least <= len(came) <= max(least, 1)


def test_a_boundary_other_than_the_declared_one_raises_connection_lost() -> None:
    body = BODY.replace(b"--edge", b"--else")

    error = failed(fetch, scripted(answer(200, TYPE, body)))

    assert type(error) is ConnectionLost


def test_a_multipart_type_without_boundary_raises_connection_lost() -> None:
    error = failed(fetch, scripted(answer(200, "multipart/related", BODY)))

    assert type(error) is ConnectionLost


@pytest.mark.parametrize("step", [b"x", BODY[:20]])
def test_a_response_that_arrives_in_small_pieces_times_out(step: bytes) -> None:
    slow = itertools.chain([head(200, TYPE, len(BODY))], itertools.cycle([step, 0.1]))

    error = failed(fetch, scripted(slow), first_byte_s=1.0, no_progress_s=1.0)

    assert type(error) is TimedOut
    assert "go on" in str(error) or "send an image" in str(error)


def test_a_stall_in_the_middle_of_a_response_times_out() -> None:
    stalled = scripted([head(200, TYPE, len(BODY)), BODY[:700], 99.0])

    error = failed(fetch, stalled, first_byte_s=1.0, no_progress_s=1.0)

    assert type(error) is TimedOut


def test_one_request_cannot_exceed_the_total_time_limit() -> None:
    part = chunk(multipart.make_part_head("edge") + FILES[0])
    steady = itertools.chain([head(200, TYPE)], itertools.cycle([part, 0.1]))

    error = failed(fetch, scripted(steady), total_s=1.0)

    assert type(error) is TimedOut
    assert "exceeded the total time limit" in str(error)


def test_a_slow_consumer_does_not_cause_a_timeout() -> None:
    with (
        Liar(scripted(answer(200, TYPE, BODY))) as liar,
        closing(liar.node(no_progress_s=3.0)) as node,
    ):
        fetched = node.fetch([SERIES])
        next(fetched)
        # Longer than the time limit of the node.
        threading.Event().wait(3.5)

        assert len(list(fetched)) == 2


def test_a_part_that_is_not_dicom_raises_after_the_other_parts() -> None:
    body = related(FILES[0], b"the source failed", FILES[1])
    with Liar(scripted(answer(200, TYPE, body))) as liar, closing(liar.node()) as node:
        fetched = node.fetch([SERIES])

        assert [next(fetched).instance_uid for _ in range(2)] == [f"{ROOT}.1.1.1", f"{ROOT}.1.1.2"]
        with pytest.raises(ConnectionLost, match="1 part that is not DICOM"):
            next(fetched)

        single = InstanceRef(SERIES.study_uid, SERIES.series_uid, f"{ROOT}.1.1.9")
        liar._say = scripted(answer(200, TYPE, related(b"junk")))
        (faulty,) = node.fetch([single])
        assert faulty.instance_uid == single.instance_uid
        assert faulty.defect == Message("dicom-file.no-prefix")


def test_a_response_with_a_single_file_is_accepted_only_if_complete() -> None:
    kind = "application/dicom"
    no_pixels = FILES[0][: -12 - len(ct().PixelData)]
    whole = answer(200, kind, FILES[0])
    cut: list[Said] = [head(200, kind, len(FILES[0])), no_pixels, CLOSE]
    endless: list[Said] = [f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode(), no_pixels]
    with Liar(scripted(whole, cut, [*endless, CLOSE])) as liar, closing(liar.node()) as node:
        assert len(fetch(node)) == 1
        with pytest.raises(
            ConnectionLost, match=r"did not complete|was lost|incomplete or invalid"
        ):
            fetch(node)
        with pytest.raises(ConnectionLost, match="without its length"):
            fetch(node)


def test_the_transfer_syntax_parameter_is_omitted_after_status_406() -> None:
    def say(request: Request) -> Iterable[Said]:
        return answer(406) if "*" in request.headers["accept"] else answer(200, TYPE, BODY)

    with Liar(say) as liar, closing(liar.node()) as node:
        assert len(fetch(node)) == 3
        assert len(fetch(node)) == 3

    assert len(liar.requests) == 3


def test_closing_a_retrieval_early_closes_the_connection() -> None:
    endless = itertools.chain(
        [head(200, TYPE)], itertools.repeat(chunk(b"\r\n--edge\r\n\r\n" + FILES[0]))
    )
    with Liar(scripted(endless)) as liar, closing(liar.node()) as node:
        fetched = node.fetch([SERIES])
        next(fetched)
        fetched.close()  # type: ignore[attr-defined]
        peers.wait_until(lambda: liar._open[0].fileno() < 0, "the peer sees the end")


# Whole transfers -----------------------------------------------------------------------------------


def transferred(
    say: Callable[[Request], Iterable[Said]],
) -> tuple[SeriesOutcome, dict[str, object]]:
    destination = MemoryNode("B", MemorySettings())
    destination.held = {}
    with Liar(say) as liar, closing(liar.node()) as node:
        order = StudyRequest(STUDY, "PID-4711-0815")
        told = list(transfer(order, node, destination, AsIs(), {}, Stop()))
    (outcome,) = (one for one in told if isinstance(one, SeriesOutcome))
    return outcome, dict(destination.held)


def test_a_duplicate_image_counts_once() -> None:
    body = related(*FILES, FILES[0])

    outcome, held = transferred(serve_one_series(lambda request: answer(200, TYPE, body)))

    assert outcome.completeness is Completeness.COMPLETE
    assert outcome.delivered == len(held) == 3


def test_an_image_of_another_study_is_not_delivered() -> None:
    body = related(*FILES, file_bytes(ct(1, study="2")))

    outcome, held = transferred(serve_one_series(lambda request: answer(200, TYPE, body)))

    assert outcome.completeness is Completeness.PARTIAL
    assert outcome.delivered == 3
    assert set(held) == set(image_uids(1, 2, 3))
    assert outcome.notes == (Message("series.foreign-object"),)


def test_missing_images_are_requested_one_by_one() -> None:
    def wado(request: Request) -> Iterable[Said]:
        if "/instances/" in request.path:
            return answer(200, TYPE, related(FILES[int(request.path[-1]) - 1]))
        return answer(200, TYPE, related(FILES[0]))

    outcome, held = transferred(serve_one_series(wado))

    assert outcome.completeness is Completeness.COMPLETE
    assert set(held) == set(image_uids(1, 2, 3))


def test_an_image_that_is_never_sent_makes_the_series_partial() -> None:
    outcome, held = transferred(
        serve_one_series(lambda request: answer(200, TYPE, related(*FILES[:2])))
    )

    assert outcome.completeness is Completeness.PARTIAL
    assert set(held) == set(image_uids(1, 2))


# Response times ----------------------------------------------------------------------------------


class Answers(TrafficObserver):
    """Keeps the times until first images."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def retrieval_answered(self, seconds: float) -> None:
        self.seconds.append(seconds)


def test_the_time_until_the_first_image_is_reported_once_per_fetch() -> None:
    answers = Answers()
    slow = [head(200, TYPE, len(BODY)), 0.3, BODY]
    with (
        Liar(scripted(slow, slow, slow)) as liar,
        closing(web_peers.node(liar.port, observer=answers)) as node,
    ):
        assert len(list(node.fetch([SERIES, SERIES]))) == 2 * len(FILES)
        list(node.fetch([SERIES]))

    assert len(answers.seconds) == 2
    assert min(answers.seconds) >= 0.3


@pytest.mark.parametrize("status", [200, 204, 404])
def test_an_answer_to_a_search_for_no_study_is_the_echo_of_a_service(status: int) -> None:
    body = b"[]" if status == 200 else b""
    said = [0.2, *answer(status, "application/dicom+json", body)]
    with Liar(scripted(said)) as liar, closing(liar.node()) as node:
        assert node.measure_echo() >= 0.2

    (request,) = liar.requests
    assert request.path == "/dicom-web/studies?StudyInstanceUID=2.25.1&limit=1"


@pytest.mark.parametrize("status", [500, 401])
def test_a_service_that_refuses_the_search_is_not_measured(status: int) -> None:
    with (
        Liar(scripted(answer(status, "text/plain", b""))) as liar,
        closing(liar.node()) as node,
        pytest.raises(NodeError),
    ):
        node.measure_echo()
