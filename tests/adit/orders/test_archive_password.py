"""Every page of an order keeps the password of the 7-Zip file until the order is placed."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState, OrderDraft, Task
from adit.nodes.models import Node
from adit.orders import basket
from adit.projects.models import Project
from adit_engine.values.archive_password import validate_password
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

pytestmark = pytest.mark.django_db

OWN = "four words and 1 sign!"
OTHER = "five other words, 2 signs"
KEPT = {"archive_kept": "yes"}
TWICE = {"archive_password": OWN, "archive_password_again": OWN}


@pytest.fixture
def archive_node(make_node: Callable[..., Node], tmp_path: Path) -> Node:
    (tmp_path / "archives").mkdir()
    folders = {"path": str(tmp_path / "archives"), "staging": str(tmp_path / "gathered")}
    return make_node("7-Zip", kind="archive", settings=folders, writes=(standard.COORDINATORS,))


@pytest.fixture
def client(as_user: Callable[[User | None], Client], coordinator: User) -> Client:
    return as_user(coordinator)


Form = tuple[str, dict[str, Any]]
"""URL of a page that asks for a password, and the other values that its form posts."""


@pytest.fixture
def summary(
    client: Client, coordinator: User, archive_node: Node, source: Node, project: Project
) -> Form:
    """The summary page of a selective transfer to a 7-Zip file."""
    values = {"StudyInstanceUID": "1.2.3.4", "PatientID": "PID-0815", "ModalitiesInStudy": ("CT",)}
    picks = [PickedStudy(source.pk, Record(QueryLevel.STUDY, values), domain="PACS1")]
    basket.add(coordinator, picks)
    return to_summary(client, archive_node, project), {}


def to_summary(client: Client, archive_node: Node, project: Project) -> str:
    order = {"do": "summary", "destinations": archive_node.pk, "project": project.pk}
    return str(client.post(reverse("job_new_selective"), order)["Location"])


@pytest.fixture
def rows(client: Client, archive_node: Node, source: Node, project: Project) -> Form:
    """The rows page of an uploaded batch transfer, and an order to a 7-Zip file."""
    sheet = SimpleUploadedFile("list.csv", b"PatientID;StudyInstanceUID\n0001;1.2.3.4\n")
    address = client.post(reverse("job_new_transfer"), {"sheet": sheet})["Location"]
    order = {
        "do": "start",
        "source": source.pk,
        "destinations": archive_node.pk,
        "project": project.pk,
        "generate": "on",
    }
    return address, order


@pytest.fixture
def retry(coordinator: User, make_job: Callable[..., Job], archive_node: Node) -> Form:
    """The page that asks for a new password before a job is retried."""
    job = make_job(coordinator, state=JobState.WARNING)
    Job.objects.update(destination=archive_node)
    Task.objects.update(state="warning")
    return reverse("job_password", args=[job.pk, "retry"]), {}


@pytest.fixture(params=["summary", "rows", "retry"])
def form(request: pytest.FixtureRequest) -> Form:
    made: Form = request.getfixturevalue(request.param)
    return made


def field(page: str, name: str) -> str:
    tag = re.search(rf'<input[^>]* name="{name}"[^>]*>', page)
    assert tag, f"no field {name}"
    value = re.search(r' value="([^"]*)"', tag[0])
    return html.unescape(value[1]) if value else ""


def shown(client: Client, address: str) -> tuple[str, str]:
    """Return the values of both password fields."""
    page = client.get(address).content.decode()
    return field(page, "archive_password"), field(page, "archive_password_again")


def proposal(client: Client, address: str) -> str:
    page = client.get(address).content.decode()
    found = re.search(r'id="archive_proposal"[^>]*>([^<]+)<', page)
    assert found
    return html.unescape(found[1])


def ordered() -> list[str | None]:
    """Return the passwords of the ordered jobs."""
    passwords = Job.objects.values_list("archive_password", flat=True)
    return [password for password in passwords if password]


def test_a_reload_keeps_the_proposed_password(client: Client, form: Form) -> None:
    address, _order = form
    first = proposal(client, address)

    assert validate_password(first) == first
    assert proposal(client, address) == first
    assert shown(client, address) == (first, "")


def test_the_proposed_password_needs_no_second_entry(client: Client, form: Form) -> None:
    address, order = form
    password = proposal(client, address)

    answer = client.post(address, {**order, **KEPT, "archive_password": password})

    assert answer.status_code == 302
    assert ordered() == [password]


def test_a_refused_form_keeps_the_proposed_password(client: Client, form: Form) -> None:
    address, order = form
    password = proposal(client, address)

    answer = client.post(address, {**order, "archive_password": password})

    assert answer.status_code == 422
    assert "Write down the password" in answer.content.decode()
    assert field(answer.content.decode(), "archive_password") == password
    assert proposal(client, address) == password


def test_a_custom_password_must_be_entered_twice(client: Client, form: Form) -> None:
    address, order = form

    once = client.post(address, {**order, **KEPT, "archive_password": OWN})
    typo = {"archive_password": OWN, "archive_password_again": OTHER}
    different = client.post(address, {**order, **KEPT, **typo})

    for answer in (once, different):
        assert answer.status_code == 422
        assert "The passwords are different." in answer.content.decode()
    assert ordered() == []

    assert client.post(address, {**order, **KEPT, **TWICE}).status_code == 302
    assert ordered() == [OWN]


def test_a_custom_password_survives_a_form_error_and_a_reload(client: Client, form: Form) -> None:
    address, order = form

    page = client.post(address, {**order, **TWICE}).content.decode()

    assert (field(page, "archive_password"), field(page, "archive_password_again")) == (OWN, OWN)
    assert shown(client, address) == (OWN, OWN)


def test_a_weak_password_is_refused(client: Client, form: Form) -> None:
    address, order = form
    weak = {"archive_password": "short", "archive_password_again": "short"}

    page = client.post(address, {**order, **KEPT, **weak}).content.decode()

    assert "at least 12 characters" in page
    assert ordered() == []


@pytest.mark.parametrize("button", ["page:1", "show:error", "show:out", "show:"])
def test_saving_the_selection_and_filtering_keep_the_password(
    client: Client, rows: Form, button: str
) -> None:
    address, order = rows
    first = proposal(client, address)

    client.post(address, {**order, "do": button, "archive_password": first})
    assert shown(client, address) == (first, "")

    client.post(address, {**order, "do": button, **TWICE})
    assert shown(client, address) == (OWN, OWN)
    assert proposal(client, address) == first


def test_changing_the_order_keeps_the_password(
    client: Client, summary: Form, archive_node: Node, project: Project
) -> None:
    address, _order = summary
    first = proposal(client, address)

    left = client.post(address, {**TWICE, "do": "change"})
    again = to_summary(client, archive_node, project)

    assert left["Location"].startswith(reverse("job_new_selective"))
    assert again != address
    assert proposal(client, again) == first
    assert shown(client, again) == (OWN, OWN)
    assert not Job.objects.exists()


def test_another_user_never_sees_the_password(
    client: Client, form: Form, as_user: Callable[[User | None], Client], root: User
) -> None:
    address, order = form
    first = proposal(client, address)
    client.post(address, {**order, **TWICE})

    other = as_user(root).get(address, follow=True).content.decode()

    assert first not in other
    assert OWN not in other


def drafts() -> list[OrderDraft]:
    return list(OrderDraft.objects.all())


def test_the_password_is_encrypted_in_the_draft_and_absent_from_the_url(
    client: Client, form: Form
) -> None:
    address, order = form
    first = proposal(client, address)
    answer = client.post(address, {**order, **TWICE})

    with connection.cursor() as cursor:
        cursor.execute("SELECT key, content FROM jobs_orderdraft")
        stored = repr([(key, bytes(content)) for key, content in cursor.fetchall()])
    for password in (first, OWN):
        assert password not in stored
        assert password not in answer.headers.get("Location", "")
    assert any(OWN in repr(draft.content) for draft in drafts())


def test_placing_the_order_deletes_the_password_from_the_drafts(client: Client, form: Form) -> None:
    address, order = form
    client.post(address, {**order, **TWICE, **KEPT})

    assert all(OWN not in repr(draft.content) for draft in drafts())
