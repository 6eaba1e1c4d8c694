"""A job: its state, waiting for it, its files and actions."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adit_sdk.connection import Connection
from adit_sdk.errors import WaitTimeout
from adit_sdk.files import write_atomically
from adit_sdk.values import Reason, read_reasons

ENDED = frozenset({"canceled", "success", "warning", "failure"})
WAITS_FOR_START = "waiting_for_start"
FIRST_INTERVAL_S = 0.5
MAX_INTERVAL_S = 10.0


class Job:
    """A job as it was at the last request. `refresh` reads it again.

    `values` holds everything that the API says about it.
    """

    def __init__(
        self,
        connection: Connection,
        values: Mapping[str, Any],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._sleep = sleep
        self._etag = ""
        self.values = values

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.state}>"

    def __str__(self) -> str:
        text = f"Job {self.id}: {self.state.replace('_', ' ')}"
        if self.expected:
            text += f", {self.delivered} of {self.expected} images delivered"
        return f"{text}. {self.waits_for}" if self.waits_for else text

    @property
    def id(self) -> int:
        return int(self.values["id"])

    @property
    def kind(self) -> str:
        return str(self.values["kind"])

    @property
    def state(self) -> str:
        return str(self.values["state"])

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def expected(self) -> int | None:
        """Number of images; None if it is not known."""
        expected: int | None = self.values["expected"]
        return expected

    @property
    def delivered(self) -> int:
        return int(self.values["delivered"])

    @property
    def withheld(self) -> int:
        return int(self.values["withheld"])

    @property
    def skipped(self) -> int:
        return int(self.values["skipped"])

    @property
    def failed(self) -> int:
        return int(self.values["failed"])

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why images were withheld or failed."""
        return read_reasons(self.values["reasons"])

    @property
    def message(self) -> str:
        return self.values["message"] or ""

    @property
    def waits_for(self) -> str:
        """Why the job does not continue now; empty if nothing prevents it."""
        return self.values["waits_for"] or ""

    @property
    def actions(self) -> tuple[str, ...]:
        """What you may do with the job now, see `perform`."""
        return tuple(self.values["actions"])

    def refresh(self) -> "Job":
        """Read the job again. Costs little if nothing has changed (ETag)."""
        headers = {"If-None-Match": self._etag} if self._etag else {}
        response = self._connection.request("GET", self._address(), headers=headers)
        if response.status_code != 304:
            self._etag = response.headers.get("ETag", "")
            self.values = response.json()
        return self

    def wait(
        self,
        progress: Callable[["Job"], object] | None = None,
        timeout: float | None = None,
    ) -> "Job":
        """Wait until the job has ended, or waits for its owner to start it.

        `progress` is called with the job after each change; `print` prints a line. Raises
        WaitTimeout after `timeout` seconds; the job continues then. Without a timeout it waits as
        long as the job takes, which may be days if a node only works at night.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        interval, before = FIRST_INTERVAL_S, ""
        while True:
            self.refresh()
            now = str(self)
            if now != before:
                interval, before = FIRST_INTERVAL_S, now
                if progress is not None:
                    progress(self)
            if self.is_ended or self.state == WAITS_FOR_START:
                return self
            left = MAX_INTERVAL_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"{self}: not ended within {timeout:g} s.", "sdk.wait-timeout")
            self._sleep(min(interval, left))
            interval = min(MAX_INTERVAL_S, interval * 1.5)

    def report(self) -> dict[str, Any]:
        """Return the report: totals, rules and series. It names no patient."""
        report: dict[str, Any] = self._connection.request(
            "GET", self._address("report.json")
        ).json()
        return report

    def download_report(self, path: str | Path) -> Path:
        """Write the report as a PDF file."""
        return self._download("report.pdf", Path(path))

    def download_result(self, path: str | Path) -> Path:
        """Write the result sheet of a batch. The path ends in .csv or .xlsx."""
        path = Path(path)
        if path.suffix not in (".csv", ".xlsx"):
            raise ValueError("The path of a result sheet ends in .csv or .xlsx")
        return self._download(f"result{path.suffix}", path)

    def tasks(self) -> Iterator[dict[str, Any]]:
        """Yield the tasks: usually one per study."""
        yield from self._connection.list_all(f"/api/v1/jobs/{self.id}/tasks")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the sheet of a batch, with their results."""
        yield from self._connection.list_all(f"/api/v1/jobs/{self.id}/rows")

    def retry(self, *, archive_password: str = "") -> "Job":
        """Transfer again what failed. Raises ActionRefused if nothing failed."""
        return self.perform("retry", archive_password=archive_password)

    def cancel(self, reason: str = "") -> "Job":
        return self.perform("cancel", reason)

    def start(self) -> "Job":
        """Start a checked batch transfer."""
        return self._post("start", {})

    def perform(self, action: str, reason: str = "", *, archive_password: str = "") -> "Job":
        """Perform one of `actions`. Raises ActionRefused if the state does not allow it."""
        values = {"reason": reason, "archive_password": archive_password}
        return self._post(action, {name: text for name, text in values.items() if text})

    def _post(self, action: str, body: dict[str, Any]) -> "Job":
        response = self._connection.request(
            "POST", self._address(f"actions/{action}"), make_body=lambda: {"json": body}
        )
        if response.status_code != 204:  # 204: the job was deleted
            self._etag, self.values = "", response.json()
        return self

    def _download(self, name: str, path: Path) -> Path:
        with self._connection.stream("GET", self._address(name)) as response:
            write_atomically(path, self._connection.iter_bytes(response))
        return path

    def _address(self, below: str = "") -> str:
        address = f"{self._connection.url}/api/v1/jobs/{self.id}"
        return f"{address}/{below}" if below else address
