"""Pseudonyms: one-to-one mapping to patients; permissions for the change of a transfer."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import IntegrityError, connection
from django.utils import timezone

from adit.accounts.permissions import COORDINATORS, NotPermitted
from adit.audit.models import AuditEvent
from adit.audit.trail import open_patient, verify_chain
from adit.projects.models import Patient
from adit.projects.pseudonyms import (
    PseudonymConflict,
    allow_identified,
    find_pseudonym,
    get_or_create_pseudonym,
    make_change,
)
from adit.projects.services import (
    default_project,
    get_project_cipher,
    get_project_key,
    revoke_project,
)
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.parameters import AsIs, ClinicalTrialAttributes


def test_a_patient_keeps_the_same_pseudonym(project):
    first = get_or_create_pseudonym(project, "PACS1", "4711")

    assert first == "LUNG-0001"
    assert get_or_create_pseudonym(project, "PACS1", " 4711\0") == first
    assert find_pseudonym(project, "PACS1", "4711") == first
    assert find_pseudonym(project, "PACS1", "4712") == ""


def test_the_same_patient_id_in_another_domain_is_another_patient(project):
    assert get_or_create_pseudonym(project, "PACS1", "4711") != get_or_create_pseudonym(
        project, "PACS2", "4711"
    )


def test_without_a_pattern_the_pseudonym_is_derived_from_the_project_key(make_project):
    heart = make_project("HEART")

    generated = get_project_key(heart).generate_pseudonym("PACS1", "4711")
    assert get_or_create_pseudonym(heart, "PACS1", "4711") == generated
    assert get_or_create_pseudonym(make_project("LIVER"), "PACS1", "4711") != generated


@pytest.mark.parametrize("given", ["0815A", "815a"])
def test_a_patient_id_is_rejected_as_its_own_pseudonym(project, given):
    with pytest.raises(InvalidInput) as refused:
        get_or_create_pseudonym(project, "PACS1", "0815A ", given)
    assert refused.value.message.code == "pseudonym.is-patient-id"

    assert not project.patients.exists()
    assert get_or_create_pseudonym(project, "PACS1", "", given) == given, "patient without an ID"


def test_a_given_pseudonym_is_used_and_its_number_is_not_reused(project):
    assert get_or_create_pseudonym(project, "PACS1", "A", "lung-0001") == "lung-0001"
    assert get_or_create_pseudonym(project, "PACS1", "B") == "LUNG-0002"


def test_numbers_may_exceed_the_digits_of_the_pattern(make_project):
    small = make_project("SMALL", pattern="S#", last_number=9)

    assert get_or_create_pseudonym(small, "PACS1", "A") == "S10"


def test_a_second_pseudonym_for_a_patient_is_a_conflict(project):
    get_or_create_pseudonym(project, "PACS1", "4711-canary", "LUNG-A")

    with pytest.raises(PseudonymConflict) as error:
        get_or_create_pseudonym(project, "PACS1", "4711-canary", "LUNG-B")
    assert error.value.message.code == "pseudonym.patient-has-other"
    assert "canary" not in str(error.value)
    assert "LUNG-A" not in str(error.value)


@pytest.mark.parametrize("second", ["LUNG-A", "lung-a"])
def test_one_pseudonym_for_two_patients_is_a_conflict(project, second):
    get_or_create_pseudonym(project, "PACS1", "4711", "LUNG-A")

    with pytest.raises(PseudonymConflict) as error:
        get_or_create_pseudonym(project, "PACS1", "4712-canary", second)
    assert error.value.message.code == "pseudonym.taken"
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(("index", "pseudonym"), [("a", "P2"), ("b", "P1"), ("b", "p1")])
def test_database_constraints_keep_indexes_and_pseudonyms_unique(project, index, pseudonym):
    Patient.objects.create(project=project, index="a", sealed=b"", pseudonym="P1")

    with pytest.raises(IntegrityError):
        Patient.objects.create(project=project, index=index, sealed=b"", pseudonym=pseudonym)


def test_a_patient_without_an_id_requires_a_given_pseudonym(project):
    with pytest.raises(InvalidInput) as refused:
        get_or_create_pseudonym(project, "PACS1", " ")
    assert refused.value.message.code == "pseudonym.needed-without-patient-id"

    assert get_or_create_pseudonym(project, "PACS1", "", "LUNG-X") == "LUNG-X"
    assert get_or_create_pseudonym(project, "PACS1", "", "LUNG-X") == "LUNG-X"
    with pytest.raises(PseudonymConflict):
        get_or_create_pseudonym(project, "PACS1", "4711", "LUNG-X")


@pytest.mark.parametrize("given", ["Müller", "a b", "a\\b", "x" * 65])
def test_an_invalid_pseudonym_is_rejected(project, given):
    with pytest.raises(InvalidInput, match="1 to 64 characters"):
        get_or_create_pseudonym(project, "PACS1", "4711", given)


def test_patient_ids_are_not_stored_in_plain_text(project):
    get_or_create_pseudonym(project, "PACS1", "4711-canary")

    with connection.cursor() as cursor:
        for table in ("projects_patient", "audit_auditevent"):
            cursor.execute(f"SELECT * FROM {table}")
            assert "canary" not in repr(cursor.fetchall())
    event = AuditEvent.objects.get(action="pseudonym.registered")
    assert open_patient(get_project_cipher(project), event) == ("PACS1", "4711-canary")


@pytest.mark.django_db(transaction=True)
def test_concurrent_registrations_give_each_patient_one_unique_number(project):
    def register(worker):
        try:
            return [get_or_create_pseudonym(project, "PACS1", f"patient {n}") for n in range(12)]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(register, range(4)))

    assert all(seen == names[0] for seen in names)
    assert sorted(names[0]) == [f"LUNG-{n:04d}" for n in range(1, 13)]
    assert verify_chain() is None


# Permissions of a transfer -------------------------------------------------------------------


def test_the_change_contains_pseudonym_key_and_clinical_trial_attributes(
    coordinator, project, source, destination
):
    change = make_change(coordinator, project, source, destination, "4711")

    assert change.pseudonym == "LUNG-0001"
    assert change.key.uid("1.2.3") == get_project_key(project).uid("1.2.3")
    assert change.clinical_trial == ClinicalTrialAttributes("Test University", "LUNG", "Lung study")
    project.profile.refresh_from_db()
    assert project.profile.frozen_at is not None


def test_without_a_project_the_default_project_adds_no_trial_attributes(
    coordinator, source, destination
):
    change = make_change(coordinator, None, source, destination, "4711")

    assert change.clinical_trial is None
    assert change.pseudonym == find_pseudonym(default_project(), "PACS1", "4711")


def test_nodes_of_the_same_domain_share_pseudonyms(coordinator, project, make_node, destination):
    one, two = (make_node(name, settings={"domain": "hospital"}) for name in ("A", "B"))

    names = {
        make_change(coordinator, project, n, destination, "4711").pseudonym for n in (one, two)
    }
    assert names == {"LUNG-0001"}


def test_choosing_a_new_pseudonym_requires_the_permission(
    coordinator, groups, make_user, project, source, destination
):
    assert (
        make_change(coordinator, project, source, destination, "1", pseudonym="A").pseudonym == "A"
    )
    groups[COORDINATORS].permissions.remove(Permission.objects.get(codename="choose_pseudonyms"))
    other = make_user("other", COORDINATORS)

    assert make_change(other, project, source, destination, "1", pseudonym="A").pseudonym == "A"
    with pytest.raises(NotPermitted, match="Choose pseudonyms"):
        make_change(other, project, source, destination, "2", pseudonym="B")
    assert not Patient.objects.filter(pseudonym="B").exists()


@pytest.mark.parametrize("who", ["stranger", "pacsadmin"])
def test_a_non_member_gets_no_change(request, project, source, destination, who):
    with pytest.raises(NotPermitted) as refused:
        make_change(request.getfixturevalue(who), project, source, destination, "4711")
    assert refused.value.message.code == "project.not-member"
    assert not Patient.objects.exists()


def test_an_expired_or_revoked_project_gives_no_change(
    coordinator, dpo, project, source, destination
):
    project.expires_on = timezone.localdate() - timedelta(days=1)
    project.save()
    with pytest.raises(NotPermitted) as refused:
        make_change(coordinator, project, source, destination, "4711")
    assert refused.value.message.code == "project.ended"
    revoke_project(dpo, project)
    with pytest.raises(NotPermitted) as refused:
        make_change(coordinator, project, source, destination, "4711")
    assert refused.value.message.code == "project.revoked"


def test_a_project_allows_only_its_configured_nodes(
    coordinator, project, source, destination, folder_node
):
    project.sources.set([source])
    project.destinations.set([destination])

    assert make_change(coordinator, project, source, destination, "4711")
    assert make_change(coordinator, project, source, None, "4711")
    with pytest.raises(NotPermitted, match="LUNG does not allow Research folder"):
        make_change(coordinator, project, source, folder_node, "4711")
    with pytest.raises(NotPermitted, match="LUNG does not allow Research PACS"):
        make_change(coordinator, project, destination, destination, "4711")
    project.destinations.clear()
    assert make_change(coordinator, project, source, None, "4711")
    with pytest.raises(NotPermitted, match="LUNG does not allow Research PACS"):
        make_change(coordinator, project, source, destination, "4711")
    project.sources.clear()
    with pytest.raises(NotPermitted, match="LUNG does not allow PACS1"):
        make_change(coordinator, project, source, None, "4711")
    project.all_modalities = False
    with pytest.raises(NotPermitted, match="LUNG allows no modality"):
        make_change(coordinator, project, source, None, "4711")


@pytest.mark.parametrize("who", ["coordinator", "pacsadmin", "dpo", "stranger"])
def test_by_default_no_role_may_transfer_identified_data(request, source, destination, who):
    with pytest.raises(NotPermitted, match="Transfer identified data"):
        allow_identified(
            request.getfixturevalue(who), None, source, destination, reason="second opinion"
        )


def test_transferring_identified_data_requires_a_reason_and_is_audited(root, source, destination):
    with pytest.raises(NotPermitted) as refused:
        allow_identified(root, None, source, destination, reason="  ")
    assert refused.value.message.code == "identified.reason-missing"

    assert allow_identified(root, None, source, destination, reason="second opinion") == AsIs()
    assert AuditEvent.objects.get(action="identified.allowed").details == {
        "reason": "second opinion",
        "source": "PACS1",
        "destination": "Research PACS",
    }


def test_identified_data_go_only_to_allowed_destinations_of_a_project(
    root, project, source, destination, folder_node
):
    project.destinations.set([destination])

    assert allow_identified(root, project, source, destination, reason="second opinion") == AsIs()
    with pytest.raises(NotPermitted, match="LUNG does not allow Research folder"):
        allow_identified(root, project, source, folder_node, reason="second opinion")
    project.is_revoked = True
    project.save()
    with pytest.raises(NotPermitted) as refused:
        allow_identified(root, project, source, destination, reason="second opinion")
    assert refused.value.message.code == "project.revoked"
