"""The page that fills the special days of a node with public holidays."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from adit.nodes.calendar import public_holidays
from adit.nodes.calendar.forms import HolidayForm
from adit.nodes.views.nodes import current_user, get_managed_node
from adit_engine.errors import AditError


@require_http_methods(["GET", "HEAD", "POST"])
def node_holidays(request: HttpRequest, pk: int) -> HttpResponse:
    """Choose country, region and year; preview the days; add those that are new."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    form = HolidayForm(request.POST or None)
    days = form.list_days() if form.is_bound and form.is_valid() else []
    if days and "add" in request.POST:
        try:
            added = public_holidays.add_holidays(user, node, days, form.cleaned_data["hours"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            text = ngettext("%(n)d holiday is added.", "%(n)d holidays are added.", added)
            messages.success(request, text % {"n": added})
            return redirect("node", node.pk)
    preview = [(day, name, public_holidays.is_special(node, day)) for day, name in days]
    context = {"node": node, "form": form, "preview": preview}
    status = 422 if form.errors else 200
    return render(request, "nodes/node_holidays.html", context, status=status)
