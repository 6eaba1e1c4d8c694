"""The order service places an order as previewed, for all destinations or for none."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from lab.jobs import PATIENT, put_study, work
from lab.ordering import make_request
from lab.ultrasound import clip, put

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs.kinds.base import OrderRequest, SendAsIs, SheetRow
from adit.jobs.kinds.batch_query import BatchQueryRow
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState
from adit.nodes import search
from adit.nodes.models import Node
from adit.orders import service
from adit.orders.service import place_order, preview_order
from adit.projects.models import Patient, Project
from adit.projects.services import default_project
from adit.results import storage_quota
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.patient_search.search import PatientQuery, PersonCriteria
from adit_engine.transfer.study_lookup import StudyCriteria
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel

pytestmark = pytest.mark.django_db


@pytest.fixture
def request_for(source: Node, project: Project) -> Callable[..., OrderRequest[PickedStudy]]:
    """Make an order of a CT series and of an ultrasound series that no pixel rule covers."""
    uid = put_study(source, "1", images=2, BodyPartExamined="CHEST")
    put(source, clip(1))
    pick = PickedStudy.by_uid(source.pk, uid, PATIENT)

    def make(*destinations: Node, **more: object) -> OrderRequest[PickedStudy]:
        places = [node.pk for node in destinations]
        return make_request("selective", [pick], *places, project=project.pk, **more)

    return make


Requests = Callable[..., OrderRequest[PickedStudy]]


def test_a_caller_cannot_state_what_is_announced_as_withheld(request_for: Requests) -> None:
    assert "announced" not in {one.name for one in fields(OrderRequest)}
    with pytest.raises(TypeError, match="announced"):
        request_for(announced=("face",))


def test_pseudonymized_images_need_a_project_but_queries_and_identified_ones_do_not(
    coordinator: User, root: User, destination: Node, request_for: Requests, settings: Any
) -> None:
    request = request_for(destination)
    settings.ORDERS_WITHOUT_PROJECT = False
    for act in (preview_order, place_order):
        with pytest.raises(NotPermitted, match="Choose a research project") as refused:
            act(coordinator, replace(request, project=None))
        assert refused.value.message.code == "order.project-required"
        with pytest.raises(NotPermitted, match="Choose a research project"):
            act(coordinator, replace(request, project=default_project().pk))
    assert not Job.objects.exists()

    place_order(coordinator, request)
    place_order(root, replace(request, project=None, key="b", change=SendAsIs("second opinion")))
    person = PatientQuery(PersonCriteria(patient_id=PATIENT))
    row = BatchQueryRow(SheetRow(2, (), "", {"PatientID": PATIENT}), person)
    query = make_request("batch_query", [row], key="q", sources=(request.items[0].source,))
    place_order(coordinator, query)
    settings.ORDERS_WITHOUT_PROJECT = True
    place_order(coordinator, replace(request, project=None, key="c"))
    assert Job.objects.count() == 4


def test_the_summary_and_the_job_announce_the_same_reasons(
    coordinator: User, destination: Node, request_for: Requests
) -> None:
    shown = preview_order(coordinator, request_for(destination)).summary

    (job,) = place_order(coordinator, request_for(destination))

    assert shown.announced == ("pixel-rule",)
    assert [part.images for part in shown.withheld if part.is_sure] == [1]
    assert job.order["announced"] == ["pixel-rule"]


def test_series_are_queried_only_where_the_study_has_a_class_that_is_refused(
    coordinator: User,
    source: Node,
    destination: Node,
    request_for: Requests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The study of the request has an ultrasound series; the other one has only CT series."""
    put_study(source, "7", series=3, BodyPartExamined="CHEST")
    asked, count = [], search.count_sop_classes
    monkeypatch.setattr(
        search, "count_sop_classes", lambda *given: asked.append(given) or count(*given)
    )
    found = search.search_studies(
        coordinator, source, Query(QueryLevel.STUDY, {"PatientID": PATIENT})
    )
    both, only_ct = sorted(found.records, key=lambda record: record.series_count == 3)
    requests = [
        replace(request_for(destination, key=key), items=(PickedStudy(source.pk, study),))
        for key, study in (("b", both), ("c", only_ct))
    ]

    first, second = (preview_order(coordinator, one).summary for one in requests)

    assert first.announced == ("pixel-rule",)
    assert len(asked) == both.series_count == 2
    assert (second.announced, second.withheld) == ((), ())


def test_the_job_uses_the_announcement_of_the_preview_without_a_new_query(
    coordinator: User, destination: Node, request_for: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    preview_order(coordinator, request_for(destination))
    monkeypatch.delattr(service, "summarize_order")

    (job,) = place_order(coordinator, request_for(destination))

    assert job.order["announced"] == ["pixel-rule"]


def test_a_preview_does_not_apply_to_another_order_with_the_same_key(
    coordinator: User, source: Node, destination: Node, request_for: Requests
) -> None:
    preview_order(coordinator, request_for(destination))
    other = PickedStudy.by_uid(source.pk, put_study(source, "2", BodyPartExamined="CHEST"), PATIENT)

    (job,) = place_order(coordinator, replace(request_for(destination), items=(other,)))

    assert job.order["announced"] == []


def test_the_service_determines_what_is_withheld_without_a_preview(
    coordinator: User, destination: Node, request_for: Requests
) -> None:
    (job,) = place_order(coordinator, request_for(destination))
    assert job.order["announced"] == ["pixel-rule"]


def test_an_order_of_identified_images_announces_nothing_as_withheld(
    root: User, destination: Node, request_for: Requests
) -> None:
    change = SendAsIs("second opinion")
    (job,) = place_order(root, request_for(destination, change=change))
    assert job.order["announced"] == []


def test_a_refused_second_destination_prevents_all_jobs(
    coordinator: User, destination: Node, make_node: Callable[..., Node], request_for: Requests
) -> None:
    with pytest.raises(NotPermitted, match="send to"):
        place_order(coordinator, request_for(destination, make_node("Hidden PACS")))
    assert not Job.objects.exists()
    assert not Patient.objects.exists()


def test_a_failure_to_save_the_second_job_rolls_back_the_first(
    coordinator: User,
    destination: Node,
    folder_node: Node,
    request_for: Requests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = service.task_groups.assign_groups

    def fail_at_the_second(job: Job) -> None:
        if Job.objects.count() == 2:
            raise InvalidInput("test.disk-full")
        write(job)

    monkeypatch.setattr(service.task_groups, "assign_groups", fail_at_the_second)
    with pytest.raises(InvalidInput, match="disk-full"):
        place_order(coordinator, request_for(destination, folder_node))
    assert not Job.objects.exists()
    assert not Patient.objects.exists()
    assert not AuditEvent.objects.filter(action="job.created").exists()


def test_two_destinations_create_two_jobs_and_the_same_key_returns_them(
    coordinator: User, destination: Node, folder_node: Node, request_for: Requests
) -> None:
    jobs = place_order(coordinator, request_for(destination, folder_node))
    again = place_order(coordinator, request_for(destination, folder_node))

    assert [job.destination for job in jobs] == [destination, folder_node]
    assert [job.pk for job in again] == [job.pk for job in jobs]
    assert Job.objects.count() == 2


def test_concurrent_orders_with_the_same_key_create_the_jobs_once(
    coordinator: User,
    destination: Node,
    folder_node: Node,
    request_for: Requests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = request_for(destination, folder_node)
    find, answers = service.find_jobs, []

    def find_none_at_first(user: User, key: str) -> list[Job]:
        answers.append(None if len(answers) < 2 else find(user, key))
        return answers[-1] or []

    monkeypatch.setattr(service, "find_jobs", find_none_at_first)
    first = place_order(coordinator, request)
    second = place_order(coordinator, request)

    assert [job.pk for job in second] == [job.pk for job in first]
    assert Job.objects.count() == 2


def test_users_can_use_the_same_order_key_independently(
    coordinator: User, root: User, destination: Node, request_for: Requests
) -> None:
    (mine,) = place_order(coordinator, request_for(destination))
    (other,) = place_order(root, request_for(destination))
    assert mine.pk != other.pk


def test_an_order_without_storage_is_reported_by_preview_and_refused(
    coordinator: User, folder_node: Node, request_for: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Message("storage-quota.used-up", node="Research folder", quota="1.0 GB")
    monkeypatch.setattr(storage_quota, "explain_no_space", lambda node, size: full)

    assert preview_order(coordinator, request_for(folder_node)).no_space == (full,)
    with pytest.raises(InvalidInput) as refused:
        place_order(coordinator, request_for(folder_node))
    assert refused.value.message == full
    assert not Job.objects.exists()


def test_a_preview_refuses_conflicting_pseudonyms_and_registers_none(
    coordinator: User, root: User, source: Node, destination: Node, request_for: Requests
) -> None:
    request = request_for(destination)
    taken = replace(request.items[0], pseudonym="P1")
    place_order(root, replace(request, items=(taken,)))
    other = PickedStudy.by_uid(source.pk, "1.2.3", "PAT-2", pseudonym="P1")
    unknown = PickedStudy.by_uid(source.pk, "1.2.4", "PAT-3")

    with pytest.raises(service.RefusedPseudonyms) as refused:
        preview_order(root, replace(request, key="b", items=(unknown, other)))

    assert list(refused.value.by_position) == [2]
    assert "Study 2: P1 already belongs to another patient" in str(refused.value)
    assert Patient.objects.count() == 1


def test_a_preview_creates_no_job_and_registers_no_pseudonym(
    coordinator: User, destination: Node, request_for: Requests
) -> None:
    preview_order(coordinator, request_for(destination))
    assert not Job.objects.exists()
    assert not Patient.objects.exists()


def test_an_order_of_a_second_person_project_waits_for_approval(
    coordinator: User, destination: Node, project: Project, request_for: Requests
) -> None:
    Project.objects.filter(pk=project.pk).update(second_person=True)
    assert preview_order(coordinator, request_for(destination)).needs_approval
    (job,) = place_order(coordinator, request_for(destination))
    assert job.state == JobState.WAITING_FOR_APPROVAL


@pytest.mark.parametrize("key", ["", "k" * 57])
def test_an_empty_or_too_long_order_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="key of an order"):
        make_request("selective", [], key=key)


def test_a_batch_transfer_to_two_destinations_creates_two_jobs(
    coordinator: User, source: Node, destination: Node, folder_node: Node, project: Project
) -> None:
    rows = [BatchTransferRow(2, StudyCriteria(PATIENT, study_uid="1.2.3"))]
    request = make_request(
        "batch_transfer",
        rows,
        destination.pk,
        folder_node.pk,
        sources=(source.pk,),
        project=project.pk,
        pilot=2,
    )

    assert not preview_order(coordinator, request).needs_approval
    jobs = place_order(coordinator, request)

    assert [job.destination for job in jobs] == [destination, folder_node]
    assert {job.order["pilot"] for job in jobs} == {2}


@pytest.mark.django_db(transaction=True)
def test_a_job_succeeds_if_its_withheld_images_were_announced(
    coordinator: User, destination: Node, request_for: Requests
) -> None:
    (job,) = place_order(coordinator, request_for(destination))
    work()
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS
