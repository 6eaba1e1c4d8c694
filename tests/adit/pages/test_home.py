"""Home page: running and waiting jobs, approvals, sample lists, sign-in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse

from adit.accounts.models import User
from adit.jobs import task_groups
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskGroup, TaskState
from adit.nodes.models import Node
from adit.projects import services
from adit_engine.messages import Message

CLOSED = Message("node-unavailable.outside-hours", node="PACS1", time="20:00")
AsUser = Callable[[User], Client]


def order(
    owner: User, destination: Node, state: JobState, wait_reason: Message | None = None
) -> Job:
    job = Job.objects.create(
        kind="selective",
        owner=owner,
        destination=destination,
        project=services.default_project(),
        state=state,
        idempotency_key=f"{owner.pk}-{state}",
    )
    task = Task.objects.create(job=job, position=1, payload=b"", state=TaskState.PENDING)
    task_groups.assign_groups(job)
    TaskGroup.objects.update(wait_reason=wait_reason)
    SeriesResult.objects.create(
        task=task, attempt=1, index="1", sealed=b"", expected=120, delivered=56, withheld=2
    )
    return job


def test_pages_redirect_to_sign_in(db: None) -> None:
    for path in ("/", "/home/live", "/nodes/", "/jobs/", "/accounts/profile/"):
        response = Client().get(path)

        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/")


def test_the_home_page_shows_a_running_job_with_its_counts(
    coordinator: User, destination: Node, as_user: AsUser
) -> None:
    order(coordinator, destination, JobState.IN_PROGRESS)

    page = as_user(coordinator).get("/").content.decode()

    assert 'aria-valuenow="48"' in page
    assert "<strong>56</strong> delivered" in page
    assert "<strong>2</strong> withheld" in page
    assert 'hx-trigger="every 3s"' in page
    assert '<noscript><meta http-equiv="refresh"' in page


def test_the_home_page_shows_why_a_job_is_waiting(
    coordinator: User, destination: Node, as_user: AsUser
) -> None:
    order(coordinator, destination, JobState.PENDING, wait_reason=CLOSED)

    page = as_user(coordinator).get("/").content.decode()

    assert "It opens at 20:00" in page


def test_the_home_page_stops_polling_when_all_jobs_have_finished(
    coordinator: User, destination: Node, as_user: AsUser
) -> None:
    order(coordinator, destination, JobState.SUCCESS)

    page = as_user(coordinator).get("/home/live").content.decode()

    assert "hx-get" not in page
    assert "Recently finished" in page


def test_the_home_page_hides_jobs_of_other_users(
    coordinator: User, make_user: Callable[..., User], destination: Node, as_user: AsUser
) -> None:
    other = make_user("other", "Coordinators")
    job = order(other, destination, JobState.IN_PROGRESS)

    page = as_user(coordinator).get("/").content.decode()

    assert f"/jobs/{job.pk}/" not in page


def test_approvers_see_the_number_of_jobs_waiting_for_approval(
    coordinator: User, pacsadmin: User, destination: Node, as_user: AsUser
) -> None:
    order(coordinator, destination, JobState.WAITING_FOR_APPROVAL)

    assert "1 job waiting for approval" in as_user(pacsadmin).get("/").content.decode()
    assert "waiting for approval</h2>" not in as_user(coordinator).get("/").content.decode()


def test_a_user_without_permissions_gets_a_hint(stranger: User, as_user: AsUser) -> None:
    page = as_user(stranger).get("/").content.decode()

    assert "You have no permissions yet." in page
    assert 'href="/jobs/new/' not in page


@pytest.mark.parametrize("path", ["/", "/home/live", "/help/", "/accounts/profile/"])
def test_user_pages_are_not_cached(path: str, coordinator: User, as_user: AsUser) -> None:
    assert "no-store" in as_user(coordinator).get(path)["Cache-Control"]


def test_sample_lists_are_linked_for_users_with_permissions_if_they_exist(
    coordinator: User, stranger: User, as_user: AsUser, settings: Any, tmp_path: Path
) -> None:
    assert "Sample lists" not in as_user(coordinator).get("/").content.decode()
    settings.SAMPLES_DIR = tmp_path
    (tmp_path / "list.xlsx").write_bytes(b"PK")
    (tmp_path.parent / "secret.xlsx").write_bytes(b"PK")
    client = as_user(coordinator)
    assert "Sample lists" in client.get("/").content.decode()
    assert "Sample lists" not in as_user(stranger).get("/").content.decode()
    answer = client.get(reverse("sample", args=["list.xlsx"]))
    assert b"".join(answer.streaming_content) == b"PK"
    for name in ("nothing.xlsx", "..%2Fsecret.xlsx", "%2e%2e%2fsecret.xlsx"):
        assert client.get(f"/samples/{name}").status_code == 404
    assert Client().get("/samples/list.xlsx").status_code == 302


def test_a_person_who_only_manages_users_is_not_called_without_permissions(
    stranger: User, as_user: AsUser
) -> None:
    clerks = Group.objects.create(name="Clerks")
    clerks.permissions.set(Permission.objects.filter(codename="manage_users"))
    stranger.groups.add(clerks)

    page = as_user(stranger).get("/").content.decode()

    assert "You have no permissions yet" not in page
    assert 'href="/users/"' in page
