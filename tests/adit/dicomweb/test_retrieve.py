"""WADO-RS: images as a job would deliver them, streamed, recorded, and never without permission."""

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone
from lab import samples
from lab.api import make_api_client
from lab.dicomweb_api import Program, read_body, read_images
from lab.jobs import PATIENT, put_study, shelf, until, work
from lab.ordering import order_job
from pydicom import dcmread
from pypdf import PdfReader

from adit import cli
from adit.accounts.models import User
from adit.api_tokens.models import ApiToken
from adit.audit.models import AuditEvent
from adit.blocklist.blocking import block_patient
from adit.config.celery import app
from adit.consent.changes import Consent, save_consent, withdraw_consent
from adit.dicomweb import retrieval_log
from adit.dicomweb.models import Retrieval
from adit.dicomweb.tasks import end_interrupted
from adit.jobs.kinds.picked_study import PickedStudy
from adit.nodes.models import Node, Slot
from adit.projects.models import Patient, Project
from adit.projects.services import default_project
from adit.recall import execution
from adit.recall.patient_answer import write_answer
from adit.recall.patient_deliveries import (
    IMAGE_COLUMNS,
    PatientQuestion,
    export_images,
    find_deliveries,
)
from adit.recall.recalls import confirm_deletion, start_recall
from adit_engine.errors import AditError
from adit_engine.nodes.memory import MemoryNode

pytestmark = pytest.mark.django_db


@pytest.fixture
def identified(make_program: Callable[..., Program], coordinator: User) -> Program:
    """A program that may get identified images."""
    codename = "transfer_identified"
    coordinator.user_permissions.add(Permission.objects.get(codename=codename))
    return make_program("retrieve", "identified")


def uids(files: list[bytes]) -> list[str]:
    return sorted(str(dcmread(io.BytesIO(file)).SOPInstanceUID) for file in files)


def data_sets(files: list[bytes]) -> set[bytes]:
    return {b"".join(samples.part10.parse_file(file).parts()) for file in files}


def test_identified_images_are_the_stored_bytes(identified: Program, source: Node) -> None:
    study = put_study(source, images=3, series=2)

    files = read_images(identified.get(f"wadors/studies/{study}"))

    assert len(files) == 6
    assert data_sets(files) == {b"".join(one.parts()) for one in shelf(source).values()}
    retrieval = Retrieval.objects.get()
    assert (retrieval.state, retrieval.expected, retrieval.delivered) == ("complete", 6, 6)
    assert not Slot.objects.exists()
    event = AuditEvent.objects.get(action="dicomweb.retrieved")
    assert (event.details["caller"], event.details["delivered"]) == ("API token script", 6)


def test_what_a_program_retrieved_is_part_of_the_answer_for_a_patient(
    identified: Program, source: Node, project: Project, root: User
) -> None:
    study = put_study(source, images=2)
    read_images(identified.get(f"wadors/studies/{study}"))
    read_images(identified.get(f"wadors/studies/{study}", trial_protocol_id="LUNG"))

    found = find_deliveries(root, PatientQuestion("site", PATIENT))

    facts = [(one.job, one.person, one.project, one.images) for one in found.deliveries]
    assert facts == [(None, "coordinator", project.protocol_id, 2), (None, "coordinator", "", 2)]
    assert [one.deidentified for one in found.deliveries] == [True, False]
    assert {one.destination for one in found.deliveries} == {
        "Given out through the API, ask the receiver: coordinator, API token script"
    }


@pytest.mark.parametrize("asked", ["4711-ab", "004711-AB", " 4711-AB "])
def test_what_a_program_retrieved_is_found_without_leading_zeros_and_case(
    asked: str, identified: Program, source: Node, project: Project, root: User
) -> None:
    study = put_study(source, images=2, PatientID="04711-AB")
    read_images(identified.get(f"wadors/studies/{study}", trial_protocol_id="LUNG"))

    for domain in ("site", ""):
        found = find_deliveries(root, PatientQuestion(domain, asked))
        assert [one.images for one in found.deliveries] == [2]


def test_a_recall_and_the_answer_name_each_image_that_was_given_out_by_the_uid_it_was_sent_with(
    identified: Program,
    program: Program,
    source: Node,
    project: Project,
    root: User,
    as_user: Callable[[User], Client],
) -> None:
    study = put_study(source, images=2)
    sent = uids(read_images(identified.get(f"wadors/studies/{study}")))
    changed = uids(
        read_images(
            program.get(f"wadors/studies/{study}", pseudonym="A1", trial_protocol_id="LUNG")
        )
    )
    entry = block_patient(root, None, "site", PATIENT, reason="x", withdrawn_on=date.today())

    rows = export_images(root, entry, "request of the patient")
    recall = start_recall(
        root, entry, reason="x", confirm_by=date.today(), deletes_shared_archives=False
    )
    page = as_user(root).get(f"/block-list/recalls/{recall.pk}/").content.decode()
    file = as_user(root).post(f"/block-list/recalls/{recall.pk}/images/", {"form": "csv"})
    found = find_deliveries(root, PatientQuestion.of_entry(entry))
    answer = write_answer(root, PatientQuestion.of_entry(entry), found)

    at = IMAGE_COLUMNS.index("image_uid")
    assert sorted(str(row[at]) for row in rows) == sorted(sent + changed)
    assert not set(sent) & set(changed)
    assert {row[0].split(",")[0] for row in map(list, rows)} == {"Given out through the API"}
    assert "Ask each receiver to delete them" in page
    assert "coordinator, API token script" in page
    text = file.getvalue().decode()
    assert all(uid in text for uid in sent + changed), text
    text = " ".join(one.extract_text() for one in PdfReader(io.BytesIO(answer)).pages)
    assert "ask the receiver" in text
    assert all(uid in text.replace("\n", "") for uid in sent)

    execution.carry_out_due()
    recall.refresh_from_db()
    assert recall.ended_at is None, "the receivers have not confirmed"
    client, confirmations = as_user(root), list(recall.confirmations.all())
    receivers = [(str(one.receiver), one.project, one.destination) for one in confirmations]
    assert receivers == [("coordinator", project, None), ("coordinator", default_project(), None)]
    assert "Received through the API by coordinator" in page
    for one in confirmations:
        address = f"/block-list/recalls/{recall.pk}/confirm/{one.pk}/"
        assert client.post(address, {"note": "mail of today"}).status_code == 302
    recall.refresh_from_db()
    assert recall.ended_at is not None
    confirmed = AuditEvent.objects.filter(action="recall.confirmed").earliest("pk")
    assert confirmed.details == {"receiver": "coordinator", "project": "LUNG"}


def test_what_is_given_out_until_a_recall_ends_needs_a_confirmation_as_well(
    identified: Program, program: Program, source: Node, project: Project, root: User
) -> None:
    study = put_study(source, images=1)
    read_images(identified.get(f"wadors/studies/{study}"))
    read_images(program.get(f"wadors/studies/{study}", pseudonym="A1", trial_protocol_id="LUNG"))
    late = Retrieval.objects.filter(is_identified=False)
    index = late.get().patient_index
    late.update(patient_index="")
    entry = block_patient(root, None, "site", PATIENT, reason="x", withdrawn_on=date.today())
    recall = start_recall(
        root, entry, reason="x", confirm_by=date.today(), deletes_shared_archives=False
    )
    before = recall.confirmations.count()
    late = Retrieval.objects.filter(is_identified=False)
    late.update(patient_index=index)

    confirm_deletion(root, recall.confirmations.get(), "mail of today")
    execution.carry_out_due()

    recall.refresh_from_db()
    assert (before, recall.confirmations.count()) == (1, 2)
    assert recall.ended_at is None


def test_a_series_and_one_image_are_exactly_these(identified: Program, source: Node) -> None:
    study = put_study(source, images=3, series=2)

    series = read_images(identified.get(f"wadors/studies/{study}/series/{study}.2"))
    address = f"wadors/studies/{study}/series/{study}.2/instances/{study}.2.3"
    image = read_images(identified.get(address))
    single = identified.get(address, accept="application/dicom")

    assert uids(series) == [f"{study}.2.{number}" for number in (1, 2, 3)]
    assert uids(image) == [f"{study}.2.3"]
    assert single["Content-Type"] == "application/dicom"
    assert read_body(single) == image[0]
    counts = Retrieval.objects.order_by("pk").values_list("expected", "delivered", "state")
    assert list(counts) == [(3, 3, "complete"), (1, 1, "complete"), (1, 1, "complete")]


def test_a_zip_file_holds_the_same_files(identified: Program, source: Node) -> None:
    study = put_study(source, images=2, series=2)

    answer = identified.get(f"wadors/studies/{study}", accept="application/zip")

    with zipfile.ZipFile(io.BytesIO(read_body(answer))) as archive:
        assert archive.testzip() is None
        files = [archive.read(name) for name in archive.namelist()]
    assert data_sets(files) == {b"".join(one.parts()) for one in shelf(source).values()}


@pytest.mark.django_db(transaction=True)
def test_pseudonymized_images_are_those_of_a_job(
    program: Program,
    source: Node,
    destination: Node,
    project: Project,
    coordinator: User,
) -> None:
    study = put_study(source, images=3, series=2)
    pick = PickedStudy.by_uid(source.pk, study, PATIENT)
    order_job(coordinator, "selective", [pick], destination.pk, project=project.pk)
    assert work() is not None

    files = read_images(program.get(f"wadors/studies/{study}", trial_protocol_id="LUNG"))
    answer = program.get(f"wadors/studies/{study}/metadata", trial_protocol_id="LUNG")
    of_job = {b"".join(one.parts()) for one in shelf(destination).values()}
    shelf(destination).clear()
    order = {
        "kind": "selective",
        "destination": destination.name,
        "studies": [{"node": source.name, "study_uid": study, "patient_id": PATIENT}],
        "project": "LUNG",
        "change": "pseudonymize",
    }
    assert make_api_client(coordinator).post("jobs", order).status_code == 201
    assert work() is not None

    assert of_job == data_sets(files)
    assert of_job == {b"".join(one.parts()) for one in shelf(destination).values()}
    headers = json.loads(read_body(answer))
    values = [
        json.loads(dcmread(io.BytesIO(file), stop_before_pixels=True).to_json()) for file in files
    ]
    assert {one["00080018"]["Value"][0]: one for one in headers} == {
        one["00080018"]["Value"][0]: one for one in values
    }
    pseudonym = Patient.objects.get(project=project).pseudonym
    assert {one["00100020"]["Value"][0] for one in headers} == {pseudonym}
    assert not any("7FE00010" in one for one in headers)
    assert "Mustermann" not in json.dumps(headers)


def test_metadata_are_whole_and_in_unicode(identified: Program, source: Node) -> None:
    study = put_study(source, images=2)

    answer = identified.get(f"wadors/studies/{study}/series/{study}.1/metadata")

    assert answer["Content-Type"] == "application/dicom+json"
    headers = json.loads(read_body(answer))
    assert headers[0]["00100010"]["Value"] == [{"Alphabetic": "Mustermann^Änne"}]
    assert headers[0]["00080005"]["Value"] == ["ISO_IR 192"]
    assert headers[0]["00280010"] == {"vr": "US", "Value": [16]}
    assert Retrieval.objects.get().delivered == 2


@pytest.mark.parametrize(
    ("parameters", "status", "named"),
    [
        ({}, 400, "pseudonym"),
        ({"pseudonim": "A1"}, 400, "pseudonim"),
        ({"pseudonym": ""}, 400, "pseudonym"),
        ({"pseudonym": ["A1", "A2"]}, 400, "pseudonym"),
        ({"trial_protocol_id": "HEART"}, 400, "trial_protocol_id"),
        ({"trial_protocol_name": "Lung study"}, 400, "trial_protocol_id"),
        ({"trial_protocol_id": "LUNG", "trial_protocol_name": "x"}, 400, "trial_protocol_name"),
        ({"trial_protocol_id": "LUNG", "frame": "1"}, 400, "frame"),
    ],
)
def test_a_wrong_parameter_yields_no_image_but_its_name(
    parameters: dict[str, Any],
    status: int,
    named: str,
    program: Program,
    source: Node,
    project: Any,
) -> None:
    study = put_study(source)

    answer = program.get(f"wadors/studies/{study}", **parameters)

    assert answer.status_code == status
    assert answer.json()[named][0] == answer.json()["detail"]
    assert not Retrieval.objects.exists()


def test_a_second_pseudonym_for_a_patient_is_refused(program: Program, source: Node) -> None:
    study = put_study(source)
    read_images(program.get(f"wadors/studies/{study}", pseudonym="FIRST-1"))

    answer = program.get(f"wadors/studies/{study}", pseudonym="OTHER-2")

    assert answer.status_code == 400
    assert "pseudonym" in answer.json()
    assert "FIRST-1" not in answer.content.decode()


def test_the_scope_alone_does_not_allow_identified_images(
    make_program: Callable[..., Program], source: Node
) -> None:
    study = put_study(source)

    answer = make_program("retrieve", "identified").get(f"wadors/studies/{study}")

    assert answer.status_code == 403
    assert "Transfer identified data" in answer.json()["detail"]


def test_tokens_are_limited_to_their_scopes_and_nodes(
    make_program: Callable[..., Program], make_node: Callable[..., Node], source: Node
) -> None:
    study, other = put_study(source), make_node("PACS2", api_ae_title="PACS2")
    without_scope, without_node = make_program("query"), make_program(nodes=[])
    hidden, nobody = make_program(node=other), Program("/api/dicom-web/PACS1", "adit_0_0")
    path = f"wadors/studies/{study}"

    statuses = [one.get(path).status_code for one in (without_scope, without_node, hidden, nobody)]

    assert statuses == [403, 404, 404, 401]


def test_what_does_not_exist_is_not_found(identified: Program, source: Node) -> None:
    study = put_study(source)
    paths = (
        "wadors/studies/1.2.3",
        "wadors/studies/abc",
        f"wadors/studies/{study}/series/1.2.3",
        f"wadors/studies/{study}/series/{study}.1/instances/1.2.3",
    )

    assert [identified.get(path).status_code for path in paths] == [404] * 4
    assert not Slot.objects.exists()


def test_a_blocked_patient_is_refused(program: Program, source: Node, root: User) -> None:
    study = put_study(source)
    block_patient(root, None, "", "PID-4711-0815", reason="objection", withdrawn_on=date.today())

    answer = program.get(f"wadors/studies/{study}", pseudonym="A1")

    assert answer.status_code == 403
    assert "PID-4711" not in answer.content.decode()
    event = AuditEvent.objects.get(action="dicomweb.refused")
    assert event.details["reason"] == "blocklist.blocked-everywhere"
    assert PATIENT not in str(event.details)


def test_withheld_images_are_left_out_and_told(program: Program, source: Node) -> None:
    study = put_study(source, images=2)
    report = samples.ct(9, series="2", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC")
    held = samples.instance(report)
    MemoryNode.shelves[source.name][held.instance_uid] = held

    answer = program.get(f"wadors/studies/{study}", pseudonym="A1")
    files = read_images(answer)

    assert len(files) == 2
    address = answer["Link"].partition(">")[0].lstrip("<").split("/PACS1/")[1]
    told = program.get(address).json()
    assert (told["state"], told["expected"], told["delivered"]) == ("complete", 3, 2)
    assert (told["withheld"], told["failed"]) == (1, 0)
    assert told["reasons"][0]["count"] == 1
    only = program.get(f"wadors/studies/{study}/series/{study}.2", pseudonym="A1")
    assert only.status_code == 403
    assert told["reasons"][0]["text"] in only.json()["detail"]
    headers = program.get(f"wadors/studies/{study}/series/{study}.2/metadata", pseudonym="A1")
    assert headers.status_code == 403
    for refused in (only, headers):
        address = refused["Link"].partition(">")[0].lstrip("<").split("/PACS1/")[1]
        why = program.get(address).json()
        assert (why["state"], why["delivered"], why["withheld"]) == ("incomplete", 0, 1)
        assert why["reasons"] == told["reasons"]


def test_another_user_does_not_see_what_was_retrieved(
    program: Program, make_program: Callable[..., Program], make_user: Any, source: Node
) -> None:
    study = put_study(source)
    answer = program.get(f"wadors/studies/{study}", pseudonym="A1")
    read_images(answer)
    address = answer["Link"].partition(">")[0].lstrip("<").split("/PACS1/")[1]

    stranger = make_program(user=make_user("second", "Coordinators"))

    assert stranger.get(address).status_code == 404


def test_a_transfer_syntax_is_honoured_or_refused(identified: Program, source: Node) -> None:
    study = put_study(source)
    wanted = 'multipart/related; type="application/dicom"; transfer-syntax={}'

    implicit = read_images(
        identified.get(f"wadors/studies/{study}", accept=wanted.format("1.2.840.10008.1.2"))
    )
    stored = read_images(identified.get(f"wadors/studies/{study}", accept=wanted.format("*")))
    jpeg = identified.get(f"wadors/studies/{study}", accept=wanted.format("1.2.840.10008.1.2.4.50"))
    wrong = identified.get(f"wadors/studies/{study}", accept="image/jpeg")

    syntaxes = {dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID for file in implicit}
    assert syntaxes == {"1.2.840.10008.1.2"}
    assert data_sets(stored) == {b"".join(one.parts()) for one in shelf(source).values()}
    assert [jpeg.status_code, wrong.status_code] == [406, 406]


def test_a_failure_in_mid_stream_is_no_whole_answer(
    identified: Program, source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = put_study(source, images=3)
    fetch = MemoryNode.fetch

    def fetch_some(self: MemoryNode, refs: Any, *, patient_id: str = "") -> Any:
        for image in fetch(self, refs, patient_id=patient_id):
            if not image.instance_uid.endswith(".3"):
                yield image

    monkeypatch.setattr(MemoryNode, "fetch", fetch_some)
    answer: Any = identified.get(f"wadors/studies/{study}")
    pieces: list[bytes] = []

    with pytest.raises(AditError, match="1 image could not be retrieved"):
        pieces.extend(answer.streaming_content)
    received = b"".join(pieces)
    assert received.count(b"Content-Type: application/dicom") == 2
    assert b"Content-Type: text/plain" in received
    boundary = answer["Content-Type"].partition('boundary="')[2].rstrip('"')
    assert f"--{boundary}--".encode() not in received
    retrieval = Retrieval.objects.get()
    assert (retrieval.state, retrieval.delivered, retrieval.failed) == ("incomplete", 2, 1)


@pytest.mark.django_db(transaction=True)
def test_a_revoked_token_ends_the_stream(
    identified: Program, source: Node, gated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adit.dicomweb.client_watch.CHECK_S", 0.1)
    study = put_study(source, images=3)
    gated.gate.release()
    answer: Any = identified.get(f"wadors/studies/{study}")
    ApiToken.objects.update(revoked_at="2026-01-01T00:00Z")

    with pytest.raises(AditError, match="revoked"):
        list(answer.streaming_content)
    assert gated.aborted.is_set()
    assert Retrieval.objects.get().state == "incomplete"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", ["blocked", "withdrawn", "narrowed"])
def test_a_stream_to_a_client_ends_when_the_patient_may_not_go_any_more(
    change: str,
    identified: Program,
    source: Node,
    gated: Any,
    project: Project,
    root: User,
    live_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adit.dicomweb.client_watch.CHECK_S", 0.1)
    consent = Consent("site", PATIENT, "CT, MR")
    entry = save_consent(root, project, consent, "form received")
    study = put_study(source, images=3)
    gated.gate.release()
    address = f"{live_server.url}{identified.root}/wadors/studies/{study}"
    received, parameters = b"", {"trial_protocol_id": "LUNG"}

    with httpx.stream(
        "GET", address, params=parameters, headers=identified.headers, timeout=250
    ) as answer:
        pieces = answer.iter_raw()
        while b"DICM" not in received:
            received += next(pieces)
        if change == "blocked":
            block_patient(root, None, "", PATIENT, reason="x", withdrawn_on=date.today())
        elif change == "withdrawn":
            withdraw_consent(root, entry, date.today(), "letter")
        else:
            save_consent(root, project, Consent("site", PATIENT, "CT"), "narrower form")
        with suppress(httpx.HTTPError):
            received += b"".join(pieces)

    assert received.count(b"Content-Type: application/dicom") == 1
    assert gated.aborted.is_set()
    until(lambda: Retrieval.objects.exclude(ended_at=None).exists())
    retrieval = Retrieval.objects.get()
    assert (retrieval.state, retrieval.delivered) == ("incomplete", 1)
    assert retrieval.error is not None
    assert (
        retrieval.error.code
        == {
            "blocked": "blocklist.blocked-everywhere",
            "withdrawn": "consent.withdrawn",
            "narrowed": "consent.scope-changed",
        }[change]
    )


@pytest.mark.django_db(transaction=True)
def test_a_retrieval_of_a_killed_process_is_ended_and_stays_in_the_answer_for_the_patient(
    identified: Program, source: Node, gated: Any, root: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval_log, "WRITE_EVERY_S", 0.0)
    study = put_study(source, images=3)
    gated.gate.release()
    answer: Any = identified.get(f"wadors/studies/{study}")
    next(iter(answer.streaming_content))
    killed = Retrieval.objects.get()
    answer.close()
    killed.save()  # as the process left it

    alive = retrieval_log.end_interrupted()
    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        ended = retrieval_log.end_interrupted()
        again = retrieval_log.end_interrupted()

    assert (alive, ended, again) == (0, 1, 0)
    assert end_interrupted.name in {one["task"] for one in app.conf.beat_schedule.values()}
    killed.refresh_from_db()
    assert (killed.state, killed.ended_at) == ("incomplete", killed.seen_at)
    assert "ADIT stopped during the retrieval" in str(killed.error)
    assert AuditEvent.objects.filter(action="dicomweb.retrieved").count() == 2
    assert find_deliveries(root, PatientQuestion("site", PATIENT)).deliveries
    Retrieval.objects.update(state="running")
    retrieval_log.RetrievalLog.touch(SimpleNamespace(retrieval=killed))  # type: ignore[arg-type]
    with time_machine.travel(timezone.now() + timedelta(seconds=100)):
        assert retrieval_log.end_interrupted() == 0, "it gave a sign of life"


@pytest.mark.django_db(transaction=True)
def test_a_client_that_leaves_is_recorded_with_what_it_got(
    identified: Program, source: Node, gated: Any
) -> None:
    study = put_study(source, images=3)
    gated.gate.release()
    answer: Any = identified.get(f"wadors/studies/{study}")
    next(iter(answer.streaming_content))

    answer.close()

    retrieval = Retrieval.objects.get()
    assert (retrieval.state, retrieval.delivered) == ("incomplete", 1)
    assert gated.aborted.is_set()
    assert not Slot.objects.exists()


def test_a_node_without_a_free_connection_is_tried_again_later(
    identified: Program, source: Node, settings: Any
) -> None:
    settings.DICOMWEB_SLOT_WAIT_S = 0
    source.retrieve_limit = 0
    source.save()
    study = put_study(source)

    answer = identified.get(f"wadors/studies/{study}")

    assert answer.status_code == 503
    assert int(answer["Retry-After"]) > 0


@pytest.mark.django_db(transaction=True)
def test_viewers_use_at_most_half_of_the_threads_of_the_web_process(
    identified: Program, source: Node, settings: Any
) -> None:
    settings.DICOMWEB_SLOT_WAIT_S = 0
    assert settings.DICOMWEB_REQUESTS * 2 == cli.WEB_THREADS
    study = put_study(source)
    source.retrieve_limit = cli.WEB_THREADS
    source.save()
    streams = [identified.get(f"wadors/studies/{study}") for _ in range(settings.DICOMWEB_REQUESTS)]

    refused = identified.get(f"wadors/studies/{study}")

    assert [stream.status_code for stream in streams] == [200] * settings.DICOMWEB_REQUESTS
    assert refused.status_code == 503
    assert int(refused["Retry-After"]) > 0
    assert Client().get("/healthz").status_code == 200
    for stream in streams:
        stream.close()
    assert read_images(identified.get(f"wadors/studies/{study}"))


def test_a_project_that_needs_a_second_person_is_refused(
    program: Program, source: Node, project: Project
) -> None:
    Project.objects.filter(pk=project.pk).update(second_person=True)
    study = put_study(source)

    answer = program.get(f"wadors/studies/{study}", trial_protocol_id="LUNG")

    assert answer.status_code == 403
    assert "Order a job instead" in answer.json()["detail"]
