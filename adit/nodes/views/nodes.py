"""Views of nodes: list, detail page, actions, editor, and registration sheet.

The helpers for the current user and visible nodes are also used by the other views of nodes.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.views.decorators.http import require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right, require
from adit.nodes import access, alarms, diagnostics, pause, presentation, services
from adit.nodes.calendar import chart
from adit.nodes.forms import FetchTestForm, NodeAccessForm, NodeEditor
from adit.nodes.limits import response_times
from adit.nodes.models import Node
from adit.nodes.presentation import NodeOverview, describe_settings, list_nodes
from adit.nodes.registration_sheet import make_registration_sheet
from adit.nodes.tables import ConnectionTable, NodeTable
from adit.nodes.usage import charts, open_connections
from adit_engine.errors import AditError, InvalidInput
from adit_engine.nodes import kinds_with
from adit_engine.registration_sheet import SheetSection, format_sheet


@require_safe
def node_list(request: HttpRequest) -> HttpResponse:
    user = current_user(request)
    manages = has_right(user, Right.MANAGE_NODES)
    table = NodeTable(list_nodes(user), request, exclude=() if manages else ("test",))
    context = {"table": table, "manages": manages}
    return render(request, "nodes/node_list.html", context)


@require_safe
def node_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one node, with the findings of its last tests."""
    user = current_user(request)
    node = get_visible_node(user, pk)
    manages = has_right(user, Right.MANAGE_NODES)
    may_test = manages or access.may_read(user, node)
    tests = diagnostics.get_last_reports(node, manages=manages) if may_test else []
    context = {
        "node": node,
        "place": NodeOverview.from_node(user, node),
        "manages": manages,
        "may_test": may_test,
        "tests": tests,
        "is_test_passed": any(told.is_passed for told in tests),
        "try_form": FetchTestForm(),
        "measures_sending": node.capabilities.uses_several_associations
        and node.takes_images
        and not node.is_clinical,
        "leaves_image": node.capabilities.is_remote,
        "connections": ConnectionTable(
            open_connections.list_open_connections(node), request, prefix="open-"
        ),
        "sees_jobs": has_right(user, Right.SEE_ALL_JOBS),
        "charts": charts.make_usage_charts(node) if manages else [],
        "picture": _make_chart(node),
        "slow": response_times.get_slow_period(node),
        "alarms": alarms.visible_alarms(user, node),
        "facts": describe_settings(node) if manages else [],
        "learned": presentation.describe_learned_limits(node),
        "groups": node.access.select_related("group").order_by("group__name") if manages else [],
    }
    return render(request, "nodes/node.html", context)


@require_POST
def node_action(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Open, close or reopen a node."""
    user = current_user(request)
    node = get_visible_node(user, pk)
    if verb not in NODE_ACTIONS:
        raise Http404
    act, done = NODE_ACTIONS[verb]
    try:
        act(user, node)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, str(done) % {"node": node.name})
    return redirect("node", pk)


def node_pause(request: HttpRequest, pk: int) -> HttpResponse:
    """Pause a node. Ask for the reason, which users whose jobs wait will see."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    done = _("%(node)s is paused.") % {"node": node.name}
    return _ask_reason(request, node, lambda reason: pause.pause_node(user, node, reason), done)


def node_stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Stop a node: ask for the reason and cut all connections."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    done = _("%(node)s is stopped. All its connections end within seconds.") % {"node": node.name}
    return _ask_reason(
        request, node, lambda reason: pause.stop_node(user, node, reason), done, is_stop=True
    )


def stop_all(request: HttpRequest) -> HttpResponse:
    """Stop all nodes."""
    user = current_user(request)
    require_manager(user)
    done = _("All PACS and folders are stopped. All connections end within seconds.")
    return _ask_reason(
        request, None, lambda reason: pause.stop_all_nodes(user, reason), done, is_stop=True
    )


def _ask_reason(
    request: HttpRequest,
    node: Node | None,
    act: Callable[[str], object],
    done: str,
    *,
    is_stop: bool = False,
) -> HttpResponse:
    reason, wrong = request.POST.get("reason", ""), ""
    if request.method == "POST":
        try:
            act(reason)
        except AditError as error:
            wrong = str(error)
        else:
            messages.success(request, done)
            return redirect("nodes") if node is None else redirect("node", node.pk)
    context = {"node": node, "reason": reason, "wrong": wrong, "is_stop": is_stop}
    return render(request, "nodes/node_pause.html", context, status=422 if wrong else 200)


def node_access(request: HttpRequest, pk: int) -> HttpResponse:
    """Edit which groups may fetch from a node and send to it."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    form = NodeAccessForm(request.POST or None, node=node)
    if request.method == "POST" and form.is_valid():
        try:
            services.save_node(user, node, form.get_access)
        except AditError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, _("Saved."))
        return redirect("node", pk)
    return render(request, "nodes/node_access.html", {"node": node, "form": form})


def _offered_kinds() -> list[str]:
    return kinds_with(lambda kind: not kind.is_for_tests)


@require_safe
def node_kinds(request: HttpRequest) -> HttpResponse:
    """Choose the kind of a new node."""
    require_manager(current_user(request))
    kinds = [(kind, presentation.get_kind_display(kind)) for kind in _offered_kinds()]
    return render(request, "nodes/node_kinds.html", {"kinds": kinds})


def node_new(request: HttpRequest, kind: str) -> HttpResponse:
    user = current_user(request)
    require_manager(user)
    if kind not in _offered_kinds():
        raise Http404
    return _edit_node(request, user, Node(kind=kind))


def node_edit(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    return _edit_node(request, user, get_managed_node(user, pk))


def node_delete(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    node = get_managed_node(user, pk)
    if request.method == "POST":
        name = node.name
        try:
            services.remove_node(user, node)
        except AditError as error:
            messages.error(request, str(error))
            return redirect("node", pk)
        messages.success(request, _("%(node)s is removed.") % {"node": name})
        return redirect("nodes")
    return render(request, "nodes/node_delete.html", {"node": node})


NODE_ACTIONS: Mapping[str, tuple[Callable[[User, Node], None], Any]] = {
    "open": (services.put_in_use, _lazy("%(node)s is open.")),
    "close": (services.take_out_of_use, _lazy("%(node)s is closed. No new work starts there.")),
    "adopt-times": (
        response_times.adopt_times,
        _lazy("The present response time of %(node)s counts as usual from now on."),
    ),
    "reopen": (pause.reopen_node, _lazy("%(node)s is open again.")),
}


def current_user(request: HttpRequest) -> User:
    return cast(User, request.user)


def get_visible_node(user: User, pk: int) -> Node:
    """Return the node. Raise Http404 if it does not exist or the user may not see it."""
    node = access.visible_nodes(user).select_related("paused_by").filter(pk=pk).first()
    if node is None:
        raise Http404
    return node


def get_managed_node(user: User, pk: int) -> Node:
    """Return the node. Raise Http404 like `get_visible_node`, PermissionDenied for non-managers."""
    node = get_visible_node(user, pk)
    require_manager(user)
    return node


def require_manager(user: User) -> None:
    """Raise PermissionDenied unless the user manages nodes."""
    try:
        require(user, Right.MANAGE_NODES)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None


def _make_chart(node: Node) -> chart.CalendarChart | None:
    """The chart of the hours; None if there are none, or if they are invalid."""
    if not (node.windows or node.special_days):
        return None
    try:
        return chart.make_calendar_chart(node, node.windows, node.special_days)
    except InvalidInput:
        return None


def _edit_node(request: HttpRequest, user: User, node: Node) -> HttpResponse:
    if request.method == "POST":
        editor = NodeEditor(request.POST, node, request.FILES)
    else:
        editor = NodeEditor(None, node)
    if request.method == "POST":
        saved = editor.save(user)
        if saved is not None:
            messages.success(request, _("Saved. Press Test to check the settings."))
            return redirect("node", saved.pk)
    context = {
        "editor": editor,
        "node": node if node.pk else None,
        "kind": presentation.get_kind_label(node.kind),
    }
    status = 422 if request.method == "POST" and not editor.is_changing_rows else 200
    return render(request, "nodes/node_edit.html", context, status=status)


@require_safe
def node_sheet(request: HttpRequest, pk: int) -> HttpResponse:
    def page(node: Node, sections: tuple[SheetSection, ...]) -> HttpResponse:
        return render(request, "nodes/node_sheet.html", {"node": node, "sections": sections})

    return _render_sheet(request, pk, page)


@require_safe
def node_sheet_text(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the registration sheet as plain text, to send by mail."""

    def text(node: Node, sections: tuple[SheetSection, ...]) -> HttpResponse:
        title = _("Registration of ADIT at %(node)s") % {"node": node.name}
        return HttpResponse(format_sheet(title, sections), content_type="text/plain; charset=utf-8")

    return _render_sheet(request, pk, text)


def _render_sheet(
    request: HttpRequest, pk: int, show: Callable[[Node, tuple[SheetSection, ...]], HttpResponse]
) -> HttpResponse:
    """If the settings are invalid, redirect to the page of the node with an error message."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    try:
        sections = make_registration_sheet(node, user)
    except InvalidInput as error:
        messages.error(request, str(error))
        return redirect("node", pk)
    return show(node, sections)
