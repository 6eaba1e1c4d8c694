"""Pages of the ethics approval of a project: upload by managers, download by who sees the project."""

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.permissions import Right
from adit.projects.approval_documents import MAX_BYTES, read_document, store_document
from adit.projects.forms import ApprovalDocumentForm
from adit.projects.models import ApprovalDocument
from adit.projects.views.access import current_user, get_visible_project, require_rights
from adit_engine.errors import AditError
from adit_engine.messages import Message


@require_http_methods(["GET", "HEAD", "POST"])
def project_document(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    project = get_visible_project(user, pk)
    require_rights(user, Right.MANAGE_PROJECTS)
    posted = request.method == "POST"
    form = ApprovalDocumentForm(request.POST if posted else None, request.FILES if posted else None)
    limit = MAX_BYTES // 1_000_000
    if posted and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            store_document(user, project, file.name, file.read(MAX_BYTES + 1))
        except AditError as error:
            form.add_error("file", str(error))
        else:
            messages.success(request, _("The document is stored."))
            return redirect("project", pk)
    elif posted and int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BYTES:
        # Django does not receive files that are longer than FILE_UPLOAD_MAX_MEMORY_SIZE.
        form.errors.clear()
        form.add_error("file", str(Message("project.document-too-large", limit=limit)))
    context = {
        "project": project,
        "form": form,
        "document": _documents(pk).first(),
        "limit": limit,
    }
    status = 422 if form.errors else 200
    return render(request, "projects/project_document.html", context, status=status)


@require_safe
def project_document_file(request: HttpRequest, pk: int) -> HttpResponse:
    """Send the file as an attachment, so that no browser shows it within this site."""
    project = get_visible_project(current_user(request), pk)
    document = ApprovalDocument.objects.filter(project=project).first()
    if document is None:
        raise Http404
    headers = {
        "Content-Disposition": f'attachment; filename="{project.protocol_id}-approval.pdf"',
        "X-Content-Type-Options": "nosniff",
    }
    return HttpResponse(read_document(document), content_type="application/pdf", headers=headers)


def _documents(pk: int) -> QuerySet[ApprovalDocument]:
    return (
        ApprovalDocument.objects.filter(project=pk).defer("content").select_related("uploaded_by")
    )
