"""Pages of 7-Zip files: downloads, permissions, deletion, new password for a retry."""

import html
import os
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.accounts.permissions import Right
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.consent import changes
from adit.consent.changes import Consent
from adit.jobs import encrypted_payload
from adit.jobs.kinds.base import TaskPlan
from adit.jobs.models import ArchiveFile, Job, JobState, SeriesResult, Task, TaskType
from adit.nodes.models import Node
from adit.projects.key_destruction import destroy_key
from adit.projects.models import Project
from adit.results.views.archives import DOWNLOAD_LIMIT
from adit_engine.values.archive_password import validate_password

pytestmark = pytest.mark.django_db(transaction=True)

PATIENT = "PID-0815"
PASSWORD = "four words and 1 sign!"
TWICE = {"archive_password": PASSWORD, "archive_password_again": PASSWORD}
CONTENT = os.urandom(700_000)


@pytest.fixture
def archive_node(make_node: Callable[..., Node], tmp_path: Path) -> Node:
    (tmp_path / "archives").mkdir()
    folders = {"path": str(tmp_path / "archives"), "staging": str(tmp_path / "gathered")}
    return make_node("7-Zip", kind="archive", settings=folders, writes=(standard.COORDINATORS,))


@pytest.fixture
def archive(
    coordinator: User, make_job: Callable[..., Job], archive_node: Node, tmp_path: Path
) -> ArchiveFile:
    """A finished 7-Zip file of the coordinator."""
    job = make_job(coordinator)
    job.destination = archive_node
    job.save()
    Task.objects.create(job=job, position=2, type=TaskType.PACK, payload=b"", state="success")
    (tmp_path / "archives" / f"job-{job.pk}.7z").write_bytes(CONTENT)
    now = timezone.now()
    return ArchiveFile.objects.create(
        job=job,
        round=0,
        name=f"job-{job.pk}.7z",
        size_bytes=len(CONTENT),
        images=4,
        built_at=now,
        expires_at=now + timedelta(days=14),
    )


@pytest.fixture
def client(as_user: Callable[[User | None], Client], coordinator: User) -> Client:
    return as_user(coordinator)


def address(archive: ArchiveFile) -> str:
    return reverse("archive_file", args=[archive.job_id, archive.pk])


def body(answer: Any) -> bytes:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    answer.close()
    return content


def test_the_job_page_links_the_file_and_explains_how_to_open_it(
    client: Client, archive: ArchiveFile
) -> None:
    page = client.get(reverse("job", args=[archive.job_id])).content.decode()

    assert address(archive) in page
    assert archive.name in page
    assert "7-Zip (Windows)" in page
    assert "1 of 1 study done" in page


def test_a_download_returns_the_whole_file_with_name_and_length(
    client: Client, archive: ArchiveFile
) -> None:
    answer = client.get(address(archive))

    assert body(answer) == CONTENT
    assert answer["Content-Length"] == str(len(CONTENT))
    assert answer["Content-Disposition"] == f'attachment; filename="{archive.name}"'
    assert answer["Cache-Control"] == "no-store, private"
    assert DOWNLOAD_LIMIT.count == 0


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, len(CONTENT)),
        ("bytes=-10", len(CONTENT) - 10, len(CONTENT)),
        ("bytes=0-99999999", 0, len(CONTENT)),
        ("bytes=699999-699999", 699_999, 700_000),
    ],
)
def test_a_range_request_returns_the_requested_bytes(
    client: Client, archive: ArchiveFile, header: str, start: int, end: int
) -> None:
    answer = client.get(address(archive), headers={"Range": header})

    assert body(answer) == CONTENT[start:end]
    whole = end - start == len(CONTENT)
    assert answer.status_code == (200 if whole else 206)
    if not whole:
        assert answer["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=-", "bytes=1-2,4-5", "pages=1-2", "bytes"])
def test_an_invalid_range_returns_the_whole_file(
    client: Client, archive: ArchiveFile, header: str
) -> None:
    answer = client.get(address(archive), headers={"Range": header})

    assert answer.status_code == 200
    assert body(answer) == CONTENT


@pytest.mark.parametrize("header", ["bytes=700000-", "bytes=900000-900001", "bytes=-0"])
def test_a_range_beyond_the_end_returns_416(
    client: Client, archive: ArchiveFile, header: str
) -> None:
    answer = client.get(address(archive), headers={"Range": header})

    assert answer.status_code == 416
    assert answer["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_if_range_with_another_etag_returns_the_whole_file(
    client: Client, archive: ArchiveFile
) -> None:
    tag = client.head(address(archive))["ETag"]
    same = client.get(address(archive), headers={"Range": "bytes=5-", "If-Range": tag})
    other = client.get(address(archive), headers={"Range": "bytes=5-", "If-Range": '"old"'})

    assert (same.status_code, body(same)) == (206, CONTENT[5:])
    assert (other.status_code, body(other)) == (200, CONTENT)


def test_head_returns_the_length_without_a_body(client: Client, archive: ArchiveFile) -> None:
    answer = client.head(address(archive))

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["Content-Length"] == str(len(CONTENT))
    assert not AuditEvent.objects.filter(action="archive.downloaded").exists()


def test_a_download_in_parts_is_audited_once(client: Client, archive: ArchiveFile) -> None:
    for start in (0, 100, 200):
        body(client.get(address(archive), headers={"Range": f"bytes={start}-{start + 99}"}))

    event = AuditEvent.objects.get(action="archive.downloaded")
    assert event.about == f"job:{archive.job_id}"
    assert event.details == {"file": archive.name}


def test_a_download_above_the_limit_returns_503_with_retry_after(
    client: Client, archive: ArchiveFile, settings: Any
) -> None:
    settings.DOWNLOADS = 1
    first = client.get(address(archive))

    second = client.get(address(archive))

    assert second.status_code == 503
    assert second["Retry-After"] == "60"
    first.close()
    assert body(client.get(address(archive))) == CONTENT


def test_an_aborted_download_releases_its_slot(client: Client, archive: ArchiveFile) -> None:
    answer = client.get(address(archive))
    next(iter(answer.streaming_content))
    answer.close()

    assert DOWNLOAD_LIMIT.count == 0


def test_downloading_requires_permission(
    client: Client, archive: ArchiveFile, groups: dict[str, Group]
) -> None:
    rights = groups[standard.COORDINATORS].permissions
    rights.remove(rights.get(codename=Right.DOWNLOAD))

    assert client.get(address(archive)).status_code == 403
    assert client.get(reverse("archives")).status_code == 403
    page = client.get(reverse("job", args=[archive.job_id])).content.decode()
    assert address(archive) not in page
    assert "You do not have the permission to download files" in page


def test_identified_images_need_the_permission_to_transfer_identified_data(
    client: Client, archive: ArchiveFile
) -> None:
    archive.job.order["change"] = "as_is"
    archive.job.save()

    assert client.get(address(archive)).status_code == 403


@pytest.fixture
def project_archive(
    archive: ArchiveFile, project: Project, source: Node, groups: dict[str, Group]
) -> ArchiveFile:
    """The same file with images of one patient of a project."""
    project.list_holders.set([groups[standard.COORDINATORS]])
    task = archive.job.tasks.get(type=TaskType.ORDERED)
    plan = TaskPlan(source.pk, {"study_uid": "1.2.3", "labels": {}}, patient_id=PATIENT)
    task.payload = encrypted_payload.seal_task(project, archive.job, task.position, plan, "LUNG-1")
    task.save()
    SeriesResult.objects.create(task=task, attempt=1, index="1", sealed=b"", delivered=4)
    Job.objects.filter(pk=archive.job_id).update(project=project)
    return archive


def block(user: User) -> None:
    blocking.block_patient(
        user, None, "PACS1", PATIENT, reason="objection", withdrawn_on=timezone.localdate()
    )


def test_a_file_with_a_patient_who_was_blocked_meanwhile_does_not_leave(
    client: Client, project_archive: ArchiveFile, dpo: User
) -> None:
    block(dpo)

    answer = client.get(address(project_archive))

    assert answer.status_code == 403
    assert "must not be transferred (block list of all projects)" in answer.content.decode()
    assert client.get(reverse("archives")).status_code == 200


@pytest.mark.parametrize(("days", "status"), [(0, 200), (-1, 403)])
def test_a_file_leaves_until_the_last_day_of_the_consent(
    days: int,
    status: int,
    client: Client,
    project_archive: ArchiveFile,
    coordinator: User,
    project: Project,
) -> None:
    last_day = timezone.localdate() + timedelta(days=days)
    consent = Consent("PACS1", PATIENT, valid_until=last_day)
    changes.save_consent(coordinator, project, consent, "form received")

    answer = client.get(address(project_archive))

    assert answer.status_code == status
    answer.close()


def test_a_file_whose_patients_cannot_be_checked_any_more_does_not_leave(
    client: Client, project_archive: ArchiveFile, project: Project, dpo: User
) -> None:
    block(dpo)
    destroy_key(dpo, project, "the study is over", project.protocol_id)

    answer = client.get(address(project_archive))

    assert answer.status_code == 403
    assert "The key of the project was destroyed" in answer.content.decode()


def test_a_deleted_file_returns_404_and_is_shown_as_deleted(
    client: Client, archive: ArchiveFile
) -> None:
    ArchiveFile.objects.update(removed_at=timezone.now())

    page = client.get(reverse("job", args=[archive.job_id])).content.decode()

    assert client.get(address(archive)).status_code == 404
    assert address(archive) not in page
    assert "deleted" in page


def test_a_file_missing_on_disk_returns_404(
    client: Client, archive: ArchiveFile, tmp_path: Path
) -> None:
    (tmp_path / "archives" / archive.name).unlink()

    assert client.get(address(archive)).status_code == 404


def test_the_downloads_page_lists_only_accessible_files(
    client: Client, archive: ArchiveFile, as_user: Callable[[User | None], Client], make_user: Any
) -> None:
    assert address(archive) in client.get(reverse("archives")).content.decode()

    other = as_user(make_user("other", standard.COORDINATORS))
    assert address(archive) not in other.get(reverse("archives")).content.decode()


def test_a_retry_requires_a_new_password(client: Client, archive: ArchiveFile) -> None:
    Job.objects.update(state=JobState.WARNING)
    Task.objects.filter(type=TaskType.ORDERED).update(state="warning")

    led = client.post(reverse("job_action", args=[archive.job_id, "retry"]))
    page = client.get(led["Location"]).content.decode()
    weak = client.post(led["Location"], {**TWICE, "archive_password": "short"})
    unkept = client.post(led["Location"], TWICE)

    proposal = html.unescape(re.search(r'name="archive_password"[^>]* value="([^"]+)"', page)[1])  # type: ignore[index]
    assert validate_password(proposal) == proposal
    assert "at least 12 characters" in weak.content.decode()
    assert "Write down the password" in unkept.content.decode()
    assert Job.objects.get().archive_password is None

    done = client.post(led["Location"], {**TWICE, "archive_kept": "yes"})

    assert done["Location"] == reverse("job", args=[archive.job_id])
    job = Job.objects.get()
    assert (job.state, job.archive_password) == (JobState.PENDING, PASSWORD)
    assert set(job.tasks.values_list("state", flat=True)) == {"pending"}


def test_a_refused_resume_stores_no_password(client: Client, archive: ArchiveFile) -> None:
    page = reverse("job_password", args=[archive.job_id, "resume"])

    answer = client.post(page, {**TWICE, "archive_kept": "yes"})

    assert answer.status_code == 422
    assert Job.objects.get().archive_password is None


def test_the_download_limit_is_thread_safe() -> None:
    def walk() -> None:
        for _ in range(200):
            if DOWNLOAD_LIMIT.acquire():
                DOWNLOAD_LIMIT.release()

    threads = [threading.Thread(target=walk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert DOWNLOAD_LIMIT.count == 0
