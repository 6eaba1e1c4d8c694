"""Trials: making a research project, who may use it, and the key that its secrets follow from."""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.rights import Person, Refused, Right, may, require, require_active
from adit.audit.trail import record
from adit.nodes.models import Node
from adit.profiles import risks
from adit.profiles.models import Profile, Trial
from adit.profiles.pattern import check_pattern
from adit.profiles.versions import opens_generation, rules_of
from adit.vault.box import Box, SealBroken
from adit_engine.errors import WrongInput
from adit_engine.pseudonymize.change import TrialStamp
from adit_engine.pseudonymize.continuation import choice_continues
from adit_engine.pseudonymize.keyfile import key_text
from adit_engine.pseudonymize.profile import Profile as Rules
from adit_engine.pseudonymize.pseudonym import TrialKey

DEFAULT_ID = "site-default"

OWN_WORDS = ("protocol_name", "sponsor", "site_name", "site_id", "pattern")
"""What headers and pseudonyms are made of: stays as it is once the trial has patients."""
PAPERS = (
    "approval_number",
    "responsible",
    "purpose",
    "legal_basis",
    "recipient",
    "expires_on",
    "deletion_on",
)
"""What was applied for and approved."""
LIMITS = ("modalities", "patient_cap", "second_person")
_CHANGEABLE = (*OWN_WORDS, *PAPERS, *LIMITS, *risks.FIELDS, "profile")


class KeyDestroyed(SealBroken):
    """The trial's key is gone for good, and with it what was sealed under it."""


def create_trial(
    user: Person,
    trial: Trial,
    *,
    members: Iterable[Group] = (),
    sources: Iterable[Node] = (),
    destinations: Iterable[Node] = (),
) -> Trial:
    """Saves a trial that was only filled in, with a key of its own. Raises Refused, WrongInput."""
    require(user, Right.MANAGE_TRIALS)
    trial.is_accepted = True
    relations = {"members": members, "sources": sources, "destinations": destinations}
    return made(user, trial, "trial.created", relations)


def made(user: Person, trial: Trial, action: str, relations: Mapping[str, Iterable[Any]]) -> Trial:
    """Saves a trial with a key of its own; who may is asked before. Raises WrongInput."""
    trial.key = secrets.token_hex(32)
    trial.is_default = False
    risks.check(trial)
    if trial.profile_id is None:
        trial.profile = default_profile()
    if trial.pattern:
        check_pattern(trial.pattern)
    try:
        trial.full_clean()
    except ValidationError as error:
        raise WrongInput(_sentences(error)) from None
    stamp_of(trial)
    with transaction.atomic():
        trial.save(force_insert=True)
        for name, rows in relations.items():
            getattr(trial, name).set(rows)
        details = {"profile": str(trial.profile), **risks.facts(trial)}
        record(action, user=user, about=about(trial), details=details)
    return trial


def change_trial(
    user: Person,
    trial: Trial,
    *,
    members: Iterable[Group],
    sources: Iterable[Node],
    destinations: Iterable[Node],
) -> None:
    """Saves what was changed in a trial.

    Another profile opens a new generation of UIDs, and so may another choice for the header's word.

    Raises Refused, and WrongInput for what may not change any more.
    """
    require(user, Right.MANAGE_TRIALS)
    stamp_of(trial)
    risks.check(trial)
    if trial.pattern:
        check_pattern(trial.pattern)
    with transaction.atomic():
        before = Trial.objects.select_for_update(no_key=True).get(pk=trial.pk)
        changed = [name for name in _CHANGEABLE if getattr(before, name) != getattr(trial, name)]
        if is_used(before) and set(changed) & set(OWN_WORDS):
            raise WrongInput(
                _("This research project has patients: what stands in their images stays as it is.")
            )
        trial.generation = before.generation + _opens_generation(before, trial)
        trial.save(update_fields=[*changed, "generation"])
        groups = (("members", members), ("sources", sources), ("destinations", destinations))
        for name, rows in groups:
            if _set(getattr(trial, name), rows):
                changed.append(name)
        details = {
            "changed": changed,
            "profile": str(trial.profile),
            "generation": trial.generation,
            **risks.facts(trial),
        }
        record("trial.changed", user=user, about=about(trial), details=details)


def _opens_generation(before: Trial, after: Trial) -> bool:
    words = [risks.chosen(trial)["header_word"] for trial in (before, after)]
    return opens_generation(before.profile, after.profile, words[0]) or not choice_continues(
        rules_of(after.profile), *words
    )


def _set(relation: Any, rows: Iterable[Any]) -> bool:
    """Whether it holds others now than before."""
    before = set(relation.values_list("pk", flat=True))
    relation.set(rows)
    return before != set(relation.values_list("pk", flat=True))


def revoke(user: Person, trial: Trial) -> None:
    """Nothing leaves for this trial any more; what waits is stopped when it is opened."""
    require(user, Right.MANAGE_TRIALS)
    with transaction.atomic():
        trial.is_revoked = True
        trial.save(update_fields=["is_revoked"])
        record("trial.revoked", user=user, about=about(trial))


def choose_profile(user: Person, trial: Trial, profile: Profile) -> None:
    """Another profile opens a new generation of UIDs, so that one UID never has two contents.

    A version that only opens what was withheld does not: see continuation.py.
    """
    require(user, Right.MANAGE_TRIALS)
    with transaction.atomic():
        trial.refresh_from_db(from_queryset=Trial.objects.select_for_update(no_key=True))
        if trial.profile_id == profile.pk:
            return
        word = risks.chosen(trial)["header_word"]
        trial.generation += opens_generation(trial.profile, profile, word)
        trial.profile = profile
        trial.save(update_fields=["profile", "generation"])
        details = {"profile": str(profile), "generation": trial.generation}
        record("trial.changed", user=user, about=about(trial), details=details)


def default_trial() -> Trial:
    """The site's own trial, used where none is chosen; made when first asked for."""
    return Trial.objects.get_or_create(
        is_default=True,
        protocol_id=DEFAULT_ID,
        defaults={
            "protocol_name": "No research project",
            "sponsor": "-",
            "key": secrets.token_hex(32),
            "profile": default_profile(),
        },
    )[0]


def default_profile() -> Profile:
    """The row of the profile that comes with the engine."""
    rules = Rules.default()
    return Profile.objects.get_or_create(
        name=rules.name, version=rules.version, defaults={"text": rules.to_text()}
    )[0]


def usable_by(user: Person) -> QuerySet[Trial]:
    """The trials that the user may choose now; the site's default is not among them."""
    if not user.is_active:
        return Trial.objects.none()
    trials = Trial.objects.filter(is_default=False, is_revoked=False, is_accepted=True)
    trials = trials.exclude(expires_on__lt=timezone.localdate())
    if may(user, Right.MANAGE_TRIALS):
        return trials
    return trials.filter(members__in=user.groups.all()).distinct()


def visible_to(user: Person) -> QuerySet[Trial]:
    """Those of one's groups and one's own proposals, ended ones too; all for managers."""
    if not user.is_active:
        return Trial.objects.none()
    if may(user, Right.MANAGE_TRIALS):
        return Trial.objects.all()
    mine = Trial.members.through.objects.filter(group__in=user.groups.all())
    mine_or_proposed = Q(pk__in=mine.values("trial")) | Q(proposed_by=user.pk)
    return Trial.objects.filter(mine_or_proposed, is_default=False)


def may_link(user: Person, trial: Trial) -> bool:
    """Whether the user may see a pseudonym of the trial together with its patient.

    This is the one rule for it: the right to re-identify, in a trial that the user may see. The
    site's default has no members; there the right is enough.
    """
    return may(user, Right.REIDENTIFY) and (
        trial.is_default or visible_to(user).filter(pk=trial.pk).exists()
    )


def require_link(user: Person, trial: Trial) -> None:
    """Raises Refused where `may_link` says no."""
    require(user, Right.REIDENTIFY)
    if not may_link(user, trial):
        raise Refused(
            _("None of your groups is a member of the research project %(trial)s. Ask its manager.")
            % {"trial": trial.protocol_id}
        )


def is_used(trial: Trial) -> bool:
    """Somebody has a pseudonym in it: images may have left that name it."""
    return trial.patients.exists()


def may_use(user: Person, trial: Trial) -> bool:
    try:
        require_use(user, trial)
    except Refused:
        return False
    return True


def require_use(user: Person, trial: Trial) -> None:
    """Raises Refused for an ended or revoked trial, and for who is no member of it."""
    require_active(user)
    words = {"trial": trial.protocol_id}
    over = why_over(trial)
    if over:
        raise Refused(over)
    if trial.is_default or may(user, Right.MANAGE_TRIALS):
        return
    if not trial.members.filter(pk__in=user.groups.values("pk")).exists():
        raise Refused(
            _("None of your groups is a member of the research project %(trial)s. Ask its manager.")
            % words
        )


def why_over(trial: Trial) -> str:
    """Why nobody may use it now, whoever it is; empty when it runs."""
    words = {"trial": trial.protocol_id}
    if trial.key_destroyed_at is not None:
        return _destroyed(trial)
    if not trial.is_accepted:
        return (
            _("The research project %(trial)s is proposed; a manager has to accept it first.")
            % words
        )
    if trial.is_revoked:
        return (
            _("The research project %(trial)s was revoked: nothing leaves for it any more.") % words
        )
    if trial.is_over(timezone.localdate()):
        return _("The research project %(trial)s has ended. Ask its manager to extend it.") % words
    return ""


def over() -> Q:
    """Which trials' rows `why_over` has something to say of."""
    return (
        Q(key_destroyed_at__isnull=False)
        | Q(is_accepted=False)
        | Q(is_revoked=True)
        | Q(expires_on__lt=timezone.localdate())
    )


def key_of(trial: Trial, generation: int | None = None) -> TrialKey:
    """From which UIDs, dates and generated pseudonyms follow; now, or in an earlier generation.

    Raises KeyDestroyed.
    """
    return TrialKey(_secret(trial), trial.generation if generation is None else generation)


def box_of(trial: Trial) -> Box:
    """Seals what belongs to the trial. Raises KeyDestroyed, a SealBroken, once its key is gone."""
    return Box(HKDF(SHA256(), 32, None, b"adit trial box").derive(_secret(trial)))


def stamp_of(trial: Trial) -> TrialStamp | None:
    """What the header says of the trial; nothing for the site's own. Raises WrongInput."""
    if trial.is_default:
        return None
    return TrialStamp(
        trial.sponsor, trial.protocol_id, trial.protocol_name, trial.site_name, trial.site_id
    )


def require_key(trial: Trial) -> None:
    """Raises Refused once the key is destroyed."""
    if trial.key is None:
        raise Refused(_destroyed(trial))


def _destroyed(trial: Trial) -> str:
    return _("The key of the research project %(trial)s was destroyed: it has ended for good.") % {
        "trial": trial.protocol_id
    }


def _secret(trial: Trial) -> bytes:
    if trial.key is None:
        raise KeyDestroyed(f"The key of {trial.protocol_id} was destroyed.")
    return bytes.fromhex(trial.key)


def export_key(user: Person, trial: Trial) -> str:
    """The key file with which the command line makes the same UIDs, dates and pseudonyms.

    Whoever holds it can link pseudonyms to patients, hence both rights. Raises Refused.
    """
    require(user, Right.MANAGE_TRIALS)
    require_link(user, trial)
    require_key(trial)
    record("trial.key_exported", user=user, about=about(trial))
    return key_text(key_of(trial))


def about(trial: Trial) -> str:
    """How the trail names it."""
    return f"trial:{trial.protocol_id}"


def _sentences(error: ValidationError) -> str:
    names = {field.name: field.verbose_name for field in Trial._meta.fields}
    parts = (
        " ".join(sentences) if name not in names else f"{names[name]}: {' '.join(sentences)}"
        for name, sentences in error.message_dict.items()
    )
    return " ".join(parts)
