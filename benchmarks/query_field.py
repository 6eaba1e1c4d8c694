"""Compare a batch query of many rows with a loop of the same C-FINDs, on the demo PACS.

    python -m benchmarks.query_field [ROWS]

Both use one association, one query after the other, in turns. The ratio is the total cost of a row
(claim, permissions, answer, encryption, state, audit trail) over the cost of the archive alone. The
second ratio counts processor time of both processes: on a busy machine only that one is meaningful.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.8.498.99"
ROUNDS = 3


def main(rows: int) -> None:
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adit-bench-")))
        _fill(base / "pacs", rows)
        archive, port = _archive(base / "pacs", stack)
        _installed(base / "data")
        _query(port, rows)  # everything is imported and connected once
        _settle()
        figures = [
            (_measured(archive, _bare, port, rows), _measured(archive, _query, port, rows))
            for _ in range(ROUNDS)
        ]
    for bare, query in figures:
        walls = f"{bare[0]:6.2f} s, query {query[0]:6.2f} s, {query[0] / bare[0]:5.2f} x"
        cpus = f"{bare[1]:6.2f} s, query {query[1]:6.2f} s, {query[1] / bare[1]:5.2f} x"
        print(f"clock: bare {walls}   processor: bare {cpus}")
    for which, name in enumerate(("clock", "processor")):
        ratio = median(query[which] / bare[which] for bare, query in figures)
        print(f"{rows} rows, median by {name}: {ratio:.2f} x")


def _settle() -> None:
    """Freeze the heap as a worker does when it starts."""
    from adit.worker.tasks import freeze_heap

    freeze_heap()


def _measured(
    archive: int, work: Callable[[int, int], float], port: int, rows: int
) -> tuple[float, float]:
    """Return elapsed seconds, and processor seconds of this process and the archive."""
    before = time.process_time() + _cpu(archive)
    seconds = work(port, rows)
    return seconds, time.process_time() + _cpu(archive) - before - _untimed


_untimed = 0.0
"""Processor time that belongs to no measurement: creating the order."""


def _cpu(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _fill(folder: Path, rows: int) -> None:
    folder.mkdir()
    for n in range(rows):
        ds = Dataset()
        ds.SpecificCharacterSet = "ISO_IR 100"
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{ROOT}.{n}.1.1"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.{n}", f"{ROOT}.{n}.1"
        ds.PatientID, ds.PatientName = f"{n:06}", f"Family{n}^Given"
        ds.PatientBirthDate, ds.PatientSex = "19640812", "O"
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20240101", "101500", f"A{n:06}"
        ds.StudyDescription, ds.SeriesDescription, ds.Modality = "CT Thorax", "Axial", "CT"
        ds.SeriesNumber = ds.InstanceNumber = 1
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(folder / f"{n}.dcm", enforce_file_format=True)


def _archive(folder: Path, stack: ExitStack) -> tuple[int, int]:
    """Return process ID and port of the archive."""
    words = ["--ae-title", "DEMOPACS", "--port", "0", "--folder", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "adit.demo.pacs", *words], stdout=subprocess.PIPE, text=True
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    ready, port, _instances = process.stdout.readline().split()
    assert ready == "ready"
    return process.pid, int(port)


def _installed(data: Path) -> None:
    data.mkdir()
    os.environ["ADIT_DATA"] = str(data)
    os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
    from adit_engine.pseudonymize.keys import create_key_file

    create_key_file(data / "keys" / "master.key")
    create_key_file(data / "keys" / "web.key")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("createcachetable")


def _settings(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "called_ae_title": "DEMOPACS"}


def _questions(rows: int) -> list[Any]:
    from adit_engine.patient_search.search import PatientQuery, PersonCriteria

    return [PatientQuery(PersonCriteria(patient_id=f"{n:06}")) for n in range(rows)]


def _bare(port: int, rows: int) -> float:
    from adit_engine.nodes.dimse.node import DimseNode
    from adit_engine.nodes.dimse.settings import DimseSettings

    global _untimed
    _untimed = 0.0
    node = DimseNode("bare", DimseSettings(**_settings(port), calling_ae_title="BENCH"))
    queries = [query for question in _questions(rows) for query in question.queries()]
    began = time.perf_counter()
    with node.share_association():
        found = sum(len(list(node.find(query))) for query in queries)
    assert found == rows
    return time.perf_counter() - began


def _query(port: int, rows: int) -> float:
    """Measure one worker from the first claim to the end of the job."""
    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS, create_standard_groups
    from adit.jobs.kinds.base import OrderRequest, SheetRow
    from adit.jobs.kinds.batch_query import BatchQueryRow
    from adit.jobs.models import Job, JobState
    from adit.nodes.models import Node, NodeAccess
    from adit.orders.service import place_order
    from adit.worker.tasks import work

    group = create_standard_groups()[COORDINATORS]
    user, is_new = User.objects.get_or_create(username="bench", is_staff=True)
    user.groups.add(group)
    node, is_new = Node.objects.get_or_create(
        name="DEMOPACS", kind="dimse", defaults={"settings": _settings(port), "is_open": True}
    )
    if is_new:
        NodeAccess.objects.create(group=group, node=node, may_read=True)
    asked = tuple(
        BatchQueryRow(SheetRow(n, (f"own {n}",)), question)
        for n, question in enumerate(_questions(rows), start=2)
    )
    global _untimed
    key = f"bench {Job.objects.count()}"
    ordering = time.process_time()
    (job,) = place_order(user, OrderRequest("batch_query", asked, key=key, sources=(node.pk,)))
    _untimed = time.process_time() - ordering
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS, job.message
    assert job.lines.filter(is_found=True).count() == rows
    return seconds


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
