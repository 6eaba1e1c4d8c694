"""Where the images of a patient went: found by the patient ID, on a page and in a file."""

from collections.abc import Callable

import pytest
from django.test import Client
from lab.jobs import PATIENT, put_study, work
from lab.ordering import order_job

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.jobs.kinds.picked_study import PickedStudy
from adit.nodes.models import Node
from adit.projects.key_destruction import destroy_key
from adit.projects.models import Project

pytestmark = pytest.mark.django_db(transaction=True)

AsUser = Callable[[User], Client]


def test_the_deliveries_of_a_patient_are_found_until_the_key_is_destroyed(
    coordinator: User,
    root: User,
    as_user: AsUser,
    source: Node,
    destination: Node,
    project: Project,
) -> None:
    pick = PickedStudy.by_uid(source.pk, put_study(source, "1", 3, 1), PATIENT)
    job = order_job(coordinator, "selective", (pick,), destination.pk, project=project.pk, key="1")
    work()
    client = as_user(root)
    asked = {"node": source.pk, "patient_id": PATIENT}

    page = client.post("/trail/patient/", asked).content.decode()
    sheet = client.post("/trail/patient/", {**asked, "form": "csv"})
    answer = client.post("/trail/patient/", {**asked, "form": "pdf"})
    other = client.post("/trail/patient/", {**asked, "patient_id": "PID-1"}).content.decode()

    assert f"<td>{job.pk}</td>" in page
    assert "<td>LUNG</td>" in page
    assert f"<td>{destination.name}</td>" in page
    text = b"".join(sheet.streaming_content).decode()  # type: ignore[attr-defined]
    assert f'"{job.pk}","coordinator","LUNG","{destination.name}","3"' in text
    assert answer.content.startswith(b"%PDF")
    assert AuditEvent.objects.get(action="patient.answer_exported").patient_sealed == [
        source.name,
        PATIENT,
    ]
    assert "No delivered images found" in other
    searched = AuditEvent.objects.filter(action="trail.patient_searched")
    assert [event.details["found"] for event in searched] == [1, 1, 1, 0]
    assert searched[0].patient_sealed == [source.name, PATIENT]
    assert PATIENT not in repr(list(AuditEvent.objects.values_list("details", flat=True)))
    assert trail.verify_chain() is None

    destroy_key(root, project, "The study has ended", "LUNG")
    assert "No delivered images" in client.post("/trail/patient/", asked).content.decode()


def test_only_readers_of_the_trail_who_see_identified_data_find_patients(
    dpo: User,
    coordinator: User,
    make_user: Callable[..., User],
    as_user: AsUser,
    source: Node,
) -> None:
    both = make_user("both", standard.DATA_PROTECTION, standard.RE_IDENTIFICATION)
    asked = {"node": source.pk, "patient_id": PATIENT}

    for user, status in ((dpo, 403), (coordinator, 403), (both, 200)):
        client = as_user(user)
        assert client.get("/trail/patient/").status_code == status
        assert client.post("/trail/patient/", asked).status_code == status
    assert as_user(both).post("/trail/patient/", {"node": "x"}).status_code == 422
    assert AuditEvent.objects.filter(action="trail.patient_searched").count() == 1
