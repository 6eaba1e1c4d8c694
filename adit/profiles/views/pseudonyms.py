"""Pseudonyms of a research project: the table, the way back to a patient, lists in and out."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.rights import Right, may
from adit.audit.table import csv_lines
from adit.nodes import access
from adit.nodes.models import Node
from adit.profiles import trials
from adit.profiles.forms import JoinForm, PairsForm, ReasonForm
from adit.profiles.identity import exported_map, reidentify
from adit.profiles.joining import join
from adit.profiles.models import Patient, Trial
from adit.profiles.pairs import Rejected, import_pairs
from adit.profiles.views.door import only_with, person, visible_trial
from adit_engine.errors import AditError

PER_PAGE = 50

asks = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def trial_pseudonyms(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    trial = visible_trial(user, pk)
    rows = trial.patients.order_by("pseudonym").defer("sealed", "index")
    context = {
        "trial": trial,
        "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
        "may_reidentify": trials.may_link(user, trial) and trial.key_destroyed_at is None,
        "may_import": may(user, Right.CHOOSE_PSEUDONYMS) and trial.key_destroyed_at is None,
    }
    return render(request, "profiles/pseudonyms.html", context)


@asks
def trial_reidentify(request: HttpRequest, pk: int, patient: int) -> HttpResponse:
    """Asks why, and answers once: the address itself never shows who it is."""
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.REIDENTIFY)
    row = _patient(trial, patient)
    form, found = ReasonForm(request.POST or None), None
    if request.method == "POST" and form.is_valid():
        try:
            found = reidentify(user, row, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
    context = {"trial": trial, "patient": row, "form": form, "found": found}
    status = 422 if form.errors else 200
    return render(request, "profiles/reidentify.html", context, status=status)


@asks
def trial_join(request: HttpRequest, pk: int, patient: int) -> HttpResponse:
    """Another id of the same person."""
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.REIDENTIFY)
    row = _patient(trial, patient)
    form = JoinForm(request.POST or None, nodes=_nodes(user, trial))
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            join(
                user,
                row,
                given["node"],
                given["patient_id"],
                given["reason"],
                new_generation=given["new_generation"],
            )
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("Joined: that ID goes by %s from now on.") % row)
            return redirect("trial_pseudonyms", pk)
    context = {"trial": trial, "patient": row, "form": form}
    status = 422 if form.errors else 200
    return render(request, "profiles/join.html", context, status=status)


@asks
def trial_export(request: HttpRequest, pk: int) -> HttpResponse:
    """The whole map as a file, for the key holder."""
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.REIDENTIFY)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            found = exported_map(user, trial, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            rows = [("pseudonym", "patient_id", "patient_id_domain")]
            for each in found:
                rows.append((each.pseudonym, each.patient_id, each.domain))
                rows += [(each.pseudonym, patient_id, domain) for domain, patient_id in each.joined]
            return _file(f"{trial.protocol_id}-pseudonyms.csv", rows)
    context = {"trial": trial, "form": form, "patients": trial.patients.count()}
    status = 422 if form.errors else 200
    return render(request, "profiles/export.html", context, status=status)


@asks
def trial_import(request: HttpRequest, pk: int) -> HttpResponse:
    """All rows or none; problems name rows, never patients."""
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.CHOOSE_PSEUDONYMS)
    posted = request.method == "POST"
    form = PairsForm(
        request.POST if posted else None,
        request.FILES if posted else None,
        nodes=_nodes(user, trial),
    )
    if posted and form.is_valid():
        try:
            pairs = form.cleaned_data["file"]
            new, known = import_pairs(user, trial, form.cleaned_data["node"], pairs)
        except Rejected as error:
            for problem in error.problems:
                form.add_error("file", problem)
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _imported(new, known))
            return redirect("trial_pseudonyms", pk)
    status = 422 if form.errors else 200
    return render(request, "profiles/import.html", {"trial": trial, "form": form}, status=status)


def _nodes(user: User, trial: Trial) -> QuerySet[Node]:
    nodes = access.readable_nodes(user).order_by("name")
    allowed = trial.sources.values("pk")
    return nodes.filter(pk__in=allowed) if trial.sources.exists() else nodes


def _imported(new: int, known: int) -> str:
    text = ngettext("%d pseudonym is new", "%d pseudonyms are new", new) % new
    return f"{text}, {ngettext('%d was known', '%d were known', known) % known}."


def _patient(trial: Trial, pk: int) -> Patient:
    patient = trial.patients.select_related("trial").filter(pk=pk).first()
    if patient is None:
        raise Http404
    return patient


def _file(name: str, rows: list[tuple[str, str, str]]) -> HttpResponse:
    text = "".join(csv_lines(rows))
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
