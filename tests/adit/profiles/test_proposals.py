"""Projects are proposed by anyone and accepted by a manager; risks are chosen, never by default."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from adit.accounts.models import User
from adit.accounts.rights import Refused
from adit.audit.models import Event
from adit.nodes.models import Node
from adit.profiles.mapping import pseudonym_for
from adit.profiles.models import Profile, Trial
from adit.profiles.proposals import accept
from adit.profiles.trials import default_profile, default_trial, require_use, usable_by

pytestmark = pytest.mark.django_db
AsUser = Callable[[User], Client]


def typed(**values: Any) -> dict[str, Any]:
    profile = Profile.objects.first() or default_profile()
    basis = {"protocol_id": "HEART", "sponsor": "University", "profile": profile.pk}
    return {**basis, "faces": "withhold", "header_word": "withhold", **values}


def test_anyone_proposes_and_a_manager_accepts(
    coordinator: User, dpo: User, groups: dict[str, Group], as_user: AsUser
) -> None:
    members = [groups["Coordinators"].pk, groups["Data protection"].pk]
    papers = {"approval_number": "EK-77", "responsible": "Prof. X", "purpose": "Hearts"}
    proposed = as_user(coordinator).post("/projects/new/", typed(members=members[:1], **papers))
    made = Trial.objects.get(protocol_id="HEART")

    assert proposed["Location"] == f"/projects/{made.pk}/"
    assert (made.is_accepted, made.proposed_by, made.approval_number) == (
        False,
        coordinator,
        "EK-77",
    )
    assert made not in usable_by(coordinator)
    with pytest.raises(Refused, match="a manager has to accept it"):
        require_use(dpo, made)
    page = as_user(dpo).get(f"/projects/{made.pk}/").content.decode()
    assert "EK-77" in page
    assert "Proposed by" in page

    done = as_user(dpo).post(f"/projects/{made.pk}/accept/", follow=True).content.decode()

    assert "is accepted" in done
    assert made in usable_by(coordinator)
    actions = Event.objects.filter(about="trial:HEART").values_list("action", "user")
    assert list(actions) == [
        ("trial.proposed", coordinator.pk),
        ("trial.accepted", dpo.pk),
    ]


def test_a_proposer_names_no_foreign_group_and_no_node(
    coordinator: User, groups: dict[str, Group], source: Node, as_user: AsUser
) -> None:
    client = as_user(coordinator)
    page = client.get("/projects/new/").content.decode()
    assert "Coordinators" in page
    assert "Data protection" not in page
    assert source.name not in page
    foreign = typed(members=[groups["Data protection"].pk])
    assert client.post("/projects/new/", foreign).status_code == 422


def test_nobody_accepts_the_own_proposal(root: User, coordinator: User) -> None:
    trial = Trial(protocol_id="OWN", sponsor="U", profile=default_profile())
    trial.proposed_by, trial.is_accepted, trial.key = root, False, "00" * 32
    trial.save()
    with pytest.raises(Refused, match="Somebody else"):
        accept(root, trial)
    with pytest.raises(Refused, match="right"):
        accept(coordinator, trial)


# Risks --------------------------------------------------------------------------------------------

RISKS = ["faces", "header_word"]


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [("", "nothing is chosen for you"), ("accept", "Say why the risk is accepted")],
)
def test_each_risk_is_chosen_and_accepting_needs_a_reason(
    dpo: User, as_user: AsUser, risk: str, chosen: str, sentence: str
) -> None:
    answer = as_user(dpo).post("/projects/new/", typed(**{risk: chosen}))
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


@pytest.mark.parametrize("risk", RISKS)
def test_no_choice_is_made_for_anybody(dpo: User, as_user: AsUser, risk: str) -> None:
    page = as_user(dpo).get("/projects/new/").content.decode()
    radios = [part for part in page.split("<input") if f'name="{risk}"' in part]
    assert len(radios) == 2
    assert not any("checked" in part.split(">")[0] for part in radios)


@pytest.mark.parametrize("risk", RISKS)
def test_the_choice_stands_on_the_page_and_in_the_trail(
    dpo: User, trial: Trial, as_user: AsUser, risk: str
) -> None:
    client = as_user(dpo)
    assert client.get(f"/projects/{trial.pk}/").content.decode().count("nobody has chosen yet") == 2

    given = typed(protocol_id="LUNG", **{risk: "accept", f"{risk}_reason": "the board agreed"})
    client.post(f"/projects/{trial.pk}/edit/", given)

    page = client.get(f"/projects/{trial.pk}/").content.decode()
    assert "the risk is accepted. Reason: the board agreed" in page
    assert "nobody has chosen yet" not in page
    details = Event.objects.get(action="trial.changed").details
    assert (details[risk], details[f"{risk}_reason"]) == ("accept", "the board agreed")
    trial.refresh_from_db()
    assert trial.generation == 1


def test_to_accept_the_headers_word_no_longer_gives_new_identifiers(
    dpo: User, trial: Trial, as_user: AsUser
) -> None:
    """What left unmasked could be masked from then on: one UID never has two contents."""
    client, path = as_user(dpo), f"/projects/{trial.pk}/edit/"
    accepted = {"header_word": "accept", "header_word_reason": "phantoms"}
    client.post(path, typed(protocol_id="LUNG", **accepted))
    trial.refresh_from_db()
    assert trial.generation == 1

    client.post(path, typed(protocol_id="LUNG"))

    trial.refresh_from_db()
    assert (trial.generation, trial.header_word, trial.header_word_reason) == (2, "withhold", "")


def test_the_sites_own_project_chooses_too(dpo: User, as_user: AsUser) -> None:
    own = default_trial()
    given = {"profile": own.profile_id, "faces": "withhold", "header_word": "withhold"}
    as_user(dpo).post(f"/projects/{own.pk}/edit/", given)
    assert (default_trial().faces, default_trial().header_word) == ("withhold", "withhold")


def test_a_full_project_takes_no_more_patients(trial: Trial) -> None:
    Trial.objects.filter(pk=trial.pk).update(patient_cap=1)
    trial.refresh_from_db()
    assert pseudonym_for(trial, "PACS1", "1") == pseudonym_for(trial, "PACS1", "1")
    with pytest.raises(Refused, match="LUNG is full"):
        pseudonym_for(trial, "PACS1", "2")
