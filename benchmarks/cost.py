"""Measure processor time, memory and growth of the engine, without another tool.

Used by `benchmarks.__main__`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median

from adit_engine.dicom_file import part10
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import load_project_key
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.pseudonymize.rewrite import ElementCache
from adit_engine.pseudonymize.verify.verifier import Verifier
from benchmarks.data import CT, MR, Study, files
from benchmarks.peers import environment
from benchmarks.table import Figure, Promise
from benchmarks.works import PSEUDONYM, Site, transfer_command

_TIMES = 50


@dataclass(frozen=True, slots=True)
class Spent:
    """What one command used."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def in_memory(folder: Path) -> list[Figure]:
    """Return CPU milliseconds for one CT: changed, and changed and verified."""
    key = folder / "memory.key"
    key.write_text("42" * 32)
    change = Pseudonymization(
        ConfidentialityProfile.default(),
        PSEUDONYM,
        load_project_key(key, ""),
        None,
        RiskDecision.ACCEPT,
        RiskDecision.ACCEPT,
    )
    encoded = [b"".join(parts) for parts in files(Study(CT, _TIMES))]
    instances = [part10.parse_file(one) for one in encoded]
    memory = ElementCache(change)
    pairs = [(one, apply(change, one, None, memory)) for one in instances]
    verifier = Verifier(change)
    apply_ms = _each_ms([partial(apply, change, one, None, memory) for one in instances])
    check_ms = _each_ms([partial(verifier.check, *pair) for pair in pairs])
    pydicom_ms = _each_ms([partial(_round_trip, one) for one in encoded])
    data = f"one CT (pydicom round trip: {pydicom_ms:.1f} ms)"
    return [
        Figure("pseudonymize in memory", data, apply_ms, "ms CPU", Promise(1, 0.3)),
        Figure("the same, verified", data, apply_ms + check_ms, "ms CPU", Promise(2, 1)),
    ]


def _round_trip(data: bytes) -> None:
    from pydicom import dcmread, dcmwrite

    dataset = dcmread(BytesIO(data))
    for element in dataset.iterall():
        element.value  # noqa: B018 - decodes the value, as any change by rules would do
    dcmwrite(BytesIO(), dataset)


def _each_ms(calls: Sequence[Callable[[], object]]) -> float:
    """Return the median of five rounds over all calls, in milliseconds per call."""
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for call in calls:
            call()
        rounds.append((time.process_time() - began) * 1000 / len(calls))
    return median(rounds)


def per_instance(site: Site, rounds: int) -> Figure:
    """Measure archive to archive, with the start-up distributed over all instances."""
    spent = [transfer(site) for _ in range(rounds)]
    each_ms = median(one.cpu_s for one in spent) * 1000 / site.study.count
    data = f"{site.study}, start-up shared out"
    return Figure("engine CPU per CT, archive to archive", data, each_ms, "ms", Promise(4, 2))


def growth(
    site_of: Callable[[Study], Site], counts: tuple[int, int, int], place: str = ""
) -> list[Figure]:
    """Measure peak memory of the largest study, and growth of the cost per instance.

    The growth compares large and small studies without the start-up. `place` names a network with
    delays.
    """
    small, middle, large = counts
    spent: dict[int, Spent] = {}
    start_s = 0.0
    for count in (10, *counts):
        site = site_of(Study(MR, count, number=7))
        site.fill()
        runs = [transfer(site) for _ in range(3 if count < large else 1)]
        walls = median(one.wall_s for one in runs)
        cpus = median(one.cpu_s for one in runs)
        spent[count] = Spent(walls, cpus, max(one.memory_mb for one in runs))
    per = (spent[small].cpu_s - spent[10].cpu_s) / (small - 10)
    start_s = spent[10].cpu_s - 10 * per
    wall_start_s = spent[10].wall_s - 10 * (spent[small].wall_s - spent[10].wall_s) / (small - 10)
    each_ms = {n: (one.cpu_s - start_s) * 1000 / n for n, one in spent.items()}
    wall_ms = {n: (one.wall_s - wall_start_s) * 1000 / n for n, one in spent.items()}
    memory = spent[large].memory_mb
    told = ", ".join(f"{n}: {each_ms[n]:.2f}" for n in counts)
    told_wall = ", ".join(f"{n}: {wall_ms[n]:.2f}" for n in counts)
    flat, where = Promise(1.3, 1.05), f", {place}" if place else ""
    cpu, wall = each_ms[large] / each_ms[small], wall_ms[large] / wall_ms[small]
    return [
        Figure("peak memory", f"{large} MR in one study{where}", memory, "MB", Promise(200, 100)),
        Figure("growth of CPU per instance", f"ms for {told}{where}", cpu, "x", flat),
        Figure("growth of time per instance", f"ms for {told_wall}{where}", wall, "x", flat),
    ]


def transfer(site: Site) -> Spent:
    """Run one transfer from archive to archive in a process of its own."""
    site.clean()
    command = [str(Path(sys.executable).with_name("adit-engine")), *transfer_command(site)]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment(options=True), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode or site.destination.count() != site.study.count:
        raise RuntimeError("The transfer did not bring all images.")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
