"""The answer to a patient's request for access (GDPR Article 15) as a PDF file."""

from collections.abc import Iterator

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.dates import format_date, format_datetime
from adit.projects import services
from adit.projects.models import Project
from adit.recall.api_retrievals import ApiRetrieval
from adit.recall.patient_deliveries import (
    Delivery,
    PatientDeliveries,
    PatientQuestion,
)
from adit.results.pdf_writer import PdfWriter
from adit.table_files import Cell
from adit.vault.cipher import DecryptionError

MAX_IMAGES = 500
"""Images given out through the API that the PDF file names."""


def write_answer(user: User, question: PatientQuestion, found: PatientDeliveries) -> bytes:
    """Return what was delivered of the patient, why, and to whom. The export is recorded.

    The caller has checked the permission to ask about the patient.
    """
    record(
        "patient.answer_exported",
        user=user,
        details={"deliveries": len(found.deliveries)},
        patient=question.key,
    )
    writer = PdfWriter()
    writer.pdf.set_title(_("Images of a patient that were transferred"))
    writer.pdf.add_page()
    writer.add_heading(_("Images of a patient that were transferred"), 16)
    writer.add_table((), _describe_question(user, question, found), (1, 4))
    writer.add_heading(_("Transfers"), 13)
    columns = (
        *(_("Time"), _("Job"), _("Ordered by"), _("Research project"), _("Destination")),
        *(_("Images"), _("De-identified"), _("Pseudonym"), _("Recalled")),
    )
    writer.add_table(columns, map(_row, found.deliveries), (4, 2, 4, 4, 5, 2, 3, 4, 4))
    _add_given_out(writer, found.given_out)
    writer.add_heading(_("Research projects"), 13)
    for project in found.projects:
        writer.add_heading(f"{project} ({project.protocol_id})", 10)
        writer.add_table((), _describe_project(project), (1, 4))
    if not found.projects:
        writer.add_table((), (), (1,))
    return writer.finish()


def _add_given_out(writer: PdfWriter, retrievals: list[ApiRetrieval]) -> None:
    if not retrievals:
        return
    writer.add_heading(_("Images given out through the API: ask the receiver"), 13)
    rows = [
        (format_datetime(one.at), one.receiver, image.ref.instance_uid)
        for one in retrievals
        for image in one.images
    ]
    if len(rows) > MAX_IMAGES:
        more = _("and %d more: see the list of images") % (len(rows) - MAX_IMAGES)
        rows = [*rows[:MAX_IMAGES], ("", "", more)]
    columns = (_("Time"), _("Receiver"), _("UID of the image as it was sent"))
    writer.add_table(columns, rows, (3, 4, 8))


def _describe_question(
    user: User, question: PatientQuestion, found: PatientDeliveries
) -> Iterator[tuple[str, Cell]]:
    yield _("Patient ID"), question.patient_id
    yield _("Issued by"), question.domain or _("every domain")
    yield _("Created on"), format_datetime(timezone.now())
    yield _("Created by"), user.get_full_name() or user.username
    yield _("Images transferred"), sum(one.images for one in found.deliveries)
    yield _("Blocked for further transfers"), _describe_blocks(question)
    if found.unreadable:
        text = _("Studies that cannot be checked, because the key of their project is destroyed")
        yield text, found.unreadable


def _describe_blocks(question: PatientQuestion) -> str:
    default = services.default_project()
    projects = [default, *Project.objects.exclude(pk=default.pk)]
    blocked = [project for project in projects if _is_blocked(project, question)]
    if blocked == projects:
        return _("all projects")
    return ", ".join(project.protocol_id for project in blocked) or _("no")


def _is_blocked(project: Project, question: PatientQuestion) -> bool:
    who = [(domain, question.patient_id) for domain in question.find_domains()]
    try:
        return any(blocking.is_blocked(project, *one) for one in who)
    except DecryptionError:  # the merged patient IDs of the project are not known any more
        valid = BlockedPatient.objects.filter(Q(project=None) | Q(project=project), ended_at=None)
        return valid.filter(index__in=[blocking.compute_index(*one) for one in who]).exists()


def _row(delivery: Delivery) -> tuple[Cell, ...]:
    how = {True: _("yes"), False: _("no"), None: ""}[delivery.deidentified]
    return (
        format_datetime(delivery.at) if delivery.at else _("running"),
        delivery.job or "",
        delivery.person,
        delivery.project,
        delivery.destination or _("not known any more"),
        delivery.images,
        how,
        delivery.pseudonym,
        format_datetime(delivery.recalled_at) if delivery.recalled_at else "",
    )


def _describe_project(project: Project) -> list[tuple[str, Cell]]:
    return [
        (_("Purpose"), project.purpose),
        (_("Legal basis"), project.legal_basis),
        (_("Responsible person"), project.responsible),
        (_("Recipient"), project.recipient),
        (_("Approval number"), project.approval_number),
        (
            _("Data must be deleted by"),
            format_date(project.deletion_on) if project.deletion_on else "",
        ),
    ]
