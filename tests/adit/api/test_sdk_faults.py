"""adit_sdk before a server that is slow, and with parts of an earlier download."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from adit_sdk import Client, ServiceUnavailable, Study
from adit_sdk.connection import MAX_PROGRESS_WAIT_S
from adit_sdk.download import download_archives
from adit_sdk.job import Job

URL = "https://adit.example.org"
STUDY = Study("PACS1", "1.2.3", "PID-1")
BUSY = {"code": "api.request-in-progress", "detail": "A request is being processed."}

Answer = Callable[[httpx.Request], httpx.Response]


class Clock:
    """The time since the beginning, which passes by sleeping."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], Client]:
    """Return a client whose requests are answered by a function."""
    real = httpx.Client

    def make(answer: Answer) -> Client:
        transport = httpx.MockTransport(answer)
        monkeypatch.setattr(httpx, "Client", lambda **given: real(transport=transport))
        return Client(URL, "adit_token", sleep=clock.sleep)

    return make


def busy() -> httpx.Response:
    return httpx.Response(409, headers={"Retry-After": "1"}, json=BUSY)


def test_an_order_that_takes_minutes_is_waited_for_and_makes_one_job(
    connect: Callable[[Answer], Client], clock: Clock
) -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadTimeout("no answer", request=request)
        return httpx.Response(201, json={"id": 7}) if clock.now > 240 else busy()

    job = connect(answer).transfer([STUDY], "RESEARCH")

    assert job.id == 7
    assert len(set(keys)) == 1


def test_an_order_that_is_never_answered_is_no_refusal_and_can_be_repeated(
    connect: Callable[[Answer], Client], clock: Clock
) -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        return busy()

    client = connect(answer)
    with pytest.raises(ServiceUnavailable) as first:
        client.transfer([STUDY], "RESEARCH")
    with pytest.raises(ServiceUnavailable):
        client.transfer([STUDY], "RESEARCH", idempotency_key=first.value.idempotency_key)

    assert set(keys) == {first.value.idempotency_key}
    assert keys[0] in str(first.value)
    assert 600 <= clock.now / 2 <= MAX_PROGRESS_WAIT_S


@pytest.mark.parametrize("size", [5, 9])
def test_a_part_that_is_no_beginning_of_the_file_is_downloaded_again(
    size: int, connect: Callable[[Answer], Client], tmp_path: Path
) -> None:
    values = {"id": 7, "archives": [{"id": 1, "name": "a.7z", "bytes": 5}]}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/jobs/7"):
            return httpx.Response(200, json=values)
        return httpx.Response(416 if "Range" in request.headers else 200, content=b"7-Zip")

    (tmp_path / ".a.7z.part").write_bytes(b"x" * size)
    (tmp_path / ".a.7z.etag").write_text('"1"')
    connection = connect(answer)._connection

    download_archives(connection, Job(connection, values), tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["a.7z"]
    assert (tmp_path / "a.7z").read_bytes() == b"7-Zip"
