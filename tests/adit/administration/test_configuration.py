"""The configuration file: export, wipe, import, export; files that must be refused; permissions."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from adit.accounts import permissions as standard
from adit.accounts.models import SecondFactorGroup, User
from adit.accounts.permissions import Right
from adit.administration.configuration import importing
from adit.administration.configuration.document import MAX_BYTES, read_document
from adit.administration.configuration.importing import (
    ImportPlan,
    export_configuration,
    plan_import,
    run_import,
)
from adit.administration.configuration.kinds import KINDS
from adit.administration.effective_access import named_permissions
from adit.audit.models import AuditEvent
from adit.nodes.models import Node, NodeAccess
from adit.projects import services
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import create_presets
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db
AsUser = Callable[[User | None], Client]

ALL = [kind.key for kind in KINDS]
SECRET = "Geheimnis-4711"
URGENT = "Transfer outside the allowed hours"
HOURS = [{"days": ["mon", "fri"], "from": "20:00", "to": "06:00", "limit": 3}]
HOLIDAY = [{"from": "2026-12-24", "to": "2026-12-26", "as": "closed", "why": "Weihnachten"}]


@pytest.fixture
def clinic(make_user: Callable[..., User], tmp_path: Path) -> User:
    """An installation with one object of each kind; its administrator."""
    user = make_user("admin", standard.ADMINISTRATORS)
    create_presets()
    text = ProfileVersion.objects.order_by("name")[0].text
    name = ProfileVersion.objects.order_by("name")[0].name
    text = text.replace(f'name = "{name}"', 'name = "Ärzte"')
    profile = ProfileVersion.objects.create(name="Ärzte", version=1, text=text)
    web = Node(name="Röntgen-Web", kind="dicomweb", is_open=True, retrieve_limit=5)
    web.settings = {"url": "https://pacs.example/rs", "sign_in": "basic", "user": "adit"}
    web.windows, web.special_days = HOURS, HOLIDAY
    web.set_secrets({"password": SECRET})
    web.save()
    (tmp_path / "out").mkdir()
    folder = Node.objects.create(
        name="Ablage", kind="folder", is_open=True, settings={"path": str(tmp_path / "out")}
    )
    group = Group.objects.create(name="Prüfärzte")
    group.permissions.set(named_permissions().filter(codename=Right.DOWNLOAD))
    SecondFactorGroup.objects.create(group=group)
    NodeAccess.objects.create(group=group, node=web, may_read=True)
    NodeAccess.objects.create(group=group, node=folder, may_write=True)
    project = Project(
        protocol_id="LUNGE-1",
        protocol_name="Lunge",
        sponsor="Universität",
        pattern="LU-####",
        profile=profile,
        expires_on=date(2027, 5, 1),
        deletion_on=date(2030, 5, 1),
        approval_number="S-1/2026",
        responsible="Dr. Müller",
        purpose="Lunge",
        legal_basis="Einwilligung",
        recipient="Universität",
        modalities="CT, MR",
        patient_cap=50,
        faces="accept",
        faces_reason="geprüft",
    )
    services.create_project(
        user,
        project,
        members=[group],
        sources=[web],
        destinations=[folder],
        list_holders=[group],
        reidentifiers=[group],
    )
    return user


def wipe() -> None:
    """What is left is a new installation with its administrator."""
    Project.objects.all().delete()
    ProfileVersion.objects.filter(name="Ärzte").delete()
    Node.objects.all().delete()
    Group.objects.exclude(name__in=standard.STANDARD_GROUPS).delete()


def import_text(user: User, text: str) -> ImportPlan:
    document = read_document(text.encode())
    plan, is_done = run_import(user, document, plan_import(user, document).digest)
    assert is_done, [entry.problem for entry in plan.conflicts]
    return plan


def change(text: str, kind: str, name: str, /, **values: Any) -> str:
    """Return the file with other values in one object."""
    content = json.loads(text)
    key = "protocol_id" if kind == "projects" else "name"
    next(entry for entry in content[kind] if entry[key] == name).update(values)
    return json.dumps(content)


def states(plan: ImportPlan) -> dict[str, str]:
    return {f"{entry.kind}: {entry.name}": entry.state for entry in plan.entries}


def problem(user: User, text: str) -> str:
    (conflict,) = plan_import(user, read_document(text.encode())).conflicts
    return conflict.problem


def test_another_installation_gets_all_but_secrets_and_gives_the_same_file(clinic: User) -> None:
    text = export_configuration(clinic, ALL)
    keys = set(Project.objects.values_list("key", flat=True))
    wipe()

    plan = import_text(clinic, text)

    assert export_configuration(clinic, ALL) == text
    assert [(e.name, *e.missing_secrets) for e in plan.new if e.missing_secrets] == [
        (NODE, "Password")
    ]
    project = Project.objects.get(protocol_id="LUNGE-1")
    assert not project.is_accepted
    assert project.proposed_by == clinic
    assert project.key
    assert project.key not in keys
    for node in Node.objects.all():
        assert (node.is_open, bool(node.paused_at), node.secrets) == (False, True, None)


def test_the_file_contains_no_secret_and_says_which_must_be_entered(clinic: User) -> None:
    key = Project.objects.get(protocol_id="LUNGE-1").key

    text = export_configuration(clinic, ALL)

    assert key is not None
    assert key not in text
    assert SECRET not in text
    nodes = {entry["name"]: entry for entry in json.loads(text)["nodes"]}
    assert nodes["Röntgen-Web"]["secrets_to_set"] == ["password"]
    assert nodes["Ablage"]["secrets_to_set"] == []
    group = next(e for e in json.loads(text)["groups"] if e["name"] == "Administrators")
    assert "members" not in group


def test_a_private_key_kept_beside_a_certificate_is_not_exported(clinic: User) -> None:
    node = Node.objects.get(name="Röntgen-Web")
    node.settings["ca_certificate"] = "-----BEGIN RSA PRIVATE KEY-----"
    Node.objects.filter(pk=node.pk).update(settings=node.settings)

    assert "PRIVATE KEY" not in export_configuration(clinic, ["nodes"])


def test_a_plan_changes_nothing_and_importing_twice_finds_nothing_to_do(clinic: User) -> None:
    text = export_configuration(clinic, ALL)
    wipe()
    events = AuditEvent.objects.count()

    plan_import(clinic, read_document(text.encode()))

    assert (Node.objects.count(), AuditEvent.objects.count()) == (0, events)
    import_text(clinic, text)
    again = plan_import(clinic, read_document(text.encode()))
    assert set(states(again).values()) == {"unchanged"}
    assert not again.is_possible


def test_the_plan_shows_each_changed_field_and_what_is_newly_allowed(clinic: User) -> None:
    text = export_configuration(clinic, ["groups", "nodes", "calendars"])
    text = change(text, "groups", "Prüfärzte", permissions=["be_urgent", "download"])
    text = change(text, "groups", "Prüfärzte", fetch_from=["Ablage", "Röntgen-Web"])
    text = change(text, "nodes", "Ablage", retrieve_limit=7)
    text = change(text, "calendars", "Röntgen-Web", special_days=[])

    plan = plan_import(clinic, read_document(text.encode()))

    assert {
        (entry.name, c.label, c.before, c.after) for entry in plan.changed for c in entry.changes
    } == {
        (
            "Prüfärzte",
            "permissions",
            "Download in the browser",
            f"{URGENT}, Download in the browser",
        ),
        ("Prüfärzte", "may fetch from", "Röntgen-Web", "Ablage, Röntgen-Web"),
        ("Ablage", "connections for transfers", "2", "7"),
        ("Röntgen-Web", "special days", "2026-12-24 2026-12-26 closed Weihnachten", "–"),
    }
    assert plan.newly_allowed == [
        ("The group Prüfärzte newly allows:", [URGENT, "Fetch from Ablage"])
    ]


def test_the_plan_shows_who_may_newly_link_pseudonyms_with_patients(clinic: User) -> None:
    text = export_configuration(clinic, ["projects"])
    project = Project.objects.get(protocol_id="LUNGE-1")
    project.list_holders.clear()
    project.reidentifiers.clear()

    plan = plan_import(clinic, read_document(text.encode()))

    assert plan.newly_allowed == [
        (
            "The group Prüfärzte newly allows:",
            ["Hold the identification list of Lunge", "Re-identify patients of Lunge"],
        )
    ]


def test_the_trail_shows_an_import_as_the_same_changes_by_hand(clinic: User) -> None:
    text = export_configuration(clinic, ALL)
    wipe()
    last = AuditEvent.objects.latest("id").pk

    import_text(clinic, text)

    events = AuditEvent.objects.filter(pk__gt=last)
    assert {event.user_id for event in events} == {clinic.pk}
    assert set(events.values_list("action", flat=True)) == {
        "profile.created",
        "node.created",
        "node.changed",
        "node.paused",
        "group.created",
        "project.proposed",
        "configuration.imported",
    }


def test_secrets_do_not_move_to_a_changed_address(clinic: User) -> None:
    text = export_configuration(clinic, ["nodes"])
    settings = Node.objects.get(name="Röntgen-Web").settings
    full = next(e for e in json.loads(text)["nodes"] if e["name"] == "Röntgen-Web")["settings"]
    elsewhere = {**full, "url": "https://other.example/rs"}

    plan = import_text(clinic, change(text, "nodes", "Röntgen-Web", retrieve_limit=9))

    node = Node.objects.get(name="Röntgen-Web")
    assert node.get_secrets(node.settings) == {"password": SECRET}
    assert (node.retrieve_limit, node.is_open, node.paused_at) == (9, True, None)

    plan = import_text(clinic, change(text, "nodes", "Röntgen-Web", settings=elsewhere))

    node.refresh_from_db()
    assert node.secrets is None
    assert node.paused_at is not None
    assert list(plan.changed[0].missing_secrets) == ["Password"]
    assert settings["url"] in {c.before for c in plan.changed[0].changes}
    assert "previous address" in plan.changed[0].remarks[0]


def test_one_conflict_stops_the_whole_import(clinic: User) -> None:
    text = export_configuration(clinic, ["groups", "nodes"])
    text = change(text, "nodes", "Ablage", retrieve_limit=7)
    text = change(text, "groups", "Prüfärzte", send_to=["Nirgendwo"])
    document = read_document(text.encode())
    plan = plan_import(clinic, document)

    _plan, is_done = run_import(clinic, document, plan.digest)

    assert not is_done
    assert Node.objects.get(name="Ablage").retrieve_limit == 2
    assert "Nirgendwo" in problem(clinic, text)


def test_a_plan_that_changed_after_it_was_shown_is_not_carried_out(clinic: User) -> None:
    text = export_configuration(clinic, ["nodes"])
    document = read_document(change(text, "nodes", "Ablage", retrieve_limit=7).encode())
    digest = plan_import(clinic, document).digest
    Node.objects.filter(name="Ablage").update(retrieve_limit=4)

    plan, is_done = run_import(clinic, document, digest)

    assert not is_done
    assert plan.changed[0].changes[0].before == "4"
    assert Node.objects.get(name="Ablage").retrieve_limit == 4


def test_nobody_imports_a_permission_that_they_may_not_give(clinic: User, clerk: User) -> None:
    text = export_configuration(clinic, ["groups"])
    text = change(text, "groups", "Clerks", permissions=["administer", "manage_users"])

    assert "you do not have all of these permissions yourself" in problem(clerk, text)
    assert importing.manageable_kinds(clerk) == [kind for kind in KINDS if kind.key == "groups"]


def test_who_may_not_change_a_kind_by_hand_can_neither_export_nor_import_it(
    clinic: User, pacsadmin: User
) -> None:
    text = export_configuration(clinic, ["groups"])

    with pytest.raises(standard.NotPermitted):
        export_configuration(pacsadmin, ["nodes", "groups"])
    plan = plan_import(pacsadmin, read_document(text.encode()))
    assert len(plan.conflicts) == len(plan.entries)
    assert all("You need the permission" in entry.problem for entry in plan.conflicts)


def test_an_import_does_not_take_the_last_administrator_away(clinic: User) -> None:
    text = export_configuration(clinic, ["groups"])

    sentence = problem(clinic, change(text, "groups", "Administrators", permissions=[]))

    assert "At least one active administrator must remain" in sentence


def test_the_fixed_fields_and_the_end_of_a_project_stay_as_by_hand(clinic: User) -> None:
    text = export_configuration(clinic, ["projects"])

    assert "reason" in problem(clinic, change(text, "projects", "LUNGE-1", expires_on="2028-01-01"))
    assert "LUNGE-1" not in states(plan_import(clinic, read_document(text.encode())))
    services.revoke_project(clinic, Project.objects.get(protocol_id="LUNGE-1"))
    assert "revoked" in problem(clinic, text)


NODE = "Röntgen-Web"
CONFLICTS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a limit beyond the maximum": ("nodes", NODE, {"retrieve_limit": 65}, "64"),
    "another kind": ("nodes", NODE, {"kind": "folder"}, "another kind"),
    "a kind for tests": ("nodes", NODE, {"kind": "memory"}, "no PACS and folders of the kind"),
    "a missing setting": ("nodes", NODE, {"settings": {"url": "https://a.example"}}, "missing"),
    "unhashable days": ("calendars", NODE, {"allowed_hours": [{"days": [], "from": "a"}]}, "days"),
    "a day twice": ("calendars", NODE, {"special_days": HOLIDAY * 2}, "2026-12-24"),
    "an unknown permission": ("groups", "Prüfärzte", {"permissions": ["fly"]}, "fly"),
    "an unknown profile": ("projects", "LUNGE-1", {"profile": "Nobody 7"}, "Nobody 7"),
    "a profile without number": ("projects", "LUNGE-1", {"profile": "Nobody ²"}, "Nobody ²"),
    "an unknown member": ("projects", "LUNGE-1", {"members": ["Nobody"]}, "Nobody"),
    "a changed profile": ("profiles", "Ärzte", {"text": "x = 1"}, "never changed"),
    "rules of another name": ("profiles", "Ärzte", {"version": 9}, "another name and version"),
    "unreadable rules": ("profiles", "Ärzte", {"version": 9, "text": "[" * 9000}, ""),
    "a long value": ("projects", "LUNGE-1", {"approval_number": "1" * 65}, "64"),
    "a risk without reason": ("projects", "LUNGE-1", {"faces_reason": ""}, "reason"),
    "an unknown decision": ("projects", "LUNGE-1", {"faces": "perhaps"}, "perhaps"),
    "the project of the site": ("projects", "LUNGE-1", {"protocol_id": "site-default"}, "reserved"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_an_object_that_cannot_be_saved_is_a_conflict_with_a_sentence(
    clinic: User, case: str
) -> None:
    kind, name, values, expected = CONFLICTS[case]
    text = export_configuration(clinic, [kind])

    assert expected in problem(clinic, change(text, kind, name, **values))


HEAD = '"format": "adit-configuration", "version": 1'
GROUP = {
    "name": "G",
    "permissions": [],
    "fetch_from": [],
    "send_to": [],
    "requires_second_factor": False,
}


def groups_file(*entries: Any) -> str:
    return f'{{{HEAD}, "groups": {json.dumps(entries)}}}'


BAD_FILES: dict[str, tuple[bytes | str, str]] = {
    "nothing": (b"", "not complete JSON"),
    "a picture": (b"\x89PNG\r\n\x1a\n\xff", "UTF-8"),
    "Latin-1": (groups_file({**GROUP, "name": "ü"}).encode().replace(b"\\u00fc", b"\xfc"), "UTF-8"),
    "too large": (b" " * (MAX_BYTES + 1), "larger than 2 MB"),
    "YAML with a tag": ("!!python/object/apply:os.system ['id']", "not complete JSON"),
    "YAML with aliases": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "not complete JSON"),
    "too many levels": ("[" * 200_000, "not a configuration of ADIT"),
    "another JSON": ('{"format": "other", "version": 1}', "not a configuration of ADIT"),
    "a list": ("[]", "not a configuration of ADIT"),
    "a newer version": ('{"format": "adit-configuration", "version": 2}', "version “2”"),
    "a wrong version": ('{"format": "adit-configuration", "version": true}', "version “True”"),
    "no kind": (f"{{{HEAD}}}", "nothing to import"),
    "an unknown section": (f'{{{HEAD}, "users": []}}', "users"),
    "no list": (f'{{{HEAD}, "groups": {{}}}}', "must be a list"),
    "no object": (groups_file("G"), "no object at groups 1"),
    "an unknown field": (groups_file({**GROUP, "members": ["admin"]}), "members"),
    "a missing field": (groups_file({"name": "G"}), "permissions"),
    "a wrong type": (groups_file({**GROUP, "requires_second_factor": "no"}), "second_factor"),
    "an empty name": (groups_file({**GROUP, "name": " "}), "field name"),
    "a control character": (groups_file({**GROUP, "name": "a\x00b"}), "field name"),
    "half a character": (groups_file({**GROUP, "name": "a\ud800"}), "field name"),
    "a name twice in a list": (groups_file({**GROUP, "send_to": ["a", "a"]}), "send_to"),
    "an object twice": (groups_file(GROUP, GROUP), "“G” twice"),
    "a field twice": (f'{{{HEAD}, "groups": [], "groups": []}}', "“groups” twice"),
    "a huge number": (f'{{"format": "adit-configuration", "version": {"9" * 9999}}}', "number"),
    "an infinite number": (f'{{{HEAD}, "groups": 1e999}}', "number"),
    "no number": (f'{{{HEAD}, "groups": NaN}}', "number"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_no_export_wrote_is_refused_with_a_sentence(case: str) -> None:
    content, expected = BAD_FILES[case]

    with pytest.raises(InvalidInput) as caught:
        read_document(content if isinstance(content, bytes) else content.encode())

    assert expected in str(caught.value)


def test_a_file_is_exported_shown_confirmed_and_imported_on_the_pages(
    clinic: User, as_user: AsUser
) -> None:
    client = as_user(clinic)
    file = client.post(reverse("configuration_export"), {"kinds": ALL})
    assert "attachment" in file["Content-Disposition"]
    wipe()

    upload = SimpleUploadedFile("adit.json", file.content)
    page = client.post(reverse("configuration_import"), {"file": upload})
    text = page.content.decode()
    assert (page.status_code, Node.objects.count()) == (200, 0)
    assert "Röntgen-Web" in text
    assert "Still to be entered on its page:" in text
    assert "The group Prüfärzte newly allows:" in text

    confirmed = {"content": page.context["content"], "confirmed": page.context["plan"].digest}
    answer = client.post(reverse("configuration_import"), confirmed, follow=True)

    assert "7 objects are imported." in answer.content.decode()
    assert client.post(reverse("configuration_export"), {"kinds": ALL}).content == file.content


def test_a_wrong_file_and_an_outdated_confirmation_are_explained_on_the_page(
    clinic: User, as_user: AsUser
) -> None:
    client = as_user(clinic)
    url = reverse("configuration_import")

    wrong = client.post(url, {"file": SimpleUploadedFile("a.yaml", b"a: 1")})
    text = change(export_configuration(clinic, ["nodes"]), "nodes", "Ablage", retrieve_limit=7)
    outdated = client.post(url, {"content": text, "confirmed": "of yesterday"})

    assert wrong.status_code == 422
    assert "not complete JSON" in wrong.content.decode()
    assert outdated.status_code == 409
    assert "Read them again" in outdated.content.decode()
    assert Node.objects.get(name="Ablage").retrieve_limit == 2


def test_the_command_exports_shows_and_imports(
    clinic: User, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "adit.json")
    call_command("configuration", "export", path, user="admin")
    wipe()

    call_command("configuration", "import", path, user="admin")
    assert "new: PACS and folders, Röntgen-Web" in capsys.readouterr().out
    assert not Node.objects.exists()
    call_command("configuration", "import", path, user="admin", confirm=True)

    assert Node.objects.count() == 2
    call_command("configuration", "import", path, user="admin", confirm=True)
    assert "nothing to import" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no active user"):
        call_command("configuration", "import", path, user="Nobody")
    with pytest.raises(CommandError, match="File exists"):
        call_command("configuration", "export", path, user="admin")
