"""A success with withheld images is never called "complete" on pages, in reports or mails."""

import json
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from adit.accounts.models import User
from adit.audit.trail import record
from adit.jobs import notifications, progress
from adit.jobs.models import Job, JobMail, JobState, SeriesResult
from adit_engine.messages import Message

AsUser = Callable[[User | None], Client]
WORDS = "nothing to deliver (all images withheld)"
BADGE = f'<use href="/static/vendor/icons/icons.svg#circle-dashed"></use></svg>{WORDS}</span>'


@pytest.fixture
def job(
    coordinator: User, make_job: Callable[..., Job], make_item: Callable[..., SeriesResult]
) -> Job:
    """A job whose images were all withheld as announced."""
    message = Message("delivery.all-withheld", count=12)
    job = make_job(coordinator, state=JobState.SUCCESS, message=message)
    make_item(job.tasks.get(), expected=12, withheld=12, reasons=[(Message("face"), 12)])
    return job


def is_said(page: str) -> bool:
    assert "</svg>complete</span>" not in page
    return BADGE in page


@pytest.mark.parametrize("path", ["/jobs/", "/", "/jobs/{}/", "/jobs/{}/1/", "/jobs/{}/report/"])
def test_pages_show_that_nothing_was_delivered(
    path: str, coordinator: User, job: Job, as_user: AsUser
) -> None:
    page = as_user(coordinator).get(path.format(job.pk)).content.decode()

    assert is_said(page)


def test_the_home_page_shows_why_nothing_was_delivered(
    coordinator: User, job: Job, as_user: AsUser
) -> None:
    assert str(job.message) in as_user(coordinator).get("/").content.decode()


def test_the_timeline_shows_for_task_and_job_that_nothing_was_delivered(
    coordinator: User, job: Job, as_user: AsUser
) -> None:
    Job.objects.filter(pk=job.pk).update(ended_at=timezone.now())
    details = {"task": 1, "state": "success", "delivered": 0, "withheld": 12, "skipped": 0}
    record("task.ended", user=coordinator, about=f"job:{job.pk}", details=details)

    page = as_user(coordinator).get(f"/jobs/{job.pk}/").content.decode()

    assert f"task 1 finished: {WORDS}" in page
    assert f"<span>finished: {WORDS}" in page


def test_the_report_has_a_field_nothing_delivered(
    coordinator: User, job: Job, as_user: AsUser
) -> None:
    told = json.loads(as_user(coordinator).get(f"/jobs/{job.pk}/report.json").getvalue())

    assert (told["job"]["state"], told["job"]["nothing_delivered"]) == ("success", True)
    assert [study["nothing_delivered"] for study in told["studies"]] == [True]


def test_the_mail_states_that_nothing_was_delivered(job: Job) -> None:
    letter = JobMail(
        job=job, reason=JobMail.Reason.ENDED, number=1, state="success", address="a@b.example"
    )

    subject, text = notifications._compose(letter)

    assert subject == f"job {job.pk} is finished: {WORDS}"
    assert f"is finished: {WORDS}." in text


@pytest.mark.parametrize(
    ("delivered", "words"),
    [(11, "Delivered as ordered, 1 withheld"), (12, "complete")],
    ids=["one withheld", "all delivered"],
)
def test_only_a_job_that_delivered_every_image_is_complete(
    delivered: int,
    words: str,
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    job = make_job(coordinator, state=JobState.SUCCESS)
    make_item(job.tasks.get(), expected=12, delivered=delivered, withheld=12 - delivered)
    client = as_user(coordinator)

    for path in ("/jobs/", f"/jobs/{job.pk}/", f"/jobs/{job.pk}/1/"):
        page = client.get(path).content.decode()
        assert f"</svg>{words}</span>" in page
        assert BADGE not in page
        assert ("</svg>complete</span>" in page) == (words == "complete")
    told = json.loads(client.get(f"/jobs/{job.pk}/report.json").getvalue())
    assert not told["job"]["nothing_delivered"]
    assert not told["studies"][0]["nothing_delivered"]


def test_list_pages_timeline_and_mail_say_how_many_images_were_withheld_as_announced(
    coordinator: User,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    as_user: AsUser,
) -> None:
    job = make_job(coordinator, state=JobState.SUCCESS, ended_at=timezone.now())
    make_item(job.tasks.get(), expected=12, delivered=11, withheld=1)
    details = {"task": 1, "state": "success", "delivered": 11, "withheld": 1, "skipped": 0}
    record("task.ended", user=coordinator, about=f"job:{job.pk}", details=details)
    client = as_user(coordinator)

    for path in ("/jobs/", "/", f"/jobs/{job.pk}/", f"/jobs/{job.pk}/1/"):
        page = client.get(path).content.decode()
        assert "</svg>Delivered as ordered, 1 withheld</span>" in page, path
        assert "</svg>complete</span>" not in page
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "<span>finished: Delivered as ordered, 1 withheld" in page
    assert "task 1 finished: Delivered as ordered, 1 withheld" in page
    mail = JobMail(job=job, reason="ended", number=1, state="success", address="a@b.example")
    subject, _text = notifications._compose(mail)
    assert subject == f"job {job.pk} is finished: Delivered as ordered, 1 withheld"


def test_a_job_without_results_is_complete(coordinator: User, make_job: Callable[..., Job]) -> None:
    """For example a query: there was nothing to deliver or withhold."""
    assert make_job(coordinator, state=JobState.SUCCESS).state_text == "complete"


def test_the_state_texts_of_many_jobs_need_one_query(
    coordinator: User,
    job: Job,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
) -> None:
    made = [make_job(coordinator, state=state) for state in (JobState.SUCCESS, JobState.FAILURE)]
    for one in made:
        make_item(one.tasks.get(), expected=3, delivered=3)
    partial = make_job(coordinator, state=JobState.SUCCESS)
    make_item(partial.tasks.get(), expected=3, delivered=1, withheld=2)
    jobs = list(Job.objects.all())
    with CaptureQueriesContext(
        connection,
    ) as asked:
        progress.set_delivered_counts(jobs)
        words = {one.pk: one.state_text for one in jobs}

    assert len(asked) == 1
    assert words == {
        job.pk: WORDS,
        made[0].pk: "complete",
        made[1].pk: "failed",
        partial.pk: "Delivered as ordered, 2 withheld",
    }
