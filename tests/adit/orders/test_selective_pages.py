"""Pages of a selective transfer without JavaScript: search, basket, summary, start."""

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from lab.projects import create_complete_project
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs import encrypted_payload
from adit.jobs.models import Job, JobState, OrderDraft
from adit.nodes.models import Node
from adit.orders import basket, drafts
from adit.orders.search_results import StoredSearch
from adit.projects import pseudonyms
from adit.projects.models import Project
from adit_engine.messages import Message
from adit_engine.nodes.memory import MemoryNode
from adit_engine.pseudonymize.visit import TrialVisit
from adit_engine.values.instance import Instance

pytestmark = pytest.mark.django_db

ROOT = "1.2.826.0.1.3680043.8.498.66"
HOSTILE = "<script>alert(1)</script>"
NEW = "/jobs/new/selective/"


class Fields(HTMLParser):
    """The values of the main form, as a browser without JavaScript posts them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, list[str]] = {}
        self._inside = False
        self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = given.get("id") == "bench"
        if not self._inside:
            return
        if tag == "select":
            self._select = given["name"]
        elif tag == "option" and "selected" in given:
            self.values[self._select] = [given.get("value", "")]
        elif tag == "input" and "name" in given:
            is_tick = given.get("type") in ("checkbox", "radio")
            if not is_tick or "checked" in given:
                empty = "on" if is_tick else ""
                self.values.setdefault(given["name"], []).append(given.get("value", empty))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


class Person:
    """A user of the page. Input is kept between requests only by the page."""

    def __init__(self, user: User) -> None:
        self.client = Client()
        self.client.force_login(user)
        self.page: Any = self.client.get(NEW)

    def press(self, button: str, **typed: Any) -> Any:
        values = Fields(self.text).values
        for name, value in typed.items():
            values[name] = value if isinstance(value, list) else [value]
        self.page = self.client.post(NEW, {**values, "do": button}, follow=True)
        return self.page

    def start(self) -> Any:
        self.page = self.client.post(self.page.request["PATH_INFO"], follow=True)
        return self.page

    def press_change(self) -> Any:
        address = self.page.request["PATH_INFO"]
        self.page = self.client.post(address, {"do": "change"}, follow=True)
        return self.page

    @property
    def text(self) -> str:
        """The page without navigation and help."""
        whole = str(self.page.content.decode())
        start = max(whole.find('<form id="bench"'), whole.find("</dialog>"))
        return whole[start:] if start > 0 else whole


def put(
    shelf: str,
    study: str,
    series: str,
    number: int,
    *,
    sop_class: str = CTImageStorage,
    **values: str,
) -> None:
    """Store one image in a memory node."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = f"{ROOT}.{study}.{series}.{number}"
    ds.StudyInstanceUID = f"{ROOT}.{study}"
    ds.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    ds.SeriesNumber = series
    ds.StudyDate = "20240229"
    ds.Modality = "CT"
    ds.PatientID = "PID-0815"
    ds.PatientName = "Mustermann^Änne"
    ds.PatientBirthDate = "19560412"
    ds.StudyDescription = f"Thorax {study}"
    ds.SeriesDescription = f"Serie {series}"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    MemoryNode.shelves.setdefault(shelf, {})[ds.SOPInstanceUID] = Instance.from_data_set(
        sop_class, ds.SOPInstanceUID, ExplicitVRLittleEndian, buffer.getvalue()
    )


@pytest.fixture
def filled(source: Node) -> Node:
    """PACS1 with two studies of one patient and one of another.

    The first study has two CT series and one secondary capture.
    """
    for number in (1, 2, 3):
        put("PACS1", "1", "1", number)
        put("PACS1", "1", "2", number)
    put("PACS1", "1", "3", 1, sop_class=SecondaryCaptureImageStorage, Modality="OT")
    put("PACS1", "2", "1", 1, StudyDate="20200101")
    put("PACS1", "3", "1", 1, PatientID="PID-2", PatientName="Yamada^Tarou=山田^太郎")
    return source


@pytest.fixture
def project(root: User, source: Node, destination: Node, groups: dict[str, Group]) -> Project:
    members = [groups["Coordinators"]]
    return create_complete_project(root, "LUNG", protocol_name="Lung study", members=members)


@pytest.fixture
def person(coordinator: User, filled: Node, destination: Node, project: Project) -> Person:
    return Person(coordinator)


def with_right(user: User, *rights: str) -> None:
    group = Group.objects.create(name=" ".join(rights))
    group.permissions.set(Permission.objects.filter(codename__in=rights))
    user.groups.add(group)


def picked(person: Person, *ticks: str, **more: Any) -> Person:
    """Search for the first patient and add the given rows to the basket."""
    person.press("search", patient_id="PID-0815", sources=str(Node.objects.get(name="PACS1").pk))
    person.press("add", study=list(ticks), **more)
    return person


def goes_to(*names: str) -> list[str]:
    return [str(Node.objects.get(name=name).pk) for name in names]


def test_the_empty_page_explains_the_first_step(person: Person) -> None:
    assert "No search yet" in person.text
    assert "The basket is empty." in person.text


def test_a_user_without_readable_sources_sees_that_none_is_available(
    make_user: Callable[..., User], groups: dict[str, Group]
) -> None:
    person = Person(make_user("lonely", "Coordinators"))
    assert "No source available" in person.text


def test_a_search_shows_the_matches_and_keeps_names_out_of_the_url(person: Person) -> None:
    page = person.press("search", patient_name="mustermann", sources=goes_to("PACS1"))
    assert "2 studies found" in person.text
    assert "Mustermann, Änne" in person.text
    assert "Thorax 1" in person.text
    assert "PID-2" not in person.text
    for address, _status in page.redirect_chain:
        assert "ustermann" not in address
    assert 'value="mustermann"' in person.text


def test_names_are_found_by_display_format_and_by_wildcard(person: Person) -> None:
    person.press("search", patient_name="Mustermann, Än", sources=goes_to("PACS1"))
    assert "2 studies found" in person.text
    person.press("search", patient_name="*tarou*", sources=goes_to("PACS1"))
    assert "1 study found" in person.text
    assert "Yamada, Tarou (山田 太郎)" in person.text


def test_patients_are_found_by_a_part_of_their_id(person: Person) -> None:
    person.press("search", patient_id="PID-?", sources=goes_to("PACS1"))
    assert "Yamada, Tarou" in person.text
    assert "Mustermann" not in person.text


@pytest.mark.parametrize(
    "typed", ["mustermann", "Aenne Mustermann", "Mustermann Änne", "MUSTERM", "*ÄNNE*"]
)
def test_names_are_found_in_any_order_with_umlauts_or_without(person: Person, typed: str) -> None:
    person.press("search", patient_name=typed, sources=goes_to("PACS1"))
    assert "2 studies found" in person.text


@pytest.mark.django_db(transaction=True)
def test_studies_are_found_by_date_description_and_modality(person: Person) -> None:
    nodes = goes_to("PACS1")
    person.press("search", study_from="2024-01-01", study_until="2024-12-31", sources=nodes)
    assert "2 studies found" in person.text
    person.press("search", study_from="", study_until="2021-12-31", sources=nodes)
    assert "1 study found" in person.text
    person.press("search", study_until="", description="horax 3", modality="ct, mr", sources=nodes)
    assert "1 study found" in person.text


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({}, "at least one more field"),
        ({"modality": "CT"}, "at least one more field"),
        ({"modality": "CT", "patient_name": "*"}, "This matches every patient."),
        ({"patient_id": "**", "description": "?"}, "This matches every patient."),
        ({"study_from": "2024-02-01", "study_until": "2024-01-01"}, "before the start date"),
        ({"study_from": "the first of May"}, "Enter a valid date"),
        ({"patient_id": "A\\B"}, "backslash"),
        ({"patient_id": "x", "modality": "C|T"}, "Enter modality codes"),
        ({"patient_id": "x", "sources": []}, "Select at least one PACS"),
    ],
)
def test_an_invalid_search_shows_the_reason_and_keeps_the_input(
    person: Person, typed: dict[str, Any], sentence: str
) -> None:
    nodes = goes_to("PACS1")
    page = person.press("search", **{"sources": nodes, "accession_number": "", **typed})
    assert page.status_code == 422
    assert sentence in person.text
    for value in typed.values():
        if value:
            assert f'value="{value}"' in person.text


@pytest.mark.django_db(transaction=True)
def test_a_closed_source_is_reported_beside_the_matches_of_other_sources(
    person: Person, make_node: Callable[..., Node]
) -> None:
    closed = make_node("Closed PACS", reads=("Coordinators",), is_open=False)
    person.press("search", patient_id="PID-0815", sources=[*goes_to("PACS1"), str(closed.pk)])
    assert "2 studies found" in person.text
    assert "Closed PACS is closed." in person.text


def test_a_source_without_read_permission_is_not_searched(
    person: Person, make_node: Callable[..., Node]
) -> None:
    secret = make_node("Secret PACS")
    page = person.press("search", patient_id="PID-0815", sources=[str(secret.pk)])
    assert page.status_code == 422
    assert "Secret PACS" not in person.text


def test_a_search_above_the_limit_asks_to_narrow_it(person: Person, settings: Any) -> None:
    settings.SEARCH_LIMIT = 1
    person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    assert "1 study found" in person.text
    assert "PACS1: only the first 1 matching studies are shown. Narrow the search." in person.text


def test_expanding_a_study_shows_its_series_and_keeps_the_selection(person: Person) -> None:
    person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    person.press("expand:0", study=["1"])
    assert "Serie 2" in person.text
    assert Fields(person.text).values["study"] == ["1"]
    person.press("expand:0")
    assert "Serie 2" not in person.text


def test_the_basket_survives_new_searches_and_a_new_session(
    person: Person, coordinator: User
) -> None:
    picked(person, "0")
    person.press("search", patient_id="PID-2", sources=goes_to("PACS1"))
    assert "all series" in person.text
    again = Person(coordinator)
    assert "all series" in again.text
    again.press("clear")
    assert "all series" not in again.text


def test_added_series_are_merged_with_their_study_in_the_basket(
    person: Person, coordinator: User
) -> None:
    person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    person.press("expand:0")
    person.press("add", series=["0.1"])
    assert [p.series_uids for p in basket.load(coordinator)] == [(f"{ROOT}.1.2",)]
    person.press("add", series=["0.0"])
    assert [set(p.series_uids) for p in basket.load(coordinator)] == [
        {f"{ROOT}.1.1", f"{ROOT}.1.2"}
    ]
    person.press("add", study=["0"])
    assert [p.series_uids for p in basket.load(coordinator)] == [()]


def test_adding_an_empty_selection_is_reported(person: Person) -> None:
    person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    assert person.press("add", study=[]).status_code == 422
    assert "Select a study" in person.text


def test_a_study_is_removed_from_the_basket(person: Person, coordinator: User) -> None:
    picked(person, "0", "1")
    token = next(iter(basket.load(coordinator))).token
    person.press(f"remove:{token}")
    assert len(basket.load(coordinator)) == 1


def test_the_basket_is_stored_encrypted(person: Person, coordinator: User) -> None:
    picked(person, "0")
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT key, content FROM jobs_orderdraft")
        rows = cursor.fetchall()
    assert rows
    for key, content in rows:
        for text in (b"Mustermann", b"PID-0815", ROOT.encode()):
            assert text not in bytes(content)
            assert text not in key.encode()
    assert not any("selective" in key for key in person.client.session.keys())  # noqa: SIM118


def test_a_user_cannot_open_the_search_results_of_another_user(
    person: Person, make_user: Callable[..., User]
) -> None:
    page = person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    address = page.redirect_chain[-1][0].partition("#")[0]
    other = Person(make_user("other", "Coordinators"))
    assert "Mustermann" not in other.client.get(address).content.decode()


def test_a_selective_transfer_is_ordered_through_basket_and_summary(
    person: Person, project: Project
) -> None:
    picked(person, "0")
    person.press("summary", destinations=goes_to("Research PACS"), project=str(project.pk))
    summary = person.page.context["summary"]
    assert (summary.patients, summary.studies, summary.series, summary.images) == (1, 1, 3, 7)
    assert summary.announced == ("pixel-rule",)
    assert "1 image:" in person.text
    assert Job.objects.count() == 0
    person.start()
    job = Job.objects.get()
    assert person.page.request["PATH_INFO"] == reverse("job", args=[job.pk])
    assert (job.project, job.state, job.kind) == (project, JobState.PENDING, "selective")
    assert job.order["announced"] == ["pixel-rule"]
    content = encrypted_payload.open_task(job.tasks.get())
    assert content.payload["study_uid"] == f"{ROOT}.1"
    assert content.patient_id == "PID-0815"
    assert content.pseudonym
    assert "The basket is empty." in person.client.get(NEW).content.decode()


def test_the_order_form_requires_a_project_and_says_why(person: Person, settings: Any) -> None:
    settings.ORDERS_WITHOUT_PROJECT = False
    picked(person, "0")
    assert "Choose a research project</option>" in person.client.get(NEW).content.decode()

    person.press("summary", destinations=goes_to("Research PACS"), project="")

    assert "unrelated work would share its pseudonyms" in person.text
    assert Job.objects.count() == 0


def test_a_visit_entered_in_the_basket_is_part_of_the_order(
    person: Person, coordinator: User, project: Project
) -> None:
    picked(person, "0", "1")
    first, second = (pick.token for pick in basket.load(coordinator))
    to = {"destinations": goes_to("Research PACS"), "project": str(project.pk)}
    page = person.press("summary", **{f"visit_description_{first}": "Baseline"}, **to)
    assert page.status_code == 422
    assert "Enter the visit, such as V1" in person.text

    person.press("summary", **{f"visit_{first}": "V1", f"visit_{second}": "2024-02-29"}, **to)

    assert "V1, 2024-02-29" in person.text
    assert "This visit looks like a date" in person.text
    person.press_change()
    assert f'name="visit_{first}" value="V1"' in person.text
    person.press("summary", **{f"visit_{second}": ""}, **to)
    person.start()
    visits = [encrypted_payload.open_task(task).visit for task in Job.objects.get().tasks.all()]
    assert visits == [TrialVisit("V1", "Baseline"), None]


def test_submitting_the_summary_repeatedly_creates_one_job(person: Person) -> None:
    picked(person, "0").press("summary", destinations=goes_to("Research PACS"))
    address = person.page.request["PATH_INFO"]
    for _ in range(3):
        assert person.client.post(address, follow=True).status_code == 200
    assert Job.objects.count() == 1


def test_studies_added_after_the_summary_stay_in_the_basket(
    person: Person, coordinator: User
) -> None:
    picked(person, "0").press("summary", destinations=goes_to("Research PACS"))
    other_tab = picked(Person(coordinator), "1")
    person.start()
    assert [p.study.study_uid for p in basket.load(coordinator)] == [f"{ROOT}.2"]
    assert Job.objects.get().tasks.count() == 1
    assert other_tab.page.status_code == 200


def test_two_destinations_create_two_jobs_with_the_same_pseudonyms(
    person: Person, folder_node: Node, project: Project
) -> None:
    picked(person, "0", "1")
    nodes = goes_to("Research PACS", "Research folder")
    person.press("summary", destinations=nodes, project=str(project.pk))
    person.start()
    first, second = Job.objects.order_by("pk")
    assert {str(first.destination), str(second.destination)} == {"Research PACS", "Research folder"}
    names = {
        encrypted_payload.open_task(task).pseudonym
        for job in (first, second)
        for task in job.tasks.all()
    }
    assert len(names) == 1


def token_of(user: User, patient_id: str) -> str:
    patients = basket.load(user).patients
    return next(f"pseudonym_{p.token}" for p in patients if p.patient_id == patient_id)


def test_a_pseudonym_can_be_entered_manually(
    person: Person, coordinator: User, project: Project
) -> None:
    picked(person, "0", "1")
    typed = {token_of(coordinator, "PID-0815"): "LUNG-7"}
    nodes = goes_to("Research PACS")
    person.press("summary", destinations=nodes, project=str(project.pk), **typed)
    assert "LUNG-7" in person.text
    person.start()
    names = {encrypted_payload.open_task(task).pseudonym for task in Job.objects.get().tasks.all()}
    assert names == {"LUNG-7"}


@pytest.mark.parametrize("text", ["Müller", "a b", "x" * 65, HOSTILE, "../etc"])
def test_an_invalid_pseudonym_is_reported_and_the_input_is_kept(
    person: Person, coordinator: User, project: Project, text: str
) -> None:
    picked(person, "0")
    typed = {token_of(coordinator, "PID-0815"): text, "title": "my lungs"}
    nodes = goes_to("Research PACS")
    page = person.press("summary", destinations=nodes, project=str(project.pk), **typed)
    assert page.status_code == 422
    assert "A pseudonym must have 1 to 64" in person.text or "at most 64" in person.text
    kept = Fields(person.text).values
    assert kept["title"] == ["my lungs"]
    assert kept["destinations"] == nodes
    assert kept["project"] == [str(project.pk)]
    assert kept[token_of(coordinator, "PID-0815")] == [text]
    assert "<script>alert" not in person.text


def test_a_pseudonym_of_another_patient_is_refused_before_the_start(
    person: Person, coordinator: User, project: Project
) -> None:
    pseudonyms.get_or_create_pseudonym(project, "PACS1", "PID-OTHER", given="LUNG-1")
    picked(person, "0")
    typed = {token_of(coordinator, "PID-0815"): "LUNG-1"}
    nodes = goes_to("Research PACS")
    page = person.press("summary", destinations=nodes, project=str(project.pk), **typed)
    assert page.status_code == 422
    assert "already belongs to another patient" in person.text
    assert not pseudonyms.find_pseudonym(project, "PACS1", "PID-0815")


def test_a_second_pseudonym_for_a_known_patient_is_refused(
    person: Person, coordinator: User, project: Project
) -> None:
    pseudonyms.get_or_create_pseudonym(project, "PACS1", "PID-0815", given="LUNG-1")
    picked(person, "0")
    typed = {token_of(coordinator, "PID-0815"): "LUNG-2"}
    nodes = goes_to("Research PACS")
    person.press("summary", destinations=nodes, project=str(project.pk), **typed)
    assert "already has another pseudonym" in person.text
    assert "LUNG-1" not in person.text


@pytest.mark.parametrize("may_link", [False, True])
def test_the_summary_shows_a_known_pseudonym_only_to_holders_and_records_it(
    person: Person, groups: dict[str, Group], project: Project, may_link: bool
) -> None:
    pseudonyms.get_or_create_pseudonym(project, "PACS1", "PID-0815", given="LUNG-1")
    if may_link:
        project.list_holders.add(groups["Coordinators"])
    picked(person, "0")
    person.press("summary", destinations=goes_to("Research PACS"), project=str(project.pk))
    assert "PID-0815" in person.text
    assert ("LUNG-1" in person.text) is may_link
    seen = AuditEvent.objects.filter(action="pseudonyms.seen", about="project:LUNG")
    assert seen.count() == may_link
    assert AuditEvent.objects.filter(action="basket.seen").count() == 1


def test_two_patients_of_one_order_cannot_share_a_pseudonym(
    person: Person, coordinator: User
) -> None:
    picked(person, "0")
    person.press("search", patient_id="PID-2", sources=goes_to("PACS1"))
    person.press("add", study=["0"])
    typed = {token_of(coordinator, pid): "SAME" for pid in ("PID-0815", "PID-2")}
    page = person.press("summary", destinations=goes_to("Research PACS"), **typed)
    assert page.status_code == 422
    assert "already used for another patient above" in person.text


def test_the_summary_registers_no_pseudonym(person: Person, project: Project) -> None:
    picked(person, "0")
    person.press("summary", destinations=goes_to("Research PACS"), project=str(project.pk))
    assert person.page.status_code == 200
    assert project.patients.count() == 0


def test_images_are_always_pseudonymized_without_permission(person: Person) -> None:
    picked(person, "0")
    assert "Send unchanged" not in person.text
    nodes = goes_to("Research PACS")
    person.press("summary", destinations=nodes, change="as_is", reason="because")
    person.start()
    assert Job.objects.get().order["change"] == "pseudonymized"


def test_identified_transfer_is_not_preselected_and_needs_a_reason(
    person: Person, coordinator: User
) -> None:
    with_right(coordinator, "transfer_identified")
    picked(person, "0")
    assert "change" not in Fields(person.text).values
    nodes = goes_to("Research PACS")
    assert person.press("summary", destinations=nodes).status_code == 422
    assert "Choose whether patient data are pseudonymized" in person.text
    assert person.press("summary", change="as_is").status_code == 422
    assert "Enter a reason for sending identified data." in person.text
    person.press("summary", reason="second opinion")
    assert "identified" in person.text
    person.start()
    assert Job.objects.get().order["change"] == "as_is"


def test_an_urgent_order_needs_a_permission(person: Person, coordinator: User) -> None:
    picked(person, "0")
    assert "Urgent" not in person.text
    with_right(coordinator, "be_urgent")
    person.press("summary", destinations=goes_to("Research PACS"), urgent="on")
    person.start()
    assert Job.objects.get().urgent


def test_the_source_cannot_be_the_destination(person: Person, groups: dict[str, Group]) -> None:
    node = Node.objects.get(name="PACS1")
    node.access.update(may_write=True)
    picked(person, "0")
    page = person.press("summary", destinations=[str(node.pk)])
    assert page.status_code == 422
    assert "Select another destination" in person.text


def test_an_order_above_the_study_limit_waits_for_approval(person: Person, settings: Any) -> None:
    settings.MAX_STUDIES_PER_JOB = 1
    picked(person, "0", "1")
    person.press("summary", destinations=goes_to("Research PACS"))
    assert "After approval" in person.text
    person.start()
    assert Job.objects.get().state == JobState.WAITING_FOR_APPROVAL


def test_the_summary_reports_a_closed_destination(person: Person, destination: Node) -> None:
    Node.objects.filter(pk=destination.pk).update(is_open=False)
    picked(person, "0")
    person.press("summary", destinations=goes_to("Research PACS"))
    assert any("Research PACS" in line for line in person.page.context["when"])


def test_a_permission_withdrawn_before_the_start_is_reported(
    person: Person, destination: Node
) -> None:
    picked(person, "0").press("summary", destinations=goes_to("Research PACS"))
    destination.access.all().delete()
    page = person.start()
    assert page.status_code == 422
    assert "Choose another destination." in person.text
    assert Job.objects.count() == 0


@pytest.mark.parametrize("title", ["CT of Mustermann", "Aenne, control", "for pid-0815"])
def test_a_title_with_name_or_id_of_a_patient_needs_a_confirmation(
    title: str, person: Person, coordinator: User
) -> None:
    picked(person, "0")
    order = {"destinations": goes_to("Research PACS"), "title": title}

    page = person.press("summary", **order)

    assert "The title contains the name or ID of a selected patient" in page.content.decode()
    page = person.press("summary", **order, keeps_title="on")
    assert "/summary/" in page.request["PATH_INFO"]
    picked(person, "0")
    page = person.press("summary", **{**order, "title": "CT of must and man, PID"})
    assert "/summary/" in page.request["PATH_INFO"]


def test_html_in_patient_data_is_escaped_on_every_page(
    person: Person, coordinator: User, project: Project
) -> None:
    hostile = {"PatientName": f"{HOSTILE}^x", "StudyDescription": HOSTILE, "PatientID": "<b>x"}
    put("PACS1", "9", "1", 1, SeriesDescription=HOSTILE, **hostile)
    person.press("search", patient_name="<script>*", sources=goes_to("PACS1"))
    assert "1 study found" in person.text
    pages = [person.text]
    pages.append(person.press("expand:0").content.decode())
    pages.append(person.press("add", series=["0.0"]).content.decode())
    to = goes_to("Research PACS")
    page = person.press("summary", destinations=to, title=HOSTILE, keeps_title="on")
    pages.append(page.content.decode())
    pages.append(person.start().content.decode())
    for text in pages:
        assert "&lt;script&gt;alert" in text
        assert "<script>alert" not in text
        assert "<b>x" not in text


@pytest.mark.parametrize(
    "button", ["expand:99999", "expand:-1", "expand:²", "remove:nobody", "nonsense", "", "expand:"]
)
def test_an_unknown_button_is_ignored(person: Person, button: str) -> None:
    person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    assert person.press(button).status_code == 200


def test_unknown_row_numbers_add_nothing_to_the_basket(person: Person, coordinator: User) -> None:
    person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    person.press("add", study=["77", "x", "-1"], series=["0.9", "8.8", "..", "0."])
    assert len(basket.load(coordinator)) == 0


def test_an_expired_summary_is_reported(person: Person) -> None:
    page = person.client.get(reverse("job_summary", args=[drafts.new_key()]), follow=True)
    assert b"has expired" in page.content
    assert person.client.get(reverse("job_summary", args=["x"])).status_code == 404


def test_a_stored_search_contains_messages_instead_of_text(coordinator: User) -> None:
    note = Message("selective.search-canceled", node="PACS1")
    hint = Message("selective.more-studies", node="PACS1", count=500)
    made = StoredSearch(drafts.new_key(), notes=(note,), hints=(hint,), rows=())
    made.save(coordinator)

    assert StoredSearch.load(coordinator, made.key) == made
    assert "canceled before" not in str(drafts.load_draft(coordinator, made.key))


def test_the_number_of_drafts_per_user_is_limited(person: Person, coordinator: User) -> None:
    picked(person, "0")
    for _ in range(drafts.MAX_DRAFTS_PER_USER + 5):
        drafts.save_draft(coordinator, drafts.new_key(), {})
    assert OrderDraft.objects.exclude(key__contains=".").count() == drafts.MAX_DRAFTS_PER_USER
    assert len(basket.load(coordinator)) == 1


def test_names_are_masked_in_results_without_permission(
    person: Person, coordinator: User, groups: dict[str, Group]
) -> None:
    groups["Coordinators"].permissions.remove(Permission.objects.get(codename="see_identified"))
    person.press("search", patient_id="PID-0815", sources=goes_to("PACS1"))
    assert "2 studies found" in person.text
    assert "Mustermann" not in person.text
    assert "1956" not in person.text


def test_masked_names_and_birth_dates_can_neither_be_searched_nor_sort_the_results(
    person: Person, groups: dict[str, Group]
) -> None:
    groups["Coordinators"].permissions.remove(Permission.objects.get(codename="see_identified"))
    put("PACS1", "4", "1", 1, PatientID="PID-3", PatientName="Aalto^Aino")

    for field in ({"patient_name": "Must*"}, {"birth_date": "1956-04-12"}):
        answer = person.press("search", sources=goes_to("PACS1"), **field)
        assert answer.status_code == 422
        assert "studies found" not in person.text
    person.press("search", sources=goes_to("PACS1"), study_from="2000-01-01", patient_name="X*")

    assert "4 studies found" in person.text
    assert 'name="patient_name"' not in person.text
    assert 'name="birth_date"' not in person.text
    at = [person.text.index(patient) for patient in ("PID-0815<", "PID-2<", "PID-3<")]
    assert at == sorted(at)
