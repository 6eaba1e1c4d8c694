"""Research projects: the list, one of them, and what its managers do with it."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.rights import Right, may
from adit.profiles import proposals, risks, trials
from adit.profiles.destruction import COMPACT_LATER, backups_until, compact, destroy_key
from adit.profiles.forms import DestroyForm, TrialForm
from adit.profiles.models import Trial
from adit.profiles.options import options_of
from adit.profiles.versions import rules_of
from adit.profiles.views.door import only_with, person, visible_trial
from adit_engine.errors import AditError

asks = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def trial_list(request: HttpRequest) -> HttpResponse:
    user = person(request)
    rows = trials.visible_to(user).select_related("profile").prefetch_related("members")
    context = {
        "rows": [(trial, *_state(trial)) for trial in rows.order_by("is_default", "protocol_id")],
        "manages": may(user, Right.MANAGE_TRIALS),
    }
    return render(request, "profiles/trial_list.html", context)


@require_safe
def trial_page(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    trial = visible_trial(user, pk)
    state, word = _state(trial)
    context = {
        "trial": trial,
        "state": state,
        "word": word,
        "manages": may(user, Right.MANAGE_TRIALS),
        "may_export": trials.may_link(user, trial),
        "may_import": may(user, Right.CHOOSE_PSEUDONYMS),
        "patients": trial.patients.count(),
        "options": options_of(rules_of(trial.profile)),
        "risks": risks.decisions(trial),
        "backups_until": backups_until(trial),
    }
    return render(request, "profiles/trial.html", context)


@asks
def trial_new(request: HttpRequest) -> HttpResponse:
    """Made by managers, proposed by all others."""
    return _edit(request, Trial())


@require_POST
def trial_accept(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.MANAGE_TRIALS)
    try:
        proposals.accept(user, trial)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%s is accepted and may be used.") % trial)
    return redirect("trial", pk)


@asks
def trial_edit(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.MANAGE_TRIALS)
    return _edit(request, trial)


@require_POST
def trial_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.MANAGE_TRIALS)
    try:
        trials.revoke(user, trial)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("%s is revoked: nothing leaves for it any more.") % trial)
    return redirect("trial", pk)


@asks
def trial_destroy(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks for the reason and the project id, typed again."""
    user = person(request)
    trial = visible_trial(user, pk)
    only_with(user, Right.MANAGE_TRIALS)
    form = DestroyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            destroy_key(user, trial, form.cleaned_data["reason"], form.cleaned_data["typed"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The key is destroyed. Nobody can undo this."))
            if not compact():
                messages.warning(request, COMPACT_LATER)
            return redirect("trial", pk)
    context = {
        "trial": trial,
        "form": form,
        "patients": trial.patients.count(),
        "backup_days": settings.BACKUP_DAYS,
    }
    return render(request, "profiles/trial_destroy.html", context, status=_status(form))


def _edit(request: HttpRequest, trial: Trial) -> HttpResponse:
    is_new = trial.pk is None
    user = person(request)
    proposer = None if may(user, Right.MANAGE_TRIALS) else user
    posted = request.POST if request.method == "POST" else None
    form = TrialForm(posted, instance=trial, proposer=proposer)
    if request.method == "POST" and form.is_valid():
        saved = _saved(request, form)
        if saved is not None:
            return saved
    # The form writes what was typed into its row before it is saved; the heading keeps the old.
    heading = "" if is_new else str(Trial.objects.get(pk=trial.pk))
    context = {
        "form": form,
        "pk": None if is_new else trial.pk,
        "heading": heading,
        "proposes": proposer is not None,
    }
    return render(request, "profiles/trial_edit.html", context, status=_status(form))


def _saved(request: HttpRequest, form: TrialForm) -> HttpResponseRedirect | None:
    user, trial = person(request), form.instance
    try:
        if trial.pk is None:
            make = trials.create_trial if may(user, Right.MANAGE_TRIALS) else proposals.propose
            trial = make(user, trial, **form.relations)
        else:
            trials.change_trial(user, trial, **form.relations)
    except AditError as error:
        form.add_error(None, str(error))
        return None
    said = _("Saved.") if trial.is_accepted else _("Proposed: a manager has to accept it.")
    messages.success(request, said)
    return redirect("trial", trial.pk)


def _state(trial: Trial) -> tuple[str, Any]:
    """The tone's word, and what people read."""
    if trial.key_destroyed_at is not None:
        return "closed", _("key destroyed")
    if not trial.is_accepted:
        return "waiting", _("proposed")
    if trial.is_revoked:
        return "paused", _("revoked")
    if trial.is_over(timezone.localdate()):
        return "closed", _("ended")
    return "open", _("runs")


def _status(form: Any) -> int:
    return 422 if form.errors else 200
