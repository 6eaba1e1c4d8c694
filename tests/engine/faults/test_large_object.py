"""One large object by each service: memory stays bounded, and the object is complete.

`ADIT_LARGE_MIB=1024` runs the full size; the default is smaller to save time.
"""

import json
import os
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from lab.archive import Lying
from lab.lies import Liar, Site, holdings
from lab.ports import free_port
from lab.samples import ct
from lab.web import LyingWeb
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from adit_engine.dicom_file import part10

SIZE_MIB = int(os.environ.get("ADIT_LARGE_MIB", "96"))
MOST_MIB = 85.0
LARGE = Path(__file__).with_name("large.py")


def write_large(path: Path) -> None:
    """Write a CT image whose pixel data are a hole in a sparse file."""
    columns, rows = 16384, SIZE_MIB * 32
    ds = ct(Rows=rows, Columns=columns)
    del ds.PixelData
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    head = BytesIO()
    dcmwrite(head, ds, enforce_file_format=True)
    size = rows * columns * 2
    with path.open("wb") as file:
        file.write(head.getvalue())
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size))
        file.truncate(file.tell() + size)


@pytest.mark.timeout(120 + SIZE_MIB)
@pytest.mark.parametrize("service", ["get", "move", "web", "store", "stow"])
def test_memory_stays_bounded_for_one_large_object(
    service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs, scratch = (tmp_path / name for name in ("ours", "theirs", "scratch"))
    for folder in (ours, theirs, scratch):
        folder.mkdir()
    write_large((ours if service in ("store", "stow") else theirs) / "large.dcm")
    receiver = free_port()
    site = Site("PEER", holdings(theirs), {"ADIT": ("127.0.0.1", receiver)})
    peer: Liar = (
        LyingWeb(site, (), scratch)
        if service in ("web", "stow")
        else Lying(site, (), scratch=scratch)
    )
    with peer:
        done = subprocess.run(
            [sys.executable, str(LARGE), service, str(peer.port), str(ours)],
            cwd=LARGE.parents[3],
            env={**os.environ, "RECEIVER_PORT": str(receiver), "TMPDIR": str(scratch)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\n{service}: {SIZE_MIB} MiB, most {told['most_mib']:.0f} MiB of memory")

    assert told["outcomes"] == ["complete"]
    assert told["most_mib"] < MOST_MIB
    kept = theirs if service in ("store", "stow") else ours
    (path,) = kept.rglob("*.dcm")
    assert part10.read_file(path).size_bytes > SIZE_MIB * 2**20
