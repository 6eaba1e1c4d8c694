"""What the engine's tests share: made-up objects, found by name from any folder below."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.reaper import reaping

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))  # for the lab


@pytest.fixture(scope="session", autouse=True)
def nothing_stays() -> Iterator[None]:
    """What the tests start ends with them, even if they are killed."""
    with reaping():
        yield
