"""Time what viewers ask for, from the viewing cache, before an archive that only speaks DIMSE.

    .venv/bin/python -m benchmarks.viewers [IMAGES]

The series is fetched before; times are those of whole requests over one connection.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx

from benchmarks import peers
from benchmarks.data import CT, Study
from benchmarks.dicomweb import _fill, _make_site, _serving
from benchmarks.query_field import _installed

FRAMES = 100


def main(images: int) -> None:
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        archive = stack.enter_context(peers.orthanc("BENCH", base / "orthanc", options=True))
        study = Study(CT, images)
        _fill(archive, study, base)
        _installed(base / "data")
        token = _make_site(archive)
        server = stack.enter_context(_serving(base))
        client = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{server.port}/api/dicom-web/BENCH",
                headers={"Authorization": f"Token {token}"},
                timeout=120,
            )
        )
        series = f"/wadors/studies/{study.uid}/series/{study.series_uids[0]}"

        def get(path: str) -> httpx.Response:
            return client.get(path).raise_for_status()

        headers = get(f"{series}/metadata").json()
        uids = [one["00080018"]["Value"][0] for one in headers[:FRAMES]]
        _report("metadata of a cached series", [lambda: get(f"{series}/metadata")] * 5)
        _report(
            "a cached frame", [lambda u=u: get(f"{series}/instances/{u}/frames/1") for u in uids]
        )


def _report(name: str, requests: list[Callable[[], object]]) -> None:
    seconds = []
    for request in requests:
        began = time.monotonic()
        request()
        seconds.append(time.monotonic() - began)
    print(f"{name}: median {median(seconds) * 1000:.0f} ms, at most {max(seconds) * 1000:.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
