"""Pages and downloads show patient and pseudonym together only to users with permission for both."""

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openpyxl
import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone
from lab.jobs import PATIENT, put_study
from lab.ordering import order_job
from pypdf import PdfReader

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right
from adit.api_tokens import tokens
from adit.api_tokens.tokens import Scope
from adit.audit.models import AuditEvent
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState
from adit.nodes.models import Node
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.projects import patient_merge, pseudonyms, services
from adit.projects.models import Patient, Project
from adit.worker import tasks
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.transfer.study_lookup import StudyCriteria
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = "1.2.826.0.1.3680043.8.498.77"
MADE, GIVEN = "LUNG-0001", "GIVEN-7"
OTHER = "PID-4712"
SECRETS = {
    MADE: (PATIENT, "Mustermann", "20240229", "2024-02-29", "Thorax", "ACC20240229", f"{ROOT}.1"),
    GIVEN: (OTHER, "Anders", "20230517", "2023-05-17", "Becken", "ACC4712", f"{ROOT}.2"),
}
"""By pseudonym: what the patient and the original study are known by."""
OTHER_STUDY = {
    "PatientID": OTHER,
    "PatientName": "Anders^Anton",
    "StudyDate": "20230517",
    "StudyDescription": "Becken nativ",
    "AccessionNumber": "ACC4712",
}
HINT = "Pseudonyms are shown to people who hold the identification list of this project"
AsUser = Callable[[User | None], Client]


@pytest.fixture
def colleague(make_user: Callable[..., User]) -> User:
    """A member who sees patients and has every permission, but does not hold the list."""
    group = Group.objects.create(name="Everything")
    group.permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    user = make_user("colleague", standard.COORDINATORS)
    user.groups.add(group)
    return user


@pytest.fixture
def holder(make_user: Callable[..., User], project: Project) -> User:
    """A member who holds the identification list, but may not re-identify."""
    group = Group.objects.create(name="Holders")
    project.list_holders.add(group)
    user = make_user("holder", standard.COORDINATORS)
    user.groups.add(group)
    return user


@pytest.fixture
def selective(
    coordinator: User, source: Node, folder_node: Node, project: Project
) -> Callable[..., Job]:
    """Make a finished selective transfer to a folder, with one study of each of two patients."""

    def make(**given: str) -> Job:
        put_study(source, "1")
        put_study(source, "2", **OTHER_STUDY)
        found = MemoryNode(source.name, MemorySettings()).find(Query(QueryLevel.STUDY, {}))
        extra = {PATIENT: {}, OTHER: given}
        picks = tuple(
            PickedStudy(source.pk, study, **extra[study.patient_id])  # type: ignore[arg-type]
            for study in sorted(found, key=lambda study: study.study_uid)
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
    put_study(source, "2", **OTHER_STUDY)
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
    if answer.get("Content-Type", "").endswith("sheet"):
        page = openpyxl.load_workbook(io.BytesIO(content)).active
        content = "\n".join(str(cell.value) for line in page.iter_rows() for cell in line).encode()
    elif answer.get("Content-Type") == "application/pdf":
        pages = PdfReader(io.BytesIO(content)).pages
        content = "\n".join(page.extract_text() for page in pages).encode()
    return answer.get("Content-Disposition", "") + str(content.decode())


SKIPPED = frozenset(
    {
        *("account_logout", "dicomweb_study", "dicomweb_series", "dicomweb_image"),
        *("dicomweb_frames", "dicomweb_frame_rendered", "dicomweb_rendered"),
        *("dicomweb_study_thumbnail", "dicomweb_series_thumbnail", "dicomweb_image_thumbnail"),
    }
)
"""Images are no text."""
EXPORTS = frozenset(
    {
        *("uid_map", "project_export", "project_reidentify", "project_merge_patient"),
        *("trail_export", "data_protection_export"),
    }
)
"""Endpoints that answer a POST with data. Those of others only redirect to a page."""


@pytest.fixture
def as_user(as_user: AsUser) -> AsUser:
    """Clients that also send an API token with each request, which the pages ignore."""

    def make(user: User | None) -> Client:
        client = as_user(user)
        assert user is not None
        _token, text = tokens.create_token(user, user, "API", Scope.values, days=7, nodes=None)
        client.defaults["HTTP_AUTHORIZATION"] = f"Token {text}"
        return client

    return make


def arguments_of(
    name: str, parts: frozenset[str], job: Job, summary: str = ""
) -> list[dict[str, Any]]:
    """Return the arguments with which a route is visited. A new kind of route fails here."""
    project = job.project
    assert project is not None
    pks = {
        "job": job.pk,
        "archive": job.pk,
        "project": project.pk,
        "uid": project.pk,
        "profile": project.profile_id,
        "node": job.destination_id,
        "withheld": 1,
        **dict.fromkeys(
            ("session", "user", "account", "group", "token", "block", "recall", "mfa"), 1
        ),
        **dict.fromkeys(("notification", "webhook"), 1),
        "history": project.pk,
    }
    kind = name.removeprefix("api_").partition("_")[0]
    values: dict[str, list[Any]] = {
        "pk": [pks.get(kind, job.pk) if is_api(name) else pks[kind]] if "pk" in parts else [],
        "protocol_id": [project.protocol_id],
        "position": list(job.tasks.values_list("position", flat=True)),
        "form": ["csv", "xlsx"],
        "patient": list(project.patients.values_list("pk", flat=True)),
        "verb": ["retry"],
        "key": [summary],
        "kind": ["project"] if name == "history" else ["folder"],
        "provider_id": ["none"],
        "name": ["x"],
        "number": [1],
        "slot": [1],
        "slug": ["projects"],
        "ae_title": ["PACS1"],
        "study": [f"{ROOT}.1"],
        "series": [f"{ROOT}.1.1"],
        "instance": [f"{ROOT}.1.1.1"],
        "frames": ["1"],
        "address": ["PACS1/qidors/patients"],
        "tag": ["00420011"],
    }
    names = sorted(parts)
    every = product(*(values[part] for part in names))
    return [dict(zip(names, each, strict=True)) for each in every]


def routes(patterns: Any = None) -> Iterator[URLPattern]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(pattern, URLPattern):
            yield pattern
        else:
            yield from routes(pattern.url_patterns)


def prepare_order(client: Client, job: Job) -> str:
    """Put the first patient into the basket, and return the key of the summary of an order."""
    page, source = reverse("job_new_selective"), Node.objects.get(name="PACS1").pk
    searched = client.post(page, {"do": "search", "sources": [source], "patient_id": PATIENT})
    found = parse_qs(urlsplit(searched["Location"]).query)["found"][0]
    client.post(page, {"do": "add", "found": found, "study": ["0"]})
    order = {"destinations": [job.destination_id], "project": job.project_id}
    answer = client.post(
        page, {"do": "summary", "found": found, "change": "pseudonymized", **order}
    )
    return answer["Location"].rstrip("/").rpartition("/")[2]


def is_api(name: str) -> bool:
    return name.startswith("api_")


def is_of_job(route: URLPattern) -> bool:
    kind = str(route.name).partition("_")[0]
    if is_api(str(route.name)):
        return str(route.pattern).startswith("jobs/<int:pk>")
    return kind in ("job", "archive") and "pk" in route.pattern.converters


def job_responses(client: Client, job: Job) -> Iterator[tuple[str, str]]:
    """Yield address and text of every page, fragment and download of the job."""
    for route in filter(is_of_job, routes()):
        name, parts = str(route.name), frozenset(route.pattern.converters)
        for arguments in arguments_of(name, parts, job):
            address = reverse(name, kwargs=arguments)
            yield address, text_of(client.get(address))


def other_responses(client: Client, job: Job) -> Iterator[tuple[str, str]]:
    """Yield address and text of every other page and export, after an order is prepared."""
    summary = prepare_order(client, job)
    for route in routes():
        name, parts = str(route.name), frozenset(route.pattern.converters)
        if is_of_job(route) or name in SKIPPED:
            continue
        for arguments in arguments_of(name, parts, job, summary):
            address = reverse(name, kwargs=arguments)
            yield address, text_of(client.get(address))
            if name in EXPORTS:
                posted = {"reason": "a finding", "node": 1, "patient_id": PATIENT, "form": "xlsx"}
                yield f"POST {address}", text_of(client.post(address, posted))


def test_without_the_list_no_page_or_export_shows_a_pseudonym_with_its_patient_or_study(
    selective: Callable[..., Job], listed: Job, colleague: User, as_user: AsUser
) -> None:
    client = as_user(colleague)
    of_jobs = {
        address: text
        for job in (listed, selective(pseudonym=GIVEN))
        for address, text in job_responses(client, job)
    }
    shown = of_jobs | dict(other_responses(client, listed))

    for address, text in shown.items():
        for pseudonym, secrets in SECRETS.items():
            if pseudonym in text:
                assert not [secret for secret in secrets if secret in text], address
    assert any(PATIENT in text for text in of_jobs.values())
    assert not [address for address, text in of_jobs.items() if MADE in text or GIVEN in text]
    assert any(MADE in text for text in shown.values())
    assert PATIENT in shown[reverse("job_new_selective")]


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
        assert HINT in text_of(client.get(address)), address
    report = client.get(reverse("job_report_file", args=[job.pk]))
    assert '"pseudonyms_shown": false' in report.getvalue().decode()


def test_the_result_sheet_hides_the_folder_and_the_pseudonym(
    listed: Job, colleague: User, as_user: AsUser
) -> None:
    address = reverse("job_batch_result", args=[listed.pk, "xlsx"])
    rows = reverse("job_batch_rows", args=[listed.pk])

    assert "Research folder (folder not shown" in text_of(as_user(colleague).get(address))
    assert HINT in text_of(as_user(colleague).get(rows))
    again = text_of(
        as_user(colleague).get(reverse("job_batch_failed_rows", args=[listed.pk, "xlsx"]))
    )
    assert "•••" in again, "an empty cell would get another pseudonym on the next upload"


def test_the_owner_sees_only_the_pseudonyms_given_in_the_order(
    job: Job, coordinator: User, as_user: AsUser
) -> None:
    shown = dict(job_responses(as_user(coordinator), job))

    assert any(OTHER in text and GIVEN in text for text in shown.values())
    assert not any(MADE in text for text in shown.values())


def test_an_owner_without_see_identified_sees_no_generated_pseudonym(
    listed: Job, coordinator: User, groups: dict[str, Group], as_user: AsUser
) -> None:
    right = Permission.objects.get(codename=Right.SEE_IDENTIFIED)
    groups[standard.COORDINATORS].permissions.remove(right)

    shown = dict(job_responses(as_user(coordinator), listed))

    assert any(PATIENT in text for text in shown.values())
    assert not any(MADE in text for text in shown.values())


def test_a_holder_of_the_list_sees_the_pseudonym_on_every_page_that_shows_the_patient(
    job: Job, holder: User, as_user: AsUser
) -> None:
    shown = dict(job_responses(as_user(holder), job))

    names = ["job", "job_live"]
    sheets = []
    if job.capabilities.has_transfer_rows:
        names.append("job_batch_rows")
        sheets = [reverse("job_batch_result", args=[job.pk, form]) for form in ("csv", "xlsx")]
    for address in [reverse(name, args=[job.pk]) for name in names] + sheets:
        for pseudonym, secrets in SECRETS.items():
            assert pseudonym in shown[address], address
            assert [secret for secret in secrets if secret in shown[address]], address
        assert HINT not in shown[address]
    for sheet in sheets:
        assert f"LUNG/{MADE}" in shown[sheet], "the folder"
    for name in ("job_report", "job_report_file"):
        assert MADE in shown[reverse(name, args=[job.pk])]


def test_only_people_who_may_reidentify_find_the_patient_of_a_pseudonym(
    listed: Job, colleague: User, holder: User, project: Project, as_user: AsUser
) -> None:
    one = project.patients.get(pseudonym=MADE)
    addresses = [
        reverse("project_reidentify", args=[project.pk, one.pk]),
        reverse("project_export", args=[project.pk]),
        reverse("uid_map", args=[project.pk]),
    ]
    for user in (colleague, holder):
        for address in addresses:
            assert as_user(user).post(address, {"reason": "a finding"}).status_code == 403
    project.reidentifiers.add(colleague.groups.get(name="Everything"))
    for address in addresses:
        text = text_of(as_user(colleague).post(address, {"reason": "a finding"}))
        assert PATIENT in text or f"{ROOT}.1" in text
    # Who may re-identify does not hold the list: pages of jobs ask for no reason.
    assert MADE not in text_of(as_user(colleague).get(reverse("job", args=[listed.pk])))


def test_a_withdrawn_permission_takes_effect_at_once(
    listed: Job, keyholder: User, project: Project, as_user: AsUser
) -> None:
    client = as_user(keyholder)
    live = reverse("job_live", args=[listed.pk])
    sheet = reverse("job_batch_result", args=[listed.pk, "csv"])
    export = reverse("project_export", args=[project.pk])
    assert MADE in text_of(client.get(live))
    assert MADE in text_of(client.get(sheet))

    project.list_holders.clear()
    assert MADE not in text_of(client.get(live)) + text_of(client.get(sheet))
    assert PATIENT in text_of(client.post(export, {"reason": "audit"}))
    project.reidentifiers.clear()
    assert client.post(export, {"reason": "audit"}).status_code == 403

    project.list_holders.set(Group.objects.filter(name="Key holders"))
    keyholder.groups.remove(Group.objects.get(name=standard.COORDINATORS))
    assert client.get(live).status_code == 404, "not a member any more"
    assert not services.may_hold_list(User.objects.get(pk=keyholder.pk), project)


def test_looking_at_a_job_is_recorded_once_in_an_hour(
    listed: Job, holder: User, as_user: AsUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = listed.tasks.filter(lane="retrieve").values_list("position", flat=True)[0]
    names = ("job", "job_live", "job_batch_rows")
    addresses = [reverse(name, args=[listed.pk]) for name in names]
    addresses += [
        reverse(name, args=[listed.pk, position]) for name in ("job_task", "job_task_live")
    ]
    events = AuditEvent.objects.filter(action="job.seen", about=f"job:{listed.pk}", user=holder)
    client = as_user(holder)
    for number, address in enumerate(addresses):
        now = timezone.now() + timedelta(minutes=61 * number)
        monkeypatch.setattr(timezone, "now", lambda at=now: at)
        client.get(address)
        client.get(address)
        assert events.count() == number + 1, address
    assert [event.details for event in events] == [{"pseudonyms": True}] * len(addresses)

    client.get(reverse("job_batch_result", args=[listed.pk, "csv"]))
    download = AuditEvent.objects.get(action="job.result_downloaded")
    assert download.details == {"patients": True, "pseudonyms": True}


def test_a_user_without_see_identified_sees_pseudonyms_but_no_patients(
    job: Job, dpo: User, as_user: AsUser
) -> None:
    shown = dict(job_responses(as_user(dpo), job))

    assert not any(PATIENT in text or OTHER in text for text in shown.values())
    for name in ("job", "job_report", "job_report_file"):
        assert MADE in shown[reverse(name, args=[job.pk])], name


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


def test_permissions_apply_to_one_project_and_to_its_members(
    project: Project,
    keyholder: User,
    colleague: User,
    make_user: Any,
    make_project: Any,
    root: User,
) -> None:
    foreign = make_project("HEART")
    outsider = make_user("outsider")
    outsider.groups.add(Group.objects.get(name="Key holders"))

    for check in (services.may_hold_list, services.may_reidentify):
        assert check(keyholder, project)
        assert not check(keyholder, foreign)
        assert not check(keyholder, services.default_project())
        assert check(root, foreign)
        assert not check(colleague, project), "not even a manager of projects"
        assert not check(outsider, project), "not a member"
    with pytest.raises(NotPermitted, match="identification list"):
        services.require_list(colleague, project)
    with pytest.raises(NotPermitted, match="may not re-identify"):
        services.require_reidentify(keyholder, foreign)


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
