"""Views of usage: download of ninety days, end of one connection, and budgets of groups."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.views.decorators.http import require_POST, require_safe

from adit.nodes import pause
from adit.nodes.limits import budgets
from adit.nodes.models import Budget, Node
from adit.nodes.usage import daily_usage
from adit.nodes.views.nodes import current_user, get_managed_node, require_manager
from adit.table_files import make_table_response
from adit_engine.errors import AditError


@require_POST
def node_end(request: HttpRequest, pk: int, slot: int) -> HttpResponse:
    """End one connection."""
    user = current_user(request)
    node = get_managed_node(user, pk)
    try:
        pause.end_connection(user, node, slot)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("This connection ends within ten seconds."))
    return redirect("node", pk)


@require_safe
def node_usage_file(request: HttpRequest, pk: int, form: str) -> HttpResponseBase:
    node = get_managed_node(current_user(request), pk)
    return make_table_response(form, f"use-{pk}", _usage_columns(), _usage_rows(node))


def _usage_columns() -> list[str]:
    return [
        _("Day"),
        _("Lane"),
        _("Connections"),
        _("Peak connections"),
        _("Allowed connections"),
        _("Images"),
        _("Bytes"),
    ]


def _usage_rows(node: Node) -> Iterator[list[str | int]]:
    for use in daily_usage.get_daily_usage(node):
        yield [
            use.day.isoformat(),
            use.lane,
            use.connections,
            use.peak_connections,
            use.allowed,
            use.images,
            use.size_bytes,
        ]


class BudgetForm(forms.Form):
    """The budget of one group. An empty field means unlimited."""

    studies = forms.IntegerField(
        label=_lazy("studies per day"), required=False, min_value=0, max_value=1_000_000
    )
    size_gb = forms.IntegerField(
        label=_lazy("GB per day"), required=False, min_value=0, max_value=1_000_000
    )

    def __init__(self, data: Any, group: Group, held: Budget | None) -> None:
        initial = {"studies": held and held.studies, "size_gb": held and held.size_gb}
        super().__init__(data, prefix=f"group-{group.pk}", initial=initial)
        self.group = group
        self.used = budgets.get_budget_use(group)


def budget_list(request: HttpRequest) -> HttpResponse:
    """Show and edit the budgets of all groups, with the use of today."""
    user = current_user(request)
    require_manager(user)
    held = {budget.group_id: budget for budget in Budget.objects.all()}
    groups = Group.objects.order_by("name")
    data = request.POST if request.method == "POST" else None
    rows = [BudgetForm(data, group, held.get(group.pk)) for group in groups]
    wrong = [row for row in rows if not row.is_valid()]
    if data is not None and not wrong:
        with transaction.atomic():
            for row in rows:
                values = row.cleaned_data
                budgets.save_budget(user, row.group, values["studies"], values["size_gb"])
        messages.success(request, _("Saved."))
        return redirect("budgets")
    status = 422 if data is not None else 200
    return render(request, "nodes/budgets.html", {"rows": rows}, status=status)
