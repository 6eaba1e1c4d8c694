"""Pages of sheets: what a node's administrator has to register, to print or to send."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from adit.nodes.sheet import sheet_of
from adit.nodes.views import managed_node, person
from adit_engine.errors import WrongInput
from adit_engine.sheet import as_text


@require_safe
def node_sheet(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    node = managed_node(user, pk)
    try:
        sections = sheet_of(node, user)
    except WrongInput as error:
        messages.error(request, str(error))
        return redirect("node", pk)
    return render(request, "nodes/node_sheet.html", {"node": node, "sections": sections})


@require_safe
def node_sheet_text(request: HttpRequest, pk: int) -> HttpResponse:
    """The same as plain text, for a mail."""
    user = person(request)
    node = managed_node(user, pk)
    try:
        sections = sheet_of(node, user)
    except WrongInput as error:
        messages.error(request, str(error))
        return redirect("node", pk)
    text = as_text(_("ADIT and %(node)s") % {"node": node.name}, sections)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")
