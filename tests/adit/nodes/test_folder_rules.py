"""Folders of nodes must not be inside or above ADIT's own folders and system folders."""

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
    """An installation with its data in `data`, and a folder `srv` next to it."""
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
    """Return the error message, or an empty string if the folder is allowed."""
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
def test_system_folders_are_refused(place: Path, path: str) -> None:
    assert "is inside or above" in refusal(folder(path))


@pytest.mark.parametrize(
    "path",
    [
        *("/mnt/research", "/srv/research", "/home/anna/research", "/media/disk", "/data/research"),
        *("/mnt", "/srv", "/media", "/data", "/opt/research", "/tmp/research", "/ETC/x"),
        *("/etcetera", "/usr2", "/library", "/var/research", "/mnt/etc", "/srv/usr/lib"),
    ],
)
def test_usual_data_folders_are_accepted(place: Path, path: str) -> None:
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
def test_folders_inside_or_above_our_own_folders_are_refused(place: Path, path: str) -> None:
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
def test_other_folders_are_used_with_symbolic_links_resolved(
    place: Path, path: str, real: str
) -> None:
    node = folder(f"{place}/{path}")

    assert folder_rules.validate_folders(node, node.settings)["path"] == str(place / real)


def test_unicode_normal_forms_are_distinguished_as_the_file_system_does(
    place: Path, settings
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Ärzte") for form in ("NFC", "NFD"))
    settings.SPOOL_DIR = place / composed
    (place / composed).mkdir()
    is_same = (place / decomposed).exists()

    assert refusal(folder(place / composed / "x"))
    assert bool(refusal(folder(place / decomposed / "x"))) == is_same


def test_a_folder_with_two_names_is_recognized_by_its_inode(place: Path, monkeypatch) -> None:
    """For example a folder mounted twice, or a case-insensitive file system."""
    twin = place / "srv" / "twin"
    real = folder_rules.os.stat

    def stat(path, **more):
        return real(place / "data" if str(path) == str(twin) else path, **more)

    monkeypatch.setattr(folder_rules.os, "stat", stat)

    assert refusal(folder(twin))
    assert refusal(folder(twin / "below"))


def test_a_path_with_a_null_byte_is_refused(place: Path) -> None:
    assert refusal(folder("/mnt/a\0b"))


def test_the_allowed_folder_is_refused_if_it_is_a_symbolic_link(place: Path) -> None:
    allowed = place / "data" / "folders"
    (allowed / "research").rmdir()
    allowed.rmdir()
    allowed.symlink_to(place / "data" / "keys")

    assert refusal(folder(allowed / "x"))


def test_our_own_folders_inside_the_allowed_folder_are_refused(place: Path, settings) -> None:
    settings.SPOOL_DIR = place / "data" / "folders" / "spool"

    assert refusal(folder(settings.SPOOL_DIR))
    assert refusal(folder(settings.SPOOL_DIR / "x"))
    assert refusal(folder(place / "data" / "folders" / "research")) == ""
    settings.SPOOL_DIR = place / "data" / "folders"
    assert refusal(folder(place / "data" / "folders" / "research"))


def test_an_installation_in_a_system_folder_has_an_allowed_folder(settings, place: Path) -> None:
    settings.DATA_DIR = Path("/var/lib/adit-that-is-not-there")

    assert refusal(folder("/var/lib/adit-that-is-not-there/folders/research")) == ""
    assert refusal(folder("/var/lib/adit-that-is-not-there/folders"))
    assert refusal(folder("/var/lib/other/folders/research"))


def test_the_folders_of_the_program_are_refused(place: Path) -> None:
    assert "the program itself" in refusal(folder(Path(sys.prefix) / "lib"))
    assert "the program itself" in refusal(folder(place / "code" / "adit"))


# 7-Zip files --------------------------------------------------------------------------------------


def archive(name: str = "7-Zip", **values: object) -> Node:
    return Node(name=name, kind="archive", settings={k: str(v) for k, v in values.items()})


def test_a_7zip_node_without_folders_is_accepted(place: Path) -> None:
    assert refusal(archive()) == ""


@pytest.mark.parametrize("setting", ["path", "staging"])
def test_both_folders_of_a_7zip_node_are_validated(place: Path, setting: str) -> None:
    sentence = refusal(archive(**{setting: place / "data" / "keys"}))

    assert "or leave the field empty" in sentence
    assert refusal(archive(**{setting: place / "srv" / "archives"})) == ""


@pytest.mark.parametrize(
    ("path", "staging", "allowed"),
    [("a", "b", True), ("a", "a", False), ("a", "a/b", False), ("a/b", "a", False)],
)
def test_folders_for_finished_files_and_staging_must_not_overlap(
    place: Path, path: str, staging: str, allowed: bool
) -> None:
    srv = place / "srv"

    assert (refusal(archive(path=srv / path, staging=srv / staging)) == "") == allowed


@pytest.mark.parametrize(
    ("path", "allowed"), [("gather", False), ("gather/x", False), ("", False), ("research", True)]
)
def test_a_folder_must_not_overlap_with_the_staging_folder_of_another_node(
    place: Path, make_node: Callable[..., Node], path: str, allowed: bool
) -> None:
    srv = place / "srv"
    make_node("7-Zip", kind="archive", settings={"staging": str(srv / "gather")})

    sentences = [refusal(folder(f"{srv}/{path}")), refusal(archive("Other", path=f"{srv}/{path}"))]

    assert [not sentence for sentence in sentences] == [allowed, allowed]
    assert allowed or "7-Zip" in sentences[0]


@pytest.mark.parametrize("staging", ["research", "research/x", ""])
def test_a_staging_folder_must_not_overlap_with_the_folder_of_another_node(
    place: Path, make_node: Callable[..., Node], staging: str
) -> None:
    make_node("Research", kind="folder", settings={"path": str(place / "srv" / "research")})

    assert "Research" in refusal(archive(staging=f"{place}/srv/{staging}"))


def test_nodes_of_the_same_kind_may_share_folders(
    place: Path, make_node: Callable[..., Node]
) -> None:
    shared = {"path": str(place / "srv" / "a"), "staging": str(place / "srv" / "b")}
    make_node("7-Zip", kind="archive", settings=shared)
    make_node("Research", kind="folder", settings={"path": str(place / "srv" / "research")})

    assert refusal(archive("Other", **shared)) == ""
    assert refusal(folder(place / "srv" / "research", "Other")) == ""
    assert refusal(folder(place / "srv" / "research" / "below", "Other")) == ""


# Services, forms and pages ------------------------------------------------------------------------


def test_the_service_does_not_save_a_refused_folder(place: Path, pacsadmin: User) -> None:
    with pytest.raises(FolderRefused, match="ADIT's own files"):
        services.save_node(pacsadmin, folder(place / "data" / "keys"))
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("kind", "setting"), [("folder", "path"), ("archive", "path"), ("archive", "staging")]
)
def test_the_form_shows_the_refusal_at_the_field(
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
def test_symbolic_links_are_checked_each_time_a_node_is_opened(
    place: Path, coordinator: User, make_node: Callable[..., Node], purpose: Purpose
) -> None:
    link = place / "links" / "research"
    values = {"kind": "folder", "settings": {"path": str(link)}}
    node = make_node("Research", reads=(COORDINATORS,), writes=(COORDINATORS,), **values)

    with open_node(coordinator, node, purpose, holder="test:1") as opened:
        # An open node keeps the resolved folder.
        assert opened.base == place / "srv" / "research"
    link.unlink()
    link.symlink_to(place / "data" / "keys")

    with (
        pytest.raises(FolderRefused, match="Research: the folder"),
        open_node(coordinator, node, purpose, holder="test:1"),
    ):
        pass


def test_testing_a_node_with_a_refused_folder_reports_a_finding(
    place: Path, pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("Research", kind="folder", settings={"path": str(place / "data")})

    (finding,) = diagnostics.check_node(pacsadmin, node)

    assert finding.grade is Grade.BAD
    assert "ADIT's own files" in str(finding.what)


def test_files_in_a_refused_folder_are_neither_read_nor_removed(
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


def test_doctor_names_nodes_with_refused_folders_and_creates_no_folder(
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


def test_the_access_page_of_a_node_with_a_refused_folder_shows_the_reason(
    place: Path, pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("Research", kind="folder", settings={"path": str(place / "data")})

    answer = client_of(pacsadmin).post(f"/nodes/{node.pk}/access/", {"sent": "1"}, follow=True)

    assert answer.status_code == 200
    assert "ADIT&#x27;s own files" in answer.content.decode()
