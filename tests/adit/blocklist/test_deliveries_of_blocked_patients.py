"""What was delivered of a blocked patient: the page and the list for the people who delete it."""

import csv
import io
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from lab.jobs import PATIENT, put_study, work
from lab.ordering import order_job
from pydicom import dcmread

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.recall.patient_deliveries import PatientQuestion, find_deliveries

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def deliver(
    coordinator: User, source: Node, folder_node: Node, project: Project
) -> Callable[..., Job]:
    def order(study: str, patient: str = PATIENT, to: Node | None = None) -> Job:
        uid = put_study(source, study, images=2, PatientID=patient)
        pick = PickedStudy.by_uid(source.pk, uid, patient)
        place = (to or folder_node).pk
        job = order_job(
            coordinator, "selective", [pick], place, key=f"{study} {place}", project=project.pk
        )
        work()
        return job

    return order


def block(dpo: User, project: Project | None = None, patient_id: str = PATIENT) -> BlockedPatient:
    return blocking.block_patient(
        dpo, project, "PACS1", patient_id, reason="objection", withdrawn_on=date.today()
    )


def download(client: Client, entry: BlockedPatient) -> list[dict[str, str]]:
    answer = client.post(
        reverse("block_deliveries", args=[entry.pk]), {"reason": "consent withdrawn"}
    )
    assert answer.status_code == 200
    text = b"".join(answer).decode("utf-8-sig")  # type: ignore[call-overload]
    return list(csv.DictReader(io.StringIO(text)))


def test_the_list_names_each_delivered_image_of_the_patient_where_it_is(
    deliver: Callable[..., Job],
    dpo: User,
    folder_node: Node,
    destination: Node,
    as_user: Callable[..., Client],
) -> None:
    job = deliver("1")
    to_pacs = deliver("2", to=destination)
    deliver("3", patient="PID-0002")
    entry = block(dpo, patient_id=PATIENT.lower())

    rows = download(as_user(dpo), entry)

    in_folder = [row for row in rows if row["destination"] == folder_node.name]
    in_pacs = [row for row in rows if row["destination"] == destination.name]
    assert {row["job"] for row in in_folder} == {str(job.pk)}
    assert {row["job"] for row in in_pacs} == {str(to_pacs.pk)}
    assert (len(in_folder), len(in_pacs)) == (2, 2)
    for row in in_folder:
        file = dcmread(Path(folder_node.settings["path"]) / row["path"])
        assert file.SOPInstanceUID == row["image_uid"]
        assert file.SeriesInstanceUID == row["series_uid"]
        assert row["confirmed"] == "yes"
        assert row["ordered_by"] == "coordinator"
    event = AuditEvent.objects.get(action="blocklist.deliveries_exported")
    assert event.details["images"] == 4
    assert event.details["reason"] == "consent withdrawn"


def test_an_entry_of_a_project_lists_what_this_project_delivered(
    deliver: Callable[..., Job], dpo: User, make_project: Callable[..., Project], project: Project
) -> None:
    deliver("1")

    for asked, count in ((project, 1), (make_project("HEART"), 0)):
        question = PatientQuestion.of_entry(block(dpo, asked))
        assert len(find_deliveries(dpo, question).deliveries) == count


def test_studies_of_a_destroyed_key_are_counted_as_not_checked(
    deliver: Callable[..., Job], dpo: User, project: Project, as_user: Callable[..., Client]
) -> None:
    deliver("1")
    Project.objects.filter(pk=project.pk).update(key=None)
    entry = block(dpo)

    page = as_user(dpo).get(reverse("block_deliveries", args=[entry.pk])).content.decode()

    assert "1 study cannot be checked" in page
    assert "No delivered images found" in page


def test_the_page_shows_counts_without_paths_or_uids_and_the_list_needs_a_reason(
    deliver: Callable[..., Job], dpo: User, folder_node: Node, as_user: Callable[..., Client]
) -> None:
    deliver("1")
    entry = block(dpo)
    file = next(Path(folder_node.settings["path"]).rglob("*.dcm"))
    client, address = as_user(dpo), reverse("block_deliveries", args=[entry.pk])

    page = client.get(address).content.decode()

    assert "Research folder" in page
    assert file.name not in page
    assert dcmread(file).SOPInstanceUID not in page
    assert client.post(address, {"reason": ""}).status_code == 422
    assert not AuditEvent.objects.filter(action="blocklist.deliveries_exported").exists()
    assert AuditEvent.objects.filter(action="blocklist.deliveries_read").exists()
