"""Proposals: anyone may propose a research project; it may be used once a manager has accepted it."""

from collections.abc import Iterable

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils.translation import gettext as _

from adit.accounts.rights import Person, Refused, Right, require, require_active
from adit.audit.trail import record
from adit.nodes.models import Node
from adit.profiles.models import Trial
from adit.profiles.trials import about, made


def propose(
    user: Person,
    trial: Trial,
    *,
    members: Iterable[Group] = (),
    sources: Iterable[Node] = (),
    destinations: Iterable[Node] = (),
) -> Trial:
    """Saves a trial that was only filled in; nothing leaves for it yet. Raises Refused, WrongInput."""
    require_active(user)
    if not user.pk:
        raise Refused(_("Sign in first."))
    trial.proposed_by_id = user.pk
    trial.is_accepted = False
    relations = {"members": members, "sources": sources, "destinations": destinations}
    return made(user, trial, "trial.proposed", relations)


def accept(user: Person, trial: Trial) -> None:
    """Raises Refused; nobody accepts the own proposal."""
    require(user, Right.MANAGE_TRIALS)
    with transaction.atomic():
        trial.refresh_from_db(from_queryset=Trial.objects.select_for_update(no_key=True))
        if trial.is_accepted:
            return
        if trial.proposed_by_id == user.pk:
            raise Refused(_("Somebody else has to accept what you proposed yourself."))
        trial.is_accepted = True
        trial.save(update_fields=["is_accepted"])
        record("trial.accepted", user=user, about=about(trial))
