"""The ethics approval of a project: upload, checks, encryption, download."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.projects import approval_documents
from adit.projects.models import Project

pytestmark = pytest.mark.django_db

PDF = b"%PDF-1.7\n\xe2\xe3\n<</Title (Votum)>>\nstartxref\n0\n%%EOF\n"


def upload(client: Client, project: Project, data: bytes, name: str = "votum.pdf") -> Any:
    file = SimpleUploadedFile(name, data, "application/pdf")
    return client.post(f"/projects/{project.pk}/approval/", {"file": file})


def test_members_download_the_stored_document_as_an_attachment(
    dpo: User, coordinator: User, stranger: User, project: Project, as_user: Callable[..., Client]
) -> None:
    assert upload(as_user(dpo), project, b"%PDF-1.4 an old one %%EOF").status_code == 302
    assert upload(as_user(dpo), project, PDF).status_code == 302

    address = f"/projects/{project.pk}/approval.pdf"
    answer = as_user(coordinator).get(address)
    assert answer.content == PDF
    assert answer["Content-Type"] == "application/pdf"
    assert answer["Content-Disposition"] == 'attachment; filename="LUNG-approval.pdf"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert address in as_user(coordinator).get(f"/projects/{project.pk}/").content.decode()
    assert as_user(stranger).get(address).status_code == 404
    event = AuditEvent.objects.filter(action="project.document_stored").order_by("pk").last()
    assert event is not None
    assert (event.user, event.about, event.details["bytes"]) == (dpo, "project:LUNG", len(PDF))


def test_the_document_is_encrypted_in_the_database(
    dpo: User, project: Project, as_user: Callable[..., Client]
) -> None:
    upload(as_user(dpo), project, PDF)

    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM projects_approvaldocument")
        ((stored,),) = cursor.fetchall()
    assert b"Votum" not in bytes(stored)
    assert b"JVBERi0" not in bytes(stored), "the beginning of the file in base64"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<script>alert(1)</script>%%EOF", "not a complete PDF file"),
        (b"\n" + PDF, "not a complete PDF file"),
        (PDF.replace(b"%%EOF", b""), "not a complete PDF file"),
        (PDF + b" " * 2000, "not a complete PDF file"),
        (b"", "empty"),
        (PDF[:20] + b" " * approval_documents.MAX_BYTES + PDF, "larger than 5 MB"),
        (PDF[:20] + b" " * 7_000_000 + PDF, "larger than 5 MB"),
    ],
)
def test_a_file_that_is_no_pdf_or_too_large_is_refused(
    dpo: User, project: Project, as_user: Callable[..., Client], data: bytes, text: str
) -> None:
    answer = upload(as_user(dpo), project, data)

    page = answer.content.decode()
    assert answer.status_code == 422
    assert text in page
    assert "This field is required" not in page
    assert "not scan files for viruses" in page
    assert as_user(dpo).get(f"/projects/{project.pk}/approval.pdf").status_code == 404


def test_members_cannot_upload_a_document(
    coordinator: User, project: Project, as_user: Callable[..., Client]
) -> None:
    assert upload(as_user(coordinator), project, PDF).status_code == 403
    assert as_user(coordinator).get(f"/projects/{project.pk}/approval.pdf").status_code == 404
