"""Pages of groups: list, and the editor of members, permissions and access to nodes."""

from django.contrib import messages
from django.contrib.auth.models import Group
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from adit.administration import groups
from adit.administration.checks import describe_access
from adit.administration.forms import GroupForm
from adit.administration.tables import GroupTable
from adit.administration.views.confirmation import Section, ask_before_granting, get_manager
from adit_engine.errors import AditError


@require_safe
def group_list(request: HttpRequest) -> HttpResponse:
    get_manager(request)
    rows = Group.objects.annotate(
        member_count=Count("user", filter=Q(user__is_active=True), distinct=True),
        permission_count=Count("permissions", distinct=True),
        node_count=Count("node_access", distinct=True),
    ).order_by("name")
    return render(request, "administration/group_list.html", {"table": GroupTable(rows, request)})


@require_http_methods(["GET", "HEAD", "POST"])
def group_new(request: HttpRequest) -> HttpResponse:
    return _edit_group(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
def group_page(request: HttpRequest, pk: int) -> HttpResponse:
    get_manager(request)
    return _edit_group(request, get_object_or_404(Group, pk=pk))


def _edit_group(request: HttpRequest, group: Group | None) -> HttpResponse:
    manager = get_manager(request)
    name = group.name if group else ""
    # The form writes what was typed into its instance.
    form = GroupForm(
        request.POST if request.method == "POST" else None,
        instance=Group.objects.get(pk=group.pk) if group else Group(),
    )
    if request.method == "POST" and form.is_valid() and "back" not in request.POST:
        data = form.data_of_group
        sections = _describe_change(groups.compare_group(group, data))
        asked = ask_before_granting(request, sections, _("Save %(group)s?") % {"group": data.name})
        if asked is not None:
            return asked
        try:
            groups.save_group(manager, group, data)
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("%(group)s is saved.") % {"group": data.name})
            return redirect("groups")
    context = {"form": form, "group": group, "name": name}
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "administration/group_edit.html", context, status=status)


def _describe_change(change: groups.GroupChange) -> list[Section]:
    sections: list[Section] = []
    if change.access:
        sections.append((_("All members are newly allowed:"), describe_access(change.access)))
    if change.new_members and change.whole_access:
        names = ", ".join(user.get_full_name() or user.username for user in change.new_members)
        sentence = ngettext(
            "%(names)s becomes a member. The group allows:",
            "%(names)s become members. The group allows:",
            len(change.new_members),
        )
        sections.append((sentence % {"names": names}, describe_access(change.whole_access)))
    return sections
