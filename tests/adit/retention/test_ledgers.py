"""The ledger of a job outlives the job, and a change in it is found."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from lab.jobs import PATIENT
from pydicom import dcmread

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs.actions import perform
from adit.jobs.models import DeliveredSeries, Job
from adit.nodes.models import Node
from adit.projects.key_destruction import destroy_key
from adit.projects.models import Project
from adit.retention import cleaning, ledgers
from adit.retention.models import JobLedger, LedgerPart
from adit.vault.cipher import DecryptionError

pytestmark = pytest.mark.django_db(transaction=True)


def expire_all() -> None:
    with time_machine.travel(timezone.now() + timedelta(days=800), tick=True):
        cleaning.clean_all()


def faults() -> list[str]:
    return [str(fault.reason) for fault in ledgers.verify_ledgers()]


def test_the_ledger_says_what_the_deleted_job_delivered_where_and_by_whom(
    deliver: Callable[..., Job], folder_node: Node, project: Project
) -> None:
    job = deliver("1", "2")

    expire_all()

    assert not Job.objects.filter(pk=job.pk).exists()
    ledger = JobLedger.objects.get(job=job.pk)
    assert (ledger.destination, ledger.ordered_by, ledger.images) == (
        folder_node.name,
        job.owner,
        4,
    )
    assert (ledger.project, ledger.ended_at) == (project, job.ended_at)
    deliveries = [ledgers.open_part(part) for part in ledgers.sealed_parts(project)]
    assert {(one.domain, one.patient_id) for one in deliveries} == {("PACS1", PATIENT)}
    assert {one.pseudonym for one in deliveries} == {project.patients.get().pseudonym}
    images = [image for one in deliveries for image in one.images]
    files = {image.path for image in images}
    assert len(files) == 4
    for image in images:
        header = dcmread(Path(folder_node.settings["path"]) / image.path)
        assert (header.SOPInstanceUID, header.StudyInstanceUID) == (
            image.image_uid,
            image.study_uid,
        )
        assert image.is_confirmed
        assert len(image.sha256) == 64
    event = AuditEvent.objects.get(action="job.expired")
    assert (event.about, event.details["ledger"]) == (f"job:{job.pk}", ledger.hash)
    assert PATIENT not in str(event.details)
    assert DeliveredSeries.objects.filter(project=project, job=None).count() == 2
    assert faults() == []


@pytest.mark.parametrize("change", ["part", "header", "removed part", "resigned", "removed"])
def test_verification_finds_a_change_of_a_sealed_ledger(
    change: str, deliver: Callable[..., Job], root: User, as_user: Callable[..., Client]
) -> None:
    number = deliver("1").pk
    expire_all()
    ledger, part = JobLedger.objects.get(), LedgerPart.objects.get()
    if change == "part":
        sealed = bytearray(part.sealed)
        sealed[-1] ^= 1
        LedgerPart.objects.update(sealed=bytes(sealed))
    elif change == "header":
        JobLedger.objects.update(images=1)
    elif change == "removed part":
        part.delete()
    elif change == "resigned":  # with the key, but not in the trail
        ledger.images = 1
        ledgers.seal_ledger(ledger)
        ledger.save()
    else:
        ledger.delete()

    word = "is missing" if change == "removed" else "was changed"
    said = f"The ledger of the deleted job {number} {word}."
    assert [text[: len(said)] for text in faults()] == [said]
    with pytest.raises(CommandError, match=word):
        call_command("retention", "verify")
    page = as_user(root).post(reverse("retention_ledgers"), follow=True)
    assert said in page.content.decode()


def test_the_patients_of_a_ledger_go_with_the_key_of_the_project(
    deliver: Callable[..., Job], project: Project, root: User
) -> None:
    deliver("1")
    expire_all()

    destroy_key(root, project, "end of the study", project.protocol_id)

    part = ledgers.sealed_parts().get()
    with pytest.raises(DecryptionError):
        ledgers.open_part(part)
    assert faults() == [], "the ledger itself is unchanged"


def test_a_job_whose_key_was_destroyed_before_leaves_its_counts(
    deliver: Callable[..., Job], project: Project, root: User
) -> None:
    deliver("1")
    destroy_key(root, project, "end of the study", project.protocol_id)

    expire_all()

    ledger = JobLedger.objects.get()
    assert (ledger.images, ledger.parts.count()) == (2, 0)
    assert not Job.objects.exists()
    assert faults() == []


def test_a_job_that_is_retried_while_its_ledger_is_written_stays(
    deliver: Callable[..., Job], root: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = deliver("1"), ledgers.write_ledger

    def write_and_restart(job: Job) -> Any:
        ledger = real(job)
        perform(root, Job.objects.get(pk=job.pk), "restart")
        return ledger

    monkeypatch.setattr(ledgers, "write_ledger", write_and_restart)
    expire_all()

    job.refresh_from_db()
    assert job.state == "pending"
    assert job.tasks.count() == 1
    assert not JobLedger.objects.exists()
    assert not AuditEvent.objects.filter(action="job.expired").exists()


def test_a_crash_before_the_deletion_leaves_the_job_and_the_next_cleaning_completes_it(
    deliver: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(_ledger: object) -> str:
        raise Killed

    deliver("1", "2")
    with monkeypatch.context() as patch:
        patch.setattr(ledgers, "seal_ledger", die)
        with pytest.raises(Killed):
            expire_all()
    assert Job.objects.count() == 1
    assert not ledgers.sealed_parts().exists(), "an unsealed ledger must not be read"

    expire_all()

    assert not Job.objects.exists()
    assert ledgers.sealed_parts().count() == 2
    assert faults() == []
