"""The vault: encrypted values can be decrypted only unchanged, with their key and context."""

import stat

import pytest
from django.db import connection

from adit.nodes.models import Node
from adit.vault.cipher import DecryptionError, ValueCipher
from adit.vault.master_key import KeyMissing, master_cipher
from adit_engine.pseudonymize.keys import create_key_file


@pytest.fixture
def box():
    return ValueCipher(bytes(range(32)))


@pytest.mark.parametrize("value", [None, "Müller^Ärmel", ["a", 1], {"k": {"n": 1.5}}, "山田^太郎"])
def test_an_encrypted_value_can_be_decrypted(box, value):
    assert box.open(box.seal(value, "here"), "here") == value


def test_the_same_value_is_encrypted_differently_each_time(box):
    assert box.seal("value", "here") != box.seal("value", "here")


def test_a_value_cannot_be_decrypted_in_another_context(box):
    with pytest.raises(DecryptionError):
        box.open(box.seal("value", "here"), "there")


def test_a_value_cannot_be_decrypted_with_another_key(box):
    with pytest.raises(DecryptionError):
        ValueCipher(bytes(32)).open(box.seal("value", "here"), "here")


def test_changed_or_truncated_bytes_cannot_be_decrypted(box):
    sealed = bytearray(box.seal("value", "here"))
    for position in range(len(sealed)):
        changed = sealed.copy()
        changed[position] ^= 1
        with pytest.raises(DecryptionError):
            box.open(changed, "here")
    for cut in (0, 5, 12, len(sealed) - 1):
        with pytest.raises(DecryptionError):
            box.open(sealed[:cut], "here")


def test_the_index_depends_on_key_text_and_purpose(box):
    index = box.index("4711", "patient")

    assert index == box.index("4711", "patient")
    others = {
        box.index("4712", "patient"),
        box.index("4711", "series"),
        ValueCipher(bytes(32)).index("4711", "patient"),
    }
    assert len(others) == 3
    assert index not in others


def test_the_repr_of_a_cipher_does_not_contain_the_key(box):
    assert "0001020304" not in repr(box)
    assert repr(box.secret) not in repr(box)


def test_a_key_file_is_created_once_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "keys" / "master.key"

    assert create_key_file(path) is True
    first = path.read_text()
    assert create_key_file(path) is False
    assert path.read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [None, "", "not hex", "ab" * 31, "ab" * 33])
def test_the_error_for_a_missing_or_invalid_key_names_the_key_file(settings, tmp_path, content):
    settings.KEY_FILE = tmp_path / "master.key"
    if content is not None:
        settings.KEY_FILE.write_text(content)

    with pytest.raises(KeyMissing, match=r"master\.key contains no master key"):
        master_cipher()


def test_an_encrypted_column_contains_no_clear_text(db):
    node = Node(name="PACS1", kind="memory")
    node.set_secrets({"password": "canary"})
    node.save()

    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM nodes_node")
        assert b"canary" not in bytes(cursor.fetchone()[0])
    node.refresh_from_db()
    assert node.get_secrets(node.settings) == {"password": "canary"}


def test_an_empty_encrypted_column_stays_empty(db):
    Node.objects.create(name="PACS1", kind="memory")

    assert Node.objects.get(secrets__isnull=True).secrets is None


def test_a_value_encrypted_for_another_column_cannot_be_decrypted(db):
    sealed = master_cipher().seal({"password": "canary"}, "profiles.project.key")
    node = Node.objects.create(name="PACS1", kind="memory")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE nodes_node SET secrets = %s", [sealed])

    with pytest.raises(DecryptionError):
        node.refresh_from_db()
