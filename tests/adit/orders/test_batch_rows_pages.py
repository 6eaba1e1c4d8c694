"""Pages of a batch transfer: upload, review of the rows, start, result sheets."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from lab.jobs import PATIENT, put_study, shelf
from lab.ordering import order_job
from lab.sevenzip import unpacked

from adit.accounts.models import User
from adit.jobs import estimates, progress
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.models import Job, JobState, SeriesResult
from adit.nodes.models import Lane, Node
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.worker import tasks
from adit_engine.transfer.study_lookup import StudyCriteria

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = "1.2.826.0.1.3680043.8.498.77"
OWN = ("=HYPERLINK(1)", "007")


def row(line: int, study: str, **more: Any) -> BatchTransferRow:
    return BatchTransferRow(
        line, StudyCriteria(PATIENT, study_uid=f"{ROOT}.{study}"), user_cells=OWN, **more
    )


def run_all(job: Job) -> Job:
    tasks.work()
    return Job.objects.get(pk=job.pk)


@pytest.fixture
def checked(coordinator: User, source: Node, destination: Node, project: Any) -> Callable[..., Job]:
    def make(
        *rows: BatchTransferRow, to: Node | None = None, password: str = "", **more: Any
    ) -> Job:
        return run_all(
            order_job(
                coordinator,
                "batch_transfer",
                rows,
                (to or destination).pk,
                sources=(source.pk,),
                project=project.pk,
                own_headers=("Own", "Key"),
                key=f"{Job.objects.count()}",
                archive_password=password,
                **more,
            )
        )

    return make


def sheet_of(client: Client, job: Job, name: str = "job_batch_result") -> list[dict[str, str]]:
    """Return the rows of the workbook by header. Every cell must be text."""
    answer = client.get(reverse(name, args=[job.pk, "xlsx"]))
    assert answer.status_code == 200
    page = openpyxl.load_workbook(io.BytesIO(answer.content)).active
    lines = list(page.iter_rows())
    for cell in (cell for line in lines for cell in line):
        assert cell.value is None or cell.data_type == "s"
    headers = [cell.value for cell in lines[0]]
    return [dict(zip(headers, (c.value or "" for c in line), strict=True)) for line in lines[1:]]


def test_the_check_is_reviewed_and_started_on_its_rows_page(
    checked: Callable[..., Job], source: Node, destination: Node, coordinator: User, as_user: Any
) -> None:
    put_study(source, "1", images=2, AccessionNumber="A1")
    put_study(source, "2", images=3, StudyDate="20240301")
    put_study(source, "3", images=4, StudyDate="20240302")
    days = StudyCriteria(PATIENT, study_date=date(2024, 3, 1), days=2, modalities=("CT",))
    job = checked(row(2, "1"), BatchTransferRow(3, days, user_cells=OWN), row(4, "9"))
    client = as_user(coordinator)

    page = client.get(reverse("job", args=[job.pk])).content.decode()
    assert "Review the rows and start" in page
    page = client.get(reverse("job_batch_rows", args=[job.pk])).content.decode()
    for words in (
        "Several studies match. Select one.",
        "No match was found.",
        "choice-3",
    ):
        assert words in page
    answer = client.post(reverse("job_batch_start", args=[job.pk]), {"choice-3": "2"})
    assert answer.headers["Location"] == reverse("job", args=[job.pk])

    assert run_all(job).state == JobState.SUCCESS
    assert len(shelf(destination)) == 6
    rows = sheet_of(client, job)
    assert [r["ADIT outcome"] for r in rows] == ["complete", "complete", "not found"]
    assert [r["ADIT expected"] for r in rows] == ["2", "4", ""]
    assert [r["ADIT delivered"] for r in rows] == ["2", "4", ""]


def test_check_tasks_are_not_shown_or_counted_as_studies(
    checked: Callable[..., Job], source: Node, coordinator: User, as_user: Any
) -> None:
    put_study(source, "1", images=2)
    put_study(source, "2", images=3)
    job = checked(row(2, "1"), row(3, "2"))
    client = as_user(coordinator)

    def text(name: str, *where: int) -> str:
        page = client.get(reverse(name, args=where)).content.decode()
        return re.sub('<dialog.*?</dialog>|data-ask="[^"]*"', "", page, flags=re.DOTALL)

    page = text("job", job.pk)
    assert "1 of 1 part of the check done" in page
    assert "images" not in page.split("History")[0]
    assert "check: 1 of 1 part" in text("jobs")
    task = text("job_task", job.pk, 1)
    assert "Check, part 1" in task
    assert re.search(r"Lines of the sheet</dt>\s*<dd>2–3</dd>", task)
    client.post(reverse("job_batch_start", args=[job.pk]))
    assert run_all(job).state == JobState.SUCCESS

    assert "2 of 2 studies done" in text("job", job.pk)
    assert reverse("job_task", args=[job.pk, 1]) not in text("job", job.pk)
    assert "2 of 2 studies" in text("jobs")
    assert "Study 2" in text("job_task", job.pk, 2)
    assert len(json.loads(client.get(f"/jobs/{job.pk}/report.json").getvalue())["studies"]) == 2


def test_a_refused_start_keeps_the_input(
    checked: Callable[..., Job], source: Node, coordinator: User, as_user: Any
) -> None:
    put_study(source, "1")
    job = checked(row(2, "1"))
    answer = as_user(coordinator).post(
        reverse("job_batch_start", args=[job.pk]), {"leave_out": "two", "pilot": "1"}
    )
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "enter line numbers, for example 3, 7-12" in page
    assert 'value="two"' in page
    answer = as_user(coordinator).post(
        reverse("job_batch_start", args=[job.pk]), {"leave_out": "2"}
    )
    assert answer.status_code == 302
    assert run_all(job).state == JobState.WAITING_FOR_OWNER
    page = as_user(coordinator).get(reverse("job_batch_rows", args=[job.pk])).content.decode()
    assert "no row identifies exactly one study" in page
    assert re.search(r'name="leave_out"[^>]*value="2"', page)


def test_the_result_sheet_keeps_own_columns_and_leading_zeros_as_text(
    checked: Callable[..., Job],
    source: Node,
    folder_node: Node,
    coordinator: User,
    as_user: Any,
) -> None:
    folder_node.settings = {**folder_node.settings, "shown_path": r"\\server\research"}
    folder_node.save()
    put_study(source, "1", images=2, PatientID="000123")
    wanted = StudyCriteria("000123", study_uid=f"{ROOT}.1")
    job = checked(
        BatchTransferRow(5, wanted, pseudonym="0007", user_cells=OWN),
        BatchTransferRow(9, wanted, user_cells=OWN, pseudonym="0007", series_uid=f"{ROOT}.1.1"),
        to=folder_node,
    )
    batch_start.request_start(coordinator, job, StartOptions())
    run_all(job)
    first, second = sheet_of(as_user(coordinator), job)
    assert first["PatientID"] == "000123"
    assert first["Pseudonym"] == "0007"
    assert (first["Own"], first["Key"]) == OWN
    assert first["ADIT line"] == "5"
    assert first["ADIT place"].startswith(r"\\server\research\LUNG\0007" + "\\")
    assert second["ADIT place"].startswith(first["ADIT place"] + "\\")
    below = first["ADIT place"].removeprefix(r"\\server\research").replace("\\", "/").strip("/")
    files = list((Path(folder_node.settings["path"]) / below).rglob("*.dcm"))
    assert len(files) == 2 == int(first["ADIT delivered"])

    answer = as_user(coordinator).get(reverse("job_batch_result", args=[job.pk, "csv"]))
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    line = next(csv.DictReader(io.StringIO(text)))
    assert line["Own"] == "'=HYPERLINK(1)"
    assert line["Key"] == "007"


def test_the_sheet_of_failed_rows_can_be_uploaded_again(
    checked: Callable[..., Job], source: Node, coordinator: User, as_user: Any
) -> None:
    from adit.spreadsheets.columns import SheetKind
    from adit.spreadsheets.mapping import guess_mapping
    from adit.spreadsheets.reader import read_sheet
    from adit.spreadsheets.transfer_rows import validate_transfer_rows

    put_study(source, "1")
    day = StudyCriteria("000999", study_date=date(2024, 1, 1), days=3, modalities=("CT", "MR"))
    job = checked(
        row(2, "1"), row(3, "9"), BatchTransferRow(4, day, user_cells=OWN, pseudonym="P9")
    )
    batch_start.request_start(coordinator, job, StartOptions())
    run_all(job)
    answer = as_user(coordinator).get(reverse("job_batch_failed_rows", args=[job.pk, "xlsx"]))
    table = read_sheet(io.BytesIO(answer.content), "again.xlsx")
    judged = validate_transfer_rows(table, guess_mapping(table, SheetKind.TRANSFER))
    assert [one.row.study_uid for one in judged.valid_rows if one.row] == [f"{ROOT}.9", ""]
    last = judged.valid_rows[1].row
    assert last is not None
    assert (last.patient_id, last.study_date, last.days) == ("000999", date(2024, 1, 1), 3)
    assert (last.modalities, last.pseudonym) == (("CT", "MR"), "P9")
    assert judged.valid_rows[1].user_cells == OWN


def test_the_result_sheet_says_what_to_do_and_its_summary_equals_rows_and_job_page(
    checked: Callable[..., Job], source: Node, coordinator: User, as_user: Any
) -> None:
    put_study(source, "1", images=2)
    put_study(source, "2", images=3)
    job = checked(row(2, "1"), row(3, "1"), row(4, "2"), row(5, "9"), row(6, "2"))
    batch_start.request_start(coordinator, job, StartOptions(left_out=frozenset({6})))
    job = run_all(job)
    client = as_user(coordinator)
    steps = [one["ADIT what to do"] for one in sheet_of(client, job)]
    assert steps[:3] == ["", "", ""]
    assert steps[3].startswith("Compare the row with the PACS.")
    assert steps[4].startswith("To transfer this row, upload it again.")

    data = client.get(reverse("job_batch_result", args=[job.pk, "xlsx"])).content
    rows, summary = openpyxl.load_workbook(io.BytesIO(data)).worksheets
    assert (rows.freeze_panes, rows.auto_filter.ref) == ("A2", rows.dimensions)
    cells = [cell for line in rows.iter_rows() for cell in line if cell.value is not None]
    assert {cell.number_format for cell in cells} == {"@"}
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        assert b"numberStoredAsText" in book.read("xl/worksheets/sheet1.xml")
    told = dict(summary.iter_rows(values_only=True))
    counts = progress.get_progress(job).counts
    assert (told["Job"], told["Kind"], told["Source"]) == (job.pk, "Batch transfer", "PACS1")
    assert (told["Destination"], told["Ordered by"]) == ("Research PACS", "coordinator")
    assert told["Research project"] == "Lung study"
    assert told["Rows"] == 5 == sum(n for name, n in told.items() if name.startswith("Rows: "))
    assert (told["Rows: complete"], told["Rows: not found"], told["Rows: excluded"]) == (3, 1, 1)
    assert (told["Studies"], told["Images expected"], told["Images delivered"]) == (2, 5, 5)
    assert (counts.expected, counts.delivered, counts.withheld) == (5, 5, told["Images withheld"])


def test_patient_data_of_another_users_rows_are_hidden_without_permission(
    checked: Callable[..., Job], source: Node, pacsadmin: User, as_user: Any
) -> None:
    put_study(source, "1")
    job = checked(row(2, "1", pseudonym="GIVEN"))
    page = as_user(pacsadmin).get(reverse("job_batch_rows", args=[job.pk])).content.decode()
    (only,) = sheet_of(as_user(pacsadmin), job)
    for text in (page, str(only)):
        assert "GIVEN" in text
        for value in (PATIENT, ROOT, "HYPERLINK", "Thorax"):
            assert value not in text
    again = reverse("job_batch_failed_rows", args=[job.pk, "xlsx"])
    assert as_user(pacsadmin).get(again).status_code == 403


def test_a_stranger_gets_404_for_the_rows_and_only_the_owner_can_start(
    checked: Callable[..., Job], source: Node, stranger: User, pacsadmin: User, as_user: Any
) -> None:
    put_study(source, "1")
    job = checked(row(2, "1"))
    for name in ("job_batch_rows", "job_batch_start"):
        method = "post" if name.endswith("start") else "get"
        answer = getattr(as_user(stranger), method)(reverse(name, args=[job.pk]))
        assert answer.status_code == 404
    answer = as_user(pacsadmin).post(reverse("job_batch_start", args=[job.pk]))
    assert "This is not your job" in answer.content.decode()
    assert Job.objects.get(pk=job.pk).state == JobState.WAITING_FOR_OWNER


def test_the_forecast_counts_only_the_time_when_all_nodes_are_open(
    source: Node, destination: Node, settings: Any
) -> None:
    settings.TIME_ZONE = "UTC"
    now = timezone.now()
    end = estimates.find_sequential_end_time((source, destination), Lane.RETRIEVE, 3600)
    assert end is not None
    assert 3590 < (end - now).total_seconds() < 3700
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    source.windows = [{"days": days, "from": "00:00", "to": "01:00", "limit": 2}]
    later = estimates.find_sequential_end_time((source, destination), Lane.RETRIEVE, 2 * 3600)
    assert later is not None
    assert (later - now).total_seconds() > 24 * 3600


def test_a_page_of_many_rows_opens_only_its_own_and_the_start_is_left_to_a_worker(
    checked: Callable[..., Job],
    source: Node,
    coordinator: User,
    as_user: Any,
    count_opened: Callable[[], int],
) -> None:
    from adit.jobs.models import ResultLine

    put_study(source, "1")
    job = checked(row(2, "1"))
    line = job.lines.get()
    ResultLine.objects.bulk_create(
        ResultLine(
            task=line.task,
            job=job,
            line=n,
            sealed=line.sealed,
            is_asked=True,
            is_found=True,
            facts=line.facts,
        )
        for n in range(100, 2_100)
    )
    client = as_user(coordinator)
    address = reverse("job_batch_rows", args=[job.pk])
    client.get(address)
    count_opened()
    assert client.get(address + "?page=3").status_code == 200
    assert count_opened() < 150
    assert client.post(reverse("job_batch_start", args=[job.pk])).status_code == 302
    assert count_opened() < 150, "the start must be executed by a worker"
    assert "Waiting for a free worker." in client.get(address).content.decode()


def test_the_storage_estimate_is_shown_and_enforced_at_the_start(
    checked: Callable[..., Job],
    source: Node,
    folder_node: Node,
    coordinator: User,
    as_user: Any,
    settings: Any,
) -> None:
    settings.MAX_TRANSFER_ROWS = 0
    put_study(source, "1", images=3)
    job = checked(row(2, "1"), row(3, "1"), to=folder_node)
    client, address = as_user(coordinator), reverse("job_batch_rows", args=[job.pk])
    assert "sufficient (estimate)" in client.get(address).content.decode()
    folder_node.settings["quota_gb"] = 1
    folder_node.save()
    earlier = SeriesResult.objects.create(
        task=job.tasks.get(), attempt=1, index="x", sealed=b"", size_bytes=999_000_000
    )
    said = "of the 1.0 GB quota of this folder are used, and about"
    assert said in client.get(address).content.decode()
    client.post(reverse("job_batch_start", args=[job.pk]))
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_OWNER
    assert said in str(job.message)
    earlier.delete()
    client.post(reverse("job_batch_start", args=[job.pk]))
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_APPROVAL
    assert "sufficient (estimate)" in client.get(address).content.decode()


# From the uploaded file to the order --------------------------------------------------------------


def upload(client: Client, text: str) -> str:
    """Upload a sheet and return the URL of its rows page."""
    file = SimpleUploadedFile("list.csv", text.encode())
    answer = client.post(reverse("job_new_transfer"), {"sheet": file})
    assert answer.status_code == 302, answer.content.decode()
    return str(answer["Location"])


def test_an_uploaded_list_creates_one_job_per_destination(
    source: Node,
    destination: Node,
    folder_node: Node,
    project: Any,
    coordinator: User,
    as_user: Any,
) -> None:
    put_study(source, "1")
    client = as_user(coordinator)
    address = upload(client, f"PatientID;StudyInstanceUID;My key\n{PATIENT};{ROOT}.1;007\n")
    page = client.get(address).content.decode()
    assert "Check 1 row" in page
    assert not Job.objects.exists()
    order = {
        "do": "start",
        "source": source.pk,
        "destinations": [destination.pk, folder_node.pk],
        "project": project.pk,
        "generate": "on",
        "skips_delivered": "on",
        "pilot": "3",
    }
    assert client.post(address, order).status_code == 302
    jobs = list(Job.objects.order_by("pk"))
    assert client.post(address, order)["Location"] == reverse("job", args=[jobs[0].pk])
    assert [job.destination for job in jobs] == [destination, folder_node]
    assert jobs[0].order["own_headers"] == ["My key"]
    assert (jobs[0].order["pilot"], jobs[0].order["starts_itself"]) == (3, False)
    for job in jobs:
        job = run_all(job)
        batch_start.request_start(coordinator, job, StartOptions())
        assert run_all(job).state == JobState.SUCCESS
    assert len(shelf(destination)) == 3
    assert len(list(Path(folder_node.settings["path"]).rglob("*.dcm"))) == 3


def test_a_list_without_pseudonyms_requires_the_option_to_generate_them(
    source: Node, destination: Node, coordinator: User, as_user: Any
) -> None:
    client = as_user(coordinator)
    address = upload(client, "PatientID;StudyInstanceUID\n1;1.2.3\n2;1.2.4\n")
    order = {"do": "start", "source": source.pk, "destinations": [destination.pk]}
    answer = client.post(address, order)
    assert answer.status_code == 422
    assert "These rows have no pseudonym (line 2–3)" in answer.content.decode()
    assert not Job.objects.exists()


def test_nodes_and_options_without_permission_are_not_offered_or_accepted(
    source: Node, destination: Node, make_node: Any, coordinator: User, as_user: Any
) -> None:
    hidden = make_node("Hidden PACS")
    client = as_user(coordinator)
    address = upload(client, "PatientID;StudyInstanceUID\n1;1.2.3\n")
    assert "Hidden PACS" not in client.get(address).content.decode()
    for source_pk, destination_pk in ((hidden.pk, destination.pk), (source.pk, hidden.pk)):
        order = {"do": "start", "source": source_pk, "destinations": [destination_pk]}
        assert client.post(address, {**order, "generate": "on"}).status_code == 422
    as_is = {"change": "as_is", "reason": "x", "urgent": "on", "generate": "on"}
    client.post(
        address, {"do": "start", "source": source.pk, "destinations": [destination.pk], **as_is}
    )
    job = Job.objects.get()
    assert (job.order["change"], job.urgent) == ("pseudonymized", False)


@pytest.fixture
def queried(source: Node, coordinator: User, as_user: Any) -> Job:
    """A batch query with two studies of one patient and no match for another."""
    put_study(source, "1", series=2)
    put_study(source, "2", images=1)
    client, text = as_user(coordinator), f"PatientID;Pseudonym;Key\n{PATIENT};P-1;007\n009;P-2;8\n"
    file = SimpleUploadedFile("list.csv", text.encode())
    address = client.post(reverse("job_new_query"), {"sheet": file})["Location"]
    assert client.post(address, {"do": "start", "sources": [source.pk]}).status_code == 302
    return run_all(Job.objects.get())


def sent(client: Client, address: str, source: Node, destination: Node) -> list[dict[str, str]]:
    """Order the rows of an upload, start after the check and return the result sheet."""
    order = {"do": "start", "source": source.pk, "destinations": [destination.pk]}
    answer = client.post(address, order)
    assert answer.status_code == 302, answer.content.decode()
    job = run_all(Job.objects.get(kind="batch_transfer"))
    batch_start.request_start(job.owner, job, StartOptions())
    assert run_all(job).state == JobState.SUCCESS
    return sheet_of(client, job)


def test_the_export_of_a_query_can_be_uploaded_unchanged(
    queried: Job, source: Node, destination: Node, coordinator: User, as_user: Any
) -> None:
    client = as_user(coordinator)
    export = client.get(reverse("job_results_file", args=[queried.pk, "xlsx"])).content
    file = SimpleUploadedFile("query.xlsx", export)
    address = client.post(reverse("job_new_transfer"), {"sheet": file})["Location"]
    assert "1 excluded" in client.get(address).content.decode()
    rows = sent(client, address, source, destination)
    assert sorted(row["ADIT delivered"] for row in rows) == ["", "1", "6"]
    assert {(row["Pseudonym"], row["Key"]) for row in rows} == {("P-1", "007"), ("P-2", "8")}
    assert len(shelf(destination)) == 7


def test_selected_query_results_are_transferred_without_a_file(
    queried: Job, source: Node, destination: Node, coordinator: User, as_user: Any
) -> None:
    client, results = as_user(coordinator), reverse("job_results", args=[queried.pk])
    client.post(results, {"do": "rule", "most": "1", "order": "newest"})
    answer = client.post(results, {"do": "transfer"})
    page = client.get(answer["Location"]).content.decode()
    assert "Check 1 row" in page
    assert f'<option value="{source.pk}" selected>' in page
    (only,) = sent(client, answer["Location"], source, destination)
    assert (only["Pseudonym"], only["Key"]) == ("P-1", "007")


def test_a_transfer_made_from_a_query_proposes_its_project_destination_and_pseudonyms(
    source: Node, folder_node: Node, project: Any, coordinator: User, as_user: Any
) -> None:
    put_study(source, "1")
    client = as_user(coordinator)
    file = SimpleUploadedFile("list.csv", f"PatientID;Pseudonym\n{PATIENT};P-1\n".encode())
    address = client.post(reverse("job_new_query"), {"sheet": file})["Location"]
    order = {"sources": [source.pk], "project": project.pk, "destinations": [folder_node.pk]}
    assert client.post(address, {"do": "start", **order}).status_code == 302
    query = run_all(Job.objects.get())

    answer = client.post(reverse("job_results", args=[query.pk]), {"do": "transfer"})
    page = client.get(answer["Location"]).content.decode()

    assert f'<option value="{project.pk}" selected>' in page
    box = re.search(rf'<input[^>]* name="destinations" value="{folder_node.pk}"[^>]*>', page)
    assert box is not None
    assert "checked" in box[0]
    assert "P-1" in page


def test_the_password_of_a_7_zip_file_is_asked_for_when_that_destination_is_chosen(
    source: Node, folder_node: Node, make_node: Any, coordinator: User, as_user: Any
) -> None:
    node = make_node("7-Zip", kind="archive", writes=("Coordinators",))
    client = as_user(coordinator)
    address = upload(client, "PatientID;StudyInstanceUID\n1;1.2.3\n")

    def is_shown() -> bool:
        fields = re.search("<fieldset data-shown-for=[^>]*>", client.get(address).content.decode())
        assert fields is not None
        return "hidden" not in fields[0]

    shown = [is_shown()]
    for destinations in ([folder_node.pk], [folder_node.pk, node.pk], [node.pk]):
        client.post(address, {"do": "page:1", "destinations": destinations})
        shown.append(is_shown())
    assert shown == [False, False, True, True]


def test_a_7_zip_file_is_built_after_the_pilot_and_the_rest(
    checked: Callable[..., Job],
    source: Node,
    make_node: Any,
    coordinator: User,
    as_user: Any,
    tmp_path: Path,
) -> None:
    (tmp_path / "archives").mkdir()
    places = {"path": str(tmp_path / "archives"), "staging": str(tmp_path / "gathered")}
    node = make_node("7-Zip", kind="archive", settings=places, writes=("Coordinators",))
    put_study(source, "1", images=2)
    put_study(source, "2", images=1)
    password = "four words and 1 sign!"
    job = checked(row(2, "1"), row(3, "2"), row(4, "9"), to=node, password=password)
    client, start = as_user(coordinator), reverse("job_batch_start", args=[job.pk])
    assert client.post(start, {"pilot": "1"}).status_code == 302
    assert run_all(job).state == JobState.WAITING_FOR_OWNER
    assert not list((tmp_path / "archives").iterdir())
    assert client.post(start).status_code == 302
    job = run_all(job)

    assert job.state == JobState.SUCCESS
    assert job.archive_password is None
    names = unpacked(tmp_path / "archives" / f"job-{job.pk}.7z", password)
    assert sum(name.endswith(".dcm") for name in names) == 3
    rows = sheet_of(client, job)
    assert [r["ADIT place"] for r in rows] == [f"job-{job.pk}.7z"] * 2 + [""]
