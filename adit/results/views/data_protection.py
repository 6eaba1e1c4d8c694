"""Page with which managers of research projects export the record for data protection."""

from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from adit.accounts.permissions import NotPermitted, Right, require
from adit.jobs.views.access import current_user
from adit.projects import services
from adit.projects.models import Project
from adit.results.data_protection import Period, export_record, transfer_columns, write_pdf
from adit.table_files import make_table_response

_POSSIBLE_DAYS = [MinValueValidator(date(1900, 1, 1)), MaxValueValidator(date(2999, 12, 31))]


def _day_field(label: Any) -> forms.DateField:
    return forms.DateField(
        label=label,
        required=False,
        validators=_POSSIBLE_DAYS,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )


class DataProtectionForm(forms.Form):
    """The projects, the period and the format of a record."""

    project = forms.ModelChoiceField(
        Project.objects.order_by("protocol_id"),
        label=_("project"),
        required=False,
        empty_label=_("All projects"),
    )
    since = _day_field(_("from"))
    until = _day_field(_("until"))
    form = forms.ChoiceField(
        label=_("format"), choices=[("pdf", _("PDF file")), ("xlsx", _("Excel file"))]
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until < since:
            self.add_error("until", _("The last day is before the first day."))
        return cleaned


@require_http_methods(["GET", "HEAD", "POST"])
def export(request: HttpRequest) -> HttpResponseBase:
    user = current_user(request)
    try:
        require(user, Right.MANAGE_PROJECTS)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    posted = request.POST if request.method == "POST" else None
    form = DataProtectionForm(posted, initial={"project": request.GET.get("project")})
    if posted is not None and form.is_valid():
        chosen, wanted = form.cleaned_data["project"], form.cleaned_data["form"]
        projects = services.visible_projects(user)
        if chosen is not None:
            projects = projects.filter(pk=chosen.pk)
        period = Period(form.cleaned_data["since"], form.cleaned_data["until"])
        found = export_record(user, projects, period, wanted)
        subject = "projects" if chosen is None else chosen.protocol_id
        name = f"{subject}-data-protection-{timezone.localdate():%Y-%m-%d}"
        if wanted == "xlsx":
            return make_table_response(
                wanted, name, transfer_columns(), found.iter_transfers(), found.summary()
            )
        headers = {"Content-Disposition": f'attachment; filename="{name}.pdf"'}
        return HttpResponse(write_pdf(found), content_type="application/pdf", headers=headers)
    status = 422 if form.errors else 200
    return render(request, "results/data_protection.html", {"form": form}, status=status)
