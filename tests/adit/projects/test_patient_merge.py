"""Merging of two patient IDs under one pseudonym, and pseudonyms from a trust centre."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.nodes.models import Node
from adit.projects.models import Patient, Project
from adit.projects.patient_merge import merge_patient_id
from adit.projects.pseudonyms import PseudonymConflict, find_pseudonym, get_or_create_pseudonym
from adit.projects.reidentification import export_patient_map, reidentify
from adit.projects.services import get_project_key
from adit.projects.trust_centre import TrustCentreError, UnusablePseudonym
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db

WHY = "merged in the PACS on 2026-03-01"


@pytest.fixture
def patient(project: Project) -> Patient:
    get_or_create_pseudonym(project, "PACS1", "OLD-canary")
    return project.patients.get()


def test_a_new_patient_id_gets_the_pseudonym_of_the_merged_patient(
    root: User, project: Project, source: Node, patient: Patient
) -> None:
    merge_patient_id(root, patient, source, "NEW-canary", WHY)

    assert get_or_create_pseudonym(project, "PACS1", "NEW-canary") == "LUNG-0001"
    assert find_pseudonym(project, "PACS1", " OLD-canary ") == "LUNG-0001"
    assert project.patients.count() == 1
    assert Project.objects.get().generation == 1
    event = AuditEvent.objects.get(action="patient.joined")
    assert (event.user, event.details["reason"]) == (root, WHY)
    assert "canary" not in str(event.details)


def test_merging_an_id_that_has_a_pseudonym_requires_a_new_generation(
    root: User, project: Project, source: Node, patient: Patient
) -> None:
    get_or_create_pseudonym(project, "PACS1", "NEW-canary")
    before = get_project_key(project).uid("1.2.3")

    with pytest.raises(PseudonymConflict, match="already has the pseudonym LUNG-0002"):
        merge_patient_id(root, patient, source, "NEW-canary", WHY)
    assert find_pseudonym(project, "PACS1", "NEW-canary") == "LUNG-0002"
    merge_patient_id(root, patient, source, "NEW-canary", WHY, new_generation=True)

    now = Project.objects.get()
    assert find_pseudonym(project, "PACS1", "NEW-canary") == "LUNG-0001"
    assert get_project_key(now).uid("1.2.3") != before
    assert get_or_create_pseudonym(now, "PACS1", "THIRD") == "LUNG-0003"


def test_merging_twice_changes_nothing(
    root: User, project: Project, source: Node, patient: Patient
) -> None:
    for _ in range(2):
        merge_patient_id(root, patient, source, "NEW-canary", WHY)
    assert patient.merged_ids.count() == 1
    assert AuditEvent.objects.filter(action="patient.joined").count() == 1


def test_reidentification_and_export_show_merged_ids(
    root: User, project: Project, source: Node, patient: Patient
) -> None:
    merge_patient_id(root, patient, source, "NEW-canary", WHY)
    assert reidentify(root, patient, "x").merged_ids == (("PACS1", "NEW-canary"),)
    assert export_patient_map(root, project, "x")[0].merged_ids == (("PACS1", "NEW-canary"),)


def test_merging_requires_a_permission_a_reason_and_a_patient_id(
    dpo: User, root: User, source: Node, patient: Patient
) -> None:
    with pytest.raises(NotPermitted):
        merge_patient_id(dpo, patient, source, "NEW", WHY)
    with pytest.raises(InvalidInput):
        merge_patient_id(root, patient, source, "NEW", " ")
    with pytest.raises(InvalidInput):
        merge_patient_id(root, patient, source, "  ", WHY)


def test_the_merge_page_rejects_a_conflict_and_accepts_a_new_generation(
    root: User, project: Project, source: Node, patient: Patient, as_user: Callable[[User], Client]
) -> None:
    client, path = as_user(root), f"/projects/{project.pk}/pseudonyms/{patient.pk}/join/"
    typed: dict[str, Any] = {"node": source.pk, "patient_id": "NEW-canary", "reason": WHY}
    get_or_create_pseudonym(project, "PACS1", "NEW-canary")

    refused = client.post(path, typed)
    assert (refused.status_code, b"already has the pseudonym LUNG-0002" in refused.content) == (
        422,
        True,
    )
    done = client.post(path, {**typed, "new_generation": "on"}, follow=True).content.decode()

    assert "has the pseudonym LUNG-0001 from now on" in done
    assert "canary" not in done


# A trust centre -----------------------------------------------------------------------------------


class Centre:
    """Trust centre with fixed answers, configured by PSEUDONYM_SOURCE."""

    answers: dict[str, str] = {}

    def pseudonym(self, protocol_id: str, domain: str, patient_id: str) -> str:
        return self.answers[f"{protocol_id} {domain} {patient_id}"]


@pytest.fixture
def centre(settings: Any) -> type[Centre]:
    settings.PSEUDONYM_SOURCE = f"{__name__}.Centre"
    Centre.answers = {"LUNG PACS1 4711": "TC-99", "LUNG PACS1 4712": "not legal"}
    return Centre


def test_the_trust_centre_is_queried_once_for_a_new_patient(
    project: Project, centre: type[Centre]
) -> None:
    assert get_or_create_pseudonym(project, "PACS1", "4711") == "TC-99"
    centre.answers = {}
    assert get_or_create_pseudonym(project, "PACS1", "4711") == "TC-99"


def test_a_given_pseudonym_overrides_the_trust_centre(
    project: Project, centre: type[Centre]
) -> None:
    assert get_or_create_pseudonym(project, "PACS1", "4711", given="MINE-1") == "MINE-1"


def test_a_trust_centre_pseudonym_must_be_valid_and_unused(
    project: Project, centre: type[Centre]
) -> None:
    with pytest.raises(UnusablePseudonym) as refused:
        get_or_create_pseudonym(project, "PACS1", "4712")
    assert refused.value.message.code == "trust-centre.invalid-pseudonym"
    get_or_create_pseudonym(project, "PACS1", "1", given="TC-99")
    with pytest.raises(PseudonymConflict) as refused:
        get_or_create_pseudonym(project, "PACS1", "4711")
    assert refused.value.message.code == "pseudonym.taken"


def test_a_trust_centre_error_registers_no_patient(
    project: Project, centre: type[Centre], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Centre, protocol_id: str, domain: str, patient_id: str) -> str:
        raise TrustCentreError("Maintenance until 18:00.", again=True)

    monkeypatch.setattr(Centre, "pseudonym", refuse)

    with pytest.raises(TrustCentreError) as refused:
        get_or_create_pseudonym(project, "PACS1", "4711")

    assert refused.value.is_transient
    assert str(refused.value).endswith("a pseudonym: Maintenance until 18:00.")
    assert not project.patients.exists()
