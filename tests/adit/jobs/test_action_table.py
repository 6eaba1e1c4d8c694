"""The table of actions determines buttons, endpoints, errors, the timeline and the help page."""

import pytest
from django.test import Client
from django.urls import reverse

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.jobs import actions
from adit.jobs.actions import Action, ActionRequest, ReasonPrompt, register
from adit.jobs.models import Job, JobState, TaskState
from adit.jobs.views.timeline import get_timeline
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db(transaction=True)

EXPECTED_JOB_ACTIONS = [
    "approve",
    "return",
    "resume",
    "retry",
    "retry_withheld",
    "urgent",
    "mail",
    "no_mail",
    "cancel",
    "restart",
    "delete",
    "archive",
    "unarchive",
]


def rename(request: ActionRequest) -> dict[str, str]:
    Job.objects.filter(pk=request.job.pk).update(title=request.reason or "renamed")
    return {"was": request.job.title}


TITLED = Message("text", text="It has the title already.")


@pytest.fixture
def new_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "_JOB_ACTIONS", dict(actions._JOB_ACTIONS))
    monkeypatch.setattr(actions, "_TASK_ACTIONS", dict(actions._TASK_ACTIONS))
    register(
        Action(
            name="rename",
            label="Rename it",
            order=1,
            execute=rename,
            event="job.renamed",
            event_label="got another title",
            success_message="The job has another title.",
            job_states=frozenset({JobState.PENDING}),
            condition=lambda request: TITLED if request.job.title else None,
            confirmation="Rename this job?",
            help="Gives the job a title.",
        ),
        Action(
            name="name",
            label="Name it",
            order=2,
            execute=rename,
            event="job.named",
            event_label="got a title",
            success_message="The job has a title.",
            job_states=frozenset({JobState.PENDING}),
            reason_prompt=ReasonPrompt("Which title?", Message("text", text="Enter a title.")),
        ),
        Action(
            name="rename",
            label="Rename the job of this study",
            order=1,
            execute=rename,
            event="task.renamed",
            event_label="got a title from a study",
            success_message="Renamed from the study.",
            job_states=frozenset(JobState),
            task_states=frozenset({TaskState.PENDING}),
        ),
    )


def test_the_apps_register_all_actions_in_order() -> None:
    assert list(actions.job_actions()) == EXPECTED_JOB_ACTIONS
    assert list(actions.task_actions()) == ["retry", "stop", "reset", "delete"]


def test_two_actions_with_the_same_name_cannot_be_registered(new_actions: None) -> None:
    action = actions.job_actions()["rename"]
    register(action)
    with pytest.raises(ValueError, match="registered twice"):
        register(
            Action(
                name="rename",
                label="",
                order=1,
                execute=rename,
                event="",
                event_label="",
                success_message="",
                job_states=frozenset(),
            )
        )


def test_a_registered_action_has_button_endpoint_help_and_timeline_entry(
    new_actions: None, order_studies, coordinator: User, client: Client
) -> None:
    job = order_studies("1", images=1)
    client.force_login(coordinator)
    url = reverse("job_action", args=[job.pk, "rename"])
    page = client.get(reverse("job", args=[job.pk])).content.decode()
    assert f'action="{url}" data-ask="Rename this job?"' in page
    help_page = client.get(reverse("help_topic", args=["jobs"])).content.decode()
    assert "<dt>Rename it</dt><dd>Gives the job a title.</dd>" in help_page
    answer = client.post(url, follow=True).content.decode()
    assert "The job has another title." in answer
    assert "got another title" in answer
    assert url not in answer
    with pytest.raises(NotPermitted, match="has the title already"):
        actions.perform(coordinator, job, "rename")
    Job.objects.update(state=JobState.SUCCESS)
    with pytest.raises(NotPermitted, match="“complete”"):
        actions.perform(coordinator, job, "rename")
    assert get_timeline(job)[0].text == "got another title"


def test_an_action_with_a_reason_prompt_has_a_form_and_requires_the_reason(
    new_actions: None, order_studies, coordinator: User, client: Client
) -> None:
    job = order_studies("1", images=1)
    client.force_login(coordinator)
    url = reverse("job_action", args=[job.pk, "name"])
    page = client.get(reverse("job", args=[job.pk])).content.decode()
    assert "Which title?" in page
    assert page.count(url) == 1
    assert "Enter a title." in client.post(url, follow=True).content.decode()
    with pytest.raises(InvalidInput, match="Enter a title"):
        actions.perform(coordinator, job, "name")
    client.post(url, {"reason": " night shift "})
    job.refresh_from_db()
    assert job.title == "night shift"


def test_a_registered_task_action_has_a_button_and_an_endpoint(
    new_actions: None, order_studies, coordinator: User, client: Client
) -> None:
    job = order_studies("1", images=1)
    client.force_login(coordinator)
    url = reverse("job_task_action", args=[job.pk, 1, "rename"])
    page = client.get(reverse("job_task", args=[job.pk, 1])).content.decode()
    assert "Rename the job of this study" in page
    assert url in page
    assert "Renamed from the study." in client.post(url, follow=True).content.decode()
    job.refresh_from_db()
    assert job.title == "renamed"


def test_an_action_with_its_own_page_has_no_direct_endpoint(
    order_studies, coordinator: User, client: Client
) -> None:
    job = order_studies("1", images=1)
    Job.objects.update(state=JobState.SUCCESS)
    client.force_login(coordinator)
    assert client.post(reverse("job_action", args=[job.pk, "delete"])).status_code == 404
    page = client.get(reverse("job", args=[job.pk])).content.decode()
    assert f'href="{reverse("job_delete", args=[job.pk])}"' in page
    assert Job.objects.exists()
