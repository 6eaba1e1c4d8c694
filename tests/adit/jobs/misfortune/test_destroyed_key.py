"""Once a project key is destroyed, the database and the master key no longer link patients to pseudonyms."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import BinaryField
from lab.jobs import put_study, work
from lab.ordering import order_job

from adit.accounts.models import User
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.consent.changes import Consent, save_consent
from adit.consent.uploads import store_upload
from adit.jobs import encrypted_payload
from adit.jobs.kinds.picked_study import PickedPatient, PickedStudy
from adit.jobs.models import Job, Task
from adit.nodes.models import Node
from adit.orders import basket, drafts
from adit.orders import drafts as orders_drafts
from adit.orders.forms import ORDER_DRAFT_KEY, pseudonym_field_name
from adit.projects.key_destruction import compact_database, destroy_key
from adit.projects.models import Patient, Project
from adit.projects.pseudonym_import import PseudonymPair, import_pairs
from adit.projects.reidentification import reidentify
from adit.results.report import build_report
from adit.spreadsheets.row_reader import DateOrder
from adit.vault.cipher import DecryptionError
from adit.vault.fields import EncryptedField
from adit.vault.master_key import master_cipher
from adit_engine.messages import Message
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

pytestmark = pytest.mark.django_db(transaction=True)

PATIENTS = {"1": "PID-ALPHA-canary", "2": "PID-BETA-canary", "3": "PID-GAMMA-canary"}


@pytest.fixture
def finished(
    coordinator: User, root: User, source: Node, destination: Node, project: Project
) -> Project:
    """A project with finished jobs, registered pseudonyms, an order draft and a re-identification."""
    rights = Permission.objects.filter(codename__in=["choose_pseudonyms"])
    coordinator.user_permissions.set(rights)
    picks = tuple(
        PickedStudy(
            source.pk,
            Record(
                QueryLevel.STUDY,
                {
                    "StudyInstanceUID": put_study(
                        source, study, 2, PatientID=patient, PatientName=f"{patient}^Name"
                    ),
                    "PatientID": patient,
                    "PatientName": f"{patient}^Name",
                    "PatientBirthDate": "19560412",
                },
            ),
            pseudonym="GIVEN-7" if study == "3" else "",
        )
        for study, patient in PATIENTS.items()
    )
    coordinator = User.objects.get(pk=coordinator.pk)
    order_job(coordinator, "selective", picks, destination.pk, project=project.pk)
    while work() is not None:
        pass
    import_pairs(root, project, source, [PseudonymPair(2, "PID-DELTA-canary", "GIVEN-9")])
    reidentify(root, project.patients.first(), "a finding that matters")
    prepare(coordinator, source, project)
    record_consents(root, project, source)
    return Project.objects.get(pk=project.pk)


def prepare(user: User, source: Node, project: Project) -> None:
    """Save an order draft with a pseudonym for a patient in the basket."""
    values = {"StudyInstanceUID": "1.2.3", "PatientID": PATIENTS["1"], "PatientName": "A^Name"}
    pick = PickedStudy(source.pk, Record(QueryLevel.STUDY, values), domain=source.name)
    basket.add(user, [pick])
    names = {pseudonym_field_name(pick.patient): ["LUNG-0001"]}
    order = {
        "typed": {"project": [str(project.pk)]},
        "given": orders_drafts.seal_pseudonyms(project.pk, names),
    }
    drafts.save_draft(user, ORDER_DRAFT_KEY, order)


def record_consents(user: User, project: Project, node: Node) -> None:
    """Put a patient on the consent list, and upload a list that is not confirmed."""
    save_consent(user, project, Consent(node.name, PATIENTS["1"]), f"form of {PATIENTS['1']}")
    file = BytesIO(f"PatientID\n{PATIENTS['1']}\n{PATIENTS['2']}\n".encode())
    order = DateOrder.DAY_FIRST
    store_upload(user, project, file, "list.csv", default_domain=node.name, order=order)


def rows() -> Iterator[str]:
    """Yield every row of every table as text, decrypted where the master key suffices."""
    for model in apps.get_models():
        for row in model._base_manager.all():
            told = {field.attname: getattr(row, field.attname) for field in model._meta.fields}
            yield f"{model._meta.label} {json.dumps(told, default=_readable)}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM adit_cache")
        yield from (f"cache {row!r}" for row in cursor.fetchall())


def _readable(value: Any) -> str:
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)


def traces(node: Node, patient: str) -> list[str]:
    """Return the patient ID and the values that the master key derives from it."""
    token = PickedPatient(node.name, patient, "", "").token
    return [patient, trail.patient_index(node.name, patient), token]


def test_no_row_links_a_patient_to_a_pseudonym_after_key_destruction(
    finished: Project, dpo: User, source: Node
) -> None:
    pseudonyms = list(finished.patients.values_list("pseudonym", flat=True))
    assert sorted(pseudonyms) == ["GIVEN-7", "GIVEN-9", "LUNG-0001", "LUNG-0002"]

    destroy_key(dpo, finished, "the study is over", "LUNG")

    found = list(rows())
    marks = [mark for patient in PATIENTS.values() for mark in traces(source, patient)]
    marks += traces(source, "PID-DELTA-canary")
    for text in found:
        named = [name for name in pseudonyms if name in text]
        assert not (named and any(mark in text for mark in marks)), text[:80]
    assert not any(mark in text for text in found if text.startswith("consent") for mark in marks)
    of_the_project = [
        text for text in found if text.startswith("audit.AuditEvent") and "LUNG" in text
    ]
    assert len(of_the_project) > 6
    for text in of_the_project:
        assert not any(mark in text for mark in marks), text[:200]


def test_rows_link_patients_to_pseudonyms_before_key_destruction(
    finished: Project, source: Node
) -> None:
    """Control for the test above: with the key, every field can be decrypted."""
    box = encrypted_payload.get_cipher(finished)
    opened = [encrypted_payload.open_task(task) for task in Task.objects.all()]
    assert {(each.patient_id, each.pseudonym) for each in opened} >= {
        (PATIENTS["3"], "GIVEN-7"),
        (PATIENTS["1"], "LUNG-0001"),
    }
    events = AuditEvent.objects.filter(action="pseudonym.registered").order_by("pk")
    assert [trail.open_patient(box, event)[1] for event in events][:3] == list(PATIENTS.values())
    order = drafts.load_draft(Task.objects.first().job.owner, ORDER_DRAFT_KEY)
    assert "LUNG-0001" in str(orders_drafts.open_pseudonyms(finished.pk, order["given"]))
    assert any(PATIENTS["1"] in text for text in rows())


def test_the_master_key_decrypts_no_field_encrypted_with_the_project_key(
    finished: Project, dpo: User
) -> None:
    places = {
        "jobs.Task": lambda row: f"job {row.job_id} task {row.position}",
        "jobs.SeriesResult": lambda row: f"task {row.task_id} item",
        "jobs.ResultLine": lambda row: f"job {row.job_id} line {row.line}",
        "projects.MergedPatientId": lambda row: f"patient {row.index}",
        "projects.Patient": lambda row: f"patient {row.index}",
        "consent.ConsentEntry": lambda row: f"consent {row.index}",
        "consent.ConsentVersion": lambda row: f"consent version {row.number}",
        "consent.ConsentUpload": lambda row: f"consent upload {row.user_id}",
        "dicomweb.Retrieval": lambda row: f"retrieval {row.key}",
        "retention.LedgerPart": lambda row: f"job {row.ledger.job} ledger {row.position}",
    }
    destroy_key(dpo, finished, "the study is over", "LUNG")

    looked_at = set()
    for model in apps.get_models():
        for field in model._meta.fields:
            if isinstance(field, BinaryField) and not isinstance(field, EncryptedField):
                looked_at.add(model._meta.label)
                for row in model._base_manager.all():
                    with pytest.raises(DecryptionError):
                        master_cipher().open(
                            getattr(row, field.attname), places[model._meta.label](row)
                        )
    digests_of_outputs = {"jobs.ArchiveFile"}
    assert looked_at == set(places) | digests_of_outputs


def test_key_destruction_reorders_patients_and_replaces_their_indexes(
    finished: Project, dpo: User
) -> None:
    before = set(Patient.objects.values_list("index", flat=True))
    Patient.objects.filter(pseudonym="LUNG-0001").update(created_at="2020-01-01T00:00Z")

    destroy_key(dpo, finished, "the study is over", "LUNG")

    after = list(Patient.objects.order_by("pk").values_list("index", "sealed", "pseudonym"))
    assert not before & {index for index, _sealed, _name in after}
    assert {bytes(sealed) for _index, sealed, _name in after} == {b""}
    assert [name for *_rest, name in after] == sorted(name for *_rest, name in after)
    assert Patient.objects.dates("created_at", "year").count() == 1


def test_the_audit_trail_is_valid_and_detects_a_swapped_encrypted_patient(
    finished: Project, dpo: User
) -> None:
    destroy_key(dpo, finished, "the study is over", "LUNG")

    assert trail.verify_chain() is None
    event = AuditEvent.objects.filter(action="pseudonym.registered").first()
    other = AuditEvent.objects.filter(action="pseudonym.registered").last()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_auditevent SET patient_sealed ="
            " (SELECT patient_sealed FROM audit_auditevent WHERE id = %s) WHERE id = %s",
            [other.pk, event.pk],
        )
    assert trail.verify_chain() == trail.ChainBreak(event.pk, Message("audit-trail.event-changed"))


def test_the_report_keeps_totals_but_no_study_uid_or_pseudonym(
    finished: Project, dpo: User
) -> None:
    job = Job.objects.get()
    before = build_report(job)
    destroy_key(dpo, finished, "the study is over", "LUNG")

    after = build_report(Job.objects.get())

    assert after["totals"] == before["totals"]
    assert after["elements"] == before["elements"] != []
    assert {study["study_uid"] for study in after["studies"]} == {None}
    assert {study["pseudonym"] for study in after["studies"]} == {None}


@pytest.mark.skipif(not settings.EMBEDDED, reason="looks into the file of an embedded database")
def test_the_destroyed_key_is_removed_from_the_sqlite_file(finished: Project, dpo: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT key FROM projects_project WHERE id = %s", [finished.pk])
        key = bytes(cursor.fetchone()[0])
        cursor.execute("SELECT sealed FROM projects_patient ORDER BY id")
        patients = [bytes(row[0]) for row in cursor.fetchall()]
    name = Path(str(connection.settings_dict["NAME"]))

    def file() -> bytes:
        found = [path for path in name.parent.glob(f"{name.name}*") if path.exists()]
        return b"".join(path.read_bytes() for path in found)

    assert all(blob in file() for blob in (key, *patients))
    destroy_key(dpo, finished, "the study is over", "LUNG")
    assert compact_database()
    left = file()
    assert not any(blob in left for blob in (key, *patients))


def test_compacting_the_database_keeps_its_patients(finished: Project, dpo: User) -> None:
    destroy_key(dpo, finished, "the study is over", "LUNG")
    assert compact_database()
    assert finished.patients.count() == 4
