"""The pages from an uploaded sheet to the order. No job exists before the order is placed."""

import io
import re
from collections.abc import Callable

import openpyxl
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse

from adit.accounts.models import User
from adit.jobs import encrypted_payload
from adit.jobs.models import Job, OrderDraft, ResultLine, SheetColumns
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.results import sheet_rows
from adit.table_files import write_xlsx

pytestmark = pytest.mark.django_db

NEW = "/jobs/new/query/"
GOOD = b"PatientID;Modality;My key\n0001;CT;a\n0002;MR;b\n"


@pytest.fixture
def client(as_user: Callable[[User | None], Client], coordinator: User) -> Client:
    return as_user(coordinator)


def upload(client: Client, data: bytes, name: str = "list.csv", **more: str) -> object:
    return client.post(NEW, {"sheet": SimpleUploadedFile(name, data), **more})


def rows_of(client: Client, data: bytes) -> str:
    """Upload a sheet and return the URL of its rows page."""
    answer = upload(client, data)
    assert answer.status_code == 302, answer.content.decode()  # type: ignore[attr-defined]
    return str(answer["Location"])  # type: ignore[index]


def test_a_valid_file_opens_its_rows_page_and_creates_no_job(client: Client, source: Node) -> None:
    address = rows_of(client, GOOD)

    page = client.get(address).content.decode()

    assert "0001" in page
    assert "Query 2 rows" in page
    assert "My key" in page
    assert not Job.objects.exists()


def test_an_unreadable_file_is_refused_with_a_message_and_not_stored(client: Client) -> None:
    answer = upload(client, b'PatientID;x\n1;"open\n', "patients.csv")

    assert answer.status_code == 422  # type: ignore[attr-defined]
    page = answer.content.decode()  # type: ignore[attr-defined]
    assert "patients.csv, line 2: A quotation mark" in page
    assert "Traceback" not in page
    assert not OrderDraft.objects.exists()


def test_a_file_larger_than_the_limit_is_refused(client: Client) -> None:
    answer = upload(client, b"PatientID\n" + b"1\n" * 4_000_000)

    assert answer.status_code == 422  # type: ignore[attr-defined]
    assert "larger than 5 MB" in answer.content.decode()  # type: ignore[attr-defined]


def test_a_missing_file_is_reported(client: Client) -> None:
    answer = client.post(NEW, {})

    assert "Select a file first." in answer.content.decode()


def test_a_column_mapping_is_suggested_confirmed_and_remembered(client: Client) -> None:
    address = rows_of(client, b"Fallnr.;Wer\nA1;0001\n")
    assert address.endswith("/columns/")
    page = client.get(address).content.decode()
    assert '<option value="AccessionNumber" selected>' in page

    answer = client.post(address, {"header": "1", "column-0": "", "column-1": "PatientID"})

    assert "0001" in client.get(answer["Location"]).content.decode()
    assert SheetColumns.objects.count() == 1
    again = rows_of(client, b"Fallnr.;Wer\nA2;0002\n")
    assert not again.endswith("/columns/")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (
            {"column-0": "PatientID", "column-1": "PatientID"},
            "The same field is assigned to two columns",
        ),
        ({"column-0": "", "column-1": "Modality"}, "Assign at least the patient ID"),
    ],
)
def test_an_invalid_column_mapping_is_refused(
    client: Client, said: dict[str, str], complaint: str
) -> None:
    address = rows_of(client, b"Fallnr.;Wer\nA1;0001\n")

    answer = client.post(address, {"header": "1", **said})

    assert answer.status_code == 422
    assert complaint in answer.content.decode()


def test_another_header_line_can_be_selected(client: Client) -> None:
    address = rows_of(client, b"What;Ever\nWer;Fallnr.\n0001;A1\n")

    answer = client.post(address, {"header": "2", "do": "header"})
    page = client.get(answer["Location"]).content.decode()

    assert 'id_column_1">Fallnr.' in page


def test_placing_the_order_creates_one_job_and_deletes_the_sheet(
    client: Client, source: Node, project: Project
) -> None:
    address = rows_of(client, GOOD)

    answer = client.post(
        address,
        {"do": "start", "sources": source.pk, "project": project.pk, "title": "My query"},
    )

    job = Job.objects.get()
    assert answer["Location"] == reverse("job", args=[job.pk])
    assert (job.kind, job.title, job.project, job.tasks.count()) == (
        "batch_query",
        "My query",
        project,
        2,
    )
    assert job.order["own_headers"] == ["My key"]
    assert ResultLine.objects.filter(job=job).count() == 2
    assert not OrderDraft.objects.exists()
    again = client.post(address, {"do": "start", "sources": source.pk})
    assert again["Location"] == answer["Location"]
    assert Job.objects.count() == 1


def test_rows_with_errors_block_the_order_until_they_are_excluded(
    client: Client, source: Node
) -> None:
    address = rows_of(client, b"PatientID\n0001\nwrong*\n")
    order = {"do": "start", "sources": source.pk, "title": "kept"}

    refused = client.post(address, order)
    assert refused.status_code == 422
    assert "1 row has an error" in refused.content.decode()
    assert 'value="kept"' in refused.content.decode()
    assert not Job.objects.exists()

    client.post(address, {**order, "skip_errors": "on"})
    assert Job.objects.get().tasks.count() == 1


def test_an_excluded_row_is_not_queried_and_no_longer_causes_conflicts(
    client: Client, source: Node
) -> None:
    address = rows_of(client, b"PatientID;Pseudonym\n1;A\n1;B\n2;C\n")
    assert "2 errors" in client.get(address).content.decode()

    client.post(address, {"do": "page:1", "shown": ["2", "3", "4"], "out": ["3"]})

    page = client.get(address).content.decode()
    assert "0 errors" in page
    assert "Query 2 rows" in page
    client.post(address, {"do": "start", "sources": source.pk, "shown": ["2", "3"], "out": ["3"]})
    queried = ResultLine.objects.exclude(task=None)
    assert sorted(queried.values_list("line", flat=True)) == [2, 4]


def test_the_rows_of_a_sheet_can_be_filtered_by_verdict(client: Client) -> None:
    address = rows_of(client, b"PatientID\n0001\nwrong*\n")

    answer = client.post(address, {"do": "show:error"})
    page = client.get(answer["Location"]).content.decode()

    assert "wrong*" in page
    assert ">0001<" not in page


def fields_of(page: str) -> dict[str, str]:
    """Return the input fields of cells by their names."""
    return dict(re.findall(r'name="(cell-\d+-\d+)"[^>]*value="([^"]*)"', page))


def test_a_cell_with_an_error_is_corrected_on_the_page(client: Client, source: Node) -> None:
    address = rows_of(client, b"PatientID;Modality;From\nwrong*;CT;2024-01-01\n2;MR;31.2.2024\n")
    page = client.get(address).content.decode()
    assert fields_of(page) == {"cell-2-0": "wrong*", "cell-3-2": "31.2.2024"}
    assert 'aria-label="PatientID, line 2" aria-invalid="true"' in page

    shown = {"shown": ["2", "3"], "cell-2-0": "0001", "cell-3-2": "31.2.2025"}
    answer = client.post(address, {"do": "page:1", **shown})
    page = client.get(answer["Location"]).content.decode()
    assert fields_of(page) == {"cell-2-0": "0001", "cell-3-2": "31.2.2025"}
    assert "1 error" in page
    assert "Query 1 row" in page

    client.post(address, {"do": "start", "sources": source.pk, **shown, "cell-3-2": "2024-01-31"})
    job = Job.objects.get()
    cipher = encrypted_payload.get_cipher(job.project)
    said = [sheet_rows.open_row(cipher, line).requested for line in job.lines.order_by("line")]
    assert [row["PatientID"] for row in said] == ["0001", "2"]
    assert said[1]["From"] == "2024-01-31"


def test_a_corrected_cell_is_checked_as_an_uploaded_one(client: Client) -> None:
    target = io.BytesIO()
    book = openpyxl.Workbook()
    for cells in (("PatientID", "Pseudonym"), (12345678901234567, "A"), ("3", "B"), ("3", "C")):
        book.active.append(cells)
    book.save(target)
    address = str(upload(client, target.getvalue(), "list.xlsx")["Location"])  # type: ignore[index]
    number = fields_of(client.get(address).content.decode())["cell-2-0"]

    def post(**cells: str) -> str:
        fields = {name.replace("_", "-"): text for name, text in cells.items()}
        answer = client.post(address, {"do": "page:1", **fields})
        return client.get(answer["Location"]).content.decode()

    assert "3 errors" in post(cell_2_0=number), "the same text does not make it a text cell"
    assert "3 errors" in post(cell_2_0="4\\5")
    assert "3 errors" in post(cell_2_0="5" * 2000)
    assert "2 errors" in post(cell_2_0="4711")
    assert "1 error" in post(cell_2_0="a", cell_4_0="4")
    page = post(cell_1_0="no header", cell_99_0="no line", cell_2_7="no column", cell_2_0="b")
    assert "0 errors" in page
    assert "no " not in str(fields_of(page))


def test_corrections_are_kept_on_other_pages_and_encrypted(client: Client) -> None:
    rows = "\n".join(f"wrong*{n}" for n in range(150))
    address = rows_of(client, f"PatientID\n{rows}\n".encode())
    answer = client.post(address, {"do": "page:2", "cell-3-0": "corrected-id"})
    assert "page=2" in answer["Location"]
    assert "149 errors" in client.get(answer["Location"]).content.decode()

    assert fields_of(client.get(address).content.decode())["cell-3-0"] == "corrected-id"
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM jobs_orderdraft")
        assert b"corrected-id" not in repr(cursor.fetchall()).encode()


def test_a_user_cannot_open_the_sheet_of_another_user(
    client: Client, as_user: Callable[[User | None], Client], make_user: Callable[..., User]
) -> None:
    address = rows_of(client, GOOD)

    answer = as_user(make_user("other", "Coordinators")).get(address)

    assert answer.status_code == 302
    assert answer["Location"] == NEW


def test_urls_and_titles_contain_no_patient_id(client: Client) -> None:
    address = rows_of(client, GOOD)

    page = client.get(address).content.decode()

    assert "0001" not in address
    assert "0001" not in page[: page.index("</title>")]
    assert "no-store" in client.get(address)["Cache-Control"]


@pytest.mark.parametrize("form", ["xlsx", "csv"])
def test_a_downloaded_template_can_be_uploaded(client: Client, form: str) -> None:
    data = client.get(f"{NEW}template.{form}").content

    answer = upload(client, data, f"template.{form}")

    page = client.get(answer["Location"]).content.decode()  # type: ignore[index]
    assert "an example of the template" in page


def test_a_sheet_of_a_thousand_rows_is_paginated(client: Client) -> None:
    target = io.BytesIO()
    write_xlsx(("PatientID",), [(f"{n:06}",) for n in range(1000)], target)
    address = str(upload(client, target.getvalue(), "list.xlsx")["Location"])  # type: ignore[index]

    page = client.get(f"{address}?page=10").content.decode()

    assert "000999" in page
    assert "Page 10 of 10" in page
