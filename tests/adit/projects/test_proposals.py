"""Project proposals, their acceptance by a manager, and the explicit choice of risks."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from lab.projects import APPROVAL

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.nodes.models import Node
from adit.projects.models import ProfileVersion, Project
from adit.projects.pseudonyms import get_or_create_pseudonym
from adit.projects.services import (
    accept_project,
    default_profile,
    default_project,
    require_use,
    usable_projects,
)

pytestmark = pytest.mark.django_db
AsUser = Callable[[User], Client]


def typed(**values: Any) -> dict[str, Any]:
    profile = ProfileVersion.objects.first() or default_profile()
    basis = {"protocol_id": "HEART", "sponsor": "University", "profile": profile.pk}
    risks = {"faces": "withhold", "header_word": "withhold"}
    return {**basis, **risks, **APPROVAL, "all_modalities": "on", **values}


def test_any_user_proposes_a_project_and_a_manager_accepts_it(
    coordinator: User,
    dpo: User,
    source: Node,
    destination: Node,
    groups: dict[str, Group],
    as_user: AsUser,
) -> None:
    members = [groups["Coordinators"].pk, groups["Data protection"].pk]
    papers = {"approval_number": "EK-77", "responsible": "Prof. X", "recipient": ""}
    proposed = as_user(coordinator).post("/projects/new/", typed(members=members[:1], **papers))
    made = Project.objects.get(protocol_id="HEART")

    assert proposed["Location"] == f"/projects/{made.pk}/"
    assert (made.is_accepted, made.proposed_by, made.approval_number) == (
        False,
        coordinator,
        "EK-77",
    )
    assert made not in usable_projects(coordinator)
    with pytest.raises(NotPermitted) as refused:
        require_use(dpo, made)
    assert refused.value.message.code == "project.not-accepted"
    page = as_user(dpo).get(f"/projects/{made.pk}/").content.decode()
    assert "EK-77" in page
    assert "Proposed by" in page
    assert "cannot be accepted yet. Missing: recipient, sources, destinations." in page
    early = as_user(dpo).post(f"/projects/{made.pk}/accept/", follow=True).content.decode()
    assert "is incomplete. Missing: recipient, sources, destinations." in early
    assert not Project.objects.get(pk=made.pk).is_accepted
    complete = typed(members=members[:1], sources=[source.pk], destinations=[destination.pk])
    as_user(dpo).post(f"/projects/{made.pk}/edit/", complete)

    done = as_user(dpo).post(f"/projects/{made.pk}/accept/", follow=True).content.decode()

    assert "is accepted" in done
    assert made in usable_projects(coordinator)
    actions = AuditEvent.objects.filter(about="project:HEART").values_list("action", "user")
    assert list(actions) == [
        ("project.proposed", coordinator.pk),
        ("project.changed", dpo.pk),
        ("project.accepted", dpo.pk),
    ]


def test_a_proposer_cannot_choose_foreign_groups_or_nodes(
    coordinator: User, groups: dict[str, Group], source: Node, as_user: AsUser
) -> None:
    client = as_user(coordinator)
    page = client.get("/projects/new/").content.decode()
    assert "Coordinators" in page
    assert "Data protection" not in page
    assert source.name not in page
    foreign = typed(members=[groups["Data protection"].pk])
    assert client.post("/projects/new/", foreign).status_code == 422


def test_a_manager_cannot_accept_their_own_proposal(root: User, coordinator: User) -> None:
    project = Project(protocol_id="OWN", sponsor="U", profile=default_profile())
    project.proposed_by, project.is_accepted, project.key = root, False, "00" * 32
    project.save()
    with pytest.raises(NotPermitted) as refused:
        accept_project(root, project)
    assert refused.value.message.code == "project.own-proposal"
    with pytest.raises(NotPermitted, match="Manage research projects"):
        accept_project(coordinator, project)


# Risks --------------------------------------------------------------------------------------------

RISKS = ["faces", "header_word"]


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [("", "There is no default"), ("accept", "Enter the reason why the risk is accepted")],
)
def test_each_risk_requires_a_choice_and_acceptance_requires_a_reason(
    dpo: User, as_user: AsUser, risk: str, chosen: str, sentence: str
) -> None:
    answer = as_user(dpo).post("/projects/new/", typed(**{risk: chosen}))
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


@pytest.mark.parametrize("risk", RISKS)
def test_no_risk_choice_is_preselected(dpo: User, as_user: AsUser, risk: str) -> None:
    page = as_user(dpo).get("/projects/new/").content.decode()
    radios = [part for part in page.split("<input") if f'name="{risk}"' in part]
    assert len(radios) == 2
    assert not any("checked" in part.split(">")[0] for part in radios)


@pytest.mark.parametrize("risk", RISKS)
def test_the_risk_choice_is_shown_on_the_page_and_audited(
    dpo: User, project: Project, as_user: AsUser, risk: str
) -> None:
    client = as_user(dpo)
    assert (
        client.get(f"/projects/{project.pk}/")
        .content.decode()
        .count("the project has no decision on them yet")
        == 2
    )

    given = typed(protocol_id="LUNG", **{risk: "accept", f"{risk}_reason": "the board agreed"})
    client.post(f"/projects/{project.pk}/edit/", given)

    page = client.get(f"/projects/{project.pk}/").content.decode()
    assert "the risk is accepted. Reason: the board agreed" in page
    assert "the project has no decision on them yet" not in page
    details = AuditEvent.objects.get(action="project.changed").details
    assert (details[risk], details[f"{risk}_reason"]) == ("accept", "the board agreed")
    project.refresh_from_db()
    assert project.generation == 1


def test_withdrawing_the_header_word_acceptance_starts_a_new_generation(
    dpo: User, project: Project, as_user: AsUser
) -> None:
    """Images sent unmasked could be masked later; one UID must never have two contents."""
    client, path = as_user(dpo), f"/projects/{project.pk}/edit/"
    accepted = {"header_word": "accept", "header_word_reason": "phantoms"}
    client.post(path, typed(protocol_id="LUNG", **accepted))
    project.refresh_from_db()
    assert project.generation == 1

    client.post(path, typed(protocol_id="LUNG"))

    project.refresh_from_db()
    assert (project.generation, project.header_word, project.header_word_reason) == (
        2,
        "withhold",
        "",
    )


def test_the_default_project_stores_risk_choices(dpo: User, as_user: AsUser) -> None:
    own = default_project()
    given = {"profile": own.profile_id, "faces": "withhold", "header_word": "withhold"}
    as_user(dpo).post(f"/projects/{own.pk}/edit/", given)
    assert (default_project().faces, default_project().header_word) == ("withhold", "withhold")


def test_a_project_at_its_patient_limit_rejects_new_patients(project: Project) -> None:
    Project.objects.filter(pk=project.pk).update(patient_cap=1)
    project.refresh_from_db()
    assert get_or_create_pseudonym(project, "PACS1", "1") == get_or_create_pseudonym(
        project, "PACS1", "1"
    )
    with pytest.raises(NotPermitted, match="LUNG has reached its limit of 1 patient\\."):
        get_or_create_pseudonym(project, "PACS1", "2")
