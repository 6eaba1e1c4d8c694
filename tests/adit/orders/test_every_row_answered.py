"""Every uploaded row of a sheet is answered, in the order of the sheet, whatever became of it."""

import io
from collections.abc import Callable

import openpyxl
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from lab.jobs import PATIENT, put_study

from adit.accounts.models import User
from adit.jobs import encrypted_payload
from adit.jobs.models import Job, JobState, ResultLine
from adit.nodes.models import Node
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.projects.models import Project
from adit.results import sheet_rows
from adit.results.check_summary import summarize_check
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.mapping import guess_mapping
from adit.spreadsheets.reader import read_sheet
from adit.spreadsheets.transfer_rows import validate_transfer_rows
from adit.worker import tasks

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = "1.2.826.0.1.3680043.8.498.77"
BEN = "PID-0002"
TRANSFER_HEADER = "PatientID;StudyInstanceUID;Pseudonym;My key"


@pytest.fixture
def client(as_user: Callable[[User | None], Client], coordinator: User) -> Client:
    return as_user(coordinator)


def upload(client: Client, kind: str, *lines: str) -> str:
    """Upload a sheet and return the URL of its rows page."""
    file = SimpleUploadedFile("list.csv", "\n".join(lines).encode())
    answer = client.post(f"/jobs/new/{kind}/", {"sheet": file})
    assert answer.status_code == 302, answer.content.decode()
    return str(answer["Location"])


def run_all(job: Job) -> Job:
    tasks.work()
    return Job.objects.get(pk=job.pk)


def read_workbook(content: bytes) -> list[dict[str, str]]:
    headers, *lines = openpyxl.load_workbook(io.BytesIO(content)).active.iter_rows(values_only=True)
    return [dict(zip(headers, (cell or "" for cell in line), strict=True)) for line in lines]


def test_each_uploaded_row_of_a_transfer_is_in_its_result_sheet(
    client: Client, source: Node, destination: Node, project: Project
) -> None:
    put_study(source, "1", images=2)
    put_study(source, "2", images=1, PatientID=BEN)
    address = upload(
        client,
        "transfer",
        TRANSFER_HEADER,
        f"{PATIENT};{ROOT}.1;;a",
        f"{PATIENT};{ROOT}.not-a-uid;;b",
        "0001234-EXAMPLE;1.2.826.0.1.3680043.8.498.1;EXAMPLE-001;",
        f"{BEN};{ROOT}.2;;c",
        f"{PATIENT};{ROOT}.1;;d",
        f"PID-9;{ROOT}.9;;e",
    )
    answer = client.post(
        address,
        {
            "do": "start",
            "shown": ["2", "3", "5", "6", "7"],
            "out": ["5"],
            "skip_errors": "on",
            "source": source.pk,
            "destinations": destination.pk,
            "project": project.pk,
            "generate": "on",
        },
    )
    assert answer.status_code == 302, answer.content.decode()
    job = run_all(Job.objects.get())
    summary = summarize_check(job)
    assert (summary.rows, summary.invalid, summary.left_out) == (6, 1, 2)
    assert (summary.ready, summary.not_found) == (2, 1)
    page = client.get(reverse("job_batch_rows", args=[job.pk])).content.decode()
    assert f"{ROOT}.not-a-uid" in page
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)

    assert job.state == JobState.SUCCESS
    assert "2 of 6 rows delivered." in str(job.message)
    assert "1 row has an error." in str(job.message)
    assert "2 rows were excluded." in str(job.message)
    assert "1 row was not found." in str(job.message)
    rows = read_workbook(client.get(reverse("job_batch_result", args=[job.pk, "xlsx"])).content)
    assert [(row["ADIT line"], row["ADIT outcome"], row["My key"]) for row in rows] == [
        ("2", "complete", "a"),
        ("3", "error", "b"),
        ("4", "excluded", ""),
        ("5", "excluded", "c"),
        ("6", "complete", "d"),
        ("7", "not found", "e"),
    ]
    assert rows[1]["StudyInstanceUID"] == f"{ROOT}.not-a-uid"
    assert "StudyInstanceUID: " in rows[1]["ADIT reason"]
    assert "an example of the template" in rows[2]["ADIT reason"]
    assert rows[4]["ADIT reason"].endswith("The row repeats line 2.")
    page = client.get(reverse("job", args=[job.pk])).content.decode()
    assert "2 of 6 rows delivered." in page
    assert "2 of 6 rows" in client.get(reverse("jobs")).content.decode()

    again = client.get(reverse("job_batch_failed_rows", args=[job.pk, "xlsx"])).content
    table = read_sheet(io.BytesIO(again), "again.xlsx")
    judged = validate_transfer_rows(table, guess_mapping(table, SheetKind.TRANSFER))
    assert [row.user_cells for row in judged.rows] == [("b",), ("e",)]
    assert [row.row is None for row in judged.rows] == [True, False]


def test_each_uploaded_row_of_a_query_is_in_its_results(
    client: Client, source: Node, project: Project
) -> None:
    put_study(source, "1")
    address = upload(
        client,
        "query",
        "PatientID;FamilyName;GivenName;Modality;My key",
        f"{PATIENT};;;CT;a",
        "wrong*;;;CT;b",
        "PID-9;;;CT;c",
        ";Meier;;CT;d",
        "PID-8;;;CT;e",
    )
    client.post(
        address,
        {
            "do": "start",
            "shown": ["2", "3", "4", "5", "6"],
            "out": ["4"],
            "skip_errors": "on",
            "sources": source.pk,
            "project": project.pk,
        },
    )
    job = run_all(Job.objects.get())

    assert job.state == JobState.SUCCESS
    assert "Matches found for 1 of 5 rows." in str(job.message)
    assert "2 rows have errors. 1 row was excluded." in str(job.message)
    assert "not answered" not in str(job.message)
    rows = read_workbook(client.get(reverse("job_results_file", args=[job.pk, "xlsx"])).content)
    assert [(row["ADIT line"], row["ADIT found"], row["My key"]) for row in rows] == [
        ("2", "yes", "a"),
        ("3", "no", "b"),
        ("4", "no", "c"),
        ("5", "no", "d"),
        ("6", "no", "e"),
    ]
    assert rows[1]["PatientID"] == "wrong*"
    assert "wildcards" in rows[1]["ADIT reason"]
    assert "Excluded" in rows[2]["ADIT reason"]
    page = client.get(reverse("job_results", args=[job.pk])).content.decode()
    assert "wildcards" in page
    assert "Not queried yet" not in page
    again = client.get(reverse("job_results_file", args=[job.pk, "xlsx"]) + "?again").content
    assert [(row["PatientID"], row["PatientName"]) for row in read_workbook(again)] == [
        ("wrong*", ""),
        ("", "Meier"),
        ("PID-8", ""),
    ]


def test_rows_that_are_not_processed_are_encrypted_and_deleted_with_their_job(
    client: Client, source: Node, project: Project
) -> None:
    address = upload(client, "query", "PatientID;My key", "1;a", "SECRET*;hidden key")
    client.post(
        address,
        {"do": "start", "skip_errors": "on", "sources": source.pk, "project": project.pk},
    )
    job = run_all(Job.objects.get())
    line = job.lines.get(task=None)
    assert b"SECRET" not in bytes(line.sealed)
    content = sheet_rows.open_row(encrypted_payload.get_cipher(project), line)
    assert content.requested == {"PatientID": "SECRET*"}
    assert content.user_cells == ("hidden key",)
    assert not any(text in f"{job.order} {line.facts}" for text in ("SECRET", "hidden key"))

    job.delete()
    assert not ResultLine.objects.exists()
