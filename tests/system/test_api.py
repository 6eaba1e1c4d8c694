"""The whole way of a script with curl, a URL and a token, at a running installation."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import images
import pytest
from conftest import ROOT, wait_until
from lab.web_peers import Liar, answer
from orthanc import needs_orthanc
from test_lists import (
    DOUBLE,
    FOLDER,
    PACS,
    SLOW_KB_S,
    SOURCE,
    Installation,
    held,
    run_commands,
    running_installation,
)

pytestmark = [needs_orthanc, pytest.mark.timeout(900)]

PROJECT = "LISTS-JS"
ENDED = ("canceled", "success", "warning", "failure")
SCOPES = "query,retrieve,store,jobs:read,jobs:write"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running_installation(tmp_path_factory.mktemp("api"), held()) as installation:
        yield installation


@dataclass(frozen=True)
class Curl:
    """Calls of the API by curl, as in a shell script."""

    url: str
    token: str

    def run(self, path: str, *options: str) -> tuple[int, bytes]:
        """Return status and body."""
        done = subprocess.run(
            [
                *("curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Token {self.token}"),
                *("-w", "\n%{http_code}", *options, f"{self.url}/api/v1/{path}"),
            ],
            capture_output=True,
            timeout=300,
            check=True,
        )
        body, _newline, status = done.stdout.rpartition(b"\n")
        return int(status), body

    def get(self, path: str) -> Any:
        status, body = self.run(path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, body: Any = None, expected: int = 200) -> Any:
        data = ("--data", json.dumps(body or {}), "-H", "Content-Type: application/json")
        status, answer = self.run(path, *data)
        assert status == expected, answer
        return json.loads(answer)

    def wait(self, job: int, *states: str) -> Any:
        found: dict[str, Any] = {}

        def has_state() -> bool:
            found.update(self.get(f"jobs/{job}"))
            return found["state"] in (states or ENDED)

        wait_until(has_state, f"job {job} to be {states or ENDED}", 180)
        return found


@pytest.fixture(scope="module")
def curl(installation: Installation) -> Curl:
    command = ["token", "create", "coordinator", "--name", "script", "--scopes", SCOPES]
    done = subprocess.run(
        [sys.executable, "-m", "adit.cli", *command],
        cwd=ROOT,
        env=installation.env,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return Curl(installation.url, done.stdout.strip())


def test_a_script_searches_orders_waits_downloads_retries_and_cancels(
    installation: Installation, curl: Curl, tmp_path: Path
) -> None:
    query = {"node": SOURCE, "level": "study", "query": {"PatientID": images.PATIENT_ID}}
    found = curl.post("searches", query)
    assert found["complete"]
    [uid] = {study["StudyInstanceUID"] for study in found["results"]}

    study = {"node": SOURCE, "study_uid": uid, "patient_id": images.PATIENT_ID}
    order = {
        "kind": "selective",
        "destination": PACS,
        "project": PROJECT,
        "change": "pseudonymize",
        "studies": [study],
    }
    preview = curl.post("jobs/preview", order)
    job = curl.post("jobs", {**order, "preview": preview["preview"]}, 201)
    done = curl.wait(job["id"])
    assert done["state"] == "success", done
    assert done["expected"] == preview["expected"] == done["delivered"] + done["withheld"]
    assert installation.pacs.count() == done["delivered"] > 0
    assert curl.get(f"jobs/{job['id']}/report.json")["totals"]["delivered"] == done["delivered"]
    assert curl.run(f"jobs/{job['id']}/report.pdf")[1].startswith(b"%PDF-")

    sheet = tmp_path / "list.csv"
    sheet.write_text(f"PatientID,StudyInstanceUID\n{images.PATIENT_ID},{uid}\nPID-0,1.2.3\n")
    batch = {
        "kind": "batch_transfer",
        "nodes": [SOURCE],
        "destination": FOLDER,
        "project": PROJECT,
        "start": "always",
    }
    status, body = curl.run("jobs", "-F", f"order={json.dumps(batch)}", "-F", f"sheet=@{sheet}")
    assert status == 201, body
    listed = curl.wait(json.loads(body)["id"])
    assert (listed["rows"]["delivered"], listed["rows"]["not_found"]) == (1, 1)
    status, body = curl.run(f"jobs/{listed['id']}/result.csv")
    rows = list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"))))
    assert [row["PatientID"] for row in rows] == [images.PATIENT_ID, "PID-0"]

    mixed = {"node": SOURCE, "study_uid": DOUBLE, "patient_id": "PID-X"}
    failed = curl.wait(curl.post("jobs", {**order, "studies": [mixed]}, 201)["id"])
    assert failed["state"] == "failure"
    part = f"jobs/{failed['id']}/tasks/1"
    assert curl.get(part)["message_code"]
    curl.post(f"{part}/actions/retry")
    again = curl.wait(failed["id"])
    assert again["ended_at"] >= failed["ended_at"]

    run_commands(installation.env, "pace", kb_s=SLOW_KB_S // 4)
    long = {"node": SOURCE, "study_uid": images.LONG_STUDY}
    running = curl.post("jobs", {**order, "studies": [long]}, 201)
    curl.wait(running["id"], "in_progress")
    curl.post(f"jobs/{running['id']}/actions/cancel")
    assert curl.wait(running["id"])["state"] == "canceled"
    run_commands(installation.env, "pace", kb_s=0)
    status, body = curl.run(f"jobs/{running['id']}/actions/cancel", "-X", "POST")
    assert status == 200, "canceling twice is no error"
    status, body = curl.run(f"jobs/{job['id']}/actions/cancel", "-X", "POST")
    assert (status, json.loads(body)["code"]) == (409, "job.wrong-state")
    assert curl.run("jobs/9999")[0] == 404


def test_the_scheduler_calls_a_webhook_when_a_job_has_ended(
    installation: Installation, curl: Curl
) -> None:
    with Liar(lambda request: answer(204)) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/hook"
        hook = curl.post("webhooks", {"name": "a", "url": url, "events": ["job.ended"]}, 201)
        study = {"node": SOURCE, "study_uid": images.STUDY, "patient_id": images.PATIENT_ID}
        order = {"kind": "selective", "destination": PACS, "project": PROJECT, "studies": [study]}
        job = curl.wait(curl.post("jobs", order, 201)["id"])
        wait_until(lambda: bool(receiver.requests), "the call of the webhook", 180)

    event = json.loads(receiver.requests[0].body)
    assert event["job"]["id"] == job["id"]
    assert event["job"]["state"] == job["state"]
    assert receiver.requests[0].headers["adit-event-id"] == event["event_id"]
    assert curl.run(f"webhooks/{hook['id']}", "-X", "DELETE")[0] == 204


def test_large_and_chunked_bodies_are_refused_and_the_connection_goes_on(
    installation: Installation, curl: Curl, tmp_path: Path
) -> None:
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    json_type = ("-H", "Content-Type: application/json")

    status, body = curl.run("jobs", "--data-binary", f"@{large}", *json_type)
    chunked, _body = curl.run(
        "searches", "-H", "Transfer-Encoding: chunked", "--data", "{}", *json_type
    )

    assert status == 413, body
    assert json.loads(body)["code"] == "api.body-too-large"
    assert chunked in (400, 411)
    assert curl.get("me")["user"] == "coordinator"
