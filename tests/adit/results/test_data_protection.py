"""Export of research projects for the data protection officer, as a PDF file and a workbook."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import openpyxl
import pytest
from django.test import Client
from django.utils import timezone
from pypdf import PdfReader

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs.models import Job, SeriesResult
from adit.projects.models import Project
from adit.projects.pseudonyms import get_or_create_pseudonym
from adit.results import pdf_writer

pytestmark = pytest.mark.django_db

ADDRESS = "/jobs/data-protection/"
CANARIES = ("PID-0815", "Canary", "LUNG-0001")


@pytest.fixture
def transfer(
    coordinator: User,
    dpo: User,
    project: Project,
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
) -> Job:
    """An approved transfer of two studies, with patient data in every place that can hold some."""
    project.responsible = "Jürgen Müller, Łódź"
    project.purpose = "Ελληνικά и русский"
    project.save()
    get_or_create_pseudonym(project, "PACS1", "PID-0815")
    labels = {"patient_name": "Canary^Anna"}
    job = make_job(
        coordinator, project=project, tasks=2, labels=labels, title="Canary", approved_by=dpo
    )
    make_item(job.tasks.all()[0], delivered=120, withheld=3, description="Canary thorax")
    make_item(job.tasks.all()[1], delivered=4, failed=1)
    return job


def read_pdf(answer: Any) -> str:
    assert answer["Content-Type"] == "application/pdf"
    pages = PdfReader(io.BytesIO(answer.content)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def read_sheets(answer: Any) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    rows = [tuple(cell.value for cell in line) for line in book.worksheets[0].iter_rows()]
    facts = {line[0].value: line[1].value for line in book.worksheets[1].iter_rows()}
    return rows, facts


def test_the_files_say_what_was_sent_by_whom_and_how_many_and_name_no_patient(
    dpo: User, project: Project, transfer: Job, as_user: Callable[..., Client]
) -> None:
    client = as_user(dpo)
    pdf = read_pdf(client.post(ADDRESS, {"project": project.pk, "form": "pdf"}))
    rows, facts = read_sheets(client.post(ADDRESS, {"project": project.pk, "form": "xlsx"}))

    _header, (*_, delivered, withheld, failed, approved_by) = rows
    assert rows[1][:2] == ("LUNG", transfer.pk)
    assert (delivered, withheld, failed, approved_by) == (124, 3, 1, "dpo")
    assert facts["Responsible"] == "Jürgen Müller, Łódź"
    assert facts["Members"] == "Coordinators: coordinator"
    assert (facts["Patients with a pseudonym"], facts["Images delivered"]) == (1, 124)
    for shown in (
        *("Jürgen Müller, Łódź", "Ελληνικά и русский", "Coordinators: coordinator"),
        *("PACS1", "Research PACS", "124", "project.created"),
    ):
        assert shown in pdf
    for canary in CANARIES:
        assert canary not in pdf
        assert canary not in f"{rows} {facts}"
    assert [
        (event.user, event.about, event.details["format"])
        for event in AuditEvent.objects.filter(action="project.record_exported")
    ] == [(dpo, "project:LUNG", "pdf"), (dpo, "project:LUNG", "xlsx")]


def test_a_period_contains_only_the_transfers_ordered_in_it(
    dpo: User,
    project: Project,
    transfer: Job,
    make_job: Callable[..., Job],
    as_user: Callable[..., Client],
) -> None:
    old = make_job(dpo, project=project)
    Job.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=30))
    today = timezone.localdate()
    last_month = (today - timedelta(days=40)).isoformat()
    yesterday = (today - timedelta(days=1)).isoformat()

    def numbers(since: str, until: str) -> list[Any]:
        asked = {"since": since, "until": until, "form": "xlsx"}
        return [row[1] for row in read_sheets(as_user(dpo).post(ADDRESS, asked))[0][1:]]

    assert numbers(last_month, yesterday) == [old.pk]
    assert numbers(today.isoformat(), today.isoformat()) == [transfer.pk]
    assert numbers("", "") == [transfer.pk, old.pk]
    refused = as_user(dpo).post(ADDRESS, {"since": "2026-02-01", "until": "2026-01-01"})
    assert refused.status_code == 422


def test_the_pdf_marks_characters_it_cannot_show_and_rows_it_leaves_out(
    dpo: User,
    project: Project,
    transfer: Job,
    make_job: Callable[..., Job],
    as_user: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pdf_writer, "MAX_PDF_ROWS", 40)
    Project.objects.filter(pk=project.pk).update(sponsor="日本 Hospital")
    for _ in range(40):
        make_job(dpo, project=project)

    pdf = read_pdf(as_user(dpo).post(ADDRESS, {"project": project.pk, "form": "pdf"}))

    assert "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} Hospital" in pdf
    assert "stands for a character that this file cannot show" in pdf
    assert "Only the first 40 rows are shown" in pdf


@pytest.mark.parametrize("form", ["pdf", "xlsx"])
def test_only_managers_of_research_projects_export(
    form: str, coordinator: User, project: Project, as_user: Callable[..., Client]
) -> None:
    answer = as_user(coordinator).post(ADDRESS, {"project": project.pk, "form": form})

    assert answer.status_code == 403
    assert not AuditEvent.objects.filter(action="project.record_exported").exists()
