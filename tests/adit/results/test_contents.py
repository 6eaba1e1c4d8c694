"""Folder destinations: the list of contents beside the images, storage and quota."""

import csv
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from lab import samples
from lab.jobs import PATIENT, put_study, shelf, work
from lab.ordering import order_job
from pydicom import dcmread

from adit.accounts.models import User
from adit.jobs.actions import perform
from adit.jobs.kinds.base import SendAsIs
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState
from adit.nodes import alarms, host_checks, notifications
from adit.nodes.models import Alarm, Node
from adit.projects.models import Project
from adit.results import deliveries, storage_quota
from adit.worker.tasks import work as work_as_a_worker
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def order(
    coordinator: User, source: Node, folder_node: Node, project: Project
) -> Callable[..., Job]:
    def ordered(*studies: str, user: User | None = None, **more: Any) -> Job:
        picks = tuple(
            PickedStudy.by_uid(source.pk, put_study(source, study), PATIENT) for study in studies
        )
        more = {"project": project.pk, "key": f"{studies}{Job.objects.count()}", **more}
        return order_job(user or coordinator, "selective", picks, folder_node.pk, **more)

    return ordered


def work_off() -> None:
    while work() is not None:
        pass
    deliveries.write_due_lists()


def listed(folder: Path, job: Job) -> list[dict[str, str]]:
    """Return the rows of the CSV list, after checking that the JSON list agrees."""
    (path,) = folder.rglob(f"contents-job-{job.pk}.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["job"] == job.pk
    assert [image["path"] for image in told["images"]] == [row["path"] for row in rows]
    assert [image["sha256"] for image in told["images"]] == [row["sha256"] for row in rows]
    return rows


def test_the_list_contains_each_file_with_its_digest_size_and_uids(
    order: Callable[..., Job], tmp_path: Path
) -> None:
    job = order("1", "2")
    work_off()

    rows = listed(tmp_path / "out" / "LUNG", job)
    files = {
        p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*.dcm")
    }
    assert {row["path"] for row in rows} == set(files)
    for row in rows:
        content = files[row["path"]].read_bytes()
        header = dcmread(files[row["path"]])
        assert row["sha256"] == sha256(content).hexdigest()
        assert int(row["size_bytes"]) == len(content)
        assert row["instance_uid"] == header.SOPInstanceUID
        assert row["series_uid"] == header.SeriesInstanceUID
        assert row["study_uid"] == header.StudyInstanceUID
        assert row["outcome"] == "delivered"


def test_the_list_of_a_pseudonymized_job_contains_no_original_uid(
    order: Callable[..., Job], source: Node, tmp_path: Path
) -> None:
    job = order("1")
    held = samples.ct(9, study="1", BurnedInAnnotation="YES")
    shelf(source)[held.SOPInstanceUID] = samples.instance(held)
    work_off()

    rows = listed(tmp_path / "out", job)
    assert [row["outcome"] for row in rows] == ["delivered"] * 3 + ["withheld"]
    assert rows[3]["reason"]
    text = "".join(p.read_text() for p in (tmp_path / "out").rglob("contents-*"))
    assert samples.ROOT not in text
    assert PATIENT not in text


def test_the_list_of_an_identified_job_contains_original_uids(
    order: Callable[..., Job], root: User, tmp_path: Path
) -> None:
    job = order("1", user=root, change=SendAsIs("they treat the patient"), project=None)
    work_off()

    assert {row["study_uid"] for row in listed(tmp_path / "out", job)} == {f"{samples.ROOT}.1"}


def test_a_retry_updates_the_list(
    order: Callable[..., Job], source: Node, coordinator: User, tmp_path: Path
) -> None:
    job = order("1", "2")
    held = dict(shelf(source))
    for uid in [uid for uid in held if uid.startswith(f"{samples.ROOT}.2.")]:
        del shelf(source)[uid]
    work_off()
    assert len(listed(tmp_path / "out", job)) == 3

    shelf(source).update(held)
    perform(coordinator, job, "retry")
    work_off()

    assert len(listed(tmp_path / "out", job)) == 6
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.startswith(".adit-")]


def test_the_list_of_an_unavailable_folder_is_written_later(
    order: Callable[..., Job], tmp_path: Path
) -> None:
    job = order("1")
    while work() is not None:
        pass
    (tmp_path / "out").rename(tmp_path / "away")
    assert deliveries.write_due_lists() == 0
    assert deliveries.write_due_lists() == 0
    (tmp_path / "away").rename(tmp_path / "out")
    Job.objects.update(delivery_list_due_at=Job.objects.get().ended_at)

    assert deliveries.write_due_lists() == 1

    assert len(listed(tmp_path / "out", job)) == 3
    assert not deliveries.jobs_due().exists()


def test_the_list_reports_a_file_that_no_longer_exists(
    order: Callable[..., Job], tmp_path: Path
) -> None:
    job = order("1")
    while work() is not None:
        pass
    next((tmp_path / "out").rglob("*.dcm")).unlink()
    deliveries.write_due_lists()

    rows = listed(tmp_path / "out", job)
    assert sum("the file no longer exists" in row["reason"] for row in rows) == 1


# Storage ------------------------------------------------------------------------------------------


def test_insufficient_space_and_a_missing_folder_are_reported(
    folder_node: Node, tmp_path: Path
) -> None:
    assert storage_quota.explain_no_space(folder_node, 1000) is None
    assert "GB are required. Free disk space" in str(
        storage_quota.explain_no_space(folder_node, 10**18)
    )

    folder_node.settings["network"] = True
    (tmp_path / "out").rmdir()
    assert "the folder does not exist" in str(storage_quota.explain_no_space(folder_node, 1000))


def test_a_used_up_quota_refuses_orders_and_delays_tasks(
    order: Callable[..., Job], folder_node: Node
) -> None:
    folder_node.settings["quota_gb"] = 1
    folder_node.save()
    order("1")
    work_off()
    assert storage_quota.explain_no_space(folder_node, 1_000_000) is None
    later = order("2")
    SeriesResult.objects.update(size_bytes=1_000_000_000)
    full = storage_quota.explain_no_space(folder_node, 1)
    assert full == Message("storage-quota.used-up", node=folder_node.name, quota="1.0 GB")

    with pytest.raises(InvalidInput) as refused:
        order("3")
    assert refused.value.message == full
    task = work()

    assert task is not None
    assert (task.state, task.failures) == (TaskState.PENDING, 1)
    assert "is used up" in str(task.message)
    later.refresh_from_db()
    assert later.state == JobState.PENDING


def test_low_storage_raises_one_alarm_and_one_mail_per_recipient(
    order: Callable[..., Job], folder_node: Node, pacsadmin: User, settings: Any
) -> None:
    settings.MAIL = True
    User.objects.filter(pk=pacsadmin.pk).update(email="admin@hospital.invalid")
    folder_node.settings |= {"quota_gb": 1, "contact": "Ann <ann@hospital.invalid>, 4711"}
    folder_node.save()
    order("1")
    work_off()
    assert storage_quota.update_quota_alarms() == 0
    SeriesResult.objects.update(size_bytes=950_000_000)

    for _ in range(2):
        assert storage_quota.update_quota_alarms() == 1
        host_checks.check_host()
        alarms.end_old_alarms()
        notifications.mail_alarms()

    assert sorted(letter.to[0] for letter in mail.outbox) == [
        "admin@hospital.invalid",
        "ann@hospital.invalid",
    ]
    assert "950.0 MB of the 1.0 GB quota of this folder are used." in mail.outbox[0].body
    of_folder = Alarm.objects.filter(ended_at=None, subject__startswith="quota:")
    assert of_folder.count() == 1
    SeriesResult.objects.update(size_bytes=1)
    storage_quota.update_quota_alarms()
    assert not of_folder.exists()


def test_lists_are_written_while_no_task_is_in_progress(
    order: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    write = deliveries.write_due_lists

    def watched() -> int:
        held.append(Task.objects.filter(state=TaskState.IN_PROGRESS).count())
        return write()

    monkeypatch.setattr(deliveries, "write_due_lists", watched)
    first, second = order("1"), order("2")

    work_as_a_worker()

    assert held == [0, 0, 0]
    for job in (first, second):
        assert len(listed(tmp_path / "out", job)) == 3
