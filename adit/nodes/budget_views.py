"""Page of budgets: how much each group may fetch in a day, and has today."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.nodes import budgets
from adit.nodes.models import Budget
from adit.nodes.views import person, require_manager


class BudgetForm(forms.Form):
    """Of one group; an empty field is no limit."""

    studies = forms.IntegerField(
        label=_lazy("studies a day"), required=False, min_value=0, max_value=1_000_000
    )
    size_gb = forms.IntegerField(
        label=_lazy("GB a day"), required=False, min_value=0, max_value=1_000_000
    )

    def __init__(self, data: Any, group: Group, held: Budget | None) -> None:
        initial = {"studies": held and held.studies, "size_gb": held and held.size_gb}
        super().__init__(data, prefix=f"group-{group.pk}", initial=initial)
        self.group = group
        self.used = budgets.used(group)


def budget_list(request: HttpRequest) -> HttpResponse:
    """Of all groups, on one page."""
    user = person(request)
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
                budgets.save(user, row.group, values["studies"], values["size_gb"])
        messages.success(request, _("Saved."))
        return redirect("budgets")
    status = 422 if data is not None else 200
    return render(request, "nodes/budgets.html", {"rows": rows}, status=status)
