"""Pages of research projects: list, one project, and the actions of project managers."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.permissions import Right, has_right
from adit.dates import format_date
from adit.projects import risks, services
from adit.projects.forms import DestroyKeyForm, ExtendForm, ProjectForm
from adit.projects.key_destruction import (
    COMPACTION_HINT,
    compact_database,
    destroy_key,
    get_backup_end,
)
from adit.projects.models import ApprovalDocument, Project
from adit.projects.profile_text import list_options
from adit.projects.profile_versions import parse_rules
from adit.projects.tables import ProjectTable, describe_state
from adit.projects.views.access import current_user, get_visible_project, require_rights
from adit_engine.errors import AditError

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def project_list(request: HttpRequest) -> HttpResponse:
    user = current_user(request)
    rows = (
        services.visible_projects(user)
        .select_related("profile")
        .prefetch_related("members", "member_users")
    )
    context = {
        "table": ProjectTable(rows.order_by("is_default", "protocol_id"), request),
        "manages": has_right(user, Right.MANAGE_PROJECTS),
    }
    return render(request, "projects/project_list.html", context)


@require_safe
def project_page(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    project = get_visible_project(user, pk)
    state, word = describe_state(project)
    is_member = services.is_member(user, project)
    context = {
        "project": project,
        "state": state,
        "word": word,
        "manages": has_right(user, Right.MANAGE_PROJECTS),
        "may_export": services.may_reidentify(user, project),
        "is_member": is_member,
        "may_hold_list": services.may_hold_list(user, project),
        "may_import": is_member and has_right(user, Right.CHOOSE_PSEUDONYMS),
        "patients": project.patients.count(),
        "options": list_options(parse_rules(project.profile)),
        "risks": risks.decisions(project),
        "backups_until": get_backup_end(project),
        "has_document": ApprovalDocument.objects.filter(project=project).exists(),
        "is_extendable": services.is_extendable(project),
        "missing": services.name_fields(services.list_missing(project)),
    }
    return render(request, "projects/project.html", context)


@get_or_post
def project_new(request: HttpRequest) -> HttpResponse:
    """Create a project. For users who are not project managers it is a proposal."""
    return _edit_project(request, Project())


@require_POST
def project_accept(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    project = get_visible_project(user, pk)
    require_rights(user, Right.MANAGE_PROJECTS)
    try:
        services.accept_project(user, project)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%s is accepted and can be used.") % project)
    return redirect("project", pk)


@get_or_post
def project_edit(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    project = get_visible_project(user, pk)
    require_rights(user, Right.MANAGE_PROJECTS)
    return _edit_project(request, project)


@get_or_post
def project_extend(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    project = get_visible_project(user, pk)
    require_rights(user, Right.MANAGE_PROJECTS)
    form = ExtendForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            services.extend_project(user, project, given["until"], given["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            day = format_date(given["until"])
            text = _("%(project)s ends on %(day)s.") % {"project": project, "day": day}
            messages.success(request, text)
            return redirect("project", pk)
    context = {"project": project, "form": form}
    return render(request, "projects/project_extend.html", context, status=_status_code(form))


@require_POST
def project_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    project = get_visible_project(user, pk)
    require_rights(user, Right.MANAGE_PROJECTS)
    try:
        services.revoke_project(user, project)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%s is revoked. Nothing is sent for it any more.") % project)
    return redirect("project", pk)


@get_or_post
def project_destroy(request: HttpRequest, pk: int) -> HttpResponse:
    """Destroy the key of a project.

    Asks for a reason and for the project ID, typed again.
    """
    user = current_user(request)
    project = get_visible_project(user, pk)
    require_rights(user, Right.MANAGE_PROJECTS)
    form = DestroyKeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            destroy_key(user, project, form.cleaned_data["reason"], form.cleaned_data["typed"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The key is destroyed. This cannot be undone."))
            if not compact_database():
                messages.warning(request, COMPACTION_HINT)
            return redirect("project", pk)
    context = {
        "project": project,
        "form": form,
        "patients": project.patients.count(),
        "backup_days": settings.BACKUP_DAYS,
    }
    return render(request, "projects/project_destroy.html", context, status=_status_code(form))


def _edit_project(request: HttpRequest, project: Project) -> HttpResponse:
    is_new = project.pk is None
    user = current_user(request)
    proposer = None if has_right(user, Right.MANAGE_PROJECTS) else user
    posted = request.POST if request.method == "POST" else None
    form = ProjectForm(posted, instance=project, proposer=proposer)
    if request.method == "POST" and form.is_valid():
        saved = _save_project(request, form)
        if saved is not None:
            return saved
    # The form writes the input into its instance before it is saved. The heading shows the stored
    # name.
    heading = "" if is_new else str(Project.objects.get(pk=project.pk))
    context = {
        "form": form,
        "pk": None if is_new else project.pk,
        "heading": heading,
        "proposes": proposer is not None,
    }
    return render(request, "projects/project_edit.html", context, status=_status_code(form))


def _save_project(request: HttpRequest, form: ProjectForm) -> HttpResponseRedirect | None:
    user, project = current_user(request), form.instance
    try:
        if project.pk is None:
            make = (
                services.create_project
                if has_right(user, Right.MANAGE_PROJECTS)
                else services.propose_project
            )
            project = make(user, project, **form.relations)
        else:
            services.change_project(user, project, **form.relations)
    except AditError as error:
        form.add_error(None, str(error))
        return None
    if project.is_accepted:
        messages.success(request, _("The project is saved."))
    else:
        messages.success(
            request, _("The project is proposed. A manager of research projects must accept it.")
        )
    return redirect("project", project.pk)


def _status_code(form: Any) -> int:
    return 422 if form.errors else 200
