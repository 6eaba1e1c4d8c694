"""The mapping: one patient, one pseudonym, both ways; and what a transfer may do with it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import IntegrityError, connection
from django.utils import timezone

from adit.accounts.groups import COORDINATORS
from adit.accounts.permissions import Refused
from adit.audit.models import Event
from adit.audit.trail import unveiled, verify
from adit.projects.models import Patient
from adit.projects.pseudonyms import Conflict, as_is_for, change_for, known_pseudonym, pseudonym_for
from adit.projects.services import box_of, default_project, key_of, revoke
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.parameters import AsIs, ClinicalTrialAttributes


def test_a_patient_keeps_the_pseudonym(project):
    first = pseudonym_for(project, "PACS1", "4711")

    assert first == "LUNG-0001"
    assert pseudonym_for(project, "PACS1", " 4711\0") == first
    assert known_pseudonym(project, "PACS1", "4711") == first
    assert known_pseudonym(project, "PACS1", "4712") == ""


def test_the_same_id_of_another_domain_is_another_patient(project):
    assert pseudonym_for(project, "PACS1", "4711") != pseudonym_for(project, "PACS2", "4711")


def test_without_a_pattern_the_pseudonym_follows_from_the_projects_key(make_project):
    heart = make_project("HEART")

    generated = key_of(heart).generate_pseudonym("PACS1", "4711")
    assert pseudonym_for(heart, "PACS1", "4711") == generated
    assert pseudonym_for(make_project("LIVER"), "PACS1", "4711") != generated


@pytest.mark.parametrize("given", ["0815A", "815a"])
def test_a_patient_id_is_no_pseudonym(project, given):
    with pytest.raises(InvalidInput, match="the patient's own ID"):
        pseudonym_for(project, "PACS1", "0815A ", given)

    assert not project.patients.exists()
    assert pseudonym_for(project, "PACS1", "", given) == given, "a patient without any ID"


def test_a_given_pseudonym_wins_and_its_number_is_not_given_twice(project):
    assert pseudonym_for(project, "PACS1", "A", "lung-0001") == "lung-0001"
    assert pseudonym_for(project, "PACS1", "B") == "LUNG-0002"


def test_numbers_grow_beyond_their_digits(make_project):
    small = make_project("SMALL", pattern="S#", last_number=9)

    assert pseudonym_for(small, "PACS1", "A") == "S10"


def test_a_second_pseudonym_for_one_patient_is_a_conflict(project):
    pseudonym_for(project, "PACS1", "4711-canary", "LUNG-A")

    with pytest.raises(Conflict, match="already has another pseudonym") as error:
        pseudonym_for(project, "PACS1", "4711-canary", "LUNG-B")
    assert "canary" not in str(error.value)
    assert "LUNG-A" not in str(error.value)


@pytest.mark.parametrize("second", ["LUNG-A", "lung-a"])
def test_one_pseudonym_for_two_patients_is_a_conflict(project, second):
    pseudonym_for(project, "PACS1", "4711", "LUNG-A")

    with pytest.raises(Conflict, match="already stands for another patient") as error:
        pseudonym_for(project, "PACS1", "4712-canary", second)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(("index", "pseudonym"), [("a", "P2"), ("b", "P1"), ("b", "p1")])
def test_the_database_itself_keeps_the_mapping_unique_both_ways(project, index, pseudonym):
    Patient.objects.create(project=project, index="a", sealed=b"", pseudonym="P1")

    with pytest.raises(IntegrityError):
        Patient.objects.create(project=project, index=index, sealed=b"", pseudonym=pseudonym)


def test_without_a_patient_id_a_pseudonym_must_be_given(project):
    with pytest.raises(InvalidInput, match="no patient ID"):
        pseudonym_for(project, "PACS1", " ")

    assert pseudonym_for(project, "PACS1", "", "LUNG-X") == "LUNG-X"
    assert pseudonym_for(project, "PACS1", "", "LUNG-X") == "LUNG-X"
    with pytest.raises(Conflict):
        pseudonym_for(project, "PACS1", "4711", "LUNG-X")


@pytest.mark.parametrize("given", ["Müller", "a b", "a\\b", "x" * 65])
def test_an_illegal_pseudonym_is_refused(project, given):
    with pytest.raises(InvalidInput, match="1 to 64 characters"):
        pseudonym_for(project, "PACS1", "4711", given)


def test_no_patient_id_stands_in_the_database(project):
    pseudonym_for(project, "PACS1", "4711-canary")

    with connection.cursor() as cursor:
        for table in ("profiles_patient", "audit_event"):
            cursor.execute(f"SELECT * FROM {table}")
            assert "canary" not in repr(cursor.fetchall())
    event = Event.objects.get(action="pseudonym.registered")
    assert unveiled(box_of(project), event) == ("PACS1", "4711-canary")


@pytest.mark.django_db(transaction=True)
def test_patients_registered_at_once_get_each_a_number_of_their_own(project):
    def register(worker):
        try:
            return [pseudonym_for(project, "PACS1", f"patient {n}") for n in range(12)]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(register, range(4)))

    assert all(seen == names[0] for seen in names)
    assert sorted(names[0]) == [f"LUNG-{n:04d}" for n in range(1, 13)]
    assert verify() is None


# What a transfer is allowed ------------------------------------------------------------------


def test_the_change_carries_profile_pseudonym_key_and_stamp(
    coordinator, project, source, destination
):
    change = change_for(coordinator, project, source, destination, "4711")

    assert change.pseudonym == "LUNG-0001"
    assert change.key.uid("1.2.3") == key_of(project).uid("1.2.3")
    assert change.stamp == ClinicalTrialAttributes("Test University", "LUNG", "Lung study")
    project.profile.refresh_from_db()
    assert project.profile.frozen_at is not None


def test_without_a_project_the_sites_own_is_used_and_not_stamped(coordinator, source, destination):
    change = change_for(coordinator, None, source, destination, "4711")

    assert change.stamp is None
    assert change.pseudonym == known_pseudonym(default_project(), "PACS1", "4711")


def test_nodes_of_one_domain_share_their_patients(coordinator, project, make_node, destination):
    one, two = (make_node(name, settings={"domain": "hospital"}) for name in ("A", "B"))

    names = {change_for(coordinator, project, n, destination, "4711").pseudonym for n in (one, two)}
    assert names == {"LUNG-0001"}


def test_choosing_a_pseudonym_needs_a_right_unless_it_is_the_known_one(
    coordinator, groups, make_user, project, source, destination
):
    assert (
        change_for(coordinator, project, source, destination, "1", pseudonym="A").pseudonym == "A"
    )
    groups[COORDINATORS].permissions.remove(Permission.objects.get(codename="choose_pseudonyms"))
    other = make_user("other", COORDINATORS)

    assert change_for(other, project, source, destination, "1", pseudonym="A").pseudonym == "A"
    with pytest.raises(Refused, match="Choose pseudonyms"):
        change_for(other, project, source, destination, "2", pseudonym="B")
    assert not Patient.objects.filter(pseudonym="B").exists()


@pytest.mark.parametrize("who", ["stranger", "pacsadmin"])
def test_who_is_no_member_gets_no_change(request, project, source, destination, who):
    with pytest.raises(Refused, match="None of your groups"):
        change_for(request.getfixturevalue(who), project, source, destination, "4711")
    assert not Patient.objects.exists()


def test_an_ended_or_revoked_project_gives_no_change(
    coordinator, dpo, project, source, destination
):
    project.expires_on = timezone.localdate() - timedelta(days=1)
    project.save()
    with pytest.raises(Refused, match="has ended"):
        change_for(coordinator, project, source, destination, "4711")
    revoke(dpo, project)
    with pytest.raises(Refused, match="was revoked"):
        change_for(coordinator, project, source, destination, "4711")


def test_a_project_allows_only_the_nodes_it_names(
    coordinator, project, source, destination, folder_node
):
    project.sources.add(source)
    project.destinations.add(destination)

    assert change_for(coordinator, project, source, destination, "4711")
    assert change_for(coordinator, project, source, None, "4711")
    with pytest.raises(Refused, match="LUNG does not allow Research folder"):
        change_for(coordinator, project, source, folder_node, "4711")
    with pytest.raises(Refused, match="LUNG does not allow Research PACS"):
        change_for(coordinator, project, destination, destination, "4711")


@pytest.mark.parametrize("who", ["coordinator", "pacsadmin", "dpo", "stranger"])
def test_by_default_nobody_sends_identified_data(request, source, destination, who):
    with pytest.raises(Refused, match="Transfer identified data"):
        as_is_for(request.getfixturevalue(who), None, source, destination, reason="second opinion")


def test_identified_data_leave_with_a_reason_that_stands_in_the_trail(root, source, destination):
    with pytest.raises(Refused, match="Say why"):
        as_is_for(root, None, source, destination, reason="  ")

    assert as_is_for(root, None, source, destination, reason="second opinion") == AsIs()
    assert Event.objects.get(action="identified.allowed").details == {
        "reason": "second opinion",
        "source": "PACS1",
        "destination": "Research PACS",
    }


def test_identified_data_leave_for_a_project_only_where_it_allows(
    root, project, source, destination, folder_node
):
    project.destinations.add(destination)

    assert as_is_for(root, project, source, destination, reason="second opinion") == AsIs()
    with pytest.raises(Refused, match="LUNG does not allow Research folder"):
        as_is_for(root, project, source, folder_node, reason="second opinion")
    project.is_revoked = True
    project.save()
    with pytest.raises(Refused, match="was revoked"):
        as_is_for(root, project, source, destination, reason="second opinion")
