"""Uid map: which new UID stands for which original, for the key holder of a research project."""

from collections.abc import Iterator

from django.utils.translation import gettext as _

from adit.accounts.rights import Person
from adit.audit.trail import record
from adit.jobs import sealed
from adit.jobs.models import Item, Task
from adit.jobs.provenance.rules import rules_of
from adit.profiles import trials
from adit.profiles.models import Profile, Trial
from adit.profiles.reason import checked_reason
from adit.profiles.versions import rules_of as rules_in
from adit.vault.box import SealBroken
from adit_engine.pseudonymize.profile import RETAIN_UIDS
from adit_engine.pseudonymize.pseudonym import TrialKey

HEADING = ("level", "id_old", "id_new", "pseudonym", "generation")
Row = tuple[str, str, str, str, int]


def exported(user: Person, trial: Trial, reason: str) -> list[Row]:
    """Each study, series and image that was delivered for the trial, once. Raises Refused, WrongInput.

    Known as long as the jobs are: what a deleted job delivered does not stand in it.
    """
    trials.require_link(user, trial)
    reason = checked_reason(reason)
    trials.require_key(trial)
    rows = list(dict.fromkeys(row for task in _tasks(trial) for row in _rows(trial, task)))
    details = {"reason": reason, "uids": len(rows)}
    record("trial.uids_exported", user=user, about=trials.about(trial), details=details)
    return rows


def _tasks(trial: Trial) -> Iterator[Task]:
    tasks = Task.objects.filter(job__trial=trial, items__delivered__gt=0).distinct()
    for task in tasks.select_related("job__trial").order_by("pk"):
        if not task.job.is_as_is and rules_of(task):
            yield task


def _rows(trial: Trial, task: Task) -> Iterator[Row]:
    """What the ledger holds is of the generation that went last."""
    used = rules_of(task)[-1]
    profile = Profile.objects.filter(pk=used.profile).first()
    keeps = profile is not None and RETAIN_UIDS in rules_in(profile).options
    key = None if keeps else trials.key_of(trial, used.generation)
    try:
        name = sealed.open_task(task).pseudonym
        for item in Item.objects.filter(task=task, delivered__gt=0):
            for level, uid in _originals(item):
                yield level, uid, _new(key, uid), name, used.generation
    except SealBroken:
        return


def _originals(item: Item) -> Iterator[tuple[str, str]]:
    manifest = sealed.open_item(item).manifest
    yield _("study"), manifest.series.study_uid
    yield _("series"), manifest.series.series_uid
    for uid in sorted(manifest.delivered_entries()):
        yield _("image"), uid


def _new(key: TrialKey | None, uid: str) -> str:
    return uid if key is None else key.uid(uid)
