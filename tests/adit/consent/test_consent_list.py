"""The consent list of a project: orders, queued and running tasks, sheets, DICOMweb, pages."""

from collections.abc import Callable
from datetime import date, timedelta
from io import BytesIO
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from lab.jobs import GatedNode, claimed, in_thread, put_study, shelf, until, work
from lab.ordering import make_request, order_job

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.consent import changes, checking
from adit.consent.changes import Consent
from adit.consent.models import ConsentEntry, ConsentVersion
from adit.jobs.kinds.base import RowNote
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.lease import Lease
from adit.jobs.models import Job, TaskState
from adit.nodes.models import Node
from adit.orders import batch_start
from adit.orders.batch_start import StartOptions
from adit.orders.service import PatientsBlocked, place_order
from adit.projects import pseudonyms
from adit.projects.models import Project
from adit.projects.patient_merge import merge_patient_id
from adit.spreadsheets.reader import read_sheet
from adit_engine.errors import InvalidInput
from adit_engine.transfer.study_lookup import StudyCriteria

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = "1.2.826.0.1.3680043.8.498.77"
ANNE, BEN = "PID-4711-0815", "PID-0002"
YESTERDAY = timedelta(days=-1)


@pytest.fixture
def consent(keyholder: User, project: Project, source: Node) -> Callable[..., ConsentEntry]:
    def add(patient_id: str = ANNE, domain: str = "PACS1", **terms: Any) -> ConsentEntry:
        given = Consent(domain, patient_id, **terms)
        return changes.save_consent(keyholder, project, given, "form received")

    return add


@pytest.fixture
def order(
    coordinator: User, project: Project, source: Node, destination: Node
) -> Callable[..., Job]:
    def place(patient_id: str = ANNE, *, images: int = 3, series: int = 1) -> Job:
        uid = put_study(source, "1", images, series, PatientID=patient_id)
        pick = PickedStudy.by_uid(source.pk, uid, patient_id)
        return order_job(
            coordinator, "selective", [pick], destination.pk, key="one", project=project.pk
        )

    project.sources.add(source)
    project.destinations.add(destination)
    return place


def refusal(project: Project, patient_id: str = ANNE, *modalities: str) -> str:
    why = blocking.explain_refusal(project, "PACS1", patient_id, modalities)
    return "" if why is None else why.code


def test_a_project_without_a_consent_list_sends_as_before(
    project: Project, order: Callable[..., Job], destination: Node
) -> None:
    order()
    work()

    assert refusal(project) == ""
    assert len(shelf(destination)) == 3


@pytest.mark.parametrize(
    ("terms", "modalities", "expected"),
    [
        ({}, (), ""),
        ({"valid_until": timedelta()}, (), ""),
        ({"valid_until": YESTERDAY}, (), "consent.expired"),
        ({"withdrawn_on": YESTERDAY}, (), "consent.withdrawn"),
        ({"modalities": "CT, MR"}, ("CT", "SR"), ""),
        ({"modalities": "CT, MR"}, ("US",), "consent.other-modality"),
        ({"modalities": "CT, MR"}, (), ""),
    ],
)
def test_the_terms_of_a_consent_decide(
    terms: dict[str, Any],
    modalities: tuple[str, ...],
    expected: str,
    project: Project,
    consent: Callable[..., ConsentEntry],
) -> None:
    today = timezone.localdate()
    consent(**{name: today + t if isinstance(t, timedelta) else t for name, t in terms.items()})

    assert refusal(project, ANNE, *modalities) == expected


def test_only_the_exact_patient_id_of_the_domain_is_on_the_list(
    project: Project, make_project: Callable[..., Project], consent: Callable[..., ConsentEntry]
) -> None:
    consent("0815")

    assert refusal(project, "0815 ") == ""
    for other in ("815", "00815", "", " "):
        assert refusal(project, other) == "consent.not-listed"
    assert blocking.explain_refusal(project, "PACS2", "0815") is not None
    assert refusal(make_project("HEART"), "815") == "", "another project needs no consent"
    assert blocking.explain_refusal(None, "PACS1", "815") is None


def test_a_merged_patient_id_shares_consent_and_withdrawal(
    project: Project, source: Node, keyholder: User, consent: Callable[..., ConsentEntry]
) -> None:
    project.sources.add(source)
    pseudonyms.get_or_create_pseudonym(project, "PACS1", "A-1")
    merge_patient_id(keyholder, project.patients.get(), source, "B-2", "same person")
    entry = consent("B-2")
    assert refusal(project, "A-1") == ""
    consent("A-1")

    changes.withdraw_consent(keyholder, entry, date.today(), "letter")

    assert refusal(project, "A-1") == "consent.withdrawn"


def test_an_order_without_consent_is_refused_by_the_position_of_the_study(
    coordinator: User,
    project: Project,
    source: Node,
    destination: Node,
    consent: Callable[..., ConsentEntry],
) -> None:
    project.sources.add(source)
    project.destinations.add(destination)
    consent(BEN)
    uids = [put_study(source, "1", PatientID=BEN), put_study(source, "2")]
    picks = [
        PickedStudy.by_uid(source.pk, uid, who) for uid, who in zip(uids, (BEN, ANNE), strict=True)
    ]

    with pytest.raises(PatientsBlocked) as refused:
        place_order(
            coordinator, make_request("selective", picks, destination.pk, project=project.pk)
        )

    assert str(refused.value).startswith("Study 2: This patient is not on the consent list")
    assert ANNE not in str(refused.value)
    assert not Job.objects.exists()


def test_a_patient_who_withdraws_after_the_order_is_not_fetched(
    keyholder: User,
    order: Callable[..., Job],
    destination: Node,
    consent: Callable[..., ConsentEntry],
) -> None:
    entry = consent()
    order()
    opened = AuditEvent.objects.filter(action="node.opened")
    before = opened.count()
    changes.withdraw_consent(keyholder, entry, date.today(), "letter")

    task = work()

    assert task is not None
    assert task.state == TaskState.FAILURE
    assert "was withdrawn" in str(task.message)
    assert ANNE not in str(task.message)
    assert not shelf(destination)
    assert opened.count() == before, "no PACS was contacted"


def test_a_consent_that_expires_while_queued_is_not_used(
    order: Callable[..., Job], destination: Node, consent: Callable[..., ConsentEntry]
) -> None:
    consent(valid_until=timezone.localdate())
    order()

    with time_machine.travel(timezone.now() + timedelta(days=1), tick=True):
        task = work()

    assert task is not None
    assert "has expired" in str(task.message)
    assert not shelf(destination)


@pytest.mark.parametrize("change", ["withdrawn", "other modality"])
def test_a_running_transfer_stops_when_the_consent_changes(
    change: str,
    keyholder: User,
    source: Node,
    order: Callable[..., Job],
    destination: Node,
    gated: type[GatedNode],
    consent: Callable[..., ConsentEntry],
) -> None:
    entry = consent()
    job = order(images=4)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: shelf(destination))

    if change == "withdrawn":
        changes.withdraw_consent(keyholder, entry, date.today(), "letter")
    else:
        consent(modalities="US")
    thread.join(30)

    task = job.tasks.get()
    assert not thread.is_alive()
    assert task.state == TaskState.FAILURE
    assert ("was withdrawn" if change == "withdrawn" else "have changed") in str(task.message)
    assert len(shelf(destination)) < 4


def test_the_consent_is_checked_again_before_each_series(
    keyholder: User,
    order: Callable[..., Job],
    destination: Node,
    consent: Callable[..., ConsentEntry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = consent()
    order(series=3)
    check = blocking.explain_refusal

    def withdraw_after_first_series(*args: Any) -> Any:
        if shelf(destination) and not ConsentEntry.objects.exclude(withdrawn_on=None).exists():
            changes.withdraw_consent(keyholder, entry, date.today(), "letter")
        return check(*args)

    monkeypatch.setattr(
        "adit.jobs.block_check.blocking.explain_refusal", withdraw_after_first_series
    )
    monkeypatch.setattr(Lease, "_check_patient", lambda lease: None)
    task = work()

    assert task is not None
    assert task.state == TaskState.FAILURE
    assert 0 < len(shelf(destination)) < 9


def test_series_of_a_modality_without_consent_are_not_sent(
    project: Project,
    source: Node,
    order: Callable[..., Job],
    destination: Node,
    consent: Callable[..., ConsentEntry],
) -> None:
    consent(modalities="CT")
    put_study(source, "1", series=3, Modality="US")
    order(series=1)
    work()

    assert len(shelf(destination)) == 3, "only the CT series"
    assert blocking.find_modalities(project, "PACS1", ANNE) == ("CT",)


def test_rows_of_a_list_without_consent_are_errors_of_their_own(
    keyholder: User,
    coordinator: User,
    project: Project,
    source: Node,
    destination: Node,
    consent: Callable[..., ConsentEntry],
) -> None:
    project.sources.add(source)
    project.destinations.add(destination)
    consent(ANNE)
    ben = consent(BEN)
    put_study(source, "1")
    put_study(source, "2", PatientID=BEN)
    put_study(source, "3", PatientID="PID-3")
    rows = [
        BatchTransferRow(line, StudyCriteria(who, study_uid=f"{ROOT}.{study}"))
        for line, study, who in ((2, "1", ANNE), (3, "2", BEN), (4, "3", "PID-3"))
    ]
    job = order_job(
        coordinator,
        "batch_transfer",
        rows,
        destination.pk,
        sources=(source.pk,),
        project=project.pk,
    )
    work()
    checked = dict(job.lines.values_list("line", "notes"))
    changes.withdraw_consent(keyholder, ben, date.today(), "letter")
    job.refresh_from_db()
    batch_start.request_start(coordinator, job, StartOptions())
    while work():
        pass

    assert checked == {2: [], 3: [], 4: [RowNote.BLOCKED]}
    started = dict(job.lines.values_list("line", "notes"))
    assert started == {2: [], 3: [RowNote.BLOCKED], 4: [RowNote.BLOCKED]}
    assert len(shelf(destination)) == 3, "only the images of the first patient"


def test_a_removed_list_is_not_checked_and_counts_again_with_its_withdrawals(
    keyholder: User, project: Project, consent: Callable[..., ConsentEntry]
) -> None:
    changes.withdraw_consent(keyholder, consent(), date.today(), "letter")
    changes.remove_list(keyholder, project, "not needed")
    with pytest.raises(InvalidInput):
        changes.remove_list(keyholder, project, "twice")

    assert refusal(project) == ""
    consent(BEN)
    assert refusal(project, ANNE) == "consent.withdrawn"
    assert list(ConsentVersion.objects.values_list("number", flat=True)) == [4, 3, 2, 1]


def test_withdrawing_needs_the_identification_list_and_works_once(
    coordinator: User, keyholder: User, project: Project, consent: Callable[..., ConsentEntry]
) -> None:
    entry = consent()

    with pytest.raises(NotPermitted):
        changes.withdraw_consent(coordinator, entry, date.today(), "letter")
    with pytest.raises(InvalidInput):
        changes.withdraw_consent(keyholder, entry, date.today() + timedelta(days=2), "letter")
    changes.withdraw_consent(keyholder, entry, date.today(), "letter")
    with pytest.raises(InvalidInput):
        changes.withdraw_consent(keyholder, entry, date.today(), "letter")

    events = AuditEvent.objects.filter(action__startswith="consent")
    assert list(events.values_list("action", flat=True)) == ["consent.added", "consent.withdrawn"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM consent_consententry")
        values = [value for row in cursor for value in row]
    assert ANNE not in repr([bytes(v) if isinstance(v, memoryview) else v for v in values])


def test_the_pages_add_withdraw_and_offer_a_recall(
    keyholder: User,
    coordinator: User,
    root: User,
    project: Project,
    source: Node,
    as_user: Callable[..., Client],
) -> None:
    client = as_user(keyholder)
    listing = reverse("project_consent", args=[project.pk])
    new = reverse("project_consent_new", args=[project.pk])
    form = {"patient_id": ANNE, "domain": "PACS1", "modalities": "mr ct", "reason": "form"}

    assert "refused for this project" in client.get(new).content.decode()
    wrong = client.post(new, {**form, "modalities": "magnet resonance?"})
    client.post(new, form)
    entry = ConsentEntry.objects.get()
    withdraw = reverse("project_consent_withdraw", args=[project.pk, entry.pk])
    client.post(withdraw, {"withdrawn_on": "2026-11-01", "reason": "letter"})
    page = client.get(listing).content.decode()
    withdrawn = ConsentEntry.objects.get(replaced_in=None)
    block = f"{reverse('block_new')}?consent={withdrawn.pk}"
    offered = as_user(root).get(listing).content.decode()
    filled = as_user(root).get(block).content.decode()

    assert wrong.status_code == 422
    assert entry.modalities == "CT, MR"
    assert ANNE in page
    assert "withdrawn on 2026-11-01" in page
    assert page.index("consent withdrawn") < page.index("patient added"), "the last version first"
    assert "data protection officer" in client.get(listing).content.decode() + page
    assert block in offered
    assert f'value="{ANNE}"' in filled
    assert as_user(root).get(f"{reverse('block_new')}?consent=x").status_code == 200
    assert client.get(withdraw).status_code == 404, "the entry was replaced"
    assert as_user(coordinator).get(listing).status_code == 403
    assert not BlockedPatient.objects.exists()


def test_an_export_needs_both_permissions_and_a_reason(
    project: Project,
    keyholder: User,
    consent: Callable[..., ConsentEntry],
    as_user: Callable[..., Client],
) -> None:
    consent("0815")
    address = reverse("project_consent_export", args=[project.pk])

    refused = as_user(keyholder).post(address, {"reason": ""})
    file = as_user(keyholder).post(address, {"reason": "monitoring visit"}).content
    project.reidentifiers.clear()
    without = as_user(keyholder).post(address, {"reason": "monitoring visit"})

    table = read_sheet(BytesIO(file), "list.xlsx")
    assert refused.status_code == 422
    assert table.lines[1].texts(2) == ("0815", "PACS1")
    assert without.status_code == 403
    assert AuditEvent.objects.filter(action="consent.exported").count() == 1


def test_the_block_form_shows_no_patient_of_a_list_that_the_person_may_not_see(
    dpo: User,
    keyholder: User,
    consent: Callable[..., ConsentEntry],
    as_user: Callable[..., Client],
) -> None:
    entry = changes.withdraw_consent(keyholder, consent(), date.today(), "letter")

    page = as_user(dpo).get(f"{reverse('block_new')}?consent={entry.pk}").content.decode()

    assert ANNE not in page


def test_dicomweb_asks_the_same_function(
    project: Project, consent: Callable[..., ConsentEntry]
) -> None:
    consent(BEN)

    with pytest.raises(blocking.PatientBlocked) as refused:
        blocking.require_not_blocked(project, "PACS1", ANNE)
    assert "not on the consent list" in str(refused.value)
    assert checking.has_list(project)
