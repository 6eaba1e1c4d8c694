"""Pages and downloads show patient and pseudonym together only to users with permission for both."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import openpyxl
import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from lab.jobs import PATIENT, put_study
from lab.ordering import order_job

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right
from adit.jobs import urls as addresses
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState
from adit.nodes.models import Node
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.projects import patient_merge, pseudonyms, services
from adit.projects.models import Patient, Project
from adit.worker import tasks
from adit_engine.transfer.study_lookup import StudyCriteria

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = "1.2.826.0.1.3680043.8.498.77"
MADE, GIVEN = "LUNG-0001", "GIVEN-7"
OTHER = "PID-4712"
AsUser = Callable[[User | None], Client]


def may_reidentify(user: User) -> User:
    group = Group.objects.create(name="Key holders")
    group.permissions.add(Permission.objects.get(codename=Right.REIDENTIFY))
    user.groups.add(group)
    return User.objects.get(pk=user.pk)


@pytest.fixture
def colleague(make_user: Callable[..., User]) -> User:
    """A user who may see patients and the jobs of the project, but may not re-identify."""
    return make_user("colleague", standard.COORDINATORS)


@pytest.fixture
def key_holder(make_user: Callable[..., User]) -> User:
    """A user like colleague who may also re-identify."""
    return may_reidentify(make_user("keyholder", standard.COORDINATORS))


@pytest.fixture
def selective(
    coordinator: User, source: Node, folder_node: Node, project: Project
) -> Callable[..., Job]:
    """Make a finished selective transfer to a folder, with one study of each of two patients."""

    def make(**given: str) -> Job:
        picks = tuple(
            PickedStudy.by_uid(
                source.pk, put_study(source, study, PatientID=patient), patient, **extra
            )  # type: ignore[arg-type]
            for study, patient, extra in (("1", PATIENT, {}), ("2", OTHER, given))
        )
        key = f"s{Job.objects.count()}"
        return worked(
            order_job(coordinator, "selective", picks, folder_node.pk, project=project.pk, key=key)
        )

    return make


@pytest.fixture
def listed(coordinator: User, source: Node, folder_node: Node, project: Project) -> Job:
    """A finished batch transfer to a folder, with one given and one generated pseudonym."""
    put_study(source, "1")
    put_study(source, "2", PatientID=OTHER)
    rows = (
        BatchTransferRow(2, StudyCriteria(PATIENT, study_uid=f"{ROOT}.1"), user_cells=("mine",)),
        BatchTransferRow(
            3, StudyCriteria(OTHER, study_uid=f"{ROOT}.2"), pseudonym=GIVEN, user_cells=("mine",)
        ),
        BatchTransferRow(
            4, StudyCriteria(OTHER, study_uid=f"{ROOT}.9"), pseudonym=GIVEN, user_cells=("mine",)
        ),
    )
    job = worked(
        order_job(
            coordinator,
            "batch_transfer",
            rows,
            folder_node.pk,
            sources=(source.pk,),
            project=project.pk,
            own_headers=("Own",),
            key="b",
        )
    )
    batch_start.request_start(coordinator, job, StartOptions())
    return worked(job)


def worked(job: Job) -> Job:
    tasks.work()
    return Job.objects.get(pk=job.pk)


@pytest.fixture(params=["selective", "listed"])
def job(request: pytest.FixtureRequest) -> Job:
    made = request.getfixturevalue(request.param)
    job: Job = made(pseudonym=GIVEN) if request.param == "selective" else made
    assert job.state == JobState.SUCCESS, job.message
    return job


def text_of(answer: Any) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    if answer["Content-Type"].endswith("sheet"):
        page = openpyxl.load_workbook(io.BytesIO(content)).active
        return "\n".join(str(cell.value) for line in page.iter_rows() for cell in line)
    return str(content.decode())


NO_JOB = frozenset({"withheld_group", "withheld_devices", "withheld_picture", "uid_map"})
CHANGES = frozenset(
    {"job_return", "job_action", "job_task_action", "job_task_decide", "job_batch_start"}
)
"""Endpoints that only redirect to one of the pages below."""
ARGUMENTS: dict[str, list[tuple[object, ...]]] = {
    "job_batch_result": [("xlsx",), ("csv",)],
    "job_batch_failed_rows": [("xlsx",), ("csv",)],
    "job_results_file": [("csv",)],
    "job_password": [("retry",)],
    "archive_file": [(1,)],
}


def responses(client: Client, job: Job) -> Iterator[tuple[str, str]]:
    """Yield path and text of each page, fragment and download of the job."""
    for route in addresses.urlpatterns:
        name = str(route.name)
        if name in NO_JOB | CHANGES or "pk" not in route.pattern.converters:
            continue
        more = ARGUMENTS.get(name, [()])
        if "position" in route.pattern.converters:
            more = [(position,) for position in job.tasks.values_list("position", flat=True)]
        for arguments in more:
            address = reverse(name, args=[job.pk, *arguments])
            method = client.post if name == "job_batch_pseudonyms" else client.get
            yield address, text_of(method(address))
    for address in (
        reverse("jobs"),
        reverse("archives"),
        reverse("project_pseudonyms", args=[job.project_id]),
        reverse("project", args=[job.project_id]),
        "/",
    ):
        yield address, text_of(client.get(address, follow=True))


def test_a_user_without_reidentify_never_sees_patient_and_pseudonym_together(
    job: Job, colleague: User, as_user: AsUser
) -> None:
    shown = dict(responses(as_user(colleague), job))

    for address, text in shown.items():
        for patient, pseudonym in ((PATIENT, MADE), (OTHER, GIVEN)):
            assert not (patient in text and pseudonym in text), address
    own = {address: text for address, text in shown.items() if f"/jobs/{job.pk}/" in address}
    assert any(PATIENT in text for text in own.values())
    assert not any(MADE in text or GIVEN in text for text in own.values())


def test_pages_and_downloads_state_that_pseudonyms_are_hidden(
    job: Job, colleague: User, as_user: AsUser
) -> None:
    client = as_user(colleague)
    task = job.tasks.filter(lane="retrieve").first()
    assert task is not None

    for address in (
        reverse("job", args=[job.pk]),
        reverse("job_live", args=[job.pk]),
        reverse("job_task", args=[job.pk, task.position]),
        reverse("job_report", args=[job.pk]),
    ):
        assert "Re-identify patients" in text_of(client.get(address)), address
    report = client.get(reverse("job_report_file", args=[job.pk]))
    assert '"pseudonyms_shown": false' in report.getvalue().decode()


def test_the_result_sheet_hides_the_folder_and_the_pseudonym(
    listed: Job, colleague: User, as_user: AsUser
) -> None:
    address = reverse("job_batch_result", args=[listed.pk, "xlsx"])
    rows = reverse("job_batch_rows", args=[listed.pk])

    assert "Research folder (folder not shown" in text_of(as_user(colleague).get(address))
    assert "Re-identify patients" in text_of(as_user(colleague).get(rows))
    again = text_of(
        as_user(colleague).get(reverse("job_batch_failed_rows", args=[listed.pk, "xlsx"]))
    )
    assert "•••" in again, "an empty cell would get another pseudonym on the next upload"


def test_the_owner_sees_only_the_pseudonyms_given_in_the_order(
    job: Job, coordinator: User, as_user: AsUser
) -> None:
    shown = dict(responses(as_user(coordinator), job))

    own = {address: text for address, text in shown.items() if f"/jobs/{job.pk}/" in address}
    assert any(OTHER in text and GIVEN in text for text in own.values())
    assert not any(MADE in text for text in own.values())


def test_an_owner_without_see_identified_sees_no_generated_pseudonym(
    listed: Job, coordinator: User, groups: dict[str, Group], as_user: AsUser
) -> None:
    right = Permission.objects.get(codename=Right.SEE_IDENTIFIED)
    groups[standard.COORDINATORS].permissions.remove(right)

    shown = dict(responses(as_user(coordinator), listed))

    own = {address: text for address, text in shown.items() if f"/jobs/{listed.pk}/" in address}
    assert any(PATIENT in text for text in own.values())
    assert not any(MADE in text for text in own.values())


def test_a_user_with_reidentify_sees_patient_and_pseudonym_together(
    job: Job, key_holder: User, as_user: AsUser
) -> None:
    client = as_user(key_holder)
    shown = dict(responses(client, job))

    pages = [text for address, text in shown.items() if f"/jobs/{job.pk}/" in address]
    assert any(PATIENT in text and MADE in text for text in pages)
    assert any(OTHER in text and GIVEN in text for text in pages)
    assert not any("Re-identify patients" in text for text in pages if MADE in text)


def test_the_sheet_contains_pseudonyms_only_if_a_reason_is_given(
    listed: Job, key_holder: User, as_user: AsUser
) -> None:
    client = as_user(key_holder)
    plain = text_of(client.get(reverse("job_batch_result", args=[listed.pk, "xlsx"])))
    with_names = text_of(
        client.post(reverse("job_batch_pseudonyms", args=[listed.pk]), {"reason": "a finding"})
    )

    assert PATIENT in plain
    assert MADE not in plain
    assert PATIENT in with_names
    assert f"LUNG/{MADE}/" in with_names


def test_a_user_without_see_identified_sees_pseudonyms_but_no_patients(
    job: Job, dpo: User, as_user: AsUser
) -> None:
    shown = dict(responses(as_user(dpo), job))

    own = {address: text for address, text in shown.items() if f"/jobs/{job.pk}/" in address}
    assert not any(PATIENT in text or OTHER in text for text in own.values())
    for name in ("job", "job_report", "job_report_file"):
        assert MADE in own[reverse(name, args=[job.pk])], name


def test_the_sheet_of_an_identified_transfer_hides_patients_from_the_dpo(
    source: Node, folder_node: Node, root: User, dpo: User, as_user: AsUser
) -> None:
    from adit.jobs.kinds.base import SendAsIs

    put_study(source, "1")
    rows = (BatchTransferRow(2, StudyCriteria(PATIENT, study_uid=f"{ROOT}.1")),)
    change = SendAsIs("second opinion")
    job = worked(
        order_job(root, "batch_transfer", rows, folder_node.pk, sources=(source.pk,), change=change)
    )
    batch_start.request_start(root, job, StartOptions())
    job = worked(job)
    address = reverse("job_batch_result", args=[job.pk, "csv"])

    assert PATIENT in text_of(as_user(root).get(address))
    assert PATIENT not in text_of(as_user(dpo).get(address))


# Permissions and error messages --------------------------------------------------------------------


def test_reidentify_applies_only_to_projects_of_the_user(
    project: Project,
    key_holder: User,
    colleague: User,
    make_user: Any,
    make_project: Any,
    root: User,
) -> None:
    foreign = make_project("HEART", members=())

    assert services.may_link(key_holder, project)
    assert services.may_link(key_holder, services.default_project())
    assert not services.may_link(key_holder, foreign)
    assert services.may_link(root, foreign)
    assert not services.may_link(colleague, project)
    with pytest.raises(NotPermitted):
        services.require_link(colleague, project)
    with pytest.raises(NotPermitted):
        services.require_link(key_holder, foreign)


def test_error_messages_do_not_contain_existing_pseudonyms(
    project: Project, source: Node, coordinator: User
) -> None:
    pseudonyms.get_or_create_pseudonym(project, "PACS1", PATIENT, given="LUNG-77")
    pseudonyms.get_or_create_pseudonym(project, "PACS1", OTHER, given="LUNG-78")
    patient = Patient.objects.get(pseudonym="LUNG-77")

    with pytest.raises(pseudonyms.PseudonymConflict) as second:
        pseudonyms.get_or_create_pseudonym(project, "PACS1", PATIENT, given="LUNG-79")
    with pytest.raises(pseudonyms.PseudonymConflict) as joined:
        patient_merge.merge_confirmed_id(coordinator, patient, source, OTHER, "married")

    assert "has another pseudonym" in str(second.value)
    for error in (second, joined):
        assert "LUNG-77" not in str(error.value)
        assert "LUNG-78" not in str(error.value)
