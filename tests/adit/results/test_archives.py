"""Jobs that deliver an encrypted 7-Zip file: packing, passwords, supplements, deletion."""

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from lab import samples
from lab.jobs import PATIENT, put_study, shelf, work
from lab.ordering import order_job
from lab.sevenzip import unpacked
from pydicom import dcmread

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right
from adit.audit.models import AuditEvent
from adit.jobs import queue
from adit.jobs.actions import perform
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import (
    ArchiveFile,
    Job,
    JobState,
    PendingArchiveFile,
    Task,
    TaskState,
    TaskType,
)
from adit.nodes import shared_folders
from adit.nodes.access import readable_nodes
from adit.nodes.models import Node, SharedFolder
from adit.nodes.shared_folders import MARK_FILE
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.projects.models import Project
from adit.results import archives
from adit.retention.cleaning import clean_all
from adit.retention.models import LastCleaning
from adit.retention.periods import DataKind
from adit_engine.errors import InvalidInput, Malformed
from adit_engine.messages import Message
from adit_engine.nodes.sevenzip_builder import ArchiveBuilder
from adit_engine.transfer.study_lookup import StudyCriteria

pytestmark = pytest.mark.django_db(transaction=True)

PASSWORD = "four words and 1 sign!"
NEXT_PASSWORD = "five words and 2 signs?!"


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "archives").mkdir()
    return {"path": tmp_path / "archives", "staging": tmp_path / "gathered"}


@pytest.fixture
def archive_node(make_node: Callable[..., Node], places: dict[str, Path]) -> Node:
    settings = {name: str(path) for name, path in places.items()}
    return make_node("7-Zip", kind="archive", settings=settings, writes=(standard.COORDINATORS,))


@pytest.fixture
def order(coordinator: User, source: Node, archive_node: Node) -> Callable[..., Job]:
    def ordered(*studies: str, password: str = PASSWORD, **changes: object) -> Job:
        picks = tuple(
            PickedStudy.by_uid(source.pk, put_study(source, study, **changes), PATIENT)
            for study in studies
        )
        key = f"{studies}{Job.objects.count()}"
        return order_job(
            coordinator, "selective", picks, archive_node.pk, key=key, archive_password=password
        )

    return ordered


def work_off() -> None:
    while work() is not None:
        pass


def images_in(path: Path, password: str = PASSWORD) -> dict[str, bytes]:
    return {n: c for n, c in unpacked(path, password).items() if n.endswith(".dcm")}


def files_below(path: Path) -> list[str]:
    files = (p for p in path.rglob("*") if p.is_file() and p.name != MARK_FILE)
    return sorted(str(p.relative_to(path)) for p in files)


def dump() -> str:
    rows = ""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += repr(cursor.fetchall())
    return rows


def test_a_job_produces_one_file_with_all_delivered_images(
    order: Callable[..., Job], places: dict[str, Path]
) -> None:
    job = order("1", "2", images=3)

    work_off()

    job.refresh_from_db()
    assert (job.state, str(job.message)) == (JobState.SUCCESS, "All 6 images delivered.")
    assert files_below(places["path"]) == [f"job-{job.pk}.7z"]
    assert files_below(places["staging"]) == []
    images = images_in(places["path"] / f"job-{job.pk}.7z")
    assert len(images) == 6
    for content in images.values():
        header = dcmread(io.BytesIO(content))
        assert header.PatientID != PATIENT
        assert header.PatientIdentityRemoved == "YES"
    row = ArchiveFile.objects.get()
    assert (row.images, row.round, row.removed_at) == (6, 0, None)
    assert row.size_bytes == (places["path"] / row.name).stat().st_size
    built = AuditEvent.objects.get(action="archive.built")
    assert built.details["images"] == 6


@pytest.mark.skipif(shutil.which("7z") is None, reason="7z is not installed")
def test_7z_opens_the_file_only_with_the_password(
    order: Callable[..., Job], places: dict[str, Path]
) -> None:
    job = order("1")
    work_off()
    path = str(places["path"] / f"job-{job.pk}.7z")

    def seven_zip(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["7z", *arguments, path], capture_output=True, text=True, timeout=250)

    assert seven_zip("t", f"-p{PASSWORD}").returncode == 0
    without = seven_zip("l", "-pwrong")
    assert ".dcm" not in without.stdout
    assert "Wrong password" in without.stderr


def test_the_contents_list_gives_all_outcomes_and_no_patient_data(
    order: Callable[..., Job], places: dict[str, Path], source: Node
) -> None:
    job = order("1", images=3)
    study = samples.ct(9, study="1", BurnedInAnnotation="YES")
    shelf(source)[study.SOPInstanceUID] = samples.instance(study)
    work_off()

    files = unpacked(places["path"] / f"job-{job.pk}.7z", PASSWORD)
    name = f"contents-job-{job.pk}"
    told = json.loads(files[f"{name}.json"])
    rows = list(csv.DictReader(io.StringIO(files[f"{name}.csv"].decode())))
    assert told["job"] == job.pk
    assert [row["outcome"] for row in rows] == ["delivered"] * 3 + ["withheld"]
    assert rows[3]["reason"]
    for row in rows[:3]:
        content = files[row["path"]]
        assert row["sha256"] == sha256(content).hexdigest()
        assert row["instance_uid"] == dcmread(io.BytesIO(content)).SOPInstanceUID
    text = b"".join(files[n] for n in files if n.startswith("contents")).decode()
    assert samples.ROOT not in text
    assert PATIENT not in text


def test_packing_waits_for_all_other_tasks_of_its_job(
    order: Callable[..., Job], places: dict[str, Path]
) -> None:
    job = order("1", "2")
    first = queue.claim("one")
    second = queue.claim("two")
    assert first is not None
    assert second is not None

    assert queue.claim("three") is None

    queue.finish(first, TaskState.FAILURE, Message("task.internal-error"))
    assert queue.claim("three") is None
    queue.finish(second, TaskState.FAILURE, Message("task.internal-error"))
    third = queue.claim("three")
    assert third is not None
    assert third.type == TaskType.PACK
    assert job.tasks.filter(type=TaskType.PACK).get().pk == third.pk


def test_the_password_is_encrypted_and_deleted_after_the_file_is_built(
    order: Callable[..., Job],
) -> None:
    job = order("1")
    assert job.archive_password == PASSWORD
    assert PASSWORD not in dump()

    work_off()

    job.refresh_from_db()
    assert job.archive_password is None
    with connection.cursor() as cursor:
        cursor.execute("SELECT archive_password FROM jobs_job")
        assert cursor.fetchall() == [(None,)]


@pytest.mark.parametrize(
    ("password", "why"), [("", "Enter the password"), ("short", "12 characters")]
)
def test_an_order_without_a_valid_password_is_refused(
    order: Callable[..., Job], password: str, why: str
) -> None:
    with pytest.raises(InvalidInput, match=why):
        order("1", password=password)

    assert not Job.objects.exists()


def test_a_common_password_is_refused(order: Callable[..., Job]) -> None:
    with pytest.raises(InvalidInput, match="too common"):
        order("1", password="1234567890qwertyuiop"[:0] + "qwertyuiop123")


def test_ordering_a_7_zip_file_requires_permission(
    order: Callable[..., Job], groups: dict[str, object]
) -> None:
    rights = groups[standard.COORDINATORS].permissions  # type: ignore[attr-defined]
    rights.remove(rights.get(codename=Right.USE_ARCHIVES))

    with pytest.raises(NotPermitted, match="Order encrypted 7-Zip files"):
        order("1")


def test_a_retry_adds_a_supplement_with_a_new_password(
    order: Callable[..., Job], places: dict[str, Path], source: Node, coordinator: User
) -> None:
    job = order("1", "2", images=2)
    held = dict(shelf(source))
    lost = {uid for uid in held if uid.startswith(f"{samples.ROOT}.2.")}
    for uid in lost:
        del shelf(source)[uid]
    work_off()
    job.refresh_from_db()
    assert job.state == JobState.WARNING
    assert len(images_in(places["path"] / f"job-{job.pk}.7z")) == 2

    shelf(source).update(held)
    with pytest.raises(InvalidInput, match="Enter a new password"):
        perform(coordinator, job, "retry")
    archives.save_password(coordinator, job, NEXT_PASSWORD)
    perform(coordinator, job, "retry")
    work_off()

    job.refresh_from_db()
    assert (job.state, job.archive_password) == (JobState.SUCCESS, None)
    first = images_in(places["path"] / f"job-{job.pk}.7z")
    more = images_in(places["path"] / f"job-{job.pk}-supplement-1.7z", NEXT_PASSWORD)
    assert len(more) == 2
    assert not first.keys() & more.keys()
    assert [one.round for one in ArchiveFile.objects.order_by("pk")] == [0, 1]


def test_a_canceled_and_resumed_job_produces_one_file(
    order: Callable[..., Job], places: dict[str, Path], coordinator: User
) -> None:
    job = order("1", "2", images=2)
    assert work() is not None
    perform(coordinator, job, "cancel")
    job.refresh_from_db()
    assert (job.state, job.archive_password) == (JobState.CANCELED, None)

    archives.save_password(coordinator, job, NEXT_PASSWORD)
    perform(coordinator, job, "resume")
    work_off()

    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert len(images_in(places["path"] / f"job-{job.pk}.7z", NEXT_PASSWORD)) == 4


def test_a_job_without_delivered_images_produces_no_file(
    order: Callable[..., Job], places: dict[str, Path], source: Node
) -> None:
    job = order("1")
    shelf(source).clear()

    work_off()

    job.refresh_from_db()
    assert job.state == JobState.FAILURE
    assert files_below(places["path"]) == []


def test_a_failed_build_fails_the_job_and_is_retried_without_fetching(
    order: Callable[..., Job],
    places: dict[str, Path],
    source: Node,
    coordinator: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = order("1", images=3)
    monkeypatch.setattr("adit_engine.nodes.sevenzip_file.read_checksum", _broken)
    work_off()
    job.refresh_from_db()
    assert job.state == JobState.FAILURE
    assert "could not be read back" in str(job.message)
    assert files_below(places["path"]) == []
    monkeypatch.undo()
    shelf(source).clear()

    archives.save_password(coordinator, job, PASSWORD)
    perform(coordinator, job, "retry")
    work_off()

    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert len(images_in(places["path"] / f"job-{job.pk}.7z")) == 3


def test_packing_is_retried_automatically_after_a_full_disk(
    order: Callable[..., Job], places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order("1")
    assert work() is not None
    monkeypatch.setattr("adit_engine.nodes.sevenzip_file.SevenZipWriter.close", _full)

    task = work()

    assert task is not None
    assert (task.state, task.failures) == (TaskState.PENDING, 1)
    assert "disk is full" in str(task.message)
    assert task.not_before is not None
    assert files_below(places["path"]) == []
    monkeypatch.undo()
    Task.objects.filter(pk=task.pk).update(not_before=None)
    work_off()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS


def test_a_worker_lost_before_recording_the_file_leaves_one_file_and_row(
    order: Callable[..., Job], places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order("1", images=3)
    assert work() is not None
    monkeypatch.setattr("adit.worker.packing._record_files", _lost)
    work()
    assert files_below(places["path"]) == [f"job-{job.pk}.7z"]
    monkeypatch.undo()

    work_off()

    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert files_below(places["path"]) == [f"job-{job.pk}.7z"]
    assert ArchiveFile.objects.get().images == 3
    assert len(images_in(places["path"] / f"job-{job.pk}.7z")) == 3


def test_an_unrecorded_file_is_deleted_after_its_job_is_canceled(
    order: Callable[..., Job],
    places: dict[str, Path],
    coordinator: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = order("1", images=3)
    assert work() is not None
    monkeypatch.setattr("adit.worker.packing._record_files", _lost)
    work()
    monkeypatch.undo()
    (places["path"] / "job-999.7z").write_bytes(b"somebody else's")
    clean_all()
    assert files_below(places["path"]) == [f"job-{job.pk}.7z", "job-999.7z"], (
        "a pending job keeps its file"
    )

    perform(coordinator, job, "cancel")
    clean_all()

    assert files_below(places["path"]) == ["job-999.7z"]
    assert not PendingArchiveFile.objects.exists()


def test_unrecorded_parts_are_deleted_when_the_file_is_rebuilt(
    order: Callable[..., Job], places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order("1", images=3)
    assert work() is not None
    monkeypatch.setattr("adit.worker.packing._record_files", _lost)
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder.MAX_FILES", 2)
    work()
    assert len(files_below(places["path"])) == 2
    monkeypatch.undo()

    work_off()

    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert files_below(places["path"]) == [f"job-{job.pk}.7z"]
    assert not PendingArchiveFile.objects.exists()


def test_a_file_is_not_rebuilt_if_the_worker_is_lost_after_recording_it(
    order: Callable[..., Job], places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order("1", images=3)
    assert work() is not None
    monkeypatch.setattr("adit.worker.packing._has_open_tasks", _lost)
    work()
    before = (places["path"] / f"job-{job.pk}.7z").stat().st_ino
    monkeypatch.undo()

    work_off()

    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert (places["path"] / f"job-{job.pk}.7z").stat().st_ino == before
    assert files_below(places["staging"]) == []
    assert ArchiveFile.objects.count() == 1


def test_a_study_retried_during_packing_is_delivered_in_a_supplement(
    order: Callable[..., Job],
    places: dict[str, Path],
    coordinator: User,
    source: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = order("1", "2", images=2)
    held = dict(shelf(source))
    for uid in [uid for uid in held if uid.startswith(f"{samples.ROOT}.2.")]:
        del shelf(source)[uid]
    assert work() is not None
    failed = work()
    assert failed is not None
    assert failed.state == TaskState.FAILURE
    pack = ArchiveBuilder.pack

    def meanwhile(self: ArchiveBuilder, bundle: object) -> object:
        monkeypatch.undo()
        shelf(source).update(held)
        perform(coordinator, failed, "retry")
        return pack(self, bundle)  # type: ignore[arg-type]

    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder.ArchiveBuilder.pack", meanwhile)

    work_off()

    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    names = files_below(places["path"])
    assert names == [f"job-{job.pk}-supplement-1.7z", f"job-{job.pk}.7z"]
    assert sum(len(images_in(places["path"] / name)) for name in names) == 4


def test_expired_files_are_deleted_and_the_deletion_is_audited(
    order: Callable[..., Job], places: dict[str, Path], coordinator: User
) -> None:
    job = order("1")
    work_off()
    clean_all()
    assert files_below(places["path"]) == [f"job-{job.pk}.7z"]

    ArchiveFile.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    clean_all()

    assert files_below(places["path"]) == []
    assert ArchiveFile.objects.get().removed_at is not None
    assert not archives.visible_archives(coordinator).exists()
    removed = AuditEvent.objects.get(action="archive.removed")
    assert removed.details == {"file": f"job-{job.pk}.7z", "why": "expired"}


def test_a_file_whose_share_is_not_mounted_is_deleted_by_a_later_cleaning(
    order: Callable[..., Job],
    places: dict[str, Path],
    archive_node: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order("1")
    work_off()
    ArchiveFile.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    archive_node.settings["network"] = True
    archive_node.save()
    share = places["path"].rename(places["path"].with_name("share"))
    places["path"].mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: False)

    clean_all()

    assert ArchiveFile.objects.get().removed_at is None
    assert LastCleaning.objects.get(kind=DataKind.ARCHIVES).failed == 1
    assert not AuditEvent.objects.filter(action="archive.removed").exists()

    places["path"].rmdir()
    share.rename(places["path"])
    monkeypatch.setattr("os.path.ismount", lambda path: path == places["path"])
    clean_all()

    assert files_below(places["path"]) == []
    assert ArchiveFile.objects.get().removed_at is not None


def test_archiving_a_job_keeps_its_files(
    order: Callable[..., Job], places: dict[str, Path], coordinator: User
) -> None:
    job = order("1")
    work_off()
    before = files_below(places["path"])
    job.refresh_from_db()

    perform(coordinator, job, "archive")

    assert files_below(places["path"]) == before
    assert ArchiveFile.objects.filter(job=job, removed_at=None).exists()


def test_staged_images_of_a_canceled_job_are_deleted_after_retention(
    order: Callable[..., Job],
    places: dict[str, Path],
    coordinator: User,
) -> None:
    job = order("1", "2")
    assert work() is not None
    perform(coordinator, job, "cancel")
    clean_all()
    assert files_below(places["staging"])

    Job.objects.update(ended_at=timezone.now() - timedelta(days=15))
    clean_all()

    assert files_below(places["staging"]) == []


def test_a_7_zip_destination_is_not_among_the_readable_nodes(
    root: User, archive_node: Node
) -> None:

    assert archive_node not in readable_nodes(root)


def _broken(*arguments: object) -> object:

    raise Malformed("test.damaged")


def _full(writer: object) -> None:
    raise OSError(28, "No space left on device")


def _lost(*arguments: object) -> bool:
    raise queue.LeaseLost("test.killed")


@pytest.fixture
def checked_batch(
    coordinator: User, source: Node, archive_node: Node, project: Project
) -> Callable[..., Job]:
    def ordered(*studies: str, **more: object) -> Job:
        rows = tuple(
            BatchTransferRow(line, StudyCriteria(PATIENT, study_uid=f"{samples.ROOT}.{study}"))
            for line, study in enumerate(studies, start=2)
        )
        job = order_job(
            coordinator,
            "batch_transfer",
            rows,
            archive_node.pk,
            sources=(source.pk,),
            project=project.pk,
            key=f"batch {Job.objects.count()}",
            archive_password=PASSWORD,
            **more,
        )
        work_off()
        job.refresh_from_db()
        return job

    return ordered


def test_a_batch_is_packed_only_after_the_pilot_and_the_rest(
    checked_batch: Callable[..., Job],
    places: dict[str, Path],
    source: Node,
    coordinator: User,
) -> None:
    for study in ("1", "2", "3"):
        put_study(source, study, images=2)
    job = checked_batch("1", "2", "3")
    assert job.state == JobState.WAITING_FOR_OWNER
    assert job.archive_password == PASSWORD
    assert not job.tasks.filter(type=TaskType.PACK).exists()

    batch_start.request_start(coordinator, job, StartOptions(pilot=1))
    work_off()
    job.refresh_from_db()
    assert job.state == JobState.WAITING_FOR_OWNER
    assert files_below(places["path"]) == []
    batch_start.request_start(coordinator, job, StartOptions())
    work_off()

    job.refresh_from_db()
    assert (job.state, job.archive_password) == (JobState.SUCCESS, None)
    assert files_below(places["path"]) == [f"job-{job.pk}.7z"]
    assert len(images_in(places["path"] / f"job-{job.pk}.7z")) == 6


def test_images_in_an_earlier_file_are_not_skipped_in_the_next_one(
    checked_batch: Callable[..., Job],
    places: dict[str, Path],
    source: Node,
    coordinator: User,
) -> None:
    put_study(source, "1", images=2)
    for _ in range(2):
        job = checked_batch("1")
        batch_start.request_start(coordinator, job, StartOptions())
        work_off()

    files = [places["path"] / name for name in files_below(places["path"])]
    assert [len(images_in(path)) for path in files] == [2, 2]


def test_a_server_with_another_staging_folder_postpones_the_task(
    order: Callable[..., Job],
    archive_node: Node,
    places: dict[str, Path],
    settings: object,
    tmp_path: Path,
) -> None:
    settings.EMBEDDED = False  # type: ignore[attr-defined]
    job = order("1", "2")
    assert work() is not None
    assert (places["staging"] / MARK_FILE).read_text()

    elsewhere = tmp_path / "not mounted"
    Node.objects.filter(pk=archive_node.pk).update(
        settings={**archive_node.settings, "staging": str(elsewhere)}
    )
    task = work()
    assert task is not None
    assert (task.state, task.failures) == (TaskState.PENDING, 1)
    assert "is not the one that the other servers use" in str(task.message)
    assert not elsewhere.exists() or files_below(elsewhere) == []

    archive_node.save()
    Task.objects.update(not_before=None)
    while work() is not None:
        pass
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert job.archives.get().images == 6


def test_a_server_with_another_staging_folder_does_not_build_the_file(
    order: Callable[..., Job], archive_node: Node, settings: object, tmp_path: Path
) -> None:
    settings.EMBEDDED = False  # type: ignore[attr-defined]
    job = order("1")
    assert work() is not None
    Node.objects.filter(pk=archive_node.pk).update(
        settings={**archive_node.settings, "staging": str(tmp_path / "elsewhere")}
    )
    task = work()
    assert task is not None
    assert (task.type, task.state) == (TaskType.PACK, TaskState.PENDING)
    assert "is not the one that the other servers use" in str(task.message)
    assert not job.archives.exists()


def test_doctor_reports_a_server_with_another_shared_folder(
    settings: object, tmp_path: Path
) -> None:
    settings.EMBEDDED = False  # type: ignore[attr-defined]
    settings.GATHERED_DIR = tmp_path / "mine"  # type: ignore[attr-defined]
    settings.ARCHIVE_DIR = tmp_path / "files"  # type: ignore[attr-defined]
    assert not [one for one in shared_folders.check_shared_folders() if one.next_step]
    SharedFolder.objects.create(name="gathered", mark="theirs")
    (said,) = [one for one in shared_folders.check_shared_folders() if one.next_step]
    assert str(tmp_path / "mine") in str(said.what)
    assert "ADIT_GATHERED" in str(said.next_step)
    assert "contains theirs" in str(said.next_step)
