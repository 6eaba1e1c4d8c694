"""Project pages: create, edit, revoke, re-identify, import, export, destroy the key."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from lab.projects import APPROVAL

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.nodes.models import Node
from adit.projects.models import Patient, ProfileVersion, Project
from adit.projects.profile_versions import create_version
from adit.projects.pseudonym_import import read_pairs
from adit.projects.pseudonyms import find_pseudonym, get_or_create_pseudonym
from adit.projects.services import KeyDestroyed, change_project, get_project_cipher, get_project_key
from adit_engine.errors import InvalidInput

AsUser = Callable[[User], Client]
HOSTILE = "<script>alert(1)</script>"


def typed(**values: Any) -> dict[str, Any]:
    basis = {
        "protocol_id": "HEART",
        "sponsor": "University",
        "profile": ProfileVersion.objects.first().pk,
    }
    risks = {"faces": "withhold", "header_word": "withhold"}
    return {**basis, **risks, **APPROVAL, "all_modalities": "on", **values}


def csv(text: str | bytes) -> SimpleUploadedFile:
    data = text.encode() if isinstance(text, str) else text
    return SimpleUploadedFile("list.csv", data, "text/csv")


@pytest.fixture
def client(dpo: User, project: Project, as_user: AsUser) -> Client:
    """Client signed in as a project manager."""
    return as_user(dpo)


def test_a_new_project_gets_its_own_key(
    client: Client, project: Project, source: Node, destination: Node, groups: dict[str, Group]
) -> None:
    members = [groups["Coordinators"].pk]
    nodes = {"sources": [source.pk], "destinations": [destination.pk]}
    answer = client.post("/projects/new/", typed(members=members, **nodes))

    made = Project.objects.get(protocol_id="HEART")
    assert answer["Location"] == f"/projects/{made.pk}/"
    assert list(made.sources.all()) == [source]
    assert made.key != project.key
    assert AuditEvent.objects.filter(action="project.created", about="project:HEART").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("protocol_id", "a b"),
        ("protocol_id", "LUNG"),
        ("sponsor", ""),
        ("sponsor", "back\\slash"),
        ("site_name", "x" * 65),
        ("pattern", "no number"),
        ("expires_on", "yesterday"),
        ("profile", "999"),
    ],
)
def test_invalid_input_is_rejected_and_shown_again_escaped(
    client: Client, field: str, value: str
) -> None:
    answer = client.post("/projects/new/", typed(**{"protocol_name": HOSTILE, field: value}))

    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'role="alert"' in page
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert Project.objects.filter(is_default=False).count() == 1


def test_a_new_project_says_at_each_field_what_it_lacks(
    client: Client, source: Node, destination: Node
) -> None:
    nothing = dict.fromkeys([*APPROVAL, "all_modalities"], "")
    page = client.post("/projects/new/", typed(**nothing)).content.decode()

    lacking = set(re.findall(r'id="id_(\w+)_error"', page))
    assert lacking == {*APPROVAL, "modalities", "sources", "destinations"}
    assert "without it, nothing is sent" in page
    both = typed(modalities="CT", sources=[source.pk], destinations=[destination.pk])
    page = client.post("/projects/new/", both).content.decode()
    assert "or select all modalities, but not both" in page
    assert not Project.objects.filter(protocol_id="HEART").exists()


def test_an_accepted_project_loses_none_of_its_details_but_an_old_one_may_lack_some(
    client: Client, project: Project, source: Node, destination: Node
) -> None:
    address = f"/projects/{project.pk}/"
    old = "This project is incomplete. Missing: approval number, responsible person, purpose"
    assert old in client.get(address).content.decode()
    nodes = {"sources": [source.pk], "destinations": [destination.pk]}
    first = typed(**nodes, recipient="", purpose="Lungs")

    assert client.post(f"{address}edit/", first).status_code == 302
    assert "Missing: recipient." in client.get(address).content.decode()
    for name, lost in (("purpose", "purpose"), ("sources", "sources"), ("all_", "modalities")):
        values = {key: value for key, value in first.items() if not key.startswith(name)}
        answer = client.post(f"{address}edit/", values)
        assert answer.status_code == 422
        assert re.findall(r'id="id_(\w+)_error"', answer.content.decode()) == [lost]


def test_fields_written_to_images_cannot_be_edited(client: Client, project: Project) -> None:
    values = typed(protocol_id="OTHER", sponsor="New sponsor", pattern="L-##")
    client.post(f"/projects/{project.pk}/edit/", values)
    project.refresh_from_db()
    assert (project.protocol_id, project.sponsor) == ("LUNG", "New sponsor")
    assert project.pattern == "L-##"

    get_or_create_pseudonym(project, "PACS1", "4711")
    client.post(
        f"/projects/{project.pk}/edit/",
        typed(sponsor="Third", pattern="X-#", expires_on="2031-01-31"),
    )

    project.refresh_from_db()
    assert (project.sponsor, project.pattern) == ("New sponsor", "L-##")
    assert str(project.expires_on) == "2031-01-31"


def test_change_project_rejects_a_new_sponsor_once_the_project_has_patients(
    dpo: User, project: Project
) -> None:
    get_or_create_pseudonym(project, "PACS1", "4711")
    project.sponsor = "Another"
    names = ("members", "sources", "destinations", "list_holders", "reidentifiers")
    relations: dict[str, list[Any]] = {name: [] for name in names}

    with pytest.raises(InvalidInput) as refused:
        change_project(dpo, project, **relations)
    assert refused.value.message.code == "project.fixed-fields"


def test_changing_the_profile_starts_a_new_generation(
    client: Client, dpo: User, project: Project
) -> None:
    strict = create_version(dpo, 'name = "Strict"\nversion = 1\n[[rules]]\ncode = "113100"\n')
    before = get_project_key(project).uid("1.2.3")

    client.post(f"/projects/{project.pk}/edit/", typed(profile=strict.pk, sponsor=project.sponsor))

    project.refresh_from_db()
    assert (project.profile, project.generation) == (strict, 2)
    assert get_project_key(project).uid("1.2.3") != before
    details = AuditEvent.objects.get(action="project.changed").details
    assert details["generation"] == 2
    assert "profile" in details["changed"]


def test_revoking_a_project_is_confirmed_and_audited(client: Client, project: Project) -> None:
    page = client.post(f"/projects/{project.pk}/revoke/", follow=True).content.decode()

    assert "revoked" in page
    assert AuditEvent.objects.filter(action="project.revoked").exists()


# Re-identification ---------------------------------------------------------------------------


def test_members_see_pseudonyms_but_no_patient_ids(
    coordinator: User, project: Project, as_user: AsUser
) -> None:
    get_or_create_pseudonym(project, "PACS1", "4711-canary")

    page = as_user(coordinator).get(f"/projects/{project.pk}/pseudonyms/").content.decode()

    assert "LUNG-0001" in page
    assert "canary" not in page
    assert "reidentify" not in page


def test_sorting_by_date_hides_the_order_of_patients_within_a_day(
    coordinator: User, project: Project, as_user: AsUser
) -> None:
    """The order of registration would re-identify patients of a known list."""
    for n, pseudonym in enumerate(("B", "C", "A")):
        get_or_create_pseudonym(project, "PACS1", str(n), pseudonym)
    noon = timezone.now().replace(hour=12)
    for minute, pseudonym in enumerate(("C", "A", "B")):
        at = noon + timedelta(minutes=minute, days=pseudonym == "B")
        project.patients.filter(pseudonym=pseudonym).update(created_at=at)

    page = as_user(coordinator).get(f"/projects/{project.pk}/pseudonyms/", {"sort": "created_at"})

    assert [row.pseudonym for row in page.context["table"].records] == ["A", "C", "B"]
    assert b'aria-sort="ascending"' in page.content


def test_reidentification_shows_one_patient_id_once_and_is_audited(
    keyholder: User, project: Project, as_user: AsUser
) -> None:
    get_or_create_pseudonym(project, "PACS1", "4711-canary")
    client, patient = as_user(keyholder), project.patients.get()
    path = f"/projects/{project.pk}/pseudonyms/{patient.pk}/"

    unsaid = client.post(path, {"reason": "  "})
    assert (unsaid.status_code, b"canary" in unsaid.content) == (422, False)
    assert not AuditEvent.objects.filter(action="patient.reidentified").exists()
    told = client.post(path, {"reason": "incidental finding"})
    again = client.get(path)

    assert "4711-canary" in told.content.decode()
    assert "no-store" in told["Cache-Control"]
    assert b"canary" not in again.content
    event = AuditEvent.objects.get(action="patient.reidentified")
    assert (event.user, event.about) == (keyholder, "project:LUNG")
    assert event.details == {"pseudonym": "LUNG-0001", "reason": "incidental finding"}


def test_the_exported_pseudonym_map_has_no_formulas_and_is_read_back_unchanged(
    keyholder: User, project: Project, as_user: AsUser
) -> None:
    patients = ("=1+1", "+1", "-1", "@x", 'a;"b"', "a;=1")
    for patient_id in patients:
        get_or_create_pseudonym(project, "PACS1", patient_id)

    answer = as_user(keyholder).post(f"/projects/{project.pk}/export/", {"reason": "audit of 2026"})

    lines = answer.getvalue().decode("utf-8-sig").splitlines()
    assert answer["Content-Disposition"] == 'attachment; filename="LUNG-pseudonyms.csv"'
    assert lines[0] == '"pseudonym","patient_id","patient_id_domain"'
    assert lines[1] == """ "LUNG-0001","'=1+1","PACS1" """.strip()
    assert lines[6] == """ "LUNG-0006","a;'=1","PACS1" """.strip()
    cells = [[cell.strip('"') for cell in line.split('","')][:2] for line in lines]
    edited = "\n".join(f'"{patient_id}","{pseudonym}"' for pseudonym, patient_id in cells)
    assert [pair.patient_id for pair in read_pairs(edited.encode())][:4] == list(patients[:4])
    event = AuditEvent.objects.get(action="project.map_exported")
    assert event.details == {"reason": "audit of 2026", "patients": 6}


# Lists of pseudonyms -------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_list_of_pseudonyms_is_imported(
    coordinator: User, project: Project, source: Node, as_user: AsUser, separator: str
) -> None:
    text = (
        f"\ufeffPseudonym{separator}Patient ID\r\nA-1{separator}Müller 7\r\n\r\nA-2{separator}8\r\n"
    )
    path = f"/projects/{project.pk}/import/"

    answer = as_user(coordinator).post(path, {"node": source.pk, "file": csv(text)})

    assert answer.status_code == 302
    assert find_pseudonym(project, "PACS1", "Müller 7") == "A-1"
    assert find_pseudonym(project, "PACS1", "8") == "A-2"
    details = AuditEvent.objects.get(action="pseudonyms.imported").details
    assert details == {"new": 2, "known": 0, "domain": "PACS1"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "patient_id,pseudonym\ncanary,A-1\ncanary2,a-1",
            "Row 3: a-1 already belongs to another patient",
        ),
        ("patient_id,pseudonym\ncanary,A-1\ncanary,A-2", "Row 3: The patient is already in row 2"),
        ("patient_id,pseudonym\nknown,A-1", "Row 2: This patient already has another pseudonym"),
        ("patient_id,pseudonym\ncanary,A 1", "Row 2: A pseudonym "),
        (
            "patient_id,pseudonym\ncanary,A-1\n,A-2",
            "Row 3: The patient ID or the pseudonym is empty",
        ),
        ("patient_id,pseudonym\ncanary,A-1,more", "Row 2: The row has 3 cells instead of two"),
        ("patient_id,pseudonym\ncan\\ary,A-1", "Row 2: The patient ID is invalid"),
        ('patient_id,pseudonym\n"canary"x,A-1', "A quotation mark is in the wrong place"),
        ("patient_id,pseudonym\n", "headers but no rows"),
        ("id,name\ncanary,A-1", "Row 1: The headers must be patient_id and pseudonym"),
        ("", "The submitted file is empty"),
        (b"patient_id,pseudonym\n\xff\xfe,A-1", "not UTF-8 text"),
        (b"patient_id,pseudonym\na\x00b,A-1", "not a CSV file"),
        ("patient_id,pseudonym\n" + "".join(f"{n},A-{n}\n" for n in range(2001)), "more than 2000"),
        (b"x" * (1 << 20) + b"xx", "larger than 1 MB"),
    ],
)
def test_an_invalid_list_of_pseudonyms_imports_nothing(
    coordinator: User,
    project: Project,
    source: Node,
    as_user: AsUser,
    rows: str | bytes,
    said: str,
) -> None:
    get_or_create_pseudonym(project, "PACS1", "known")
    path = f"/projects/{project.pk}/import/"

    answer = as_user(coordinator).post(path, {"node": source.pk, "file": csv(rows)})

    page = answer.content.decode()
    assert answer.status_code == 422
    assert said in page
    assert "canary" not in page
    assert Patient.objects.filter(project=project).count() == 1
    assert not AuditEvent.objects.filter(action="pseudonyms.imported").exists()


def test_patient_ids_of_a_pacs_without_access_cannot_be_imported(
    coordinator: User, project: Project, make_node: Callable[..., Node], as_user: AsUser
) -> None:
    foreign = make_node("Foreign PACS")
    path = f"/projects/{project.pk}/import/"
    client = as_user(coordinator)

    assert "Foreign PACS" not in client.get(path).content.decode()
    answer = client.post(path, {"node": foreign.pk, "file": csv("patient_id,pseudonym\n1,A")})
    assert answer.status_code == 422


# Destruction of a key ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{}, {"reason": "done", "typed": "lung"}, {"reason": " ", "typed": "LUNG"}]
)
def test_destroying_a_key_requires_a_reason_and_the_typed_project_id(
    client: Client, project: Project, values: dict[str, str]
) -> None:
    answer = client.post(f"/projects/{project.pk}/destroy/", values)

    assert answer.status_code in (200, 422)
    project.refresh_from_db()
    assert project.key is not None


def test_destroying_the_key_makes_reidentification_impossible(
    client: Client, root: User, project: Project, as_user: AsUser
) -> None:
    for patient_id in ("B-canary", "A-canary"):
        get_or_create_pseudonym(project, "PACS1", patient_id)
    before = dict(Patient.objects.values_list("pseudonym", "created_at"))

    done = {"reason": "the study is over", "typed": "LUNG"}
    page = client.post(f"/projects/{project.pk}/destroy/", done, follow=True).content.decode()

    assert "Pseudonyms cannot be linked to patients any more" in page
    stale = Project.objects.get(pk=project.pk)
    assert (stale.key, stale.is_revoked) == (None, True)
    with pytest.raises(KeyDestroyed):
        get_project_cipher(stale)
    after = dict(Patient.objects.values_list("pseudonym", "created_at"))
    assert after.keys() == before.keys()
    assert min(after.values()) > max(before.values())
    details = AuditEvent.objects.get(action="project.key_destroyed").details
    assert details == {"reason": "the study is over", "patients": 2}
    for path in ("", "pseudonyms/", f"pseudonyms/{stale.patients.first().pk}/", "export/"):
        assert as_user(root).get(f"/projects/{project.pk}/{path}").status_code == 200
    for path in (f"pseudonyms/{stale.patients.first().pk}/", "export/"):
        answer = as_user(root).post(f"/projects/{project.pk}/{path}", {"reason": "x"})
        assert (answer.status_code, b"was destroyed" in answer.content) == (422, True)
        assert b"canary" not in answer.content


def test_the_key_of_the_default_project_cannot_be_destroyed(client: Client, dpo: User) -> None:
    from adit.projects.services import default_project

    own = default_project()
    page = client.get(f"/projects/{own.pk}/").content.decode()
    assert f"/projects/{own.pk}/destroy/" not in page
    client.post(f"/projects/{own.pk}/destroy/", {"reason": "x", "typed": own.protocol_id})
    assert default_project().key is not None
