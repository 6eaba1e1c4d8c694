"""Measure what the look at pixels costs a series of slices: throughput and processor time, off and on.

    .venv-ocr/bin/python -m benchmarks.text_detection

In memory, pseudonymized and verified. The processor time of the detector's process is included; its
start is not.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from adit_engine.dicom_file import part10
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile, TextDetection
from adit_engine.pseudonymize.text_detection.detector import read_cpu_s, shared_detector
from adit_engine.values.instance import Instance
from benchmarks.data import CT, MR, Kind, Study, files

IMAGES = 60
MAX_CPU_S = 1.5


def main() -> None:
    shared_detector().find_text(np.random.default_rng(1).integers(0, 4095, (64, 64), np.uint16))
    for kind in (CT, MR):
        images = list(_make_images(kind))
        _spend(images, TextDetection.OFF)  # fills caches of the process
        off, on = (
            _spend(images, detection)
            for detection in (TextDetection.OFF, TextDetection.IMAGES_AND_SLICES)
        )
        _print_line(kind, off, on)
    shared_detector().close()


def _make_images(kind: Kind) -> Iterator[Instance]:
    """Yield slices of a body that changes three times; noise alone would be taken for text."""
    noise = np.random.default_rng(1)
    y, x = np.mgrid[: kind.rows, : kind.columns] / kind.rows
    for number, parts in enumerate(files(Study(kind, IMAGES))):
        part = number // 20
        waves = np.sin(5 * x + part) * np.cos(4 * y + part)
        body = (np.hypot(x - 0.5, y - 0.5) < 0.42) * (1000 + 60 * waves)
        shown = np.roll(body, number, axis=0) + noise.normal(0, 20, body.shape)
        pixels = shown.round().clip(0, 4095).astype("<u2").tobytes()
        yield part10.parse_file(b"".join(parts)[: -len(pixels)] + pixels)


def _spend(images: list[Instance], detection: TextDetection) -> tuple[float, float]:
    """Return seconds, and seconds of processor time."""
    change = Pseudonymization(
        replace(ConfidentialityProfile.default(), text_detection=detection),
        "BENCH-1", ProjectKey(bytes(32)), None,
        RiskDecision.ACCEPT, RiskDecision.ACCEPT,
    )  # fmt: skip
    outgoing = InstancePseudonymizer(change)
    began = time.perf_counter(), _cpu_s()
    for image in images:
        outgoing.prepare_outgoing(image)
    return time.perf_counter() - began[0], _cpu_s() - began[1]


def _cpu_s() -> float:
    return time.process_time() + read_cpu_s(shared_detector().pid or 0)


def _print_line(kind: Kind, off: tuple[float, float], on: tuple[float, float]) -> None:
    added = on[1] - off[1]
    print(
        f"{IMAGES} {kind.modality}: check of slices off {off[0]:.2f} s, on {on[0]:.2f} s "
        f"(ratio {on[0] / off[0]:.1f}); {added:.2f} s of processor time more "
        f"({'met' if added <= MAX_CPU_S else 'missed'}: at most {MAX_CPU_S} s)"
    )


if __name__ == "__main__":
    main()
