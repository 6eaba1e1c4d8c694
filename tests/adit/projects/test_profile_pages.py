"""Profile pages: versions in words, new versions, preview on one image."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone
from lab.small_images import ct
from pydicom import Dataset
from pydicom.uid import generate_uid

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.nodes.models import Node
from adit.projects import services
from adit.projects.models import Patient, ProfileVersion
from adit.projects.profile_versions import create_version
from adit_engine.nodes.memory import MemoryNode
from adit_engine.pseudonymize.profile import preset_names
from adit_engine.values.instance import EXPLICIT_LE, Instance

AsUser = Callable[[User], Client]
TEXT = 'name = "{name}"\nversion = {version}\n\n[[rules]]\ncode = "113100"\n'


@pytest.fixture
def profile(db: None) -> ProfileVersion:
    return services.default_profile()


def test_a_version_page_shows_rules_in_words_with_their_codes(
    coordinator: User, profile: ProfileVersion, as_user: AsUser
) -> None:
    page = as_user(coordinator).get(f"/profiles/{profile.pk}/").content.decode()

    assert "113107" in page
    assert "Dates are shifted" in page
    assert "/next/" not in page


def test_the_page_hides_the_names_of_projects_the_user_may_not_see(
    stranger: User, coordinator: User, project: object, profile: ProfileVersion, as_user: AsUser
) -> None:
    assert "Lung study" in as_user(coordinator).get(f"/profiles/{profile.pk}/").content.decode()
    assert "Lung study" not in as_user(stranger).get(f"/profiles/{profile.pk}/").content.decode()


def test_saving_a_new_version_leaves_the_old_version_unchanged(
    dpo: User, profile: ProfileVersion, as_user: AsUser
) -> None:
    old = profile.text
    client = as_user(dpo)
    draft = client.get(f"/profiles/{profile.pk}/next/").context["form"].initial["text"]

    client.post(f"/profiles/{profile.pk}/next/", {"text": draft.replace("\n", "\r\n")})

    profile.refresh_from_db()
    assert profile.text == old
    made = ProfileVersion.objects.get(name=profile.name, version=2)
    assert "\r" not in made.text
    assert AuditEvent.objects.get(action="profile.created").about == f"profile:{made.pk}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.format(name="ADIT default", version=1), "write version = 2"),
        (TEXT.format(name="New", version=7), "write version = 1"),
        (TEXT.format(name="New", version=1) + '[[rules]]\ncode = "113999"', "Line 6"),
        (TEXT.format(name="New", version=1) + '[[rules]]\ncode = "113100"', "Line 6"),
        (TEXT.format(name="x" * 60, version=1), "at most 48 characters"),
        ("<script>alert(1)</script>", "not valid TOML"),
        ("", "This field is required"),
        ("x" * 200_001, "at most 200000 characters"),
    ],
)
def test_an_invalid_profile_text_is_rejected(
    dpo: User, profile: ProfileVersion, as_user: AsUser, text: str, said: str
) -> None:
    answer = as_user(dpo).post(f"/profiles/{profile.pk}/next/", {"text": text})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert said in page
    assert "<script>alert" not in page
    assert ProfileVersion.objects.count() == 1


def test_the_plain_text_page_lists_the_sections_for_an_ethics_board(
    coordinator: User, profile: ProfileVersion, as_user: AsUser
) -> None:
    page = as_user(coordinator).get(f"/profiles/{profile.pk}/plain/")

    titles = [section.title for section in page.context["sections"]]
    assert titles[1:] == [
        "What is removed",
        "What is changed",
        "What is kept",
        "What is withheld",
        "Remaining risks",
    ]
    assert all(section.sentences or section.points for section in page.context["sections"])


def test_each_preset_of_the_engine_is_listed_once(
    dpo: User, profile: ProfileVersion, as_user: AsUser
) -> None:
    client = as_user(dpo)
    client.get("/profiles/")
    page = client.get("/profiles/").content.decode()

    names = list(ProfileVersion.objects.values_list("name", flat=True))
    assert len(names) == len(set(names)) == len(preset_names())
    assert all(name in page for name in names)


# Preview -------------------------------------------------------------------------------------


@pytest.fixture
def tester(make_user: Callable[..., User], groups: dict[str, Group]) -> User:
    """User who sees identified data, reads PACS1 and manages profiles."""
    group = Group.objects.create(name="Profile testers")
    group.permissions.add(Permission.objects.get(codename="manage_profiles"))
    user = make_user("tester", "Coordinators")
    user.groups.add(group)
    return user


def put(node: Node, dataset: Dataset) -> str:
    """Store an image in the memory node and return its study UID."""
    instance = ct(dataset)
    MemoryNode.shelves.setdefault(node.name, {})[instance.instance_uid] = instance
    return str(instance.in_header.ref.study_uid)


@pytest.fixture
def study(source: Node) -> str:
    dataset = Dataset()
    dataset.PatientName = "Canary^Clara"
    dataset.PatientID = "4711-canary"
    dataset.PatientBirthDate = "19560412"
    return put(source, dataset)


def test_the_preview_shows_one_image_before_and_after(
    tester: User, profile: ProfileVersion, source: Node, study: str, as_user: AsUser
) -> None:
    answer = as_user(tester).post(
        f"/profiles/{profile.pk}/try/", {"node": source.pk, "study_uid": f" {study} "}
    )

    page = answer.content.decode()
    lines = {line.keyword: line for line in answer.context["tried"].lines}
    assert answer.context["tried"].reason is None
    assert (lines["PatientName"].before, lines["PatientName"].after) == (
        "Canary^Clara",
        "TRY-IT-0001",
    )
    assert lines["PatientBirthDate"].after == ""
    assert lines["Modality"].change == "same"
    assert lines["PatientName"].rule == "PS3.15 E.1-1: Z"
    assert "Canary^Clara" in page
    assert "no-store" in answer["Cache-Control"]
    assert "Canary" not in page.partition("</title>")[0]


def test_the_preview_stores_nothing_and_is_audited(
    tester: User, profile: ProfileVersion, source: Node, study: str, as_user: AsUser
) -> None:
    as_user(tester).post(f"/profiles/{profile.pk}/try/", {"node": source.pk, "study_uid": study})

    profile.refresh_from_db()
    assert profile.frozen_at is None
    assert not Patient.objects.exists()
    event = AuditEvent.objects.get(action="profile.tried")
    assert event.details == {"node": "PACS1", "withheld": ""}
    assert event.patient_sealed == ["PACS1", "4711-canary"]


def test_the_preview_shows_no_image_of_a_blocked_patient(
    tester: User, dpo: User, profile: ProfileVersion, source: Node, study: str, as_user: AsUser
) -> None:
    blocking.block_patient(
        dpo, None, "PACS1", "4711-canary", reason="objection", withdrawn_on=timezone.localdate()
    )

    answer = as_user(tester).post(
        f"/profiles/{profile.pk}/try/", {"node": source.pk, "study_uid": study}
    )

    page = answer.content.decode()
    assert (answer.status_code, answer.context["tried"]) == (422, None)
    assert "must not be transferred" in page
    assert "Canary" not in page
    assert not AuditEvent.objects.filter(action="profile.tried").exists()


def test_the_preview_reports_a_withheld_image(
    tester: User, profile: ProfileVersion, source: Node, as_user: AsUser
) -> None:
    dataset = Dataset()
    dataset.BurnedInAnnotation = "YES"
    study = put(source, dataset)

    answer = as_user(tester).post(
        f"/profiles/{profile.pk}/try/", {"node": source.pk, "study_uid": study}
    )

    page = answer.content.decode()
    assert "This image would be withheld." in page
    assert "TRY-IT" not in page
    assert AuditEvent.objects.get(action="profile.tried").details["withheld"]


def test_the_preview_escapes_html_in_header_values(
    tester: User, profile: ProfileVersion, source: Node, as_user: AsUser
) -> None:
    dataset = Dataset()
    dataset.PatientName = "<img src=x onerror=alert(1)>"
    study = put(source, dataset)

    page = as_user(tester).post(
        f"/profiles/{profile.pk}/try/", {"node": source.pk, "study_uid": study}
    )

    assert "<img src=x" not in page.content.decode()
    assert "&lt;img src=x" in page.content.decode()


@pytest.mark.parametrize("uid", ["", "1..2", "x", "1.2*", "1" * 65])
def test_an_invalid_study_uid_is_rejected_without_opening_the_node(
    tester: User, profile: ProfileVersion, source: Node, as_user: AsUser, uid: str
) -> None:
    answer = as_user(tester).post(
        f"/profiles/{profile.pk}/try/", {"node": source.pk, "study_uid": uid}
    )

    assert answer.status_code == 422
    assert not AuditEvent.objects.filter(action="node.opened").exists()


def test_the_preview_reports_a_missing_study_and_a_closed_pacs(
    tester: User, profile: ProfileVersion, source: Node, as_user: AsUser
) -> None:
    client, values = as_user(tester), {"node": source.pk, "study_uid": generate_uid()}
    assert b"returned no image" in client.post(f"/profiles/{profile.pk}/try/", values).content
    Node.objects.filter(pk=source.pk).update(is_open=False)

    answer = client.post(f"/profiles/{profile.pk}/try/", values)

    assert (answer.status_code, b"is closed" in answer.content) == (422, True)


def test_the_preview_rejects_a_pacs_without_access(
    tester: User, profile: ProfileVersion, make_node: Callable[..., Node], as_user: AsUser
) -> None:
    foreign = make_node("Foreign PACS")
    values = {"node": foreign.pk, "study_uid": "1.2.3"}

    assert as_user(tester).post(f"/profiles/{profile.pk}/try/", values).status_code == 422


def test_the_preview_does_not_show_a_malformed_image(
    tester: User, profile: ProfileVersion, source: Node, study: str, as_user: AsUser
) -> None:
    shelf = MemoryNode.shelves[source.name]
    whole = next(iter(shelf.values()))
    broken = bytes(whole.header) + b"\x28\x00\x10\x00US\xff\xff"
    shelf[whole.instance_uid] = Instance(
        whole.sop_class_uid, whole.instance_uid, EXPLICIT_LE, broken
    )

    answer = as_user(tester).post(
        f"/profiles/{profile.pk}/try/", {"node": source.pk, "study_uid": study}
    )

    assert answer.status_code in (200, 422)
    assert b"TRY-IT" not in answer.content


def test_the_profile_list_needs_at_most_12_queries_for_20_profiles(
    dpo: User, as_user: AsUser, django_assert_max_num_queries: Callable[[int], object]
) -> None:
    for n in range(20):
        create_version(dpo, f'name = "Profile {n}"\nversion = 1\n[[rules]]\ncode = "113100"\n')
    client = as_user(dpo)
    client.get("/profiles/")

    with django_assert_max_num_queries(12):  # type: ignore[attr-defined]
        page = client.get("/profiles/", {"sort": "-profile"})

    names = [profile.name for profile in page.context["table"].records]
    assert names.index("Profile 9") < names.index("Profile 8") < names.index("Profile 0")
