"""Results of a batch query: filters, selection, downloads, permissions."""

import csv
import io
import re
from collections.abc import Callable

import openpyxl
import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from lab.ordering import order_job

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs import encrypted_payload, queue, states
from adit.jobs.kinds.base import RowMatches, RowNote, SheetRow
from adit.jobs.kinds.batch_query import BatchQueryRow
from adit.jobs.models import Job, OrderDraft, ResultLine, Task, TaskState
from adit.nodes.models import Node
from adit.results import sheet_rows
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.mapping import guess_mapping
from adit.spreadsheets.query_rows import validate_query_rows
from adit.spreadsheets.reader import read_sheet
from adit.spreadsheets.row_verdicts import RowVerdict
from adit.spreadsheets.transfer_rows import validate_transfer_rows
from adit.spreadsheets.writer import QUERY_RESULT_COLUMNS
from adit.vault.cipher import ValueCipher
from adit_engine.messages import Message
from adit_engine.patient_search.search import PatientQuery, PersonCriteria
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

pytestmark = pytest.mark.django_db

ROOT = "1.2.826.0.1.3680043.8.498.55"
DANGER = "=HYPERLINK(1)"


def study(number: int, patient: str, day: str = "20240101", **values: object) -> Record:
    usual = {
        "PatientID": patient,
        "PatientName": f"Name{patient}^Ada",
        "PatientBirthDate": "19640812",
        "StudyDate": day,
        "StudyTime": "101500",
        "StudyDescription": f"Study {number}",
        "ModalitiesInStudy": ["CT"],
        "StudyInstanceUID": f"{ROOT}.{number}",
        "AccessionNumber": f"0{number}",
        "NumberOfStudyRelatedInstances": str(number),
    }
    return Record(QueryLevel.STUDY, {**usual, **values})  # type: ignore[arg-type]


def row(line: int, patient: str, own: tuple[str, ...] = ("my key",)) -> BatchQueryRow:
    return BatchQueryRow(
        SheetRow(line, own, f"P{line}", {"PatientID": patient}),
        PatientQuery(PersonCriteria(patient_id=patient)),
    )


@pytest.fixture
def make_query(coordinator: User, source: Node) -> Callable[..., Job]:
    """Make an answered query: make_query({"0001": [study(…), …]}, failed={"9": "code"})."""

    def make(
        answers: dict[str, list[Record]],
        *,
        failed: dict[str, str] | None = None,
        notes: dict[str, tuple[RowNote, ...]] | None = None,
        own: tuple[str, ...] = ("my key",),
    ) -> Job:
        failed, notes = failed or {}, notes or {}
        rows = [row(n, patient, own) for n, patient in enumerate([*answers, *failed], start=2)]
        job = order_job(
            coordinator,
            "batch_query",
            rows,
            sources=(source.pk,),
            own_headers=("Key",),
            key=f"q{Job.objects.count()}",
        )
        first = queue.claim("test")
        assert first is not None
        job = Job.objects.get(pk=job.pk)
        tasks = [first, *queue.claim_more(job, first, len(rows))]
        told = {}
        for task, one in zip(tasks, answers, strict=False):
            line = rows[task.position - 1].sheet_row.line
            records = tuple(answers[one])
            empty = () if records else (RowNote.NOTHING,)
            told[task] = [RowMatches(line, records, empty + notes.get(one, ()))]
        sheet_rows.write_matches(encrypted_payload.get_cipher(job.project), told)
        ends: dict[tuple[TaskState, Message], list[Task]] = {}
        for task in tasks[: len(answers)]:
            ends.setdefault((TaskState.SUCCESS, Message("query.matched")), []).append(task)
        for task, why in zip(tasks[len(answers) :], failed.values(), strict=True):
            ends.setdefault((TaskState.FAILURE, Message(why, node="PACS1")), []).append(task)
        states.end_tasks(job, ends)
        return Job.objects.get(pk=job.pk)

    return make


@pytest.fixture
def query(make_query: Callable[..., Job]) -> Job:
    return make_query(
        {
            "0001": [study(1, "0001", "20240301"), study(2, "0001", "20220301")],
            "0002": [
                study(3, "0002", "20230101", StudyDescription=DANGER, ModalitiesInStudy=["MR"])
            ],
            "0003": [],
        },
        failed={"0004": "association.no-free"},
        notes={"0002": (RowNote.CAPPED,)},
    )


@pytest.fixture
def client(as_user: Callable[[User | None], Client], coordinator: User) -> Client:
    return as_user(coordinator)


def page_of(client: Client, job: Job, query: str = "") -> str:
    answer = client.get(reverse("job_results", args=[job.pk]) + query)
    assert answer.status_code == 200
    return re.sub("<dialog.*?</dialog>", "", answer.content.decode(), flags=re.DOTALL)


def post(client: Client, job: Job, **values: object) -> object:
    return client.post(reverse("job_results", args=[job.pk]), values)


def rows_in(client: Client, job: Job, form: str, query: str = "") -> list[list[str | None]]:
    answer = client.get(reverse("job_results_file", args=[job.pk, form]) + query)
    assert answer.status_code == 200
    data = b"".join(answer.streaming_content) if answer.streaming else answer.content
    if form == "csv":
        return list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    sheet_ = openpyxl.load_workbook(io.BytesIO(data)).active
    assert sheet_ is not None
    cells = [cell for line in sheet_.iter_rows() for cell in line if cell.value is not None]
    assert {cell.data_type for cell in cells} == {"s"}
    return [[cell.value for cell in line] for line in sheet_.iter_rows()]


def test_the_page_shows_each_row_with_its_own_columns_and_outcome(
    client: Client, query: Job
) -> None:
    page = page_of(client, query)

    assert page.count("my key") == 5
    assert "Name0001, Ada" in page
    assert "2024-03-01" in page
    assert "No match was found." in page
    assert "PACS1 has no free association at the moment. Try again later." in page
    assert "There may be more" in page
    assert "3 of 3 results selected" in page


@pytest.mark.parametrize(
    ("show", "lines"), [("found", 3), ("nothing", 1), ("failed", 1), ("open", 0), ("note", 1)]
)
def test_rows_are_filtered_by_outcome(client: Client, query: Job, show: str, lines: int) -> None:
    assert page_of(client, query, f"?show={show}").count("my key") == lines


def test_results_are_sorted_by_date(client: Client, query: Job) -> None:
    page = page_of(client, query, "?sort=date")
    assert page.index("2022-03-01") < page.index("2023-01-01") < page.index("2024-03-01")
    page = page_of(client, query, "?sort=-date")
    assert page.index("2024-03-01") < page.index("2023-01-01") < page.index("2022-03-01")


def test_the_search_text_is_not_part_of_the_url(client: Client, query: Job) -> None:
    answer = post(client, query, do="look", text="name0002")

    assert "0002" not in answer["Location"]  # type: ignore[index]
    page = client.get(answer["Location"]).content.decode()  # type: ignore[index]
    assert "Name0002" in page
    assert "Name0001" not in page


def picks(client: Client, job: Job) -> list[str | None]:
    rows = rows_in(client, job, "csv", "?picked")
    at = rows[0].index("StudyInstanceUID")
    return [str(row[at]).removeprefix(f"{ROOT}.") for row in rows[1:] if row[at]]


def test_results_are_selected_individually(client: Client, query: Job) -> None:
    shown = list(ResultLine.objects.filter(is_found=True).values_list("pk", flat=True))

    post(client, query, do="keep:1", shown=shown, pick=shown[1:])

    assert picks(client, query) == ["2", "3"]
    assert "2 of 3 results selected" in page_of(client, query)


@pytest.mark.parametrize(
    ("rule", "picked"),
    [
        ({"most": "1", "order": "newest"}, ["1", "3"]),
        ({"most": "1", "order": "near", "near": "2022-05-01"}, ["2", "3"]),
        ({"most": "2"}, ["1", "2", "3"]),
        ({"modalities": "mr"}, ["3"]),
        ({"most": "1", "modalities": "CT"}, ["1"]),
    ],
)
def test_results_are_selected_by_a_rule(
    client: Client, query: Job, rule: dict[str, str], picked: list[str]
) -> None:
    post(client, query, do="rule", **rule)

    assert picks(client, query) == picked


def test_all_or_no_results_can_be_selected(client: Client, query: Job) -> None:
    post(client, query, do="none")
    assert picks(client, query) == []
    post(client, query, do="all")
    assert picks(client, query) == ["1", "2", "3"]


@pytest.mark.parametrize("form", ["xlsx", "csv"])
def test_a_download_contains_all_rows_with_own_columns_and_reasons(
    client: Client, query: Job, form: str
) -> None:
    head, *rows = rows_in(client, query, form)

    assert head == [
        *QUERY_RESULT_COLUMNS,
        "ADIT line",
        "ADIT source",
        "ADIT found",
        "ADIT reason",
        "ADIT what to do",
        "Key",
    ]
    by_line = [dict(zip(head, row, strict=True)) for row in rows]
    assert [r["PatientID"] for r in by_line] == ["0001", "0001", "0002", "0003", "0004"]
    assert [r["ADIT found"] for r in by_line] == ["yes", "yes", "yes", "no", "no"]
    assert by_line[0]["AccessionNumber"] == "01"
    assert by_line[2]["StudyDescription"] == (DANGER if form == "xlsx" else f"'{DANGER}")
    assert (
        by_line[4]["ADIT reason"] == "PACS1 has no free association at the moment. Try again later."
    )
    assert "There may be more" in str(by_line[2]["ADIT reason"])
    assert {r["Key"] for r in by_line} == {"my key"}
    steps = [str(r["ADIT what to do"] or "") for r in by_line]
    assert steps[:2] == ["", ""]
    for step, words in zip(steps[2:], ("Restrict the row", "Correct it", "Retry"), strict=True):
        assert words in step


def test_the_summary_of_a_query_counts_rows_by_outcome_and_each_study_once(
    client: Client, query: Job
) -> None:
    answer = client.get(reverse("job_results_file", args=[query.pk, "xlsx"]))
    book = openpyxl.load_workbook(io.BytesIO(answer.content))

    told = dict(book["Summary"].iter_rows(values_only=True))

    assert (told["Kind"], told["Rows"], told["Rows: found"]) == ("Batch query", 4, 2)
    assert (told["Rows: not found"], told["Rows: failed"], told["Studies"]) == (1, 1, 3)


@pytest.mark.parametrize("form", ["xlsx", "csv"])
def test_a_download_is_a_valid_batch_transfer_sheet(client: Client, query: Job, form: str) -> None:
    answer = client.get(reverse("job_results_file", args=[query.pk, form]))
    data = b"".join(answer.streaming_content) if answer.streaming else answer.content

    table = read_sheet(io.BytesIO(data), f"results.{form}")
    mapping = guess_mapping(table, SheetKind.TRANSFER)
    judged = validate_transfer_rows(table, mapping)

    assert mapping.is_certain
    assert [r.verdict for r in judged.rows] == [RowVerdict.OK] * 3 + [RowVerdict.LEFT_OUT] * 2
    first = judged.rows[0].row
    assert first is not None
    assert (first.patient_id, first.study_uid, first.pseudonym) == ("0001", f"{ROOT}.1", "P2")
    assert "Key" in judged.own_headers


def test_patient_data_are_masked_on_page_and_download_without_permission(
    query: Job,
    as_user: Callable[[User | None], Client],
    make_user: Callable[..., User],
) -> None:
    approver = make_user("approver", "PACS administrators")
    client = as_user(approver)

    page = page_of(client, query)
    rows = rows_in(client, query, "csv")

    told = page + str(rows)
    for secret in ("Name0001", "0001", "1964", "2024-03-01", "Study 1", f"{ROOT}.1", "my key"):
        assert secret not in told
    assert "•••" in page
    assert "CT" in page


def test_pseudonyms_of_another_users_list_need_permission_to_reidentify(
    query: Job, as_user: Callable[[User | None], Client], make_user: Callable[..., User]
) -> None:
    client = as_user(make_user("colleague", "Coordinators", "PACS administrators"))

    page = page_of(client, query)
    rows = rows_in(client, query, "csv")
    again = client.get(reverse("job_results_file", args=[query.pk, "csv"]) + "?again")
    client.post(reverse("job_results", args=[query.pk]), {"do": "look", "text": "P2"})
    looked_for = page_of(client, query)
    client.post(reverse("job_results", args=[query.pk]), {"do": "look", "text": ""})
    handed = client.post(reverse("job_results", args=[query.pk]), {"do": "transfer"})

    for text in (page, str(rows), b"".join(again.streaming_content).decode()):  # type: ignore[attr-defined]
        assert "000" in text
        assert not re.search(r"\bP[2-5]\b", text)
    assert "Name0001" in page
    assert "Name0001" not in looked_for
    assert "•••" in str(rows)
    assert handed.status_code == 403


def test_hidden_values_can_neither_sort_nor_select_nor_be_handed_on(
    query: Job, coordinator: User, groups: dict[str, Group], as_user: Callable[..., Client]
) -> None:
    """Otherwise repeated questions, such as nearest to a day, would tell what is hidden."""
    groups["Coordinators"].permissions.remove(Permission.objects.get(codename="see_identified"))
    client, results = as_user(coordinator), reverse("job_results", args=[query.pk])
    plain = page_of(client, query)
    everything = picks(client, query)

    for name in ("most", "order", "near"):
        assert f'name="{name}"' not in plain
    for rule in ({"order": "near", "near": "2022-03-01"}, {"order": "newest"}):
        asked = client.post(results, {"do": "rule", "most": "1", **rule})
        assert asked.status_code == 403
    assert picks(client, query) == everything
    for text in ("Name0001", "1964", "20220301", "Study 1", "0002"):
        client.post(results, {"do": "look", "text": text})
        assert "No rows" in page_of(client, query), text
    client.post(results, {"do": "look", "text": ""})
    lines = re.compile(r"Select this result of line (\d+)")
    for sort in ("patient", "-name", "-born", "-date", "description"):
        assert lines.findall(page_of(client, query, f"?sort={sort}")) == lines.findall(plain)
    assert 'id="transfer"' not in plain
    # The uploaded rows would be shown on the next page.
    assert client.post(results, {"do": "transfer"}).status_code == 403

    client.post(results, {"do": "rule", "modalities": "MR"})
    assert len(picks(client, query)) == 1


def test_viewing_and_downloading_results_are_audited(client: Client, query: Job) -> None:
    page_of(client, query)
    page_of(client, query)
    rows_in(client, query, "csv")

    events = list(AuditEvent.objects.values_list("action", flat=True))
    assert events.count("job.seen") == 1
    assert events.count("job.results_downloaded") == 1


def test_the_search_text_is_stored_encrypted(client: Client, query: Job) -> None:
    post(client, query, do="look", text="Name0001")

    assert b"Name0001" not in bytes(
        OrderDraft.objects.extra(select={"raw": "content"}).values("raw")[0]["raw"]
    )


def test_a_page_of_many_results_opens_only_its_own_rows_and_a_sort_each_row_once(
    client: Client, make_query: Callable[..., Job], count_opened: Callable[[], int]
) -> None:
    many = {f"{n:05}": [study(n, f"{n:05}", f"20{n % 24:02}0101")] for n in range(1_000)}
    job = make_query(many)

    for query in ("", "?page=20"):
        count_opened()
        page_of(client, job, query)
        assert count_opened() < 150, query
    for query in ("?sort=-date", "?show=found&sort=name"):
        page_of(client, job, query)
        assert 1_000 <= count_opened() < 1_150, query


def test_the_job_page_counts_the_queries_and_links_to_the_results(
    client: Client, query: Job
) -> None:
    page = client.get(reverse("job", args=[query.pk])).content.decode()

    assert "4 of 4 queries done" in page
    assert reverse("job_results", args=[query.pk]) in page
    assert "PACS1 has no free association at the moment. Try again later." in page
    assert "Delivered" not in re.sub("<dialog.*?</dialog>", "", page, flags=re.DOTALL)


def test_rows_without_a_result_can_be_downloaded_for_a_new_query(
    client: Client, query: Job
) -> None:
    answer = client.get(reverse("job_results_file", args=[query.pk, "xlsx"]) + "?again")

    table = read_sheet(io.BytesIO(answer.content), "again.xlsx")
    judged = validate_query_rows(table, guess_mapping(table, SheetKind.QUERY))

    assert [r.row.patient_id for r in judged.valid_rows] == ["0003", "0004"]  # type: ignore[union-attr]
    assert [r.row.pseudonym for r in judged.valid_rows] == ["P4", "P5"]  # type: ignore[union-attr]
    assert [r.user_cells for r in judged.valid_rows] == [("my key",), ("my key",)]


def test_results_with_a_destroyed_key_are_reported_as_undecryptable(
    client: Client, query: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destroyed key is simulated by a cipher with another key."""
    monkeypatch.setattr(encrypted_payload, "get_cipher", lambda project: ValueCipher(b"0" * 32))

    page = page_of(client, query)

    assert "can no longer be decrypted" in page
    assert rows_in(client, query, "csv")[1:] == []


def test_the_page_of_a_query_task_names_its_lines_of_the_sheet(client: Client, query: Job) -> None:
    page = client.get(reverse("job_task", args=[query.pk, 2])).content.decode()
    told = re.sub("<dialog.*?</dialog>", "", page, flags=re.DOTALL)

    assert "Query 2" in told
    assert re.search(r"Lines of the sheet</dt>\s*<dd>3</dd>", told)
    assert reverse("job_results", args=[query.pk]) in told
    assert "Series" not in told
    assert "Study 2" not in told


def test_the_job_list_counts_the_queries_of_a_job(client: Client, query: Job) -> None:
    page = client.get(reverse("jobs")).content.decode()

    assert "4 of 4 queries" in page
    assert "studies" not in re.sub("<dialog.*?</dialog>", "", page, flags=re.DOTALL)


def test_the_search_text_of_a_running_query_is_empty(
    coordinator: User, source: Node, client: Client, query: Job
) -> None:
    running = order_job(
        coordinator,
        "batch_query",
        [row(2, "0001")],
        sources=(source.pk,),
        own_headers=("Key",),
        key="runs",
    )
    page = client.get(reverse("job_results", args=[running.pk])).content.decode()

    assert "The query is still running" in page
    assert re.search(r'name="text"[^>]* value=""', page)
