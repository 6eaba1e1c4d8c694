"""Folders of nodes lie neither in nor above ADIT's own folders and system trees, whatever the links."""

import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.node_pages import client_of, filled

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS
from adit.nodes import destination_folders, diagnostics, folder_rules, health, services
from adit.nodes.folder_rules import FolderRefused
from adit.nodes.gateway import Purpose, get_engine_settings, open_node
from adit.nodes.models import Node
from adit_engine.errors import StorageError
from adit_engine.nodes.base import Grade

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def place(settings, tmp_path: Path) -> Path:
    """An installation whose data lie in `data`, and a folder `srv` beside it."""
    data = tmp_path / "data"
    for name in ("keys", "spool", "static", "folders/research", "archives"):
        (data / name).mkdir(parents=True)
    (tmp_path / "srv" / "research").mkdir(parents=True)
    (tmp_path / "elsewhere" / "gathered").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    settings.DATA_DIR = data
    (tmp_path / "safe").mkdir()
    settings.KEY_FILE = Path(shutil.copy(settings.KEY_FILE, tmp_path / "safe"))
    settings.SECRET_KEY_FILE = data / "keys" / "web.key"
    settings.SPOOL_DIR = data / "spool"
    settings.STATIC_ROOT = data / "static"
    settings.BROKER_DIR = data / "broker"
    settings.ARCHIVE_DIR = data / "archives"
    settings.GATHERED_DIR = tmp_path / "elsewhere" / "gathered"
    settings.PROJECT_DIR = tmp_path / "code"
    (tmp_path / "links").mkdir()
    for name, target in {
        "keys": data / "keys",
        "data": data,
        "etc": Path("/etc"),
        "research": tmp_path / "srv" / "research",
        "relative": Path("../data/spool"),
        "allowed": data / "folders" / "research",
        "loop": tmp_path / "links" / "loop",
    }.items():
        (tmp_path / "links" / name).symlink_to(target)
    return tmp_path


def folder(path: object, name: str = "Research") -> Node:
    return Node(name=name, kind="folder", settings={"path": str(path)})


def refusal(node: Node) -> str:
    """The sentence; empty if the folder may be used."""
    try:
        folder_rules.validate_folders(node, node.settings)
    except FolderRefused as error:
        return str(error)
    return ""


SYSTEM = [
    *("/", "//", "/.", "/etc", "/etc/", "//etc/adit", "/etc/../etc/adit", "/mnt/../etc", "/proc"),
    *("/proc/self/root/etc", "/sys", "/dev", "/dev/shm/x", "/boot", "/usr", "/usr/local/share"),
    *("/bin", "/sbin", "/lib", "/lib64", "/run", "/run/x", "/var", "/var/lib", "/var/lib/x"),
    *("/var/log", "/var/cache/x", "/var/spool", "/var/run/x", "/root", "/root/x"),
]


@pytest.mark.parametrize("path", SYSTEM)
def test_trees_of_the_system_are_refused(place: Path, path: str) -> None:
    assert "is inside or above" in refusal(folder(path))


@pytest.mark.parametrize(
    "path",
    [
        *("/mnt/research", "/srv/research", "/home/anna/research", "/media/disk", "/data/research"),
        *("/mnt", "/srv", "/media", "/data", "/opt/research", "/tmp/research", "/ETC/x"),
        *("/etcetera", "/usr2", "/library", "/var/research", "/mnt/etc", "/srv/usr/lib"),
    ],
)
def test_usual_places_for_data_are_accepted(place: Path, path: str) -> None:
    assert refusal(folder(path)) == ""


@pytest.mark.parametrize(
    "path",
    [
        *("data", "data/", "data/.", "data//keys", "data/keys", "data/spool", "data/static"),
        *(
            "data/archives",
            "data/broker",
            "data/new",
            "data/new/folder",
            "data/Keys",
            "data/folders",
        ),
        *("srv/../data/keys", "srv/../data", "srv/research/../../data", "data/folders/../keys"),
        *("links/keys", "links/keys/", "links/keys/new", "links/data", "links/data/keys"),
        *("links/relative", "links/data/new/folder", "links/data/folders", "links/etc"),
        *("elsewhere/gathered", "elsewhere/gathered/job-1", "elsewhere", "", "..", "code"),
        *("code/adit", "safe", "links/allowed/../../keys"),
    ],
)
def test_our_own_folders_are_refused_from_within_and_from_above(place: Path, path: str) -> None:
    sentence = refusal(folder(f"{place}/{path}"))

    assert sentence.startswith("Research: ")
    assert f"{place}/{path}" in sentence
    assert f"for example below /mnt, /srv or {place}/data/folders" in sentence


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("srv/research", "srv/research"),
        ("srv/research/", "srv/research"),
        ("srv/./new/../research", "srv/research"),
        ("srv/not/yet/there", "srv/not/yet/there"),
        ("srv", "srv"),
        ("data2", "data2"),
        ("dat", "dat"),
        ("DATA", "DATA"),
        ("links/research", "srv/research"),
        ("links/research/new", "srv/research/new"),
        ("data/folders/research", "data/folders/research"),
        ("data/folders/new", "data/folders/new"),
        ("links/allowed", "data/folders/research"),
        ("links/data/folders/new", "data/folders/new"),
        ("safe/beside", "safe/beside"),
    ],
)
def test_other_folders_are_used_with_all_links_followed(place: Path, path: str, real: str) -> None:
    node = folder(f"{place}/{path}")

    assert folder_rules.validate_folders(node, node.settings)["path"] == str(place / real)


def test_both_spellings_of_a_letter_are_told_apart_as_the_disk_does(place: Path, settings) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Ärzte") for form in ("NFC", "NFD"))
    settings.SPOOL_DIR = place / composed
    (place / composed).mkdir()
    is_same = (place / decomposed).exists()

    assert refusal(folder(place / composed / "x"))
    assert bool(refusal(folder(place / decomposed / "x"))) == is_same


def test_one_folder_under_two_names_is_known_by_its_inode(place: Path, monkeypatch) -> None:
    """As where it is mounted twice, or the disk does not tell upper from lower case."""
    twin = place / "srv" / "twin"
    real = folder_rules.os.stat

    def stat(path, **more):
        return real(place / "data" if str(path) == str(twin) else path, **more)

    monkeypatch.setattr(folder_rules.os, "stat", stat)

    assert refusal(folder(twin))
    assert refusal(folder(twin / "below"))


def test_what_is_no_path_is_refused(place: Path) -> None:
    assert refusal(folder("/mnt/a\0b"))


def test_the_allowed_folder_is_none_when_it_is_a_link(place: Path) -> None:
    allowed = place / "data" / "folders"
    (allowed / "research").rmdir()
    allowed.rmdir()
    allowed.symlink_to(place / "data" / "keys")

    assert refusal(folder(allowed / "x"))


def test_what_we_keep_below_the_allowed_folder_stays_ours(place: Path, settings) -> None:
    settings.SPOOL_DIR = place / "data" / "folders" / "spool"

    assert refusal(folder(settings.SPOOL_DIR))
    assert refusal(folder(settings.SPOOL_DIR / "x"))
    assert refusal(folder(place / "data" / "folders" / "research")) == ""
    settings.SPOOL_DIR = place / "data" / "folders"
    assert refusal(folder(place / "data" / "folders" / "research"))


def test_an_installation_in_a_system_tree_has_its_allowed_folder(settings, place: Path) -> None:
    settings.DATA_DIR = Path("/var/lib/adit-that-is-not-there")

    assert refusal(folder("/var/lib/adit-that-is-not-there/folders/research")) == ""
    assert refusal(folder("/var/lib/adit-that-is-not-there/folders"))
    assert refusal(folder("/var/lib/other/folders/research"))


def test_the_code_itself_is_refused(place: Path) -> None:
    assert "the program itself" in refusal(folder(Path(sys.prefix) / "lib"))
    assert "the program itself" in refusal(folder(place / "code" / "adit"))


# 7-Zip files --------------------------------------------------------------------------------------


def archive(name: str = "7-Zip", **values: object) -> Node:
    return Node(name=name, kind="archive", settings={k: str(v) for k, v in values.items()})


def test_a_place_for_archives_without_folders_of_its_own_uses_ours(place: Path) -> None:
    assert refusal(archive()) == ""


@pytest.mark.parametrize("setting", ["path", "staging"])
def test_both_folders_of_a_place_for_archives_are_looked_at(place: Path, setting: str) -> None:
    sentence = refusal(archive(**{setting: place / "data" / "keys"}))

    assert "or leave the field empty" in sentence
    assert refusal(archive(**{setting: place / "srv" / "archives"})) == ""


@pytest.mark.parametrize(
    ("path", "staging", "allowed"),
    [("a", "b", True), ("a", "a", False), ("a", "a/b", False), ("a/b", "a", False)],
)
def test_finished_files_do_not_lie_where_images_are_gathered(
    place: Path, path: str, staging: str, allowed: bool
) -> None:
    srv = place / "srv"

    assert (refusal(archive(path=srv / path, staging=srv / staging)) == "") == allowed


@pytest.mark.parametrize(
    ("path", "allowed"), [("gather", False), ("gather/x", False), ("", False), ("research", True)]
)
def test_no_folder_overlaps_with_where_another_node_gathers(
    place: Path, make_node: Callable[..., Node], path: str, allowed: bool
) -> None:
    srv = place / "srv"
    make_node("7-Zip", kind="archive", settings={"staging": str(srv / "gather")})

    sentences = [refusal(folder(f"{srv}/{path}")), refusal(archive("Other", path=f"{srv}/{path}"))]

    assert [not sentence for sentence in sentences] == [allowed, allowed]
    assert allowed or "7-Zip" in sentences[0]


@pytest.mark.parametrize("staging", ["research", "research/x", ""])
def test_images_are_not_gathered_in_the_folder_of_another_node(
    place: Path, make_node: Callable[..., Node], staging: str
) -> None:
    make_node("Research", kind="folder", settings={"path": str(place / "srv" / "research")})

    assert "Research" in refusal(archive(staging=f"{place}/srv/{staging}"))


def test_places_for_archives_may_share_folders_and_so_may_folders(
    place: Path, make_node: Callable[..., Node]
) -> None:
    shared = {"path": str(place / "srv" / "a"), "staging": str(place / "srv" / "b")}
    make_node("7-Zip", kind="archive", settings=shared)
    make_node("Research", kind="folder", settings={"path": str(place / "srv" / "research")})

    assert refusal(archive("Other", **shared)) == ""
    assert refusal(folder(place / "srv" / "research", "Other")) == ""
    assert refusal(folder(place / "srv" / "research" / "below", "Other")) == ""


# Doors --------------------------------------------------------------------------------------------


def test_it_is_not_saved_by_the_service(place: Path, pacsadmin: User) -> None:
    with pytest.raises(FolderRefused, match="ADIT's own files"):
        services.save_node(pacsadmin, folder(place / "data" / "keys"))
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("kind", "setting"), [("folder", "path"), ("archive", "path"), ("archive", "staging")]
)
def test_the_form_says_it_at_the_field(
    place: Path, pacsadmin: User, kind: str, setting: str
) -> None:
    client, path = client_of(pacsadmin), f"/nodes/new/{kind}/"
    typed = {f"settings-{setting}": str(place / "links" / "keys")}

    answer = client.post(path, filled(client, path, name="Research", **typed))

    page = answer.content.decode()
    assert answer.status_code == 422
    error = page.split(f'id="id_settings-{setting}_error"')[1].split("</p>")[0]
    assert f"{place}/links/keys (a link to {place}/data/keys)" in error
    assert not Node.objects.exists()


@pytest.mark.parametrize("purpose", [Purpose.STORE, Purpose.RETRIEVE, Purpose.SEARCH])
def test_a_link_that_is_changed_later_is_noticed_at_each_opening(
    place: Path, coordinator: User, make_node: Callable[..., Node], purpose: Purpose
) -> None:
    link = place / "links" / "research"
    values = {"kind": "folder", "settings": {"path": str(link)}}
    node = make_node("Research", reads=(COORDINATORS,), writes=(COORDINATORS,), **values)

    with open_node(coordinator, node, purpose, holder="test:1") as opened:
        # What is open stays where it was looked at.
        assert opened.base == place / "srv" / "research"
    link.unlink()
    link.symlink_to(place / "data" / "keys")

    with (
        pytest.raises(FolderRefused, match="Research: the folder"),
        open_node(coordinator, node, purpose, holder="test:1"),
    ):
        pass


def test_a_test_of_it_says_so_in_a_finding(
    place: Path, pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("Research", kind="folder", settings={"path": str(place / "data")})

    (finding,) = diagnostics.check_node(pacsadmin, node)

    assert finding.grade is Grade.BAD
    assert "ADIT's own files" in str(finding.what)


def test_finished_files_are_neither_read_nor_removed_there(
    place: Path, make_node: Callable[..., Node]
) -> None:
    node = make_node("7-Zip", kind="archive", settings={"path": str(place / "data" / "keys")})
    (place / "data" / "keys" / "web.key").write_text("canary")

    for use in (destination_folders.open_archive_file, destination_folders.remove_archive_file):
        with pytest.raises(StorageError):
            use(node, "web.key")
    assert (place / "data" / "keys" / "web.key").exists()
    assert "ADIT's own files" in str(destination_folders.explain_no_space(node, 1))
    with pytest.raises(FolderRefused):
        get_engine_settings(node)


def test_doctor_names_nodes_that_break_the_rule_and_makes_no_folder(
    place: Path, make_node: Callable[..., Node], settings
) -> None:
    settings.RECEIVER_PORT = 0
    settings.GATHERED_DIR = place / "not-made"
    make_node("Research", kind="folder", settings={"path": str(place / "data" / "spool")})
    make_node("Fine", kind="folder", settings={"path": str(place / "srv" / "research")})
    make_node("7-Zip", kind="archive")

    found = {str(one.what): one.next_step for one in health.check_receiver_and_nodes(runs=False)}

    assert f"{place}/data/spool" in str(found["Folders of Research."])
    assert found["Folders of Fine."] is found["Folders of 7-Zip."] is None
    assert not settings.GATHERED_DIR.exists()


def test_access_to_a_node_that_breaks_the_rule_is_not_saved_and_the_page_says_why(
    place: Path, pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("Research", kind="folder", settings={"path": str(place / "data")})

    answer = client_of(pacsadmin).post(f"/nodes/{node.pk}/access/", {"sent": "1"}, follow=True)

    assert answer.status_code == 200
    assert "ADIT&#x27;s own files" in answer.content.decode()
