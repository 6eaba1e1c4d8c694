"""The index of a source folder in the application: encrypted in the data folder, used by all."""

import shutil

import pytest
from django.conf import settings
from lab.samples import ROOT, ct, file_bytes

from adit.accounts.permissions import COORDINATORS
from adit.nodes import gateway, index_cipher
from adit.vault.cipher import ValueCipher
from adit_engine.nodes import folder
from adit_engine.values.query import Query
from adit_engine.values.references import StudyRef


@pytest.fixture
def share(tmp_path, make_node, monkeypatch):
    """A source folder of ten images, and the list of files that were opened."""
    shutil.rmtree(settings.FOLDER_INDEX_DIR, ignore_errors=True)
    for number in range(1, 11):
        (tmp_path / f"{number}.dcm").write_bytes(file_bytes(ct(number)))
    node = make_node(
        "Share", reads=(COORDINATORS,), kind="folder", settings={"path": str(tmp_path)}
    )
    opened, read = [], folder._read_header
    monkeypatch.setattr(
        folder, "_read_header", lambda path, place: opened.append(place) or read(path, place)
    )
    monkeypatch.setattr("adit_engine.nodes.folder_index._SETTLED_NS", -1)
    return node, opened


def find(user, row):
    with gateway.open_node(user, row, gateway.Purpose.SEARCH, holder="test") as node:
        (record,) = node.find(Query.study(StudyRef(f"{ROOT}.1")))
    return record


def test_a_source_folder_is_read_once_for_all_users(coordinator, share):
    row, opened = share
    assert find(coordinator, row).instance_count == 10
    assert len(opened) == 10

    assert find(coordinator, row).instance_count == 10
    assert len(opened) == 10


def test_the_index_is_encrypted_under_the_master_key(coordinator, share, monkeypatch):
    row, opened = share
    record = find(coordinator, row)

    (file,) = settings.FOLDER_INDEX_DIR.glob("*.sqlite3")
    content = file.read_bytes()
    for value in (record.patient_name, record.patient_id, record.study_uid, row.settings["path"]):
        assert value.encode("latin-1") not in content

    monkeypatch.setattr(index_cipher, "master_cipher", lambda: ValueCipher(b"x" * 32))
    file.rename(file.with_suffix(".moved"))
    assert find(coordinator, row).instance_count == 10
    (other,) = settings.FOLDER_INDEX_DIR.glob("*.sqlite3")
    file.with_suffix(".moved").rename(other)

    opened.clear()
    assert find(coordinator, row).instance_count == 10
    assert len(opened) == 10
