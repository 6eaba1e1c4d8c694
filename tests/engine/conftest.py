"""Fixtures for the tests of the engine."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from lab import peers
from lab.reaper import reaping

settings.register_profile(
    "slow-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("slow-machine")


@pytest.fixture(scope="session", autouse=True)
def nothing_stays() -> Iterator[None]:
    """End all processes started by the tests, even if the tests are killed."""
    with reaping():
        yield


@pytest.fixture(scope="session")
def _orthancs(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[peers.Orthanc, peers.Orthanc]]:
    if peers.ORTHANC is None:
        pytest.skip("needs Orthanc: apt install orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    with (
        peers.orthanc(folder / "one", "ONE") as one,
        peers.orthanc(folder / "two", "TWO", DefaultEncoding="Utf8") as two,
    ):
        yield one, two


@pytest.fixture
def orthancs(
    _orthancs: tuple[peers.Orthanc, peers.Orthanc],
) -> tuple[peers.Orthanc, peers.Orthanc]:
    """A source and a destination, both empty."""
    for one in _orthancs:
        one.clear()
    return _orthancs


@pytest.fixture
def archive(orthancs: tuple[peers.Orthanc, peers.Orthanc]) -> peers.Orthanc:
    return orthancs[0]


@pytest.fixture
def same_threads() -> Iterator[None]:
    """Fail if the test leaves a thread running."""
    before = set(threading.enumerate())
    yield
    peers.wait_until(lambda: set(threading.enumerate()) <= before, "threads have ended")
