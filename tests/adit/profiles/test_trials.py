"""Trials: who may make and use one, and what its key gives."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import timezone

from adit.accounts.groups import COORDINATORS, DATA_PROTECTION
from adit.accounts.rights import Refused
from adit.audit.models import Event
from adit.profiles.models import Profile, ProfileIsFrozen, Trial
from adit.profiles.trials import (
    box_of,
    choose_profile,
    create_trial,
    default_trial,
    export_key,
    key_of,
    may_use,
    require_use,
    revoke,
    usable_by,
)
from adit.vault.box import SealBroken
from adit_engine.errors import WrongInput
from adit_engine.pseudonymize.keyfile import read_key
from adit_engine.pseudonymize.profile import Profile as Rules

MATRIX = {"coordinator": False, "pacsadmin": False, "stranger": False, "dpo": True, "root": True}


def unsaved(**values):
    return Trial(**{"protocol_id": "HEART", "sponsor": "University", **values})


def other_profile():
    rules = Rules("Other", 1, frozenset())
    return Profile.objects.create(name="Other", text=rules.to_text())


@pytest.mark.parametrize(("who", "allowed"), MATRIX.items())
def test_only_trial_managers_make_revoke_and_change_trials(request, trial, who, allowed):
    user = request.getfixturevalue(who)
    for action in (
        lambda: create_trial(user, unsaved()),
        lambda: choose_profile(user, trial, other_profile()),
        lambda: revoke(user, trial),
    ):
        if allowed:
            action()
        else:
            with pytest.raises(Refused, match="Manage research projects"):
                action()


def test_a_new_trial_has_a_key_of_its_own_and_the_default_profile(dpo, groups):
    one = create_trial(dpo, unsaved(), members=[groups[COORDINATORS]])
    two = create_trial(dpo, unsaved(protocol_id="LIVER"))

    assert len(bytes.fromhex(one.key)) == 32
    assert one.key != two.key
    assert Rules.parse(one.profile.text) == Rules.default()
    assert Event.objects.get(action="trial.created", about="trial:HEART").user == dpo


def test_the_key_does_not_stand_in_the_database(trial):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM profiles_trial")
        rows = repr(cursor.fetchall())

    assert trial.protocol_id in rows
    assert trial.key not in rows
    assert repr(bytes.fromhex(trial.key))[2:-1] not in rows


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"protocol_id": "LÜNG"}, "Letters, digits, dot, hyphen only"),
        ({"protocol_id": "LUNG"}, "already exists"),
        ({"sponsor": ""}, "sponsor: "),
        ({"pattern": "LUNG"}, "one run of #"),
        ({"pattern": "A##-##"}, "one run of #"),
        ({"pattern": "Ä-##"}, "one run of #"),
    ],
)
def test_a_trial_that_cannot_be_is_refused_with_a_sentence(dpo, trial, values, sentence):
    with pytest.raises(WrongInput, match=sentence):
        create_trial(dpo, unsaved(**values))


def test_the_default_trial_is_made_once_and_is_everybodys(stranger):
    assert default_trial() == default_trial()
    assert may_use(stranger, default_trial())
    assert default_trial() not in usable_by(stranger)


@pytest.mark.parametrize(
    ("who", "allowed"),
    {"coordinator": True, "pacsadmin": False, "stranger": False, "dpo": True, "root": True}.items(),
)
def test_members_and_trial_managers_use_a_trial(request, trial, who, allowed):
    user = request.getfixturevalue(who)

    assert may_use(user, trial) is allowed
    assert (trial in usable_by(user)) is allowed


def test_a_closed_account_uses_no_trial(coordinator, trial):
    coordinator.is_active = False

    assert not may_use(coordinator, trial)
    assert not usable_by(coordinator).exists()


def test_an_ended_trial_is_for_nobody(coordinator, root, trial):
    trial.expires_on = timezone.localdate() - timedelta(days=1)
    trial.save()

    for user in (coordinator, root):
        assert trial not in usable_by(user)
        with pytest.raises(Refused, match="LUNG has ended"):
            require_use(user, trial)


def test_a_trial_may_be_used_on_its_last_day(coordinator, trial):
    trial.expires_on = timezone.localdate()
    trial.save()

    assert may_use(coordinator, trial)
    assert trial in usable_by(coordinator)


def test_a_revoked_trial_is_for_nobody(coordinator, dpo, trial):
    revoke(dpo, trial)

    assert trial not in usable_by(coordinator)
    with pytest.raises(Refused, match="LUNG was revoked"):
        require_use(coordinator, trial)


def test_what_one_trial_sealed_no_other_opens(make_trial):
    lung, heart = make_trial("LUNG"), make_trial("HEART")
    sealed = box_of(lung).seal("secret", "here")

    assert box_of(lung).open(sealed, "here") == "secret"
    with pytest.raises(SealBroken):
        box_of(heart).open(sealed, "here")


def test_the_exported_key_makes_the_same_uids(root, trial, tmp_path):
    file = tmp_path / "lung.key"
    file.write_text(export_key(root, trial))

    assert read_key(file).uid("1.2.3") == key_of(trial).uid("1.2.3")
    assert Event.objects.filter(action="trial.key_exported", user=root).exists()


def test_exporting_a_key_needs_two_rights(dpo, coordinator, trial, groups, make_user):
    for user in (dpo, coordinator):
        with pytest.raises(Refused):
            export_key(user, trial)
    groups[DATA_PROTECTION].permissions.add(Permission.objects.get(codename="reidentify"))

    assert export_key(make_user("keyholder", DATA_PROTECTION), trial)


def test_another_profile_gives_other_uids(dpo, trial):
    before = key_of(trial).uid("1.2.3")

    choose_profile(dpo, trial, trial.profile)
    assert key_of(trial).uid("1.2.3") == before
    choose_profile(dpo, trial, other_profile())
    assert key_of(trial).uid("1.2.3") != before
    assert key_of(trial).generated_pseudonym("PACS1", "4711") == key_of(
        Trial.objects.get(pk=trial.pk)
    ).generated_pseudonym("PACS1", "4711")


def test_a_used_profile_does_not_change_any_more(db):
    profile = other_profile()
    profile.frozen_at = timezone.now()
    profile.save()

    profile.text = "changed"
    with pytest.raises(ProfileIsFrozen):
        profile.save()
