"""Set up the demo, run its first jobs, and print how to continue. Used by `adit demo`."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from django.conf import settings

from adit.demo import cast, first_jobs, report, sample_sheets, scenes
from adit.demo.patients import SHOWCASE, ULTRASOUND, make_patients
from adit.jobs.models import Job, JobState


class Processes(Protocol):
    """The processes that run meanwhile; implemented by the supervisor."""

    @property
    def stop_requested(self) -> bool: ...

    def restart_ended(self) -> None: ...

    def run_until_signal(self) -> None: ...


class Demo:
    """One demo in one folder. `say` prints a message to the user."""

    def __init__(self, base: Path, url: str, say: Callable[[str], None]) -> None:
        self.places = cast.Places(base)
        self.url = url
        self._say = say
        self._ports = {name: _free_port() for name in cast.AE_TITLES}
        self._passwords = cast.passwords(self.places)

    def set_up(self) -> None:
        """Create sample patients, users, nodes and project. Safe to repeat."""
        for folder in (self.places.pacs, self.places.research_pacs, self.places.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._say("creating sample patients (all fictitious) …")
        make_patients(self.places.pacs)
        sample_sheets.write(settings.SAMPLES_DIR)
        self._coordinator = cast.assemble(self.places, self._ports, self._passwords)

    def archives(self) -> list[tuple[str, list[str], Callable[[], bool]]]:
        """Return name, command and readiness check of the two PACS of the demo."""
        folders = {cast.PACS: self.places.pacs, cast.RESEARCH_PACS: self.places.research_pacs}
        return [
            (name, self._command(name, folder), _listens(self._ports[name]))
            for name, folder in folders.items()
        ]

    def run(self, processes: Processes) -> int:
        """Order the first jobs, wait and report; return the exit code.

        With a terminal the pages remain available until the end is requested.
        """

        def tend() -> bool:
            processes.restart_ended()
            return not processes.stop_requested

        self._say("ordering the first transfer: one CT study to two destinations …")
        jobs = first_jobs.order(self._coordinator, SHOWCASE["study_uid"])
        ended = first_jobs.wait(jobs, tend)
        first_jobs.wait([self._order_withheld()], tend)
        scenes.place_orders(first_jobs.all_studies(self._coordinator))
        rows = report.write(self.places.report, self.url, self._passwords, jobs)
        print(f"\n{report.table(rows)}\n")
        self._print_summary()
        fine = ended and all(_is_fine(job) for job in jobs)
        if not fine:
            self._say("The first jobs had problems. For the reasons, see the pages of the jobs.")
        if sys.stdin.isatty() and not processes.stop_requested:
            print(f"Sign in at {self.url} (end the demo with Ctrl-C)", flush=True)
            processes.run_until_signal()
            return 0
        return 0 if fine else 1

    def _order_withheld(self) -> Job:
        return first_jobs.order_ultrasound(self._coordinator, ULTRASOUND["study_uid"])

    def _print_summary(self) -> None:
        for name, password in self._passwords.items():
            print(f"  {name:12} {password}")
        print(f"  originals      {self.places.pacs}")
        print(f"  Research PACS  {self.places.research_pacs}")
        print(f"  folder         {self.places.folder}")
        print(f"  report         {self.places.report}", flush=True)

    def _command(self, name: str, folder: Path) -> list[str]:
        port = str(self._ports[name])
        title = cast.AE_TITLES[name]
        module = [sys.executable, "-m", "adit.demo.pacs"]
        where = ["--ae-title", title, "--port", port, "--folder", str(folder)]
        if settings.RECEIVER_PORT:
            where += ["--peer", f"{settings.CALLING_AE_TITLE}=127.0.0.1:{settings.RECEIVER_PORT}"]
        return [*module, *where, "--follow-parent"]


def _is_fine(job: Job) -> bool:
    return job.state == JobState.SUCCESS


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((cast.HOST, 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            with socket.create_connection((cast.HOST, port), timeout=1):
                return True
        except OSError:
            return False

    return ready
