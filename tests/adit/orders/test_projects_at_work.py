"""Jobs of a research project: risk decisions, counts, limits, end of the project, UID map."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from lab import samples
from lab.jobs import PATIENT, GatedNode, put_study, shelf, until, work
from lab.ordering import order_job

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs import maintenance, queue
from adit.jobs.actions import perform
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, JobState, Task, TaskState
from adit.nodes.models import Node
from adit.projects.models import Project, RiskChoice
from adit.projects.services import revoke_project
from adit.results import uid_map
from adit.results.report import build_report
from adit.worker import runner
from adit_engine.nodes.memory import MemoryNode

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]
HEAD = {"BodyPartExamined": "HEAD", "StudyDescription": "CCT", "SliceThickness": "1.0"}


@pytest.fixture
def order(coordinator: User, source: Node, destination: Node, project: Project) -> Ordering:
    """Order one study for the project: order("1", images=3, listed=True, …).

    With listed=True the source has the study when it is ordered, so that the order announces
    what will be withheld.
    """

    def order(study: str = "1", images: int = 3, listed: bool = False, **changes: Any) -> Job:
        pick = PickedStudy.by_uid(source.pk, f"{samples.ROOT}.{study}", PATIENT)
        if listed:
            put_study(source, study, images, **changes)
        ids = {"project": project.pk, "key": f"{study}{listed}"}
        job = order_job(coordinator, "selective", [pick], destination.pk, **ids)
        put_study(source, study, images, **changes)
        return job

    return order


def elements(job: Job) -> dict[tuple[str, str], int]:
    rows = build_report(Job.objects.get(pk=job.pk))["elements"]
    return {(row["name"], row["action"]): row["count"] for row in rows}


# Images that may show a face ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "words"),
    [("", "has no decision"), (RiskChoice.WITHHOLD, "could be reconstructed")],
)
def test_face_images_are_withheld_unless_the_project_accepts_the_risk(
    order: Ordering, project: Project, destination: Node, chosen: str, words: str
) -> None:
    Project.objects.filter(pk=project.pk).update(faces=chosen)
    job = order(**HEAD)

    task = work()

    assert task is not None
    assert (task.state, shelf(destination)) == (TaskState.FAILURE, {})
    assert words in str(task.message)
    assert build_report(job)["faces"] == {"accepted": 0, "withheld": 3}


def test_a_task_succeeds_if_its_withheld_face_images_were_announced(
    order: Ordering, project: Project
) -> None:
    Project.objects.filter(pk=project.pk).update(faces=RiskChoice.WITHHOLD)
    order(listed=True, **HEAD)

    task = work()

    assert task is not None
    assert task.state == TaskState.SUCCESS


def test_the_report_counts_accepted_face_images_and_gives_the_reason(
    order: Ordering, project: Project, destination: Node
) -> None:
    Project.objects.filter(pk=project.pk).update(
        faces=RiskChoice.ACCEPT, faces_reason="the ethics board has agreed"
    )
    job = order(**HEAD)

    work()

    assert len(shelf(destination)) == 3
    report = build_report(Job.objects.get(pk=job.pk))
    assert report["faces"] == {"accepted": 3, "withheld": 0}
    (rules,) = report["rules"]
    assert (rules["faces"], rules["faces_reason"]) == ("accept", "the ethics board has agreed")


# Radiographs cleared only by their header ---------------------------------------------------------

RADIOGRAPH = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
    "Modality": "CR",
    "BurnedInAnnotation": "NO",
}


@pytest.mark.parametrize(
    ("chosen", "words"),
    [("", "a manager of research projects"), (RiskChoice.WITHHOLD, "Ask a reviewer to decide")],
)
def test_radiographs_are_withheld_unless_the_project_accepts_the_risk(
    order: Ordering, project: Project, destination: Node, chosen: str, words: str
) -> None:
    Project.objects.filter(pk=project.pk).update(header_word=chosen)
    job = order(**RADIOGRAPH)

    task = work()

    assert task is not None
    assert (task.state, shelf(destination)) == (TaskState.FAILURE, {})
    assert words in str(task.message)
    assert build_report(job)["header_word"] == {"accepted": 0, "withheld": 3}


def test_a_task_succeeds_if_its_withheld_radiographs_were_announced(order: Ordering) -> None:
    order(listed=True, **RADIOGRAPH)

    task = work()

    assert task is not None
    assert task.state == TaskState.SUCCESS


def test_the_report_counts_accepted_radiographs_and_gives_the_reason(
    order: Ordering, project: Project, destination: Node
) -> None:
    Project.objects.filter(pk=project.pk).update(
        header_word=RiskChoice.ACCEPT, header_word_reason="phantoms alone"
    )
    job = order(**RADIOGRAPH)

    work()

    assert len(shelf(destination)) == 3
    report = build_report(Job.objects.get(pk=job.pk))
    assert report["header_word"] == {"accepted": 3, "withheld": 0}
    (rules,) = report["rules"]
    assert (rules["header_word"], rules["header_word_reason"]) == ("accept", "phantoms alone")


def test_a_retry_delivers_withheld_radiographs_after_the_risk_is_accepted(
    order: Ordering, project: Project, destination: Node
) -> None:
    job = order(**RADIOGRAPH)
    work()
    Project.objects.filter(pk=project.pk).update(
        header_word=RiskChoice.ACCEPT, header_word_reason="phantoms alone"
    )

    perform(job.owner, Job.objects.get(pk=job.pk), "retry_withheld")
    work()

    assert len(shelf(destination)) == 3


# Counts -------------------------------------------------------------------------------------------


def test_the_report_counts_actions_per_element_over_delivered_images(order: Ordering) -> None:
    job = order(images=3)
    work()

    done = elements(job)

    assert done["SOPInstanceUID", "new UID"] == 3
    assert done["StudyDate", "date shifted"] == 3
    assert done["PatientName", "replaced"] == 3
    assert done["InstitutionName", "removed"] == 3
    assert done["SOPClassUID", "kept"] == 3


def test_withheld_images_are_not_counted(order: Ordering, source: Node) -> None:
    job = order(images=2)
    burned = samples.instance(samples.ct(3, BurnedInAnnotation="YES"))
    MemoryNode.shelves[source.name][burned.instance_uid] = burned
    work()

    assert elements(job)["SOPInstanceUID", "new UID"] == 2


def test_counts_stay_correct_after_a_lost_lease_and_a_restart(
    order: Ordering, gated: type[GatedNode], root: User, destination: Node
) -> None:
    """The first attempt loses its lease after some images; the second delivers the rest."""
    job = order(images=5)
    task = queue.claim("first")
    assert task is not None
    for _ in range(3):
        gated.gate.release()
    thread = _in_thread(task)
    until(lambda: len(shelf(destination)) >= 1)
    Task.objects.filter(pk=task.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    queue.sweep()
    thread.join(20)
    for _ in range(20):
        gated.gate.release()

    again = work("second")

    assert again is not None
    assert (again.attempt, again.state) == (2, TaskState.SUCCESS)
    done = elements(job)
    assert done["SOPInstanceUID", "new UID"] == done["PatientName", "replaced"] == 5
    perform(root, Job.objects.get(pk=job.pk), "restart")
    assert elements(job) == {}
    for _ in range(20):
        gated.gate.release()
    work()
    assert elements(job) == done


def _in_thread(task: Task) -> threading.Thread:
    def run() -> None:
        try:
            runner.run_task(task)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


# Limits and end of a project ----------------------------------------------------------------------


def test_series_of_modalities_outside_the_project_are_left_out_with_a_reason(
    order: Ordering, project: Project, destination: Node
) -> None:
    Project.objects.filter(pk=project.pk).update(modalities="MR, PT")
    job = order()

    work()

    assert not shelf(destination)
    (study,) = build_report(Job.objects.get(pk=job.pk))["studies"]
    reasons = [series["left_out"] for series in study["series"]]
    assert {reason["code"] for reason in reasons} == {"left-out.modality"}
    assert reasons[0]["values"] == {"modalities": ["MR", "PT"]}


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_pending_tasks_of_an_ended_project_fail_with_a_message(
    order: Ordering, root: User, project: Project, how: str
) -> None:
    job = order()
    _end(root, project, how)

    assert maintenance.fail_tasks_of_ended_projects() == 1

    task = Task.objects.get()
    job.refresh_from_db()
    assert (task.state, job.state) == (TaskState.FAILURE, JobState.FAILURE)
    assert "LUNG" in str(task.message)
    assert maintenance.fail_tasks_of_ended_projects() == 0


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_running_task_of_an_ended_project_stops_between_two_images(
    order: Ordering,
    root: User,
    project: Project,
    gated: type[GatedNode],
    destination: Node,
    how: str,
) -> None:
    order(images=5)
    task = queue.claim("first")
    assert task is not None
    for _ in range(2):
        gated.gate.release()
    thread = _in_thread(task)
    until(lambda: len(shelf(destination)) >= 1)

    _end(root, project, how)
    thread.join(20)

    task = Task.objects.get()
    assert (thread.is_alive(), task.state) == (False, TaskState.FAILURE)
    assert "LUNG" in str(task.message)
    assert len(shelf(destination)) < 5


def test_a_retry_succeeds_after_the_project_is_extended(
    order: Ordering, root: User, project: Project, destination: Node
) -> None:
    job = order()
    _end(root, project, "expired")
    maintenance.fail_tasks_of_ended_projects()
    Project.objects.filter(pk=project.pk).update(expires_on=None)

    perform(job.owner, Job.objects.get(pk=job.pk), "retry")
    work()

    assert len(shelf(destination)) == 3


def _end(root: User, project: Project, how: str) -> None:
    if how == "revoked":
        revoke_project(root, Project.objects.get(pk=project.pk))
    else:
        yesterday = timezone.localdate() - timedelta(days=1)
        Project.objects.filter(pk=project.pk).update(expires_on=yesterday)


# UID map ------------------------------------------------------------------------------------------


def test_the_uid_map_pairs_each_original_uid_with_its_new_uid(
    order: Ordering, root: User, project: Project, destination: Node
) -> None:
    order(images=2)
    work()

    rows = uid_map.export_uid_map(root, project, "audit of 2026")

    arrived = {one.in_header.ref.instance_uid for one in shelf(destination).values()}
    images = {old: new for level, old, new, _name, _generation in rows if level == "image"}
    assert set(images) == {f"{samples.ROOT}.1.1.{number}" for number in (1, 2)}
    assert set(images.values()) == arrived
    assert [row[0] for row in rows] == ["study", "series", "image", "image"]
    assert {row[3] for row in rows} == {"LUNG-0001"}
    event = AuditEvent.objects.get(action="project.uids_exported")
    assert event.details == {"reason": "audit of 2026", "uids": 4}


def test_the_uid_map_requires_permission_and_reason_and_is_a_csv_file(
    order: Ordering, root: User, coordinator: User, project: Project
) -> None:
    order()
    work()
    with pytest.raises(NotPermitted):
        uid_map.export_uid_map(coordinator, project, "x")
    client = Client()
    client.force_login(root)
    path = f"/jobs/uids/{project.pk}/"
    assert client.post(path, {"reason": " "}).status_code == 422
    answer = client.post(path, {"reason": "audit"})
    assert answer["Content-Type"].startswith("text/csv")
    assert '"id_old","id_new"' in answer.getvalue().decode()
