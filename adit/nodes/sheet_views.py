"""Pages of sheets: what a node's administrator has to register, to print or to send."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from adit.nodes.models import Node
from adit.nodes.sheet import sheet_of
from adit.nodes.views import managed_node, person
from adit_engine.errors import WrongInput
from adit_engine.sheet import Section, as_text


@require_safe
def node_sheet(request: HttpRequest, pk: int) -> HttpResponse:
    def page(node: Node, sections: tuple[Section, ...]) -> HttpResponse:
        return render(request, "nodes/node_sheet.html", {"node": node, "sections": sections})

    return _shown(request, pk, page)


@require_safe
def node_sheet_text(request: HttpRequest, pk: int) -> HttpResponse:
    """The same as plain text, for a mail."""

    def text(node: Node, sections: tuple[Section, ...]) -> HttpResponse:
        title = _("ADIT and %(node)s") % {"node": node.name}
        return HttpResponse(as_text(title, sections), content_type="text/plain; charset=utf-8")

    return _shown(request, pk, text)


def _shown(
    request: HttpRequest, pk: int, show: Callable[[Node, tuple[Section, ...]], HttpResponse]
) -> HttpResponse:
    """Back on the node's page, with a sentence, where its settings make no sheet."""
    user = person(request)
    node = managed_node(user, pk)
    try:
        sections = sheet_of(node, user)
    except WrongInput as error:
        messages.error(request, str(error))
        return redirect("node", pk)
    return show(node, sections)
