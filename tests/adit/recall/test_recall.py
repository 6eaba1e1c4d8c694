"""Recalls: what was delivered is deleted, looked for again, and listed for those who have the rest."""

import csv
import io
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from lab import samples
from lab.jobs import PATIENT, GatedNode, claimed, in_thread, put_study, shelf, until, work
from lab.ordering import order_job
from pydicom import dcmread
from pypdf import PdfReader

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.jobs import block_check, encrypted_payload
from adit.jobs.actions import perform
from adit.jobs.kinds.base import SendAsIs
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import ArchiveFile, DeliveredSeries, Job, Task, TaskState
from adit.jobs.patient_id_changes import CONFIRMED_ID
from adit.nodes.models import Node
from adit.nodes.services import remove_node
from adit.notifications.models import Notification
from adit.projects.models import Project
from adit.recall import execution, recalls
from adit.recall.models import Recall, RecalledDelivery, RecallState
from adit.recall.patient_answer import write_answer
from adit.recall.patient_deliveries import (
    IMAGE_COLUMNS,
    PatientQuestion,
    export_images,
    find_deliveries,
)
from adit.results import archives, deliveries
from adit.retention import cleaning, ledgers
from adit.worker.tasks import sweep
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db(transaction=True)

OTHER = "PID-0002"
PASSWORD = "four words and 1 sign!"
TODAY = date.today()


@pytest.fixture
def deliver(
    coordinator: User, source: Node, folder_node: Node, project: Project
) -> Callable[..., Job]:
    def order(*studies: str, to: Node | None = None) -> Job:
        """Transfer studies; a name of a study that starts with 9 is one of another patient."""
        picks = []
        for study in studies:
            who = OTHER if study.startswith("9") else PATIENT
            uid = put_study(source, study, images=2, PatientID=who)
            picks.append(PickedStudy.by_uid(source.pk, uid, who))
        place = to or folder_node
        more = {"archive_password": PASSWORD} if archives.is_archive(place) else {}
        key = f"{studies} {place.pk}"
        job = order_job(
            coordinator, "selective", picks, place.pk, key=key, project=project.pk, **more
        )
        while work() is not None:
            pass
        assert job.tasks.filter(items__delivered=2).count() == len(studies), [
            str(task.message) for task in job.tasks.all()
        ]
        deliveries.write_due_lists()
        return job

    return order


@pytest.fixture
def archive_node(make_node: Callable[..., Node], tmp_path: Path) -> Node:
    folders = {"path": str(tmp_path / "archives"), "staging": str(tmp_path / "staged")}
    (tmp_path / "archives").mkdir()
    return make_node("7-Zip", kind="archive", settings=folders, writes=(standard.COORDINATORS,))


def block(user: User, project: Project | None = None) -> BlockedPatient:
    return blocking.block_patient(
        user, project, "PACS1", PATIENT, reason="objection", withdrawn_on=TODAY
    )


def recall(user: User, subject: BlockedPatient | Job, *, keep_shared: bool = False) -> Recall:
    return recalls.start_recall(
        user,
        subject,
        reason="consent withdrawn",
        confirm_by=TODAY + timedelta(days=14),
        deletes_shared_archives=not keep_shared,
    )


def make_due() -> None:
    RecalledDelivery.objects.filter(due_at__isnull=False).update(due_at=timezone.now())


def states(one: Recall) -> list[str]:
    return list(one.deliveries.order_by("pk").values_list("state", flat=True))


def files_in(node: Node) -> set[Path]:
    return {path for path in Path(node.settings["path"]).rglob("*") if path.is_file()}


def test_the_files_of_a_patient_are_deleted_and_those_of_others_stay(
    deliver: Callable[..., Job], dpo: User, folder_node: Node
) -> None:
    job = deliver("1", "90")
    lists = [path for path in files_in(folder_node) if path.suffix == ".csv"]
    images = {path for path in files_in(folder_node) if path.suffix == ".dcm"}
    assert (len(lists), len(images)) == (1, 4)

    one = recall(dpo, block(dpo))
    execution.carry_out_due()

    left = {path for path in files_in(folder_node) if path.suffix == ".dcm"}
    assert left < images
    assert {dcmread(path).PatientID for path in left} == {"LUNG-0002"}
    assert not [path for path in Path(folder_node.settings["path"]).rglob("*") if is_empty(path)]
    rows = list(csv.DictReader(io.StringIO(lists[0].read_text("utf-8-sig"))))
    assert {Path(folder_node.settings["path"], row["path"]) for row in rows} == left
    delivery = one.deliveries.get()
    assert (delivery.state, delivery.images, delivery.deleted) == (RecallState.DELETED, 2, 2)
    assert delivery.checked_at is not None
    checked = AuditEvent.objects.get(action="recall.checked")
    assert checked.about == f"job:{job.pk}"
    assert checked.details["deleted"] == 2
    assert DeliveredSeries.objects.filter(job=job).count() == 1, "that of the other patient"
    assert trail.verify_chain() is None


def is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def test_images_of_the_patient_in_quarantine_are_deleted_and_those_of_others_stay(
    dpo: User, source: Node, tmp_path: Path, settings: Any
) -> None:
    settings.SPOOL_DIR = tmp_path / "spool"
    folder = settings.SPOOL_DIR / "_quarantine"
    folder.mkdir(parents=True)

    def put(number: int, patient_id: str, calling: str) -> Path:
        path: Path = folder / f"{number:020}-000001.dcm"
        path.write_bytes(samples.file_bytes(samples.ct(number, PatientID=patient_id)))
        note = {"calling": calling, "address": "10.0.0.9", "class_uid": "1.2", "at": "2026-11-01"}
        path.with_suffix(".json").write_text(json.dumps(note))
        return path

    make_named(source, "OTHER", {"called_ae_title": "OTHER", "domain": "elsewhere"})
    mine = [put(1, PATIENT, "UNKNOWN"), put(2, f" {PATIENT.lower()}", "")]
    others = [put(3, OTHER, "UNKNOWN"), put(4, PATIENT, "OTHER")]
    damaged = folder / f"{5:020}-000001.dcm"
    damaged.write_bytes(b"x" * 700)
    entry = block(dpo)

    preview = recalls.preview_recall(dpo, entry)
    one = recall(dpo, entry)
    with transaction.atomic():
        recalls.end_if_done(one.pk)
    waiting = Recall.objects.get().ended_at
    execution.carry_out_due()

    assert (preview.quarantined, preview.studies) == (2, [])
    assert waiting is None
    assert not any(path.exists() for path in mine)
    assert all(path.exists() for path in (*others, damaged))
    one.refresh_from_db()
    assert one.quarantine_deleted == 2
    assert one.ended_at is not None
    assert AuditEvent.objects.get(action="recall.quarantine_deleted").details == {"images": 2}
    assert not execution.is_due()


def test_images_of_a_recalled_job_in_quarantine_are_deleted_whatever_their_sender(
    deliver: Callable[..., Job], dpo: User, tmp_path: Path, settings: Any, as_user: Any
) -> None:
    settings.SPOOL_DIR = tmp_path / "spool"
    folder = settings.SPOOL_DIR / "_quarantine"
    folder.mkdir(parents=True)

    def put(number: int, study: str) -> Path:
        path: Path = folder / f"{number:020}-000001.dcm"
        path.write_bytes(samples.file_bytes(samples.ct(number, study=study, PatientID=PATIENT)))
        return path

    job, _other = deliver("1"), deliver("2")
    mine, other = put(7, "1"), put(8, "2")
    damaged = folder / f"{9:020}-000001.dcm"
    damaged.write_bytes(b"x" * 700)

    page = as_user(dpo).get(reverse("job_recall", args=[job.pk])).content.decode()
    one = recall(dpo, job)
    execution.carry_out_due()

    assert "One image of the recalled studies is in quarantine" in page
    assert not mine.exists()
    assert other.exists()
    assert damaged.exists()
    one.refresh_from_db()
    assert (one.quarantine_deleted, states(one)) == (1, [RecallState.DELETED])
    page = as_user(dpo).get(reverse("recall", args=[one.pk])).content.decode()
    assert "1 image deleted, last searched" in page
    assert AuditEvent.objects.get(action="recall.quarantine_deleted").details == {"images": 1}


def make_named(node: Node, name: str, more: dict[str, Any]) -> None:
    Node.objects.create(name=name, kind=node.kind, settings={**node.settings, **more})


def test_an_image_that_reaches_quarantine_during_a_recall_is_deleted_an_hour_later(
    deliver: Callable[..., Job], dpo: User, tmp_path: Path, settings: Any, folder_node: Node
) -> None:
    settings.SPOOL_DIR = tmp_path / "spool"
    deliver("1")
    one = recall(dpo, block(dpo))
    execution.carry_out_due()
    late = tmp_path / "spool" / "_quarantine" / f"{1:020}-000001.dcm"
    late.parent.mkdir(parents=True)
    late.write_bytes(samples.file_bytes(samples.ct(1, PatientID=PATIENT)))

    due_before = execution.is_due()
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        due_later = execution.is_due()
        execution.carry_out_due()

    one.refresh_from_db()
    assert (due_before, due_later, one.quarantine_deleted) == (False, True, 1)
    assert not late.exists()


def test_a_job_is_recalled_with_its_list_and_never_sends_the_images_again(
    deliver: Callable[..., Job], dpo: User, root: User, folder_node: Node
) -> None:
    job = deliver("1", "90")

    recall(dpo, job)
    execution.carry_out_due()

    assert not any(Path(folder_node.settings["path"]).iterdir())
    task = job.tasks.order_by("position")[0]
    for name in ("retry", "reset"):
        Task.objects.filter(pk=task.pk).update(state=TaskState.FAILURE)
        with pytest.raises(NotPermitted, match="recalled"):
            perform(root, Task.objects.get(pk=task.pk), name)
    with pytest.raises(NotPermitted, match="recalled"):
        perform(root, Job.objects.get(pk=job.pk), "restart")
    assert block_check.find_block_of_task(Task.objects.get(pk=task.pk)) is not None


def test_files_that_others_changed_or_copied_are_left_and_named(
    deliver: Callable[..., Job], dpo: User, folder_node: Node
) -> None:
    deliver("1")
    deliver("2")
    changed, copied = (
        next(Path(folder_node.settings["path"]).rglob(f"*{uid}*.dcm"))
        for uid in sorted(path.stem for path in files_in(folder_node) if path.suffix == ".dcm")[:2]
    )
    changed.write_bytes(changed.read_bytes() + b"\0\0")
    copy = Path(folder_node.settings["path"]) / "für die Auswertung.dcm"
    copy.write_bytes(copied.read_bytes())

    one = recall(dpo, block(dpo))
    execution.carry_out_due()

    assert changed.exists()
    assert copy.exists()
    assert RecallState.INCOMPLETE in states(one)
    texts = " ".join(str(row.message) for row in one.deliveries.all() if row.message)
    assert "changed or replaced" in texts or "under another name" in texts
    changed.unlink()
    copy.unlink()
    recalls.continue_recall(dpo, one)
    execution.carry_out_due()
    assert states(one) == [RecallState.DELETED] * 2


def test_a_folder_that_is_away_is_tried_again_and_a_killed_worker_resumes(
    deliver: Callable[..., Job],
    dpo: User,
    folder_node: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deliver("1")
    base = Path(folder_node.settings["path"])
    base.rename(base.with_name("away"))
    one = recall(dpo, block(dpo))

    execution.carry_out_due()

    assert states(one) == [RecallState.WAITING]
    assert "tried again" in str(one.deliveries.get().message)
    assert not execution.is_due()
    base.with_name("away").rename(base)
    make_due()

    real_unlink, calls = os.unlink, []

    def killed(*args: Any, **kwargs: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        real_unlink(*args, **kwargs)

    monkeypatch.setattr(os, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        execution.carry_out_due()
    monkeypatch.undo()
    assert states(one) == [RecallState.WAITING]
    make_due()
    sweep()
    execution.carry_out_due()
    assert states(one) == [RecallState.DELETED]
    assert not list(base.rglob("*.dcm"))


def test_a_recall_waits_for_a_running_transfer_which_the_block_stops(
    coordinator: User,
    source: Node,
    folder_node: Node,
    project: Project,
    gated: type[GatedNode],
    dpo: User,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.LEASE_S = 4
    stopped = threading.Event()
    monkeypatch.setattr(gated, "abort", lambda self: stopped.set())
    uid = put_study(source, "1", images=3)
    pick = PickedStudy.by_uid(source.pk, uid, PATIENT)
    order_job(coordinator, "selective", [pick], folder_node.pk, key="1", project=project.pk)
    task = claimed()
    thread = in_thread(task)
    try:
        until(gated.waiting.is_set)
        one = recall(dpo, block(dpo))
        execution.carry_out_due()
        assert states(one) == [RecallState.WAITING]
        assert "still running" in str(one.deliveries.get().message)
        until(stopped.is_set)
    finally:
        gated.aborted.set()
        until(lambda: not Task.objects.filter(state=TaskState.IN_PROGRESS).exists())
        thread.join(20)
    make_due()
    execution.carry_out_due()
    assert states(one) == [RecallState.DELETED]
    assert not [path for path in files_in(folder_node) if path.suffix == ".dcm"]


def test_a_7_zip_file_with_other_patients_is_deleted_or_kept_as_chosen(
    deliver: Callable[..., Job], dpo: User, archive_node: Node, as_user: Callable[..., Client]
) -> None:
    first, second = deliver("1", "90", to=archive_node), deliver("2", "91", to=archive_node)
    assert len(files_in(archive_node)) == 2
    assert recalls.preview_recall(dpo, first).shared_jobs == []

    entry = block(dpo)
    assert sorted(recalls.preview_recall(dpo, entry).shared_jobs) == [first.pk, second.pk]
    kept = recall(dpo, entry, keep_shared=True)
    execution.carry_out_due()

    assert states(kept) == [RecallState.TO_DELETE] * 2
    assert len(files_in(archive_node)) == 2
    file = ArchiveFile.objects.get(job=first)
    why = archives.explain_no_download(first.owner, file)
    assert why is not None, "it is not offered for download"
    address = reverse("archive_file", args=[first.pk, file.pk])
    assert as_user(first.owner).get(address).status_code == 403

    recall(dpo, first)
    execution.carry_out_due()
    assert {path.name for path in files_in(archive_node)} == {
        ArchiveFile.objects.get(job=second).name
    }
    assert ArchiveFile.objects.get(job=first).removed_at is not None


def test_a_pacs_is_asked_until_the_images_are_gone_and_gets_a_list(
    deliver: Callable[..., Job], dpo: User, destination: Node, as_user: Callable[..., Client]
) -> None:
    deliver("1", to=destination)
    one = recall(dpo, block(dpo))
    execution.carry_out_due()

    assert states(one) == [RecallState.PRESENT]
    answer = as_user(dpo).post(reverse("recall_images", args=[one.pk]), {"form": "csv"})
    text = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    assert {row["image_uid"] for row in csv.DictReader(io.StringIO(text))} == set(
        shelf(destination)
    )

    shelf(destination).clear()
    assert not execution.is_due(), "it is asked once a day"
    make_due()
    execution.carry_out_due()
    assert states(one) == [RecallState.GONE]


def test_a_recall_ends_when_all_is_deleted_and_confirmed_and_is_reported_when_overdue(
    deliver: Callable[..., Job], dpo: User, coordinator: User, as_user: Callable[..., Client]
) -> None:
    deliver("1")
    one = recall(dpo, block(dpo))
    execution.carry_out_due()
    assert Notification.objects.filter(user=coordinator, kind="recall").count() == 1

    recalls.warn_of_overdue_recalls()
    assert not Notification.objects.filter(user=dpo).exists()
    Recall.objects.update(confirm_by=TODAY - timedelta(days=1))
    recalls.warn_of_overdue_recalls()
    recalls.warn_of_overdue_recalls()
    assert Notification.objects.filter(user=dpo, kind="recall").count() == 1
    client, address = as_user(dpo), reverse("recall", args=[one.pk])
    assert "overdue" in client.get(address).content.decode()

    confirmation = one.confirmations.get()
    url = reverse("recall_confirm", args=[one.pk, confirmation.pk])
    assert client.post(url, {"note": " "}).status_code == 422
    assert client.post(url, {"note": "letter of 3 May"}, follow=True).status_code == 200
    assert client.post(url, {"note": "again"}).status_code == 422
    one.refresh_from_db()
    assert one.ended_at is not None
    page = client.get(address).content.decode()
    assert "letter of 3 May" in page
    assert "deleted and checked" in page


def test_what_cannot_be_recalled_is_refused(
    deliver: Callable[..., Job],
    dpo: User,
    coordinator: User,
    order_studies: Callable[..., Job],
    as_user: Callable[..., Client],
) -> None:
    entry = block(dpo)
    with pytest.raises(InvalidInput, match="nothing to recall"):
        recall(dpo, entry)
    page = as_user(dpo).get(reverse("block_recall", args=[entry.pk])).content.decode()
    assert "Nothing to recall" in page
    assert "Recall and delete" not in page
    blocking.end_block(dpo, entry, "new consent")
    job = deliver("1")
    with pytest.raises(InvalidInput, match="has ended"):
        recall(dpo, entry)
    with pytest.raises(NotPermitted):
        recall(coordinator, job)
    with pytest.raises(InvalidInput, match="has not ended"):
        recall(dpo, order_studies("5"))
    with pytest.raises(InvalidInput, match="from today on"):
        recalls.start_recall(
            dpo,
            job,
            reason="x",
            confirm_by=TODAY - timedelta(days=1),
            deletes_shared_archives=True,
        )

    one = recall(dpo, job)
    assert recall(dpo, job) == one, "ordered twice, it is one recall"
    assert Recall.objects.count() == 1


def test_a_recall_goes_on_with_the_permission_of_another_person(
    deliver: Callable[..., Job], dpo: User, root: User
) -> None:
    deliver("1")
    one = recall(dpo, block(dpo))
    dpo.is_active = False
    dpo.save()

    execution.carry_out_due()
    assert "continue the recall" in str(one.deliveries.get().message)
    recalls.continue_recall(root, one)
    execution.carry_out_due()
    assert states(one) == [RecallState.DELETED]


def test_pages_show_what_is_deleted_before_and_after(
    deliver: Callable[..., Job], dpo: User, coordinator: User, as_user: Callable[..., Client]
) -> None:
    job = deliver("1")
    entry = block(dpo)
    client = as_user(dpo)

    page = client.get(reverse("block_deliveries", args=[entry.pk])).content.decode()
    address = reverse("block_recall", args=[entry.pk])
    assert address in page
    assert reverse("job_recall", args=[job.pk]) in client.get(f"/jobs/{job.pk}/").content.decode()
    assert "The files are deleted." in client.get(address).content.decode()
    assert client.post(address, {"reason": ""}).status_code == 422
    assert not Recall.objects.exists()
    order = {"reason": "consent withdrawn", "confirm_by": (TODAY + timedelta(days=3)).isoformat()}
    answer = client.post(address, order, follow=True)
    one = Recall.objects.get()
    assert "The recall is ordered" in answer.content.decode()
    assert str(one.pk) in client.get(reverse("recalls")).content.decode()

    reader = as_user(coordinator)
    assert (
        reverse("job_recall", args=[job.pk]) not in reader.get(f"/jobs/{job.pk}/").content.decode()
    )
    for place in ("", "report/", "1/"):
        assert "recalled" in reader.get(f"/jobs/{job.pk}/{place}").content.decode()
    assert PATIENT not in repr(list(AuditEvent.objects.values_list("details", flat=True)))


def test_the_ledgers_of_deleted_jobs_answer_and_are_recalled(
    deliver: Callable[..., Job], root: User, folder_node: Node, as_user: Callable[..., Client]
) -> None:
    job, _other = deliver("1"), deliver("90")
    with time_machine.travel(timezone.now() + timedelta(days=800), tick=True):
        cleaning.clean_all()
    assert not Job.objects.exists()
    folder = Path(folder_node.settings["path"])
    files = len(list(folder.rglob("*.dcm")))
    entry = block(root)

    found = find_deliveries(root, PatientQuestion.of_entry(entry))
    rows = export_images(root, entry, "answer to the patient")
    recalled = recall(root, entry)
    while execution.carry_out_due():
        pass

    facts = [(one.job, one.destination, one.images, one.deidentified) for one in found.deliveries]
    assert facts == [(job.pk, folder_node.name, 2, True)]
    assert len(rows) == 2
    assert {
        Path(str(dict(zip(IMAGE_COLUMNS, row, strict=True))["path"])).suffix for row in rows
    } == {".dcm"}
    delivery = recalled.deliveries.get()
    assert (delivery.state, delivery.deleted, delivery.task) == (RecallState.DELETED, 2, None)
    assert len(list(folder.rglob("*.dcm"))) == files - 2
    page = as_user(root).get(reverse("recall", args=[recalled.pk]))
    assert folder_node.name in page.content.decode()


def test_the_answer_says_which_deleted_jobs_sent_identified_images(
    deliver: Callable[..., Job], root: User, source: Node, folder_node: Node, project: Project
) -> None:
    deliver("1")
    pick = PickedStudy.by_uid(source.pk, put_study(source, "2", PatientID=PATIENT), PATIENT)
    change = SendAsIs("second opinion")
    order_job(root, "selective", [pick], folder_node.pk, project=project.pk, change=change)
    while work() is not None:
        pass
    deliveries.write_due_lists()
    with time_machine.travel(timezone.now() + timedelta(days=800), tick=True):
        cleaning.clean_all()
    assert not Job.objects.exists()

    found = find_deliveries(root, PatientQuestion("PACS1", PATIENT))

    assert [one.deidentified for one in found.deliveries] == [False, True]


def test_a_job_stays_until_its_recall_has_ended(
    deliver: Callable[..., Job], root: User, folder_node: Node
) -> None:
    job = deliver("1")
    recalled = recall(root, job)
    with time_machine.travel(timezone.now() + timedelta(days=800), tick=True):
        cleaning.clean_all()
        assert Job.objects.filter(pk=job.pk).exists()
        Recall.objects.filter(pk=recalled.pk).update(ended_at=timezone.now())
        cleaning.clean_all()

    assert not Job.objects.filter(pk=job.pk).exists()


def use_folder(node: Node, path: Path) -> None:
    path.mkdir(exist_ok=True)
    node.settings = {**node.settings, "path": str(path)}
    node.save()


def test_files_that_are_not_where_they_were_delivered_are_no_proof_until_the_recipient_confirms(
    deliver: Callable[..., Job], dpo: User, folder_node: Node, tmp_path: Path
) -> None:
    deliver("1")
    old = Path(folder_node.settings["path"])
    use_folder(folder_node, tmp_path / "new share")
    one = recall(dpo, block(dpo))
    execution.carry_out_due()

    delivery = one.deliveries.get()
    assert (delivery.state, delivery.deleted) == (RecallState.TO_DELETE, 0)
    assert "Has the folder of" in str(delivery.message)
    assert len(list(old.rglob("*.dcm"))) == 2
    assert DeliveredSeries.objects.exists(), "they may still be there"
    one.refresh_from_db()
    assert one.ended_at is None

    use_folder(folder_node, old)
    recalls.continue_recall(dpo, one)
    execution.carry_out_due()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.deleted) == (RecallState.DELETED, 2)
    assert not list(old.rglob("*.dcm"))


def test_a_file_that_somebody_moved_away_is_not_counted_as_deleted(
    deliver: Callable[..., Job], dpo: User, folder_node: Node, tmp_path: Path
) -> None:
    deliver("1")
    moved = next(Path(folder_node.settings["path"]).rglob("*.dcm"))
    moved.rename(tmp_path / "mine.dcm")
    one = recall(dpo, block(dpo))
    execution.carry_out_due()

    delivery = one.deliveries.get()
    assert (delivery.state, delivery.deleted) == (RecallState.TO_DELETE, 1)
    assert str(delivery.message).startswith("1 file is not where it was delivered")
    recalls.confirm_deletion(dpo, one.confirmations.get(), "letter of 3 May")
    one.refresh_from_db()
    assert one.ended_at is not None


def test_a_file_that_two_recalled_jobs_delivered_is_deleted_for_both(
    deliver: Callable[..., Job], dpo: User, source: Node, folder_node: Node
) -> None:
    deliver_again(deliver("1"), source)
    one = recall(dpo, block(dpo))
    execution.carry_out_due()

    assert states(one) == [RecallState.DELETED] * 2
    assert not list(Path(folder_node.settings["path"]).rglob("*.dcm"))


@pytest.mark.parametrize("recalled", ["first", "second"])
def test_another_job_that_delivered_the_same_files_is_shown_and_its_owner_notified(
    recalled: str,
    deliver: Callable[..., Job],
    dpo: User,
    source: Node,
    as_user: Callable[..., Client],
) -> None:
    first = deliver("1", "2")
    second, apart = deliver_again(first, source), deliver("3")
    job, other = (first, second) if recalled == "first" else (second, first)

    page = as_user(dpo).get(reverse("job_recall", args=[job.pk])).content.decode()
    recall(dpo, job)

    assert f"delivered some of the files as well: {other.pk}." in page
    told = Notification.objects.filter(user=other.owner, kind="recall")
    assert {one.message.values["job"] for one in told} == {job.pk, other.pk}
    assert recalls.preview_recall(dpo, apart).other_jobs == []


def deliver_again(job: Job, source: Node) -> Job:
    """Transfer the study "1" once more with another job."""
    assert job.destination is not None
    assert job.project is not None
    pick = PickedStudy.by_uid(source.pk, put_study(source, "1", images=2), PATIENT)
    DeliveredSeries.objects.filter(job=job).delete()
    again = order_job(
        job.owner, "selective", [pick], job.destination.pk, key="again", project=job.project.pk
    )
    while work() is not None:
        pass
    assert again.tasks.filter(items__delivered=2).exists()
    deliveries.write_due_lists()
    return again


def test_a_7_zip_file_that_is_not_where_it_was_created_is_no_proof(
    deliver: Callable[..., Job], dpo: User, archive_node: Node, tmp_path: Path
) -> None:
    job = deliver("1", to=archive_node)
    old = Path(archive_node.settings["path"])
    use_folder(archive_node, tmp_path / "new share")
    one = recall(dpo, block(dpo))
    execution.carry_out_due()

    delivery = one.deliveries.get()
    assert (delivery.state, delivery.deleted) == (RecallState.TO_DELETE, 0)
    assert "Has the folder of" in str(delivery.message)
    assert ArchiveFile.objects.get(job=job).removed_at is None

    use_folder(archive_node, old)
    recalls.continue_recall(dpo, one)
    execution.carry_out_due()
    assert states(one) == [RecallState.DELETED]
    assert not files_in(archive_node)


def expire_jobs() -> None:
    with time_machine.travel(timezone.now() + timedelta(days=800), tick=True):
        cleaning.clean_all()
    assert not Job.objects.exists()


def carry_out_all() -> None:
    while execution.carry_out_due():
        pass


def test_the_images_of_a_deleted_job_are_deleted_from_a_renamed_destination(
    deliver: Callable[..., Job],
    root: User,
    folder_node: Node,
    make_node: Callable[..., Node],
    tmp_path: Path,
) -> None:
    deliver("1")
    expire_jobs()
    name = folder_node.name
    Node.objects.filter(pk=folder_node.pk).update(name="Former share")
    (tmp_path / "other").mkdir()
    make_node(name, kind="folder", settings={"path": str(tmp_path / "other")})

    one = recall(root, block(root))
    carry_out_all()

    delivery = one.deliveries.get()
    assert (delivery.destination, delivery.state) == (folder_node, RecallState.DELETED)
    assert not list(Path(folder_node.settings["path"]).rglob("*.dcm"))


@pytest.mark.parametrize("change", ["removed", "ledger without its key"])
def test_a_recall_waits_for_the_confirmation_of_a_destination_that_is_not_known_any_more(
    change: str,
    deliver: Callable[..., Job],
    root: User,
    folder_node: Node,
    as_user: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deliver("1")
    if change == "ledger without its key":
        seal = ledgers.asdict
        monkeypatch.setattr(ledgers, "asdict", lambda one: {**seal(one), "destination": None})
    expire_jobs()
    if change == "removed":
        remove_node(root, folder_node)
    entry = block(root)
    client = as_user(root)
    page = client.get(reverse("block_recall", args=[entry.pk])).content.decode()
    assert folder_node.name in page

    one = recall(root, entry)
    carry_out_all()

    one.refresh_from_db()
    assert (states(one), one.ended_at) == ([RecallState.TO_DELETE], None)
    assert folder_node.name in client.get(reverse("recall", args=[one.pk])).content.decode()
    recalls.confirm_deletion(root, one.confirmations.get(), "letter of 3 May")
    one.refresh_from_db()
    assert one.ended_at is not None
    event = AuditEvent.objects.get(action="recall.confirmed")
    assert event.details["destination"] == folder_node.name


@pytest.mark.parametrize("is_deleted", [False, True])
def test_images_sent_under_a_confirmed_new_id_are_recalled_by_either_id(
    is_deleted: bool, deliver: Callable[..., Job], root: User
) -> None:
    task = deliver("1").tasks.get()
    content = encrypted_payload.open_task(task)
    renamed = replace(content, payload={**content.payload, CONFIRMED_ID: "NEW-7"})
    Task.objects.filter(pk=task.pk).update(payload=encrypted_payload.reseal_task(task, renamed))
    if is_deleted:
        expire_jobs()

    entry = blocking.block_patient(
        root, None, "PACS1", "NEW-7", reason="objection", withdrawn_on=TODAY
    )

    assert [one.images for one in recalls.preview_recall(root, entry).studies] == [2]
    by_order = find_deliveries(root, PatientQuestion("PACS1", PATIENT))
    assert [one.images for one in by_order.deliveries] == [2]


@pytest.mark.parametrize(
    ("domain", "patient_id", "asked", "said"),
    [
        ("PACS1", PATIENT.lower(), PATIENT, "all projects"),
        ("PACS1", "0077", "77", "all projects"),
        ("", "77", "77", "all projects"),
        ("", "78", "77", "no"),
    ],
)
def test_the_answer_for_the_patient_says_that_transfers_are_blocked_as_the_block_list_does(
    domain: str, patient_id: str, asked: str, said: str, dpo: User, source: Node
) -> None:
    blocking.block_patient(dpo, None, domain, patient_id, reason="objection", withdrawn_on=TODAY)
    question = PatientQuestion("PACS1", asked)

    answer = write_answer(dpo, question, find_deliveries(dpo, question))

    text = " ".join(PdfReader(io.BytesIO(answer)).pages[0].extract_text().split())
    assert f"Blocked for further transfers {said} " in text


def test_the_answer_names_the_projects_that_block_the_patient(
    dpo: User, source: Node, project: Project
) -> None:
    entry = block(dpo, project)
    question = PatientQuestion("", PATIENT)
    blocked = write_answer(dpo, question, find_deliveries(dpo, question))
    blocking.end_block(dpo, entry, "new consent")
    free = write_answer(dpo, question, find_deliveries(dpo, question))

    for answer, said in ((blocked, project.protocol_id), (free, "no")):
        text = " ".join(PdfReader(io.BytesIO(answer)).pages[0].extract_text().split())
        assert f"Blocked for further transfers {said} " in text
