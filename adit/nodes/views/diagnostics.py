"""Views of node tests: test a node, fetch an image, write something, adopt a proposal."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from adit.nodes import diagnostics
from adit.nodes.forms import FetchTestForm
from adit.nodes.views.nodes import current_user, get_managed_node, get_visible_node
from adit_engine.errors import AditError
from adit_engine.nodes.base import Grade, NodeFinding


@require_POST
def node_test(request: HttpRequest, pk: int) -> HttpResponse:
    """Test the node; its page shows the findings."""
    user = current_user(request)
    node = get_visible_node(user, pk)
    return _run_test(request, pk, "plain", lambda: diagnostics.check_node(user, node))


@require_POST
def node_fetch(request: HttpRequest, pk: int) -> HttpResponse:
    """Fetch one image by each retrieval method."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    form = FetchTestForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(str(error) for error in form.errors["study_uid"]))
        return redirect("node", pk)
    study = form.cleaned_data["study_uid"]
    return _run_test(request, pk, "fetch", lambda: diagnostics.try_fetching(user, node, study))


@require_POST
def node_write(request: HttpRequest, pk: int) -> HttpResponse:
    """Write a synthetic image or a test file, or many of them to measure connections."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    test = diagnostics.measure_sending if "measure" in request.POST else diagnostics.try_writing
    return _run_test(request, pk, "write", lambda: test(user, node))


@require_POST
def node_adopt(request: HttpRequest, pk: int) -> HttpResponse:
    """Save one proposed setting."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    setting, value = (request.POST.get(name, "") for name in ("setting", "value"))
    try:
        proposal = diagnostics.adopt_proposal(user, node, setting, value)
    except AditError as error:
        messages.error(request, str(error))
    else:
        words = {"setting": diagnostics.get_setting_label(node, proposal), "value": proposal.value}
        messages.success(request, _("Saved: %(setting)s is now %(value)s. Test again.") % words)
    return redirect("node", pk)


def _run_test(
    request: HttpRequest, pk: int, kind: str, act: Callable[[], list[NodeFinding]]
) -> HttpResponse:
    try:
        findings = act()
    except AditError as error:
        messages.error(request, str(error))
        return redirect("node", pk)
    count = sum(finding.grade is not Grade.GOOD for finding in findings)
    if count:
        words = ngettext("%(n)d problem found.", "%(n)d problems found.", count)
        messages.warning(request, words % {"n": count})
    else:
        messages.success(request, _("The test was successful."))
    return redirect(f"{reverse('node', args=[pk])}#found-{kind}")
