"""Faults of the environment: clock jumps, frozen processes, full disks and lost or duplicate messages."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir

import pytest
import time_machine
from django.conf import settings as conf
from django.db import connection
from django.utils import timezone
from lab.installed import Installed
from lab.jobs import put_study, shelf, until, work
from pydicom import dcmread

from adit.accounts.models import User
from adit.jobs import lease, queue, states
from adit.jobs.actions import perform
from adit.jobs.models import Job, JobState, Task, TaskState
from adit.jobs.wakeup import wake_workers
from adit.nodes import services
from adit.nodes.models import Node, Slot
from adit.worker import runner, tasks
from adit_engine.errors import AditError
from adit_engine.messages import Message

Ordering = Callable[..., Job]

SERIES, IMAGES = 6, 70


LISTS = {"contents-job-1.csv", "contents-job-1.json"}


def stamps_of(installation: Installed) -> dict[Path, tuple[int, int, int]]:
    """Return inode, mtime and ctime (ns) of every file at the destination."""
    found = {
        path: path.stat()
        for path in (installation.data / "folders" / "to").rglob("*")
        if path.is_file()
    }
    return {p: (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns) for p, stat in found.items()}


def claimed() -> Task:
    task = queue.claim("test")
    assert task is not None
    return task


@pytest.mark.django_db(transaction=True)
def test_a_clock_jump_forward_costs_an_attempt_but_delivers_each_image_once(
    order_studies: Ordering, destination: Node
) -> None:
    job = order_studies("1", images=2)
    late = claimed()
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        queue.sweep()
        assert work() is not None
        job.refresh_from_db()
        assert job.state == JobState.SUCCESS
        runner.run_task(late)
        with pytest.raises(states.StaleRow):
            queue.finish(late, TaskState.FAILURE, Message("task.internal-error"))
    job.refresh_from_db()
    assert (job.state, Task.objects.get().attempt) == (JobState.SUCCESS, 2)
    assert len(shelf(destination)) == 2


@pytest.mark.django_db
def test_a_clock_jump_back_does_not_prolong_the_lease_of_a_lost_task(
    order_studies: Ordering,
) -> None:
    order_studies("1", images=1)
    claimed()
    before = timezone.now() - timedelta(hours=1)
    with time_machine.travel(before):
        queue.sweep()
        assert Task.objects.get().state == TaskState.IN_PROGRESS, "the worker may still be running"
    with time_machine.travel(before + timedelta(seconds=conf.LEASE_S + 1)):
        queue.sweep()
        assert Task.objects.get().state == TaskState.PENDING


@pytest.mark.django_db
def test_a_running_worker_keeps_its_task_when_the_clock_jumps_back(
    order_studies: Ordering,
) -> None:
    order_studies("1", images=1)
    task = claimed()
    before = timezone.now() - timedelta(hours=1)
    with time_machine.travel(before):
        queue.sweep()
    with time_machine.travel(before + timedelta(seconds=conf.BEAT_S)):
        queue.renew_lease(task)
    with time_machine.travel(before + timedelta(seconds=conf.LEASE_S + 1)):
        queue.sweep()
        assert Task.objects.get().state == TaskState.IN_PROGRESS


@pytest.mark.timeout(900)
def test_a_worker_resumed_after_its_lease_expired_changes_nothing(tmp_path: Path) -> None:
    installation = Installed(
        tmp_path / "var", {"ADIT_LEASE_S": "10", "ADIT_BEAT_S": "1", "ADIT_SWEEP_S": "1"}
    )
    installation.prepare()
    installation.do("fill", str(SERIES), str(IMAGES))
    installation.do("pace", "40")
    with installation.up():
        installation.do("order")
        until(lambda: len(installation.delivered()) > IMAGES, 150)
        ((worker, state),) = installation.rows("select worker, state from jobs_task")
        assert state == "in_progress", "the transfer finished before the worker could be frozen"
        frozen = int(worker.rsplit(":", 1)[1])
        installation.freeze(frozen)
        installation.do("pace", "0")
        try:
            until(lambda: installation.rows("select state from jobs_job")[0][0] == "success", 200)
            until(lambda: {path.name for path in stamps_of(installation)} >= LISTS, 150)
            told, before = installation.ledger(), stamps_of(installation)
        finally:
            os.kill(frozen, signal.SIGCONT)
        until(
            lambda: not [path for path in stamps_of(installation) if path.name.startswith(".adit-")]
        )
        time.sleep(3)  # time for unwanted writes of the resumed worker
        assert installation.ledger() == told
        after = stamps_of(installation)
        left = {path for path in before if path.name.startswith(".adit-")}
        assert {path: after[path] for path in before.keys() - left} == {
            path: before[path] for path in before.keys() - left
        }
        assert after.keys() == before.keys() - left, "partially written files remain"
    total = SERIES * IMAGES
    assert (told["expected"], told["delivered"], told["others"]) == (total, total, 0)
    assert told["attempt"] >= 2
    images = [path for path in after if path.name not in LISTS]
    uids = Counter(dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in images)
    assert len(uids) == len(images) == total
    assert set(uids.values()) == {1}


@pytest.mark.django_db(transaction=True)
def test_files_are_not_renamed_if_the_lease_expires_during_fsync(
    order_studies: Ordering, folder_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease expires between writing and renaming; the next attempt finds no files."""
    job = order_studies("1", images=3, to=folder_node)
    base, slept_s, now, fsync = (
        Path(folder_node.settings["path"]),
        [0.0],
        lease.get_boot_time,
        os.fsync,
    )

    def freeze(descriptor: int) -> None:
        slept_s[0] = 10.0 * conf.LEASE_S
        fsync(descriptor)

    with monkeypatch.context() as frozen:
        frozen.setattr(lease, "get_boot_time", lambda: now() + slept_s[0])
        frozen.setattr("adit_engine.dicom_file.atomic.os.fsync", freeze)
        task = work()
    assert task is not None
    assert task.state == TaskState.PENDING
    assert task.message is not None
    assert task.message.code == "task.lease-expired"
    assert [path for path in base.rglob("*") if path.is_file()] == []

    work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert len(list(base.rglob("*.dcm"))) == 3


@pytest.mark.django_db(transaction=True)
def test_a_job_completes_after_a_full_database_disk_has_space_again(
    order_studies: Ordering, destination: Node, tmp_path: Path
) -> None:
    job = order_studies("1", images=300)
    task = claimed()
    with full_database(tmp_path):
        runner.run_task(task)
    task.refresh_from_db()
    assert task.state in (TaskState.IN_PROGRESS, TaskState.PENDING)
    assert not task.items.filter(is_final=True).exists()
    Task.objects.filter(state=TaskState.IN_PROGRESS).update(lease_until=timezone.now())
    queue.sweep()
    Task.objects.update(not_before=None)
    work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert len(shelf(destination)) == 300


@contextmanager
def full_database(folder: Path) -> Iterator[None]:
    """Limit the SQLite file to its size, or move the ledger in PostgreSQL to a full disk."""
    if conf.EMBEDDED:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
            ((pages,),) = cursor.execute("PRAGMA page_count").fetchall()
            cursor.execute(f"PRAGMA max_page_count = {pages}")
        try:
            yield
        finally:
            connection.close()  # max_page_count applies to the connection
        return
    with small_disk(folder) as disk, connection.cursor() as cursor:
        name = f"small_{secrets.token_hex(4)}"
        cursor.execute(f"CREATE TABLESPACE {name} LOCATION '{disk / 'base'}'")
        cursor.execute(f"ALTER TABLE jobs_seriesresult SET TABLESPACE {name}")
        with pytest.raises(OSError, match="No space"):
            (disk / "all").write_bytes(b"x" * 10_000_000)
        try:
            yield
        finally:
            (disk / "all").unlink()
            connection.ensure_connection()
            with connection.cursor() as again:
                again.execute("ALTER TABLE jobs_seriesresult SET TABLESPACE pg_default")
                again.execute(f"DROP TABLESPACE {name}")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of one megabyte that the database server can access."""
    made = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(made, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            owner = Path(cursor.fetchone()[0]).stat()
        for path in (folder, folder / "base"):
            path.mkdir(exist_ok=True)
            os.chown(path, owner.st_uid, owner.st_gid)
        for parent in folder.parents:
            if parent.is_relative_to(gettempdir()) and parent != Path(gettempdir()):
                parent.chmod(parent.stat().st_mode | 0o011)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=250)


@pytest.mark.django_db
def test_a_node_can_be_removed_only_after_its_jobs_are_deleted(
    order_studies: Ordering, source: Node, pacsadmin: User, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    with pytest.raises(AditError, match="jobs"):
        services.remove_node(pacsadmin, source)
    assert queue.claim("test") is not None
    Task.objects.update(state=TaskState.SUCCESS)
    Slot.objects.all().delete()
    Job.objects.update(state=JobState.SUCCESS)
    job.refresh_from_db()
    perform(coordinator, job, "delete")
    services.remove_node(pacsadmin, source)
    assert not Node.objects.filter(pk=source.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_a_job_placed_while_the_broker_is_unavailable_is_run_later(
    order_studies: Ordering, destination: Node
) -> None:
    shutil.rmtree(conf.BROKER_DIR, ignore_errors=True)
    conf.BROKER_DIR.write_text("in the way")
    try:
        job = order_studies("1", images=1)
        assert job.state == JobState.PENDING
        tasks.sweep()
    finally:
        conf.BROKER_DIR.unlink()
    tasks.sweep()
    waiting = list((conf.BROKER_DIR / "waiting").glob("*.work.msg"))
    assert waiting, "the sweep sent no wake-up after the broker was available again"
    tasks.work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS


@pytest.mark.django_db(transaction=True)
def test_duplicate_late_or_unneeded_wakeups_run_no_task_twice(
    order_studies: Ordering, destination: Node
) -> None:
    tasks.work()
    job = order_studies("1", "2", images=1)
    for _ in range(3):
        tasks.work()
    wake_workers(20)
    tasks.work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
    assert set(job.tasks.values_list("attempt", flat=True)) == {1}
    assert len(shelf(destination)) == 2
    put_study(Node.objects.get(name="PACS1"), "3", images=1)
    tasks.work()
    assert len(shelf(destination)) == 2
