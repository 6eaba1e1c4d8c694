"""Batch transfer: check of the sheet, start, transfer, and a result for each row."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from lab.jobs import put_study, shelf, work
from lab.ordering import order_job
from pydicom import dcmread

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs import encrypted_payload, progress, queue
from adit.jobs.actions import allowed, perform
from adit.jobs.disclosure import NO_PATIENTS, Disclosure
from adit.jobs.kinds import batch_transfer
from adit.jobs.kinds.base import RowNote
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.models import (
    DeliveredSeries,
    Job,
    JobState,
    ResultLine,
    SeriesResult,
    Task,
    TaskState,
    TaskType,
)
from adit.nodes.models import Lane, Node, NodeAccess
from adit.orders import batch_start, transfer_preview
from adit.orders.batch_start import StartOptions
from adit.projects import pseudonyms
from adit.projects.models import Project
from adit.results import sheet_rows, transfer_results
from adit.results.check_summary import summarize_check
from adit.results.report import build_report
from adit.results.transfer_results import get_row_results, result_rows, transfer_lines
from adit_engine.errors import InvalidInput, NodeRefused
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.memory import MemoryNode
from adit_engine.pseudonymize.visit import TrialVisit
from adit_engine.transfer.study_lookup import StudyCriteria
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel

ROOT = "1.2.826.0.1.3680043.8.498.77"
ALL = Disclosure(identified=True, rows=True, given=True, generated=True)
pytestmark = pytest.mark.django_db(transaction=True)

ANNE, BEN = "PID-4711-0815", "PID-0002"


def by_uid(line: int, study: str, patient: str = ANNE, **more: Any) -> BatchTransferRow:
    return BatchTransferRow(line, StudyCriteria(patient, study_uid=f"{ROOT}.{study}"), **more)


@pytest.fixture
def order_rows(
    coordinator: User, source: Node, destination: Node, project: object
) -> Callable[..., Job]:
    def order(
        *rows: BatchTransferRow,
        to: Node | None = None,
        user: User | None = None,
        further: tuple[int, ...] = (),
        **more: object,
    ) -> Job:
        return order_job(
            user or coordinator,
            "batch_transfer",
            rows,
            (to or destination).pk,
            sources=(source.pk, *further),
            key=f"{Job.objects.count()}",
            **{"project": project.pk, **more},
        )

    return order


def run_all(job: Job) -> Job:
    while work() is not None:
        pass
    return Job.objects.get(pk=job.pk)


def notes(job: Job) -> dict[int, list[str]]:
    return {row.line: row.notes for row in job.lines.all()}


def test_a_check_fetches_no_images_and_waits_for_its_owner(
    order_rows: Callable[..., Job], source: Node, destination: Node
) -> None:
    put_study(source, "1", images=3, series=2)
    job = run_all(order_rows(by_uid(2, "1", user_cells=("my key",))))

    assert job.state == JobState.WAITING_FOR_OWNER
    assert "Review the rows" in str(job.message)
    assert not shelf(destination)
    line = job.lines.get()
    assert (line.is_asked, line.is_found, line.notes) == (True, True, [])
    assert line.facts["series"] == 2
    assert line.facts["images"] == 6
    content = sheet_rows.open_row(encrypted_payload.get_cipher(job.project), line)
    assert content.user_cells == ("my key",)
    assert content.study is not None
    assert {task.lane for task in job.tasks.all()} == {Lane.SEARCH}


def test_the_check_notes_missing_and_ambiguous_matches_per_row(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1", AccessionNumber="A1")
    put_study(source, "2", AccessionNumber="A2", PatientID=BEN)
    put_study(source, "3", AccessionNumber="A2", StudyDate="20240301")
    put_study(source, "4", AccessionNumber="A4", StudyDate="20240302")
    put_study(source, "5", AccessionNumber="A4", StudyDate="20240303")
    day = StudyCriteria(ANNE, study_date=date(2024, 3, 1), days=0, modalities=("CT",))
    days = StudyCriteria(ANNE, study_date=date(2024, 3, 1), days=2, modalities=("CT",))
    mr = StudyCriteria(ANNE, study_date=date(2024, 3, 1), days=2, modalities=("MR",))
    job = run_all(
        order_rows(
            by_uid(2, "1"),
            by_uid(3, "77"),
            by_uid(4, "2"),
            BatchTransferRow(5, StudyCriteria(accession_number="A1")),
            BatchTransferRow(6, StudyCriteria(accession_number="A2")),
            BatchTransferRow(7, StudyCriteria(accession_number="A4")),
            BatchTransferRow(8, day),
            BatchTransferRow(9, days),
            BatchTransferRow(10, mr),
            BatchTransferRow(
                11, StudyCriteria(ANNE, study_uid=f"{ROOT}.1"), series_uid=f"{ROOT}.1.9"
            ),
            BatchTransferRow(12, StudyCriteria(BEN, accession_number="A2")),
        )
    )
    assert notes(job) == {
        2: [],
        3: [RowNote.NOTHING],
        4: [RowNote.OTHER_PERSON],
        5: [],
        6: [RowNote.SEVERAL, RowNote.PATIENTS],
        7: [RowNote.SEVERAL],
        8: [],
        9: [RowNote.SEVERAL],
        10: [RowNote.NOTHING],
        11: [RowNote.SERIES_GONE],
        12: [],
    }


def test_a_study_uid_listed_for_two_patients_is_never_transferred(
    order_rows: Callable[..., Job], source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orthanc lists such a study twice."""
    put_study(source, "1", images=1)
    find = MemoryNode.find

    def twice(self: MemoryNode, query: Query) -> FindResults:
        records = list(find(self, query))
        if query.level is QueryLevel.STUDY:
            records += [replace(r, values={**r.values, "PatientID": BEN}) for r in records]
        return FindResults(iter(records))

    monkeypatch.setattr(MemoryNode, "find", twice)
    job = run_all(order_rows(by_uid(2, "1")))
    line = job.lines.get()
    assert (line.notes, line.is_found) == ([RowNote.PATIENTS], False)
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_OWNER
    assert "no row identifies exactly one study" in str(job.message)


def test_all_rows_of_one_study_share_one_transfer_task(
    order_rows: Callable[..., Job], source: Node, destination: Node
) -> None:
    put_study(source, "1", images=2, series=3)
    put_study(source, "2", images=1, PatientID=BEN)
    series = {"series_uid": f"{ROOT}.1.1"}
    job = run_all(
        order_rows(
            by_uid(2, "1", **series),
            by_uid(3, "2", BEN, pseudonym="LUNG-B"),
            by_uid(4, "1", series_uid=f"{ROOT}.1.3"),
            by_uid(5, "99"),
        )
    )
    batch_start.request_start(job.owner, job, StartOptions())
    assert not shelf(destination)
    job = run_all(job)

    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 5
    sent = job.tasks.filter(lane=Lane.RETRIEVE)
    assert sent.count() == 2
    by_line = {row.line: row.task for row in job.lines.select_related("task")}
    assert by_line[2] == by_line[4] != by_line[3]
    assert encrypted_payload.open_task(by_line[3]).pseudonym == "LUNG-B"
    assert by_line[5].lane == Lane.SEARCH


def test_a_second_start_creates_no_second_task(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1")
    job = run_all(order_rows(by_uid(2, "1")))
    again = Job.objects.get(pk=job.pk)
    batch_start.request_start(job.owner, job, StartOptions())
    batch_start.request_start(job.owner, again, StartOptions(left_out={2}))
    assert Task.objects.filter(type=TaskType.START).count() == 1
    job = run_all(job)
    batch_start.request_start(job.owner, again, StartOptions())
    assert job.state == JobState.SUCCESS
    assert Task.objects.filter(lane=Lane.RETRIEVE).count() == 1


def test_the_owner_selects_one_of_several_matches_and_excludes_rows(
    order_rows: Callable[..., Job], source: Node, destination: Node
) -> None:
    put_study(source, "1", images=1, StudyDate="20240101")
    put_study(source, "2", images=2, StudyDate="20240102")
    put_study(source, "3", images=4, AccessionNumber="OTHER")
    job = run_all(
        order_rows(
            BatchTransferRow(2, StudyCriteria(accession_number="ACC20240229")),
            BatchTransferRow(3, StudyCriteria(accession_number="ACC20240229")),
            by_uid(4, "3"),
        )
    )
    batch_start.request_start(job.owner, job, StartOptions(choices={2: 1}, left_out={4}))
    job = run_all(job)
    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 2
    assert notes(job)[4] == [RowNote.LEFT_OUT]
    assert notes(job)[3] == [RowNote.SEVERAL]


def test_delivered_series_are_skipped_and_only_new_series_are_fetched(
    order_rows: Callable[..., Job], source: Node, destination: Node, project: Project
) -> None:
    put_study(source, "1", images=2)
    put_study(source, "2", images=2, PatientID=BEN)
    first = run_all(order_rows(by_uid(2, "1"), by_uid(3, "2", BEN)))
    batch_start.request_start(first.owner, first, StartOptions())
    assert run_all(first).state == JobState.SUCCESS
    assert DeliveredSeries.objects.count() == 2

    put_study(source, "1", images=2, series=2)
    second = run_all(order_rows(by_uid(2, "1"), by_uid(3, "2", BEN)))
    facts = {row.line: row.facts for row in second.lines.all()}
    assert (facts[2]["series"], facts[2]["there"]) == (1, 1)
    assert (facts[3]["series"], facts[3]["there"]) == (0, 1)
    batch_start.request_start(second.owner, second, StartOptions())
    second = run_all(second)
    assert second.state == JobState.SUCCESS
    assert notes(second)[3] == [RowNote.DELIVERED]
    sent = SeriesResult.objects.filter(task__job=second, skip_reason__isnull=True)
    assert [item.delivered for item in sent] == [2]
    left_out = SeriesResult.objects.get(task__job=second, skip_reason__isnull=False)
    assert str(left_out.skip_reason) == f"The series was delivered before, by job {first.pk}."

    third = run_all(order_rows(by_uid(2, "1"), skips_delivered=False))
    batch_start.request_start(third.owner, third, StartOptions())
    assert run_all(third).state == JobState.SUCCESS
    assert SeriesResult.objects.filter(task__job=third, skip_reason__isnull=True).count() == 2
    assert len(shelf(destination)) == 6

    fourth = run_all(order_rows(by_uid(2, "1")))
    third.delete()
    cipher = encrypted_payload.get_cipher(project)
    (study,) = sheet_rows.open_row(cipher, fourth.lines.get()).studies
    reasons = transfer_preview.plan_series(fourth, study).left_out.values()
    assert [reason.code for reason in reasons] == ["left-out.delivered-by-deleted-job"] * 2


def test_a_series_with_new_images_is_fetched_again(
    order_rows: Callable[..., Job], source: Node, destination: Node
) -> None:
    put_study(source, "1", images=2)
    first = run_all(order_rows(by_uid(2, "1")))
    batch_start.request_start(first.owner, first, StartOptions())
    run_all(first)
    put_study(source, "1", images=3)
    second = run_all(order_rows(by_uid(2, "1")))
    batch_start.request_start(second.owner, second, StartOptions())
    run_all(second)
    assert len(shelf(destination)) == 3


def test_a_pilot_sends_the_first_studies_and_a_second_start_sends_the_rest(
    order_rows: Callable[..., Job], source: Node, destination: Node
) -> None:
    for study in "123":
        put_study(source, study, images=1)
    job = run_all(order_rows(*(by_uid(2 + n, study) for n, study in enumerate("123"))))
    batch_start.request_start(job.owner, job, StartOptions(pilot=1))
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_OWNER
    assert "pilot is finished: 1 image delivered" in str(job.message)
    assert len(shelf(destination)) == 1

    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 3
    assert [
        e.action for e in AuditEvent.objects.filter(action__in=("job.started", "job.continued"))
    ] == [
        "job.started",
        "job.continued",
    ]


def test_a_transfer_starts_automatically_only_if_each_row_has_one_match(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1")
    plain = run_all(order_rows(by_uid(2, "1"), starts_itself=True))
    odd = run_all(order_rows(by_uid(2, "1"), by_uid(3, "9"), starts_itself=True))
    not_asked = run_all(order_rows(by_uid(2, "1")))

    assert batch_start.start_automatically() == 1
    assert batch_start.start_automatically() == 0
    assert run_all(plain).state == JobState.SUCCESS
    odd.refresh_from_db()
    assert odd.state == JobState.WAITING_FOR_OWNER
    assert "1 row has to be checked" in str(odd.message)
    assert Job.objects.get(pk=not_asked.pk).state == JobState.WAITING_FOR_OWNER


def test_a_large_transfer_waits_for_approval_after_its_start(
    order_rows: Callable[..., Job], source: Node, pacsadmin: User, settings: object
) -> None:
    settings.MAX_TRANSFER_ROWS = 1
    for study in "12":
        put_study(source, study)
    job = run_all(order_rows(by_uid(2, "1"), by_uid(3, "2")))
    assert job.state == JobState.WAITING_FOR_OWNER
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_APPROVAL
    perform(pacsadmin, job, "approve")
    assert run_all(job).state == JobState.SUCCESS


def by_accession(line: int, number: str, pseudonym: str = "") -> BatchTransferRow:
    return BatchTransferRow(line, StudyCriteria(accession_number=number), pseudonym=pseudonym)


def reasons(job: Job) -> dict[int, str]:
    answers = get_row_results(job, list(transfer_lines(job)))
    return {answer.line: f"{answer.label}: {answer.reason}" for answer in answers}


def test_the_check_finds_pseudonym_conflicts_between_rows(
    order_rows: Callable[..., Job], source: Node, destination: Node
) -> None:
    put_study(source, "1", images=1, AccessionNumber="A1")
    put_study(source, "2", images=1, AccessionNumber="A2")
    put_study(source, "3", images=1, AccessionNumber="A3", PatientID=BEN)
    put_study(source, "4", images=1, AccessionNumber="A4", PatientID="PID-4")
    job = run_all(
        order_rows(
            by_accession(2, "A1", "ONE"),
            by_accession(3, "A2", "TWO"),
            by_accession(4, "A3", "one"),
            by_accession(5, "A4", "FOUR"),
        )
    )
    assert summarize_check(job).conflicts == 3
    said = reasons(job)
    assert "One patient has several pseudonyms" in said[2]
    assert "Other lines: 3." in said[2]
    assert "One pseudonym is used for several patients" in said[4]
    assert "Other lines: 2." in said[4]
    assert all(said[line].startswith("pseudonym conflict:") for line in (2, 3, 4))

    batch_start.request_start(job.owner, job, StartOptions(left_out={3, 4}, pilot=1))
    job = run_all(job)
    assert "pilot is finished" in str(job.message)
    assert notes(job) == {2: [], 3: [RowNote.LEFT_OUT], 4: [RowNote.LEFT_OUT], 5: []}
    batch_start.request_start(job.owner, job, StartOptions())
    assert run_all(job).state == JobState.SUCCESS
    assert len(shelf(destination)) == 2


def test_rows_with_pseudonym_conflicts_do_not_prevent_the_start_of_others(
    order_rows: Callable[..., Job],
    source: Node,
    project: Project,
    coordinator: User,
    as_user: Callable[..., Client],
) -> None:
    pseudonyms.get_or_create_pseudonym(project, source.name, ANNE, "MINE")
    pseudonyms.get_or_create_pseudonym(project, source.name, "PID-5", "TAKEN")
    for number, patient in enumerate((ANNE, BEN, "PID-3", "PID-4"), start=1):
        put_study(source, f"{number}", AccessionNumber=f"A{number}", PatientID=patient)
    job = run_all(
        order_rows(
            by_accession(2, "A1", "OTHER"),
            by_accession(3, "A2", "taken"),
            by_accession(4, "A3", "pid-3"),
            by_accession(5, "A4", "FOUR"),
            starts_itself=True,
        )
    )
    assert batch_start.start_automatically() == 0
    said = reasons(job)
    assert "already has another pseudonym in the research project" in said[2]
    assert "already belongs to another patient in the research project" in said[3]
    assert "The pseudonym is the patient ID" in said[4]
    assert not any(name in str(said) for name in ("MINE", "TAKEN", "taken"))
    page = as_user(coordinator).get(reverse("job_batch_rows", args=[job.pk])).content.decode()
    assert "3 rows have pseudonym conflicts and are not transferred" in page

    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.SUCCESS
    assert "1 of 4 rows delivered. 3 rows were not transferred." in str(job.message)
    assert encrypted_payload.open_task(job.tasks.get(lane=Lane.RETRIEVE)).pseudonym == "FOUR"
    assert job.state_text == "complete (1 of 4 rows delivered)"


def test_a_given_pseudonym_applies_to_all_rows_of_its_patient(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1", AccessionNumber="A1")
    put_study(source, "2", AccessionNumber="A2")
    job = run_all(order_rows(by_accession(2, "A1"), by_accession(3, "A2", "GIVEN")))
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.SUCCESS
    sent = job.tasks.filter(lane=Lane.RETRIEVE)
    assert {encrypted_payload.open_task(task).pseudonym for task in sent} == {"GIVEN"}


def test_a_conflict_that_arises_after_the_check_does_not_prevent_the_start(
    order_rows: Callable[..., Job],
    source: Node,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_study(source, "1", AccessionNumber="A1")
    put_study(source, "2", AccessionNumber="A2", PatientID=BEN)
    job = run_all(order_rows(by_accession(2, "A1", "ONE"), by_accession(3, "A2", "TWO")))
    find = batch_start.find_conflicts

    def meanwhile(*values: Any) -> Any:
        found = find(*values)
        pseudonyms.get_or_create_pseudonym(project, source.name, ANNE, "FIRST")
        return found

    monkeypatch.setattr(batch_start, "find_conflicts", meanwhile)
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.SUCCESS
    assert notes(job) == {2: [RowNote.PSEUDONYM], 3: []}
    assert "Meanwhile" in reasons(job)[2]


def test_a_study_on_several_rows_is_counted_once(
    order_rows: Callable[..., Job], source: Node, settings: Any
) -> None:
    settings.MAX_TRANSFER_ROWS = 2
    put_study(source, "1", images=2, series=2, AccessionNumber="A1")
    put_study(source, "2", images=3, series=2, PatientID=BEN)
    job = run_all(
        order_rows(
            by_uid(2, "1"),
            by_accession(3, "A1"),
            by_uid(4, "1", series_uid=f"{ROOT}.1.1"),
            by_uid(5, "2", BEN, series_uid=f"{ROOT}.2.1"),
            by_uid(6, "2", BEN, series_uid=f"{ROOT}.2.2"),
            by_uid(7, "2", BEN, series_uid=f"{ROOT}.2.2"),
        )
    )
    summary = summarize_check(job)
    assert (summary.ready, summary.studies, summary.series, summary.images) == (6, 2, 4, 10)
    sizes = {row.line: row.facts["bytes"] for row in job.lines.all()}
    assert summary.size_bytes == sizes[2] + sizes[5] + sizes[6]

    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.SUCCESS, "two studies need no approval"
    assert progress.count_tasks([job.pk])[job.pk].tasks == summary.studies
    assert str(job.message) == "All 10 images delivered."


def test_a_row_refused_by_the_source_does_not_affect_other_rows(
    order_rows: Callable[..., Job], source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_study(source, "1")
    find = MemoryNode.find

    def picky(self: MemoryNode, query: Query) -> FindResults:
        if "AccessionNumber" in query.keys:
            raise NodeRefused(self.name, "test.accession-number-refused", 0xA900)
        return find(self, query)

    monkeypatch.setattr(MemoryNode, "find", picky)
    job = run_all(
        order_rows(by_uid(2, "1"), BatchTransferRow(3, StudyCriteria(accession_number="A1")))
    )
    assert notes(job) == {2: [], 3: [RowNote.NO_ANSWER]}
    content = sheet_rows.open_row(encrypted_payload.get_cipher(job.project), job.lines.get(line=3))
    assert "test.accession-number-refused" in str(content.reason)
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.WARNING, "a row without an answer is never called complete"
    assert "1 row was not answered." in str(job.message)


def test_a_checked_list_without_a_project_is_not_started_once_projects_are_required(
    order_rows: Callable[..., Job], source: Node, destination: Node, settings: Any
) -> None:
    put_study(source, "1")
    job = run_all(order_rows(by_uid(2, "1"), project=None))
    settings.ORDERS_WITHOUT_PROJECT = False
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert (job.state, shelf(destination)) == (JobState.WAITING_FOR_OWNER, {})
    assert "Choose a research project" in str(job.message)


def test_a_withdrawn_permission_fails_the_check_with_a_message(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1")
    job = order_rows(by_uid(2, "1"))
    NodeAccess.objects.filter(node=source).delete()
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_OWNER
    task = job.tasks.get()
    assert task.state == TaskState.FAILURE
    assert "None of your groups may fetch from PACS1" in str(task.message)
    assert not job.lines.get().is_asked


def test_a_resumed_check_waits_for_its_owner_and_can_be_canceled(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1")
    job = order_rows(by_uid(2, "1"))
    perform(job.owner, job, "cancel")
    assert job.state == JobState.CANCELED
    perform(job.owner, job, "resume")
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_OWNER
    perform(job.owner, job, "cancel")
    assert job.state == JobState.CANCELED
    assert work() is None


def test_an_interrupted_check_is_repeated_without_duplicate_rows(
    order_rows: Callable[..., Job], source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for study in "123":
        put_study(source, study)
    job = order_rows(*(by_uid(2 + n, study) for n, study in enumerate("123")))
    task = queue.claim("dies")
    assert task is not None
    sheet_rows.write_check(encrypted_payload.get_cipher(job.project), task, _nothing(2), {})
    Task.objects.filter(pk=task.pk).update(lease_until="2020-01-01T00:00:00+00:00")
    queue.sweep()
    job = run_all(job)
    assert notes(job) == {2: [], 3: [], 4: []}
    assert ResultLine.objects.count() == 3


def test_staff_can_restart_the_transfer_without_repeating_the_check(
    order_rows: Callable[..., Job], source: Node, destination: Node, coordinator: User
) -> None:
    put_study(source, "1")
    coordinator.is_staff = True
    coordinator.save()
    job = run_all(order_rows(by_uid(2, "1")))
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    shelf(destination).clear()
    perform(coordinator, job, "restart")
    assert run_all(job).state == JobState.SUCCESS
    assert len(shelf(destination)) == 3


def test_a_study_on_many_rows_is_queried_once(
    order_rows: Callable[..., Job], source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_study(source, "1", series=2)
    asked: list[str] = []
    find = MemoryNode.find

    def counted(self: MemoryNode, query: Query) -> FindResults:
        asked.append(query.level.value)
        return find(self, query)

    monkeypatch.setattr(MemoryNode, "find", counted)
    run_all(order_rows(*(by_uid(line, "1") for line in range(2, 30))))
    assert asked == ["STUDY", "SERIES"]


def test_identifying_data_are_absent_from_unencrypted_fields(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1")
    job = run_all(order_rows(by_uid(2, "1", user_cells=("secret key",))))
    plain = f"{job.order} {job.message} {job.lines.get().facts} {job.tasks.get().message}"
    for value in (ANNE, "Mustermann", "ACC20240229", "19560412", "secret key", ROOT):
        assert value not in plain


def _nothing(line: int) -> object:
    from adit.jobs.kinds.base import RowCheck

    return RowCheck(line, (), (RowNote.NOTHING,))


def test_a_second_person_project_requires_approval_after_the_start(
    order_rows: Callable[..., Job],
    source: Node,
    project: Project,
    coordinator: User,
    pacsadmin: User,
) -> None:
    project.second_person = True
    project.save()
    coordinator.is_staff = True
    coordinator.save()
    put_study(source, "1")
    job = run_all(order_rows(by_uid(2, "1")))
    assert job.state == JobState.WAITING_FOR_OWNER
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_APPROVAL
    assert "approve" not in allowed(coordinator, job)
    perform(pacsadmin, job, "approve")
    assert run_all(job).state == JobState.SUCCESS


def test_a_transfer_that_delivers_nothing_fails_despite_a_successful_check(
    order_rows: Callable[..., Job], source: Node, destination: Node
) -> None:
    uid = put_study(source, "1")
    job = run_all(order_rows(by_uid(2, "1")))
    for one in [one for one in shelf(source).values() if one.in_header.ref.study_uid == uid]:
        del shelf(source)[one.instance_uid]
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.FAILURE
    assert str(job.message).startswith("Nothing was delivered.")


# Several sources ----------------------------------------------------------------------------------


@pytest.fixture
def old_pacs(make_node: Callable[..., Node]) -> Node:
    return make_node("Old PACS", reads=("Coordinators",))


def test_studies_missing_in_one_source_are_fetched_from_the_next(
    order_rows: Callable[..., Job], source: Node, destination: Node, old_pacs: Node
) -> None:
    put_study(source, "1", images=1)
    put_study(old_pacs, "1", images=3)
    put_study(old_pacs, "2", images=2, PatientID=BEN)
    rows = (
        by_uid(2, "1"),
        by_uid(3, "2", BEN, user_cells=("key",)),
        by_uid(4, "3"),
        by_uid(5, "2"),
    )
    job = run_all(order_rows(*rows, further=(old_pacs.pk,)))

    assert job.state == JobState.WAITING_FOR_OWNER
    assert notes(job) == {2: [], 3: [], 4: [RowNote.NOTHING], 5: [RowNote.OTHER_PERSON]}
    by_line = {row.line: row.task.source.name for row in job.lines.select_related("task__source")}
    assert by_line == {2: "PACS1", 3: "Old PACS", 4: "Old PACS", 5: "Old PACS"}
    assert summarize_check(job).rows == 4
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)
    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 3
    found = sheet_rows.open_row(encrypted_payload.get_cipher(job.project), job.lines.get(line=3))
    assert found.user_cells == ("key",)
    said = {
        answer.line: answer.source for answer in get_row_results(job, list(transfer_lines(job)))
    }
    assert said == {2: "PACS1", 3: "Old PACS", 4: "", 5: "Old PACS"}


def test_the_result_sheet_names_the_source_of_each_row(
    order_rows: Callable[..., Job], source: Node, old_pacs: Node
) -> None:
    put_study(source, "1", images=1)
    put_study(old_pacs, "2", images=2, PatientID=BEN)
    rows = (by_uid(2, "1"), by_uid(3, "2", BEN), by_uid(4, "3"))
    job = run_all(order_rows(*rows, further=(old_pacs.pk,)))
    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)

    for sees in (ALL, NO_PATIENTS):
        columns = transfer_results.result_columns(job, sees)
        sheet = [
            dict(zip(columns, row, strict=True)) for row in transfer_results.result_rows(job, sees)
        ]
        assert [row["ADIT source"] for row in sheet] == ["PACS1", "Old PACS", ""]
        assert [row["ADIT line"] for row in sheet] == ["2", "3", "4"]
        assert sheet[0]["ADIT place"] == "Research PACS"


def test_the_result_sheet_has_no_source_column_for_a_single_source(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1", images=1)
    job = run_all(order_rows(by_uid(2, "1")))

    columns = transfer_results.result_columns(job, ALL)
    assert "ADIT source" not in columns
    assert {len(row) for row in transfer_results.result_rows(job, ALL)} == {len(columns)}


def test_the_result_sheet_does_not_report_fully_withheld_rows_as_complete(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1", images=2, BurnedInAnnotation="YES")
    put_study(source, "2", images=2, PatientID=BEN)
    job = run_all(order_rows(by_uid(2, "1"), by_uid(3, "2", BEN)))
    job.order["announced"] = ["burned-in"]
    job.save()
    batch_start.request_start(job.owner, job, StartOptions())

    job = run_all(job)

    columns = transfer_results.result_columns(job, ALL)
    rows = [dict(zip(columns, row, strict=True)) for row in transfer_results.result_rows(job, ALL)]
    assert [row["ADIT outcome"] for row in rows] == [
        "nothing to deliver (all images withheld)",
        "complete",
    ]
    assert [row["ADIT delivered"] for row in rows] == ["0", "2"]
    told = "Delivered as ordered, 2 withheld (1 of 2 rows delivered)"
    assert (job.state, job.state_text) == (JobState.SUCCESS, told)
    assert "All images of 1 row were withheld." in str(job.message)


def test_a_job_succeeds_if_its_check_announced_the_withheld_radiographs(
    order_rows: Callable[..., Job], source: Node
) -> None:
    radiograph = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR"}
    put_study(source, "1", images=2, BurnedInAnnotation="NO", **radiograph)
    put_study(source, "2", images=2, PatientID=BEN)
    job = run_all(order_rows(by_uid(2, "1"), by_uid(3, "2", BEN)))
    ((why, images),) = summarize_check(job).risks
    assert images == 2
    assert why.startswith("CR, DX, MG, XA, RF and NM images are withheld unless a pixel rule")
    assert summarize_check(job).withheld == ()

    batch_start.request_start(job.owner, job, StartOptions())
    job = run_all(job)

    assert job.order["announced"] == ["header-word"]
    told = "Delivered as ordered, 2 withheld (1 of 2 rows delivered)"
    assert (job.state, job.state_text) == (JobState.SUCCESS, told)


def test_a_row_refused_by_one_source_is_not_passed_to_the_next(
    order_rows: Callable[..., Job],
    source: Node,
    old_pacs: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_study(old_pacs, "1")
    find = MemoryNode.find

    def refuses(self: MemoryNode, query: Query) -> FindResults:
        if self.name == source.name:
            raise NodeRefused(self.name, "test.refused", 0xC000)
        return find(self, query)

    monkeypatch.setattr(MemoryNode, "find", refuses)
    job = run_all(order_rows(by_uid(2, "1"), further=(old_pacs.pk,)))
    assert notes(job) == {2: [RowNote.NO_ANSWER]}


def test_every_source_needs_permission_and_differs_from_the_destination(
    order_rows: Callable[..., Job], source: Node, destination: Node, make_node: Callable[..., Node]
) -> None:
    with pytest.raises(NotPermitted):
        order_rows(by_uid(2, "1"), further=(make_node("Secret PACS").pk,))
    with pytest.raises(InvalidInput, match="Source and destination are the same"):
        order_rows(by_uid(2, "1"), further=(destination.pk,))


def test_the_visit_of_a_row_reaches_header_folder_result_sheet_and_report(
    order_rows: Callable[..., Job], source: Node, folder_node: Node, tmp_path: Path
) -> None:
    put_study(source, "1", images=2, series=2)
    put_study(source, "2", images=1, PatientID=BEN)
    baseline = TrialVisit("V1", "Baseline")
    rows = [by_uid(2, "1", series_uid=f"{ROOT}.1.1", visit=baseline), by_uid(3, "2", BEN)]
    rows.append(by_uid(4, "1", series_uid=f"{ROOT}.1.2", visit=baseline))
    job = run_all(order_rows(*rows, to=folder_node))
    batch_start.request_start(job.owner, job, StartOptions())
    assert work() is not None
    held = dict(shelf(source))
    shelf(source).clear()
    assert run_all(job).state == JobState.FAILURE
    shelf(source).update(held)
    job.refresh_from_db()

    perform(job.owner, job, "retry")

    job = run_all(job)
    assert job.state == JobState.SUCCESS
    files = {path: dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")}
    visits = {
        (ds.get("ClinicalTrialTimePointID"), ds.get("ClinicalTrialTimePointDescription"))
        for ds in files.values()
    }
    assert visits == {("V1", "Baseline"), (None, None)}
    for path, ds in files.items():
        assert path.parts[-3].startswith("V1-") == ("ClinicalTrialTimePointID" in ds)
    columns = transfer_results.result_columns(job, ALL)
    sheet = [dict(zip(columns, row, strict=True)) for row in result_rows(job, ALL)]
    assert [(row["Visit"], row["VisitDescription"]) for row in sheet] == [
        ("V1", "Baseline"),
        ("", ""),
        ("V1", "Baseline"),
    ]
    told = [study["visit"] for study in build_report(job)["studies"]]
    assert told == [{"id": "V1", "description": "Baseline"}, None]


def test_rows_that_mean_one_study_with_two_visits_are_named_at_the_start(
    order_rows: Callable[..., Job], source: Node
) -> None:
    put_study(source, "1", AccessionNumber="A1")
    put_study(source, "2", AccessionNumber="A2")
    by_number = StudyCriteria(accession_number="A1")
    job = run_all(
        order_rows(
            by_uid(2, "1", visit=TrialVisit("V1")),
            by_uid(3, "2", visit=TrialVisit("V1")),
            BatchTransferRow(4, by_number, visit=TrialVisit("V2")),
        )
    )

    batch_start.request_start(job.owner, job, StartOptions())

    job = run_all(job)
    assert job.state == JobState.WAITING_FOR_OWNER
    assert "Lines 2 and 4 mean the same study with different visits" in str(job.message)
    batch_start.request_start(job.owner, job, StartOptions(left_out={4}))
    assert run_all(job).state == JobState.SUCCESS


def test_a_row_with_all_criteria_round_trips_through_json() -> None:
    wanted = StudyCriteria(ANNE, "1.2.3", "A1", date(2024, 2, 29), 3, ("CT", "PT"))
    assert all(getattr(wanted, field.name) for field in fields(StudyCriteria))
    row = BatchTransferRow(7, wanted, series_uid="1.2.3.4")

    assert batch_transfer._row_from_json(batch_transfer._row_to_json(row)) == row
