"""The job list, the job page and the study page: content, permissions and sorting."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from lab.jobs import PATIENT, put_study, work
from lab.ordering import order_job
from pytest_django import Settings

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.audit.trail import record
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskGroup, TaskState
from adit.nodes.models import Node
from adit.projects.models import Project
from adit_engine import messages
from adit_engine.messages import Message
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

pytestmark = pytest.mark.django_db

HELD, LOST = Message("series-held-back"), Message("not-received")
NOT_SELECTED = Message("left-out.not-selected")
HOSTILE = "<script>alert(1)</script>"
AsUser = Callable[[User | None], Client]


def test_a_coordinator_sees_only_their_own_jobs(
    coordinator: User, make_user: Callable[..., User], make_job: Callable[..., Job], as_user: AsUser
) -> None:
    mine = make_job(coordinator, title="mine")
    make_job(make_user("other", "Coordinators"), title="not-mine")
    page = as_user(coordinator).get(reverse("jobs"))
    assert page.context["table"].records == [mine]
    assert b"not-mine" not in page.content


def test_a_pacs_administrator_sees_the_owner_of_each_job(
    coordinator: User, pacsadmin: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    make_job(coordinator)
    page = as_user(pacsadmin).get(reverse("jobs"))
    assert b"coordinator" in page.content


def test_the_job_list_is_filtered_by_state_text_and_date(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    failed = make_job(coordinator, state=JobState.FAILURE, title="lungs of May")
    make_job(coordinator, title="hearts")
    client = as_user(coordinator)

    def found(**query: str) -> list[Job]:
        return list(client.get(reverse("jobs"), query).context["table"].records)

    assert found(state="failure") == [failed]
    assert found(text="LUNGS") == [failed]
    assert found(text=str(failed.pk)) == [failed]
    assert found(until="2001-01-01") == []
    assert found(kind="selective", state="success", text="lungs") == []


def test_an_invalid_filter_shows_an_error_and_keeps_the_escaped_input(
    coordinator: User, as_user: AsUser
) -> None:
    page = as_user(coordinator).get(reverse("jobs"), {"since": "yesterday", "text": HOSTILE})
    assert page.status_code == 200
    assert b"Enter a valid date" in page.content
    assert b"&lt;script&gt;" in page.content
    assert HOSTILE.encode() not in page.content


def test_the_job_list_is_paginated_by_25(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    for _ in range(27):
        make_job(coordinator)
    client = as_user(coordinator)
    assert len(client.get(reverse("jobs")).context["table"].records) == 25
    assert len(client.get(reverse("jobs"), {"page": "2"}).context["table"].records) == 2


def test_the_job_list_of_25_jobs_needs_at_most_12_queries(
    coordinator: User,
    make_job: Callable[..., Job],
    as_user: AsUser,
    django_assert_max_num_queries: Callable[[int], object],
) -> None:
    for _ in range(25):
        make_job(coordinator, tasks=2)
    client = as_user(coordinator)
    with django_assert_max_num_queries(12):  # type: ignore[attr-defined]
        client.get(reverse("jobs"))


def test_the_page_of_a_running_job_refreshes_until_the_job_has_finished(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    client = as_user(coordinator)
    running = make_job(coordinator, state=JobState.IN_PROGRESS)
    page = client.get(reverse("job", args=[running.pk]))
    assert b'hx-trigger="every' in page.content
    assert b'http-equiv="refresh"' in page.content
    Job.objects.filter(pk=running.pk).update(state=JobState.SUCCESS)
    for name in ("job", "job_live"):
        page = client.get(reverse(name, args=[running.pk]))
        assert b'hx-trigger="every' not in page.content
        assert b'http-equiv="refresh"' not in page.content


def test_the_job_page_counts_images_and_shows_why_some_are_missing(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    job = make_job(coordinator, state=JobState.WARNING, tasks=2)
    first, second = job.tasks.all()
    make_item(first, expected=10, delivered=8, withheld=2, reasons=[(HELD, 2)])
    make_item(second, expected=5, delivered=4, failed=1, reasons=[(LOST, 1)])
    make_item(second, skip_reason=NOT_SELECTED)
    page = as_user(coordinator).get(reverse("job", args=[job.pk]))
    counts = page.context["counts"]
    assert (counts.expected, counts.delivered, counts.withheld, counts.failed) == (15, 12, 2, 1)
    assert page.context["reasons"] == [(HELD, 2), (LOST, 1)]
    assert "did not send it" in page.content.decode()
    assert page.context["left_out"] == [(NOT_SELECTED, 1)]
    assert b"not yet proven complete" not in page.content


def test_results_are_shown_with_the_current_message_templates(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job(coordinator, state=JobState.WARNING)
    note, remark = Message("series.new-images"), Message("storage-proof", remark="by search")
    values = {"reasons": [(LOST, 1)], "notes": [note], "remarks": [remark]}
    make_item(job.tasks.get(), expected=None, why=Message("source-list.empty"), **values)
    make_item(job.tasks.get(), skip_reason=NOT_SELECTED)
    changed = {
        LOST.code: "New reason.",
        note.code: "New note.",
        remark.code: "New remark: {remark}.",
        "source-list.empty": "New list.",
        NOT_SELECTED.code: "New exclusion.",
    }
    for code, template in changed.items():
        monkeypatch.setitem(messages._templates, code, template)

    client = as_user(coordinator)
    page = client.get(reverse("job", args=[job.pk])).content.decode()
    study = client.get(reverse("job_task", args=[job.pk, 1])).content.decode()
    report = client.get(reverse("job_report", args=[job.pk])).content.decode()

    for sentence in ("New reason.", "New exclusion."):
        assert sentence in page
        assert sentence in study
        assert sentence in report
    for sentence in ("New note.", "New remark: by search.", "New list."):
        assert sentence in study
    assert "New note." in report


def test_a_job_without_an_instance_list_is_not_yet_proven_complete(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    job = make_job(coordinator, state=JobState.WARNING)
    make_item(job.tasks.get(), expected=None, delivered=8, why=Message("source-list.empty"))
    client = as_user(coordinator)
    assert b"not yet proven complete" in client.get(reverse("job", args=[job.pk])).content
    page = client.get(reverse("job_task", args=[job.pk, 1]))
    assert b"not yet proven complete: The source listed no images" in page.content


def test_the_page_of_a_waiting_job_shows_the_reason(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.PENDING, tasks=2)
    closed = Message("node-unavailable.outside-hours", node="PACS1", time="20:00")
    TaskGroup.objects.filter(job=job).update(wait_reason=closed)
    page = as_user(coordinator).get(reverse("job", args=[job.pk]))
    assert page.context["waits"] == [closed]
    assert b"It opens at 20:00" in page.content


def test_patient_data_are_shown_only_to_users_who_may_see_identified_data(
    coordinator: User, dpo: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    labels = {"patient_name": "Mustermann^Änne", "birth_date": "19560412"}
    job = make_job(coordinator, labels={**labels, "study_description": "Thorax of Änne"})
    address = reverse("job_task", args=[job.pk, 1])
    seen = as_user(coordinator).get(address).content.decode()
    assert "Mustermann, Änne" in seen
    assert "PID-0815" in seen
    hidden = as_user(dpo).get(address).content.decode()
    for text in ("Mustermann", "Änne", "PID-0815", "1956", "Thorax"):
        assert text not in hidden
    assert "LUNG-0001" in hidden
    hidden = as_user(dpo).get(reverse("job", args=[job.pk])).content.decode()
    assert "Thorax" not in hidden


def test_repeated_views_of_a_patient_are_recorded_once_in_the_audit_trail(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, labels={"patient_name": "Mustermann^Änne"})
    client = as_user(coordinator)
    for _ in range(3):
        client.get(reverse("job_task", args=[job.pk, 1]))
    events = AuditEvent.objects.filter(action="job.seen", about=f"job:{job.pk}")
    assert [event.user for event in events] == [coordinator]


def test_text_from_a_pacs_is_escaped_on_every_page(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    labels = dict.fromkeys(
        ("patient_name", "study_date", "study_description", "accession_number", "modalities"),
        HOSTILE,
    )
    hostile = Message("text", text=HOSTILE)
    job = make_job(
        coordinator, labels=labels, title=HOSTILE, message=hostile, state=JobState.WARNING
    )
    task = job.tasks.get()
    Task.objects.update(message=hostile)
    TaskGroup.objects.update(wait_reason=hostile)
    values = {"reasons": [(hostile, 1)], "notes": [hostile], "remarks": [hostile]}
    make_item(task, description=HOSTILE, why=hostile, modality="<script>", **values)
    make_item(task, skip_reason=hostile)
    client = as_user(coordinator)
    addresses = [
        reverse("jobs"),
        reverse("job", args=[job.pk]),
        reverse("job_live", args=[job.pk]),
        reverse("job_delete", args=[job.pk]),
        reverse("job_task", args=[job.pk, 1]),
        reverse("job_task_live", args=[job.pk, 1]),
    ]
    for address in addresses:
        page = client.get(address)
        assert page.status_code == 200
        assert b"<script>alert" not in page.content
        assert b"<script>&" not in page.content


def test_the_html_title_contains_no_job_title_or_study_description(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, title="secret words", labels={"study_description": "Thorax"})
    for address in (reverse("job", args=[job.pk]), reverse("job_task", args=[job.pk, 1])):
        page = as_user(coordinator).get(address).content.decode()
        title = page[page.index("<title>") : page.index("</title>")]
        assert "secret" not in title
        assert "Thorax" not in title


def test_pages_with_patients_are_not_cached(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator)
    for address in (reverse("jobs"), reverse("job_task", args=[job.pk, 1])):
        assert "no-store" in as_user(coordinator).get(address)["Cache-Control"]


def test_canceling_a_job_twice_has_the_same_effect_as_once(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.PENDING)
    client = as_user(coordinator)
    for _ in range(2):
        page = client.post(reverse("job_action", args=[job.pk, "cancel"]), follow=True)
        assert page.status_code == 200
    job.refresh_from_db()
    assert job.state == JobState.CANCELED
    assert {task.state for task in job.tasks.all()} == {TaskState.CANCELED}


def test_an_action_not_allowed_in_this_state_shows_an_error(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.SUCCESS)
    page = as_user(coordinator).post(reverse("job_action", args=[job.pk, "cancel"]), follow=True)
    assert b"This action is not possible" in page.content
    job.refresh_from_db()
    assert job.state == JobState.SUCCESS


def test_deleting_a_job_asks_for_confirmation(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator)
    client = as_user(coordinator)
    assert client.get(reverse("job_delete", args=[job.pk])).status_code == 200
    assert Job.objects.filter(pk=job.pk).exists()
    assert client.post(reverse("job_delete", args=[job.pk])).status_code == 302
    assert not Job.objects.filter(pk=job.pk).exists()


def test_the_cancel_button_is_shown_only_to_users_who_may_cancel(
    coordinator: User, dpo: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.PENDING)
    address = reverse("job", args=[job.pk])
    cancel = reverse("job_action", args=[job.pk, "cancel"]).encode()
    assert cancel in as_user(coordinator).get(address).content
    assert cancel not in as_user(dpo).get(address).content


def test_a_job_is_approved_or_returned_by_an_approver_and_not_by_its_owner(
    coordinator: User, pacsadmin: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.WAITING_FOR_APPROVAL)
    give_back = reverse("job_return", args=[job.pk])
    own = as_user(coordinator).get(reverse("job", args=[job.pk])).content.decode()
    assert give_back not in own
    judge = as_user(pacsadmin)
    assert give_back in judge.get(reverse("job", args=[job.pk])).content.decode()
    assert b"Enter the reason why" in judge.post(give_back, {"reason": " "}, follow=True).content
    judge.post(give_back, {"reason": "too many at once"})
    job.refresh_from_db()
    assert job.state == JobState.CANCELED
    assert "too many at once" in str(job.message)
    other = make_job(coordinator, state=JobState.WAITING_FOR_APPROVAL)
    judge.post(reverse("job_action", args=[other.pk, "approve"]))
    other.refresh_from_db()
    assert (other.state, other.approved_by) == (JobState.PENDING, pacsadmin)


def test_the_page_of_a_job_that_waits_for_approval_does_not_refresh(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.WAITING_FOR_APPROVAL)
    page = as_user(coordinator).get(reverse("job", args=[job.pk]))
    assert b'http-equiv="refresh"' not in page.content


def test_a_study_can_be_removed_from_a_job_but_not_the_last_one(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.PENDING, tasks=2)
    client = as_user(coordinator)
    assert "Remove from job" in client.get(f"/jobs/{job.pk}/2/live/").content.decode()
    page = client.post(reverse("job_task_action", args=[job.pk, 2, "delete"]), follow=True)
    assert page.redirect_chain == [(reverse("job", args=[job.pk]), 302)]
    assert job.tasks.count() == 1
    assert "Remove from job" not in client.get(f"/jobs/{job.pk}/1/live/").content.decode()


def test_the_mail_button_is_shown_only_if_mail_is_enabled(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser, settings: Settings
) -> None:
    job = make_job(coordinator, state=JobState.PENDING)
    client = as_user(coordinator)
    assert "Mail me when finished" not in client.get(f"/jobs/{job.pk}/live/").content.decode()
    settings.MAIL = True
    coordinator.email = "cora@hospital.example"
    coordinator.save()
    assert "Mail me when finished" in client.get(f"/jobs/{job.pk}/live/").content.decode()
    page = client.post(reverse("job_action", args=[job.pk, "mail"]), follow=True)
    assert "Do not mail me" in page.content.decode()
    job.refresh_from_db()
    assert job.mail_at_end


def test_the_job_list_is_sorted_by_the_url_and_sets_aria_sort(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    jobs = [
        make_job(coordinator, state=state)
        for state in (JobState.SUCCESS, JobState.FAILURE, JobState.SUCCESS)
    ]
    client = as_user(coordinator)

    page = client.get(reverse("jobs"), {"sort": "state", "page": "1", "text": ""})
    assert page.context["table"].records == [jobs[1], jobs[2], jobs[0]]
    assert page.content.count(b'aria-sort="ascending"') == 1
    assert b'href="?sort=-state&amp;text="' in page.content

    page = client.get(reverse("jobs"), {"sort": "-state"})
    assert page.context["table"].records == [jobs[0], jobs[2], jobs[1]]
    assert page.content.count(b'aria-sort="descending"') == 1


def test_sorting_by_a_hidden_or_unsortable_column_is_ignored(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    jobs = [make_job(coordinator), make_job(coordinator)]
    client = as_user(coordinator)
    for name in ("owner", "-owner", "owner__password", "done"):
        page = client.get(reverse("jobs"), {"sort": name})
        assert page.context["table"].records == jobs[::-1]
        assert not page.context["table"].order_by
        assert b"aria-sort" not in page.content


def test_studies_can_be_sorted_by_state_but_not_by_encrypted_columns(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.IN_PROGRESS, tasks=3)
    Task.objects.filter(job=job, position=1).update(state=TaskState.SUCCESS)
    client = as_user(coordinator)

    def positions(sort: str) -> list[int]:
        page = client.get(reverse("job", args=[job.pk]), {"sort": sort})
        return [task.position for task in page.context["table"].records]

    assert positions("-state") == [1, 3, 2]
    for name in ("study", "pseudonym", "delivered", "payload"):
        assert positions(f"-{name}") == [1, 2, 3]


def test_the_live_fragment_keeps_page_and_sort_order(
    coordinator: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.IN_PROGRESS, tasks=51)
    page = as_user(coordinator).get(
        reverse("job", args=[job.pk]), {"sort": "-position", "page": "2"}
    )
    live = f"{reverse('job_live', args=[job.pk])}?sort=-position&amp;page=2"
    assert [task.position for task in page.context["table"].records] == [1]
    assert f'hx-get="{live}"'.encode() in page.content
    assert b'rel="prev" href="?sort=-position&amp;page=1"' in page.content


def test_series_can_be_sorted_by_counts_but_not_by_description(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    task = make_job(coordinator, state=JobState.WARNING).tasks.get()
    make_item(task, expected=3, delivered=3)
    make_item(task, expected=9, delivered=7, failed=2)
    make_item(task, skip_reason=NOT_SELECTED)
    client = as_user(coordinator)

    def numbers(sort: str) -> list[int]:
        page = client.get(reverse("job_task", args=[task.job_id, 1]), {"sort": sort})
        assert f"excluded: {NOT_SELECTED}".encode() in page.content
        return [row.item.number for row in page.context["series"].records]

    assert numbers("-failed")[0] == 2
    assert numbers("-number") == [3, 2, 1]
    assert numbers("-series") == [1, 2, 3]


def test_the_live_fragment_contains_counts_order_and_history(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    job = make_job(coordinator, state=JobState.IN_PROGRESS)
    client = as_user(coordinator)
    before = client.get(reverse("job_live", args=[job.pk])).content.decode()
    make_item(job.tasks.get(), expected=3, delivered=2)
    record("job.made_urgent", user=coordinator, about=f"job:{job.pk}", details={})

    after = client.get(reverse("job_live", args=[job.pk])).content.decode()

    assert "made urgent" not in before
    assert "<span>made urgent, " in after
    assert "of 3 images" in after
    assert after.index('id="job-live"') < after.index('id="timeline-title"')
    assert after.rstrip().endswith("</div>")
    assert after.count("<div") == after.count("</div>")


def test_an_approver_sees_reason_size_project_and_previous_orders_before_the_decision(
    coordinator: User,
    pacsadmin: User,
    make_user: Callable[..., User],
    make_job: Callable[..., Job],
    project: Project,
    source: Node,
    destination: Node,
    as_user: AsUser,
    settings: Settings,
) -> None:
    project.approval_number = "EK 2026/17"
    project.save()
    for number in range(7):
        make_job(coordinator, project=project, title=f"earlier {number}")
    make_job(coordinator, title="of no project")
    make_job(make_user("other", "Coordinators"), project=project, title="of another")
    settings.MAX_STUDIES_PER_JOB = 1
    picks = []
    for number, patient in (("1", PATIENT), ("2", "PID-2")):
        values = {
            "StudyInstanceUID": put_study(source, number, PatientID=patient),
            "PatientID": patient,
            "NumberOfStudyRelatedInstances": "3",
        }
        picks.append(PickedStudy(source.pk, Record(QueryLevel.STUDY, values)))
    job = order_job(coordinator, "selective", picks, destination.pk, project=project.pk)
    assert job.state == JobState.WAITING_FOR_APPROVAL

    page = as_user(pacsadmin).get(reverse("job", args=[job.pk])).content.decode()
    own = as_user(coordinator).get(reverse("job", args=[job.pk])).content.decode()

    card = page[page.index('id="approval"') : page.index('id="job-live"')]
    for text in (
        "The order has 2 studies. Orders of more than 1 need approval.",
        "<dt>Patients</dt><dd>2</dd>",
        "<dd>6</dd>",
        "≈",
        "Approval number: EK 2026/17",
        "Research PACS",
        "PACS1",
        "earlier 6",
        "and 2 older orders",
        reverse("job_return", args=[job.pk]),
    ):
        assert text in card, text
    for text in ("of no project", "of another", "earlier 1", PATIENT):
        assert text not in card
    assert 'id="approval"' not in own


def test_a_series_left_out_of_a_study_is_shown_with_its_name_to_those_who_may_see_it(
    coordinator: User,
    source: Node,
    destination: Node,
    project: Project,
    as_user: AsUser,
) -> None:
    study = put_study(source, "1", series=2)
    pick = PickedStudy.by_uid(source.pk, study, PATIENT, (f"{study}.2",))
    job = order_job(coordinator, "selective", [pick], destination.pk, project=project.pk)
    work()

    address = reverse("job_task", args=[job.pk, 1])
    page = as_user(coordinator).get(address).content.decode()
    assert "The series was not selected." in page
    assert "Serie 1" in page
    assert "Serie 2" in page

    coordinator.groups.get().permissions.remove(Permission.objects.get(codename="see_identified"))
    assert "Serie 1" not in as_user(coordinator).get(address).content.decode()
