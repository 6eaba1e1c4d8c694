"""Status codes of each URL of jobs for each role."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone
from lab.projects import create_complete_project
from lab.undone import undone

from adit.accounts.models import User
from adit.jobs import urls as addresses
from adit.jobs.models import ArchiveFile, Job, JobState, SeriesResult, WithheldImages
from adit.nodes.models import Node
from adit.orders import drafts
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db

ROLES = ("nobody", "stranger", "other", "owner", "member", "pacsadmin", "dpo", "staff", "root")

SIGN_IN, OK, AWAY, NO, HIDDEN = 302, 200, 302, 403, 404
ALL_IN = dict.fromkeys(ROLES, OK) | {"nobody": SIGN_IN}
ORDERERS = dict.fromkeys(ROLES, NO) | {
    "nobody": SIGN_IN,
    "other": OK,
    "owner": OK,
    "member": OK,
    "root": OK,
}
LED_AWAY = {role: AWAY if status == OK else status for role, status in ORDERERS.items()}
JOB = dict.fromkeys(ROLES, OK) | {"nobody": SIGN_IN, "stranger": HIDDEN, "other": HIDDEN}
DEED = {role: AWAY if status == OK else status for role, status in JOB.items()}
"""An action always redirects, with a message if it was not possible."""
ACTION_PAGE = JOB | dict.fromkeys(("member", "pacsadmin", "dpo"), NO)
"""Pages that ask for something before an action: for those who may act only."""
MAY_ACT = frozenset({"owner", "staff", "root"})

NOT_A_BATCH = dict.fromkeys(ROLES, HIDDEN) | {"nobody": SIGN_IN}
"""The job of this matrix has no sheet; see orders/test_batch_rows_pages.py for jobs with a sheet."""

REVIEWERS = dict.fromkeys(ROLES, NO) | {"nobody": SIGN_IN, "root": OK}
"""No standard group may review. A picture is shown only after it was opened for review."""

DECIDERS = {role: NO if status == AWAY else status for role, status in DEED.items()} | {
    "nobody": SIGN_IN,
    "root": AWAY,
}
"""No standard group may confirm changed patient IDs."""

DOWNLOADERS = {"nobody": SIGN_IN, "other": OK, "owner": OK, "member": OK, "root": OK}
FILE = {
    "nobody": SIGN_IN,
    "owner": OK,
    "member": OK,
    "pacsadmin": NO,
    "dpo": NO,
    "staff": NO,
    "root": OK,
}
"""Roles that see the job: 403 without the permission to download. Other roles get 404."""

KEY_HOLDERS = {"nobody": SIGN_IN, "member": NO, "dpo": NO, "root": OK}

# URL name -> (method, arguments, status code of each role)
MATRIX = {
    "jobs": ("get", (), ALL_IN),
    "job_new_selective": ("get", (), ORDERERS),
    "job_cancel_search": ("post", (), {r: 204 if s == OK else s for r, s in ORDERERS.items()}),
    "job_summary": ("get", ("key",), LED_AWAY),
    "job_new_query": ("get", (), ORDERERS),
    "job_query_template": ("get", ("xlsx",), ORDERERS),
    "job_query_columns": ("get", ("key",), LED_AWAY),
    "job_query_rows": ("get", ("key",), LED_AWAY),
    "job": ("get", ("job",), JOB),
    "job_live": ("get", ("job",), JOB),
    "job_new_transfer": ("get", (), ORDERERS),
    "job_transfer_template": ("get", ("xlsx",), ORDERERS),
    "job_transfer_columns": ("get", ("key",), LED_AWAY),
    "job_transfer_rows": ("get", ("key",), LED_AWAY),
    "job_batch_rows": ("get", ("job",), NOT_A_BATCH),
    "job_batch_start": ("post", ("job",), NOT_A_BATCH),
    "job_batch_result": ("get", ("job", "xlsx"), NOT_A_BATCH),
    "job_batch_failed_rows": ("get", ("job", "xlsx"), NOT_A_BATCH),
    "job_report": ("get", ("job",), JOB),
    "job_report_file": ("get", ("job",), JOB),
    "job_results": ("get", ("job",), dict.fromkeys(ROLES, HIDDEN) | {"nobody": SIGN_IN}),
    "job_results_file": (
        "get",
        ("job", "csv"),
        dict.fromkeys(ROLES, HIDDEN) | {"nobody": SIGN_IN},
    ),
    "job_delete": ("get", ("job",), ACTION_PAGE),
    "archives": ("get", (), dict.fromkeys(ROLES, NO) | DOWNLOADERS),
    "archive_file": ("get", ("job", "archive"), dict.fromkeys(ROLES, HIDDEN) | FILE),
    "job_password": ("get", ("job", "retry"), ACTION_PAGE),
    "job_return": ("post", ("job",), DEED),
    "job_action": ("post", ("job", "cancel"), DEED),
    "job_task": ("get", ("job", 1), JOB),
    "job_task_live": ("get", ("job", 1), JOB),
    "job_task_action": ("post", ("job", 1, "stop"), DEED),
    "job_task_decide": ("post", ("job", 1), DECIDERS),
    "uid_map": ("get", ("project",), dict.fromkeys(ROLES, HIDDEN) | KEY_HOLDERS),
    "data_protection_export": (
        "get",
        (),
        dict.fromkeys(ROLES, NO) | {"nobody": SIGN_IN, "dpo": OK, "root": OK},
    ),
    "withheld": ("get", (), REVIEWERS),
    "withheld_group": ("get", ("held",), REVIEWERS),
    "withheld_devices": ("post", ("held",), REVIEWERS | {"root": AWAY}),
    "withheld_decisions": ("get", (), REVIEWERS),
    "withheld_decision": ("get", (1,), REVIEWERS | {"root": HIDDEN}),
    "withheld_picture": ("get", ("held",), REVIEWERS | {"root": HIDDEN}),
}


@pytest.fixture
def people(
    make_user: Callable[..., User], groups: dict[str, Group], root: User
) -> dict[str, User | None]:
    colleagues = Group.objects.create(name="Lung colleagues")
    staff = make_user("staff", "PACS administrators", is_staff=True)
    member = make_user("member", "Coordinators")
    member.groups.add(colleagues)
    return {
        "nobody": None,
        "stranger": make_user("stranger"),
        "other": make_user("other", "Coordinators"),
        "owner": make_user("owner", "Coordinators"),
        "member": member,
        "pacsadmin": make_user("pacsadmin", "PACS administrators"),
        "dpo": make_user("dpo", "Data protection"),
        "staff": staff,
        "root": root,
    }


@pytest.fixture
def job(
    people: dict[str, User | None],
    root: User,
    make_job: Callable[..., Job],
    make_node: Callable[..., Node],
    tmp_path: Path,
) -> Job:
    colleagues = Group.objects.get(name="Lung colleagues")
    project = create_complete_project(root, "LUNG", members=[colleagues])
    job = make_job(people["owner"], state=JobState.PENDING, project=project)
    job.destination = make_node("7-Zip", kind="archive", settings={"path": str(tmp_path)})
    job.save()
    (tmp_path / "a.7z").write_bytes(b"7-Z")
    task = job.tasks.get()
    item = task.items.first() or SeriesResult.objects.create(
        task=task, attempt=1, index="i", sealed=b""
    )
    now = timezone.now()
    ArchiveFile.objects.create(
        job=job, round=0, name="a.7z", size_bytes=3, images=1, built_at=now, expires_at=now
    )
    WithheldImages.objects.create(item=item, code="class", reason=Message("class"), images=1)
    return job


def address(name: str, arguments: tuple[object, ...], job: Job) -> str:
    held = WithheldImages.objects.values_list("pk", flat=True)[0]
    archive = job.archives.get().pk
    values = {
        "job": job.pk,
        "archive": archive,
        "key": drafts.new_key(),
        "held": held,
        "project": job.project_id,
    }
    return reverse(name, args=[values.get(str(a), a) for a in arguments])


def test_the_matrix_contains_every_url_of_jobs() -> None:
    assert {pattern.name for pattern in addresses.urlpatterns} == set(MATRIX)
    assert all(get_resolver().reverse_dict.getlist(name) for name in MATRIX)


@pytest.mark.parametrize("role", ROLES)
def test_each_url_returns_the_expected_status_for_each_role(
    role: str, people: dict[str, User | None], job: Job
) -> None:
    client, person = Client(), people[role]
    if person is not None:
        client.force_login(person)
    wrong = []
    for name, (method, arguments, expected) in MATRIX.items():
        with undone():
            answer = getattr(client, method)(address(name, arguments, job))
            answer.getvalue()
        if answer.status_code != expected[role]:
            wrong.append(f"{name}: {answer.status_code} instead of {expected[role]}")
        elif person is None and not answer["Location"].startswith("/accounts/login/"):
            wrong.append(f"{name}: leads to {answer['Location']}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("role", ROLES)
def test_only_the_owner_and_staff_can_cancel_and_delete_a_job(
    role: str, people: dict[str, User | None], job: Job
) -> None:
    client = Client()
    person = people[role]
    if person is not None:
        client.force_login(person)
    client.post(reverse("job_action", args=[job.pk, "cancel"]))
    job.refresh_from_db()
    assert job.state == (JobState.CANCELED if role in MAY_ACT else JobState.PENDING)
    client.post(reverse("job_delete", args=[job.pk]))
    assert Job.objects.filter(pk=job.pk).exists() == (role not in MAY_ACT)


@pytest.mark.parametrize("name", [n for n, row in MATRIX.items() if row[0] == "post"])
def test_a_get_of_an_action_leads_to_the_page_above_it(
    name: str, people: dict[str, User | None], job: Job
) -> None:
    client = Client()
    client.force_login(people["owner"])  # type: ignore[arg-type]
    path = address(name, MATRIX[name][1], job)
    answer = client.get(path)
    assert answer.status_code == 302
    assert path.startswith(answer["Location"])


@pytest.mark.parametrize("name", ["job_action", "job_task_action"])
def test_an_unknown_action_returns_404(name: str, people: dict[str, User | None], job: Job) -> None:
    client = Client()
    client.force_login(people["owner"])  # type: ignore[arg-type]
    arguments = {"job_action": (job.pk, "x"), "job_task_action": (job.pk, 1, "x")}[name]
    assert client.post(reverse(name, args=arguments)).status_code == 404


def test_a_post_without_a_csrf_token_is_rejected(people: dict[str, User | None], job: Job) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["owner"])  # type: ignore[arg-type]
    assert client.post(reverse("job_delete", args=[job.pk])).status_code == 403
    assert Job.objects.filter(pk=job.pk).exists()
