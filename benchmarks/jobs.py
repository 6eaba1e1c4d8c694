"""Compare a job of the application, from the order to the proof, with the engine alone.

    python -m benchmarks.jobs [ROUNDS] [--profile FILE]

One process does both in turns: the job by the order service and a worker, the engine with the same
nodes, settings and rules. Each sends a study from one archive to another, pseudonymized, verified
and confirmed. Prints clock and processor seconds of this process; the job may take 1.1 times both.
"""

import argparse
import cProfile
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import peers
from benchmarks.data import CT, MR, Study, write
from benchmarks.query_field import _installed, _settle

STUDIES = (Study(CT, 400), Study(MR, 1500, series=10), Study(MR, 200, number=2, series=20))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs")
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--profile", help="write the profile of the last job to this file")
    options = parser.parse_args()
    with ExitStack() as stack:
        memory = Path("/dev/shm")
        temp = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        base = Path(stack.enter_context(temp))
        source, destination = (
            stack.enter_context(peers.orthanc(name, base / name, options=True))
            for name in ("SOURCE", "DEST")
        )
        _installed(base / "data")
        site = _Site(source, destination)
        for study in STUDIES:
            write(study, base / study.uid)
            where = ["-aec", "SOURCE", "127.0.0.1", str(source.dicom_port)]
            peers.run(["storescu", *where, "+sd", base / study.uid])
            site.run_job(study)  # everything is imported and connected once
            site.run_engine(study)
            _settle()
            _compare(site, study, options.rounds)
        if options.profile:
            with cProfile.Profile() as profile:
                site.run_job(STUDIES[-1])
            profile.dump_stats(options.profile)


def _compare(site: "_Site", study: Study, rounds: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {"job": [], "engine": []}
    for number in range(rounds):
        pair = (("job", site.run_job), ("engine", site.run_engine))
        for name, work in pair if number % 2 else reversed(pair):
            site.destination.clear()
            found[name].append(_measure(work, study))
            if site.destination.count() != study.count:
                raise RuntimeError(f"{name}: images are missing at the destination.")
    words = []
    for which, unit in enumerate(("clock", "processor")):
        job, engine = (median(one[which] for one in found[name]) for name in ("job", "engine"))
        words.append(f"{unit} {job:.2f} s, engine {engine:.2f} s, {job / engine:.2f} x")
    print(f"{study}: {'; '.join(words)}", flush=True)


def _measure(work: Callable[[Study], None], study: Study) -> tuple[float, float]:
    began, used = time.perf_counter(), time.process_time()
    work(study)
    return time.perf_counter() - began, time.process_time() - used


class _Site:
    """The application with two archives, a project and its manager."""

    def __init__(self, source: peers.Orthanc, destination: peers.Orthanc) -> None:
        from adit.accounts.models import User
        from adit.nodes.models import Node
        from adit.projects.models import Project
        from adit.projects.services import save_new_project

        self.destination = destination
        self.user = User.objects.create_superuser("bench")
        self.nodes = [
            Node.objects.create(
                name=one.ae_title,
                kind="dimse",
                is_open=True,
                takes_images=True,
                settings={
                    "host": "127.0.0.1",
                    "port": one.dicom_port,
                    "called_ae_title": one.ae_title,
                    "max_pdu": peers.BIG_PDU,
                    "retrieve": "get",
                    "store_associations": 2,
                },
            )
            for one in (source, destination)
        ]
        project = Project(protocol_id="BENCH", sponsor="Test University", all_modalities=True)
        relations = {"sources": self.nodes, "destinations": self.nodes}
        self.project = save_new_project(self.user, project, "project.created", relations)
        self.number = 0
        self.found: dict[Study, Any] = {}
        """What a search returned; a user has searched before the order."""

    def run_job(self, study: Study) -> None:
        from adit.jobs.kinds.base import OrderRequest
        from adit.jobs.kinds.picked_study import PickedStudy
        from adit.jobs.models import JobState
        from adit.nodes import gateway
        from adit.orders.service import place_order
        from adit.worker.tasks import work
        from adit_engine.nodes import open_node
        from adit_engine.values.query import Query
        from adit_engine.values.references import StudyRef

        self.number += 1
        source, destination = self.nodes
        if study not in self.found:
            node: Any = open_node(source.kind, "source", gateway.get_engine_settings(source))
            (self.found[study],) = node.find(Query.study(StudyRef(study.uid)))
            node.close()
        pick = PickedStudy(source.pk, self.found[study])
        request: OrderRequest[Any] = OrderRequest(
            "selective",
            (pick,),
            f"bench {self.number}",
            (destination.pk,),
            project=self.project.pk,
        )
        (job,) = place_order(self.user, request)
        work()
        job.refresh_from_db()
        if job.state != JobState.SUCCESS:
            raise RuntimeError(f"The job ended as {job.state}: {job.message}")

    def run_engine(self, study: Study) -> None:
        from adit.nodes import gateway
        from adit.projects.pseudonyms import make_change
        from adit_engine.bounded_stream import Stop
        from adit_engine.nodes import open_node
        from adit_engine.transfer.study import StudyRequest, transfer
        from adit_engine.values.references import StudyRef

        patient = f"BENCH-{study.number:04}"
        change = make_change(self.user, self.project, *self.nodes, patient)
        source, destination = (
            open_node(row.kind, row.name, gateway.get_engine_settings(row)) for row in self.nodes
        )
        try:
            request = StudyRequest(StudyRef(study.uid), patient)
            for _ in transfer(request, source, destination, change, {}, Stop()):
                pass
        finally:
            source.close()
            destination.close()


if __name__ == "__main__":
    sys.exit(main())
