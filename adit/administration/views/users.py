"""Pages of users: list, account with its effective permissions, and changes."""

import copy
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.accounts.second_factor import (
    groups_that_require_it,
    has_second_factor,
    with_second_factor,
)
from adit.administration import one_time_links, users
from adit.administration.anonymization import anonymize_user
from adit.administration.checks import describe_access
from adit.administration.effective_access import named_permissions
from adit.administration.forms import AnonymizeForm, DeactivateForm, ServiceAccountForm, UserForm
from adit.administration.models import AccountRequest
from adit.administration.permission_texts import list_by_section
from adit.administration.tables import UserFilter, UserTable, describe_state_of
from adit.administration.views.confirmation import ask_before_granting, get_manager
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tables import TokenTable
from adit.api_tokens.views import create_token
from adit.nodes import access
from adit.nodes.models import Node, NodeAccess
from adit.projects.models import Project
from adit.projects.services import visible_projects
from adit_engine.errors import AditError

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def user_list(request: HttpRequest) -> HttpResponse:
    get_manager(request)
    everyone = with_second_factor(User.objects.prefetch_related("groups").order_by("username"))
    search = UserFilter(request.GET, everyone)
    context = {
        "table": UserTable(search.qs, request),
        "filter": search,
        "requests": AccountRequest.objects.count(),
        "is_filtered": any(request.GET.get(name) for name in search.filters),
    }
    return render(request, "administration/user_list.html", context)


@require_safe
def user_page(request: HttpRequest, pk: int) -> HttpResponse:
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    state, word = describe_state_of(user)
    rows = ApiToken.objects.filter(user=user).prefetch_related("nodes")
    context = {
        "person": user,
        "state": state,
        "word": word,
        "is_self": user.pk == manager.pk,
        "has_second_factor": has_second_factor(user),
        "must_have_second_factor": groups_that_require_it(user).exists(),
        "tokens": rows.filter(revoked_at=None).count(),
        "token_table": TokenTable(rows, request) if user.is_service else None,
        **_describe_access(user),
    }
    return render(request, "administration/user.html", context)


@get_or_post
def user_new(request: HttpRequest) -> HttpResponse:
    """Create an account. The response shows the link to set its password once."""
    manager = get_manager(request)
    form = _make_form(request, manager, User())

    def save(data: users.UserData) -> HttpResponse:
        return show_link(request, *users.create_user(manager, data))

    saved = save_after_question(request, form, None, save)
    if saved is not None:
        return saved
    context = {"form": form}
    return render(request, "administration/user_edit.html", context, status=status_code(form))


@get_or_post
def service_account_new(request: HttpRequest) -> HttpResponse:
    """Create an account for a program; its page then offers API tokens."""
    manager = get_manager(request)
    form = _make_form(request, manager, User(is_service=True))

    def save(data: users.UserData) -> HttpResponse:
        user = users.create_service_account(manager, data)
        messages.success(request, _("The service account is created. Create a token for it."))
        return redirect("user", user.pk)

    saved = save_after_question(request, form, None, save)
    if saved is not None:
        return saved
    context = {"form": form, "is_service": True}
    return render(request, "administration/user_edit.html", context, status=status_code(form))


@get_or_post
def user_token_new(request: HttpRequest, pk: int) -> HttpResponse:
    """Create an API token of a service account; the response shows it once."""
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    try:
        users.require_may_create_token(manager, user)
    except AditError as error:
        messages.error(request, str(error))
        return redirect("user", pk)
    return create_token(request, user, reverse("user", args=[pk]))


@get_or_post
def user_edit(request: HttpRequest, pk: int) -> HttpResponse:
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    form = _make_form(request, manager, copy.copy(user))

    def save(data: users.UserData) -> HttpResponse:
        users.change_user(manager, user, data)
        messages.success(request, _("Saved."))
        return redirect("user", pk)

    saved = save_after_question(request, form, user, save)
    if saved is not None:
        return saved
    context = {"form": form, "person": user, "is_service": user.is_service}
    return render(request, "administration/user_edit.html", context, status=status_code(form))


@get_or_post
def user_deactivate(request: HttpRequest, pk: int) -> HttpResponse:
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    jobs = users.open_jobs(user)
    form = DeactivateForm(
        request.POST if request.method == "POST" else None,
        successors=users.possible_successors(user),
        has_jobs=jobs.exists(),
    )
    if request.method == "POST" and form.is_valid():
        try:
            users.deactivate_user(manager, user, successor=form.cleaned_data["successor"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("%(user)s is deactivated.") % {"user": user.username})
            return redirect("user", pk)
    context = {"form": form, "person": user, "jobs": jobs}
    return render(request, "administration/user_deactivate.html", context, status=status_code(form))


@require_POST
def user_reactivate(request: HttpRequest, pk: int) -> HttpResponse:
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    try:
        users.reactivate_user(manager, user)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%(user)s may sign in again.") % {"user": user.username})
    return redirect("user", pk)


@get_or_post
def user_anonymize(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a deactivated account anonymous. Asks for the user name, typed again."""
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    form = AnonymizeForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            anonymize_user(manager, user, form.cleaned_data["typed"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The account is anonymous now."))
            return redirect("user", pk)
    context = {"form": form, "person": user}
    status = status_code(form)
    return render(request, "administration/user_anonymize.html", context, status=status)


@require_POST
def user_password(request: HttpRequest, pk: int) -> HttpResponse:
    """Create a link to set a new password; the response shows it once."""
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    try:
        token = users.reset_password(manager, user)
    except AditError as error:
        messages.error(request, str(error))
        return redirect("user", pk)
    return show_link(request, user, token)


@require_POST
def user_second_factor_reset(request: HttpRequest, pk: int) -> HttpResponse:
    manager = get_manager(request)
    user = get_object_or_404(User, pk=pk)
    try:
        users.reset_second_factor(manager, user)
    except AditError as error:
        messages.error(request, str(error))
    else:
        text = _("The second factor of %(user)s is reset. The sessions of the user are ended.")
        messages.success(request, text % {"user": user.username})
    return redirect("user", pk)


def _make_form(request: HttpRequest, manager: User, user: User) -> UserForm:
    form = ServiceAccountForm if user.is_service else UserForm
    return form(
        request.POST if request.method == "POST" else None,
        instance=user,
        appoints_staff=has_right(manager, Right.ADMINISTER),
    )


def save_after_question(
    request: HttpRequest,
    form: UserForm,
    user: User | None,
    save: Callable[[users.UserData], HttpResponse],
) -> HttpResponse | None:
    """Show what the groups newly allow, then save. Return None if the form is to be shown."""
    if request.method != "POST" or not form.is_valid() or "back" in request.POST:
        return None
    data = form.data_of_user
    granted = describe_access(users.get_new_access(user, data.groups))
    sections = [(_("The groups newly allow this:"), granted)] if granted else []
    heading = _("Save %(user)s?") % {"user": data.username}
    question = ask_before_granting(request, sections, heading)
    if question is not None:
        return question
    try:
        return save(data)
    except AditError as error:
        form.add_error(None, str(error))
        return None


def show_link(request: HttpRequest, user: User, token: str) -> HttpResponse:
    context = {
        "person": user,
        "link": one_time_links.password_url(token),
        "is_mailed": one_time_links.mail_password_link(user, token),
    }
    return render(request, "administration/password_link_created.html", context)


def _describe_access(user: User) -> dict[str, Any]:
    """Return the effective permissions with the groups that give them, as if it were active."""
    active = copy.copy(user)
    active.is_active = True
    groups = list(user.groups.order_by("name"))
    sources: dict[int, list[str]] = {}
    for group in groups:
        for pk in group.permissions.values_list("pk", flat=True):
            sources.setdefault(pk, []).append(group.name)
    for pk in user.user_permissions.values_list("pk", flat=True):
        sources.setdefault(pk, []).append(_("granted to the account itself"))
    held = named_permissions() if user.is_superuser else named_permissions().filter(pk__in=sources)
    everything = [_("administrator account with all permissions")] if user.is_superuser else []
    reads, writes = access.readable_nodes(active), access.writable_nodes(active)
    return {
        "groups": groups,
        "sections": [
            (
                title,
                [(label, text, everything + sources.get(one.pk, [])) for one, label, text in rows],
            )
            for title, rows in list_by_section(held)
        ],
        "nodes": _describe_nodes(groups, reads, writes, everything),
        "projects": visible_projects(active).filter(is_default=False).order_by("protocol_id"),
        "projects_as_person": Project.objects.filter(member_users=user),
    }


def _describe_nodes(
    groups: list[Group],
    reads: QuerySet[Node],
    writes: QuerySet[Node],
    everything: list[str],
) -> list[dict[str, Any]]:
    by_node: dict[int, list[str]] = {}
    for row in NodeAccess.objects.filter(group__in=groups).select_related("group"):
        by_node.setdefault(row.node_id, []).append(row.group.name)
    may_read, may_write = set(reads), set(writes)
    return [
        {
            "node": node,
            "reads": node in may_read,
            "writes": node in may_write,
            "groups": everything + sorted(by_node.get(node.pk, [])),
        }
        for node in sorted(may_read | may_write, key=lambda node: node.name)
    ]


def status_code(form: Any) -> int:
    return 422 if form.is_bound and form.errors else 200
