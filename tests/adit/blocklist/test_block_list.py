"""Patients on the block list: orders, queued and running tasks, sheets, 7-Zip files, pages."""

import logging
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from lab.jobs import GatedNode, claimed, in_thread, put_study, shelf, until, work
from lab.ordering import make_request, order_job

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.jobs import encrypted_payload
from adit.jobs.kinds.base import RowNote
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.lease import Lease
from adit.jobs.models import ArchiveFile, Job, JobState, Task, TaskState, TaskType
from adit.nodes.models import Lane, Node
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.orders.service import PatientsBlocked, place_order, preview_order
from adit.projects import pseudonyms
from adit.projects.models import Project
from adit.projects.patient_merge import merge_patient_id
from adit.results.check_summary import summarize_check
from adit_engine.errors import InvalidInput
from adit_engine.transfer.study_lookup import StudyCriteria

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = "1.2.826.0.1.3680043.8.498.77"
ANNE, BEN = "PID-4711-0815", "PID-0002"


@pytest.fixture
def block(dpo: User) -> Callable[..., BlockedPatient]:
    def add(
        patient_id: str = ANNE, domain: str = "PACS1", project: Project | None = None
    ) -> BlockedPatient:
        return blocking.block_patient(
            dpo, project, domain, patient_id, reason="consent withdrawn", withdrawn_on=date.today()
        )

    return add


def test_an_order_for_a_blocked_patient_is_refused_by_the_position_of_the_study(
    coordinator: User,
    source: Node,
    destination: Node,
    block: Callable[..., BlockedPatient],
    caplog: pytest.LogCaptureFixture,
) -> None:
    block()
    uids = [put_study(source, "1", PatientID=BEN), put_study(source, "2")]
    picks = [
        PickedStudy.by_uid(source.pk, uid, who) for uid, who in zip(uids, (BEN, ANNE), strict=True)
    ]
    request = make_request("selective", picks, destination.pk)

    with pytest.raises(PatientsBlocked) as refused, caplog.at_level(logging.DEBUG):
        place_order(coordinator, request)
    with pytest.raises(PatientsBlocked):
        preview_order(coordinator, request)

    assert str(refused.value).startswith("Study 2: This patient must not be transferred")
    assert ANNE not in str(refused.value) + caplog.text
    assert not Job.objects.exists()
    events = AuditEvent.objects.filter(action="order.patients_refused", user=coordinator)
    assert [event.details["studies"] for event in events] == [1, 1]


@pytest.mark.parametrize(
    ("entered", "domain", "is_blocked"),
    [
        (ANNE, "PACS1", True),
        ("pid-4711-0815", "PACS1", True),
        (f"000{ANNE} ", "PACS1", True),
        (ANNE, blocking.EVERY_DOMAIN, True),
        (ANNE, "PACS2", False),
        ("PID-4711-081", "PACS1", False),
    ],
)
def test_leading_zeros_case_and_domain_of_an_entry(
    entered: str, domain: str, is_blocked: bool, block: Callable[..., BlockedPatient]
) -> None:
    block(entered, domain)

    assert blocking.is_blocked(None, "PACS1", ANNE) is is_blocked


def test_an_id_of_zeros_blocks_no_other_patient(block: Callable[..., BlockedPatient]) -> None:
    block("000")

    assert blocking.is_blocked(None, "PACS1", "0")
    assert not blocking.is_blocked(None, "PACS1", "")
    with pytest.raises(InvalidInput):
        block(" \0")


def test_an_entry_of_one_project_does_not_count_for_another(
    project: Project, make_project: Callable[..., Project], block: Callable[..., BlockedPatient]
) -> None:
    block(project=project)

    assert blocking.is_blocked(project, "PACS1", ANNE)
    assert not blocking.is_blocked(make_project("HEART"), "PACS1", ANNE)
    with pytest.raises(blocking.PatientBlocked) as refused:
        blocking.require_not_blocked(project, "PACS1", ANNE)
    assert "block list of the research project LUNG" in str(refused.value)


def test_a_merged_patient_id_is_blocked_with_the_patient(
    project: Project, source: Node, keyholder: User, block: Callable[..., BlockedPatient]
) -> None:
    pseudonyms.get_or_create_pseudonym(project, "PACS1", "A-1")
    merge_patient_id(keyholder, project.patients.get(), source, "B-2", "same person")

    block("b-2")

    assert blocking.is_blocked(project, "PACS1", "A-1")
    assert not blocking.is_blocked(None, "PACS1", "A-1"), "other projects do not know the merge"


def test_a_patient_blocked_after_the_order_is_not_fetched(
    order_studies: Callable[..., Job],
    destination: Node,
    block: Callable[..., BlockedPatient],
) -> None:
    order_studies("1")
    opened = AuditEvent.objects.filter(action="node.opened")
    before = opened.count()
    block()

    task = work()

    assert task is not None
    assert task.state == TaskState.FAILURE
    assert "block list of all projects" in str(task.message)
    assert not shelf(destination)
    assert opened.count() == before, "no PACS was contacted"
    assert ANNE not in str(task.message) + "".join(str(one.body) for one in mail.outbox)
    assert find_reason_of_end() == "blocklist.blocked-everywhere"


def find_reason_of_end() -> str:
    """Return the code of the reason that the audit trail has for the last end of a task."""
    event = AuditEvent.objects.filter(action="task.ended").latest("pk")
    reason: str = event.details["reason"]
    return reason


def test_a_running_transfer_stops_when_its_patient_is_blocked(
    order_studies: Callable[..., Job],
    destination: Node,
    gated: type[GatedNode],
    block: Callable[..., BlockedPatient],
) -> None:
    job = order_studies("1", images=4)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: shelf(destination))

    block()
    thread.join(30)

    task = Task.objects.get(job=job)
    assert not thread.is_alive()
    assert task.state == TaskState.FAILURE
    assert "must not be transferred" in str(task.message)
    assert find_reason_of_end() == "blocklist.blocked-everywhere"
    assert len(shelf(destination)) < 4
    item = task.items.get()
    assert item.is_final
    assert item.delivered + item.failed == 4, "the ledger accounts for each image"


def test_a_patient_is_checked_again_before_each_series(
    order_studies: Callable[..., Job],
    destination: Node,
    block: Callable[..., BlockedPatient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lease, which looks every two seconds, is too slow for small series."""
    order_studies("1", series=3)
    record = blocking.find_block
    asked: list[int] = []

    def block_after_first_series(*args: Any) -> BlockedPatient | None:
        asked.append(1)
        if len(shelf(destination)) >= 1 and not BlockedPatient.objects.exists():
            block()
        return record(*args)

    monkeypatch.setattr("adit.jobs.block_check.blocking.has_entries", lambda: True)
    monkeypatch.setattr("adit.jobs.block_check.blocking.find_block", block_after_first_series)
    monkeypatch.setattr(Lease, "_check_patient", lambda lease: None)
    task = work()

    assert task is not None
    assert task.state == TaskState.FAILURE
    assert 0 < len(shelf(destination)) < 9, "only the series before the entry was stored"


@pytest.fixture
def order_rows(
    coordinator: User, source: Node, destination: Node, project: Project
) -> Callable[..., Job]:
    def order(**more: Any) -> Job:
        put_study(source, "1")
        put_study(source, "2", PatientID=BEN)
        rows = [
            BatchTransferRow(line, StudyCriteria(who, study_uid=f"{ROOT}.{study}"))
            for line, study, who in ((2, "1", ANNE), (3, "2", BEN))
        ]
        return order_job(
            coordinator,
            "batch_transfer",
            rows,
            destination.pk,
            sources=(source.pk,),
            project=project.pk,
            **more,
        )

    return order


def notes(job: Job) -> dict[int, list[str]]:
    return dict(job.lines.order_by("line").values_list("line", "notes"))


def test_a_row_of_a_blocked_patient_is_an_error_of_its_own(
    order_rows: Callable[..., Job],
    coordinator: User,
    destination: Node,
    block: Callable[..., BlockedPatient],
    as_user: Callable[..., Client],
) -> None:
    block()
    job = order_rows(starts_itself=True)
    work()
    batch_start.start_automatically()

    job.refresh_from_db()
    page = as_user(coordinator).get(reverse("job_batch_rows", args=[job.pk])).content.decode()

    assert notes(job) == {2: [RowNote.BLOCKED], 3: []}
    assert job.state == JobState.WAITING_FOR_OWNER, "a person looks at the row first"
    assert summarize_check(job).blocked == 1
    assert "patient is blocked" in page
    refused = AuditEvent.objects.get(action="rows.blocked")
    assert (refused.about, refused.user) == (f"job:{job.pk}", coordinator)
    assert ANNE not in repr(refused.details)
    assert "Blocked patients" in page

    batch_start.request_start(coordinator, job, StartOptions())
    while work():
        pass
    assert transferred_patients(job) == {BEN}


def transferred_patients(job: Job) -> set[str]:
    tasks = job.tasks.filter(type=TaskType.ORDERED, lane=Lane.RETRIEVE)
    return {encrypted_payload.open_task(task).patient_id for task in tasks}


def test_a_patient_blocked_between_check_and_start_is_not_transferred(
    order_rows: Callable[..., Job], coordinator: User, block: Callable[..., BlockedPatient]
) -> None:
    job = order_rows()
    work()
    job.refresh_from_db()
    block()

    batch_start.request_start(coordinator, job, StartOptions())
    while work():
        pass

    assert notes(job) == {2: [RowNote.BLOCKED], 3: []}
    assert transferred_patients(job) == {BEN}


def test_no_7zip_file_is_created_with_a_patient_who_was_blocked_meanwhile(
    coordinator: User,
    source: Node,
    make_node: Callable[..., Node],
    tmp_path: Path,
    block: Callable[..., BlockedPatient],
) -> None:
    (tmp_path / "archives").mkdir()
    places = {"path": str(tmp_path / "archives"), "staging": str(tmp_path / "gathered")}
    archive = make_node("7-Zip", kind="archive", settings=places, writes=("Coordinators",))
    pick = PickedStudy.by_uid(source.pk, put_study(source, "1"), ANNE)
    password = "four words and 1 sign!"
    job = order_job(coordinator, "selective", [pick], archive.pk, archive_password=password)
    work()
    block()

    packing = work()

    assert packing is not None
    assert packing.state == TaskState.FAILURE
    assert "would contain a blocked patient" in str(packing.message)
    assert find_reason_of_end() == "blocklist.archive-not-created"
    assert not ArchiveFile.objects.filter(job=job).exists()
    assert not list((tmp_path / "archives").glob("*.7z"))


def test_an_entry_ends_by_a_second_action_and_stays_in_the_list(
    dpo: User, coordinator: User, block: Callable[..., BlockedPatient]
) -> None:
    entry = block()
    assert block() == entry, "adding twice changes nothing"

    with pytest.raises(NotPermitted):
        blocking.end_block(coordinator, entry, "new consent")
    with pytest.raises(InvalidInput):
        blocking.end_block(dpo, entry, " ")
    blocking.end_block(dpo, entry, "new consent")
    with pytest.raises(InvalidInput):
        blocking.end_block(dpo, entry, "new consent")

    assert not blocking.is_blocked(None, "PACS1", ANNE)
    assert BlockedPatient.objects.get().end_reason == "new consent"
    assert list(
        AuditEvent.objects.filter(action__startswith="blocklist").values_list("action", flat=True)
    ) == ["blocklist.added", "blocklist.ended"]


def test_the_database_holds_no_blocked_patient_in_clear(
    block: Callable[..., BlockedPatient],
) -> None:
    block()

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM blocklist_blockedpatient")
        values = [value for row in cursor for value in row]
    assert ANNE not in repr([bytes(v) if isinstance(v, memoryview) else v for v in values])
    assert all(ANNE not in str(event.details) for event in AuditEvent.objects.all())


def test_the_pages_add_and_end_an_entry(
    dpo: User, source: Node, project: Project, as_user: Callable[..., Client]
) -> None:
    client = as_user(dpo)
    form = {
        "patient_id": ANNE,
        "domain": "PACS1",
        "project": project.pk,
        "withdrawn_on": "2026-11-01",
        "reason": "letter of the patient",
    }

    late = (timezone.localdate() + timedelta(days=1)).isoformat()
    wrong = client.post(reverse("block_new"), {**form, "withdrawn_on": late})
    client.post(reverse("block_new"), form)
    listed = client.get(reverse("block_list")).content.decode()
    entry = BlockedPatient.objects.get()
    client.post(reverse("block_end", args=[entry.pk]), {"reason": "new consent"})

    assert wrong.status_code == 422
    assert "in the future" in wrong.content.decode()
    assert ANNE in listed
    assert "letter of the patient" in listed
    entry.refresh_from_db()
    assert entry.ended_by == dpo
    assert "new consent" in client.get(reverse("block_list")).content.decode()


@pytest.mark.parametrize("name", ["block_list", "block_new", "block_end", "block_deliveries"])
def test_the_pages_require_the_permission(
    name: str,
    coordinator: User,
    pacsadmin: User,
    dpo: User,
    block: Callable[..., BlockedPatient],
    as_user: Callable[..., Client],
) -> None:
    entry = block()
    address = reverse(name, args=[] if name in ("block_list", "block_new") else [entry.pk])

    answers = {user: as_user(user).get(address) for user in (coordinator, pacsadmin, dpo)}

    assert [answer.status_code for answer in answers.values()] == [403, 403, 200]
    assert as_user(None).get(address)["Location"].startswith("/accounts/login/")
    assert "Block list" in as_user(dpo).get("/").content.decode()
    assert "Block list" not in as_user(coordinator).get("/").content.decode()


def test_an_entry_keeps_its_effect_when_the_domain_of_its_pacs_changes(
    source: Node, project: Project, block: Callable[..., BlockedPatient], root: User
) -> None:
    pseudonyms.register_pseudonym(root, project, source, ANNE)
    patient = pseudonyms.find_patient_at_node(project, source, ANNE)
    assert patient is not None
    merge_patient_id(root, patient, source, "PID-OLD", "two IDs of one person")
    block()
    block(BEN, domain="Other PACS")

    source.settings = {**source.settings, "domain": "Hospital"}
    source.save()
    source.save()

    for patient_id in (ANNE, "PID-OLD"):
        assert blocking.is_blocked(project, "Hospital", patient_id)
        assert blocking.is_blocked(project, "PACS1", patient_id), "another PACS may use it"
    assert blocking.is_blocked(None, "Hospital", ANNE)
    assert not blocking.is_blocked(project, "Hospital", BEN)
    assert AuditEvent.objects.filter(action="blocklist.domain_followed").count() == 2


def test_an_ended_entry_does_not_follow_the_domain(
    source: Node, dpo: User, block: Callable[..., BlockedPatient]
) -> None:
    blocking.end_block(dpo, block(), "new consent")

    source.settings = {**source.settings, "domain": "Hospital"}
    source.save()

    assert not blocking.has_entries()
