"""Measure the speed and the memory of building an encrypted 7-Zip file, and of reading it.

    python -m benchmarks.packing [IMAGES] [BYTES] [FOLDER]

IMAGES files of BYTES each, in a folder with space for all of them. Prints one line.
"""

import os
import resource
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import part10
from adit_engine.nodes.base import ArchiveRequest, StagedImage
from adit_engine.nodes.sevenzip import ArchiveNode, ArchiveSettings
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.references import InstanceRef

CT = "1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.8.498"
LINKS = 30_000
"""Maximum number of links to one file; after that another file is written."""


def main(images: int = 4000, size: int = 530_000, folder: str = "") -> None:
    with tempfile.TemporaryDirectory(dir=folder or None) as name:
        base = Path(name)
        (base / "out").mkdir()
        gathered = list(_gathered(base / "gathered" / "job-1", images, size))
        settings = ArchiveSettings(
            path=str(base / "out"), staging=str(base / "gathered"), reserve_mb=0
        )
        node = ArchiveNode("Archives", settings)
        node.set_archive_title("job-1")
        bundle = ArchiveRequest("job-1", images, images * size, gathered)
        began, before = time.monotonic(), time.process_time()
        parts = len(node.pack(bundle, "four words and 1 sign!", Stop()))
        wall_s, cpu_s = time.monotonic() - began, time.process_time() - before
    total_mb = images * size / 1e6
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(
        f"{images} images, {total_mb / 1000:.1f} GB, {parts} file(s): {total_mb / cpu_s:.0f} MB for "
        f"each second of a core, {total_mb / wall_s:.0f} MB/s by the clock, at most {peak_mb:.0f} MB"
    )


def _gathered(folder: Path, images: int, size: int):  # type: ignore[no-untyped-def]
    """Return one image under many names, by hard links: the build reads all of them."""
    below = Path("TRIAL", "P-0001", "20240229-101500-abcdef12", "1-CT-THORAX-abcdef12")
    (folder / below).mkdir(parents=True)
    instance = Instance(CT, f"{ROOT}.1", EXPLICIT_LE, b"", (os.urandom(size),))
    digest = sha256(instance.rest[0]).hexdigest()
    first = folder / below / "first.dcm"
    for number in range(images):
        path = folder / below / f"{ROOT}.{10**30 + number}.dcm"
        if number % LINKS:
            os.link(first, path)
        else:
            path.write_bytes(b"".join(map(bytes, part10.file_parts(instance))))
            first = path
        ref = InstanceRef(f"{ROOT}.1", f"{ROOT}.2", path.stem)
        yield StagedImage(ref, str(below / path.name), digest, size)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:4])
