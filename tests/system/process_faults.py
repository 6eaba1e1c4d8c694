"""Kill, freeze or restart processes at random times."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

FROZEN_S = 8.0
"""Seconds; longer than a lease in the tests."""

Harm = Callable[[], None]


@dataclass
class ProcessFaults:
    """Faults by name; `meanwhile` runs between them (restarts, new orders)."""

    harms: Mapping[str, Harm]
    meanwhile: Callable[[], None]
    rng: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def do(self, kills: int) -> None:
        for _ in range(kills):
            self._rest(self.rng.uniform(0.2, 2.0))
            name = self.rng.choice(sorted(self.harms))
            self.harms[name]()
            self.done[name] += 1

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.meanwhile()
            time.sleep(0.1)


def frozen(signals: Callable[[signal.Signals], None]) -> Harm:
    """Stop a process for longer than its lease, then continue it."""

    def freeze() -> None:
        signals(signal.SIGSTOP)
        try:
            time.sleep(FROZEN_S)
        finally:
            signals(signal.SIGCONT)

    return freeze
