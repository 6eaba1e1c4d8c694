"""Store and read the ethics approval of a project as a PDF file. Used by the pages of projects.

The file is encrypted in the database. It is not scanned for viruses.
"""

from base64 import b64decode, b64encode
from hashlib import sha256

from django.db import transaction

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.trail import record
from adit.projects.models import ApprovalDocument, Project
from adit.projects.services import audit_subject
from adit_engine.errors import InvalidInput

MAX_BYTES = 5_000_000
"""Less than FILE_UPLOAD_MAX_MEMORY_SIZE: longer files are not received."""
_START, _END = b"%PDF-", b"%%EOF"
_END_WITHIN = 1024
"""Readers accept other bytes after the end, such as line breaks (ISO 32000-1 Annex H.3.4.4)."""


def store_document(user: AnyUser, project: Project, name: str, data: bytes) -> None:
    """Store the file in place of the previous one. Raises NotPermitted, InvalidInput."""
    require(user, Right.MANAGE_PROJECTS)
    if len(data) > MAX_BYTES:
        raise InvalidInput("project.document-too-large", limit=MAX_BYTES // 1_000_000)
    if not data.startswith(_START) or _END not in data[-_END_WITHIN:]:
        raise InvalidInput("project.document-no-pdf")
    values = {
        "content": b64encode(data).decode(),
        "name": name[: ApprovalDocument.NAME_LENGTH],
        "size_bytes": len(data),
        "uploaded_by_id": user.pk,
    }
    with transaction.atomic():
        ApprovalDocument.objects.update_or_create(project=project, defaults=values)
        details = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        record("project.document_stored", user=user, about=audit_subject(project), details=details)


def read_document(document: ApprovalDocument) -> bytes:
    """Return the bytes of the PDF file. Raises DecryptionError."""
    return b64decode(document.content)
